"""What the tables of a CIFAR-10 study say, in sentences."""

from collections.abc import Hashable, Mapping
from math import isnan
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.records import between
from experiments.studies.cifar10.declared import MEASURE, TABLE, TESTED
from experiments.studies.cifar10.plan import FAMILIES, MASKED, Settings, size_of
from experiments.studies.methods import LABELS
from figures.words import setup_in_words
from interactions.published import CONTEXTS, contexts_of

PUBLISHED = "J"
"""The measure as published."""


def answers(kept: Path) -> list[str]:
    """The declared test in sentences: does masked-image training raise M, for each network, set-up and measure?"""
    path = kept / "differences.csv"
    if not path.is_file():
        return ["No two networks have been measured alike yet, so that there is nothing to say."]
    table = pd.read_csv(path)
    declared = kept / TABLE
    said = declared_answers(pd.read_csv(declared)) if declared.is_file() else []
    for (network, setup), rows in table.groupby(["network", "setup"], sort=False):
        masked = [LABELS[method] for method in MASKED if method != TESTED]
        against = rows[(rows["method_b"] == LABELS["supervised"]) & rows["method_a"].isin(masked)]
        for method, three in against.groupby("method_a", sort=False):
            said.append(answer(FAMILIES[str(network)], str(setup), str(method), three))
    if not said:
        return ["No masked-image method has been measured beside the supervised network yet."]
    if table["seeds"].max() == 1:
        said.append(
            "One seed a method: the intervals are over images, and say nothing of how another training run would come "
            "out. The question is not answered by them."
        )
    return [*said, "Images of 32×32 pixels and minutes of training are not ImageNet."]


def declared_answers(table: pd.DataFrame) -> list[str]:
    """Does masked-image training raise M? One sentence for each comparison, then what the published measure says."""
    primary = table[table["measure"] == MEASURE]
    # Of a table from before it was kept, those that it holds.
    said = [declared_answer(row, int(row.get("comparisons", len(primary)))) for row in primary.to_dict("records")]
    keys = ["network", "setup", "method_a", "method_b"]
    both = primary.merge(table[table["measure"] == PUBLISHED], on=keys, suffixes=("", "_published"))
    other = both[both["answer"] != both["answer_published"]]
    listed = "; ".join(
        f"{FAMILIES[row['network']]}, {setup_in_words(row['setup'])}, against {row['method_b']}: "
        f"{row['answer_published']} for {row['answer']}"
        for row in other.to_dict("records")
    )
    if len(both):
        said.append(
            f"The published measure, mean |I|, tested alike, would have said otherwise in {len(other)} of {len(both)} "
            f"comparisons{f' ({listed})' if listed else ''}."
        )
    return said


def declared_answer(row: dict[Hashable, Any], comparisons: int) -> str:
    """One comparison in a sentence."""
    found = "p unknown" + ", of one seed" * (row["seeds"] == 1)
    if pd.notna(row["p"]):
        found = f"p = {row['p']:.2g}, {row['p_holm']:.2g} for all {comparisons} comparisons"
    interval = f"{row['difference']:+.3f} {between(row)}"
    return (
        f"{FAMILIES[row['network']]}, {setup_in_words(row['setup'])}: does {row['method_a']} raise M against "
        f"{row['method_b']}? {row['answer'].capitalize()}: {interval}, {found} ({sample(row)})."
    )


def answer(network: str, setup: str, method: str, rows: pd.DataFrame) -> str:
    """One method against supervised training, in all measures, not corrected for their number."""
    parts, verdicts = [], set()
    for row in rows.to_dict("records"):
        low, high = float(row["low"]), float(row["high"])
        parts.append(f"{row['difference']:+.3f} {between(row)} by {row['measure']}")
        verdicts.add("unknown" if isnan(low) else "higher" if low > 0 else "lower" if high < 0 else "open")
    words = {
        frozenset({"higher"}): "raises the middle mass M by every measure",
        frozenset({"lower"}): "lowers the middle mass M by every measure",
        frozenset({"open"}): "leaves the middle mass M where it was, as far as the intervals tell",
        frozenset({"unknown"}): "has a middle mass M that cannot be compared yet",
    }
    verdict = words.get(
        frozenset(verdicts - {"unknown"} or verdicts), "changes the middle mass M by some measures and not by others"
    )
    return (
        f"{network}, {setup_in_words(setup)}: {method} {verdict}, against supervised: {'; '.join(parts)} "
        f"({sample(rows.iloc[0])}; each interval by itself)."
    )


def sample(row: Mapping[Hashable, Any] | pd.Series) -> str:
    """How many images and seeds a row is of."""
    return f"n = {row['images']} images, {row['seeds']} {'seed' if row['seeds'] == 1 else 'seeds'}"


def noise(settings: Settings) -> list[str]:
    """What four times the contexts do to the published measure, for each network."""
    path, size = settings.kept / "published.csv", size_of(settings)
    if not path.is_file():
        return []
    contexts = contexts_of(size.budget, size.published_pairs)
    table = pd.read_csv(path)
    said = []
    for (network, of), rows in table[table["measure"] == "J"].groupby(["network", "of"], sort=False):
        values = {
            str(row["contexts"]): f"{row['M']:.3f} {between(row, signed=False)}" for row in rows.to_dict("records")
        }
        if len(values) > 1:
            many, few = values["×4"], values["×1"]
            said.append(
                f"{FAMILIES[str(network)]}, published protocol, M of {of} with {contexts} contexts a pair (as "
                f"published: {CONTEXTS}): {few}; with {4 * contexts}: {many}."
            )
    return said
