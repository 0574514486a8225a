"""Tiny methods that compare views, and a training of each that test_siamese also runs in two processes."""

import dataclasses
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from a2mim.data import Source
from a2mim.dist import World, join
from a2mim.methods import METHODS
from a2mim.runs import open_run
from a2mim.settings import Augmentation, Loop, Mixing, Optim
from a2mim.train import train
from tests.a2mim.tiny import tiny_images

SIZE = 16
GIVEN = Augmentation(image_size=SIZE)
SETTINGS: dict[str, dict[str, Any]] = {
    "simclr": {"hidden": 12, "embedding": 8},
    "byol": {"hidden": 12, "embedding": 8, "momentum": 0.9},
    "mocov3": {"hidden": 12, "embedding": 8, "momentum": 0.9},
    "dino": {"hidden": 12, "bottleneck": 6, "prototypes": 10, "momentum": 0.9, "local_crops": 3, "local_size": 8},
}
VIT = {"architecture": "vit_tiny_patch16_224", "img_size": SIZE, "patch_size": 4, "embed_dim": 16, "depth": 1}
VIT |= {"num_heads": 2, "num_classes": 0, "dynamic_img_size": True}
# Without a class token, whose first gradients are huge and magnify rounding.
POOLED = VIT | {"class_token": False, "global_pool": "avg"}
RESNET = {"architecture": "resnetv2_18d", "layers": (1, 1), "channels": (8, 16), "num_classes": 0}
# Not AdamW: it would forgive a gradient of a wrong scale, and turn the rounding of one that is zero into steps.
OPTIM = Optim(epochs=2, optimizer="momentum", lr=0.1, lr_batch=8, warmup_epochs=1, weight_decay=1e-4)
LOOP = Loop(batch=8, log_every=2)


def backbone(architecture, **more) -> Any:
    torch.manual_seed(0)
    arguments = {**architecture, **more}
    return timm.create_model(arguments.pop("architecture"), **arguments)


def made(name, architecture=VIT, **settings) -> Any:
    """The method on a seeded tiny backbone."""
    kind: Any = METHODS[name]
    return kind(backbone(architecture), kind.Settings(**{"image_size": SIZE, **SETTINGS[name], **settings}))


def batch_of(method, size=4, seed=0):
    """Views of noise in the sizes that the method asks for."""
    generator = torch.Generator().manual_seed(seed)
    sides = [view.image_size for view in method.views(GIVEN)]
    return {"image": [torch.randn(size, 3, side, side, generator=generator) for side in sides]}


def without_norms(method):
    """Without batch norms, so that what a process computes does not depend on which images it has."""
    for parent in list(method.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm1d):
                setattr(parent, name, nn.Identity())
    return method


def run(folder, method, architecture=VIT, world=None, **loop):
    """Train for 8 steps, or from where the folder's run stands; returns what `train` returned."""
    world = world or World()
    if world.main:
        open_run(Path(folder), "test", {})
    world.wait()
    source = Source(tiny_images(), method.views(GIVEN), (0.5,) * 3, (0.25,) * 3, Mixing())
    # a head whose first outputs are near zero, in front of a normalisation, has large gradients
    optim = dataclasses.replace(OPTIM, lr=1e-4) if isinstance(method, METHODS["dino"]) else OPTIM
    return train(method, source, Path(folder), optim, dataclasses.replace(LOOP, **loop), world, architecture)


def pair(folder):
    """Run by each of two processes."""
    with join("cpu") as world:
        for name in SETTINGS:
            method = without_norms(made(name, POOLED))
            run(folder / name, method, POOLED, world)
            torch.save(method.state_dict(), folder / f"{name}-{world.rank}.pt")
