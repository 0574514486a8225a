"""`make demo`: what an ImageNet model has learned, against the same network with random weights, in one figure; then
two small networks, trained on the spot and measured alike (demo_training.py), and a page of it all.

    python -m experiments.studies.demo

Profiles EfficientNet-Lite0 with its published ImageNet weights and with random ones, on crops of photographs that
scikit-image ships, and compares the two curves. The crops carry no ImageNet label: the class that is explained is the
trained network's own top one, the same for both. Nothing is downloaded.

Takes about six minutes of processor time, less than half of it to the first figure. Interrupted, it goes on where it
was; finished, it only draws again.
"""

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from torch import Tensor, nn

from a2mim.bounds import Budget, Count, Grid, Pixels, Share
from experiments import cli
from experiments.commands import report
from experiments.commands.profile import draw
from experiments.machine import commit
from experiments.measuring.comparison import Comparison, compare_runs
from experiments.models import create_model, efficientnet_lite0_file
from experiments.studies import demo_training
from figures.curves import PRIMARY
from interactions.baselines import Normalisation
from interactions.profile import profile_model

MODEL = "tf_efficientnet_lite0"
SIZE = 96  # pixels; at its own 224 the network takes five times as long
WEIGHTS = ("trained", "random")
NAMES = ("ImageNet weights", "random weights")

Box = tuple[int, int, int, int]

CROPS: tuple[tuple[str, Box], ...] = (
    ("astronaut.png", (0, 0, 512, 512)),
    ("chelsea.png", (75, 0, 375, 300)),
    ("coffee.png", (100, 0, 500, 400)),
    ("rocket.jpg", (150, 0, 577, 427)),
    ("motorcycle_left.png", (120, 0, 620, 500)),
    ("camera.png", (0, 0, 512, 512)),
    ("astronaut.png", (290, 0, 512, 222)),
    ("chelsea.png", (110, 30, 330, 250)),
)
"""Files of scikit-image's package, and what is cut out of each: left, top, right, bottom."""


@dataclass(frozen=True)
class Settings:
    """Measure what an ImageNet model has learned, against random weights, and train and measure two small networks.

    Takes about six minutes of processor time.

    For example:
        python -m experiments.studies.demo
        python -m experiments.studies.demo --out small --no-training --grid 4 --budget 200
    """

    out: Path = Path("demo")
    """Folder of all that is written."""
    crops: tuple[tuple[str, Box], ...] = CROPS
    """Files of scikit-image's package, and what is cut out of each: left, top, right, bottom."""
    size: Pixels = SIZE
    """Side of a crop in pixels."""
    grid: Grid = 4
    """Cells along one side of the image."""
    ratios: tuple[Share, ...] = (0.0, 0.3, 0.5, 0.7, 1.0)
    """Orders, as shares of n − 2."""
    radius: Count = 1
    """Pairs of cells at most so many rows and columns apart."""
    budget: Budget = 200
    """Passes for each image and order."""
    training: bool = True
    """Also train two small networks on digits, and measure them."""


def run(settings: Settings) -> None:
    """Profile both networks, draw both curves, train and profile two more, put all on a page, and name the files."""
    print(f"\n{measure(settings).report(PRIMARY)}", flush=True)
    runs = [(name, settings.out / name) for name in WEIGHTS]
    figures = [settings.out / "curves.png"]
    if settings.training:
        training = demo_training.Settings(settings.out / "training")
        demo_training.run(training)
        folders = [training.out / method for method in demo_training.METHODS]
        runs += [(folder.name, part) for folder in folders for part in (folder / "profile", folder)]
        figures.append(training.out / "curves.png")
    names, paths = zip(*runs, strict=True)
    report.run(report.Settings(paths, settings.out / "report.html", names, title="Demonstration"))
    profiles = [str(path) for path in paths if (path / "strength.csv").is_file()]
    print(f"every order, with all measures: strength.csv and strength.png in each of {', '.join(profiles)}")
    print(f"figures: {', '.join(map(str, figures))}\npage: {settings.out / 'report.html'}")


def measure(settings: Settings) -> Comparison:
    """Profile both networks and draw both curves."""
    trained, config = create_model(MODEL, efficientnet_lite0_file())
    networks = dict(zip(WEIGHTS, (trained, create_model(MODEL, "random")[0]), strict=True))
    images = [read_crop(file, box, config, settings.size) for file, box in settings.crops]
    data = list(zip(images, top_classes(trained, images), strict=True))
    for name, network in networks.items():
        print(f"\n{MODEL}, {name} weights: {len(data)} crops, {len(settings.ratios)} orders", flush=True)
        profile = profile_model(
            network,
            data,
            out=settings.out / name,
            grid=settings.grid,
            normalisation=Normalisation(config["mean"], config["std"]),
            names=[f"{file} {box}" for file, box in settings.crops],
            model_name=f"{MODEL} ({name})",
            data_name="scikit-image",
            about={"commit": commit()},
            ratios=settings.ratios,
            radius=settings.radius,
            budget=settings.budget,
            shuffle=False,
            speed="folded",
            batch_size=32,
        )
        draw(profile)
    photographs = len({file for file, _ in settings.crops})
    caption = (
        f"{len(data)} crops of {photographs} photographs, {settings.size} px; "
        "explained: the trained network's top class. "
        f"{settings.budget} passes a crop and order, a demonstration's: the intervals are wide."
    )
    return compare_runs(
        [settings.out / name for name in networks],
        settings.out / "curves.png",
        names=NAMES,
        title="How strongly the patches of an image interact, by order: EfficientNet-Lite0",
        caption=caption,
    )


def read_crop(file: str, box: Box, config: Mapping[str, Any], size: int = SIZE) -> Tensor:
    """One crop of one of scikit-image's photographs, C×size×size, normalised as the model's configuration says.

    Raises:
        FileNotFoundError: scikit-image is not installed, or without that photograph.
    """
    package = importlib.util.find_spec("skimage")
    folders = (package.submodule_search_locations or []) if package else []
    paths = [path for folder in folders if (path := Path(folder, "data", file)).is_file()]
    if not paths:
        raise FileNotFoundError(f"scikit-image's photograph {file} is not installed: pip install 'a2mim[demo]'")
    with Image.open(paths[0]) as photograph:
        crop = photograph.convert("RGB").crop(box)
    transform = timm.data.create_transform((3, size, size), mean=config["mean"], std=config["std"], crop_pct=1.0)
    return transform(crop)


@torch.inference_mode()
def top_classes(network: nn.Module, images: Sequence[Tensor]) -> list[int]:
    """The class that the network gives each image."""
    return network.eval()(torch.stack(list(images))).argmax(1).tolist()


if __name__ == "__main__":
    sys.exit(cli.start(Settings, run, sys.argv[1:], "python -m experiments.studies.demo"))
