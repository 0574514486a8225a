"""Pools in two levels of precision, with a reduced level of large errors that depend on the coalition."""

import numpy as np
import pytest
import torch

from interactions.estimators import pooled
from interactions.levels import in_words
from interactions.strength import image_row
from tests.interactions.games import network_game

GAME = network_game("convolution", 4)
PAIRS = torch.tensor([[0, 1], [1, 2], [5, 6], [5, 9], [10, 15], [3, 12]])
ORDER, SEEDS = 7, 150


def rounded(coalitions_BN):
    """v with an error that depends on the coalition, interacts between cells 0 and 1, and is not 0 on average."""
    x_BN = coalitions_BN.double()
    scale = GAME.values_B.std()
    return GAME(coalitions_BN) + scale * (0.4 + 0.5 * x_BN[:, 0] * x_BN[:, 1] + 0.3 * (7 * x_BN[:, ::3].sum(1)).sin())


def estimate(seed, again, budget=1200):
    generator = torch.Generator().manual_seed(seed)
    sample = pooled.draw(ORDER, PAIRS, 16, budget, generator, again=again, cost=0.25)
    values_B = GAME(sample.coalitions_BN)
    if sample.reduced_B is not None:
        values_B = torch.where(sample.reduced_B, rounded(sample.coalitions_BN), values_B)
    return sample, sample.estimate(values_B)


@pytest.fixture(scope="module")
def many():
    return [estimate(seed, 0.3)[1] for seed in range(SEEDS)]


def test_unbiased_and_calibrated_against_enumeration(many):
    exact_P = GAME.exact(ORDER, PAIRS).mean
    mean_SP, error_SP = (torch.stack([getattr(one, name) for one in many]) for name in ("mean", "standard_error"))
    z_P = (mean_SP.mean(0) - exact_P) / (mean_SP.std(0) / SEEDS**0.5)
    assert abs(z_P).max() < 3.5
    assert float(((mean_SP - exact_P) / error_SP).var()) == pytest.approx(1, abs=0.1)
    # The reduced level alone is far off at the pair that its error joins.
    alone = GAME.__class__(rounded(all_rows())).exact(ORDER, PAIRS).mean
    assert abs(alone[0] - exact_P[0]) > 10 * float(mean_SP[:, 0].std()) / SEEDS**0.5


def all_rows():
    return (torch.arange(1 << 16)[:, None] >> torch.arange(16) & 1).bool()


def test_products_of_halves_stay_unbiased(many):
    square = float(GAME.exact(ORDER, PAIRS).mean.square().mean())
    found = np.array([image_row(one)["mean_square"] for one in many])
    assert abs(found.mean() - square) < 3.5 * found.std() / SEEDS**0.5


def test_few_repeats_of_little_error_still_give_standard_errors():
    """The least sample of repeats, and errors of a five-hundredth of the spread: the correction hardly counts."""
    small, found = GAME.values_B.std() / 500, []
    for seed in range(SEEDS):
        generator = torch.Generator().manual_seed(seed)
        sample = pooled.draw(ORDER, PAIRS, 16, 1200, generator, again=0.004, cost=0.25)
        assert len(sample.again_C) == pooled.LEAST
        noise_B = small * torch.randn(len(sample.coalitions_BN), generator=generator, dtype=torch.float64)
        found.append(sample.estimate(GAME(sample.coalitions_BN) + noise_B * sample.reduced_B))
    mean_SP, error_SP = (torch.stack([getattr(one, name) for one in found]) for name in ("mean", "standard_error"))
    z_SP = (mean_SP - GAME.exact(ORDER, PAIRS).mean) / error_SP
    assert abs(z_SP.mean(0)).max() < 3.5 / SEEDS**0.5 and float(z_SP.var()) == pytest.approx(1, abs=0.12)
    # Errors as large as the spread rest on these repeats alone, which are too few.
    noise_B = 500 * noise_B
    assert sample.estimate(GAME(sample.coalitions_BN) + noise_B * sample.reduced_B).standard_error.isnan().all()


def test_what_is_evaluated_how():
    sample, measured = estimate(0, 0.3)
    squares, singles, again = len(sample.part_Q), len(sample.part_S), len(sample.again_C)
    assert sample.reduced_B.sum() == singles and not sample.reduced_B[: 4 * squares].any()
    assert measured.passes == 4 * squares + singles + again
    assert 4 * squares + 0.25 * singles + again == pytest.approx(1200, abs=3)
    assert again == pytest.approx(0.3 * singles, abs=1)
    rows_BN = sample.coalitions_BN
    assert torch.equal(rows_BN[-again:], rows_BN[4 * squares :][sample.again_C])
    assert sample.part_S[sample.again_C].bincount(minlength=8).min() >= 2
    plain, one = estimate(0, 0.0)
    assert plain.reduced_B is None and plain.again_C is None and one.passes == 1200


def test_without_rounding_it_is_the_pool_of_the_reduced_level():
    sample, _ = estimate(3, 0.3)
    values_B = GAME(sample.coalitions_BN)
    plain = pooled.PooledSample(ORDER, PAIRS, sample.coalitions_BN, sample.part_Q, sample.part_S, sample.smoothing)
    torch.testing.assert_close(sample.estimate(values_B).mean, plain.estimate(values_B).mean)


@pytest.mark.parametrize(
    ("design", "why"),
    [("pooled", "bfloat16 would not have been quicker at any order"), ("pairwise", "no order was measured by a pool")],
)
def test_a_caption_says_why_all_is_in_float32(design, why):
    plan = {"order": 3, "budget": 100, "design": design, "options": {}}
    record = {"settings": {"amp": "bfloat16"}, "orders": [{"order": 3, "reduced": {}}], "rounds": [{"orders": [plan]}]}
    assert f"Precision: float32, since {why}" in in_words(record)
