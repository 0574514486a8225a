"""Names beside curves: as near to their ends as they can be without touching."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.optimize import minimize

from figures.labels import fit_beside, label_curves, spread


def test_names_with_room_stand_where_their_curves_end():
    np.testing.assert_allclose(spread([0.9, 0.1, 0.5], [0.1, 0.1, 0.2]), [0.9, 0.1, 0.5])


@pytest.mark.parametrize("seed", range(4))
def test_crowded_names_are_moved_as_little_as_can_be(seed: int):
    """Least squares, found by a general solver."""
    g = np.random.default_rng(seed)
    wanted, sizes = g.random(6), g.uniform(0.05, 0.2, 6)
    order = np.argsort(wanted)
    apart = [
        {"type": "ineq", "fun": lambda y, a=a, b=b: y[b] - y[a] - (sizes[a] + sizes[b]) / 2} for a, b in pairwise(order)
    ]
    ends = [(size / 2, 1 - size / 2) for size in sizes]
    best = minimize(lambda y: ((y - wanted) ** 2).sum(), wanted, bounds=ends, constraints=apart, tol=1e-12)
    np.testing.assert_allclose(spread(wanted, sizes), best.x, atol=1e-4)


def test_names_that_are_too_many_share_what_there_is():
    places = spread([0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5])
    np.testing.assert_allclose(places, [0.125, 0.375, 0.625, 0.875])


def test_names_fit_where_all_of_their_lines_have_room():
    assert fit_beside(["A²MIM", "SimMIM"], 0.5) and not fit_beside(["A²MIM"] * 9, 0.5)
    assert not fit_beside(["vit_small_patch16_224.augreg_in21k_ft_in1k"], 3.0)  # one word, wider than the room
    assert not fit_beside(["a name of so many words that it takes more than two lines"], 3.0)


def test_nothing_to_name_leaves_a_panel_without_names():
    axes = Figure().add_subplot()
    label_curves(axes, {}, 1.0)
    assert not axes.texts
