"""How a profile comes about: images, pilot and plans, units and rounds, and the tables at the end."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from interactions.allocation import FIRST_BUDGET
from interactions.asked import checked
from interactions.baselines import Normalisation
from interactions.classes import Classes, classes_of
from interactions.estimators.auto import Pilot, run_pilot
from interactions.floor import COST as FLOOR_COST
from interactions.floor import numerical_floors
from interactions.forecast import IMAGE_BYTES, PAIR_BYTES, forecast
from interactions.game import PatchGame
from interactions.levels import check_levels, in_full_passes, passes_by_level
from interactions.looks import merged
from interactions.measured import Profile
from interactions.planning import Planning, learnt, with_pairs
from interactions.precision import FIRST_IMAGES, Round, curve_of, is_reached, next_round, reached, tell
from interactions.published import PUBLISHED, changed_from_published
from interactions.rounds import (
    Entry,
    announce_first,
    at_least,
    begun,
    budgets_of,
    cut_to_measured,
    entry_of,
    last_look,
    looks_taken,
    measure_of,
    plans_of,
    rest_of_look,
    round_of,
    rounds_of,
    width_of,
)
from interactions.runs.files import write_json
from interactions.runs.ranks import Ranks
from interactions.runs.record import Material, begin_run, place_of
from interactions.runs.unfinished import Unfinished
from interactions.runs.units import PACE, backed_off, finish, measure_units, units_left
from interactions.seen import seen
from interactions.selection import Chosen, Selection, read_again, select
from interactions.settings import FREE, ProfileSettings
from interactions.speed import TRIALS, Speed, recorded, settle
from interactions.thumbnail import thumbnail
from interactions.units import LEVELS, PILOT, Task, draw_sample, image_table, measure, pair_table, random_stream
from interactions.values import has_pooled_features

PILOT_IMAGES = 2
PREPARATION = 0.05 - TRIALS
"""Of a run's passes that its preparation may take beside the trials of speed: pilot, floor, and in two levels the check
of their rounding, each as much; a little is needed."""
LEAST_PILOT = 32
TABLES = ("strength.csv", "middle_mass.csv")


class Run:
    """One model, one data set and one folder, from the pilot to the tables. State: the game, which keeps its compiled
    network and its batch size from unit to unit."""

    def __init__(
        self,
        material: Material,
        folder: Path,
        settings: ProfileSettings,
        normalisation: Normalisation,
        progress: bool,
    ) -> None:
        self.material, self.folder, self.progress = material, folder, progress
        self.settings, self.normalisation = settings, normalisation
        self.grid, self.pairs_P2, self.ratios = checked(settings)
        self.planning = Planning(settings.design, self.pairs_P2, self.grid.n_players)
        self.game: PatchGame | None = None
        self.read_again = partial(read_again, material.dataset, labelled=settings.needs_labels)
        self.until = time.monotonic() + 60 * settings.minutes if settings.minutes else math.inf

    def begin(
        self, about: Mapping[str, Any], accompany: Callable[[Path], object] | None, dry_run: bool = False
    ) -> dict[str, Any]:
        """The record to go on with; a fresh run gets its images and its speed here, and then pilot and plans.

        Raises:
            ValueError: the folder holds a run with other settings, or more images than are asked for.
            DryRun: where only the forecast was asked for.
        """
        settings = asdict(self.settings) | {"normalisation": asdict(self.normalisation)}
        if (classes := self._classes()) is not None:
            settings["target"] = classes.told  # the same wherever that run lies, and when it has grown
        if settings["value"] == "cosine" and not has_pooled_features(self.material.model):
            settings["compared"] = "output"  # another game than that of pooled features, which figures tell
        place = place_of(self.material.model, about)
        record = begin_run(
            self.folder,
            self.material.asked(settings),
            asdict(ProfileSettings()),
            self._settle,
            place,
            TABLES,
            "profile",
            self._prepare,
            accompany,
            FREE,
            self.progress,
            dry_run,
            self._planned,
            self.read_again,
        )
        if record["status"] == "complete" and self._wants_more(record):
            record["status"] = "running"
            record["resumed"].append(place)
        if record["status"] != "complete":
            record["settings"] |= {name: getattr(self.settings, name) for name in FREE}
        return record

    def measure_units(self, record: dict[str, Any], ranks: Ranks) -> None:
        """Measure and write this rank's share of the units that are not there yet."""

        def measure_unit(
            chosen: Sequence[Chosen], on_batch: Callable[[int], object], kept: Unfinished
        ) -> tuple[Any, Any]:
            game = self._play(chosen, record["batch_size"], recorded(record))
            game.on_batch = on_batch
            task = self._task(round_of(record, kept.unit, self.settings.unit_images))
            measured = measure(task, game, chosen, kept)
            parts = {"images": image_table(task, chosen, measured)}
            if self.settings.keep == "pairs":
                parts["pairs"] = pair_table(task, chosen, measured)
            return parts, {"batch_size": game.batch_size}

        measure_units(self.folder, record, self.settings.unit_images, ranks, measure_unit, self.progress, self.until)

    def proceed(self, record: dict[str, Any]) -> dict[str, Any]:
        """What follows when the units that were planned are measured: another round, or the end."""
        late = self.out_of_time(record)
        if late:
            cut_to_measured(self.folder, record, self.settings.unit_images)
        count, most, precision = len(record["images"]), self.most(record), self.settings.precision
        if precision is None:
            budgets = budgets_of(rounds_of(record)[-1])

            def plan(available: int) -> Round | None:
                return Round(count, available, budgets) if count < available else None
        else:
            images = in_full_passes(Profile(self.folder, record).looks(), record)
            curve = curve_of(images, measure=measure_of(self.settings.of), relative=self.settings.relative)
            record["reached"], record["orders"] = reached(curve, images), learnt(record["orders"], merged(images))
            turns, unit_images = self.planning.turns(record["orders"]), self.settings.unit_images
            plan = partial(next_round, images, curve, precision, unit_images=unit_images, turns=turns)
        following, added, most = begun(plan, partial(self.add_round, record), count, most, late)
        if precision is not None and self.progress:
            tell(curve, precision, count, added, images.passes.sum() / max(record["seconds"], 1e-3))
        if added is not None:
            write_json(self.folder / "run.json", record)
            return record
        enough = "precision" if precision is not None and is_reached(count, most, curve.widest, precision) else "images"
        self.end(record, "minutes" if following is not None and late else enough)
        return record

    def out_of_time(self, record: Mapping[str, Any]) -> bool:
        """Whether time is over, or was by the clock of another process, which left units out."""
        if self.until == math.inf:
            return False
        return time.monotonic() > self.until or bool(units_left(self.folder, record, self.settings.unit_images))

    def _wants_more(self, record: Mapping[str, Any]) -> bool:
        """Whether a finished run can come nearer to what is asked now."""
        few, cut = len(record["images"]) < self.most(record), record.get("ended") == "minutes"
        if self.settings.precision is None:
            return few and (cut or self.settings.images != record["settings"]["images"])
        finer = self.settings.precision < (record["settings"].get("precision") or math.inf)
        width, count = width_of(record, self.settings.of, self.settings.relative), len(record["images"])
        if width is not None and is_reached(count, self.most(record), width, self.settings.precision):
            return False
        # Images were not looked at again, or for another curve.
        of, relative = record["settings"].get("of", "curve"), bool(record["settings"].get("relative"))
        other = of != "difference" and (of, relative) != (self.settings.of, self.settings.relative)
        return few or cut or finer or other or (record.get("ended") == "images" and "looks" not in record)

    def _planned(self, record: Mapping[str, Any]) -> int | None:
        """Images that a run that is there will have; None where a precision makes a finished one go on.

        Raises:
            ValueError: more images there than are asked for.
        """
        count, most = len(record["images"]), self.settings.images
        if most is not None and most < count:
            raise ValueError(
                f"{self.folder} holds {count} images, more than the {most} asked for: give another output folder"
            )
        if self.settings.precision is None:
            return max(count, self.most(record))
        return None if record["status"] == "complete" and self._wants_more(record) else count

    def most(self, record: Mapping[str, Any]) -> int:
        """As many images as there can be: what the settings and the data set allow."""
        usable = len(self.material.dataset) - len(record["skipped"]) - record["wrong"]
        if (classes := self._classes()) is not None:
            unread = sum(one["name"] in classes.by_name for one in record["skipped"])
            usable = min(usable, len(classes.by_name) - unread - record["wrong"])
        return min(self.settings.images or usable, usable)

    def _classes(self) -> Classes | None:
        """The classes of another run's images, where these are the targets; read again, since that run may grow."""
        target = self.settings.target
        return classes_of(target) if isinstance(target, str) and target not in ("label", "predicted") else None

    def end(self, record: dict[str, Any], ended: str) -> None:
        """Write the tables, then the record that calls the run complete."""
        record |= {"ended": ended, "looks": looks_taken(record)}
        record.update(self._changed(len(record["images"])))
        profile = Profile(self.folder, record)
        finish(
            self.folder,
            record,
            self.settings.unit_images,
            dict(zip(TABLES, (profile.strength, profile.middle_mass), strict=True)),
            orders=lambda: with_pairs(record["orders"], profile.images()),
            passes=lambda: sum(record["preparation_passes"].values()) + int(profile.images().passes.sum()),
            passes_by_level=lambda: passes_by_level(record, int(profile.images().passes.sum())),
            backed_off=lambda: backed_off(self.folder, record),
        )

    def _settle(self) -> dict[str, Any]:
        """Choose the images, and how the network runs, which a stopwatch picks and values feel in their last bits."""
        first = FIRST_IMAGES if self.settings.precision else self.settings.images
        wanted = min(first or len(self.material.dataset), self.settings.images or len(self.material.dataset))
        classes = self._classes()
        if classes is not None:
            wanted = min(wanted, len(classes.by_name))
        selection = self._select(wanted=wanted, classes=classes)
        game = self._play(selection.chosen[:PILOT_IMAGES], None, Speed())
        images, expected = self._at_least()
        rows = images * len(self.ratios)
        size = rows * (IMAGE_BYTES + PAIR_BYTES * len(self.pairs_P2) * (self.settings.keep == "pairs"))
        return {
            **self._changed(len(selection.chosen)),
            "players": self.grid.n_players,
            "pairs": len(self.pairs_P2),
            "classes": selection.classes,
            "image_shape": selection.shape,
            "thumbnail": thumbnail(game.images_ICHW[0], self.normalisation) if self.settings.keep == "pairs" else None,
            **settle(game, self.settings.speed, self.settings.batch_size, expected, self.progress),
            **forecast(expected, size, self.settings.precision is not None),
            "backed_off": False,
            "preparation_passes": {"selection": selection.passes, "trials": game.trials},
            "skipped": selection.skipped,
            "wrong": selection.wrong,
            "tried": selection.tried,
            "images": [asdict(one) for one in selection.chosen],
        }

    def _at_least(self) -> tuple[int, int]:
        """Images and passes that the run takes, as far as the settings tell."""
        return at_least(self.settings, len(self.material.dataset), self.ratios, self.pairs_P2, self.grid.n_players)

    def _changed(self, images: int) -> dict[str, Any]:
        """For the record, what differs from the published protocol, of so many images; nothing of another design."""
        mean, std = self.normalisation.mean, self.normalisation.std
        asked = (self.settings, images, mean, std, self.material.transform)
        return {"changed_from_published": changed_from_published(*asked)} if self.settings.design == PUBLISHED else {}

    def _prepare(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Choose the plan of each order, and measure the numerical floor."""
        budget = self.settings.budget or FIRST_BUDGET
        parts = 3 if self.settings.amp else 2
        share = int(PREPARATION / parts * self._at_least()[1] / len(self.ratios))
        several = share >= PILOT_IMAGES * LEAST_PILOT
        pilot = [Chosen(**one) for one in record["images"][: PILOT_IMAGES if several else 1]]
        game = self._play(pilot, record["batch_size"], recorded(record))
        streams = {order: random_stream(LEVELS, self.settings.seed, order) for order in self.ratios}
        levels = check_levels(game, self.settings.amp, streams, share) if self.settings.amp else {}
        rounding = {"rounding": game.passes} if levels else {}
        most = 3 * max(share // PILOT_IMAGES, LEAST_PILOT)  # a pilot takes at most a third of what it is told
        with tqdm(self.ratios, "pilot", disable=not self.progress) as bar:
            pilots = {order: self._pilot(game, order, min(budget, most)) for order in bar}
        orders: list[dict[str, Any]] = [
            {"order": order, "ratio": self.ratios[order], "pilot": found and asdict(found), **levels.get(order, {})}
            for order, found in pilots.items()
        ]
        if self.settings.design == PUBLISHED:
            orders = [{**one, "exact": one["order"] in (0, self.grid.max_order)} for one in orders]
        spent = {**record["preparation_passes"], **rounding, "pilot": game.passes}
        spent["pilot"] -= sum(rounding.values())
        few = self.most(record)
        budgets = {each["order"]: self.settings.budget or self.planning.first_budget(each, few) for each in orders}
        entry = self._entry(orders, Round(0, len(record["images"]), budgets), 0, pilot[0])
        if self.settings.precision is not None:
            announce_first(entry, record, few, self.progress)
        floors, note = self._floors(game, max(1, int(share / FLOOR_COST)))
        spent["floor"] = game.passes - spent["pilot"] - sum(rounding.values())
        return {
            "batch_size": game.batch_size,
            "backed_off": game.backed_off,
            "passes_per_image": entry["passes_per_image"],
            "preparation_passes": spent,
            "floor_note": note,
            "orders": [{**one, "floor": floors.get(one["order"])} for one in orders],
            "rounds": [entry],
        }

    def add_round(self, record: dict[str, Any], following: Round) -> Round | None:
        """Choose the images of a round, or take those that there are, and its plans. Returns what is measured now: the
        rest of a look that was begun, or nothing where the data set has no more images that can be used."""
        if following.again:
            following = replace(following, last=len(record["images"]) if following.budgets else 0)
            asked = record["orders"], following, last_look(record) + 1, Chosen(**record["images"][0])
            entry = rest_of_look(record) or self._entry(*asked)
            record |= {"rounds": [*rounds_of(record), entry], "passes_per_image": entry["passes_per_image"]}
            return replace(following, first=entry["first"], last=entry["last"], budgets=budgets_of(entry))
        found = self._select(wanted=following.last, known=Selection.of(record), classes=self._classes())
        images = found.chosen[: following.last]
        added, ahead = images[following.first :], found.chosen[following.last :]
        record |= {"skipped": found.skipped, "wrong": found.wrong, "tried": found.tried}
        record["preparation_passes"]["selection"] += found.passes
        if not added:
            return None
        rounds, following = rounds_of(record), replace(following, last=len(images))
        entry = self._entry(record["orders"], following, 0, added[0])
        record |= {"images": [asdict(one) for one in images], "ahead": [asdict(one) for one in ahead]}
        record |= {"rounds": [*rounds, entry], "passes_per_image": entry["passes_per_image"]}
        return following

    def _entry(self, orders: Sequence[Mapping[str, Any]], following: Round, look: int, one: Chosen) -> Entry:
        """A round, with the plan of each order for its passes; one: of its images."""
        budgets, asked = following.budgets, [each for each in orders if each["order"] in following.budgets]
        plans = {each["order"]: self.planning.plan(each, budgets[each["order"]]) for each in asked}
        task = Task(self.grid, self.pairs_P2, self.ratios, plans, budgets, self.settings, look)
        passes = sum(len(draw_sample(task, order, one).coalitions_BN) for order in plans)
        return entry_of(following, look, plans, passes)

    def _select(self, classes: Classes | None, **asked: Any) -> Selection:
        """Images to measure, as `select` chooses them."""
        of = self.material
        found = select(of.model, of.dataset, of.names, self.settings, self.progress, classes=classes, **asked)
        if classes is not None:
            classes.refuse_others(found.chosen, seen(of.transform, self.normalisation))
        return found

    def _task(self, entry: Entry) -> Task:
        plan = plans_of(entry), budgets_of(entry), self.settings, entry.get("look", 0)
        return Task(self.grid, self.pairs_P2, self.ratios, *plan)

    def _play(self, chosen: Sequence[Chosen], batch_size: int | None, speed: Speed) -> PatchGame:
        """The game on these images, with the network of the games before."""
        images_ICHW = self.read_again(chosen)
        targets = None if chosen[0].target is None else torch.tensor([one.target for one in chosen])
        names, settings = [one.name for one in chosen], self.settings
        if self.game is not None:
            self.game = self.game.holding(images_ICHW, targets, names)
            self.game.batch_size = self.game.batch_size or batch_size
            return self.game
        self.game = PatchGame(
            self.material.model,
            images_ICHW,
            targets,
            self.grid,
            settings.value,
            settings.baseline,
            normalisation=self.normalisation,
            batch_size=batch_size,
            speed=speed,
            names=names,
        )
        self.game.typical = 1 + round(sum(self.ratios) / len(self.ratios))  # of m to m + 2 cells
        if 0 in self.ratios or settings.design == "exact":
            self.game.refuse_empty()
        return self.game

    def _pilot(self, game: PatchGame, order: int, budget: int) -> Pilot | None:
        """What the choice of an order's design rests on; None where there is no choice."""
        if self.settings.design != "auto" or order in (0, self.grid.max_order):
            return None
        games = [game.of(k) for k in range(game.n_images)]
        generator = random_stream(PILOT, self.settings.seed, order)
        return run_pilot(games, order, self.pairs_P2, budget, generator)

    def _floors(self, game: PatchGame, most: int) -> tuple[dict[int, float], str]:
        """The floor of each order, or none and the reason."""
        with tqdm(desc="numerical floor", unit=" passes", mininterval=PACE, disable=not self.progress) as bar:
            game.on_batch = bar.update
            try:
                asked = (self.ratios, self.pairs_P2, self.settings.seed, most)
                return numerical_floors(game, self.material.model, *asked), ""
            except FloatingPointError as error:
                return {}, str(error)
            finally:
                game.on_batch = None
