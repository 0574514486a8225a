"""How a training run went: its loss and learning rate against the step, from the log that it wrote."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from figures.style import BLUE, GREY, SINGLE_COLUMN, house_style, page, save
from figures.tables import read_table

COLUMNS = ("step", "loss", "lr")


@house_style()
def draw_loss(
    log: str | Path | pd.DataFrame, path: str | Path, title: str = "", caption: str = "", note: str = ""
) -> Figure:
    """Draw the loss of every logged step, its running mean, and below them the learning rate.

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
    table = log if isinstance(log, pd.DataFrame) else read_log(log)
    rows = read_table(table, COLUMNS, [], "the training log").drop_duplicates("step", keep="last")
    rows = rows.sort_values("step", ignore_index=True)
    figure = page(SINGLE_COLUMN, 2.9, title, note, caption)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    if len(rows) < 100:
        above.plot(rows["step"], rows["loss"], color=BLUE, marker="o", markersize=2)
    else:
        span = len(rows) // 50
        smooth = rows["loss"].ewm(span=span, ignore_na=True).mean().where(rows["loss"].notna())
        above.plot(rows["step"], rows["loss"], color=BLUE, linewidth=0.5, alpha=0.4, label="logged")
        above.plot(rows["step"], smooth, color=BLUE, label=f"exponential mean, span {span}")
        above.legend(loc="upper right")
    if _spread(rows["loss"]) > 30:
        above.set_yscale("log")
    above.set_ylabel("loss")
    below.plot(rows["step"], rows["lr"], color=GREY)
    below.set_ylim(bottom=0)
    below.set_ylabel("learning\nrate")
    below.set_xlabel("step")
    below.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    below.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    below.ticklabel_format(axis="y", scilimits=(-2, 3), useMathText=True)
    save(figure, path)
    return figure


def read_log(log: str | Path) -> pd.DataFrame:
    """The lines of a JSONL log that hold step, loss and lr, in the order written.

    Raises:
        FileNotFoundError, ValueError: as `draw_loss`.
    """
    log = Path(log)
    if not log.is_file():
        raise FileNotFoundError(f"the training log {log} does not exist")
    lines = log.read_text(encoding="utf-8").split("\n")
    entries = [_entry(line, k, log, last=k == len(lines)) for k, line in enumerate(lines, 1) if line.strip()]
    rows = [[entry[column] for column in COLUMNS] for entry in entries if set(COLUMNS) <= entry.keys()]
    if not rows:
        raise ValueError(f"the training log {log} holds no line with {', '.join(COLUMNS)}: there is nothing to draw")
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=float)


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
