"""Figure 6 of the A²MIM paper (arXiv 2205.13943): accuracy against the place where the mask token goes."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy import stats

from figures.forest import centres, name_rows, row_height
from figures.panels import FAMILIES
from figures.runs import Drawn, Run, holding
from figures.style import BLUE, INK, house_style, page
from figures.tables import of_folders, read_table
from figures.words import count_in_words, place_in_words

TABLE = "token_position.csv"
COMMAND = "python -m experiments.studies.token_position"
CONFIDENCE = 0.95
FEWEST = 3  # seeds that an interval is given for: with two, Student's t makes it wider than any axis
ALIKE = pd.Index(["pretrain_epochs", "epochs", "images"])
"""What the accuracies of one network need alike."""
AROUND = 0.5  # inches, title and axis of a panel


@house_style()
def draw(runs: Sequence[Run], title: str = "", caption: str = "") -> Drawn:
    """Draw a panel for each network: a bar for each position, in the order of the table, with its seeds as points.

    Args:
        runs: folders with token_position.csv: network, position, seed, top1 (per cent), one row for each.

    Raises:
        ValueError: a run without the table; a missing column; a seed twice; sweeps of one network that differ in
            epochs or images; more than a page holds.
    """
    runs = holding(runs, {TABLE: COMMAND})[TABLE]
    texts = ["network", "position"]
    tables = {str(run.folder): read_table(run.table(TABLE), ["seed", "top1"], texts, "the sweep") for run in runs}
    rows = of_folders(tables).dropna(subset="top1")
    if rows.empty:
        raise ValueError("the sweep has no accuracy yet, so there is nothing to draw")
    twice = rows[rows.duplicated(["network", "position", "seed"])]
    if len(twice):
        raise ValueError("the sweep holds {network}, {position}, seed {seed} twice".format(**twice.iloc[0]))
    refuse_other_sweeps(rows)
    networks = {str(network): some for network, some in rows.groupby("network", sort=False)}
    words = [caption, _seed_words(rows.groupby(["network", "position"])["seed"].nunique())]
    words.append("Top-1 accuracy after fine-tuning; the numbers are the means.")
    places = [some["position"].astype(str).unique() for some in networks.values()]
    heights = [sum(row_height(place_in_words(place)) for place in some) for some in places]
    figure = page(sum(heights) + AROUND * len(heights), title, "", " ".join(filter(None, words)))
    panels = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axes, (network, some) in zip(panels, networks.items(), strict=True):
        plot_positions(some, axes)
        axes.set_title(FAMILIES.get(network, network), parse_math=False)
    panels[-1].set_xlabel("top-1 accuracy (%)")
    return Drawn(figure, {run: [TABLE] for run in runs}, "")


def refuse_other_sweeps(rows: pd.DataFrame) -> None:
    """Raise ValueError where one network was trained for other epochs, or tested on other images, in two folders; a
    table from before these were columns says nothing of them."""
    for network, some in rows.groupby("network", sort=False):
        for column in ALIKE.intersection(some.columns):
            known = some.dropna(subset=column).groupby(column)["folder"].unique()
            if len(set(map(tuple, known))) > 1:
                listed = "; ".join(f"{value:g}: {', '.join(folders)}" for value, folders in known.items())
                raise ValueError(
                    f"the sweeps of {network} differ in {column.replace('_', ' ')} ({listed}): draw one folder, or "
                    "sweeps that were trained alike"
                )


def interval(top1: Sequence[float]) -> tuple[float, float]:
    """Ends of Student's 95 % interval of the mean over the seeds; NaN for fewer than 3."""
    if len(top1) < FEWEST:
        return np.nan, np.nan
    middle, error = float(np.mean(top1)), stats.sem(top1)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(top1) - 1) * error)
    return middle - half, middle + half


def plot_positions(rows: pd.DataFrame, axes: Axes) -> Axes:
    """Draw the accuracies of one network into axes of your own: position, seed, top1. Returns the axes."""
    positions = list(rows["position"].astype(str).unique())
    names = list(map(place_in_words, positions))
    for y, name, position in zip(centres(names), names, positions, strict=True):
        height = row_height(name)
        top1 = rows.loc[rows["position"].astype(str) == position, "top1"].to_numpy(dtype=float)
        axes.barh(y, top1.mean(), height=0.7 * height, color=BLUE, alpha=0.35, linewidth=0)
        axes.text(1.5, y, f"{top1.mean():.1f}", va="center", size=6)
        axes.hlines(y + 0.22 * height, *interval(top1), color=INK, linewidth=1.0).set_gid("interval of top1")
        spread = (np.arange(len(top1)) - (len(top1) - 1) / 2) * min(0.12, 0.4 / len(top1)) - 0.05
        axes.plot(top1, y + spread * height, "o", color=INK, markersize=2.2)
    axes.set_xlim(0, 100)
    name_rows(axes, names)
    return axes


def _seed_words(seeds: pd.Series) -> str:
    words = f"Bars: mean; points: {count_in_words(seeds.tolist(), 'seed')}."
    if seeds.max() < FEWEST:
        return f"{words} No interval: that takes {FEWEST} seeds."
    since = "" if seeds.min() >= FEWEST else f", from {FEWEST} seeds on"
    return f"{words} Lines: Student's 95 % interval of the mean{since}."
