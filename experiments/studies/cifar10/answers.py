"""What the tables of a CIFAR-10 study say, in sentences."""

from pathlib import Path

import pandas as pd

from experiments.studies.cifar10.plan import FAMILIES, MASKED
from experiments.studies.methods import LABELS


def answers(kept: Path) -> list[str]:
    """The declared test in sentences: does masked-image training raise M, for each network, set-up and measure?"""
    path = kept / "differences.csv"
    if not path.is_file():
        return ["No two networks have been measured alike yet, so that there is nothing to say."]
    table = pd.read_csv(path)
    said = []
    for (network, setup), rows in table.groupby(["network", "setup"], sort=False):
        masked = [LABELS[method] for method in MASKED]
        against = rows[(rows["method_b"] == LABELS["supervised"]) & rows["method_a"].isin(masked)]
        for method, three in against.groupby("method_a", sort=False):
            said.append(answer(FAMILIES[str(network)], str(setup), str(method), three))
    if not said:
        return ["No masked-image method has been measured beside the supervised network yet."]
    seeds = int(table["seeds"].min())
    if seeds == 1:
        said.append(
            "One seed a method: the intervals are over images, and say nothing of how another training run would come "
            "out. The question is not answered by them."
        )
    return [*said, "Images of 32×32 pixels and hours of training are not ImageNet."]


def answer(network: str, setup: str, method: str, rows: pd.DataFrame) -> str:
    """One method against supervised training, in all measures."""
    parts, verdicts = [], set()
    for row in rows.to_dict("records"):
        low, high = float(row["low"]), float(row["high"])
        parts.append(f"{row['difference']:+.3f} [{low:+.3f}, {high:+.3f}] by {row['measure']}")
        verdicts.add("higher" if low > 0 else "lower" if high < 0 else "open")
    words = {
        frozenset({"higher"}): "raises the middle mass M by every measure",
        frozenset({"lower"}): "lowers the middle mass M by every measure",
        frozenset({"open"}): "leaves the middle mass M where it was, as far as the intervals tell",
    }
    verdict = words.get(frozenset(verdicts), "changes the middle mass M by some measures and not by others")
    first = rows.iloc[0]
    return (
        f"{network}, {setup}: {method} {verdict}, against supervised: {'; '.join(parts)} (n = {first.images} images)."
    )


def noise(kept: Path) -> list[str]:
    """What four times the contexts do to the published measure, for each network."""
    path = kept / "published.csv"
    if not path.is_file():
        return []
    table = pd.read_csv(path)
    said = []
    for (network, of), rows in table[table["measure"] == "J"].groupby(["network", "of"], sort=False):
        values = {
            str(row["contexts"]): f"{row['M']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
            for row in rows.to_dict("records")
        }
        if len(values) > 1:
            many, few = values["×4"], values["×1"]
            said.append(
                f"{FAMILIES[str(network)]}, published protocol, M of {of}: {few}; with four times the contexts {many}."
            )
    return said
