"""`a2mim bench curve`: passes that the curve of a model takes, to a precision and by the published protocol."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from a2mim.bounds import Count, Natural
from interactions.published import CONTEXTS, IMAGES, PAIRS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from interactions.profile import Profile

MEASURED_ALIKE = ("grid", "radius", "value", "baseline", "target", "normalisation")
SINCE: dict[str, Any] = {"pairs": "near", "only_correct": False}
"""To be alike, too; what a record from before they were settings stands for."""
GROUPS = 10
"""A small run has the images of the large one over so many: the reference then has at least ten times its passes."""
SMALL_RUNS = 2000
LEAST_PAIRS, LEAST_IMAGES = 2, 16
"""Of a run by the published protocol: from one pair of an image nothing tells how its pairs differ."""


@dataclass(frozen=True)
class Settings:
    """Compare a profile to a precision with the published protocol, at equal width and at equal error.

    Both are profiles of one model over one data set, measured before; the orders that both have are compared.

    Width: the passes that the published protocol, 500 images × 50 pairs × 50 contexts × 4 = 5 million an order, takes
    over those of ours for an interval of rms(m) as narrow as its own, whose bias is left out; its variance is that
    within its images, over 50 pairs, and that between images, which ours tells better. Error: the same ratio for
    one mean squared error of J_rms(m), bias included. Ours is seen in small runs, a tenth of the images each, against
    the whole run; the published one is what noise adds to its squares, plus its variance. Its variance is that of the
    images measured, scaled to 500, and the part of it that few pairs cause is scaled to 50 pairs. Intervals are a
    bootstrap over the images of both runs. Both ratios stand in time, too, by what a pass of either run took with all
    that goes with it (what a run does once counts for more in a short one), where both were made on one machine at one
    --speed. Writes curve.csv and run.json.

    Ours is a profile to a precision (a2mim profile MODEL --data DATA --precision 0.1 --out runs/ours), the other one by
    the protocol (the same with --design published --images 16 --published-pairs 12 --out runs/released, and the model's
    own --mean, --std, --crop-pct and --interpolation where those are not the protocol's).

    For example:
        a2mim bench curve runs/ours runs/released
        a2mim bench curve runs/ours runs/released --out runs/curve --resamples 200
    """

    ours: tyro.conf.Positional[Path]
    """A finished profile to a precision."""
    published: tyro.conf.Positional[Path]
    """A finished profile by --design published that kept its pairs; 16 images or more, of each 2 pairs or more, 50
    contexts a pair."""
    out: Path = Path("runs/bench/curve")
    """Folder of the results (of those that are committed: experiments/results/curve)."""
    resamples: Count = 1000
    """Of the bootstrap."""
    seed: Natural = 0
    """Of the small runs and the bootstrap."""


def run(settings: Settings) -> None:
    """Compare, print and write."""
    from experiments.benchmarks.record import refuse_other_run
    from experiments.machine import pick_device, provenance
    from interactions.profile import load_profile
    from interactions.runs.files import write_csv, write_json

    refuse_other_run(settings.out, "gain_width_least")
    ours, published = load_profile(settings.ours), load_profile(settings.published)
    check_alike(ours, published)
    table, summary = compared(Ours.of(ours, published), Published.of(ours, published), settings)
    summary |= in_time(ours.record, published.record, summary)
    about = provenance(settings, pick_device("cpu"))
    write_csv(settings.out / "curve.csv", table)
    machines = {"ours": ours.record["machine"], "published": published.record["machine"]}
    write_json(settings.out / "run.json", {**summary, "measured_on": machines, **about})
    print(table.to_string(index=False, float_format="{:.3g}".format))
    for name, value in summary.items():
        print(f"{name}: {value}")


def check_alike(ours: "Profile", published: "Profile") -> None:
    """Raises ValueError for runs that are not finished, not of one game, too small, or not of the designs that are
    compared."""
    from interactions.published import PUBLISHED, contexts_of

    for profile in (ours, published):
        if profile.record["status"] != "complete":
            raise ValueError(f"{profile.folder} is not finished: start its command again")
    if ours.settings["design"] == PUBLISHED or published.settings["design"] != PUBLISHED:
        raise ValueError("give a profile of this toolkit's designs first, then one by --design published")
    if published.settings["keep"] != "pairs":
        raise ValueError(f"{published.folder} kept no pairs: measure it again with --keep pairs")
    if contexts_of(published.settings["budget"], published.settings["published_pairs"]) != CONTEXTS:
        raise ValueError(
            f"{published.folder} does not have {CONTEXTS} contexts for each pair: give --budget {CONTEXTS} × 4 × pairs"
        )
    refuse_small(ours, published)
    different = [name for name in MEASURED_ALIKE if ours.settings[name] != published.settings[name]]
    different += [
        name for name, usual in SINCE.items() if len({run.settings.get(name, usual) for run in (ours, published)}) > 1
    ]
    models = [run.record["model"] for run in (ours, published)]
    structures = {model["structure"] for model in models if "structure" in model}  # records of before have none
    if models[0]["digest"] != models[1]["digest"] or len(structures) > 1:
        different.append("model")
    if ours.record["image_shape"] != published.record["image_shape"]:
        different.append("size of the images")
    if ours.record["data"].get("transform") != published.record["data"].get("transform"):
        different.append("how the images are resized and cropped")
    if not one_set(ours.record, published.record):
        different.append("the data set")
    if different:
        raise ValueError(f"the two runs differ in {', '.join(different)}: measure both of one model in one game")


def refuse_small(ours: "Profile", published: "Profile") -> None:
    """Raises ValueError for too few images, or pairs, to tell a variance."""
    pairs = published.settings["published_pairs"]
    if pairs < LEAST_PAIRS:
        raise ValueError(
            f"{published.folder} has {pairs} pair of an image, which does not tell how pairs differ: measure "
            f"{LEAST_PAIRS} or more"
        )
    why = f", which are too few to be cut into {GROUPS} small runs"
    for run, least, told in ((ours, 2 * GROUPS, why), (published, LEAST_IMAGES, "")):
        if (count := len(run.record["images"])) < least:
            raise ValueError(f"{run.folder} has {count} images{told}: measure {least} or more")


def one_set(record: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two runs took their images from one data set, wherever it lies: by the names of its images; where these
    differ, as those of a folder and of its .tar may, by its size and an image of the same pixels in both runs; and by
    its own name where images have none."""
    of, of_other = record["data"], other["data"]
    if of["digest"] == of_other["digest"]:
        return of["digest"] is not None or of["name"] == of_other["name"]
    pixels, pixels_of_other = ({one["digest"] for one in each["images"]} for each in (record, other))
    return of.get("images") == of_other.get("images") and bool(pixels & pixels_of_other)


@dataclass(frozen=True)
class Ours:
    """Mean squares of images at the common orders, and passes.

    Attributes:
        squares_MI: mean square of each image. noise_MI: its own sampling variance as the halves and the pairs tell it.
        whole_MI: whether all pairs were measured, whose single halves' noise that leaves out.
        passes_M: of all images, at an order. preparation: passes beside these.
    """

    orders: "np.ndarray"
    squares_MI: "np.ndarray"
    noise_MI: "np.ndarray"
    whole_MI: "np.ndarray"
    passes_M: "np.ndarray"
    preparation: int

    @classmethod
    def of(cls, ours: "Profile", published: "Profile") -> "Ours":
        images = ours.images()
        images = images[images.order.isin(published.images().order.unique())]
        images = images.assign(
            noise=images.pair_variance.fillna(images.square_spread).fillna(0), whole=images.pair_variance.isna()
        )
        squares, noise, whole = (
            images.pivot(index="order", columns="image", values=name) for name in ("mean_square", "noise", "whole")
        )
        passes, orders = images.groupby("order").passes.sum().to_numpy(), squares.index.to_numpy()
        return cls(orders, squares.to_numpy(), noise.to_numpy(), whole.to_numpy(), passes, preparation_of(ours))

    def of_images(self, drawn_I: "np.ndarray") -> "Ours":
        """With these images alone."""
        parts = {name: getattr(self, name)[:, drawn_I] for name in ("squares_MI", "noise_MI", "whole_MI")}
        return replace(self, **parts)

    @property
    def between_M(self) -> "np.ndarray":
        """Variance of the mean square between images, which no design takes away.

        Of an image that was measured at all pairs a share of what is left is its single halves' noise.
        """
        import numpy as np

        from interactions.allocation import SINGLE_NOISE

        rest_M = self.squares_MI.var(1, ddof=1) - self.noise_MI.mean(1)
        return np.clip(rest_M, 0, None) * (1 - SINGLE_NOISE * self.whole_MI.mean(1))


def preparation_of(profile: "Profile") -> int:
    """Passes for choosing images, for the pilot and for the numerical floor."""
    return sum(profile.record["preparation_passes"].values())


@dataclass(frozen=True)
class Published:
    """Squares of the pairs at the common orders, and how large the noise in them is.

    Attributes:
        raw_MIP: Î², of every image's pairs. noise_MIP: the squared standard error of Î, over its contexts.
    """

    orders: "np.ndarray"
    raw_MIP: "np.ndarray"
    noise_MIP: "np.ndarray"

    @classmethod
    def of(cls, ours: "Profile", published: "Profile") -> "Published":
        import numpy as np

        pairs = published.pairs()
        pairs = pairs[pairs.order.isin(ours.images().order.unique())].sort_values(["order", "image", "i", "j"])
        orders, images = np.sort(pairs.order.unique()), pairs.image.nunique()
        mean_MIP = pairs["mean"].to_numpy(float).reshape(len(orders), images, -1)
        exact = pairs.order.isin((0, published.record["players"] - 2))  # there is one context, and no noise
        error_MIP = pairs.standard_error.mask(exact, 0).to_numpy(float).reshape(len(orders), images, -1)
        return cls(orders, mean_MIP**2, error_MIP**2)


def compared(ours: Ours, published: Published, settings: Settings) -> "tuple[pd.DataFrame, dict[str, Any]]":
    """One row per order, and the geometric means, each with its interval."""
    import numpy as np
    import pandas as pd
    from scipy.stats import gmean

    generator = np.random.default_rng(settings.seed)
    count, all_I = int(published.raw_MIP.shape[1]), np.arange(ours.squares_MI.shape[1])
    seen_M, size = small_runs(ours.squares_MI, generator)
    predicted_M = variance_of_curve(ours.squares_MI)

    def gains(ours_I: "np.ndarray", published_I: "np.ndarray") -> "dict[str, np.ndarray]":
        some, raw_MIP = ours.of_images(ours_I), published.raw_MIP[:, published_I]
        squares_MI = some.squares_MI
        # What small runs show is scaled as the variance between images changes in a resample.
        error_M = seen_M * variance_of_curve(squares_MI) / predicted_M
        errors = published_errors(raw_MIP, published.noise_MIP[:, published_I], some.between_M)
        passes = ours.passes_M.sum() * size / len(all_I) + ours.preparation
        return {
            "width": PASSES / (shared(ours) * (width_of_rms(squares_MI) / errors["width"]) ** 2),
            "error": PASSES * len(ours.orders) / (passes * error_M / errors["mse"]),
        }

    found = gains(all_I, np.arange(count))
    drawn = [
        gains(generator.choice(all_I, len(all_I)), generator.choice(np.arange(count), count))
        for _ in range(settings.resamples)
    ]
    errors = published_errors(published.raw_MIP, published.noise_MIP, ours.between_M)
    columns: dict[str, Any] = {"order": ours.orders, "rms": np.sqrt(ours.squares_MI.mean(1))}
    columns |= {"published_rms": errors["rms"], "passes": ours.passes_M, "images": len(all_I)}
    columns |= {"half_width": 1.96 * width_of_rms(ours.squares_MI), "published_half_width": 1.96 * errors["width"]}
    columns |= {"J_rmse": np.sqrt(seen_M), "small_run_images": size, "published_J_rmse": np.sqrt(errors["mse"])}
    columns |= {"published_J_bias": errors["bias"], "between": ours.between_M / ours.squares_MI.mean(1) ** 2}
    summary: dict[str, Any] = {"published_images": count, "preparation_passes": ours.preparation}
    for name, gain_M in found.items():
        low_M, high_M = np.quantile([each[name] for each in drawn], (0.025, 0.975), axis=0)
        columns |= {f"gain_{name}": gain_M, f"gain_{name}_low": low_M, f"gain_{name}_high": high_M}
        means = [float(gmean(each[name])) for each in drawn]
        summary[f"gain_{name}_geometric_mean"] = float(gmean(gain_M))
        summary[f"gain_{name}_geometric_mean_interval"] = np.quantile(means, (0.025, 0.975)).tolist()
        summary[f"gain_{name}_least"] = float(gain_M.min())
    return pd.DataFrame(columns), summary


def in_time(ours: dict[str, Any], published: dict[str, Any], summary: dict[str, Any]) -> dict[str, Any]:
    """seconds_a_pass of both runs, by the clock and with all that goes with a pass; and the gains of the summary in
    time, None where the runs were made on two machines, in two precisions, or at two speeds."""

    def way(record: dict[str, Any], start: dict[str, Any]) -> tuple[Any, ...]:
        machine = {**start["machine"], "load_average": None}
        return record.get("speed"), record["settings"].get("amp"), start.get("device"), machine

    ways = [way(record, start) for record in (ours, published) for start in (record, *record["resumed"])]
    ours_took, published_took = (record["seconds"] / record["passes"] for record in (ours, published))
    slower = published_took / ours_took if all(each == ways[0] for each in ways) else None
    found: dict[str, Any] = {"seconds_a_pass": {"ours": ours_took, "published": published_took}}
    for kind in ("width", "error"):
        mean, ends = (summary[f"gain_{kind}_geometric_mean{part}"] for part in ("", "_interval"))
        found[f"gain_{kind}_time_geometric_mean"] = slower and slower * mean
        found[f"gain_{kind}_time_geometric_mean_interval"] = slower and [slower * end for end in ends]
    return found


PASSES = 4 * IMAGES * PAIRS * CONTEXTS
"""Of the published protocol at one order."""


def shared(ours: Ours) -> "np.ndarray":
    """Passes of an order, its share of the preparation included."""
    return ours.passes_M + ours.preparation / len(ours.orders)


def curve(squares_MI: "np.ndarray") -> "np.ndarray":
    """J_rms of every order; a mean square below 0 counts as 0."""
    import numpy as np

    rms_M = np.sqrt(np.clip(squares_MI.mean(1), 0, None))
    return rms_M / rms_M.mean()


def slopes(square_M: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
    """J_rms, and its derivatives by the mean squares: M, and M×M."""
    import numpy as np

    rms_M = np.sqrt(np.clip(square_M, np.finfo(float).tiny, None))
    relative_M = rms_M / rms_M.mean()
    return relative_M, (np.eye(len(rms_M)) - relative_M[:, None] / len(rms_M)) / (2 * rms_M * rms_M.mean())


def variance_of_curve(squares_MI: "np.ndarray") -> "np.ndarray":
    """Variance, between images, of an image's influence on J_rms."""
    _, slope_MM = slopes(squares_MI.mean(1))
    return (slope_MM @ squares_MI).var(1, ddof=1)


def width_of_rms(squares_MI: "np.ndarray") -> "np.ndarray":
    """Standard error of rms(m) over the images."""
    import numpy as np

    error_M = squares_MI.std(1, ddof=1) / np.sqrt(squares_MI.shape[1])
    return error_M / (2 * np.sqrt(np.fmax(squares_MI.mean(1), error_M)))


def small_runs(squares_MI: "np.ndarray", generator: "np.random.Generator") -> "tuple[np.ndarray, int]":
    """Mean squared error of J_rms of runs with a tenth of the images, each image a seed of its own, against the whole.

    The whole holds the images of the small run, too, which makes them agree more than with the truth, by 1 − g/N.
    """
    import numpy as np

    count = squares_MI.shape[1]
    size = count // GROUPS
    whole_M = curve(squares_MI)
    errors: list[np.ndarray] = []
    while len(errors) < SMALL_RUNS:
        mixed_I = generator.permutation(count)[: GROUPS * size].reshape(GROUPS, size)
        errors += [(curve(squares_MI[:, group]) - whole_M) ** 2 for group in mixed_I]
    return np.mean(errors, 0) / (1 - size / count), size


def published_errors(
    raw_MIP: "np.ndarray", noise_MIP: "np.ndarray", between_M: "np.ndarray"
) -> "dict[str, np.ndarray]":
    """Of the protocol with 500 images and 50 pairs: rms(m) and its standard error, bias and mean squared error of
    J_rms(m).

    between_M: variance of the mean square between images. (Few pairs of few images do not tell it.)
    """
    import numpy as np

    raw_M = raw_MIP.mean((1, 2))
    relative_M, slope_MM = slopes(raw_M)
    spread_M = between_M + within_images(raw_MIP) / PAIRS
    unbiased_M, unbiased_MM = slopes((raw_MIP - noise_MIP).mean((1, 2)))
    bias_M = relative_M - unbiased_M
    # The square of an estimated bias is too large by the estimate's variance.
    influence_MI = (slope_MM @ raw_MIP.mean(2)) - (unbiased_MM @ (raw_MIP - noise_MIP).mean(2))
    doubt_M = influence_MI.var(1, ddof=1) / influence_MI.shape[1]
    variance_M = scaled_variance(np.einsum("mn,nip->mip", slope_MM, raw_MIP)) / IMAGES
    return {
        "rms": np.sqrt(raw_M),
        "width": np.sqrt(spread_M / IMAGES) / (2 * np.sqrt(raw_M)),
        "bias": bias_M,
        "mse": np.clip(bias_M**2 - doubt_M, 0, None) + variance_M,
    }


def within_images(values_MIP: "np.ndarray") -> "np.ndarray":
    """Variance of one pair within an image, on average over the images."""
    return values_MIP.var(2, ddof=1).mean(1)


def scaled_variance(values_MIP: "np.ndarray") -> "np.ndarray":
    """Variance between images of a mean over 50 pairs, from one over fewer (or more)."""
    import numpy as np

    pairs = values_MIP.shape[2]
    within_M = within_images(values_MIP)
    between_M = np.clip(values_MIP.mean(2).var(1, ddof=1) - within_M / pairs, 0, None)
    return between_M + within_M / PAIRS
