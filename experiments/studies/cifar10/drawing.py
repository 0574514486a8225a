"""Every figure and the page of a CIFAR-10 study, drawn from what is finished."""

from collections.abc import Callable
from pathlib import Path

from experiments.studies.cifar10.answers import answers, noise
from experiments.studies.cifar10.plan import FAMILIES, Settings, backbone_of, everyone, folder_of
from experiments.studies.methods import LABELS, UNTRAINED
from experiments.studies.pages import Shown, draw, write_page
from experiments.studies.steps import is_complete
from figures.report import Section, open_runs, sections_of

HEADLINE = (UNTRAINED, "supervised", "simmim", "a2mim")
FOURIER = {"a2mim": "with Fourier loss", "spatial": "without"}


def draw_all(settings: Settings) -> int:
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
        if method in labels and is_complete(folder):
            found.append(Shown(folder, labels[method], FAMILIES[family]))
    return found
