"""`a2mim bench coverage`: do the intervals hold that a profile writes? Drawn from images that were really measured."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from a2mim.bounds import Count, Natural, Positive

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from interactions.intervals import Statistic

CONFIDENCE = 0.95
SHOWN = ("J", "J_corrected", "J_rms")


@dataclass(frozen=True)
class Settings:
    """Count how often the 95 % intervals of J, M and paired differences of M hold the truth.

    The images of a finished profile are the population, and its curve is the truth. Samples of n images are drawn from
    it with replacement, and each gets the intervals that a run of n images would write, beside five others: the
    studentised bootstrap of each number itself, symmetric and with unequal tails, the percentile bootstrap, the
    bias-corrected and accelerated one, and Student's t with the standard error of the images' influence. A second part
    follows the rule by which `a2mim profile --precision` stops, on images drawn one after the other, to precisions at
    which it stops early or late. Writes coverage.csv, sequential.csv and run.json.

    For example:
        a2mim bench coverage runs/lite0/trained/profile runs/lite0/random/profile
        a2mim bench coverage runs/resnet50 --sizes 8 32 --repetitions 500 --out runs/coverage
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Finished profiles, the more images the better; two of the same images give paired differences, too."""
    out: Path = Path("runs/bench/coverage")
    """Folder of the results (of those that are committed: experiments/results/curve/coverage)."""
    sizes: tuple[Count, ...] = (8, 16, 32, 100)
    """Images of a sample."""
    repetitions: Count = 2000
    """Samples of each size."""
    resamples: Count = 500
    """Of each bootstrap."""
    precisions: tuple[Positive, ...] = (0.1, 0.15, 0.2, 0.3)
    """Half widths of J_rms at which the sequential runs stop."""
    seed: Natural = 0
    """Of all drawing."""


def run(settings: Settings) -> None:
    """Draw, count, and write what came out."""
    import pandas as pd

    from experiments.benchmarks.record import refuse_other_run
    from experiments.machine import pick_device, provenance
    from experiments.measuring.comparison import finished
    from interactions.intervals import MIN_IMAGES
    from interactions.runs.files import write_csv, write_json

    if few := [n for n in settings.sizes if n < MIN_IMAGES]:
        raise ValueError(
            f"--sizes {few[0]}: below {MIN_IMAGES} images nothing has an interval to be counted, so give larger ones"
        )
    refuse_other_run(settings.out, "populations")
    names = named(settings.runs)
    tables = {name: finished(path).images() for name, path in names.items()}
    about = provenance(settings, pick_device("cpu"))
    fixed = pd.concat([fixed_sizes(settings, name, found) for name, found in populations(tables).items()])
    sequential = pd.concat([sequential_runs(settings, name, table) for name, table in tables.items()])
    write_csv(settings.out / "coverage.csv", fixed)
    write_csv(settings.out / "sequential.csv", sequential)
    images = {name: int(table.image.nunique()) for name, table in tables.items()}
    write_json(settings.out / "run.json", {"populations": images, **summary(fixed, sequential), **about})
    least = fixed.groupby(["method", "n"]).coverage.agg(["min", "mean"]).unstack("n")
    print(least.to_string(float_format="{:.3f}".format))
    print(sequential.groupby(["run", "precision"])[["coverage", "images"]].agg(["min", "mean"]).to_string())


def named(folders: "tuple[Path, ...]") -> dict[str, Path]:
    """The runs by their names."""
    from experiments.records import distinct_names

    if not folders:
        raise ValueError("there is no run: name the folder of a finished profile, or several")
    names = distinct_names(folders)
    if len(set(names)) < len(names):
        raise ValueError("a run is named twice: name each one once")
    return dict(zip(names, folders, strict=True))


@dataclass(frozen=True)
class Population:
    """What is estimated from images, how many there are of them, what each number is called, and the rows of the run,
    or of the two, that hold them."""

    statistic: "Statistic"
    count: int
    called: list[str]
    tables: "tuple[pd.DataFrame, ...]" = ()


def populations(tables: "Mapping[str, pd.DataFrame]") -> dict[str, Population]:
    """The curve and M of every run, and the difference of M of every two over the images that both hold."""
    from itertools import combinations

    from interactions.masses import difference_of, mass_statistic

    found = {
        name: Population(quantities(table), table.image.nunique(), labels(table), (by_image(table),))
        for name, table in tables.items()
    }
    for a, b in combinations(tables, 2):
        shared = sorted(set(tables[a].image) & set(tables[b].image))
        if len(shared) < 2:
            continue
        both = [tables[name][tables[name].image.isin(shared)] for name in (a, b)]
        if labels(both[0]) == labels(both[1]):
            difference = difference_of(*map(mass_statistic, both))
            called = [label for label in labels(both[0]) if label.startswith("M of")]
            found[f"{a} − {b}"] = Population(difference, len(shared), called, tuple(map(by_image, both)))
    return found


def by_image(images: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of each image behind one another, orders ascending."""
    return images.sort_values(["image", "order"], ignore_index=True)


def quantities(images: "pd.DataFrame") -> "Statistic":
    """J of every order, then M, of each measure in SHOWN: Q×R, as `interactions.strength` gives its measures."""
    import numpy as np

    from interactions.masses import middle_orders
    from interactions.strength import MEASURES, measure_statistic

    measures, middle_M = measure_statistic(images), middle_orders(images)
    rows = [MEASURES.index(name) for name in SHOWN]

    def found(index_RI: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
        both = [values[rows] for values in measures(index_RI)]
        with_mass = [np.concatenate([all_, all_[:, middle_M].mean(1, keepdims=True)], 1) for all_ in both]
        value, influence = (all_.reshape(-1, *all_.shape[2:]) for all_ in with_mass)
        return value, influence

    return found


def labels(images: "pd.DataFrame") -> list[str]:
    """Of the numbers of `quantities`."""
    orders = sorted(images.order.unique())
    return [label for name in SHOWN for label in (*(f"{name}({order})" for order in orders), f"M of {name}")]


def fixed_sizes(settings: Settings, name: str, population: Population) -> "pd.DataFrame":
    """One row per (size, method, number): how many of the intervals held the truth, and how wide they were."""
    import numpy as np
    import pandas as pd
    from tqdm import tqdm

    from interactions.occluded import wilson

    statistic, count, called = population.statistic, population.count, population.called
    truth_Q = statistic(np.arange(count)[None])[0][..., 0]
    rows = []
    for n in settings.sizes:
        generator = np.random.default_rng((settings.seed, n, sum(name.encode())))
        methods = [WRITTEN, *METHODS] if population.tables else METHODS
        held = {method: np.zeros(len(called)) for method in methods}
        width = {method: np.zeros(len(called)) for method in methods}
        for _ in tqdm(range(settings.repetitions), f"{name}, n = {n}", disable=not sys.stderr.isatty()):
            drawn_n = generator.integers(count, size=n)
            ends = intervals(statistic, drawn_n, settings.resamples, generator)
            if population.tables:
                ends[WRITTEN] = written(population, drawn_n, settings.resamples, generator)
            for method, (low_Q, high_Q) in ends.items():
                held[method] += (low_Q <= truth_Q) & (truth_Q <= high_Q)
                width[method] += (high_Q - low_Q) / 2
        for method in methods:
            low_Q, high_Q = wilson(held[method] / settings.repetitions, np.asarray(settings.repetitions))
            part = {"run": name, "n": n, "method": method, "number": called, "truth": truth_Q}
            part |= {"coverage": held[method] / settings.repetitions, "low": low_Q, "high": high_Q}
            rows.append(pd.DataFrame(part | {"half_width": width[method] / settings.repetitions}))
    return pd.concat(rows)


def intervals(
    statistic: "Statistic", drawn_n: "np.ndarray", resamples: int, generator: "np.random.Generator"
) -> "dict[str, tuple[np.ndarray, np.ndarray]]":
    """Low and high end of each number by each method."""
    import numpy as np

    from interactions.intervals import standard_error

    n = len(drawn_n)
    own_ends = symmetric(statistic, drawn_n, resamples, generator)
    own, influence = statistic(drawn_n[None])
    estimate_Q, influence_QI, error_Q = own[:, 0], influence[:, 0], standard_error(influence[:, 0])
    value_QR, influence_QRI = statistic(drawn_n[generator.integers(n, size=(resamples, n))])
    with np.errstate(divide="ignore", invalid="ignore"):
        pivot_QR = np.nan_to_num((value_QR - own) / standard_error(influence_QRI))
    low_t, high_t = np.quantile(pivot_QR, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2), axis=1)
    return {
        "symmetric": own_ends,
        "unequal tails": (estimate_Q - high_t * error_Q, estimate_Q - low_t * error_Q),
        "percentile": tuple(np.quantile(value_QR, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2), axis=1)),  # type: ignore[dict-item]
        "accelerated": accelerated(value_QR, estimate_Q, influence_QI),
        "t": student(estimate_Q, error_Q, n),
    }


def symmetric(
    statistic: "Statistic", drawn_n: "np.ndarray", resamples: int, generator: "np.random.Generator"
) -> "tuple[np.ndarray, np.ndarray]":
    """The studentised interval of `interactions.intervals`, of each number itself."""
    from interactions.intervals import studentised_interval

    estimate_Q, half_Q = studentised_interval(
        lambda index_RI: statistic(drawn_n[index_RI]),
        len(drawn_n),
        resamples,
        int(generator.integers(2**31)),
        CONFIDENCE,
    )
    return estimate_Q - half_Q, estimate_Q + half_Q


def written(
    population: Population, drawn_n: "np.ndarray", resamples: int, generator: "np.random.Generator"
) -> "tuple[np.ndarray, np.ndarray]":
    """What the product writes of those images, in the tables of a run or of a comparison."""
    import numpy as np

    from interactions.masses import middle_mass, paired_mass
    from interactions.strength import strength_table

    drawing: dict[str, Any] = {"resamples": resamples, "seed": int(generator.integers(2**31))}
    drawn = [sample(table, drawn_n) for table in population.tables]
    if len(drawn) == 2:
        table = paired_mass(dict(zip("ab", drawn, strict=True)), **drawing)
        return table.low.to_numpy(), table.high.to_numpy()
    curve, mass = strength_table(drawn[0], **drawing), middle_mass(drawn[0], **drawing).set_index("measure")
    low_Q, high_Q = (
        np.concatenate([np.append(curve[f"{name}_{end}"], mass[f"M_{end}"][name]) for name in SHOWN])
        for end in ("low", "high")
    )
    return low_Q, high_Q


WRITTEN = "written"
METHODS = ("symmetric", "unequal tails", "percentile", "accelerated", "t")


def accelerated(
    value_QR: "np.ndarray", estimate_Q: "np.ndarray", influence_QI: "np.ndarray"
) -> "tuple[np.ndarray, np.ndarray]":
    """Efron's BCa interval (1987): bias correction from the resamples, acceleration from the images' influence."""
    import numpy as np
    from scipy.stats import norm

    resamples = value_QR.shape[1]
    share_Q = ((value_QR < estimate_Q[:, None]).sum(1) + 0.5) / (resamples + 1)
    z0_Q = np.asarray(norm.ppf(share_Q))
    scale_Q = np.maximum((influence_QI**2).sum(1), np.finfo(float).tiny)
    skew_Q = (influence_QI**3).sum(1) / (6 * scale_Q**1.5)
    ends = []
    for z in np.asarray(norm.ppf(((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))):
        level_Q = np.asarray(norm.cdf(z0_Q + (z0_Q + z) / (1 - skew_Q * (z0_Q + z))))
        ends.append(np.array([np.quantile(each_R, level) for each_R, level in zip(value_QR, level_Q, strict=True)]))
    return ends[0], ends[1]


def student(estimate_Q: "np.ndarray", error_Q: "np.ndarray", n: int) -> "tuple[np.ndarray, np.ndarray]":
    """Student's t with n − 1 degrees of freedom."""
    from scipy.stats import t

    half_Q = t.ppf((1 + CONFIDENCE) / 2, n - 1) * error_Q
    return estimate_Q - half_Q, estimate_Q + half_Q


def sequential_runs(settings: Settings, name: str, images: "pd.DataFrame") -> "pd.DataFrame":
    """One row per (precision, order), and one for M of J_rms: coverage at the end, and the images taken till then.

    Rounds are those that the product chooses (`interactions.precision`). The passes of an image are those that it was
    measured with, so that only the number of images follows the rule.
    """
    import numpy as np
    import pandas as pd
    from tqdm import tqdm

    from interactions.occluded import wilson

    of_run = populations({name: images})[name]
    statistic, count, called = of_run.statistic, of_run.count, of_run.called
    truth_Q, runs = statistic(np.arange(count)[None])[0][..., 0], max(settings.repetitions // 10, 1)
    wanted = [k for k, label in enumerate(called) if label.startswith("J_rms") or label == "M of J_rms"]
    rows = []
    for precision in settings.precisions:
        generator = np.random.default_rng((settings.seed, int(1e6 * precision), sum(name.encode())))
        held, taken = np.zeros(len(called)), []
        for _ in tqdm(range(runs), f"{name}, ±{precision:g}", disable=not sys.stderr.isatty()):
            drawn_n = stopped_sample(images, precision, generator, settings.resamples)
            taken.append(len(drawn_n))
            low_Q, high_Q = written(of_run, drawn_n, settings.resamples, generator)
            held += (low_Q <= truth_Q) & (truth_Q <= high_Q)
        low_Q, high_Q = wilson(held / runs, np.asarray(runs))
        part = {"run": name, "precision": precision, "number": [called[k] for k in wanted]}
        part |= {"coverage": held[wanted] / runs, "low": low_Q[wanted], "high": high_Q[wanted]}
        rows.append(pd.DataFrame(part | {"images": float(np.median(taken)), "runs": runs}))
    return pd.concat(rows)


def stopped_sample(
    images: "pd.DataFrame", precision: float, generator: "np.random.Generator", resamples: int
) -> "np.ndarray":
    """The images of one run that goes on until its curve is narrow enough, by their places in the population.

    Images are drawn with replacement, so that the data never run out; at most five times as many as there are.
    """

    from interactions.precision import FIRST_IMAGES, curve_of, next_round

    rows, count = by_image(images), images.image.nunique()
    order_n = generator.integers(count, size=5 * count)
    taken = FIRST_IMAGES
    while True:
        drawn = sample(rows, order_n[:taken])
        curve = curve_of(drawn, resamples=resamples, seed=int(generator.integers(2**31)))
        following = next_round(drawn, curve, precision, len(order_n), 4)
        if following is None or following.again:
            return order_n[:taken]
        taken = following.last


def sample(rows: "pd.DataFrame", drawn_n: "np.ndarray") -> "pd.DataFrame":
    """The rows of the drawn images, by their places, each under a number of its own; `rows` as of `by_image`."""
    import numpy as np

    orders = rows.order.nunique()
    places = drawn_n[:, None] * orders + np.arange(orders)
    return rows.iloc[places.ravel()].assign(image=np.repeat(np.arange(len(drawn_n)), orders))


def summary(fixed: "pd.DataFrame", sequential: "pd.DataFrame") -> dict[str, Any]:
    """What the product's intervals do at worst, in a few numbers."""
    own = fixed[fixed.method == WRITTEN]
    unnoisy = own[own.number.str.contains("rms") | own.number.str.match(r"(M of )?J(\(|$)")]
    return {
        "least_coverage": {str(n): float(part.coverage.min()) for n, part in unnoisy.groupby("n")},
        "mean_coverage": {str(n): float(part.coverage.mean()) for n, part in unnoisy.groupby("n")},
        "least_coverage_after_stopping": float(sequential.coverage.min()),
        "mean_coverage_after_stopping": float(sequential.coverage.mean()),
    }
