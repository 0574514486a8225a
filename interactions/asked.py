"""What is asked of a profile, as players, pairs and orders, checked before a model is opened."""

from torch import Tensor

from interactions.allocation import LEAST_BUDGET
from interactions.estimators import DESIGN_NAMES, check_budget
from interactions.game import check_names
from interactions.grid import PatchGrid, orders_of
from interactions.own import pairs_of, players_of
from interactions.published import PUBLISHED, check_published
from interactions.segments import Segments
from interactions.settings import ProfileSettings


def checked(settings: ProfileSettings) -> tuple[PatchGrid | Segments, Tensor, dict[int, float]]:
    """The players, their pairs, and the orders with their ratios, ascending.

    Raises:
        ValueError: for what can be told to be impossible without model and images, a budget too small among it.
    """
    settings.check()
    grid = players_of(settings.grid)
    pairs_P2, orders = pairs_of(settings.pairs, grid, settings.radius), orders_of(settings.ratios, grid.n_players)
    check_names(settings.value, settings.baseline, settings.amp)
    if settings.amp and settings.design not in ("auto", "pooled"):
        raise ValueError(
            f"reduced precision serves pools, whose single coalitions it rounds little, and not the design "
            f"{settings.design}: choose auto or pooled, or leave out --amp"
        )
    if settings.design == PUBLISHED:
        check_published(settings, len(pairs_P2))
    elif settings.design not in DESIGN_NAMES:
        raise ValueError(f"unknown design {settings.design!r}: choose one of {', '.join((*DESIGN_NAMES, PUBLISHED))}")
    else:
        for order in sorted(orders):
            check_budget(settings.budget or LEAST_BUDGET, settings.design, order, pairs_P2, grid.n_players)
    return grid, pairs_P2, dict(sorted(orders.items()))
