"""What the record of a run tells of the command that made it: whether a study's command can have been that one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a2mim.bounds import option
from experiments.folders import is_complete, read_record
from interactions.published import with_published
from interactions.settings import OcclusionSettings, ProfileSettings

if TYPE_CHECKING:
    from experiments.studies.steps import Step

RECIPE = {
    "": ("method", "set", "mask_at", "mask_ratio", "mask_cell", "loss", "bce_threshold"),
    "network": ("model", "model_args", "partial"),
    "augment": (),
    "mixing": (),
    "optim": (),
    "loop": ("batch", "accumulate", "precision", "ema", "ema_warmup", "ema_warmup_epochs"),
}
"""What of a recipe makes a network another one (of a group that lists none, everything)."""
OF_LENGTH = ("epochs", "warmup_epochs")


def refuse_other_recipe(step: Step) -> None:
    """Raise ValueError where a training's recipe is another one now than when it was trained, or where it was trained
    for longer than the study does: it would stand beside others under one name."""
    from a2mim.plain import to_plain
    from experiments.training.asked import find_recipe

    if "--recipe" not in step.words:
        return
    recipe = find_recipe(step.words[step.words.index("--recipe") + 1])
    there, now = _of_recipe(read_record(step.out).get("settings", {})), _of_recipe(to_plain(recipe()))
    if "--epochs" in step.words:
        now["epochs"] = int(step.words[step.words.index("--epochs") + 1])
    if (epochs := there.pop("epochs", None)) != now["epochs"] and epochs is not None:
        raise ValueError(
            f"{step.out} was trained for {epochs} epochs, and the study's networks are for {now['epochs']}: begin the "
            "study in another --out (what extends a training leaves its measurements behind)"
        )
    for name in sorted(there.keys() & now.keys() - {*OF_LENGTH}):
        if there[name] != now[name] and option(name) not in step.words:
            raise ValueError(
                f"{step.out} was trained by an older recipe ({name} {there[name]!r} there, {now[name]!r} now): begin "
                "the study in another --out"
            )


def _of_recipe(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that make a network, by name; as JSON has them."""
    found: dict[str, Any] = {}
    for group, names in RECIPE.items():
        of_group = settings.get(group, {}) if group else settings
        found |= {name: value for name, value in of_group.items() if name in (names or of_group)}
    return dict(json.loads(json.dumps(found)))


MEASURED = (
    *("grid", "ratios", "radius", "pairs", "value", "baseline", "target", "design", "published_pairs"),
    *("images", "budget", "precision", "of", "relative", "only_correct", "seed", "amp"),
    *("kinds", "shares", "masking", "seeds"),
)
"""Settings of a measuring run that its numbers are of."""


def can_grow(words: Sequence[str]) -> bool:
    """Whether a command measures so many images, to which the same command with more of them adds."""
    return words[0] == "profile" and {"--images", "--budget"} <= set(words) and "--checkpoints" not in words


def refuse_other_settings(step: Step) -> None:
    """Raise ValueError where a run that the study does not remember was measured with other settings than the step
    has."""
    if phrases := unlike(step):
        raise ValueError(
            f"{step.out} was made by another command ({'; '.join(phrases)}): give the study's own settings, or another "
            "--out"
        )


def remarks(step: Step) -> list[str]:
    """In what a finished run is not what the step's command makes, a phrase each."""
    by_time = ["ended by its minutes"] * (read_record(step.out).get("ended") == "minutes")
    return [*unlike(step), *by_time] if is_complete(step.out) else []


def unlike(step: Step) -> list[str]:
    """The settings that the record of a measuring run has otherwise than the step's words say, a phrase each; nothing
    of what either does not tell, nor of what the record writes in other words (an own function, a file of players)."""
    verb, record = step.words[0], read_record(step.out)
    there = record.get("settings")
    if record.get("command") != verb or not isinstance(there, dict):
        return []
    now, grows = asked(step.words), can_grow(step.words)
    told = [name for name in MEASURED if name in now and name in there and not (grows and name == "images")]
    pairs = [(name, there[name], json.loads(json.dumps(now[name]))) for name in told]
    return [f"{name} {was} there, {new} now" for name, was, new in pairs if was != new and not _is_place(new)]


def asked(words: Sequence[str]) -> dict[str, Any]:
    """The settings of a measurement that these words ask for, with what goes without saying."""
    typed = {name: _value(words, name) for name in MEASURED if option(name) in words}
    if words[0] == "occlusion":
        return asdict(replace(OcclusionSettings(), **typed))
    return asdict(ProfileSettings(**with_published(typed)).resolved()) if words[0] == "profile" else typed


def as_held(step: Step) -> Step:
    """The step with as many images as its run holds, where that has more: an earlier start asked for them."""
    if not can_grow(step.words) or not is_complete(step.out):
        return step
    at, held = step.words.index("--images") + 1, len(read_record(step.out)["images"])
    return replace(step, words=(*step.words[:at], str(max(held, int(step.words[at]))), *step.words[at + 1 :]))


def _value(words: Sequence[str], name: str) -> Any:
    """What stands behind the option, as JSON has it: several words are a list, none is True."""
    behind = takewhile(lambda word: not word.startswith("--"), words[words.index(option(name)) + 1 :])
    found = [_read(word) for word in behind]
    several = isinstance(getattr(ProfileSettings(), name, getattr(OcclusionSettings(), name, None)), tuple)
    return found if several else found[0] if found else True


def _read(word: str) -> Any:
    try:
        return None if word == "None" else json.loads(word)
    except ValueError:
        return word


def _is_place(value: Any) -> bool:
    """Whether a record has it in other words: module:function by its source, a file or a folder by what is in it."""
    return isinstance(value, str) and (":" in value or Path(value).exists())
