"""A program that prints the most memory that its process ever held, in bytes.

python peak.py bare MODEL BATCH            a timm model's forward pass on ready-made batches
python peak.py profile MODEL BATCH OUT     a profile of one image at n = 196, 13 orders, 3,000 passes an order
"""

import resource
import sys

import timm
import torch
from torch import Tensor, nn

SIDE = 112
EVERY = 160


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
    x_BCHW = torch.randn(batch, 3, SIDE, SIDE)
    with torch.inference_mode():
        for _ in range(3):
            model(x_BCHW)


def profile(model: nn.Module, batch: int, out: str) -> None:
    from interactions.profile import profile_model

    images = [(torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)), 7)]
    profile_model(Seldom(model), images, out=out, grid=14, budget=3000, batch_size=batch, speed="plain", progress=False)  # type: ignore[arg-type]


if __name__ == "__main__":
    torch.manual_seed(0)
    made = timm.create_model(sys.argv[2]).eval()
    if sys.argv[1] == "bare":
        bare(made, int(sys.argv[3]))
    else:
        profile(made, int(sys.argv[3]), sys.argv[4])
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
