"""The rounds of a profile as its record holds them: which images were measured with which plans and passes.

    record["rounds"] = [{"first": 0, "last": 16, "passes_per_image": 3900,
                         "orders": [{"order": 0, "budget": 300, "design": "exact", "options": {}, "predicted": {}}, …]}]

A run with a fixed number of images has one round, and one more for every time that it was extended. One that looks
again at images has a round with its look, from 1 on, and the orders that are measured again (`interactions.looks`).
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from interactions.allocation import FIRST_BUDGET
from interactions.estimators import Plan, passes_for_errors
from interactions.forecast import announce, duration
from interactions.precision import LEAST_IMAGES, Measure, Round
from interactions.published import PUBLISHED, contexts_of
from interactions.runs import storage
from interactions.runs.units import places_of
from interactions.settings import ProfileSettings

Entry = Mapping[str, Any]
P = TypeVar("P")
A = TypeVar("A")


def at_least(
    settings: ProfileSettings, available: int, orders: Iterable[int], pairs_P2: Tensor, n_players: int
) -> tuple[int, int]:
    """Images and passes of a run, roughly, or with a precision no fewer than: of the orders' whole budgets."""
    images = min(settings.images or available, available)
    if settings.budget is None:
        images = min(images, LEAST_IMAGES)
    return images, images * sum(passes_of_order(settings, order, pairs_P2, n_players) for order in orders)


def passes_of_order(settings: ProfileSettings, order: int, pairs_P2: Tensor, n_players: int) -> int:
    """What an order of an image takes of its budget: the ends no more than the single context of every pair."""
    budget, end = settings.budget or FIRST_BUDGET, order in (0, n_players - 2)
    if settings.design == PUBLISHED:
        contexts = 1 if end else contexts_of(budget, settings.published_pairs)
        return 4 * settings.published_pairs * contexts
    if end or settings.design == "exact":
        every = passes_for_errors(order, pairs_P2, n_players)["exact"]
        return every if settings.design == "exact" else min(budget, every)
    return budget


def announce_first(entry: Entry, record: Mapping[str, Any], most: int, say: bool) -> None:
    """Say what a run to a precision takes at least by what its pilot found, where that is long."""
    of_one, count = entry["passes_per_image"], min(LEAST_IMAGES, most)
    rate = record.get("passes_per_second")
    seconds = of_one * count / rate / int(os.environ.get("WORLD_SIZE", 1)) if rate else 0.0
    words = f"by its pilot an image takes {of_one:,} passes: {count} images, the least, {of_one * count:,} passes and "
    announce(f"{words}{duration(seconds)}; how many more, the first {entry['last']} tell", seconds, say)


def last_look(record: Mapping[str, Any]) -> int:
    """The number of the last look at the images, 0 where they were measured once."""
    return max(each.get("look", 0) for each in rounds_of(record))


def looks_taken(record: Mapping[str, Any]) -> int:
    """How often images were looked at again, without looks that a stop or the other model of a pair left empty."""
    return len({each["look"] for each in rounds_of(record) if "look" in each and each["first"] < each["last"]})


def rest_of_look(record: Mapping[str, Any]) -> Entry | None:
    """The last look at the images that a stop left without it; None where it is whole, or none was begun."""
    *_, entry = rounds_of(record)
    count = len(record["images"])
    return {**entry, "first": entry["last"], "last": count} if entry.get("look") and 0 < entry["last"] < count else None


def begun(
    plan: Callable[[int], P | None], add: Callable[[P], A], count: int, most: int, late: bool
) -> tuple[P | None, A | None, int]:
    """What follows of a run of so many images, what of it is measured now, and how many images there can be.

    Args:
        plan: what follows where there are so many. add: gives it to the run; nothing where no image can be had, and
            then what follows is what does without any.
        late: whether nothing more is begun.
    """
    following = plan(most)
    if following is None or late:
        return following, None, most
    if added := add(following):
        return following, added, most
    following = plan(count)
    return following, None if following is None else add(following), count


def measure_of(of: str) -> Measure:
    """Whose half widths a precision speaks of (`ProfileSettings.of`)."""
    return "rms" if of == "rms" else "J_rms"


def width_of(record: Mapping[str, Any], of: str, relative: bool) -> float | None:
    """How narrow a finished run got what a precision is of; None where it does not know."""
    if of == "difference":
        return record.get("difference", {}).get("half_width")
    known = record["reached"]
    return known["widest"] if (known["measure"], bool(known.get("relative"))) == (measure_of(of), relative) else None


def entry_of(following: Round, look: int, plans: Mapping[int, Plan], passes: int) -> Entry:
    """A round as JSON has it: an infinite or unknown prediction is null."""
    orders = []
    for order, plan in plans.items():
        predicted = {name: error if np.isfinite(error) else None for name, error in plan.predicted.items()}
        orders.append({"order": order, "budget": following.budgets[order], **asdict(plan), "predicted": predicted})
    again = {"look": look} if look else {}
    return {"first": following.first, "last": following.last, **again, "passes_per_image": passes, "orders": orders}


def rounds_of(record: Mapping[str, Any]) -> list[Entry]:
    """All rounds; a run from before there were any has one, with the plans of its orders."""
    if "rounds" in record:
        return record["rounds"]
    budget = record["settings"]["budget"]
    orders = [{"budget": budget, **one} for one in record["orders"]]
    passes = record["passes_per_image"]
    return [{"first": 0, "last": len(record["images"]), "passes_per_image": passes, "orders": orders}]


def round_of(record: Mapping[str, Any], unit: int, unit_images: int) -> Entry:
    """The round of a unit."""
    return rounds_of(record)[places_of(record, unit_images)[unit][0]]


def plans_of(entry: Entry) -> dict[int, Plan]:
    """The plan of each order."""
    return {one["order"]: Plan(one["design"], one["options"]) for one in entry["orders"]}


def budgets_of(entry: Entry) -> dict[int, int]:
    """The passes asked for at each order."""
    return {one["order"]: one["budget"] for one in entry["orders"]}


def cut_to_measured(folder: Any, record: dict[str, Any], unit_images: int) -> None:
    """Leave the images that were planned and not measured for later (`ahead` in the record); units beyond the first
    missing one go, too.

    Raises:
        ValueError: nothing was measured.
    """
    places, finished = places_of(record, unit_images), storage.finished_units(folder)
    whole = next((unit for unit in range(len(places)) if unit not in finished), len(places))
    if whole == 0:
        raise ValueError(
            f"the time was over before the first {places[0][2]} images were measured: give more minutes, the same "
            "command goes on"
        )
    for unit in finished - set(range(whole)):
        storage.remove_unit(folder, unit)
    ends = {number: last for number, _, last in places[:whole]}
    # A look is kept, though nothing of it was measured, that another run of a pair has.
    rounds = [{**each, "last": ends.get(number, each["first"])} for number, each in enumerate(rounds_of(record))]
    record["rounds"] = [each for number, each in enumerate(rounds) if number in ends or "look" in each]
    count = max(ends.values())
    record["ahead"] = [*record["images"][count:], *record.get("ahead", ())]
    record["images"] = record["images"][:count]
