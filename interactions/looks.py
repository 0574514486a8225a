"""Images that were measured several times: each time is a look, with coalitions (and pairs) of its own.

A run to a precision looks again at its images where there are no more of them and noise is left in what they told.
Rows of `image_row` have their look in a column of that name, 0 for the first; runs from before there were any lack it.
What several looks tell of an image at an order becomes one row by the share that each has of its passes. Each look is
unbiased by itself; their mean is so but for how the passes of one depend on what all images told before it, of which
nothing is seen in simulated runs (tests/interactions/test_looks.py; 200 runs of 12 images with noise as skewed as that
of squares: 1.000 ± 0.008 of the true squares, and 95 % intervals of J that hold in 95 %). Where a look was exact it
tells all.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

KEY = ["image", "order"]
PAIR_KEY = [*KEY, "i", "j"]


def looks_of(rows: pd.DataFrame) -> pd.Series:
    """The look of each row."""
    return rows.look.fillna(0).astype(int) if "look" in rows else pd.Series(0, rows.index)


def weights_of(rows: pd.DataFrame) -> np.ndarray:
    """The share that each row has in what is said of its image at its order."""
    known = rows.mean_square.notna().to_numpy()
    whole = rows.pair_variance.isna() if "pair_variance" in rows else True
    exact = known & whole & (rows.design == "exact") if "design" in rows else known & False
    passes = rows.spent if "spent" in rows else rows.passes  # as they were, where they are told in full precision
    return _shares(passes.where(known, 0), np.asarray(exact), _groups(rows, KEY))


def merged(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per (image, order), in the order of the first looks.

    Passes add up; `pairs` is how many the look of most pairs measured: all looks together at least so many. mean_abs,
    which noise lifts, is that of a look, with its noise; of mean_abs_sum and mean_abs_difference the squares are
    averaged, whose difference is the square of A_corrected.

    Args:
        rows: of `image_row`, with image, order, ratio, design, passes, and look where there were several.
    """
    if not rows.duplicated(KEY).any():
        return rows.drop(columns="look", errors="ignore")
    weight, summed = weights_of(rows), _summing(_groups(rows, KEY))
    table = rows.drop_duplicates(KEY)[[*KEY, "ratio"]].reset_index(drop=True)
    looks = rows.groupby(KEY, sort=False)
    if "design" in rows:
        table["design"] = looks.design.agg(lambda names: "+".join(sorted(set(names)))).to_numpy()
    table["passes"], table["pairs"] = looks.passes.sum().to_numpy(), looks.pairs.max().to_numpy()
    for name in ("mean_abs", "mean_square"):
        table[name] = summed(weight, rows[name])
    for name in ("mean_abs_sum", "mean_abs_difference"):
        table[name] = np.sqrt(summed(weight, rows[name] ** 2))
    if "square_spread" in rows:
        table["square_spread"] = summed(weight**2, rows.square_spread)
    if "pair_variance" in rows:
        some = summed(weight, rows.pair_variance.notna()) > 0
        noise = summed(weight**2, rows.pair_variance.fillna(rows.square_spread))
        table["pair_variance"] = np.where(some, noise, np.nan)
    return table


def merged_pairs(pairs: pd.DataFrame) -> pd.DataFrame:
    """One row per (image, order, i, j): means and halves by the draws of each look; where some are exact, by these."""
    pairs = pairs.drop(columns="look", errors="ignore")
    if not pairs.duplicated(PAIR_KEY).any():
        return pairs
    groups, exact = _groups(pairs, PAIR_KEY), np.isinf(pairs["count"])
    weight, summed = _shares(pairs["count"].where(~exact, 0), exact.to_numpy(), groups), _summing(groups)
    table = pairs.drop_duplicates(PAIR_KEY)[PAIR_KEY].reset_index(drop=True)
    table["count"] = summed(np.ones(len(pairs)), pairs["count"])
    table["mean"] = summed(weight, pairs["mean"])
    halved = (pairs.half_1.notna() & pairs.half_2.notna()).to_numpy()
    of_halves = _shares(pairs["count"].where(~exact & halved, 0), (exact & halved).to_numpy(), groups)
    for name in ("half_1", "half_2"):
        table[name] = summed(of_halves, pairs[name])
    table["standard_error"] = np.sqrt(summed(weight**2, pairs.standard_error**2))
    return table[[*pairs.columns]].astype(pairs.dtypes.to_dict())


def _groups(rows: pd.DataFrame, key: list[str]) -> np.ndarray:
    """A number for each row, the same where the key is, in the order in which these come."""
    return rows.groupby(key, sort=False).ngroup().to_numpy()


def _shares(size: pd.Series, exact_R: np.ndarray, group_R: np.ndarray) -> np.ndarray:
    """Of each row in its group: by size, alike where none has any; only of those that are exact where some are."""
    any_exact_R = np.bincount(group_R, exact_R)[group_R] > 0
    size_R = np.where(any_exact_R, exact_R, size.to_numpy(float))
    size_R = np.where(np.bincount(group_R, size_R)[group_R] > 0, size_R, 1.0)
    return size_R / np.bincount(group_R, size_R)[group_R]


def _summing(group_R: np.ndarray) -> Callable[[np.ndarray, pd.Series], np.ndarray]:
    """Weights and values by row -> their sum in each group; NaN where a row that has weight is not known."""

    def summed(weight_R: np.ndarray, values: pd.Series) -> np.ndarray:
        return np.bincount(group_R, np.where(weight_R > 0, weight_R * values.to_numpy(float), 0.0))

    return summed
