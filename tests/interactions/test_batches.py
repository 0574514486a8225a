"""Rows that come order by order share batches, and what was kept of them is what they are."""

import pytest
import torch
from torch import nn

from interactions.batches import Batches
from interactions.game import PatchGame
from interactions.grid import PatchGrid
from interactions.runs.unfinished import Unfinished
from interactions.speed import Speed

SIZE = 16
COUNTS = (5, 7, 0, 40, 3)


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
        self.batches = []

    def forward(self, x_BCHW):
        self.batches.append(len(x_BCHW))
        return self.network(x_BCHW)


def made():
    model = Counting()
    game = PatchGame(model, torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)), [0, 2], PatchGrid(4))
    game.batch_size = SIZE
    model.batches.clear()
    return model, game


def rows():
    generator = torch.Generator().manual_seed(2)
    for count in COUNTS:
        yield torch.rand(count, 16, generator=generator) < 0.5, torch.randint(2, (count,), generator=generator)


def played(game, kept=None):
    batches = Batches(game, kept)
    for rows_BN, image_B in rows():
        batches.add(rows_BN, image_B)
    return batches.values()


def test_what_an_order_leaves_over_waits_for_the_next():
    model, game = made()
    values_B = played(game)
    assert model.batches == [16, 16, 16, 7] and game.passes == sum(COUNTS)
    expected = torch.cat([game(*each) for each in rows()])
    torch.testing.assert_close(values_B, expected, rtol=1e-5, atol=1e-6)


def test_a_compiled_network_fills_one_batch_alone():
    model, game = made()
    game.speed = Speed(compiled=True)  # its batches, without the compiler
    played(game)
    assert model.batches == [16] * 4


def test_nothing_known_is_played_again(tmp_path, monkeypatch):
    monkeypatch.setattr("interactions.runs.unfinished.EVERY", 0)
    monkeypatch.setattr("interactions.runs.unfinished.CHUNK", 1)
    _, game = made()
    whole_B = played(game, Unfinished(tmp_path / "whole", 0))
    model, game = made()
    game.on_batch = lambda _: (_ for _ in ()).throw(KeyboardInterrupt()) if len(model.batches) == 3 else None
    with pytest.raises(KeyboardInterrupt):
        played(game, Unfinished(tmp_path / "run", 0))
    model, game = made()
    assert played(game, Unfinished(tmp_path / "run", 0)).equal(whole_B) and model.batches == [16, 7]


def test_no_rows_have_no_values():
    _, game = made()
    assert Batches(game, None).values().shape == (0,)
