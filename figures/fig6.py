"""Figure 6 of the A²MIM paper (arXiv 2205.13943): accuracy against the place where the mask token goes."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy import stats

from figures.panels import FAMILIES, panel_page
from figures.runs import Drawn, Run, holding
from figures.style import BLUE, INK, house_style
from figures.tables import read_table

TABLE = "token_position.csv"
COMMAND = "python -m experiments.studies.token_position"
CONFIDENCE = 0.95
FEWEST = 3  # seeds that an interval is given for: with two, Student's t makes it wider than any axis


@house_style()
def draw(runs: Sequence[Run], title: str = "", caption: str = "") -> Drawn:
    """Draw a panel for each network: a bar for each position, in the order of the table, with its seeds as points.

    Args:
        runs: folders with token_position.csv: network, position, seed, top1 (per cent), one row for each.

    Raises:
        ValueError: a run without the table; a missing column; a seed twice.
    """
    runs = holding(runs, {TABLE: COMMAND})[TABLE]
    rows = pd.concat(
        [read_table(run.folder / TABLE, ["seed", "top1"], ["network", "position"], "the sweep") for run in runs]
    ).dropna(subset="top1")
    if rows.empty:
        raise ValueError("the sweep has no accuracy yet, so there is nothing to draw")
    twice = rows[rows.duplicated(["network", "position", "seed"])]
    if len(twice):
        raise ValueError("the sweep holds {network}, {position}, seed {seed} twice".format(**twice.iloc[0]))
    networks = list(rows["network"].unique())
    seeds = rows.groupby(["network", "position"])["seed"].nunique()
    words = [caption, _seed_words(seeds), "Top-1 accuracy after fine-tuning; the numbers are the means."]
    figure, axes = panel_page(
        [FAMILIES.get(str(network), str(network)) for network in networks],
        {},
        (2.2,),
        title,
        "",
        " ".join(filter(None, words)),
    )
    for each, network in zip(axes[0], networks, strict=True):
        _draw_bars(each, rows[rows["network"] == network])
    axes[0, 0].set_ylabel("top-1 accuracy (%)")
    axes[0, 0].set_ylim(0, 100)
    figure.align_xlabels(list(axes[0]))
    return Drawn(figure, {run: [TABLE] for run in runs}, "")


def interval(top1: Sequence[float]) -> tuple[float, float]:
    """Ends of Student's 95 % interval of the mean over the seeds; NaN for fewer than 3."""
    if len(top1) < FEWEST:
        return np.nan, np.nan
    middle, error = float(np.mean(top1)), stats.sem(top1)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(top1) - 1) * error)
    return middle - half, middle + half


def _draw_bars(axes: Axes, rows: pd.DataFrame) -> None:
    positions = list(rows["position"].astype(str).unique())
    for k, position in enumerate(positions):
        top1 = rows.loc[rows["position"].astype(str) == position, "top1"].to_numpy(dtype=float)
        axes.bar(k, top1.mean(), width=0.7, color=BLUE, alpha=0.45, linewidth=0)
        axes.text(k, 2, f"{top1.mean():.1f}", ha="center", va="bottom", size=6, rotation=90)
        axes.vlines(k + 0.25, *interval(top1), color=INK, linewidth=1.0).set_gid("interval of top1")
        spread = (np.arange(len(top1)) - (len(top1) - 1) / 2) * min(0.12, 0.4 / len(top1)) - 0.05
        axes.plot(k + spread, top1, "o", color=INK, markersize=2.6)
    axes.set_xticks(range(len(positions)), positions, rotation=40, ha="right", rotation_mode="anchor")
    for text in axes.get_xticklabels():
        text.set_parse_math(False)
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel("where the mask token goes")


def _seed_words(seeds: pd.Series) -> str:
    least, most = int(seeds.min()), int(seeds.max())
    some = f"{most} seed{'s' * (most > 1)}" if least == most else f"{least} to {most} seeds"
    words = f"Bars: mean; points: {some}."
    if most < FEWEST:
        return f"{words} No interval: that takes {FEWEST} seeds."
    return (
        f"{words} Lines: Student's 95 % interval of the mean{'' if least >= FEWEST else f', from {FEWEST} seeds on'}."
    )
