from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from figures.occlusion import draw_occlusion, plot_occlusion
from figures.style import look
from tests.figures.made_up import texts
from tests.figures.readable import assert_readable
from tests.figures.test_curves import bands

SHARES = np.linspace(0, 1, 11)


def occlusion_table(seed: int = 0, kinds: tuple[str, ...] = ("random", "salient", "non_salient")) -> pd.DataFrame:
    g = np.random.default_rng(seed)
    parts = []
    for k, kind in enumerate(kinds):
        top1 = 80 * (1 - SHARES ** (1 + k)) + g.random(11)
        part = pd.DataFrame({"kind": kind, "share": SHARES, "dropped": np.arange(11), "top1": top1})
        part["low"], part["high"] = top1 - 3, top1 + 2
        parts.append(part.assign(images=100, seeds=3 if kind == "random" else 1))
    return pd.concat(parts, ignore_index=True)


def shuffling_table() -> pd.DataFrame:
    top1 = np.array([80.0, 60, 30, 5])
    columns = {"grid": [1, 2, 4, 8], "top1": top1, "low": top1 - 3, "high": top1 + 2}
    return pd.DataFrame({**columns, "images": 100, "seeds": 3})


def test_draws_are_told_of_what_was_drawn(tmp_path):
    salient = occlusion_table(0).query("kind == 'salient'").assign(seeds=1)
    figure = draw_occlusion({"a": salient}, tmp_path / "o.png", {"a": shuffling_table()})
    caption = " ".join(figure.texts[-1].get_text().split())
    assert caption.startswith("Bands: 95 % intervals over 100 images, with 3 shuffles for each.")


def curves(axes) -> dict[str, np.ndarray]:
    return {line.get_color(): line.get_ydata() for line in axes.lines if (line.get_gid() or "").startswith("mean")}


@pytest.mark.rendered
def test_each_kind_has_a_panel_with_every_run_and_its_intervals(tmp_path: Path):
    tables = {"a ViT": occlusion_table(0), "a CNN": occlusion_table(1)}
    figure = draw_occlusion(tables, tmp_path / "o.png", caption="Made up.")
    titles = {"random cells": "random", "the most salient cells first": "salient"}
    titles["the least salient cells first"] = "non_salient"
    assert [axes.get_title("left") for axes in figure.axes] == [*titles, ""]  # the last one holds the legend
    assert [text.get_text() for text in figure.axes[-1].get_legend().get_texts()] == list(tables)
    for axes in figure.axes[:3]:
        kind = titles[axes.get_title("left")]
        for k, table in enumerate(tables.values()):
            rows = table[table.kind == kind]
            np.testing.assert_array_equal(curves(axes)[look(k).colour], rows.top1)
            np.testing.assert_array_equal(bands(axes)[look(k).colour.upper()], rows[["low", "high"]])
        assert axes.get_ylim() == (0, 100)
    assert {"a ViT", "a CNN", "top-1 accuracy (%)", "share of cells dropped"} <= set(texts(figure))
    caption = " ".join(figure.texts[-1].get_text().split())
    assert caption.startswith("Made up. Bands: 95 % intervals over 100 images, with 3 draws")
    assert_readable(figure)
    assert (tmp_path / "o.png").stat().st_size > 10_000


@pytest.mark.rendered
def test_shuffled_patches_have_a_panel_where_they_were_measured(tmp_path: Path):
    tables = {"one": occlusion_table(kinds=("random",)), "other": occlusion_table(1, kinds=("random",))}
    figure = draw_occlusion(tables, tmp_path / "o.pdf", {"other": shuffling_table()})
    random, shuffled, _ = figure.axes
    assert shuffled.get_title("left") == "patches shuffled" and set(curves(random)) == {look(0).colour, look(1).colour}
    assert_readable(figure)
    assert list(curves(shuffled)) == [look(1).colour]
    np.testing.assert_array_equal(curves(shuffled)[look(1).colour], shuffling_table().top1)
    assert [label.get_text() for label in shuffled.get_xticklabels()] == ["1×1", "2×2", "4×4", "8×8"]


def test_a_table_in_a_file_is_the_same_figure(tmp_path: Path):
    occlusion_table().to_csv(tmp_path / "occlusion.csv", index=False)
    shuffling_table().to_csv(tmp_path / "shuffling.csv", index=False)
    draw_occlusion({"run": occlusion_table()}, tmp_path / "a.svg", {"run": shuffling_table()})
    draw_occlusion({"run": tmp_path / "occlusion.csv"}, tmp_path / "b.svg", {"run": tmp_path / "shuffling.csv"})
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.rendered
@pytest.mark.parametrize("kinds", [("random", "salient", "non_salient"), ("random", "salient")])
def test_the_legend_stands_below_the_panels_or_in_the_place_of_a_fourth(tmp_path: Path, kinds):
    tables = {f"a model with a longer name, {k}": occlusion_table(k, kinds) for k in range(7)}
    figure = draw_occlusion(tables, tmp_path / "o.png", caption="Made up.", note="They differ.")
    assert_readable(figure)
    legend = figure.axes[-1].get_legend().get_window_extent()
    for axes in figure.axes[:-1]:
        box = axes.get_tightbbox()
        assert box.y0 > legend.y1 or box.x1 < legend.x0 or box.y0 > legend.y0 + legend.height / 2
    assert len(curves(figure.axes[0])) == 5 + 2  # two are alike, as context


def test_one_kind_goes_into_axes_of_ones_own():
    table = occlusion_table()
    mine = Figure().subplots()
    assert plot_occlusion(table, mine, "salient", look(2)) is mine
    np.testing.assert_array_equal(curves(mine)[look(2).colour], table.loc[table.kind == "salient", "top1"])
    new: Any = plot_occlusion(table)
    assert new.get_ylim() == (0, 100) and new.get_xlabel() == "share of cells dropped"
    with pytest.raises(ValueError, match="has no salient cells"):
        plot_occlusion(occlusion_table(kinds=("random",)), mine, "salient")


def test_a_run_without_a_kind_is_absent_from_its_panel(tmp_path: Path):
    tables = {"all": occlusion_table(), "random only": occlusion_table(1, kinds=("random",))}
    figure = draw_occlusion(tables, tmp_path / "o.png")
    assert [len(curves(axes)) for axes in figure.axes[:3]] == [2, 1, 1]


def test_a_single_panel_without_intervals_is_drawn(tmp_path: Path):
    table = occlusion_table(kinds=("salient",)).assign(low=np.nan, high=np.nan, images=1)
    figure = draw_occlusion({"run": table}, tmp_path / "o.png")
    assert len(figure.axes) == 1 and "over 1 image." in figure.texts[-1].get_text().replace("\n", " ")


def test_what_cannot_be_drawn_is_said_in_one_sentence(tmp_path: Path):
    table = occlusion_table()
    for tables, shuffling, said in (
        ({}, None, "there is no run to draw"),
        ({"run": table.drop(columns="low")}, None, "the occlusion table of run lacks the column low"),
        ({"run": table.assign(kind="best")}, None, "has the kind 'best'"),
        ({"run": table}, {"other": shuffling_table()}, "other has a table of shuffling, but none of occlusion"),
        ({"run": table}, {"run": shuffling_table()[:0]}, "the shuffling table of run has no rows"),
    ):
        with pytest.raises(ValueError, match=said):
            draw_occlusion(tables, tmp_path / "o.png", shuffling)
    with pytest.raises(ValueError, match=r"end its name in \.png"):
        draw_occlusion({"run": table}, tmp_path / "o.txt")
