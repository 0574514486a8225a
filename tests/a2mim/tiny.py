"""A tiny backbone with batch norm and dropout, two methods on it, and images: all that a resume could get wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from a2mim.data import Source
from a2mim.dist import World
from a2mim.images import Images
from a2mim.methods import Method
from a2mim.plain import to_plain
from a2mim.runs import newest_state, open_run
from a2mim.settings import Augmentation, Loop, Mixing, Optim
from a2mim.train import train

SIZE = 16
OPTIM = Optim(epochs=3, lr=1e-2, lr_batch=8, warmup_epochs=1)
LOOP = Loop(batch=8, log_every=2, save_every=3)
VIEW = Augmentation(image_size=SIZE, color_jitter=0.3)
WORLD = World()


class Net(nn.Module):
    """Convolution, batch norm, dropout, linear: 16×16 images, 4 classes, with timm's verbs."""

    def __init__(self, classes=4, dropout=0.1, norm=True):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.norm = nn.BatchNorm2d(8) if norm else nn.Identity()
        self.drop = nn.Dropout(dropout)
        self.block = nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(8, classes)
        self.num_classes = classes

    def forward_features(self, x):
        return self.block(self.drop(F.gelu(self.norm(self.stem(x)))))

    def forward_head(self, x, pre_logits=False):
        pooled = x.mean((2, 3))
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, x):
        return self.forward_head(self.forward_features(x))

    def group_matcher(self, coarse=False):
        return {"stem": r"^stem|^norm", "blocks": r"^block"}


class Classify(Method):
    """Cross entropy, and nothing random of its own."""

    backbone: Any

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.begun, self.progress = [], []

    def forward(self, batch, generator):
        return {"loss": F.cross_entropy(self.backbone(batch["image"]), batch["target"])}

    def after_step(self, begun, done):
        self.begun.append(begun)
        self.progress.append(done)


class Denoise(Classify):
    """Predicts its image from one with noise drawn from the generator; a running mean as a method's own state."""

    centre: torch.Tensor

    def __init__(self, backbone):
        super().__init__(backbone)
        self.decoder = nn.ConvTranspose2d(8, 3, 4, stride=4)
        self.register_buffer("centre", torch.zeros(8))
        backbone.fc.requires_grad_(False)

    def forward(self, batch, generator):
        image = batch["image"]
        noise = torch.randn(image.shape, generator=generator)
        features = self.backbone.forward_features(image + noise)
        self.centre.lerp_(features.detach().mean((0, 2, 3)), 0.1)
        loss = (self.decoder(features) - image).abs().mean()
        return {"loss": loss, "noise": noise.abs().mean()}

    def pictures(self, batch, generator):
        image = batch["image"]
        noisy = image + torch.randn(image.shape, generator=generator)
        predicted = self.decoder(self.backbone.forward_features(noisy))
        return {"original": image, "masked": noisy, "predicted": predicted, "composite": predicted}


def write_images(folder, per_class=8, classes=4, size=20):
    """Noise images of one colour cast per class, in one folder per class."""
    rng = np.random.default_rng(0)
    for label in range(classes):
        (Path(folder) / f"class{label}").mkdir(parents=True)
        for number in range(per_class):
            pixels = rng.integers(0, 120, (size, size, 3)) + 100 * (np.arange(3) == label % 3)
            Image.fromarray(pixels.astype(np.uint8)).save(Path(folder) / f"class{label}" / f"{number}.png")
    return Path(folder)


def tiny_images(samples=32, size=20):
    """The same without files: a list of (PIL image, label)."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (samples, size, size, 3)).astype(np.uint8)
    return Images([(Image.fromarray(each), number % 4) for number, each in enumerate(pixels)], "noise", samples)


def tiny_source(images=None, view=VIEW, mixing=None, workers=0):
    mean, std = (0.5,) * 3, (0.25,) * 3
    return Source(images or tiny_images(), (view,), mean, std, mixing or Mixing(), 4, workers)


def tiny_method(kind=Denoise, **net):
    torch.manual_seed(0)
    return kind(Net(**net))


def tiny_run(folder, kind=Denoise, source=None, optim=OPTIM, loop=LOOP, world=WORLD, hooks=None, net=None):
    """Train in `folder` from where it stands; returns the method and what `train` returned."""
    if world.main:
        open_run(Path(folder), "test", {"optim": to_plain(optim)})
    world.wait()
    method = tiny_method(kind, **(net or {}))
    extra = {"hooks": hooks} if hooks else {}
    result = train(method, source or tiny_source(), Path(folder), optim, loop, world, {"architecture": "tiny"}, **extra)
    return method, result


def state_of(folder) -> Any:
    """The newest saved state of a run."""
    return newest_state(Path(folder))


def same(first, second):
    """Whether two state dicts are equal bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def gap(first, second):
    """Largest absolute difference between two state dicts."""
    return max(float((first[name].double() - second[name].double()).abs().max()) for name in first)


def log_of(folder):
    """log.jsonl without what depends on the clock."""
    lines = [json.loads(line) for line in (Path(folder) / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "images_per_second"} for line in lines]
