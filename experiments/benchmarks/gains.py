"""How many passes fewer than the published protocol an estimator needs, from its errors in cells of image and order.

A cell holds what the runs of every design said of one image at one order (`estimators.py` measures them).
"""

from typing import TYPE_CHECKING, Any

from interactions.published import CONTEXTS, PAIRS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


PUBLISHED_PASSES = 4 * PAIRS * CONTEXTS
FIXED = ("pairwise", "shared", "pooled")
MEASURED = (*FIXED, "auto")


def published_variances(cell: "dict[str, np.ndarray]") -> "np.ndarray":
    """Variances of the published mean square and mean |Î|, 50 pairs drawn anew."""
    import numpy as np

    estimate_P, product_P, _ = cell["published"]
    return np.array([product_P.var(ddof=1), np.abs(estimate_P).var(ddof=1)]) / PAIRS


def design_weights(cells: "list[dict[str, np.ndarray]]") -> "dict[str, np.ndarray]":
    """What a run of each fixed design counts in the reference at one order: 1 / its squared relative error.

    Averaged over the images, since the few replicates of one image tell its variance badly.
    """
    import numpy as np

    def relative_variance(cell: "dict[str, np.ndarray]", design: str) -> "np.ndarray":
        return cell[design].var(0, ddof=1) / np.mean([cell[other].mean(0) for other in FIXED], axis=0) ** 2

    return {design: 1 / np.mean([relative_variance(cell, design) for cell in cells], axis=0) for design in FIXED}


def reference(cell: "dict[str, np.ndarray]", weights: "dict[str, np.ndarray]") -> "tuple[np.ndarray, np.ndarray]":
    """Mean square and mean |I| from all runs of the fixed designs, and the variances of both."""
    import numpy as np

    total = np.sum([weights[design] * len(cell[design]) for design in FIXED], axis=0)
    mean = np.sum([weights[design] * cell[design].sum(0) for design in FIXED], axis=0) / total
    return mean, mean**2 / total


def cell_errors(cell: "dict[str, np.ndarray]", weights: "dict[str, np.ndarray]") -> dict[str, Any]:
    """The errors of the published protocol and of every design for one image and order.

    The mean square is unbiased for every design, so its squared error is its variance: over replicates, and for the
    published protocol over its pairs. The mean |I| is biased, so there the square of the bias is added, estimated
    without its own noise.
    """
    import numpy as np

    (mean_square, truth), (mean_square_variance, doubt) = reference(cell, weights)
    variance_ms, variance_abs = published_variances(cell)
    raw_P, every_product_P = np.abs(cell["published"][0]), cell["published"][2]
    bias_published = squared_bias(raw_P, truth, doubt)
    runs = {design: cell[design] for design in MEASURED}
    # Squared deviations whose mean over the replicates is the unbiased variance.
    squares = {d: (v - v.mean(0)) ** 2 * len(v) / (len(v) - 1) for d, v in runs.items()}
    bias = squared_bias(runs["auto"][:, 1], truth, doubt)
    rmse = {f"{design}_rmse_ms": float(squares[design][:, 0].mean() ** 0.5) for design in MEASURED}
    names, counts = np.unique(cell["auto_choice"], return_counts=True)
    return {
        "mean_square": float(mean_square),
        "A": float(truth),
        "published_A": float(raw_P.mean()),
        "published_rmse_abs": float((variance_abs + bias_published) ** 0.5),
        "published_rmse_ms": float(variance_ms**0.5),
        "published_rmse_ms_all_halvings": float((every_product_P.var(ddof=1) / PAIRS) ** 0.5),
        "reference_rmse_abs": float(doubt**0.5),
        "reference_rmse_ms": float(mean_square_variance**0.5),
        "published_pairs": len(raw_P),
        "auto_rmse_abs": float((squares["auto"][:, 1].mean() + bias) ** 0.5),
        **rmse,
        "regret": rmse["auto_rmse_ms"] / min(rmse[f"{design}_rmse_ms"] for design in FIXED) - 1,
        "chosen": ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True)),
        "passes": float(cell["auto_passes"].mean()),
        "replicates": len(runs["auto"]),
        "ms_squares": squares["auto"][:, 0],
        "abs_squares": squares["auto"][:, 1] + bias,
    }


def order_gains(cells: "pd.DataFrame", resamples: int = 2000) -> dict[str, float]:
    """The gain at one order: auto's squared errors against the published protocol's, both averaged over the images.

    Errors are taken relative to the size of what is measured, so that every image counts. `gain_ms_all_halvings` gives
    the published pairs, too, the mean square over all halvings of their contexts, which is this toolkit's and not the
    protocol's; it is not part of the headline. The 95 % interval is a bootstrap over images, and over replicates within
    them.
    """
    import numpy as np

    truths = {"abs": cells.A, "ms": cells.mean_square, "ms_all_halvings": cells.mean_square}
    squares = {"abs": cells.abs_squares, "ms": cells.ms_squares, "ms_all_halvings": cells.ms_squares}
    auto = {name: [v / t**2 for v, t in zip(squares[name], truths[name], strict=True)] for name in truths}
    published = {name: ((cells[f"published_rmse_{name}"] / truths[name]) ** 2).to_numpy() for name in truths}
    passes, generator = float(cells.passes.mean()), np.random.default_rng(0)

    def gains(draw: bool) -> dict[str, float]:
        images = generator.integers(0, len(cells), len(cells)) if draw else np.arange(len(cells))
        picks = [generator.integers(0, n, n) if draw else np.arange(n) for n in cells.replicates.iloc[images]]
        found = {}
        for name in truths:
            error = np.mean([auto[name][k][pick].mean() for k, pick in zip(images, picks, strict=True)])
            found[name] = gain(float(error / published[name][images].mean()), passes)
        return found

    def least(gains: dict[str, float]) -> float:
        return min(gains["abs"], gains["ms"])

    found, drawn = gains(False), [least(gains(True)) for _ in range(resamples)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {
        "order": int(cells.order.iloc[0]),
        "ratio": float(cells.ratio.iloc[0]),
        "gain_abs": found["abs"],
        "gain_ms": found["ms"],
        "gain": least(found),
        "gain_low": float(low),
        "gain_high": float(high),
        "gain_ms_all_halvings": found["ms_all_halvings"],
        "regret": order_regret(cells),
        "images": len(cells),
        "replicates": int(cells.replicates.sum()),
    }


def order_regret(cells: "pd.DataFrame") -> float:
    """By how much auto's relative error exceeds that of the best fixed design, both over all images."""

    def error(design: str) -> float:
        return float(((cells[f"{design}_rmse_ms"] / cells.mean_square) ** 2).mean() ** 0.5)

    return error("auto") / min(error(design) for design in FIXED) - 1


def gain(relative_error: float, passes: float) -> float:
    """10,000 / the passes at which auto's squared error would be the published one, from its error at `passes`.

    The squared error falls with the passes as a power between 1 (sampling of pairs) and 2 (a product of two noisy
    halves). The power that gives the smaller gain is used: 1 where auto needs more passes, 2 where it needs fewer.
    """
    power = 1.0 if relative_error > 1 else 2.0
    return PUBLISHED_PASSES / (passes * relative_error ** (1 / power))


def squared_bias(values: "np.ndarray", truth: float, truth_variance: float) -> float:
    """Unbiased estimate of (E values − truth)², but not below 0."""
    noise = values.var(ddof=1) / len(values) + truth_variance
    return max(float((values.mean() - truth) ** 2 - noise), 0.0)


def headline(gains: "pd.DataFrame", cells: "pd.DataFrame") -> dict[str, Any]:
    """What the benchmark is about, in a few numbers; at the ends every design is exact, with no error at all."""
    from scipy.stats import gmean

    return {
        "gain_geometric_mean": float(gmean(gains.gain)),
        "gain_least": float(gains.gain.min()),
        "gain_ms_against_all_halvings": float(gmean(gains.gain_ms_all_halvings)),
        "auto_within_15_percent": float((cells.regret <= 0.15).mean()),
        "ends_passes": ends_passes(),
        "ends_gain": PUBLISHED_PASSES / ends_passes(),
    }


def ends_passes() -> int:
    """Passes that an exact measurement of order 0 or n − 2 takes."""
    from interactions.estimators.shared import draw_exact
    from interactions.grid import PatchGrid

    grid = PatchGrid(14)
    return len(draw_exact(0, grid.neighbours(2), grid.n_players).coalitions_BN)
