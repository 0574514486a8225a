"""`a2mim report`, on profiles of small networks and made-up runs."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

import figures.report
import figures.sections.strength
from experiments import cli
from experiments.commands.report import differences_between
from experiments.measuring.comparison import compare_runs
from experiments.records import distinct_names
from figures.report import Rows, open_runs, sections_of
from interactions.profile import profile_model
from tests.figures import made_up_runs as made_up


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 4, 4), nn.GELU(), nn.Conv2d(6, 6, 2), nn.GELU(), nn.Flatten(), nn.Linear(54, 4)
    )


@pytest.fixture(scope="module")
def profiles(tmp_path_factory) -> list[Path]:
    """Two networks over the same eight images."""
    folder, generator = tmp_path_factory.mktemp("profiles"), torch.Generator().manual_seed(0)
    photographs = [(torch.randn(3, 16, 16, generator=generator), k % 4) for k in range(8)]
    names = [f"photo {k}" for k in range(8)]
    for seed, name in enumerate(("one", "two")):
        profile_model(
            network(seed), photographs, out=folder / name, grid=4, ratios=(0.0, 0.4, 0.6, 1.0), radius=1, budget=400,
            design="pairwise", batch_size=64, names=names, data_name="photos", progress=False,
        )  # fmt: skip
    return [folder / "one", folder / "two"]


def report(*arguments: object) -> int:
    return cli.main(["report", *map(str, arguments)])


def test_writes_the_page_and_says_what_is_on_it(profiles, tmp_path, capsys):
    training = made_up.training(tmp_path / "training")
    out = tmp_path / "page.html"
    assert report(*profiles, training, "--names", "ViT", "CNN", "A²MIM", "--title", "Two & one", "--out", out) == 0
    said = capsys.readouterr().out
    assert (
        "3 runs: Summary, Accuracy, Interaction strength by order, Pictures and pair maps, Training, Models and runs"
        in said
    )
    assert f"wrote {out} (0." in said
    html = out.read_text("utf-8")
    assert "<title>Two &amp; one</title>" in html and html.count('<article class="card">') == 3
    assert "ViT: order ratio 0, J " in html and "8 images" in html
    assert list(tmp_path.glob("*.html")) == [out] and not list(tmp_path.glob(".*"))


def test_the_differences_are_those_of_compare(profiles, tmp_path):
    assert report(*profiles, "--out", tmp_path / "page.html") == 0
    table = compare_runs(profiles, tmp_path / "figure.png").differences
    html = (tmp_path / "page.html").read_text("utf-8")
    summary, rows = re.findall(r"<caption><span>Differences of M.*?</table>", html, re.DOTALL)
    shown, first = (
        [float(value) for value in re.findall(r'<td data-v="([^"]+)" class="number">[^<]+ <span', each)]
        for each in (rows, summary)
    )
    assert shown == pytest.approx(list(table["difference"]), rel=1e-8) and len(shown) == 3
    assert first == pytest.approx(list(table.loc[table["measure"] == "J_rms", "difference"]), rel=1e-8)


def test_many_runs_are_paired_with_the_first_alone(profiles, tmp_path, monkeypatch):
    for module in (figures.report, figures.sections.strength):
        monkeypatch.setattr(module, "MOST_PAIRED", 2)
    runs = open_runs([*profiles, shutil.copytree(profiles[1], tmp_path / "three")])
    table = differences_between(runs)
    assert sorted(set(zip(table["run_a"], table["run_b"], strict=True))) == [("one", "three"), ("one", "two")]
    told = [each.caption for each in sections_of(runs, table)[0].blocks if isinstance(each, Rows)]
    assert told[1].startswith("Differences of M") and "the first run, one, alone: 3 runs have 3 pairs" in told[1]
    monkeypatch.undo()
    assert len(differences_between(runs)) == 9


def test_runs_that_explain_other_classes_are_not_paired(profiles, tmp_path):
    one, other = (shutil.copytree(run, tmp_path / run.name) for run in profiles)
    record = json.loads((other / "run.json").read_text())
    record["images"][0]["target"] += 1
    (other / "run.json").write_text(json.dumps(record))
    assert report(one, other, "--out", tmp_path / "page.html") == 0
    assert "Differences of M" not in (tmp_path / "page.html").read_text("utf-8")


def test_a_folder_that_kept_the_tables_alone_is_reported_without_differences(profiles, tmp_path):
    copies = [shutil.copytree(run, tmp_path / run.name) for run in profiles]
    for copy in copies:
        shutil.rmtree(copy / "images")
        shutil.rmtree(copy / "pairs")
    assert report(*copies, "--out", tmp_path / "page.html") == 0
    html = (tmp_path / "page.html").read_text("utf-8")
    assert "Middle mass M" in html and "Differences of M" not in html and "Pictures" not in html


def test_folders_of_one_name_are_told_apart(tmp_path):
    folders = [tmp_path / "vit" / "profile", tmp_path / "cnn" / "profile"]
    assert distinct_names(folders) == ["vit/profile", "cnn/profile"]
    assert distinct_names([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]
    for folder in folders:
        made_up.profile(folder)
    assert report(*folders, "--out", tmp_path / "page.html") == 0
    assert "<h3>cnn/profile</h3>" in (tmp_path / "page.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere is no folder of a run"),
        (["run", "--out", "page.pdf"], "cannot write a page to 'page.pdf': end its name in .html"),
        (["run", "--names", "a", "b"], "2 names for 1 runs: give one for each, or none"),
        (["run", "run"], "is given 2 times: give each run once"),
        (["run", "--maps", "-1"], "--maps -1 is too small: use 0 or more"),
        (["empty"], "empty holds nothing to report"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch, capsys, arguments, said):
    made_up.profile(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert report(*arguments) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error and error.startswith("a2mim report: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "run"]
