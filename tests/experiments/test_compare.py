"""`a2mim compare`: what may be compared, what the tables hold, and what the figure says."""

import json
import shutil
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from experiments import cli
from experiments.measuring.comparison import compare_runs
from interactions.profile import load_profile, profile_model

RATIOS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
NAMES = [f"photos/{k}.jpg" for k in range(8)]


def small_network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 4, 4), nn.GELU(), nn.Conv2d(6, 6, 2), nn.GELU(), nn.Flatten(), nn.Linear(54, 4)
    )


def photographs():
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(3, 16, 16, generator=generator), k % 4) for k in range(len(NAMES))]


def measure(folder, seed=0, data=None, **settings):
    plan: dict[str, Any] = {
        "grid": 4,
        "ratios": RATIOS,
        "budget": 400,
        "radius": 1,
        "design": "pairwise",
        "batch_size": 64,
    }
    data = data or photographs()
    profile_model(
        small_network(seed), data, out=folder, names=NAMES, data_name="photos", progress=False, **plan | settings
    )
    return folder


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Two runs of other weights over the same images."""
    folder = tmp_path_factory.mktemp("runs")
    return measure(folder / "one", seed=1), measure(folder / "two", seed=2)


@pytest.fixture
def runs(measured, tmp_path):
    """Copies of them that a test may spoil."""
    return tuple(shutil.copytree(folder, tmp_path / folder.name) for folder in measured)


def change(folder, edit):
    record = json.loads((folder / "run.json").read_text())
    edit(record)
    (folder / "run.json").write_text(json.dumps(record))


def middle_mass_of(images):
    """M of the raw J from its definition: mean |I| over images, over its mean over orders, at ratios 0.3 to 0.7."""
    strength = images.groupby("order").mean_abs.mean()
    ratio = images.groupby("order").ratio.first()
    return (strength / strength.mean())[(ratio >= 0.3) & (ratio <= 0.7)].mean()


def only(table, measure):
    (row,) = table[table["measure"] == measure].to_dict("records")
    return row


def test_the_tables_hold_each_m_and_the_difference(runs, tmp_path):
    made = compare_runs(runs, tmp_path / "figure.svg")
    mass = {}
    for folder in runs:
        own = made.masses[made.masses["run"] == folder.name].drop(columns="run").reset_index(drop=True)
        pd.testing.assert_frame_equal(own, pd.read_csv(folder / "middle_mass.csv"))
        mass[folder.name] = middle_mass_of(load_profile(folder).images())
        assert only(own, "J")["M"] == pytest.approx(mass[folder.name])
    row = only(made.differences, "J")
    assert (row["run_a"], row["run_b"], row["images"]) == ("one", "two", 8)
    assert row["difference"] == pytest.approx(mass["one"] - mass["two"])
    assert row["low"] < row["difference"] < row["high"]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "figure.csv"), made.masses)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "figure-differences.csv"), made.differences)


def test_the_difference_is_paired(runs, tmp_path):
    """A run and its copy differ by nothing in every resample; unpaired, the interval would have a width."""
    twin = shutil.copytree(runs[0], tmp_path / "twin")
    made = compare_runs((runs[0], twin), tmp_path / "figure.png")
    assert only(made.masses[made.masses["run"] == "twin"], "J")["M_high"] > only(made.masses[:3], "J")["M_low"]
    assert (made.differences[["difference", "low", "high"]] == 0).all(axis=None)


def test_every_two_runs_are_compared(runs, tmp_path):
    third = measure(tmp_path / "three", seed=3)
    made = compare_runs((*runs, third), tmp_path / "figure.png")
    pairs = made.differences[["run_a", "run_b"]].drop_duplicates().to_numpy().tolist()
    assert pairs == [["one", "two"], ["one", "three"], ["two", "three"]]


DIFFERENCES = {
    "value": (lambda record: record["settings"].update(value="logit"), r"value \(log-odds: one; logit: two\)"),
    "features": (
        lambda record: record["settings"].update(compared="output"),
        r"value \(log-odds: one; log-odds of the output: two\)",
    ),
    "baseline": (lambda record: record["settings"].update(baseline="blur"), r"baseline \(mean: one; blur: two\)"),
    "grid": (lambda record: record["settings"].update(grid=5), r"grid \(4×4: one; 5×5: two\)"),
    "radius": (
        lambda record: record["settings"].update(radius=2),
        r"pairs \(within radius 1: one; within radius 2: two\)",
    ),
    "sampling": (
        lambda record: record["settings"].update(design="published"),
        r"pairs \(within radius 1: one; within radius 1, drawn as released: two\)",
    ),
    "orders": (lambda record: record["orders"].pop(1), r"orders \(0, 2, 5, 8, 11, 14: one; 0, 5, 8, 11, 14: two\)"),
    "orders of M": (
        lambda record: record["orders"][2].update(ratio=0.29),
        r"orders of M \(5, 8: one; 8: two\)",
    ),
    "filter": (
        lambda record: record["settings"].update(only_correct=True),
        r"filter \(all images: one; correct ones alone: two\)",
    ),
    "target": (
        lambda record: record["images"][2].update(target=(record["images"][2]["target"] + 1) % 4),
        r"target class \(of 1 of 8 shared images\)",
    ),
    "images": (
        lambda record: record["images"][3].update(name="another"),
        r"images \(8 in one; 8 in two; 7 in all\)",
    ),
    "names": (
        lambda record: [one.update(name="other/" + one["name"]) for one in record["images"]],
        r"images \(8 in one; 8 in two; 0 in all\)",
    ),
}


@pytest.mark.parametrize("what", DIFFERENCES)
def test_unlike_runs_are_refused_and_nothing_is_written(what, runs, tmp_path, capsys):
    edit, said = DIFFERENCES[what]
    change(runs[1], edit)
    with pytest.raises(ValueError, match=said) as refused:
        compare_runs(runs, tmp_path / "new" / "figure.png")
    assert "--anyway" in str(refused.value)
    assert not (tmp_path / "new").exists()


def test_a_run_of_fewer_of_the_same_images_is_compared_over_those(runs, tmp_path):
    fewer = measure(tmp_path / "fewer", seed=4, images=6)
    made = compare_runs((runs[0], fewer), tmp_path / "figure.png")
    assert made.unlike == () and set(made.differences["images"]) == {6}


def test_what_models_have_of_their_own_may_differ(runs, tmp_path):
    """Seed, budget, design, batch size, precision, input size and normalisation are no reason to refuse."""

    def edit(record):
        settings = {
            "seed": 9,
            "budget": 77,
            "design": "pooled",
            "batch_size": 1,
            "amp": "bfloat16",
            "target": "predicted",
        }
        record["settings"].update(settings, normalisation={"mean": [0, 0, 0], "std": [1, 1, 1]})
        record.update(image_shape=[3, 32, 32])

    change(runs[1], edit)
    assert compare_runs(runs, tmp_path / "figure.png").unlike == ()


def test_anyway_says_on_the_figure_what_differs(runs, tmp_path, capsys):
    other = measure(tmp_path / "black", seed=2, baseline="black")
    arguments = [str(runs[0]), str(other), "--out", str(tmp_path / "figure.svg")]
    assert cli.main(["compare", *arguments]) == 2
    assert "they differ in baseline (mean: one; black: black)" in capsys.readouterr().err
    assert cli.main(["compare", *arguments, "--anyway"]) == 0
    assert "baseline (mean: one; black: black)" in capsys.readouterr().out
    assert "Compared in spite of differences in baseline" in (tmp_path / "figure.svg").read_text()


def test_other_images_are_compared_over_those_that_both_hold(runs, tmp_path):
    fewer = measure(tmp_path / "fewer", seed=2, images=4)
    made = compare_runs((runs[0], fewer), tmp_path / "figure.png", anyway=True)
    number_of = {one["name"]: one["image"] for one in load_profile(fewer).record["images"]}
    both = [load_profile(folder).images() for folder in (runs[0], fewer)]
    masses = [middle_mass_of(images[images["image"].isin(number_of.values())]) for images in both]
    row = only(made.differences, "J")
    assert row["images"] == len(number_of) == 4
    assert row["difference"] == pytest.approx(masses[0] - masses[1])


def test_runs_without_a_common_image_have_no_difference(runs, tmp_path):
    change(runs[1], DIFFERENCES["names"][0])
    made = compare_runs(runs, tmp_path / "figure.png", anyway=True)
    assert made.differences.empty
    assert len(pd.read_csv(tmp_path / "figure.csv")) == 6


def test_runs_without_middle_orders_have_curves_alone(tmp_path):
    runs = [measure(tmp_path / f"ends{seed}", seed, ratios=(0.0, 0.1, 1.0)) for seed in (1, 2)]
    made = compare_runs(runs, tmp_path / "figure.svg")
    assert made.masses.empty and made.differences.empty
    assert "middle mass" not in (tmp_path / "figure.svg").read_text()


def test_unnamed_images_are_told_apart_by_data_set_and_number(tmp_path):
    runs = []
    for data_name in ("cats", "dogs"):
        runs.append(tmp_path / data_name)
        profile_model(
            small_network(0), photographs(), out=runs[-1], data_name=data_name, progress=False,
            grid=4, ratios=RATIOS, budget=200, radius=1, design="pairwise", batch_size=64,
        )  # fmt: skip
    with pytest.raises(ValueError, match=r"images \(8 in cats; 8 in dogs; 0 in all\)"):
        compare_runs(runs, tmp_path / "figure.png")


def test_the_legend_takes_the_given_names(runs, tmp_path, capsys):
    arguments = [*map(str, runs), "--names", "First net", "Second net", "--measure", "J", "--out"]
    assert cli.main(["compare", *arguments, str(tmp_path / "figure.svg")]) == 0
    drawn = (tmp_path / "figure.svg").read_text()
    assert "First net" in drawn and "Second net" in drawn and ">(raw)<" in drawn
    masses = pd.read_csv(tmp_path / "figure.csv").set_index(["run", "measure"])
    assert f">{masses.loc[('First net', 'J'), 'M']:.2f}<" in drawn
    differences = pd.read_csv(tmp_path / "figure-differences.csv").set_index("measure")  # of the first less the second
    assert f">{-differences.loc['J', 'difference']:+.2f}<".replace("-", "−") in drawn
    said = capsys.readouterr().out
    assert "First net" in said and str(tmp_path / "figure-differences.csv") in said


def test_folders_of_one_name_are_told_apart_by_those_above(runs, tmp_path):
    elsewhere = shutil.copytree(runs[1], tmp_path / "elsewhere" / "one")
    made = compare_runs((runs[0], elsewhere), tmp_path / "figure.png")
    assert set(made.masses["run"]) == {f"{tmp_path.name}/one", "elsewhere/one"}


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_writes_what_the_suffix_says(suffix, runs, tmp_path):
    compare_runs(runs, tmp_path / f"figure.{suffix}", measure="J_rms")
    start = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[suffix]
    assert (tmp_path / f"figure.{suffix}").read_bytes().startswith(start)


def unfinish(folder):
    change(folder, lambda record: record.update(status="running"))
    (folder / "strength.csv").unlink()
    for part in ("images", "units"):
        sorted((folder / part).iterdir())[-1].unlink()


def spoil_masses(folder, **columns):
    """Columns of other values; those of None go."""
    path = folder / "middle_mass.csv"
    pd.read_csv(path).assign(**columns).dropna(axis=1, how="all").to_csv(path, index=False)


@pytest.mark.parametrize(
    ("spoil", "arguments", "said"),
    [
        (lambda runs: unfinish(runs[1]), [], "two is unfinished, 4 of 8 images are measured: start its command again"),
        (lambda runs: shutil.rmtree(runs[1]), [], "two holds no profile"),
        (lambda runs: (runs[1] / "strength.csv").unlink(), [], "two lacks strength.csv"),
        (lambda runs: spoil_masses(runs[1], M_low=None, M_high=None), [], "lacks the columns M_low, M_high"),
        (lambda runs: (runs[1] / "middle_mass.csv").write_bytes(b"\xff\xfe\0"), [], "cannot be read as CSV"),
        (lambda runs: spoil_masses(runs[1], M="much"), [], "holds something other than numbers in the column M"),
        (lambda runs: (runs[1] / "run.json").write_text("{"), [], "run.json is not the record of a profile"),
        (lambda runs: None, ["--names", "a"], "1 names for 2 runs"),
        (lambda runs: None, ["--names", "a", "a"], "several runs are called a"),
        (lambda runs: None, ["--names", "a", ""], "a name is empty"),
    ],
    ids=["unfinished", "no run", "no table", "no column", "no text", "a word", "damaged", "few", "same", "empty"],
)
def test_bad_input_is_one_sentence_and_writes_nothing(spoil, arguments, said, runs, tmp_path, capsys):
    spoil(runs)
    assert cli.main(["compare", *map(str, runs), "--out", str(tmp_path / "new" / "figure.png"), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_other_bad_input(runs, tmp_path, capsys):
    with pytest.raises(ValueError, match="name two runs or more"):
        compare_runs(runs[:1], tmp_path / "figure.png")
    with pytest.raises(ValueError, match="several runs are called"):
        compare_runs((runs[0], runs[0]), tmp_path / "figure.png")
    with pytest.raises(ValueError, match=r"end its name in .png, .pdf or .svg"):
        compare_runs(runs, tmp_path / "figure.jpg")
    with pytest.raises(ValueError, match="there is no relative strength 'A'"):
        compare_runs(runs, tmp_path / "figure.png", measure="A")
    assert not list(tmp_path.glob("figure*"))


def test_numbers_survive_the_round_trip(runs, tmp_path):
    made = compare_runs(runs, tmp_path / "figure.png")
    again = pd.read_csv(tmp_path / "figure-differences.csv")
    np.testing.assert_array_equal(again["difference"], made.differences["difference"])


def test_networks_of_one_kind_that_are_shown_other_images_are_told(runs, tmp_path, capsys):
    arguments = [*map(str, runs), "--names", "one", "two", "--out", str(tmp_path / "figure.png")]
    assert cli.main(["compare", *arguments]) == 0 and "Note:" not in capsys.readouterr().out
    change(runs[1], lambda record: record["settings"]["normalisation"].update(mean=[0.5, 0.5, 0.5]))
    assert cli.main(["compare", *arguments]) == 0
    out = capsys.readouterr().out
    assert "Note: Networks of one kind (Sequential" in out
    assert "of mean 0.5 0.5 0.5 and deviation 0.229 0.224 0.225: two" in out
    # Another network may well be normalised otherwise.
    change(runs[1], lambda record: record["model"].update(parameters=7))
    assert cli.main(["compare", *arguments]) == 0 and "Note:" not in capsys.readouterr().out


def test_raw_curves_of_other_passes_are_refused(tmp_path, capsys):
    """Noise lifts them, the more the fewer passes there are."""
    runs = [str(measure(tmp_path / str(budget), seed=1, budget=budget)) for budget in (200, 400)]
    arguments = ["compare", *runs, "--out", str(tmp_path / "figure.png")]
    assert cli.main(arguments) == 0
    told = "Noise lifts the raw J of the tables, and these runs differ in passes (200: 200; 400: 400)."
    assert told in capsys.readouterr().out
    assert cli.main([*arguments, "--measure", "J"]) == 2
    assert "they differ in passes (200: 200; 400: 400)" in capsys.readouterr().err


RAW = {
    "design": ({"design": "pooled"}, r"design \(pairwise: one; pooled: two\)"),
    "amp": ({"amp": "bfloat16"}, r"reduced precision \(none: one; bfloat16: two\)"),
    "precision": ({"budget": None}, r"passes \(400: one; as a precision needed, \S+ an image: two\)"),
}


@pytest.mark.parametrize("what", RAW)
def test_raw_curves_of_other_noise_are_refused_whatever_makes_it(what, runs, tmp_path):
    settings, said = RAW[what]
    change(runs[1], lambda record: record["settings"].update(settings))
    with pytest.raises(ValueError, match=said):
        compare_runs(runs, tmp_path / "figure.png", measure="J")
    made = compare_runs(runs, tmp_path / "figure.png")
    assert made.unlike == () and "Noise lifts the raw J of the tables" in made.note


def test_raw_curves_of_the_published_design_need_as_many_contexts(runs, tmp_path):
    """One budget of other pairs has other contexts of each."""
    for folder, pairs in zip(runs, (10, 50), strict=True):
        change(folder, lambda record, n=pairs: record["settings"].update(design="published", published_pairs=n))
    with pytest.raises(ValueError, match=r"pairs of the published design \(10: one; 50: two\)"):
        compare_runs(runs, tmp_path / "figure.png", measure="J")


def test_raw_curves_to_a_precision_have_each_their_own_passes(runs, tmp_path):
    for folder, passes in zip(runs, (8000, 12000), strict=True):
        change(
            folder,
            lambda record, n=passes: record["settings"].update(budget=None, precision=0.1) or record.update(passes=n),
        )
    said = r"passes \(as a precision needed, 1,000 an image: one; as a precision needed, 1,500 an image: two\)"
    with pytest.raises(ValueError, match=said):
        compare_runs(runs, tmp_path / "figure.png", measure="J")
    change(runs[1], lambda record: record.update(passes=8000))
    assert compare_runs(runs, tmp_path / "figure.png", measure="J").unlike == ()


def test_other_photographs_of_the_same_names_are_told(runs, tmp_path, capsys):
    """Two folders that both hold 0.jpg, 1.jpg, ... were compared as if they were one, without a word."""
    other = measure(tmp_path / "other", seed=3, data=[(image_CHW.flip(2), label) for image_CHW, label in photographs()])
    assert cli.main(["compare", str(runs[0]), str(other), "--out", str(tmp_path / "figure.png")]) == 0
    said = "Of 8 shared images 8 have other pixels: are they the same photographs?"
    assert f"Note: {said}" in capsys.readouterr().out
