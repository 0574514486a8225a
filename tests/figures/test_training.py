import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from figures.training import draw_loss, parts_of, plot_loss, read_log
from tests.figures.readable import assert_readable


def write_log(path: Path, entries: list[dict], end: str = "") -> Path:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + end)
    return path


def entries(count: int) -> list[dict]:
    return [{"kind": "train", "step": k, "loss": 1 + 1 / (k + 1), "lr": 1e-3 * k} for k in range(count)]


def panels(figure: Figure) -> list[Any]:
    """The axes; their artists have more methods than their types say."""
    return list(figure.axes)


@pytest.mark.rendered
def test_a_short_log_is_drawn_point_by_point(tmp_path: Path):
    log = write_log(tmp_path / "log.jsonl", [*entries(5), {"kind": "evaluate", "step": 5, "top1": 0.4}])
    above, below = panels(draw_loss(log, tmp_path / "loss.png", "A run"))
    np.testing.assert_allclose(above.lines[0].get_xydata(), [(k, 1 + 1 / (k + 1)) for k in range(5)])
    np.testing.assert_allclose(below.lines[0].get_ydata(), 1e-3 * np.arange(5))
    assert (above.get_ylabel(), below.get_xlabel()) == ("loss", "step") and below.get_ylim()[0] == 0
    assert above.get_legend() is None and (tmp_path / "loss.png").stat().st_size > 5_000


def test_a_long_log_gets_a_running_mean_of_what_came_before(tmp_path: Path):
    loss = np.random.default_rng(0).normal(2, 0.1, 500)
    table = pd.DataFrame({"step": np.arange(500), "loss": loss, "lr": 0.1})
    above, _ = panels(draw_loss(table, tmp_path / "loss.svg"))
    logged, smooth = (line.get_ydata() for line in above.lines)
    np.testing.assert_array_equal(logged, loss)
    weights = (1 - 2 / 11) ** np.arange(500)  # an exponential mean of span 10
    expected = [(loss[k::-1] * weights[: k + 1]).sum() / weights[: k + 1].sum() for k in range(500)]
    np.testing.assert_allclose(smooth, expected)
    assert "lines: exponential means, span 10." in " ".join((tmp_path / "loss.svg").read_text().split())


def with_parts(count: int, **others) -> pd.DataFrame:
    """A loss of one part and 0.1 of another, and what is no part of it."""
    g = np.random.default_rng(0)
    spatial, fourier = g.uniform(0.2, 0.4, count), g.uniform(1, 2, count)
    table = pd.DataFrame({"step": np.arange(count), "loss": spatial + 0.1 * fourier, "lr": 0.1})
    return table.assign(
        spatial=spatial, fourier=fourier, accuracy=g.random(count), epoch=np.arange(count) / 9, **others
    )


@pytest.mark.rendered
def test_the_parts_of_a_loss_are_drawn_with_their_weights(tmp_path: Path):
    table = with_parts(40)
    log = write_log(tmp_path / "log.jsonl", table.to_dict("records"))
    figure = draw_loss(log, tmp_path / "loss.png")
    curves = {line.get_label(): line.get_ydata() for line in panels(figure)[0].lines}
    assert list(curves) == ["loss", "spatial", "0.1 × fourier"]
    np.testing.assert_allclose(curves["spatial"], table["spatial"])
    np.testing.assert_allclose(curves["0.1 × fourier"], 0.1 * table["fourier"], rtol=1e-6)
    assert "The loss is spatial + 0.1 × fourier" in " ".join(figure.texts[-1].get_text().split())
    assert_readable(figure)


@pytest.mark.parametrize("spoil", ["few entries", "no sum", "one part", "other weights"])
def test_columns_that_do_not_sum_to_the_loss_are_no_parts_of_it(spoil: str):
    table = with_parts(40)
    if spoil == "few entries":
        table = table[:12]
    elif spoil == "no sum":
        table["loss"] = table["loss"] * (1 + 0.01 * table["accuracy"])
    elif spoil == "one part":
        table["loss"] = 2 * table["spatial"]
    else:
        table.loc[20:, "loss"] = table["spatial"] + 0.2 * table["fourier"]
    assert parts_of(table) == []
    mine = Figure().subplots()
    assert plot_loss(table, mine) is mine and len(mine.lines) == 1


def test_a_step_gone_over_again_counts_once(tmp_path: Path):
    again = [{"step": 3, "loss": 9.0, "lr": 0.0}, {"step": 4, "loss": 8.0, "lr": 0.0}]
    log = write_log(tmp_path / "log.jsonl", entries(5) + again)
    above, _ = panels(draw_loss(log, tmp_path / "loss.png"))
    np.testing.assert_allclose(above.lines[0].get_xydata(), [(0, 2), (1, 1.5), (2, 4 / 3), (3, 9), (4, 8)])


def test_a_line_cut_short_at_the_end_is_passed_over_and_one_in_the_middle_is_named(tmp_path: Path):
    assert len(read_log(write_log(tmp_path / "log.jsonl", entries(4), '{"step": 4, "lo'))) == 4
    write_log(tmp_path / "log.jsonl", entries(2), '{"step": 2, "lo\n' + json.dumps(entries(1)[0]) + "\n")
    with pytest.raises(ValueError, match=r"^line 3 of the training log .*log\.jsonl is not JSON"):
        read_log(tmp_path / "log.jsonl")


def test_a_loss_that_explodes_or_is_no_number_can_be_drawn(tmp_path: Path):
    rows = [*entries(5), {"step": 5, "loss": 1e6, "lr": 0.0}, {"step": 6, "loss": float("nan"), "lr": 0.0}]
    above = draw_loss(write_log(tmp_path / "log.jsonl", rows), tmp_path / "loss.png").axes[0]
    assert above.get_yscale() == "log"
    rows[2]["loss"] = -1.0
    above = draw_loss(write_log(tmp_path / "log.jsonl", rows), tmp_path / "loss.png").axes[0]
    assert above.get_yscale() == "linear"


def test_no_log_and_nothing_in_it_are_one_sentence_each(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"log\.jsonl does not exist"):
        draw_loss(tmp_path / "log.jsonl", tmp_path / "loss.png")
    write_log(tmp_path / "log.jsonl", [{"step": 1, "loss": 2.0}, {"lr": 1}])
    with pytest.raises(ValueError, match="no line with step, loss, lr"):
        draw_loss(tmp_path / "log.jsonl", tmp_path / "loss.png")
    with pytest.raises(ValueError, match="lacks the column lr"):
        draw_loss(pd.DataFrame({"step": [1], "loss": [2.0]}), tmp_path / "loss.png")
    assert not (tmp_path / "loss.png").exists()
