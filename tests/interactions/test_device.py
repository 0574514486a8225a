"""On an accelerator no tensor meets one of another device, and nothing waits for the device before all is evaluated.

The accelerator is played by the meta device (tests/device.py): reading a value of it raises.
"""

from contextlib import nullcontext

import pytest
import torch

from interactions.estimators import Plan, auto, draw
from interactions.game import PatchGame
from interactions.grid import PatchGrid
from interactions.shuffling import ShuffledGame
from interactions.values import VALUES
from tests.device import DEVICE, one_device
from tests.interactions.test_tokens import drop_game
from tests.interactions.test_tokens import network as transformer
from tests.interactions.tiny import Photos, network

GRID = PatchGrid(4)
PAIRS = GRID.neighbours(1)
IMAGES = torch.stack([Photos(2)[k][0] for k in range(2)])
DESIGNS = [("exact", 0, 300), ("pairwise", 7, 600), ("shared", 7, 600), ("pooled", 7, 600), ("pooled", 7, 2500)]
TWO_LEVELS = {"again": 0.2, "cost": 0.5}


def test_the_stand_in_refuses_what_an_accelerator_would():
    x, y = torch.ones(2, 2, device=DEVICE), torch.ones(2, 2)
    for wait in (lambda: x[0, 0].item(), lambda: bool(x.sum() > 0), x.nonzero, x.cpu, x.tolist, lambda: x[x > 0]):
        with pytest.raises((RuntimeError, NotImplementedError)):
            wait()
    with one_device(), pytest.raises(AssertionError, match=r"mm.*cpu.*meta"):
        x @ y


@pytest.mark.parametrize(
    ("design", "order", "budget", "options"),
    [*((*each, {}) for each in DESIGNS), *((*each, TWO_LEVELS) for each in DESIGNS[-2:])],
)
def test_an_estimate_stays_on_its_device_and_waits_for_nothing(design, order, budget, options):
    sample = draw(Plan(design, options), order, PAIRS, 16, budget, torch.Generator().manual_seed(0))
    with one_device():
        found = sample.estimate(torch.randn(len(sample.coalitions_BN), dtype=torch.float64, device=DEVICE))
    assert {part.device for part in (found.mean, found.standard_error, found.halvings, found.draws)} == {DEVICE}


def on_device(game, monkeypatch):
    """The game as on an accelerator; what it asks once a call, whether all values are finite, is left out."""
    monkeypatch.setattr(torch, "autocast", lambda *_: nullcontext())
    monkeypatch.setattr(PatchGame, "_refuse_non_finite", lambda *_: None)
    game.device, game.network = DEVICE, game.network.to(DEVICE)
    for name in ("images_ICHW", "absent_ICHW", "reference_I"):
        setattr(game, name, getattr(game, name).to(DEVICE))
    return game


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("kind", [PatchGame, ShuffledGame])
def test_a_game_waits_for_nothing_between_its_batches(monkeypatch, value, kind):
    game = on_device(kind(network(), IMAGES, torch.tensor([3, 1]), GRID, value, batch_size=4), monkeypatch)
    order_BN = torch.rand(11, 16).argsort(1)
    with one_device():
        values_B = game(order_BN if kind is ShuffledGame else order_BN < 8, torch.arange(11) % 2)
    assert values_B.device == DEVICE and len(values_B) == 11 and game.passes == 11


def test_dropping_tokens_waits_for_nothing(monkeypatch):
    game = on_device(drop_game(transformer()), monkeypatch)
    game.tokens.tokens_of_NT = game.tokens.tokens_of_NT.to(DEVICE)
    with one_device():
        values_B = game(torch.rand(11, 16).argsort(1) < torch.arange(11)[:, None] % 3 + 5, torch.arange(11) % 3)
    assert values_B.device == DEVICE and len(values_B) == 11


def test_a_pilot_reads_the_device_once_at_its_end():
    class Game:
        n_players = 16

        def __call__(self, coalitions_BN):
            return torch.randn(len(coalitions_BN), dtype=torch.float64, device=DEVICE)

    with one_device(), pytest.raises(NotImplementedError, match="no data") as caught:
        auto.run_pilot([Game(), Game()], 7, PAIRS, 600, torch.Generator().manual_seed(0))
    assert "tolist" in str(caught.traceback[1].statement)
