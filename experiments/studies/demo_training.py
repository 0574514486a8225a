"""The second part of `make demo`: the way from training to a curve.

Trains a small ViT on handwritten digits that scikit-learn ships (1,797 of them, 8×8 pixels, enlarged), once supervised
and once by A²MIM without labels, and profiles both by the cosine to the features of the whole image, which needs no
classifier. A demonstration, not evidence: a minute of training on digits says nothing about the methods.
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from a2mim.dist import join
from experiments.commands.pretrain import Settings as Pretrain
from experiments.commands.pretrain import pretrain
from experiments.commands.profile import draw
from experiments.machine import commit
from experiments.measuring.comparison import Comparison, compare_runs
from experiments.recipes import digits
from experiments.recipes.digits import NETWORK, SIZE
from experiments.training.assembly import make_network
from figures.curves import PRIMARY
from interactions.profile import profile_model

METHODS = {"supervised": digits.supervised, "a2mim": digits.a2mim}
NOTE = "Demonstration, not evidence: under a minute of training each, on 8×8 digits."


@dataclass(frozen=True)
class Settings:
    """What the demonstration trains and measures."""

    out: Path = Path("demo/training")
    digits: int = 1500
    """Images to train on; the others validate, and are profiled."""
    epochs: int = 6
    images: int = 8
    ratios: tuple[float, ...] = (0.0, 0.3, 0.5, 0.7, 1.0)
    budget: int = 200


def run(settings: Settings) -> None:
    """Train both networks, profile both, draw both curves, and say what they show."""
    print(f"\n{NOTE}\n{measure(settings).report(PRIMARY)}")


def measure(settings: Settings) -> Comparison:
    """Train both networks, profile both, draw both curves."""
    folder = write_digits(settings.out / "digits", settings.digits)
    images, names = read_digits(folder / "validation", settings.images)
    for method in METHODS:
        trained = settings.out / method
        print(f"\n{method} on {settings.digits} digits", flush=True)
        with join("cpu") as world:
            pretrain(recipe(method, folder, trained, settings.epochs), world)
        profile = profile_model(
            make_network(replace(NETWORK, weights=str(trained)), 0, SIZE, seed=0)[0],
            images,
            out=trained / "profile",
            grid=6,
            names=names,
            model_name=f"small ViT ({method})",
            data_name="digits",
            about={"commit": commit()},
            value="cosine",
            ratios=settings.ratios,
            radius=1,
            budget=settings.budget,
            shuffle=False,
            speed="plain",
            batch_size=64,
        )
        draw(profile)
    return compare_runs(
        [settings.out / method / "profile" for method in METHODS],
        settings.out / "curves.png",
        names=("supervised", "A²MIM"),
        title="From training to a curve: a small ViT on handwritten digits",
        caption=NOTE,
    )


def recipe(method: str, data: Path, out: Path, epochs: int) -> Pretrain:
    """The method's recipe for these images, with so many epochs."""
    whole = METHODS[method]()
    return replace(
        whole,
        out=str(out),
        data=replace(whole.data, data=str(data)),
        optim=replace(whole.optim, epochs=epochs),
        loop=replace(whole.loop, evaluate_every=max(1, epochs // 2), pictures_every=epochs),
    )


def write_digits(folder: Path, training: int) -> Path:
    """scikit-learn's digits as PNG files, train/CLASS/NUMBER.png and validation/CLASS/NUMBER.png.

    Raises:
        FileNotFoundError: scikit-learn is not installed.
    """
    if folder.exists():
        return folder
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise FileNotFoundError("scikit-learn's digits are not installed: pip install 'a2mim[demo]'") from error
    half_made = folder.with_name("digits.part")
    shutil.rmtree(half_made, ignore_errors=True)
    shipped: Any = load_digits()
    order = np.random.default_rng(0).permutation(len(shipped.target))
    for place, number in enumerate(order.tolist()):
        part = "train" if place < training else "validation"
        path = half_made / part / str(shipped.target[number]) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = Image.fromarray((shipped.images[number] * (255 / 16)).astype(np.uint8))
        grey.resize((SIZE, SIZE), Image.Resampling.BICUBIC).convert("RGB").save(path)
    half_made.rename(folder)
    return folder


def read_digits(folder: Path, count: int) -> tuple[list[tuple[torch.Tensor, int]], list[str]]:
    """The first `count` images by file name, every class in turn, and their names."""
    by_class = [sorted(each.iterdir()) for each in sorted(folder.iterdir())]
    paths = [paths[k] for k in range(-(-count // len(by_class))) for paths in by_class][:count]
    transform = timm.data.create_transform(
        (3, SIZE, SIZE), mean=IMAGENET_DEFAULT_MEAN, std=IMAGENET_DEFAULT_STD, crop_pct=1.0
    )
    images = []
    for path in paths:
        with Image.open(path) as image:
            images.append((transform(image.convert("RGB")), int(path.parent.name)))
    return images, [f"{path.parent.name}/{path.name}" for path in paths]
