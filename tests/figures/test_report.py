"""What the page shows of which run."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from figures.page.blocks import Card, Charts, Fold, Gallery, Picture, Rows, Section
from figures.report import ALWAYS, open_runs, profile_groups, sections_of, told_apart, write_report
from tests.figures import made_up_runs as made_up
from tests.figures.made_up import record, strength_table, write_run


def section(sections: list[Section], title: str) -> Section:
    (found,) = [each for each in sections if each.title == title]
    return found


def blocks(found: Section, kind: type) -> list:
    return [block for block in found.blocks if isinstance(block, kind)]


def opened(*folders: Path, names=()):
    return open_runs(folders, names or [folder.name for folder in folders])


def test_every_run_is_known_by_what_its_folder_holds(tmp_path: Path):
    runs = opened(
        made_up.profile(tmp_path / "profile"),
        made_up.occlusion(tmp_path / "occlusion"),
        made_up.spectrum(tmp_path / "spectrum"),
        made_up.training(tmp_path / "training"),
        made_up.study(tmp_path / "study"),
    )
    titles = {run.name: [each.title for each in sections_of([run])] for run in runs}
    cards = "Models and runs"
    assert titles == {
        "profile": ["Interaction strength by order", cards],
        "occlusion": ["Occlusion and shuffling", cards],
        "spectrum": ["Spectrum by depth", cards],
        "training": ["Accuracy", "Pictures and pair maps", "Training", cards],
        "study": ["Results of the study", "Pictures and pair maps"],
    }
    assert len(sections_of(runs)) == 8


def test_curves_hold_the_table(tmp_path: Path):
    folder = made_up.profile(tmp_path / "a", seed=3, missing_rms=(7,))
    table = pd.read_csv(folder / "strength.csv")
    (charts,) = blocks(section(sections_of(opened(folder)), "Interaction strength by order"), Charts)
    measures = ("J_rms", "J_corrected", "J", "rms")
    for chart, measure in zip(charts.charts, measures, strict=True):
        (curve,) = chart.curves
        for column, values in (("ratio", curve.x), (measure, curve.y), (f"{measure}_low", curve.low)):
            pd.testing.assert_series_equal(table[column], pd.Series(values), check_names=False)
        assert chart.logarithmic == (measure == "rms") and chart.shade == (None if chart.logarithmic else (0.3, 0.7))
        assert curve.notes[6] == "order 97, 50 images"
    assert "Left out: J_rms of a at order 116 (mean square not above 0)." in charts.caption
    assert "95 % bootstrap intervals over 50 images" in charts.caption


def test_only_runs_that_measured_alike_share_charts(tmp_path: Path):
    one, two = made_up.profile(tmp_path / "one"), made_up.profile(tmp_path / "two", seed=1)
    other = made_up.profile(tmp_path / "other", value="cosine")
    runs = opened(one, other, two)
    assert [[run.name for run in group] for group in profile_groups(runs)] == [["one", "two"], ["other"]]
    found = section(sections_of(runs), "Interaction strength by order")
    together, alone = blocks(found, Charts)
    assert [curve.name for curve in together.charts[0].curves] == ["one", "two"]
    assert (together.title, alone.title) == (
        "14×14 grid, log-odds, mean, photos",
        "14×14 grid, cosine, mean, photos",
    )
    assert together.charts[3].title.endswith("(log-odds)") and alone.charts[3].title.endswith("(cosine)")


def test_other_images_are_said(tmp_path: Path):
    one, two = made_up.profile(tmp_path / "one"), made_up.profile(tmp_path / "two")
    record = json.loads((two / "run.json").read_text())
    record["images"] = [{**image, "name": f"photo {k + 10}"} for k, image in enumerate(record["images"])]
    (two / "run.json").write_text(json.dumps(record))
    (charts,) = blocks(section(sections_of(opened(one, two)), "Interaction strength by order"), Charts)
    assert "These runs do not hold the same images: 40 are in all of them." in charts.caption


def test_masses_and_differences_stand_with_their_group(tmp_path: Path):
    one, two = made_up.profile(tmp_path / "one"), made_up.profile(tmp_path / "two")
    other = made_up.profile(tmp_path / "other", value="cosine")
    rows = [["one", "two", "J", 0.1, 0.05, 0.2, 50], ["one", "elsewhere", "J", 0.1, 0.05, 0.2, 50]]
    columns = ["run_a", "run_b", "measure", "difference", "low", "high", "images"]
    found = section(
        sections_of(opened(one, two, other), pd.DataFrame(rows, columns=columns)), "Interaction strength by order"
    )
    masses, differences, masses_of_other = blocks(found, Rows)
    assert list(masses.table["run"]) == ["one"] * 3 + ["two"] * 3 and masses.reference == 1.0
    assert list(differences.table["run_b"]) == ["two"] and differences.reference == 0.0
    assert set(masses_of_other.table["run"]) == {"other"}
    every = blocks(found, Fold)[0].blocks[0]
    assert isinstance(every, Rows) and len(every.table) == 26


def test_a_profile_without_middle_orders_has_no_mass(tmp_path: Path):
    folder = made_up.profile(tmp_path / "a")
    (folder / "middle_mass.csv").write_text("measure,M,M_low,M_high,images\n")
    assert not blocks(section(sections_of(opened(folder)), "Interaction strength by order"), Rows)


def test_occlusion_has_a_chart_for_each_kind_and_one_for_shuffling(tmp_path: Path):
    runs = opened(made_up.occlusion(tmp_path / "a"), made_up.occlusion(tmp_path / "b", seed=5))
    (charts,) = blocks(section(sections_of(runs), "Occlusion and shuffling"), Charts)
    kinds = ["random cells dropped", "salient cells dropped", "non-salient cells dropped", "cells shuffled"]
    assert [chart.title.split(", ")[1] for chart in charts.charts] == kinds
    salient = charts.charts[1].curves
    assert [curve.name for curve in salient] == ["a", "b"]
    assert salient[1].y == pytest.approx([80 * (1 - share**2) + 5 for share in (0, 0.2, 0.4, 0.6, 0.8, 1)])
    assert list(charts.charts[3].curves[0].x) == [1, 2, 4, 8]


def test_spectra_are_thinned_and_keep_both_ends(tmp_path: Path):
    (run,) = opened(made_up.spectrum(tmp_path / "a", seed=2))
    found = section(sections_of([run]), "Spectrum by depth")
    (charts,) = blocks(found, Charts)
    highest, variance = (chart.curves[0] for chart in charts.charts)
    assert highest.y == pytest.approx([-(2 + k / 23) - 0.2 for k in range(24)])
    assert variance.y == pytest.approx([1 + k / 23 for k in range(24)])
    assert highest.notes[3] == "block 3 blocks.1.mlp (mlp), 50 images"
    (whole,) = blocks(found, Fold)[0].blocks
    assert isinstance(whole, Charts) and "8 of 24 blocks" in whole.caption
    curves = whole.charts[0].curves
    assert len(curves) == 8 and {len(curve.x) for curve in curves} == {17}
    assert (curves[0].x[0], curves[0].x[-1]) == (0, 1) and curves[-1].y[-1] == pytest.approx(-3.2)


def test_losses_are_thinned_and_of_one_method_a_chart(tmp_path: Path):
    folders = [made_up.training(tmp_path / name, method=name[:-1]) for name in ("a2mim0", "a2mim1", "simmim0")]
    (charts,) = blocks(section(sections_of(opened(*folders)), "Training"), Charts)
    assert [[curve.name for curve in chart.curves] for chart in charts.charts] == [["a2mim0", "a2mim1"], ["simmim0"]]
    curve = charts.charts[0].curves[0]
    losses = [3 / (1 + step / 50) for step in range(1, 401)]
    assert curve.y == pytest.approx([sum(losses[k : k + 10]) / 10 for k in range(0, 400, 10)])
    assert list(curve.x) == list(range(10, 401, 10))


def test_accuracy_of_training_runs(tmp_path: Path):
    runs = opened(made_up.training(tmp_path / "a"), made_up.training(tmp_path / "b", seed=1))
    (rows,) = blocks(section(sections_of(runs), "Accuracy"), Rows)
    assert rows.table[["run", "top1, last", "top1, best"]].values.tolist() == [["a", 61.25, 63.5], ["b", 62.25, 63.5]]


def test_a_study_shows_its_tables_and_figures_and_says_what_chance_does(tmp_path: Path):
    found = section(sections_of(opened(made_up.study(tmp_path / "study"))), "Results of the study")
    accuracy, masses, differences = blocks(found, Rows)
    assert (accuracy.plot, masses.plot, differences.plot) == ("", "M", "difference")
    assert any("by chance" in block for block in blocks(found, str))
    (figure,) = blocks(found, Picture)
    assert figure.source.name == "fig5.png" and figure.caption == "fig5. Runs: ViT. Two of three seeds."


def test_pictures_are_the_newest_and_pair_maps_are_found(tmp_path: Path):
    runs = opened(made_up.training(tmp_path / "a"), made_up.study(tmp_path / "study"))
    found = section(sections_of(runs), "Pictures and pair maps")
    (gallery,), (pair_map,) = blocks(found, Gallery), blocks(found, Picture)
    assert list(gallery.columns) == ["original", "masked", "predicted", "composite"]
    assert "step-00000400" in gallery.caption and pair_map.source.name == "cat.png"


def test_kept_pairs_are_drawn_as_often_as_asked(tmp_path: Path):
    runs = opened(*(made_up.kept_pairs(tmp_path / name) for name in "ab"))
    found = section(sections_of(runs, maps=1), "Pictures and pair maps")
    (drawn,) = blocks(found, Picture)
    assert drawn.source[:8] == b"\x89PNG\r\n\x1a\n" and "a: pairs of photo 0 at order 97 (ratio 0.5)" in drawn.caption
    assert "Kept pairs are drawn for 1 of 2 profiles." in found.blocks


def test_a_card_says_where_the_numbers_come_from(tmp_path: Path):
    runs = opened(made_up.profile(tmp_path / "a"), made_up.training(tmp_path / "b"))
    profile, training = blocks(section(sections_of(runs), "Models and runs"), Card)
    expected = {
        "command": "profile", "model": "net 0", "digest": "digest0", "parameters": "1,234,567", "data": "photos",
        "images": "50", "passes": "1,234,567", "commit": "0123abc", "versions": "a2mim 0.1.0, torch 2.9",
        "machine": "x86_64, 2",
    }  # fmt: skip
    assert expected.items() <= profile.facts.items() and profile.facts["seconds"] in ("61", "62")
    assert "grid 14, radius 2, value log_odds" in profile.facts["settings"]
    assert profile.record == json.loads((tmp_path / "a" / "run.json").read_text())
    assert training.facts["model"] == "vit_tiny" and training.facts["trained"] == "10 epochs, 400 steps"


def spoil_json(folder: Path) -> None:
    (folder / "run.json").write_text("{")


def stop_halfway(folder: Path) -> None:
    (folder / "run.json").write_text('{"command": "profile", "status": "running"}')


def drop_a_column(folder: Path) -> None:
    pd.read_csv(folder / "strength.csv").drop(columns="J_low").to_csv(folder / "strength.csv", index=False)


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_json, r"run\.json is not JSON"),
        (stop_halfway, "is unfinished: start its command again"),
        (drop_a_column, r"lacks the column J_low"),
        (empty, "holds nothing to report: give folders that `a2mim` commands wrote"),
    ],
)
def test_a_spoilt_run_is_one_sentence(tmp_path: Path, spoil, said):
    folder = made_up.profile(tmp_path / "a")
    spoil(folder)
    with pytest.raises(ValueError, match=said):
        sections_of(opened(folder))


def test_runs_of_one_name_are_seeds_that_look_alike_and_are_told_apart(tmp_path: Path):
    folders = [made_up.profile(tmp_path / str(seed), seed=seed) for seed in range(2)]
    runs = opened(*folders, made_up.occlusion(tmp_path / "o"), names=("ViT", "ViT", "ViT"))
    assert [run.name for run in told_apart(runs)] == ["ViT · 1", "ViT · 2", "ViT"]
    assert told_apart(told_apart(runs)) == told_apart(runs)
    sections = sections_of(runs)
    (charts,) = blocks(section(sections, "Interaction strength by order"), Charts)
    assert [(curve.name, curve.legend) for curve in charts.charts[0].curves] == [("ViT · 1", "ViT"), ("ViT · 2", "ViT")]
    (masses,) = blocks(section(sections, "Interaction strength by order"), Rows)
    assert list(masses.table["run"]) == ["ViT · 1"] * 3 + ["ViT · 2"] * 3
    cards = [card.name for card in blocks(section(sections, "Models and runs"), Card)]
    assert cards == ["ViT · 1", "ViT · 2", "ViT"]


def test_cards_of_one_model_say_which_command_they_are_of(tmp_path: Path):
    runs = opened(made_up.spectrum(tmp_path / "s"), made_up.occlusion(tmp_path / "o"), names=("ViT", "ViT"))
    cards = [card.name for card in blocks(section(sections_of(runs), "Models and runs"), Card)]
    assert cards == ["ViT: spectrum", "ViT: occlusion"]


def test_a_panel_is_a_part_of_the_name(tmp_path: Path):
    folders = [made_up.profile(tmp_path / name) for name in "ab"]
    assert [run.name for run in told_apart(open_runs(folders, ["x", "x"], ["ViT", "CNN"]))] == ["x (ViT)", "x (CNN)"]


def test_a_table_without_rows_is_what_was_not_measured(tmp_path: Path):
    folder, study = made_up.occlusion(tmp_path / "a"), made_up.study(tmp_path / "study")
    for path in (folder / "shuffling.csv", study / "differences.csv"):
        path.write_text(path.read_text().split("\n")[0] + "\n")
    sections = sections_of(opened(folder, study))
    (charts,) = blocks(section(sections, "Occlusion and shuffling"), Charts)
    assert len(charts.charts) == 3
    assert [rows.plot for rows in blocks(section(sections, "Results of the study"), Rows)] == ["", "M"]


def test_runs_that_occluded_otherwise_are_named(tmp_path: Path):
    runs = opened(made_up.occlusion(tmp_path / "a"), made_up.occlusion(tmp_path / "b", grid=7))
    (charts,) = blocks(section(sections_of(runs), "Occlusion and shuffling"), Charts)
    assert "These runs differ in grid (14×14: a; 7×7: b)." in charts.caption


def test_figures_and_sheets_that_a_study_keeps_are_shown(tmp_path: Path):
    folder = made_up.study(tmp_path / "study")
    for place in ("figures", "pictures"):
        (folder / place).mkdir()
        shutil.copy(folder / "fig5.png", folder / place / "more.png")
    sections = sections_of(opened(folder))
    figures = blocks(section(sections, "Results of the study"), Picture)
    assert [figure.source.parent.name for figure in figures] == ["study", "figures"]
    (fold,) = blocks(section(sections, "Pictures and pair maps"), Fold)
    assert fold.summary == "Reconstructions of study: 1 of 1 runs"


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_spoilt_file_beside_a_figure_is_one_sentence(tmp_path: Path, text):
    folder = made_up.study(tmp_path / "study")
    (folder / "fig5.json").write_text(text)
    with pytest.raises(ValueError, match=r"fig5\.json is not"):
        sections_of(opened(folder))


def test_a_spoilt_archive_is_one_sentence(tmp_path: Path):
    folder = made_up.training(tmp_path / "a")
    (folder / "pictures" / "step-00000400.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(ValueError, match="cannot be read as reconstructions"):
        sections_of(opened(folder))


def twenty(make: Callable[..., Path], folder: Path) -> list[Path]:
    """Twenty copies of one run."""
    first = make(folder / f"{make.__name__} 0")
    return [first, *(shutil.copytree(first, folder / f"{make.__name__} {k}") for k in range(1, 20))]


@pytest.mark.rendered
def test_twenty_runs_of_everything_stay_below_ten_megabytes(tmp_path: Path):
    made = made_up.profile, made_up.occlusion, made_up.spectrum, made_up.training
    runs = opened(*(folder for make in made for folder in twenty(make, tmp_path)))
    page = write_report(tmp_path / "page.html", sections_of(runs))
    text = page.read_text("utf-8")
    assert len(re.findall(r'class="point', text)) > 20 * (4 * 13 + 22 + 2 * 24 + 8 * 17 + 40)
    assert page.stat().st_size < 10e6


def test_the_same_runs_give_the_same_bytes(tmp_path: Path):
    runs = opened(made_up.kept_pairs(tmp_path / "a"), made_up.training(tmp_path / "b"))
    one, two = (write_report(tmp_path / f"{k}.html", sections_of(runs), "T", "Lead.") for k in range(2))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize(
    ("command", "table"), [("profile", "strength.csv"), ("occlusion", "occlusion.csv"), ("spectrum", "variance.csv")]
)
def test_a_finished_run_without_its_table_is_named(tmp_path, command, table):
    """Not left out of a page that says nothing of it."""
    run = open_runs([write_run(tmp_path / "run", {"shuffling.csv": strength_table()}, record(command=command))], ["a"])[
        0
    ]
    for name in ALWAYS[command]:
        (run.folder / name).write_text("order\n")
    (run.folder / table).unlink()
    with pytest.raises(ValueError, match=rf"run lacks {table}: start its command again"):
        sections_of([run])
