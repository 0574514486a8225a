"""Of what kind the parts of a run.json are, and which part is not.

A kind is a type; None (null); a tuple or a union of kinds, of which one fits; [kind], a list of such; [kind, kind], a
list of just these; a dictionary of kinds, for one that holds these, and may hold others; a dataclass, for a dictionary
of its fields and of nothing else. What a name in a dictionary ends in says more: "reached?" may be missing.
"""

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from interactions.blocks import Block
from interactions.estimators.auto import Pilot
from interactions.settings import OcclusionSettings, ProfileSettings
from interactions.speed import Speed

PREPARING = "preparing"
"""The status of a run whose pilot is not done."""


def settings_of(kind: type, *needed: str) -> dict[str, Any]:
    """Settings as a record holds them: an older one may lack any but those that are needed."""
    hints = get_type_hints(kind)
    return {name if name in needed else f"{name}?": hint for name, hint in hints.items()}


CHOSEN = {"position": int, "image": int, "name": str, "label": (None, int), "target": (None, int), "digest": str}
"""Of an image (`interactions.selection.Chosen`)."""
EVERY = {
    "model": {"name": str},
    "data": {"name": str, "digest": (None, str)},
    "settings": dict,
    "images": [CHOSEN],
    "status": Literal["preparing", "running", "complete"],
    "seconds": float,
    "resumed": [dict],
    "units?": int,
    "versions?": dict,
}
MEASURED = {
    **EVERY,
    "image_shape": [int, int, int],
    "skipped": [{"name": str, "reason": str}],
    "forecast?": {"passes": int, "bytes": int, "least": bool},
    "passes_per_second?": (None, float),
}
"""Of the record of every measuring run."""
PLAYED = {"batch_size": int, "backed_off": bool, "classes": (None, int), "speed?": Speed}
"""Of one that plays a game on the images."""
PROFILE = {
    **MEASURED,
    **PLAYED,
    "settings": settings_of(ProfileSettings, "grid", "value", "baseline", "radius", "design", "keep"),
    "pairs": int,
    "wrong": int,
    "tried?": int,
    "ahead?": [CHOSEN],
    "preparation_passes": {"selection": int},
    "changed_from_published?": [str],
}
REDUCED = {"cost": float, "spread": float, "rounding": float}
"""What reduced precision does to an order's values."""
ORDER = {
    "order": int,
    "ratio": float,
    "floor": (None, float),
    "pilot?": (None, Pilot),
    "reduced?": REDUCED,
    "exact?": bool,
    "pairs_measured?": float,
}
PLAN = {"order": int, "budget": (None, int), "design": str, "options": dict}
PLANNED = {
    "passes_per_image": float,
    "floor_note": str,
    "orders": [ORDER],
    "rounds?": [{"first": int, "last": int, "look?": int, "passes_per_image": float, "orders": [PLAN]}],
}
"""Of a profile whose pilot is done."""
ENDED = {
    "passes": int,
    "passes_by_level?": dict,
    "ended?": Literal["images", "minutes", "precision"],
    "reached?": {"widest": (None, float)},
    "looks?": int,
}
"""Of a complete one."""
OCCLUSION = {
    **MEASURED,
    **PLAYED,
    "settings": settings_of(OcclusionSettings, "grid", "kinds", "baseline", "masking", "saliency"),
    "passes_per_image": float,
    "shuffle_grids": [int],
    "saliency_from": (None, str),
    "saliency_unlike?": [str],
}
ROW = {"block": int, "name": str, "kind": str, "depth": float, "height": int, "width": int}
SPECTRUM = {
    **MEASURED,
    "passes_per_image": float,
    "blocks": [ROW],
    "places": [Block],
    "left_out": [{"name": str, "reason": str}],
}
KINDS = {"profile": PROFILE, "occlusion": OCCLUSION, "spectrum": SPECTRUM}


def wrong_part(record: Mapping[str, Any], command: str, whole: bool = True) -> str:
    """Which part of a measuring run's record is not of its kind, in words; nothing where all are.

    whole: whether a part that is missing is wrong.
    """
    kind = KINDS[command]
    if command == "profile" and record.get("status") != PREPARING:
        kind = {**kind, **PLANNED, **(ENDED if record.get("status") == "complete" else {})}
    if isinstance(settings := record.get("settings"), dict) and "speed" in settings and "batch_size" in kind:
        kind = {**kind, "speed": Speed}  # older records say it in two settings
    return misfit(record, kind, whole=whole)


def misfit(value: Any, kind: Any, name: str = "", whole: bool = True) -> str:
    """Which part of what was read from JSON is not of its kind, and what it is instead; nothing where all fit.

    name: of the value; its parts are called name.part. whole: whether a part that is missing does not fit.
    """
    if isinstance(kind, UnionType) or get_origin(kind) in (Union, tuple):
        kind = [get_args(kind)[0]] if get_origin(kind) is tuple else get_args(kind)
    if isinstance(kind, tuple):
        said = [misfit(value, each, name, whole) for each in kind]
        return "" if "" in said else said[-1]
    if isinstance(kind, list):
        return _misfit_list(value, kind, name, whole)
    if is_dataclass(kind):
        hints, usual = get_type_hints(kind), {each.name for each in fields(kind) if each.default is not MISSING}
        if isinstance(value, dict) and (other := [key for key in value if key not in hints]):
            return f"{name or 'it'} holds {other[0]!r}, which is not known"
        kind = {f"{key}?" if key in usual else key: hint for key, hint in hints.items()}
    if isinstance(kind, dict):
        return _misfit_dict(value, kind, name, whole)
    return "" if _is_a(value, kind) else f"{name or 'it'} is {_worded(value)}"


def _misfit_list(value: Any, kinds: list[Any], name: str, whole: bool) -> str:
    if not isinstance(value, list) or (len(kinds) > 1 and len(value) != len(kinds)):
        return f"{name or 'it'} is {_worded(value)}"
    each = kinds if len(kinds) > 1 else kinds * len(value)
    parts = enumerate(zip(value, each, strict=True))
    return next(filter(None, (misfit(part, kind, _part(name, n), whole) for n, (part, kind) in parts)), "")


def _misfit_dict(value: Any, kinds: dict[str, Any], name: str, whole: bool) -> str:
    if not isinstance(value, dict):
        return f"{name or 'it'} is {_worded(value)}"
    for key, kind in kinds.items():
        part = key.removesuffix("?")
        if part not in value:
            if part == key and whole:
                return f"{_part(name, part)} is missing"
        elif said := misfit(value[part], kind, _part(name, part), whole):
            return said
    return ""


def _is_a(value: Any, kind: Any) -> bool:
    """Whether JSON's value is of a plain type, a whole number of float too, a truth value of no number."""
    if get_origin(kind) is Literal:
        return isinstance(value, str | int) and value in get_args(kind)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    return value is None if kind in (None, type(None)) else type(value) is kind


def _part(name: str, part: Any) -> str:
    return f"{name}.{part}" if name else str(part)


def _worded(value: Any) -> str:
    """What a value of JSON is."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    words = {bool: "true or false", dict: "a dictionary", type(None): "null"}
    return words.get(type(value)) or f"{value!r:.40}"
