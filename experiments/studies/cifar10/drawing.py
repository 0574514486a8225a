"""Every figure and the page of a CIFAR-10 study, drawn from what is finished."""

from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.folders import is_complete
from experiments.studies.cifar10.answers import answers, noise
from experiments.studies.cifar10.plan import CORE, COURSE, FAMILIES, Settings, backbone_of, everyone, folder_of, setups
from experiments.studies.methods import COMPARED, KINDS, LABELS
from experiments.studies.pages import Shown, draw, write_page
from figures.report import Section, open_runs, sections_of

FOURIER = {"a2mim": "with Fourier loss", "spatial": "without"}


def draw_all(settings: Settings) -> int:
    """figures/ and report.html, of what is there; the exit code: 0, or that of the first figure that failed."""
    tuned = shown(settings, folder_of, "profile-8")
    frozen = shown(settings, backbone_of, "frozen-8")
    occluded = shown(settings, folder_of, "occlusion")
    spectra = shown(settings, backbone_of, "spectrum")
    core = [LABELS[method] for method in CORE]
    fourier = shown(settings, backbone_of, "", FOURIER)
    figures = {
        "fig1": by_kind([*occluded, *tuned]) if occluded else [],
        "fig5": [each for each in tuned if each.name in core],
        "fig5-16": shown(settings, folder_of, "profile-16"),
        "figA1": by_kind(tuned),
        "figA2": by_kind(frozen),
        "figA3": by_kind(spectra),
        "figA4": by_kind(spectra),
    }
    place = settings.kept / "figures"
    for setup in dict.fromkeys(each for family in FAMILIES for each in setups(family) if each.baseline != "mean"):
        runs = shown(settings, backbone_of if setup.frozen else folder_of, setup.folder)
        figures[f"{'figA2' if setup.frozen else 'figA1'}-{setup.baseline}"] = by_kind(runs)
    codes = [draw(name.split("-")[0], runs, place / name, COMPARED) for name, runs in figures.items()]
    codes.append(draw("course", shown(settings, backbone_of, f"{COURSE.folder}-course"), place / "course"))
    codes.append(draw("fig4", fourier if len({each.name for each in fourier}) == len(FOURIER) else [], place / "fig4"))
    for figure, table in {"mass": "masses.csv", "fig6": "token_position.csv"}.items():
        tabled = [Shown(settings.kept, "", "")] if (settings.kept / table).is_file() else []
        codes.append(draw(figure, tabled, place / figure))
    said = [*answers(settings.kept), *noise(settings)]
    some = any(settings.kept.glob("*.csv")) or any(place.glob("*.png"))
    sections = sections_of(open_runs([settings.kept], ["study"]), said=said) if some else [Section("Summary", said)]
    write_page(settings.kept, sections, "CIFAR-10")
    print(f"\nwrote {settings.kept / 'report.html'}")
    return next(filter(None, codes), 0)


def by_kind(runs: Sequence[Shown]) -> list[Shown]:
    """The runs in a panel for each network and kind of pre-training; what these are compared with is in each one."""
    found = []
    for family in dict.fromkeys(each.panel for each in runs):
        own = [each for each in runs if each.panel == family]
        kinds = dict.fromkeys(KINDS[each.name] for each in own if each.name in KINDS)
        for kind in kinds:
            panel = [each for each in own if KINDS.get(each.name, kind) == kind]
            found += [each._replace(panel=f"{family}, {kind}") for each in panel]
        found += [] if kinds else own
    return found


def shown(
    settings: Settings,
    of: Callable[[Settings, str, str, int], Path],
    name: str,
    labels: dict[str, str] = LABELS,
) -> list[Shown]:
    """The finished folders of that name, of every network, method and seed."""
    found = []
    for family, method, seed in everyone(settings):
        folder = of(settings, family, method, seed) / name
        if method in labels and is_there(folder):
            found.append(Shown(folder, labels[method], FAMILIES[family]))
    return found


def is_there(folder: Path) -> bool:
    """Whether a run came to its end; of a study that was joined there may be the table alone, without a record."""
    return is_complete(folder) or (any(folder.glob("*.csv")) and not (folder / "run.json").exists())
