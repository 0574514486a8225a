"""A network, images and a run small enough for tests, and what processes of their own do with them."""

import os
import resource
import signal
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from interactions.profile import profile_model

SIZE, CLASSES = 12, 5
DISK_FULL = 28
"""The exit code that says so."""


class Photos:
    """Random images with labels; `broken` ones cannot be read."""

    def __init__(self, count: int, broken: tuple[int, ...] = (), label: int | None = None) -> None:
        self.count, self.broken, self.label = count, broken, label

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index in self.broken:
            raise OSError(f"cannot identify image file {index}")
        pixels = torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(index))
        return pixels, index % CLASSES if self.label is None else self.label


def network(seed: int = 0) -> nn.Module:
    """A small convolutional classifier, non-linear enough for every order to interact."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(3, 12, 3, stride=2),
            nn.Tanh(),
            nn.Conv2d(12, 12, 3),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(108, CLASSES),
        )
        for parameter in model.parameters():
            parameter.data *= 2
    return model


class Slow(nn.Module):
    """The same network, with a pause in every pass, so that there is time to interrupt it."""

    def __init__(self, pause: float) -> None:
        super().__init__()
        self.model, self._pause = network(), pause

    def forward(self, x_BCHW: Tensor) -> Tensor:
        time.sleep(self._pause)
        return self.model(x_BCHW)


ASKED = {
    "grid": 4,
    "radius": 1,
    "ratios": (0.0, 0.3, 0.5, 1.0),
    "budget": 400,
    "images": 7,
    "unit_images": 2,
    "design": "pairwise",
    "batch_size": 64,
    "speed": "plain",  # what a stopwatch chooses differs between two runs
}


def run(out: Path, pause: float = 0.0) -> None:
    """The run that others are compared with."""
    profile_model(Slow(pause), Photos(9, broken=(3,)), out=out, progress=False, **ASKED)


def run_to_a_precision(out: Path) -> None:
    """Several rounds, each of which the images before it plan, by two orders with a choice of designs."""
    asked = ASKED | {"grid": 3, "ratios": (0.0, 0.3, 0.5), "unit_images": 8, "budget": None, "design": "auto"}
    profile_model(network(), Photos(90), out=out, progress=False, **{**asked, "images": None, "precision": 0.2})


def run_with_files_up_to(size: int, out: Path) -> None:
    """The same on a disk that is full for every file of more than so many bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        run(out)
    except OSError:
        os._exit(DISK_FULL)


def refused_and_run(refused: Path, out: Path) -> None:
    """First a folder that holds something else: what each process is told is beside it."""
    try:
        run(refused)
    except ValueError as error:
        refused.with_suffix(f".{os.environ['RANK']}").write_text(str(error))
    run(out)
