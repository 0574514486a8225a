"""The numerical floor, against rounding errors that are known."""

from itertools import combinations
from threading import Lock

import pytest
import torch
from torch import nn

from interactions.floor import numerical_floors
from interactions.game import PatchGame
from interactions.grid import PatchGrid
from tests.interactions.tiny import Photos, network

GRID = PatchGrid(3)


def game_of(model, value="logit", **options):
    return PatchGame(model, Photos(1)[0][0], 0, GRID, value, batch_size=8, **options)


class Rounding(nn.Module):
    """v is 0, and in float32 errs by ± error: + for an even number of shown cells, − for an odd one."""

    def __init__(self, error):
        super().__init__()
        self.error = nn.Parameter(torch.tensor(error), requires_grad=False)

    def forward(self, x_BCHW):
        shown_B = (x_BCHW[:, :1, 1::4, 1::4] != 0).flatten(1).sum(1)
        error_B = self.error * (1 - 2 * (shown_B % 2)) * (x_BCHW.dtype == torch.float32)
        return torch.stack([error_B, torch.zeros_like(error_B)], 1)


def test_floor_of_a_known_error_is_exact_at_every_order():
    # The signs of the four corners of Δv alternate as the error does: the errors add up to 4·error.
    floors = numerical_floors(game_of(model := Rounding(0.25)), model, range(8), GRID.all_pairs())
    assert floors == {order: 1.0 for order in range(8)}


def test_no_rounding_no_floor():
    floors = numerical_floors(game_of(model := Rounding(0.0)), model, [0, 3], GRID.all_pairs())
    assert floors == {0: 0.0, 3: 0.0}


def test_floor_of_a_network_is_that_of_all_its_differences():
    model = network()
    game = game_of(model)
    floor = numerical_floors(game, model, [4], GRID.all_pairs())[4]
    errors = torch.stack(list(all_errors(model, order=4)))
    true = float(errors.square().mean().sqrt())
    assert true / 2.5 < floor < true * 2.5  # 16 differences stand for all
    assert 1e-9 < floor < 1e-5


def all_errors(model, order):
    """Rounding error of every second difference, from images built here."""
    image = Photos(1)[0][0]
    value = {}
    for bits in range(2**9):
        cells = torch.tensor([bits >> cell & 1 for cell in range(9)]).view(3, 3).bool()
        shown = image * cells.repeat_interleave(4, 0).repeat_interleave(4, 1)
        with torch.inference_mode():
            single = model.float()(shown[None])[0, 0].double()
            value[bits] = single - model.double()(shown[None].double())[0, 0]
    model.float()
    for i, j in combinations(range(9), 2):
        for context in combinations(set(range(9)) - {i, j}, order):
            s = sum(1 << cell for cell in context)
            yield value[s | 1 << i | 1 << j] - value[s | 1 << i] - value[s | 1 << j] + value[s]


def test_the_model_stays_as_it_is():
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    numerical_floors(game_of(model), model, [2], GRID.all_pairs())
    assert all(
        value.dtype == torch.float32 and torch.equal(value, before[name]) for name, value in model.state_dict().items()
    )


def test_reduced_precision_has_a_higher_floor():
    model = network()
    coarse = numerical_floors(game_of(model, amp="bfloat16"), model, [4], GRID.all_pairs())[4]
    assert coarse > 1000 * numerical_floors(game_of(model), model, [4], GRID.all_pairs())[4]


def test_head_free_value_has_its_own_reference_in_float64():
    model = network()
    assert 0 < numerical_floors(game_of(model, "cosine"), model, [4], GRID.all_pairs())[4] < 1e-6


class SingleOnly(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 3))

    def forward(self, x_BCHW):
        return x_BCHW.float().mean((2, 3)) @ self.weight.T


def test_a_model_that_does_not_run_in_float64_has_no_floor():
    model = SingleOnly()
    with pytest.raises(FloatingPointError, match="does not run in float64"):
        numerical_floors(game_of(model), model, [4], GRID.all_pairs())


def test_a_model_that_cannot_be_copied_has_no_floor_and_runs_plainly():
    model = network()
    model.lock = Lock()
    game = game_of(model)
    with pytest.raises(FloatingPointError, match="cannot be copied"):
        numerical_floors(game, model, [1], GRID.all_pairs())
    with pytest.raises(ValueError, match=r"cannot be copied .*: use the speed plain"):
        game_of(model, speed="channels-last")
