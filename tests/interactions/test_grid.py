"""The grid, against brute force, torch's nearest upsampling, exact fractions and the published lists of orders."""

from fractions import Fraction
from itertools import combinations, product
from math import floor

import pytest
import torch
from torch.nn.functional import interpolate

from interactions.grid import PAPER_RATIOS, PatchGrid, orders_of


@pytest.mark.parametrize(("side", "radius", "count"), [(3, 1, 20), (3, 2, 36), (5, 2, 168), (14, 2, 1950)])
def test_neighbours_are_those_of_brute_force(side, radius, count):
    places = list(enumerate(product(range(side), repeat=2)))
    near = [
        [i, j] for (i, (r, c)), (j, (s, d)) in combinations(places, 2) if abs(r - s) <= radius and abs(c - d) <= radius
    ]
    assert PatchGrid(side).neighbours(radius).tolist() == near
    assert len(near) == count


def test_players_orders_and_pairs():
    grid = PatchGrid(4)
    assert (grid.n_players, grid.max_order) == (16, 14)
    assert grid.all_pairs().tolist() == [[i, j] for i in range(16) for j in range(i + 1, 16)]


@pytest.mark.parametrize("side", [-2, 0, 1])
def test_a_grid_without_pairs_is_refused(side):
    with pytest.raises(ValueError, match=f"grid of {side}×{side} cells has no pairs"):
        PatchGrid(side)


@pytest.mark.parametrize("radius", [-1, 0, 3, 4])
def test_a_radius_beyond_the_grid_is_refused(radius):
    with pytest.raises(ValueError, match=f"radius {radius} is not possible on a 3×3 grid: 1 to 2"):
        PatchGrid(3).neighbours(radius)


@pytest.mark.parametrize(
    ("side", "height", "width"),
    [(14, 224, 224), (16, 32, 32), (7, 112, 96), (3, 7, 11), (5, 13, 31), (4, 4, 9), (14, 100, 180), (2, 2, 2)],
)
def test_pixels_are_nearest_upsampling(side, height, width):
    coalitions_BN = torch.rand(3, side**2, generator=torch.Generator().manual_seed(1)) < 0.5
    shown_B1HW = PatchGrid(side).pixels(coalitions_BN, height, width)
    cells_B1GG = coalitions_BN.view(3, 1, side, side).float()
    assert shown_B1HW.dtype == torch.bool
    assert torch.equal(shown_B1HW.float(), interpolate(cells_B1GG, (height, width), mode="nearest"))


@pytest.mark.parametrize(("side", "height", "width"), [(7, 287, 329), (14, 427, 46), (3, 10, 123)])
def test_pixels_are_exact_where_float32_upsampling_is_not(side, height, width):
    """At these sizes `interpolate` gives a row or a column to the wrong cell; the fraction y·side/height decides."""
    shown_NHW = PatchGrid(side).pixels(torch.eye(side**2).bool(), height, width).squeeze(1)
    assert torch.equal(shown_NHW.sum(0), torch.ones(height, width, dtype=torch.long))  # each pixel has one cell
    rows_H = [floor(Fraction(y * side, height)) for y in range(height)]
    columns_W = [floor(Fraction(x * side, width)) for x in range(width)]
    cell_HW = torch.tensor([[row * side + column for column in columns_W] for row in rows_H])
    assert torch.equal(shown_NHW.long().argmax(0), cell_HW)


@pytest.mark.parametrize(("height", "width"), [(3, 8), (8, 3)])
def test_an_image_smaller_than_the_grid_is_refused(height, width):
    with pytest.raises(ValueError, match=f"4×4 grid does not fit an image of {height}×{width} pixels"):
        PatchGrid(4).pixels(torch.ones(1, 16, dtype=torch.bool), height, width)


@pytest.mark.parametrize(
    ("n_players", "published"),
    [
        (196, [0, 9, 19, 38, 58, 77, 97, 116, 135, 155, 174, 184, 194]),
        (256, [0, 12, 25, 50, 76, 101, 127, 152, 177, 203, 228, 241, 254]),
    ],
)
def test_orders_are_the_published_ones(n_players, published):
    orders = orders_of(PAPER_RATIOS, n_players)
    assert sorted(orders) == published
    assert [orders[order] for order in published] == [0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1]


def test_ratios_of_the_same_order_fall_together():
    assert orders_of(PAPER_RATIOS, 9) == {0: 0, 1: 0.2, 2: 0.3, 3: 0.5, 4: 0.6, 5: 0.8, 6: 0.9, 7: 1}
    assert orders_of((0.5, 0.5), 9) == {3: 0.5}


@pytest.mark.parametrize("ratios", [(), (-0.1,), (0.5, 1.1), (float("nan"),)])
def test_impossible_ratios_are_refused(ratios):
    with pytest.raises(ValueError, match="order ratios must lie between 0 and 1"):
        orders_of(ratios, 9)
