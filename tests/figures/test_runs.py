import hashlib
import json
import os
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from figures import files
from figures.runs import Drawn, alike, by_panel, figure_files, holding, looks_of, open_runs, unlike, write_figure
from figures.style import look
from tests.figures.made_up import record, strength_table, write_run

TABLES = {"strength.csv": "a2mim profile", "occlusion.csv": "a2mim occlusion"}


def runs_in(folder: Path, names=("a", "b", "c"), panels=(), abouts=()):
    abouts = abouts or [record()] * len(names)
    tables = {"strength.csv": strength_table()}
    folders = [write_run(folder / f"run{k}", tables, about) for k, about in enumerate(abouts)]
    return open_runs(folders, names, panels)


def test_runs_of_one_name_and_panel_are_seeds_and_a_name_has_one_look(tmp_path: Path):
    runs = runs_in(tmp_path, ["b", "a", "b", "a", "b"], ["ViT", "ViT", "CNN", "CNN", "ViT"], [record()] * 5)
    panels = by_panel(runs)
    assert [list(names) for names in panels.values()] == [["b", "a"], ["b", "a"]] and list(panels) == ["ViT", "CNN"]
    assert [run.folder.name for run in panels["ViT"]["b"]] == ["run0", "run4"]
    assert looks_of(runs) == {"b": look(0), "a": look(1)} and looks_of(runs[1:]) == {"a": look(0), "b": look(1)}


def test_a_record_that_is_no_file_is_refused_at_once(tmp_path: Path):
    """A pipe: reading it waited for ever."""
    folder = write_run(tmp_path / "x")
    os.mkfifo(folder / "run.json")
    with pytest.raises(ValueError, match=r"run\.json is no file"):
        open_runs([folder])


def test_a_record_that_never_ends_is_refused_at_once(tmp_path: Path, monkeypatch):
    folder = write_run(tmp_path / "x", about=record())
    monkeypatch.setattr(files, "LONGEST_RECORD", 10)
    with pytest.raises(ValueError, match=r"run\.json has [\d,]+ bytes, too many for a record"):
        open_runs([folder])


def test_without_names_the_folders_have_their_own(tmp_path: Path):
    runs = open_runs([write_run(tmp_path / "x"), write_run(tmp_path / "y")])
    assert [(run.name, run.panel, run.record) for run in runs] == [("x", "", {}), ("y", "", {})]


def test_bad_folders_are_refused(tmp_path: Path):
    good, other = write_run(tmp_path / "a" / "profile", about=record()), write_run(tmp_path / "b" / "profile")
    with pytest.raises(ValueError, match="there is no run to draw"):
        open_runs([])
    with pytest.raises(FileNotFoundError, match="nowhere is no folder of a run"):
        open_runs([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="profile is given 2 times"):
        open_runs([good, good], ["a", "b"])
    assert [run.panel for run in open_runs([good, good], ["a", "a"], ["ViT", "CNN"])] == ["ViT", "CNN"]
    with pytest.raises(ValueError, match="profile is the name of 2 folders: give each a name with --names"):
        open_runs([good, other])
    assert len(open_runs([good, other], panels=["ViT", "CNN"])) == 2
    with pytest.raises(ValueError, match="1 names for 2 runs"):
        open_runs([good, other], ["a"])
    with pytest.raises(ValueError, match="3 panels for 2 runs"):
        open_runs([good, other], ["a", "b"], ["x", "y", "z"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "run.json is not JSON"),
        ("[]", "run.json is not the record of a run"),
        ('{"status": "running"}', "is unfinished: start its command again"),
        ('{"finished": false}', "is unfinished: start its command again"),
    ],
)
def test_bad_records_are_refused(tmp_path: Path, text: str, told: str):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=told):
        open_runs([tmp_path])


def test_a_run_that_holds_nothing_is_named_with_what_it_lacks(tmp_path: Path):
    empty = write_run(tmp_path / "empty", {"variance.csv": strength_table()})
    runs = [*runs_in(tmp_path), *open_runs([empty])]
    with pytest.raises(ValueError, match=r"empty lacks strength.csv \(of `a2mim profile`\) or occlusion.csv"):
        holding(runs, TABLES)
    assert [run.name for run in holding(runs[:-1], TABLES)["strength.csv"]] == ["a", "b", "c"]
    assert holding(runs[:-1], TABLES)["occlusion.csv"] == []


def test_what_runs_share_and_what_sets_them_apart(tmp_path: Path):
    facets = {"grid": lambda about: about["settings"]["grid"], "value": lambda about: about["settings"]["value"]}
    abouts = [record(grid=8), record(grid=16), record(grid=8), {}]
    runs = runs_in(tmp_path, ["a", "b", "c", "d"], abouts=abouts)
    assert unlike(runs, facets) == "These runs differ in grid (8: a, c; 16: b)."
    assert alike(runs[:3], facets) == "Value log_odds." and alike(runs, facets) == ""
    assert unlike(runs[::2], facets) == "" and alike(runs[::2], facets) == "Grid 8, value log_odds."


def test_whole_panels_are_named_by_their_titles(tmp_path: Path):
    facets = {"grid": lambda about: about["settings"]["grid"]}
    abouts = [record(grid=8), record(grid=8), record(grid=16)]
    runs = runs_in(tmp_path, ["a", "b", "a"], ["ViT", "ViT", "CNN"], abouts)
    assert unlike(runs, facets) == "These runs differ in grid (8: ViT; 16: CNN)."
    mixed = runs_in(tmp_path / "mixed", ["a", "b", "a"], ["ViT", "ViT", "CNN"], [abouts[0], abouts[2], abouts[2]])
    assert unlike(mixed, facets) == "These runs differ in grid (8: a (ViT); 16: b (ViT), a (CNN))."


@pytest.mark.parametrize("out", ["figure", "figure.png", "new folder/figure.pdf", "v1.2"])
def test_png_pdf_and_where_they_came_from(tmp_path: Path, out: str):
    runs = runs_in(tmp_path, ["a", "b"], ["ViT", "CNN"], [record(), None])
    drawn = Drawn(Figure((2, 1)), {runs[0]: ["strength.csv"]}, "")
    files = write_figure(drawn, tmp_path / out, "fig5", runs, {"measure": "J"})
    stem = tmp_path / out.removesuffix(".png").removesuffix(".pdf")
    assert [str(file) for file in files] == [f"{stem}.png", f"{stem}.pdf", f"{stem}.json"]
    assert [file.read_bytes()[:4] for file in files[:2]] == [b"\x89PNG", b"%PDF"]
    about = json.loads(files[2].read_text())
    assert about["figure"] == "fig5" and about["options"] == {"measure": "J"} and about["note"] == ""
    assert about["a2mim"] == "0.1.0"
    known, unknown = about["runs"]
    table = (runs[0].folder / "strength.csv").read_bytes()
    assert known == {
        "name": "a",
        "panel": "ViT",
        "folder": str(runs[0].folder),
        "command": "profile",
        "commit": "89abcdef",
        "model": "a net (random)",
        "model_digest": "0123456789abcdef",
        "data": record()["data"],
        "images": 50,
        "settings": record()["settings"],
        "versions": record()["versions"],
        "files": {"strength.csv": hashlib.sha256(table).hexdigest()},
    }
    assert unknown == {key: None for key in known} | {
        "name": "b",
        "panel": "CNN",
        "folder": str(runs[1].folder),
        "files": {},
    }
    assert sorted(path.name for path in stem.parent.iterdir() if path.is_file()) == sorted(f.name for f in files)


@pytest.mark.parametrize("name", ["", "  "])
def test_an_empty_name_is_refused(tmp_path: Path, name: str):
    with pytest.raises(ValueError, match="a name is empty: give each run one that can be read"):
        open_runs([write_run(tmp_path / "x"), write_run(tmp_path / "y")], ["x", name])


@pytest.mark.parametrize("out", ["", ".", "..", "figures/..", "/", "..png"])
def test_a_figure_needs_a_name(out: str):
    with pytest.raises(ValueError, match=r"--out .* is no name of a file: end it in one, as figures/fig5 does"):
        figure_files(out)
