"""How a network is run so that its passes take the least time: memory layout, folding, compilation, batch size.

Each way computes the same values, up to their last bits. What is chosen is therefore written down before anything is
measured, and a run that goes on runs in the recorded way.
"""

import copy
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from interactions.folding import folded
from interactions.outputs import DoesNotCompile, DoesNotRun, is_out_of_memory, one_line

if TYPE_CHECKING:
    from interactions.game import PatchGame

TRIALS = 0.01
"""Of a run's passes that trials of layout and batch size may take; a short run does without those that are too dear."""
TURNS = (2, 5)
"""How often each layout or size is timed, at least and at most, after a first time that does not count."""
COMPILING_PAYS = 1_200.0
"""Seconds of a run from which compilation, which may take a minute and gain nothing, is tried."""
GAIN = 1.03
"""By how much a way must be faster than a simpler one: less is chance."""
COMPILED_TOLERANCE = 1e-3
TRIAL_BATCH, SHORT_BATCH, BATCHES = {"cpu": 8}, {"cpu": 16}, {"cpu": (8, 16, 32, 64)}
TRIAL_ELSEWHERE, BATCHES_ELSEWHERE = 64, (32, 64, 128, 256, 512, 1024)
LARGER = 1.02
"""By how much a batch size must be faster than a smaller one."""
SLOW = 1.0
"""Seconds of a batch above which a larger one gains nothing: what a call costs by itself is small beside them."""


@dataclass(frozen=True)
class Speed:
    """One way of running a network: weights and images in channels-last layout, batch normalisations folded into
    convolutions, and torch.compile of a copy with frozen weights."""

    channels_last: bool = False
    folded: bool = False
    compiled: bool = False

    @property
    def layout(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def __str__(self) -> str:
        parts = ("channels-last" if self.channels_last else "", "folded" * self.folded, "compiled" * self.compiled)
        return ", ".join(filter(None, parts)) or "plain"


WAYS = {
    "plain": Speed(),
    "channels-last": Speed(channels_last=True),
    "folded": Speed(channels_last=True, folded=True),
    "compiled": Speed(channels_last=True, compiled=True),
}
EAGER = (Speed(), Speed(channels_last=True), Speed(folded=True), Speed(channels_last=True, folded=True))
"""What auto tries, the simplest first."""


def as_speed(speed: str | Speed) -> Speed:
    """A way, or the one of that name.

    Raises:
        ValueError: an unknown name.
    """
    if isinstance(speed, Speed):
        return speed
    if speed not in WAYS:
        raise ValueError(f"unknown speed {speed!r}: choose one of {', '.join(WAYS)}")
    return WAYS[speed]


def prepared(
    model: nn.Module, speed: Speed, x_BCHW: Tensor, forward: Callable[[nn.Module, Tensor], Tensor]
) -> tuple[nn.Module, bool]:
    """What runs in a model's place, the model itself where it runs plainly, else a copy; and whether anything of it
    is folded."""
    if speed == Speed():
        return model, False
    network = folded(model, x_BCHW, forward) if speed.folded else None
    folds = network is not None
    network = (copied(model) if network is None else network).to(memory_format=speed.layout)  # type: ignore[call-overload]
    if speed.compiled:
        # A compiled network is built for one batch shape. Frozen weights are folded and laid out for the machine.
        network = torch.compile(network, dynamic=False, options={"freezing": True})  # type: ignore[assignment]
    return network, folds


def copied(model: nn.Module) -> nn.Module:
    """A copy that can be laid out, compiled or made float64. Raises ValueError for a model that cannot be copied."""
    try:
        return copy.deepcopy(model)
    except Exception as error:  # what a module of one's own holds may be anything at all
        raise ValueError(
            f"{type(model).__name__} cannot be copied ({one_line(error)}), as the numerical floor and every speed but "
            "plain need: use the speed plain"
        ) from error


def settle(game: "PatchGame", wanted: str, batch_size: int | None, passes: float, say: bool = False) -> dict[str, Any]:
    """Choose how a game runs, and run it so from now on.

    Args:
        wanted: auto, or a name in `WAYS`.
        batch_size: coalitions in one pass; found where it is None.
        passes: about as many as the run will take; trials take `TRIALS` of them, or two batches at the least.

    Returns:
        What a record says about it: speed, batch_size, passes_per_second (None where memory was short).
        `game.trials` is what that took.

    Raises:
        ValueError: a network that cannot be compiled, or computes something else then, where that is asked for.
    """
    allowed = TRIALS * passes
    rate = choose(game, wanted, batch_size, allowed)
    if wanted == "auto" and rate and passes / rate > COMPILING_PAYS and game.tokens is None:
        rate = try_compiled(game, say)
    rate = rate or rate_of(game, allowed - game.trials)
    return {"speed": asdict(game.speed), "batch_size": game.batch_size, "passes_per_second": rate}


def choose(game: "PatchGame", wanted: str, batch_size: int | None, allowed: float = math.inf) -> float | None:
    """Run a game in the layout and batch size that are asked for, or fastest by so many passes of trials; passes a
    second where these told."""
    rate, size = None, trial_size(game, allowed)
    if wanted != "auto":
        game.run_as(as_speed(wanted))
    elif size:
        speed, rate = fastest(game, size)
        game.run_as(speed)
    if batch_size is None:
        batch_size, found = game.tune(allowed=allowed - game.trials)
        rate = found or rate
    game.batch_size = batch_size
    # In batches of the run's own size: for another one it would be compiled again.
    if game.speed.compiled and not agree(game.trial(batch_size), in_its_own_way(game).trial(batch_size)):
        raise DoesNotCompile(
            "torch.compile makes other values of this network on this machine: choose another speed, such as auto"
        )
    return rate


def trial_size(game: "PatchGame", allowed: float) -> int:
    """The size of the batches by which layouts are tried; 0 where so many passes pay for none that tells."""
    most = TRIAL_BATCH.get(game.device.type, TRIAL_ELSEWHERE)
    affordable = [size for size in (most, most // 2) if cost([size] * len(EAGER), game) <= allowed]
    return max(affordable, default=0)


def cost(sizes: Sequence[int], game: "PatchGame") -> int:
    """Passes to time batches of these sizes as seldom as tells something."""
    return (1 + TURNS[0]) * sum(map(game.rows, sizes))


def turns_for(sizes: Sequence[int], game: "PatchGame", allowed: float, least: int = TURNS[0]) -> int:
    """How often batches of these sizes can be timed for so many passes."""
    return int(max(least, min(TURNS[1], allowed // sum(map(game.rows, sizes)) - 1)))


def best_batch(game: "PatchGame", sizes: Sequence[int] = (), allowed: float = math.inf) -> tuple[int, float]:
    """The batch size of most passes a second, and how many those are: 0 where none fits in memory, or `allowed` pays
    for no choice.

    Args:
        sizes: ascending; the usual ones of the device by themselves. They are timed in turns, for a shared machine
            changes its pace; those are left out that do not fit in memory, that `allowed` does not pay for, or that
            follow one which is `SLOW`.
        allowed: passes.
    """
    usual = SHORT_BATCH.get(game.device.type, TRIAL_ELSEWHERE)
    sizes = sizes or BATCHES.get(game.device.type, BATCHES_ELSEWHERE)
    payable = [size for k, size in enumerate(sizes, 1) if cost(sizes[:k], game) <= allowed]
    if len(payable) < min(2, len(sizes)):
        return usual, 0.0
    tried: list[int] = []
    for size in payable:
        try:
            first = seconds_of(partial(game.trial, size), game.device)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            break
        tried.append(size)
        if first > SLOW:
            break
    tasks = [partial(game.trial, size) for size in tried]
    times = in_turns(tasks, game.device, turns_for(tried, game, allowed), warm=False) if tried else []
    best, most = sizes[0], 0.0
    for size, seconds in zip(tried, times, strict=True):
        if game.rows(size) / seconds > LARGER * most:
            best, most = size, game.rows(size) / seconds
    return best, most


def rate_of(game: "PatchGame", allowed: float) -> float | None:
    """Passes a second in batches of the game's size; None where memory is short, which the run deals with."""
    assert game.batch_size is not None
    try:
        return game.rate(game.batch_size, turns_for([game.batch_size], game, allowed, least=1))
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return None


def fastest(game: "PatchGame", size: int) -> tuple[Speed, float | None]:
    """The way without compilation in which batches of that size take the least time, tried in turns, and its passes a
    second; plain where memory is short. A way in which the model does not run, as one that views its maps as plain ones
    lie, is none."""
    tried: list[PatchGame] = []
    kept: dict[Speed, PatchGame] = {}
    try:
        for speed in EAGER:
            tried.append(own := copy.copy(game))
            own.trials = 0
            if runs_as(own, speed, size):
                kept[speed] = own
        seconds = in_turns([partial(own.trial, size) for own in kept.values()], game.device, warm=False)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return Speed(), None
    finally:
        game.trials += sum(own.trials for own in tried)
    best, least = Speed(), seconds[0]
    for speed, taken in zip(kept, seconds, strict=True):
        if taken * GAIN < least:
            best, least = speed, taken
    return best, game.rows(size) / least


def runs_as(game: "PatchGame", speed: Speed, size: int) -> bool:
    """Whether a game runs in that way from now on, in batches of that size; where nothing can be folded, to fold is no
    way of its own. Raises DoesNotRun for a model that does not run plainly."""
    try:
        game.run_as(speed)
        if game.folds == speed.folded:
            game.trial(size)
    except DoesNotRun:
        if speed == Speed():
            raise
        return False
    return game.folds == speed.folded


def try_compiled(game: "PatchGame", say: bool) -> float:
    """Compile the game's network where that makes it faster; passes a second then. Says so where it does not work."""
    before = game.speed
    assert game.batch_size is not None
    if say:
        print("compiling the network, which takes a minute and pays in a long run …", file=sys.stderr, flush=True)
    reason, rate, compiled_rate = "", game.rate(game.batch_size), 0.0
    try:
        expected = game.trial(game.batch_size)
        game.run_as(replace(before, folded=False, compiled=True))
        found, compiled_rate = game.trial(game.batch_size), game.rate(game.batch_size)
        reason = "" if agree(found, expected) else "its values are others"
    except Exception as error:  # what a compiler meets in a network may be anything at all
        reason = one_line(error)[:200]
    if reason:
        print(f"note: torch.compile does not work here ({reason}): going on without", file=sys.stderr, flush=True)
    if reason or compiled_rate < GAIN * rate:
        game.run_as(before)
        return rate
    return compiled_rate


def agree(found: Tensor, expected: Tensor) -> bool:
    """Whether what a compiled network computes is what it computes otherwise."""
    return bool((found - expected).abs().max() <= COMPILED_TOLERANCE * expected.abs().max().clamp(min=1))


def in_its_own_way(game: "PatchGame") -> "PatchGame":
    """The same game with the network as it was given."""
    plain = copy.copy(game)
    plain.run_as(Speed())
    return plain


def in_turns(
    tasks: Sequence[Callable[[], object]], device: torch.device, turns: int = TURNS[0], warm: bool = True
) -> list[float]:
    """The least seconds of each task, all run in turns, since a shared machine changes its pace; once beforehand, to
    warm up, unless that is done."""
    for task in tasks if warm else ():
        task()
    times = [[seconds_of(task, device) for task in tasks] for _ in range(turns)]
    return [min(of_task) for of_task in zip(*times, strict=True)]


def seconds_of(task: Callable[[], object], device: torch.device) -> float:
    """Wall-clock seconds of a task, the device's work included."""
    synchronise(device)
    start = time.perf_counter()
    task()
    synchronise(device)
    return time.perf_counter() - start


def synchronise(device: torch.device) -> None:
    """Wait for the device; nothing to wait for on the CPU."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def recorded(record: Mapping[str, Any]) -> Speed:
    """The way in which a run measures."""
    return Speed(**record["speed"])


def from_older(record: dict[str, Any]) -> dict[str, Any]:
    """A run's record as it is written today: before there was `speed`, two settings said how the network runs."""
    settings = record.get("settings", {})
    if "speed" in settings or record.get("command") not in (None, "profile", "occlusion"):
        return record
    old = {name: settings.get(name, False) for name in ("channels_last", "compile")}
    # Where nothing can be folded, to fold is no way of its own.
    kept = {name: value for name, value in settings.items() if name not in old}
    way = Speed(old["channels_last"], compiled=old["compile"])
    name = {Speed(): "auto"}.get(way, "compiled" if way.compiled else "channels-last")
    return {**record, "settings": {**kept, "speed": name}, "speed": asdict(way)}
