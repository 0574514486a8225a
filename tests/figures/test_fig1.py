from pathlib import Path

import numpy as np
import pytest

from figures import fig1
from figures.runs import open_runs
from figures.style import look
from tests.figures.made_up import occlusion_table, record, strength_table, texts, write_run
from tests.figures.readable import assert_readable
from tests.figures.test_curves import caption, points, seen
from tests.figures.test_interactions import band, curve


def occlusions(folder: Path, levels=(80.0, 60.0), **changes) -> list[Path]:
    about = record("occlusion", **changes)
    return [write_run(folder / f"occ{k}", {"occlusion.csv": occlusion_table(t)}, about) for k, t in enumerate(levels)]


def profiles(folder: Path, count: int = 2) -> list[Path]:
    return [write_run(folder / f"prof{k}", {"strength.csv": strength_table(k)}, record()) for k in range(count)]


@pytest.mark.parametrize("dropped", ["random", "salient", "non_salient"])
def test_accuracy_stands_above_the_interactions_of_the_same_methods(tmp_path: Path, dropped: str):
    runs = open_runs([*occlusions(tmp_path), *profiles(tmp_path)], ["a", "b"] * 2, ["ViT", "CNN"] * 2)
    drawn = fig1.draw(runs, measure="J", dropped=dropped)
    (vit, vit_strength, _), (cnn, cnn_strength, _) = seen(drawn.figure)[:3], seen(drawn.figure)[3:6]
    left, right, first = (vit, cnn), (vit_strength, cnn_strength), look(0).colour
    for k, level in enumerate((80.0, 60.0)):
        rows = occlusion_table(level)
        rows = rows[rows["kind"] == dropped]
        np.testing.assert_allclose(curve(left[k], first)[1], rows["top1"])
        np.testing.assert_allclose(curve(left[k], first)[0], rows["share"])
        np.testing.assert_allclose(band(left[k], first), rows[["low", "high"]])
        np.testing.assert_allclose(points(right[k], first, hollow=False), strength_table(k)["J"])
    assert drawn.note == "" and [run.name for run in drawn.files] == ["a", "b", "a", "b"]
    assert [list(tables) for tables in drawn.files.values()] == [["occlusion.csv"]] * 2 + [["strength.csv"]] * 2
    words = caption(drawn.figure)
    assert "500 images" in words and "50 images" in words and "baseline mean colour after normalisation" in words
    assert ("saliency gradient" in words) == (dropped != "random")
    assert vit.get_ylabel() == "top-1 accuracy (%)" and vit.get_ylim() == cnn.get_ylim() == (0, 100)
    assert (vit.get_title("left"), cnn.get_title("left")) == ("ViT", "CNN")
    assert_readable(drawn.figure)


def test_the_shared_axis_holds_the_most_accurate_run_of_any_panel(tmp_path: Path):
    drawn = fig1.draw(open_runs(occlusions(tmp_path, (20.0, 80.0)), ["a", "b"], ["weak", "strong"]))
    assert [axes.get_ylim() for axes in seen(drawn.figure) if axes.lines] == [(0, 100)] * 2


def test_what_is_missing_is_left_empty_and_said(tmp_path: Path):
    folders = [*occlusions(tmp_path, (80.0,)), *profiles(tmp_path)]
    drawn = fig1.draw(open_runs(folders, ["a", "a", "b"], ["ViT", "ViT", "CNN"]))
    assert drawn.note == "Not given, and so not drawn: occlusion of b (CNN)."
    assert "no occlusion run" in texts(drawn.figure) and not seen(drawn.figure)[3].lines
    alone = fig1.draw(open_runs(folders[:1], ["a"]))
    assert alone.note == "Not given, and so not drawn: interactions of a."
    assert "no profile" in texts(alone.figure)


def test_a_folder_may_hold_both_tables(tmp_path: Path):
    both = write_run(
        tmp_path / "both", {"occlusion.csv": occlusion_table(), "strength.csv": strength_table()}, record()
    )
    drawn = fig1.draw(open_runs([both]))
    assert drawn.note == "" and [axes.has_data() for axes in seen(drawn.figure)[:2]] == [True, True]


def test_other_settings_are_said(tmp_path: Path):
    folders = [*occlusions(tmp_path), *occlusions(tmp_path / "other", (70.0,), grid=16, saliency="mean_attention")]
    runs = open_runs(folders, ["a", "b", "c"])
    assert "Left: these runs differ in grid (8×8: a, b; 16×16: c)." in fig1.draw(runs).note
    assert "saliency (gradient: a, b; mean attention: c)" in fig1.draw(runs, dropped="salient").note


def test_other_images_are_said(tmp_path: Path):
    """Accuracies over as many other images had no note."""
    about = record("occlusion")
    about["images"] = [{"image": k, "name": f"{k}.png"} for k in range(30, 80)]
    (tmp_path / "other").mkdir()
    folders = [*occlusions(tmp_path), write_run(tmp_path / "other/c", {"occlusion.csv": occlusion_table()}, about)]
    assert "Left: these runs differ in images (" in fig1.draw(open_runs(folders, ["a", "b", "c"])).note


def test_what_cannot_be_drawn_is_refused(tmp_path: Path):
    runs = open_runs([*occlusions(tmp_path), write_run(tmp_path / "empty")])
    with pytest.raises(ValueError, match=r"empty lacks occlusion.csv \(of `a2mim occlusion`\) or strength.csv"):
        fig1.draw(runs)
    with pytest.raises(ValueError, match="no 'middle' cells to drop: choose one of random, salient"):
        fig1.draw(runs[:2], dropped="middle")
    table = occlusion_table()
    few = write_run(tmp_path / "few", {"occlusion.csv": table[table["kind"] == "random"]})
    with pytest.raises(ValueError, match=r"occlusion table of few \(.*\) has no salient cells"):
        fig1.draw(open_runs([few]), dropped="salient")
    broken = write_run(tmp_path / "broken", {"occlusion.csv": table.drop(columns="low")})
    with pytest.raises(ValueError, match="lacks the column low"):
        fig1.draw(open_runs([broken]))


def test_raw_strengths_of_other_passes_are_said(tmp_path: Path):
    table = {"strength.csv": strength_table()}
    folders = [write_run(tmp_path / f"{budget}", table, record(budget=budget)) for budget in (100, 3000)]
    runs = open_runs([*occlusions(tmp_path), *folders], ["a", "b"] * 2)
    assert "Right: these runs differ in passes (100: a; 3000: b)." in fig1.draw(runs, measure="J").note
    assert "passes" not in fig1.draw(runs).note
