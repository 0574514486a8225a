"""What any correct multi-order interaction satisfies: axioms, efficiency, and shapiq's Shapley interaction index."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interactions.estimators import estimate_interactions
from interactions.grid import PatchGrid
from tests.interactions.games import TableGame, all_coalitions, network_game


def pairs_of(n: int) -> torch.Tensor:
    return torch.combinations(torch.arange(n))


def interactions(values_B: torch.Tensor) -> torch.Tensor:
    """Exact I^(m)(i,j) of a table game for all orders and pairs, (n−1)×P."""
    game = TableGame(values_B)
    n = game.n_players
    return torch.stack([estimate_interactions(game, m, pairs_of(n), design="exact").mean for m in range(n - 1)])


@st.composite
def tables(draw: st.DrawFn) -> torch.Tensor:
    n = draw(st.integers(3, 6))
    values = draw(st.lists(st.floats(-100, 100), min_size=1 << n, max_size=1 << n))
    return torch.tensor(values, dtype=torch.float64)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-9, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(tables())
def test_symmetric_in_the_two_players(values_B: torch.Tensor) -> None:
    game = TableGame(values_B)
    pairs = pairs_of(game.n_players)
    for order in range(game.n_players - 1):
        one, other = (estimate_interactions(game, order, p, design="exact").mean for p in (pairs, pairs.flip(1)))
        assert close(one, other)


@settings(max_examples=40, deadline=None)
@given(tables(), st.floats(-3, 3), st.randoms(use_true_random=False))
def test_linear_in_v(values_B: torch.Tensor, factor: float, random) -> None:
    other_B = torch.tensor([random.uniform(-10, 10) for _ in values_B], dtype=torch.float64)
    combined = interactions(values_B + factor * other_B)
    assert close(combined, interactions(values_B) + factor * interactions(other_B))


@settings(max_examples=40, deadline=None)
@given(tables(), st.data())
def test_a_dummy_player_interacts_with_nobody(values_B: torch.Tensor, data: st.DataObject) -> None:
    n = len(values_B).bit_length() - 1
    dummy = data.draw(st.integers(0, n - 1))
    shown_BN = all_coalitions(n)
    without_B = torch.arange(1 << n) & ~(1 << dummy)
    gift = 3.0
    found = interactions(values_B[without_B] + gift * shown_BN[:, dummy].double())
    touches_P = (pairs_of(n) == dummy).any(1)
    assert close(found[:, touches_P], torch.zeros_like(found[:, touches_P]))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=3, max_size=6))
def test_an_additive_game_has_no_interactions(weights: list[float]) -> None:
    values_B = all_coalitions(len(weights)).double() @ torch.tensor(weights, dtype=torch.float64)
    found = interactions(values_B)
    assert close(found, torch.zeros_like(found))


@settings(max_examples=40, deadline=None)
@given(tables())
def test_efficiency(values_B: torch.Tensor) -> None:
    n = len(values_B).bit_length() - 1
    found = interactions(values_B)
    singles = values_B[1 << torch.arange(n)] - values_B[0]
    weight_M1 = torch.tensor([(n - 1 - m) / (n * (n - 1)) for m in range(n - 1)], dtype=torch.float64)[:, None]
    total = values_B[0] + singles.sum() + 2 * (weight_M1 * found).sum()  # ordered pairs: each one twice
    assert close(total, values_B[-1])


@pytest.mark.parametrize("kind", ["convolution", "attention"])
def test_mean_over_orders_is_the_shapley_interaction_index_of_shapiq(kind: str) -> None:
    shapiq = pytest.importorskip("shapiq")
    game = network_game(kind, 3)
    computer = shapiq.ExactComputer(lambda shown: game(torch.from_numpy(np.asarray(shown, dtype=bool))).numpy(), 9)
    index = computer(index="SII", order=2)
    pairs = PatchGrid(3).all_pairs()
    expected = [index[(i, j)] for i, j in pairs.tolist()]
    assert interactions(game.values_B).mean(0).tolist() == pytest.approx(expected, rel=1e-6, abs=1e-8)
