"""How a training run went: its loss with its parts, and its learning rate, from the log that it wrote."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from scipy.optimize import nnls

from figures.panels import new_axes
from figures.style import COLOURS, GREY, INK, house_style, page, save
from figures.tables import read_table

COLUMNS = ("step", "loss", "lr")
LONG = 100  # entries from which a running mean is drawn
EXACT, SMALL = 1e-4, 1e-3  # of the loss: what its parts may miss of it; what no part is below


class Part(NamedTuple):
    """A summand of the loss: its name in the log, and the weight that it has in the loss."""

    name: str
    weight: float


@house_style()
def draw_loss(
    log: str | Path | pd.DataFrame, path: str | Path, title: str = "", caption: str = "", note: str = ""
) -> Figure:
    """Draw the loss of every logged step, its running mean, the parts that it is the sum of where the log holds them,
    and below them the learning rate.

    Args:
        log: JSON lines, those with step, loss and lr are drawn; or a DataFrame with these columns. Where a step
            comes twice, because a resumed run went over it again, the later one counts.
        path: .png, .pdf or .svg.
        title, caption, note: words above and below; the note stands out.

    Raises:
        FileNotFoundError: no such log.
        ValueError: a line that is not JSON (an unfinished last one is passed over); no line with all of step, loss and
            lr; another suffix.
    """
    rows = _rows(log)
    parts = parts_of(rows)
    words = [caption]
    if parts:
        words.append(f"The loss is {' + '.join(map(_term, parts))}; the parts are drawn with their weights.")
    if len(rows) >= LONG:
        words.append(f"Faint: as logged; lines: exponential means, span {_span(rows)}.")
    figure = page(2.5, title, note, " ".join(filter(None, words)))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    plot_loss(rows, above)
    below.plot(rows["step"], rows["lr"], color=GREY)
    below.set_ylim(bottom=0)
    below.set_ylabel("learning\nrate")
    below.set_xlabel("step")
    below.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    below.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    below.ticklabel_format(axis="y", scilimits=(-2, 3), useMathText=True)
    save(figure, path)
    return figure


def plot_loss(log: str | Path | pd.DataFrame, axes: Axes | None = None) -> Axes:
    """Draw the loss and its parts into axes, of your own or new ones. Returns the axes. Raises as `draw_loss`."""
    rows = _rows(log)
    axes = new_axes() if axes is None else axes
    parts = parts_of(rows)
    curves = [("loss", rows["loss"], INK if parts else COLOURS[0])]
    for k, part in enumerate(parts):
        curves.append((_term(part), part.weight * rows[part.name], COLOURS[k % len(COLOURS)]))
    for name, values, colour in curves:
        if len(rows) < LONG:
            axes.plot(rows["step"], values, color=colour, marker="o", markersize=2, label=name)
        else:
            smooth = values.ewm(span=_span(rows), ignore_na=True).mean().where(values.notna())
            axes.plot(rows["step"], values, color=colour, linewidth=0.4, alpha=0.35)
            axes.plot(rows["step"], smooth, color=colour, label=name)
    if parts:
        axes.legend(loc="upper right")
        axes.set_ylim(bottom=0)
    if _spread(rows["loss"]) > 30:
        axes.set_ylim(auto=True)
        axes.set_yscale("log")
    axes.set_ylabel("loss")
    return axes


def parts_of(rows: pd.DataFrame) -> list[Part]:
    """The columns of a log that the loss is a weighted sum of, with the weights, which are the same at every step;
    empty where there are none, or too few entries to tell. What a log holds beside the loss need be no part of it:
    accuracies and entropies are none."""
    others = [str(name) for name in rows if name not in COLUMNS and rows[name].notna().all()]
    loss = rows["loss"].to_numpy()
    if not others or len(rows) < 3 * len(others) + 3 or not np.isfinite(loss).all():
        return []
    values = rows[others].to_numpy(dtype=float)
    scale = np.abs(values).max(axis=0)
    scale[scale == 0] = 1.0
    weights = nnls(values / scale, loss)[0] / scale
    found = [
        Part(name, float(weight))
        for name, weight, column in zip(others, weights, values.T, strict=True)
        if np.abs(weight * column).max() > SMALL * np.abs(loss).max()
    ]
    missed = loss - sum(part.weight * rows[part.name].to_numpy() for part in found)
    return found if len(found) > 1 and np.abs(missed).max() <= EXACT * np.abs(loss).mean() else []


def read_log(log: str | Path) -> pd.DataFrame:
    """The lines of a JSONL log that hold step, loss and lr, in the order written, with all of their numbers.

    Raises:
        FileNotFoundError, ValueError: as `draw_loss`.
    """
    log = Path(log)
    if not log.is_file():
        raise FileNotFoundError(f"the training log {log} does not exist")
    lines = log.read_text(encoding="utf-8").split("\n")
    entries = [_entry(line, k, log, last=k == len(lines)) for k, line in enumerate(lines, 1) if line.strip()]
    rows = [entry for entry in entries if set(COLUMNS) <= entry.keys()]
    if not rows:
        raise ValueError(f"the training log {log} holds no line with {', '.join(COLUMNS)}: there is nothing to draw")
    others = [name for name, value in rows[0].items() if name not in COLUMNS and isinstance(value, int | float)]
    return pd.DataFrame(rows)[[*COLUMNS, *others]].apply(pd.to_numeric, errors="coerce").astype(float)


def _rows(log: str | Path | pd.DataFrame) -> pd.DataFrame:
    """The log by step, each step once."""
    table = log if isinstance(log, pd.DataFrame) else read_log(log)
    rows = read_table(table, COLUMNS, [], "the training log").drop_duplicates("step", keep="last")
    return rows.sort_values("step", ignore_index=True)


def _term(part: Part) -> str:
    return part.name if abs(part.weight - 1) < 1e-3 else f"{part.weight:.3g} × {part.name}"


def _span(rows: pd.DataFrame) -> int:
    """Of the running mean."""
    return len(rows) // 50


def _entry(line: str, number: int, log: Path, last: bool) -> dict:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        if last:  # a line without its line break: the run was stopped while it wrote it
            return {}
        raise ValueError(f"line {number} of the training log {log} is not JSON: {error}") from error
    return entry if isinstance(entry, dict) else {}


def _spread(loss: pd.Series) -> float:
    """The largest loss over the median one; 1 where a logarithm could not show them all."""
    finite = loss[np.isfinite(loss)]
    return float(finite.max() / finite.median()) if len(finite) and finite.min() > 0 else 1.0
