"""Figures of spectrum.csv and variance.csv: what is drawn is what the tables say."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from figures.spectrum import DEPTHS, draw_spectrum, draw_variance
from tests.figures.made_up import texts
from tests.figures.readable import assert_readable

KINDS = ("stem", "attention", "mlp", "conv", "downsample")


def tables(blocks: int = 6, images: int = 9, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Made-up tables of one model: maps of 8×8, then of 5×5."""
    g, spectrum, variance = np.random.default_rng(seed), [], []
    for block in range(blocks):
        kind = KINDS[0] if block == 0 else KINDS[1 + block % 4]
        about = {"block": block, "name": f"b{block}", "kind": kind, "depth": block / (blocks - 1)}
        side = 8 if block < blocks // 2 else 5
        for k in range((side + 1) // 2):
            y = -k * (1 + block / 5)
            spread = {"low": y - 0.1 * k, "high": y + 0.2 * k}
            spectrum.append({**about, "frequency": 2 * k / side, "log_amplitude": y, **spread, "images": images})
        y = 10 ** g.normal()
        variance.append({**about, "variance": y, "low": 0.8 * y, "high": 1.3 * y, "images": images})
    return pd.DataFrame(spectrum), pd.DataFrame(variance)


def points(axes) -> np.ndarray:
    """(x, y) of every marker, by x."""
    made = [each for each in axes.collections if (each.get_gid() or "").startswith("points")]
    found = np.concatenate([each.get_offsets() for each in made])
    return found[found[:, 0].argsort()]


def bars(axes) -> np.ndarray:
    """(x, low, high) of every interval, by x."""
    made = [bar for bar in axes.collections if (bar.get_gid() or "").startswith("interval")]
    found = np.array([[one[0][0], one[0][1], one[1][1]] for bar in made for one in bar.get_segments()])
    return found[found[:, 0].argsort()]


@pytest.mark.rendered
def test_curves_and_highest_frequencies_are_the_tables(tmp_path: Path):
    table, _ = tables()
    figure = draw_spectrum({"a model": table}, tmp_path / "s.png", title="Title", caption="Made up.")
    above, below = figure.axes[:2]
    curves = [line for line in above.lines if len(line.get_xdata()) > 1]
    assert len(curves) == 6
    for block, curve in enumerate(curves):
        rows = table[table.block == block]
        np.testing.assert_allclose(curve.get_data(), rows[["frequency", "log_amplitude"]].to_numpy().T)
        assert to_hex(curve.get_color()) == to_hex(DEPTHS(block / 5))
    last = table.groupby("block").tail(1)
    np.testing.assert_allclose(points(below), last[["depth", "log_amplitude"]])
    np.testing.assert_allclose(bars(below), last[["depth", "low", "high"]])
    said = " ".join(texts(figure))
    for words in ("Title", "a model", "attention", "MLP", "convolution", "stem", "downsampling", "normalised depth"):
        assert words in said
    assert_readable(figure)
    assert "9 images" in " ".join(figure.texts[-1].get_text().split()) and "Made up." in said
    assert [file.name for file in tmp_path.iterdir()] == ["s.png"]


@pytest.mark.rendered
def test_models_below_each_other_share_their_axes_and_wrap_their_names(tmp_path: Path):
    names = [f"a model with a name that is longer than the column in which it stands, number {k}" for k in range(3)]
    made = {name: tables(seed=k)[0] for k, name in enumerate(names)}
    figure = draw_spectrum(made, tmp_path / "s.pdf")
    panels = [axes for axes in figure.axes if axes.lines]
    assert len(panels) == 6
    for kind in (panels[::2], panels[1::2]):
        assert len({axes.get_ylim() for axes in kind}) == 1
    assert all("\n" in axes.get_title(loc="left") for axes in panels[::2])
    assert_readable(figure)
    with pytest.raises(ValueError, match="cm tall, and a page holds 23"):
        draw_spectrum({str(k): tables(seed=k)[0] for k in range(9)}, tmp_path / "s.pdf")


def test_variance_is_the_table_on_a_shared_logarithmic_axis(tmp_path: Path):
    made = {f"model {k}": tables(seed=k)[1] for k in range(3)}
    figure = draw_variance(made, tmp_path / "v.svg")
    for axes, (name, rows) in zip(figure.axes[: len(made)], made.items(), strict=True):
        assert axes.get_yscale() == "log" and axes.get_title(loc="left") == name
        np.testing.assert_allclose(points(axes), rows[["depth", "variance"]])
        np.testing.assert_allclose(bars(axes), rows[["depth", "low", "high"]])
        made = [each for each in axes.collections if (each.get_gid() or "").startswith("points")]
        assert len({each.get_paths()[0].vertices.tobytes() for each in made}) == rows.kind.nunique()
        for each, (_, some) in zip(made, rows.groupby("kind"), strict=True):
            np.testing.assert_allclose(each.get_facecolors(), DEPTHS(some.depth.to_numpy()))


def test_kinds_look_the_same_in_every_panel_and_strange_ones_are_drawn(tmp_path: Path):
    one, other = tables()[1], tables()[1].assign(kind="recurrence")
    figure = draw_variance({"one": one, "other": other}, tmp_path / "v.png")
    assert len(points(figure.axes[1])) == 6 and "recurrence" in texts(figure)


def test_maps_without_variance_are_left_out_and_named(tmp_path: Path):
    _, rows = tables()
    rows.loc[2, ["variance", "low", "high"]] = 0
    figure = draw_variance({"a": rows}, tmp_path / "v.png")
    assert len(points(figure.axes[0])) == 5
    assert "Left out, without variance: b2 of a." in " ".join(figure.texts[-1].get_text().split())
    with pytest.raises(ValueError, match="no map varies"):
        draw_variance({"a": rows.assign(variance=0.0)}, tmp_path / "v.png")


def test_few_images_have_no_intervals_and_say_so(tmp_path: Path):
    spectrum, variance = (rows.assign(images=4, low=np.nan, high=np.nan) for rows in tables())
    for figure in (
        draw_spectrum({"a": spectrum}, tmp_path / "s.png"),
        draw_variance({"a": variance}, tmp_path / "v.png"),
    ):
        assert "No intervals: fewer than eight images." in " ".join(figure.texts[-1].get_text().split())


def test_from_files_and_in_any_order_the_same_bytes(tmp_path: Path):
    for rows, draw, name in zip(tables(), (draw_spectrum, draw_variance), ("spectrum", "variance"), strict=True):
        rows.to_csv(tmp_path / f"{name}.csv", index=False)
        draw({"a": tmp_path / f"{name}.csv"}, tmp_path / "a.svg")
        draw({"a": rows.sample(frac=1, random_state=0)}, tmp_path / "b.svg")
        assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_bad_input_is_one_sentence(tmp_path: Path):
    spectrum, variance = tables()
    with pytest.raises(ValueError, match="there is no model to draw"):
        draw_spectrum({}, tmp_path / "s.png")
    with pytest.raises(ValueError, match="the spectrum table of a lacks the columns frequency, log_amplitude"):
        draw_spectrum({"a": variance}, tmp_path / "s.png")
    with pytest.raises(ValueError, match="the variance table of a lacks the column variance"):
        draw_variance({"a": spectrum}, tmp_path / "v.png")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        draw_variance({"a": tmp_path / "none.csv"}, tmp_path / "v.png")
    with pytest.raises(ValueError, match=r"end its name in \.png"):
        draw_variance({"a": variance}, tmp_path / "v.jpg")
    assert not list(tmp_path.iterdir())
