"""Small games whose exact interactions are known: real networks with all coalitions in a table, and closed forms."""

from functools import cache

import torch
from torch import Tensor, nn

from interactions.estimators import exact
from interactions.estimators.sample import Interactions
from interactions.game import PatchGame
from interactions.grid import PatchGrid


class TableGame:
    """A game whose 2^n values stand in a table, row b for the cells of b's binary digits."""

    def __init__(self, values_B: Tensor) -> None:
        self.values_B = values_B.double()
        self.n_players = len(values_B).bit_length() - 1
        self.passes = 0

    def __call__(self, coalitions_BN: Tensor) -> Tensor:
        self.passes += len(coalitions_BN)
        return self.values_B[(coalitions_BN.long() << torch.arange(self.n_players)).sum(1)]

    def exact(self, order: int, pairs_P2: Tensor) -> Interactions:
        sample = exact.draw(order, pairs_P2, self.n_players)
        return sample.estimate(self(sample.coalitions_BN))


def all_coalitions(n_players: int) -> Tensor:
    """Every coalition, in the order of `TableGame`."""
    return (torch.arange(1 << n_players)[:, None] >> torch.arange(n_players) & 1).bool()


class Attention(nn.Module):
    """One attention layer over the four-pixel cells of a small image."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 2, stride=2)
        self.attend = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 5))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        tokens_BLD = 3 * self.embed(x_BCHW).flatten(2).transpose(1, 2)
        return 3 * self.head(tokens_BLD + self.attend(tokens_BLD, tokens_BLD, tokens_BLD)[0]).mean(1)


def convolution() -> nn.Module:
    """Two convolutions and a classifier."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 2, stride=2), nn.GELU(), nn.Conv2d(16, 16, 2), nn.GELU(), nn.Flatten(), nn.LazyLinear(5)
    )


@cache
def network_game(kind: str, side: int) -> TableGame:
    """The log-odds game of a random network of one kind on a random image, over a side×side grid."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(side)
        model = {"convolution": convolution, "attention": Attention}[kind]()
        image = 2 * torch.randn(3, 2 * side, 2 * side)
        model(image[None])
        for parameter in model.parameters():
            parameter.data *= 1.5
    game = PatchGame(model, image, 2, PatchGrid(side), batch_size=4096)
    return TableGame(game(all_coalitions(side**2)))
