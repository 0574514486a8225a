from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from figures import fig1, fig5, fig_a1, fig_a2, strength
from figures.again import read_source
from figures.runs import open_runs, write_figure
from figures.style import grey_look, look
from tests.figures.made_up import NOTE, record, strength_table, texts, write_run
from tests.figures.readable import assert_readable
from tests.figures.test_curves import bands, caption, points, seen


def curve(axes, colour: str, kind: str = "mean") -> np.ndarray:
    """x and y of the line of one colour."""
    (line,) = [each for each in axes.lines if (each.get_gid() or "").startswith(kind) and each.get_color() == colour]
    return np.array(line.get_data())


def band(axes, colour: str) -> np.ndarray:
    """Lower and upper edge of the band of one colour."""
    return bands(axes)[colour.upper()]


def profiles(folder: Path, names, panels=(), tables=None, abouts=None):
    tables = tables or [strength_table(k) for k in range(len(names))]
    abouts = abouts or [record()] * len(names)
    folders = [
        write_run(folder / f"{k}", {"strength.csv": table}, about)
        for k, (table, about) in enumerate(zip(tables, abouts, strict=True))
    ]
    return open_runs(folders, names, panels)


@pytest.mark.parametrize("measure", ["J", "J_corrected", "J_rms"])
def test_every_panel_shows_its_runs_and_one_name_has_one_look(tmp_path: Path, measure: str):
    runs = profiles(tmp_path, ["SimMIM", "A²MIM", "A²MIM"], ["ViT", "ViT", "CNN"])
    drawn = fig5.draw(runs, measure=measure)
    vit, cnn = seen(drawn.figure)[:2]
    for axes, k, n in ((vit, 0, 0), (vit, 1, 1), (cnn, 1, 2)):
        table = strength_table(n)
        np.testing.assert_allclose(points(axes, look(k).colour, hollow=False), table[measure])
        np.testing.assert_allclose(curve(axes, look(k).colour)[1], table[measure])
        np.testing.assert_allclose(band(axes, look(k).colour), table[[f"{measure}_low", f"{measure}_high"]])
        np.testing.assert_allclose(curve(axes, look(k).colour)[0], table["ratio"])
    assert not points(cnn, look(0).colour, hollow=False).size
    assert (vit.get_title("left"), cnn.get_title("left")) == ("ViT", "CNN")
    assert vit.get_ylim() == cnn.get_ylim() and vit.get_ylim()[0] == 0
    names = texts(drawn.figure)
    assert names.count("SimMIM") == 1 and names.count("A²MIM") == 2  # beside the curves of each panel
    assert_readable(drawn.figure)
    assert drawn.files == {run: ["strength.csv"] for run in runs} and drawn.note == ""
    words = caption(drawn.figure)
    assert "95 % bootstrap intervals over 50 images" in words and "seeds" not in words
    assert "Grid 8×8, output log-odds, baseline mean colour, pairs within radius 2, data photos." in words


def test_the_shared_axis_holds_the_strongest_run_of_any_panel(tmp_path: Path):
    weak, strong = strength_table(0), strength_table(1)
    columns = [column for column in strong if column.startswith("J")]
    strong[columns] = 5 * strong[columns].select_dtypes("number")
    drawn = fig5.draw(profiles(tmp_path, ["a", "b"], ["weak", "strong"], tables=[weak, strong]))
    for axes in seen(drawn.figure)[:2]:
        bottom, top = axes.get_ylim()
        assert bottom == 0 and top > strong["J_corrected_high"].max()


def test_seeds_are_points_with_their_own_intervals_and_the_line_is_their_mean(tmp_path: Path):
    tables = [strength_table(k) for k in range(3)]
    tables[1]["J"] += 0.3
    drawn = fig5.draw(profiles(tmp_path, ["A²MIM"] * 3, tables=tables), measure="J")
    axes = seen(drawn.figure)[0]
    stacked = np.concatenate([table["J"] for table in tables])
    np.testing.assert_allclose(points(axes, look(0).colour, hollow=False), stacked)
    low, high = (np.array([table[f"J_{end}"] for table in tables]) for end in ("low", "high"))
    np.testing.assert_allclose(band(axes, look(0).colour), np.transpose([low.min(axis=0), high.max(axis=0)]))
    np.testing.assert_allclose(curve(axes, look(0).colour)[1], np.mean([table["J"] for table in tables], axis=0))
    assert (
        "Points: 3 training seeds; line: their mean; band: from the lowest to the highest of their intervals."
        in caption(drawn.figure)
    )


def test_where_a_seed_misses_a_point_so_does_the_mean(tmp_path: Path):
    tables = [strength_table(0), strength_table(1, missing_rms=(6,))]
    drawn = fig5.draw(profiles(tmp_path, ["one", "one"], tables=tables), measure="J_rms")
    axes = seen(drawn.figure)[0]
    assert np.isnan(curve(axes, look(0).colour)[1]).tolist() == [k == 6 for k in range(13)]
    assert len(points(axes, look(0).colour, hollow=False)) == 13 + 12
    assert f"Left out: J_rms of one at order 97 ({NOTE})." in caption(drawn.figure)


def test_points_near_the_floor_are_hollow(tmp_path: Path):
    table = strength_table(floor=0.01)
    drawn = fig5.draw(profiles(tmp_path, ["one"], tables=[table]))
    hollow = points(seen(drawn.figure)[0], look(0).colour, hollow=True)
    np.testing.assert_allclose(hollow, table.loc[table["near_floor"], "J_rms"])
    assert hollow.size and "Hollow" in caption(drawn.figure)


def test_raw_curves_to_a_precision_say_their_passes_also_when_drawn_again(tmp_path: Path):
    abouts = [record(budget=None) | {"passes": 100_000 * (k + 1), "images": 100} for k in range(2)]
    drawn = fig5.draw(runs := profiles(tmp_path / "runs", ["a", "b"], abouts=abouts), measure="J")
    assert "as a precision needed, 1,000 an image: a; as a precision needed, 2,000 an image: b" in drawn.note
    write_figure(drawn, tmp_path / "fig5", "fig5", runs, {"measure": "J"})
    source = read_source(tmp_path / "fig5.json")
    assert fig5.draw(source.runs, measure="J").note == source.note == drawn.note


def test_an_axis_reaches_down_to_what_is_negative(tmp_path: Path):
    table = strength_table()
    table.loc[5, ["J_corrected", "J_corrected_low"]] = -0.2, -0.4
    drawn = fig5.draw(profiles(tmp_path, ["one"], tables=[table]), measure="J_corrected")
    low = seen(drawn.figure)[0].get_ylim()[0]
    assert low < -0.4


def test_runs_that_measured_something_else_are_said_to(tmp_path: Path):
    runs = profiles(tmp_path, ["a", "b"], abouts=[record(), record(baseline="blur")])
    drawn = fig5.draw(runs)
    assert drawn.note == "These runs differ in baseline (mean colour: a; blur: b)."
    other = profiles(tmp_path / "other", ["a", "b"], abouts=[record(), record(target="predicted", budget=200)])
    assert "target (label: a; predicted: b)" in fig5.draw(other).note
    assert "passes" in fig5.draw(other, measure="J").note and "passes" not in fig5.draw(other).note
    assert drawn.note in " ".join(" ".join(texts(drawn.figure)).split())


def test_what_cannot_be_drawn_is_refused(tmp_path: Path):
    runs = profiles(tmp_path, ["a", "a"], tables=[strength_table(), strength_table().iloc[1:]])
    with pytest.raises(ValueError, match="the runs of a were not measured at the same points"):
        fig5.draw(runs)
    with pytest.raises(ValueError, match="no relative strength 'A': choose one of J_rms, J_corrected"):
        fig5.draw(runs, measure="A")
    broken = profiles(tmp_path / "broken", ["x"], tables=[strength_table().drop(columns="J_low")])
    with pytest.raises(ValueError, match=r"strength table of x \(.*strength.csv\) lacks the column J_low"):
        fig5.draw(broken, measure="J")
    with pytest.raises(ValueError, match=r"empty lacks strength.csv \(of `a2mim profile`\)"):
        fig5.draw(open_runs([write_run(tmp_path / "empty")]))
    many = profiles(tmp_path / "many", [f"{k}" for k in range(8)], [f"{k}" for k in range(8)])
    with pytest.raises(ValueError, match="cm tall, and a page holds 23: draw fewer runs or panels"):
        fig5.draw(many)
    with pytest.raises(ValueError, match="no run is called b: the names are 0, 1"):
        fig5.draw(many[:2], grey=["b"])


def test_figures_a1_and_a2_are_drawn_alike():
    assert fig_a1.draw is fig_a2.draw is fig5.draw


@pytest.mark.parametrize("count", [1, 12])
def test_every_name_stays_on_the_page(tmp_path: Path, count: int):
    """In a legend, where they are too long to stand beside the curves."""
    names = [f"a method with a $long name_{k}, which stands in a legend below the curves" for k in range(count)]
    figure = fig5.draw(profiles(tmp_path, names)).figure
    assert_readable(figure)
    legend = seen(figure)[-1].get_legend()
    assert [" ".join(text.get_text().split()) for text in legend.get_texts()] == names
    box, panel = legend.get_window_extent(), seen(figure)[0].get_tightbbox()
    assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and box.y1 <= panel.y0


def test_short_names_stand_beside_their_curves_in_the_order_of_their_ends(tmp_path: Path):
    tables = [strength_table(k).assign(J_rms=lambda rows, k=k: rows["J_rms"] + k) for k in (2, 0, 1)]
    axes = seen(fig5.draw(profiles(tmp_path, ["high", "low", "middle"], tables=tables)).figure)[0]
    places = {text.get_text(): text.get_position()[1] for text in axes.texts}
    assert places["low"] < places["middle"] < places["high"]
    assert [text.xy[1] for text in axes.texts] == [table["J_rms"].iloc[-1] for table in tables]


def test_context_is_grey_and_the_colours_go_to_the_others_in_every_panel(tmp_path: Path):
    names = ["supervised", "a", "b", "c", "d", "e", "supervised", "f"]
    panels = ["one"] * 6 + ["two"] * 2
    runs = profiles(tmp_path, names, panels)
    runs.append(replace(runs[1], panel="two"))  # a run may be in several panels, with one look
    drawn = fig5.draw(runs, grey=["supervised"])
    one, two = (
        {line.get_color() for line in axes.lines if "mean" in line.get_gid()} for axes in seen(drawn.figure)[:2]
    )
    greys = {grey_look(0).colour}
    assert one == greys | {look(k).colour for k in range(5)} and two == greys | {look(1).colour, look(0).colour}
    assert_readable(drawn.figure)


def test_the_table_is_read_whatever_its_order(tmp_path: Path):
    shuffled = strength_table().sample(frac=1, random_state=0)
    drawn = fig5.draw(profiles(tmp_path, ["a"], tables=[pd.DataFrame(shuffled)]))
    np.testing.assert_allclose(curve(seen(drawn.figure)[0], look(0).colour)[1], strength_table()["J_rms"])


def test_runs_without_any_interaction_have_empty_panels(tmp_path: Path):
    tables = [strength_table(k).assign(J_rms=np.nan, J_rms_low=np.nan, J_rms_high=np.nan) for k in range(2)]
    figure = fig5.draw(profiles(tmp_path, ["a", "b"], tables=tables)).figure
    assert not seen(figure)[0].texts and "No intervals." in caption(figure)


def other_images(about: dict) -> None:
    about["images"] = [{"image": k, "name": f"{k}.png", "target": 0} for k in range(30, 80)]


def other_classes(about: dict) -> None:
    about["images"] = [{**one, "target": int(k < 2)} for k, one in enumerate(about["images"])]


def other_pixels(about: dict) -> None:
    about["images"] = [{**one, "digest": one["digest"] + "0" * (k == 7)} for k, one in enumerate(about["images"])]


def another_crop(about: dict) -> None:
    about["data"] = about["data"] | {"transform": {"crop_mode": "center", "resize": 9, "interpolation": "bicubic"}}


def fewer_images(about: dict) -> None:
    about["images"] = about["images"][:20]


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda _: None, ""),
        (other_images, "These runs differ in images (50 in a; 50 in b; 20 in all)."),
        (other_classes, "These runs differ in target class (of 2 of 50 shared images)."),
        (fewer_images, "These runs differ in number of images (50: a; 20: b)."),
        (
            lambda about: about["settings"].update(only_correct=True),
            "These runs differ in filter (all images: a; correct ones alone: b).",
        ),
        (
            lambda about: about["settings"].update(normalisation={"mean": [0.5], "std": [0.25]}),
            "Networks of one kind (Net, 7 parameters) are shown images of mean 0.5 and deviation 0.5: a; of mean 0.5 "
            "and deviation 0.25: b; was each trained so?",
        ),
        (
            lambda about: about.update(image_shape=[3, 16, 16]),
            "Networks of one kind (Net, 7 parameters) are shown images of 8×8 px: a; of 16×16 px: b; was each trained "
            "so?",
        ),
        (
            another_crop,
            "Networks of one kind (Net, 7 parameters) are shown images of a centre crop of what was resized to 8 px, "
            "bicubic: a; of a centre crop of what was resized to 9 px, bicubic: b; was each trained so?",
        ),
        (
            lambda about: about.update(orders=about["orders"][1:]),
            "These runs differ in orders (0, 0.5, 1: a; 0.5, 1: b).",
        ),
        (
            other_pixels,
            "Of 50 shared images 1 have other pixels: are they the same photographs?",
        ),
        (
            lambda about: (
                about.update(settings=about["settings"] | {"normalisation": {"mean": [0], "std": [1]}})
                or about["model"].update(parameters=8)
            ),
            "Absent cells have each network's own mean colour, which is not one (0.5 in a; 0 in b; 0 is black, 1 "
            "white).",
        ),
        (lambda about: about.update(images=None, model={"parameters": "seven"}), ""),
    ],
)
def test_what_compare_refuses_or_tells_is_noted(change, note, tmp_path: Path):
    """Such figures had no note: a filter, other images, explained classes or pixels were not looked at."""
    abouts = [record(normalisation={"mean": [0.5], "std": [0.5]}) for _ in range(2)]
    for about in abouts:
        about["model"] |= {"class": "Net", "parameters": 7}
        about["images"] = [{**one, "target": 0, "digest": f"{k:x}"} for k, one in enumerate(about["images"])]
        about["image_shape"] = [3, 8, 8]
        about["data"] = about["data"] | {"transform": {"crop_mode": "center", "resize": 8, "interpolation": "bicubic"}}
        about["orders"] = [{"order": m, "ratio": m / 2} for m in range(3)]
    change(abouts[1])
    runs = profiles(tmp_path, ["a", "b"], abouts=abouts)
    drawn = fig5.draw(runs)
    assert drawn.note == note
    write_figure(drawn, tmp_path / "fig5", "fig5", runs, {})
    assert fig5.draw(read_source(tmp_path / "fig5.json").runs).note == note
    assert fig1.draw(runs).note.partition("Right: ")[2].lower() == note.lower()


def test_a_caption_says_which_images_and_which_class_where_these_are_not_the_usual_ones(tmp_path: Path):
    abouts = [record(only_correct=True, target=281), record(), record(target="runs/first")]
    chosen, usual, first = profiles(tmp_path, ["a", "b", "c"], abouts=abouts)
    assert "images correctly classified ones alone, class 281." in caption(fig5.draw([chosen]).figure)
    assert "class" not in caption(fig5.draw([usual]).figure) and "class of first." in caption(fig5.draw([first]).figure)
    assert "images correctly classified ones alone" in caption(strength.draw([chosen]).figure)


def test_networks_of_other_kinds_may_see_other_pixels_and_seeds_are_told_once(tmp_path: Path):
    abouts = [record(normalisation={"mean": [0.05 * k], "std": [0.5]}) for k in range(3)]
    for k, about in enumerate(abouts):
        about["model"] |= {"class": f"Net{k}", "parameters": 7}
        about["images"] = [{"image": n, "name": f"{n}.png"} for n in range(8 * (k > 1), 10 + 8 * (k > 1))]
    runs = profiles(tmp_path, ["a", "a", "b"], abouts=abouts)
    assert fig5.draw(runs).note == "These runs differ in images (10 in a; 10 in b; 2 in all)."
