"""The declared test: is the middle mass M of A²MIM's network higher than that of the others?

Written down before the comparisons were made (the margin when M of the first two networks was known): A²MIM against
supervised training and against SimCLR, by J_rms, in both set-ups and with every baseline, for every network. Intervals
and p-values are those of `interactions/hierarchy.py`, over seeds and images; p-values are corrected for all comparisons
of the table by Holm's method, for each measure by itself. The published measure J and its correction are tested in the
same way beside it: to see what they would have said.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from experiments.studies.cifar10.earlier import joined_networks
from experiments.studies.cifar10.plan import HEADLINE, Settings, setups
from experiments.studies.cifar10.tables import measured
from experiments.studies.methods import LABELS
from interactions.hierarchy import bootstrapped_differences, seeded_differences
from interactions.runs.files import write_csv

TABLE = "declared.csv"
TESTED = "a2mim"
AGAINST = tuple(method for method in HEADLINE if method != TESTED)
MEASURE = "J_rms"
LEVEL = 0.05
MARGIN = 0.1
"""A rise of M by less is none: a tenth of what an interaction is on average over all orders."""
YES, NO, OPEN = "yes", "no", "not with this budget"
COLUMNS = (
    "network", "setup", "measure", "method_a", "method_b", "difference", "low", "high", "boot_low", "boot_high", "p",
    "p_holm", "low_all", "high_all", "answer", "images", "seeds", "comparisons",
)  # fmt: skip


def declared(settings: Settings) -> pd.DataFrame:
    """One row for each comparison and measure.

    Returns:
        Columns network, setup, measure, method_a, method_b; difference of M, a − b, its 95 % interval low, high, and
        that of a bootstrap, boot_low, boot_high; p, p_holm; low_all, high_all: the interval that holds for all
        comparisons of its measure together (Bonferroni); answer: yes, no or not with this budget; images, seeds;
        comparisons: how many all are.
    """
    found = compared(settings)
    count = max(planned(settings), sum(len(pairs) for *_, pairs in found), 1)
    parts = []
    for family, setup, runs, pairs in found:
        keys = ["run_a", "run_b", "measure"]
        wide = seeded_differences(runs, pairs, confidence=1 - LEVEL / count)[[*keys, "low", "high"]]
        wide = wide.rename(columns={"low": "low_all", "high": "high_all"})
        table = (
            seeded_differences(runs, pairs).merge(wide, on=keys).merge(bootstrapped_differences(runs, pairs), on=keys)
        )
        parts.append(table.assign(network=family, setup=setup))
    if not parts:
        return pd.DataFrame(columns=list(COLUMNS))
    table = pd.concat(parts, ignore_index=True).rename(columns={"run_a": "method_a", "run_b": "method_b"})
    table["p_holm"] = table.groupby("measure")["p"].transform(lambda p: holm(p.to_numpy(), count))
    table["comparisons"] = count
    table["answer"] = [answered(row) for row in table.to_dict("records")]
    return table.replace({"method_a": LABELS, "method_b": LABELS})[list(COLUMNS)]


def collect_declared(settings: Settings) -> None:
    """declared.csv, where there is something to compare."""
    table = declared(settings)
    if len(table):
        write_csv(settings.kept / TABLE, table)
        print(f"\ndeclared\n{table.to_string(index=False, float_format='{:.3f}'.format)}")
    else:
        (settings.kept / TABLE).unlink(missing_ok=True)


def compared(
    settings: Settings,
) -> list[tuple[str, str, dict[str, list[pd.DataFrame]], list[tuple[str, str]]]]:
    """(network, set-up, profiles by method, pairs) wherever there is a pair to compare."""
    found: list[tuple[str, str, dict[str, list[pd.DataFrame]], list[tuple[str, str]]]] = []
    for family in settings.families:
        for setup in setups(family):
            runs = measured(settings, family, HEADLINE, setup.of)
            pairs = [(TESTED, other) for other in AGAINST if other in runs and TESTED in runs]
            if pairs:
                found.append((family, setup.name, runs, pairs))
    return found


def planned(settings: Settings) -> int:
    """How many comparisons the study will have when it is whole: what has not been measured yet counts, too, or an
    answer would turn when it has."""
    there = {*settings.all_methods, *(method for _, method, _ in joined_networks(settings))}
    others = [other for other in AGAINST if {TESTED, other} <= there]
    return len(others) * sum(len(setups(family)) for family in settings.families)


def holm(p: Sequence[float] | np.ndarray, count: int = 0) -> np.ndarray:
    """p-values corrected for all of them (Holm 1979): the smallest times their number, the next times one less, …, none
    below the one before. One that is missing stays so, and counts; so do those of a larger `count` that are not there
    yet."""
    values = np.asarray(p, dtype=float)
    count = max(count, len(values))
    order = np.argsort(values)  # NaN last
    raised = np.minimum(values[order] * (count - np.arange(len(values))), 1)
    corrected = np.empty_like(values)
    corrected[order] = np.maximum.accumulate(raised)
    return corrected


def answered(row: Mapping[Any, Any]) -> str:
    """yes: M is higher, by the corrected p; no: lower, or higher by less than MARGIN at most; else it is open."""
    if row["p_holm"] < LEVEL and row["difference"] > 0:
        return YES
    if row["p_holm"] < LEVEL or (np.isfinite(row["p"]) and row["high_all"] < MARGIN):
        return NO
    return OPEN
