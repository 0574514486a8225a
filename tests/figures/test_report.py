"""What the page shows of which run."""

import base64
import json
import os
import re
import shutil
from collections.abc import Callable
from io import BytesIO
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from figures import fig5
from figures.page.blocks import Card, Charts, Fold, Gallery, Picture, Rows, Section
from figures.report import ALWAYS, open_runs, profile_groups, sections_of, told_apart, write_report
from figures.runs import write_figure
from figures.sections import pictures
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
        "profile": ["Summary", "Interaction strength by order", cards],
        "occlusion": ["Occlusion and shuffling", cards],
        "spectrum": ["Spectrum by depth", cards],
        "training": ["Accuracy", "Pictures and pair maps", "Training", cards],
        "study": ["Summary", "Results of the study", "Pictures and pair maps"],
    }
    assert len(sections_of(runs)) == 9


def test_a_summary_stands_first_and_what_it_rests_on_is_folded(tmp_path: Path):
    runs = opened(*(made_up.profile(tmp_path / name, seed=k) for k, name in enumerate(("one", "two"))))
    rows = [["one", "two", measure, 0.1 + k, 0.05 + k, 0.2 + k, 50] for k, measure in enumerate(("J", "J_rms"))]
    columns = ["run_a", "run_b", "measure", "difference", "low", "high", "images"]
    summary, *others = sections_of(runs, pd.DataFrame(rows, columns=columns), said=["What we asked."])
    assert summary.title == "Summary" and not summary.folded and all(section.folded for section in others)
    said, masses, charts, differences, chance = summary.blocks
    assert said == "What we asked." and "by chance" in chance
    assert isinstance(masses, Rows) and isinstance(charts, Charts) and isinstance(differences, Rows)
    wanted = [
        pd.read_csv(tmp_path / name / "middle_mass.csv").set_index("measure").loc["J_rms"] for name in ("one", "two")
    ]
    assert masses.table[["M", "M_low", "M_high"]].values.tolist() == [
        row[["M", "M_low", "M_high"]].tolist() for row in wanted
    ]
    assert list(masses.table["run"]) == ["one", "two"] and masses.caption.endswith("by rms; 50 images")
    (chart,) = charts.charts
    assert [curve.name for curve in chart.curves] == ["one", "two"]
    for curve, name in zip(chart.curves, ("one", "two"), strict=True):
        assert list(curve.y) == pd.read_csv(tmp_path / name / "strength.csv")["J_rms"].tolist()
    assert differences.table.values.tolist() == [["one", "two", 1.1, 1.05, 1.2]]


def test_a_page_without_anything_to_sum_up_opens_with_its_first_section(tmp_path: Path):
    first, *others = sections_of(opened(made_up.occlusion(tmp_path / "a")))
    assert first.title == "Occlusion and shuffling" and not first.folded and all(each.folded for each in others)


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
        "14×14 grid, log-odds, mean colour, photos",
        "14×14 grid, cosine similarity, mean colour, photos",
    )
    assert together.charts[3].title.endswith("(log-odds)") and alone.charts[3].title.endswith("(cosine similarity)")


def test_a_filter_for_correct_images_makes_another_group(tmp_path: Path):
    one, two = made_up.profile(tmp_path / "one"), made_up.profile(tmp_path / "two", seed=1, only_correct=True)
    sections = sections_of(opened(one, two))
    _, alone = blocks(section(sections, "Interaction strength by order"), Charts)
    assert alone.title == "14×14 grid, log-odds, mean colour, correct ones alone, photos"
    (words,) = [block for block in section(sections, "Summary").blocks if "not measured alike" in str(block)]
    assert str(words).endswith("these runs differ in filter (all images: one; correct ones alone: two).")


def test_other_images_are_said(tmp_path: Path):
    one, two = made_up.profile(tmp_path / "one"), made_up.profile(tmp_path / "two")
    record = json.loads((two / "run.json").read_text())
    record["images"] = [{**image, "name": f"photo {k + 10}"} for k, image in enumerate(record["images"])]
    (two / "run.json").write_text(json.dumps(record))
    record["settings"] |= {"normalisation": {"mean": [0.5], "std": [0.25]}}
    (two / "run.json").write_text(json.dumps(record))
    other = json.loads((one / "run.json").read_text())
    other["settings"] |= {"normalisation": {"mean": [0.5], "std": [0.5]}}
    (one / "run.json").write_text(json.dumps(other))
    for title in ("Summary", "Interaction strength by order"):
        (charts,) = blocks(section(sections_of(opened(one, two)), title), Charts)
        assert "These runs differ in images (50 in one; 50 in two; 40 in all)." in charts.caption
        assert "shown images of mean 0.5 and deviation 0.5: one; of mean 0.5 and deviation 0.25: two;" in charts.caption


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
    kinds = ["random cells", "the most salient cells first", "the least salient cells first"]
    titles = [f"dropped: {kind}" for kind in kinds] + ["cells shuffled"]
    assert [chart.title.split(", ")[1] for chart in charts.charts] == titles
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
    assert isinstance(whole, Charts) and "5 of 24 blocks" in whole.caption
    curves = whole.charts[0].curves
    assert len(curves) == 5 and {len(curve.x) for curve in curves} == {17}
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


def test_accuracies_on_other_data_name_them(tmp_path: Path):
    folders = [made_up.training(tmp_path / name) for name in "abc"]
    others = {"data": "x", "val": "some/photos"}, {"data": "cifar10", "val_split": "t"}
    for folder, data in zip(folders[1:], others, strict=True):
        about = json.loads((folder / "run.json").read_text())
        about["settings"]["data"] = data
        (folder / "run.json").write_text(json.dumps(about))
    (rows,) = blocks(section(sections_of(opened(*folders)), "Accuracy"), Rows)
    assert list(rows.table["data"]) == ["CIFAR-10", "photos", "CIFAR-10, t"]
    (rows,) = blocks(section(sections_of(opened(folders[0])), "Accuracy"), Rows)
    assert "data" not in rows.table


def test_a_study_shows_its_tables_and_figures_and_says_what_chance_does(tmp_path: Path):
    found = section(sections_of(opened(made_up.study(tmp_path / "study"))), "Results of the study")
    accuracy, masses, differences = blocks(found, Rows)
    assert (accuracy.plot, masses.plot, differences.plot) == ("", "M", "difference")
    assert any("by chance" in block for block in blocks(found, str))
    (fold,) = blocks(found, Fold)
    (figure,) = fold.blocks
    assert isinstance(figure, Picture) and fold.summary == "Figure fig5"
    assert figure.source.name == "fig5.png" and figure.caption == "fig5. Runs: ViT. Two of three seeds."


def test_a_network_through_training_shows_its_figure(tmp_path: Path):
    run = write_run(tmp_path / "course", {}, {"command": "course", "model": {"name": "net"}})
    shutil.copy(made_up.study(tmp_path / "study") / "fig5.png", run / "course.png")
    (fold,) = blocks(section(sections_of(opened(run)), "Results of the study"), Fold)
    assert fold.summary == "Figure course" and fold.blocks[0].source == run / "course.png"


def test_a_study_names_measures_networks_and_set_ups_in_words(tmp_path: Path):
    sections = sections_of(opened(made_up.study(tmp_path / "study")))
    _, masses, _ = blocks(section(sections, "Results of the study"), Rows)
    told = {"ViT", "frozen, cosine similarity", "raw, as published"}
    assert set(masses.table[["network", "setup", "measure"]].values.ravel()) == told
    of_summary, differences = blocks(section(sections, "Summary"), Rows)
    assert of_summary.caption == "ViT, frozen, cosine similarity: middle mass M, by rms; 200 images"
    assert list(of_summary.table.columns) == ["method", "seed", "M", "M_low", "M_high"]
    assert differences.caption.startswith("ViT, frozen, cosine similarity: M less that of untrained")
    assert differences.table["difference"].tolist() == [0.3]


def test_figures_of_a_study_are_charts_where_their_tables_are_there(tmp_path: Path):
    """Drawn from runs that are gone, of which copies of the tables are kept under other names."""
    kept, tables = tmp_path / "study", [strength_table(k) for k in range(3)]
    folders = [write_run(tmp_path / f"run{k}", {"strength.csv": table}, record()) for k, table in enumerate(tables)]
    runs = open_runs(folders, ["SimMIM", "A²MIM", "A²MIM"], ["ViT", "ViT", "CNN"])
    write_figure(
        fig5.draw(runs, measure="J"), kept / "figures" / "fig5", "fig5", runs, {"measure": "J", "grey": ["SimMIM"]}
    )
    for k, folder in enumerate(folders):
        shutil.move(folder / "strength.csv", kept / f"curve-{k}.csv")
        shutil.rmtree(folder)
    made_up.study(tmp_path / "tables")
    shutil.copy(tmp_path / "tables" / "accuracy.csv", kept)
    sections = sections_of(opened(kept))
    (fold,) = blocks(section(sections, "Results of the study"), Fold)
    assert fold.blocks == section(sections, "Summary").blocks[:2]
    vit, cnn = fold.blocks
    assert isinstance(vit, Charts) and isinstance(cnn, Charts)
    assert (vit.title, cnn.title, vit.grey) == ("ViT", "CNN", ["SimMIM"])
    assert "Bars: 95 % bootstrap intervals over 50 images." in vit.caption and not cnn.caption
    assert "Shaded: order ratios 0.3 to 0.7." in vit.caption
    assert "Grid 8×8, output log-odds, baseline mean colour, pairs within radius 2, data photos." in vit.caption
    shown = [(curve.name, list(curve.y)) for group in (vit, cnn) for curve in group.charts[0].curves]
    assert shown == [(run.name, table["J"].tolist()) for run, table in zip(runs, tables, strict=True)]
    cards = blocks(section(sections, "Models and runs"), Card)
    assert [(card.name, card.facts["commit"]) for card in cards] == [
        ("ViT SimMIM", "89abcdef"),
        ("ViT A²MIM", "89abcdef"),
        ("CNN A²MIM", "89abcdef"),
    ]
    (kept / "curve-0.csv").unlink()
    (fold,) = blocks(section(sections_of(opened(kept)), "Results of the study"), Fold)
    assert isinstance(fold.blocks[0], Picture)


@pytest.fixture(scope="module")
def committed():
    """The sections of the study in experiments/results."""
    return sections_of(open_runs([Path(__file__).parents[2] / "experiments" / "results" / "cifar10"], ["study"]))


def test_the_page_of_the_committed_study_has_charts_and_stays_below_two_megabytes(committed, tmp_path: Path):
    folds = {fold.summary: fold.blocks for fold in blocks(section(committed, "Results of the study"), Fold)}
    for name in ("fig5", "figA1", "figA2"):
        assert all(isinstance(block, Charts) for block in folds[f"Figure {name}"])
    assert write_report(tmp_path / "page.html", committed).stat().st_size < 2e6


def test_pictures_are_the_newest_and_pair_maps_are_found(tmp_path: Path):
    runs = opened(made_up.training(tmp_path / "a"), made_up.study(tmp_path / "study"))
    found = section(sections_of(runs), "Pictures and pair maps")
    (gallery,), (pair_map,) = blocks(found, Gallery), blocks(found, Picture)
    assert list(gallery.columns) == ["original", "masked", "predicted", "composite"]
    path = runs[0].folder / "pictures" / "step-00000400.npz"
    shutil.copyfile(path, runs[0].folder / "a.npz")
    np.savez(runs[0].folder / "matches.npz", other=np.zeros(3))
    for written, name in ((2e9, "a"), (3e9, "matches")):
        os.utime(runs[0].folder / f"{name}.npz", (written, written))
    (other,) = blocks(section(sections_of(runs), "Pictures and pair maps"), Gallery)
    assert "together (a)" in other.caption
    assert "step-00000400" in gallery.caption and pair_map.source.name == "cat.png" and pair_map.thumbnail


def test_kept_pairs_are_drawn_as_often_as_asked(tmp_path: Path):
    runs = opened(*(made_up.kept_pairs(tmp_path / name) for name in "ab"))
    found = section(sections_of(runs, maps=1), "Pictures and pair maps")
    (drawn,) = blocks(found, Picture)
    assert drawn.source[:8] == b"\x89PNG\r\n\x1a\n" and "a: pairs of photo 0 at order 97 (ratio 0.5)" in drawn.caption
    assert "Kept pairs are drawn for 1 of 2 profiles." in found.blocks


def test_kept_pairs_are_drawn_over_the_thumbnail_of_their_image(tmp_path: Path, monkeypatch):
    folder = made_up.kept_pairs(tmp_path / "a")
    pixels, file = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8), BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    about = json.loads((folder / "run.json").read_text())
    drawn = []
    monkeypatch.setattr(pictures, "draw_pair_map", lambda image, side, *_, **__: drawn.append((image, side)))
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"")
    for kept in (base64.b64encode(file.getvalue()).decode(), None, "no picture"):
        monkeypatch.undo() if kept == "no picture" else None
        (folder / "run.json").write_text(json.dumps(about | {"thumbnail": kept}))
        if kept == "no picture":
            with pytest.raises(ValueError, match=r"run\.json is damaged \(its thumbnail is no picture\)"):
                sections_of(opened(folder))
        else:
            (shown,) = blocks(section(sections_of(opened(folder)), "Pictures and pair maps"), Picture)
            assert shown.thumbnail and ("cells are blank" in shown.caption) == (kept is None)
    np.testing.assert_array_equal(drawn[0][0], pixels)
    assert drawn[0][1] == 14 and drawn[1][0].min() == 1


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
    made_up.occlusion(folders[0])
    assert [run.name for run in told_apart(opened(*folders, names=("ViT", "ViT")))] == ["ViT · 1", "ViT · 2"]
    folders[0] = made_up.profile(tmp_path / "anew", seed=0)
    runs = opened(*folders, runs[2].folder, names=("ViT", "ViT", "ViT"))
    sections = sections_of(runs)
    (charts,) = blocks(section(sections, "Interaction strength by order"), Charts)
    assert [(curve.name, curve.legend) for curve in charts.charts[0].curves] == [("ViT · 1", "ViT"), ("ViT · 2", "ViT")]
    (masses,) = blocks(section(sections, "Interaction strength by order"), Rows)
    assert list(masses.table["run"]) == ["ViT · 1"] * 3 + ["ViT · 2"] * 3
    cards = [card.name for card in blocks(section(sections, "Models and runs"), Card)]
    assert cards == ["ViT · 1", "ViT · 2", "ViT"]


def test_charts_of_a_study_have_the_notes_of_its_figures():
    sections = sections_of(open_runs([Path(__file__).parents[2] / "experiments" / "results" / "lite0"]))
    summary = [charts.caption for charts in blocks(sections[0], Charts)]
    folds = {fold.summary: fold.blocks[0].caption for fold in blocks(section(sections, "Results of the study"), Fold)}
    assert len(summary) == 1 and folds["Figure fig5"] == summary[0]
    assert "Left out: J_rms of random weights (EfficientNet-Lite0) at order 38, 58" in summary[0]
    assert summary[0].startswith("These runs differ in number of images (324: ")
    assert folds["Figure fig1"].startswith("Not given, and so not drawn: occlusion of random weights")


def test_charts_of_a_study_say_what_their_figures_say(committed):
    """Of bars and seeds, since a page draws each seed as a curve with bars; all else word for word."""
    found = section(committed, "Results of the study")
    captions = {fold.summary: fold.blocks[0].caption for fold in blocks(found, Fold)}
    seeds = "Curves that look alike: 3 training seeds."
    for name, said in {
        "figA2": "95 % bootstrap intervals over 100 images",
        "fig1": "Accuracy: dropped are random cells. Bars: 95 % intervals over 200 images",
        "figA3": "at the highest frequency of a map. Bars: 95 % bootstrap intervals over 200 images",
        "figA4": "Variance over the positions of a map, in squared units of the features. Bars: 95 %",
    }.items():
        caption = captions[f"Figure {name}"]
        assert said in caption and seeds in caption and "Bands" not in caption and "band:" not in caption
    assert "Grid 8×8, output cosine similarity, baseline blur" in captions["Figure figA2 blur"]
    assert "Grid 8×8, baseline zero after normalisation, data CIFAR-10 test." in captions["Figure fig1"]


def test_contexts_of_a_study_are_not_called_published(committed):
    found = blocks(section(committed, "Results of the study"), Rows)
    (rows,) = [rows for rows in found if "contexts" in rows.table]
    assert "but for its 50 contexts a pair: ×1 as many as the study has passes for" in rows.caption


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


def test_the_declared_test_of_a_study_stands_before_all_its_differences(tmp_path: Path):
    study = made_up.study(tmp_path / "study")
    table = pd.read_csv(study / "differences.csv").assign(p_holm=0.04, answer="yes")
    table.to_csv(study / "declared.csv", index=False)
    declared = blocks(section(sections_of(opened(study)), "Results of the study"), Rows)[-2]
    assert declared.caption.startswith("The declared test: does A²MIM raise M?") and declared.plot == "difference"
    assert set(declared.table["answer"]) == {"yes"}


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
    figures = [fold.blocks[0] for fold in blocks(section(sections, "Results of the study"), Fold)]
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


def test_twenty_runs_of_everything_stay_below_two_megabytes(tmp_path: Path):
    made = made_up.profile, made_up.occlusion, made_up.spectrum, made_up.training
    runs = opened(*(folder for make in made for folder in twenty(make, tmp_path)))
    page = write_report(tmp_path / "page.html", sections_of(runs))
    text = page.read_text("utf-8")
    assert len(re.findall(r'class="point', text)) > 20 * (5 * 13 + 22 + 2 * 24 + 5 * 17 + 40) * 0.95
    assert page.stat().st_size < 2e6


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


@pytest.mark.parametrize(
    ("table", "column"),
    [("masses.csv", "network"), ("masses.csv", "M"), ("masses.csv", "seed"), ("differences.csv", "method_b"),
     ("differences.csv", "difference"), ("differences.csv", "high")],
)  # fmt: skip
def test_a_table_of_a_study_that_lacks_a_column_is_one_sentence(tmp_path: Path, table, column):
    folder = made_up.study(tmp_path / "study")
    pd.read_csv(folder / table).drop(columns=column).to_csv(folder / table, index=False)
    with pytest.raises(ValueError, match=rf"{table} of study .* lacks the column {column}"):
        sections_of(opened(folder))


def test_a_mass_without_its_number_of_images_is_one_sentence(tmp_path: Path):
    folder = made_up.profile(tmp_path / "a")
    pd.read_csv(folder / "middle_mass.csv").drop(columns="images").to_csv(folder / "middle_mass.csv", index=False)
    with pytest.raises(ValueError, match=r"middle_mass\.csv of a .* lacks the column images"):
        sections_of(opened(folder))


DRAWN = {"folder": "there", "name": "a", "panel": "", "files": {"strength.csv": "0123"}, "commit": "89abcdef"}


@pytest.mark.parametrize(
    "runs",
    [None, 3, *([each] for each in (DRAWN | {"panel": None}, DRAWN | {"folder": [7]}, DRAWN | {"versions": [1]}, "a"))],
)
def test_what_is_no_record_of_runs_beside_a_figure_is_passed_over(tmp_path: Path, runs):
    folder = made_up.study(tmp_path / "study")
    (folder / "fig5.json").write_text(json.dumps({"figure": "fig5", "runs": runs}))
    sections = sections_of(opened(folder))
    assert "Models and runs" not in [each.title for each in sections]
    write_report(tmp_path / "page.html", sections)
    beside = runs if isinstance(runs, list) else []
    (folder / "fig5.json").write_text(json.dumps({"figure": "fig5", "runs": [*beside, DRAWN]}))
    (card,) = blocks(section(sections_of(opened(folder)), "Models and runs"), Card)
    assert card.facts["commit"] == "89abcdef"


def test_many_runs_show_their_differences_to_the_first_alone(tmp_path: Path):
    """Of every two of sixty runs there are 1,770, which nobody reads, on a page of 4 MB."""
    first = made_up.profile(tmp_path / "0")
    folders = [first, *(shutil.copytree(first, tmp_path / str(k)) for k in range(1, 60))]
    rows = [
        [a, b, measure, 0.1234567, 0.0512345, 0.2123456, 50]
        for (a, b), measure in product(combinations(map(str, range(60)), 2), ("J", "J_corrected", "J_rms"))
    ]
    columns = ["run_a", "run_b", "measure", "difference", "low", "high", "images"]
    table = pd.DataFrame(rows, columns=columns)
    runs = opened(*folders)
    sections = sections_of(runs, table)
    tables = [each for found in sections for each in blocks(found, Rows) if "run_b" in each.table]
    assert [len(each.table) for each in tables] == [59, 3 * 59]
    assert all("to the first run, 0, alone: 60 runs have 1,770 pairs" in each.caption for each in tables)
    assert write_report(tmp_path / "page.html", sections).stat().st_size < 2e6
    few = sections_of(runs[:3], table)
    assert [len(each.table) for found in few for each in blocks(found, Rows) if "run_b" in each.table] == [3, 9]


def test_a_coarse_map_keeps_all_of_its_frequencies(tmp_path: Path):
    folder = made_up.spectrum(tmp_path / "a", blocks=2, frequencies=29)
    table = pd.read_csv(folder / "spectrum.csv")
    coarse = table[(table["block"] == 1)].iloc[[0, 5, 11, 17]].assign(frequency=[0, 2 / 7, 4 / 7, 6 / 7])
    pd.concat([table[table["block"] == 0], coarse]).to_csv(folder / "spectrum.csv", index=False)
    (whole,) = blocks(section(sections_of(opened(folder)), "Spectrum by depth"), Fold)[0].blocks
    fine, few = whole.charts[0].curves
    assert len(fine.x) == 17 and few.x == pytest.approx([0, 2 / 7, 4 / 7, 6 / 7])


def test_names_with_a_dot_are_no_seeds(tmp_path: Path):
    makers = {"Interaction strength by order": made_up.profile, "Training": made_up.training}
    for title, make in makers.items():
        folders = [make(tmp_path / f"{make.__name__}{k}") for k in range(3)]
        runs = opened(*folders, names=("ViT · a", "ViT · b", "ViT · b"))
        curves = blocks(section(sections_of(runs), title), Charts)[0].charts[0].curves
        assert [curve.legend for curve in curves] == ["ViT · a", "ViT · b", "ViT · b"]


@pytest.mark.parametrize("most", [100, 200_000])
def test_a_picture_that_unpacks_to_too_much_is_one_sentence(tmp_path: Path, monkeypatch, most):
    """Pillow refuses one of twice its limit, and warns of smaller ones."""
    study = made_up.study(tmp_path / "study")
    sections = sections_of(opened(study))
    folder, file = made_up.kept_pairs(tmp_path / "a"), BytesIO()
    Image.new("1", (660, 400)).save(file, "PNG")
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(about | {"thumbnail": base64.b64encode(file.getvalue()).decode()}))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
    with pytest.raises(ValueError, match=r"fig5\.png cannot be read as a picture: Image size \(264000 pixels"):
        write_report(tmp_path / "page.html", sections)
    with pytest.raises(ValueError, match="its thumbnail is no picture"):
        sections_of(opened(folder))
