"""The most memory that a process ever held: with a model's bare forward pass, or with a profile around it."""

import resource
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

SIDE = 56
EVERY = 320


class Seldom(nn.Module):
    """The model in one call out of `EVERY`, a small network in the others: the same peak in less time."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.calls = model, 0
        self.small = nn.Sequential(
            nn.AvgPool2d(SIDE // 14), nn.Flatten(), nn.Linear(588, 32), nn.Tanh(), nn.Linear(32, 1000)
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        self.calls += 1
        return self.model(x_BCHW) if self.calls % EVERY == 1 else self.small(x_BCHW)


def bare(model: nn.Module, batch: int) -> None:
    """The forward pass on ready-made batches."""
    x_BCHW = torch.randn(batch, 3, SIDE, SIDE)
    with torch.inference_mode():
        for _ in range(2):
            model(x_BCHW)


def profile(model: nn.Module, batch: int, out: Path) -> None:
    """A profile of one image at n = 196, 13 orders, 3,000 passes an order."""
    from interactions.profile import profile_model

    images = [(torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)), 7)]
    profile_model(Seldom(model), images, out=out, grid=14, budget=3000, batch_size=batch, speed="plain", progress=False)  # type: ignore[arg-type]


def of_a_process(said: Path, name: str, batch: int, out: Path | None = None) -> None:
    """Write the peak of this process, in bytes, to a file: with a profile where there is a folder for it."""
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    if out:
        profile(model, batch, out)
    else:
        bare(model, batch)
    said.write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))
