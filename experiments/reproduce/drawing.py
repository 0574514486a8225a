"""Every figure and the page of a study, drawn from what is finished by the very commands that a user types."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from experiments import cli
from experiments.reproduce import cifar10, lite0
from experiments.reproduce.cifar10 import FAMILIES, MASKED, UNTRAINED, backbone_of, folder_of
from experiments.reproduce.results import LABELS, everyone
from experiments.steps import is_complete
from figures.report import Section, open_runs, sections_of, write_report
from interactions.runs.files import remove_orphans, write_csv

HEADLINE = (UNTRAINED, "supervised", "simmim", "a2mim")
FOURIER = {"a2mim": "with Fourier loss", "spatial": "without"}


class Shown(NamedTuple):
    """A folder of results, and what a figure calls it and its panel."""

    folder: Path
    name: str
    panel: str


def draw_cifar10(settings: cifar10.Settings) -> int:
    """figures/ and report.html, of what is there; the exit code: 0, or that of the first figure that failed."""
    tuned = shown(settings, folder_of, "profile-8")
    frozen = shown(settings, backbone_of, "frozen-8")
    occluded = shown(settings, folder_of, "occlusion")
    spectra = shown(settings, backbone_of, "spectrum")
    headline = [LABELS[method] for method in HEADLINE]
    fourier = shown(settings, backbone_of, "", FOURIER)
    figures = {
        "fig1": [*occluded, *tuned],
        "fig4": fourier if len({each.name for each in fourier}) == len(FOURIER) else [],
        "fig5": [each for each in tuned if each.name in headline],
        "fig5-16": shown(settings, folder_of, "profile-16"),
        "figA1": tuned,
        "figA2": frozen,
        "figA3": spectra,
        "figA4": spectra,
    }
    codes = [draw(name.split("-")[0], runs, settings.kept / "figures" / name) for name, runs in figures.items()]
    for figure, table in {"mass": "masses.csv", "fig6": "token_position.csv"}.items():
        if (settings.kept / table).is_file():
            codes.append(draw(figure, [Shown(settings.kept, "", "")], settings.kept / "figures" / figure))
    runs = [*tuned, *occluded, *spectra]
    folders, names = [each.folder for each in runs], [f"{each.panel} {each.name}" for each in runs]
    if (settings.kept / "accuracy.csv").is_file():
        folders, names = [settings.kept, *folders], ["study", *names]
    summary = Section("What came out", [*answers(settings.kept), *noise(settings.kept)])
    sections = sections_of(open_runs(folders, names)) if folders else []
    write_page(settings.kept, [summary, *sections], "CIFAR-10")
    print(f"\nwrote {settings.kept / 'report.html'}")
    return next(filter(None, codes), 0)


def draw_lite0(settings: lite0.Settings) -> int:
    """figures/ and report.html, of what is there; the exit code, as `draw_cifar10` returns it."""
    codes = []
    found: dict[str, list[Shown]] = {}
    for name, label in lite0.NAMES.items():
        for verb in ("profile", "occlusion", "spectrum"):
            if is_complete(folder := settings.out / name / verb):
                found.setdefault(verb, []).append(Shown(folder, label, "EfficientNet-Lite0"))
                for table in folder.glob("*.csv"):
                    write_csv(settings.kept / "tables" / f"{name}-{table.name}", pd.read_csv(table))
    for figure, verbs in {
        "fig1": ("occlusion", "profile"),
        "fig5": ("profile",),
        "figA3": ("spectrum",),
        "figA4": ("spectrum",),
    }.items():
        shown_there = [each for verb in verbs for each in found.get(verb, [])]
        codes.append(draw(figure, shown_there, settings.kept / "figures" / figure))
    runs = [each for some in found.values() for each in some]
    if runs:
        names = [f"{each.name}, {each.folder.name}" for each in runs]
        write_page(settings.kept, sections_of(open_runs([e.folder for e in runs], names)), "Lite0")
    return next(filter(None, codes), 0)


def write_page(kept: Path, sections: list[Section], title: str) -> None:
    """report.html, and nothing of one whose writing was cut short."""
    remove_orphans(kept, "report.html")
    write_report(kept / "report.html", sections, title)


def shown(
    settings: cifar10.Settings,
    of: Callable[[cifar10.Settings, str, str, int], Path],
    name: str,
    labels: dict[str, str] = LABELS,
) -> list[Shown]:
    """The finished folders of that name, of every network, method and seed."""
    found = []
    for family, method, seed in everyone(settings):
        folder = of(settings, family, method, seed) / name
        if method in labels and is_complete(folder):
            found.append(Shown(folder, labels[method], FAMILIES[family]))
    return found


def draw(figure: str, runs: Iterable[Shown], out: Path) -> int:
    """`a2mim figure`, where there is something to draw; its exit code."""
    runs = list(runs)
    if not runs:
        print(f"{figure}: nothing is finished that it could be drawn from")
        return 0
    words = ["figure", figure, *(str(each.folder) for each in runs)]
    if any(each.name for each in runs):
        words += ["--names", *(each.name for each in runs), "--panels", *(each.panel for each in runs)]
    return cli.main([*words, "--out", str(out)])


# ------------------------------------------------------------------------------------------- the answer


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
