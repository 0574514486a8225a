"""What a run of another task is called in a table: its data, what is unusual of its set-up, and what runs of one set-up
may differ in."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from a2mim.parts import SPLITS, WHOLE, kind_of
from figures.runs import looked_up

USUAL_PARTS = (*WHOLE, *SPLITS["validation"], "val2017")
"""Of the data, which go without saying."""
NEIGHBOURS = {"k": 20, "temperature": 0.07}
"""What a2mim knn does where nothing else is asked for, which goes without saying, too."""


def data_of(settings: Mapping[str, Any]) -> str:
    """The data by their file or folder, without what leads there, and the part of them that is no usual one."""
    data = settings["data"]
    path = Path(data["val"] or data["data"])
    path = path.resolve() if not path.name or ".." in path.parts else path  # `.` and `..` are no names
    names = path.parts[-2:] if kind_of(path.name) else (path.name,)  # many a data set has a folder val
    part = data.get("val_split", "")
    return "/".join(names).removesuffix(".tar") + ("" if part in USUAL_PARTS else f" {part}")


def few_of(settings: Mapping[str, Any]) -> str:
    """To how few training images the run was restricted, with a comma before it; empty where it saw all."""
    limit, share = int(settings["data"].get("limit", 0)), float(settings.get("labels", 1))
    words = [f"{limit:,} training images"] * bool(limit)
    if each := int(settings.get("per_class", 0)):
        words.append(f"{each} labelled image{'s' * (each > 1)} a class")
    elif share != 1:
        words.append(f"{100 * share:g} % of the labels")
    return "".join(f", {some}" for some in words)


def neighbours_of(settings: Mapping[str, Any]) -> str:
    """What of a vote of neighbours is not as usual, with a comma before it."""
    asked = {name: settings.get(name, usual) for name, usual in NEIGHBOURS.items()}
    return "".join(f", {name} {value:g}" for name, value in asked.items() if value != NEIGHBOURS[name])


def how_of(task: str, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """How long a run trained, which pixels of an image it was evaluated on, and what a detector is made of and sees in
    training, a phrase each; of a setting that an older run had not, none."""
    pixels = {"finetune": _images_shown, "segment": _scenes_shown, "detect": _pictures_shown}[task]
    said = [_epochs, pixels, *(OF_DETECTORS if task == "detect" else ())]
    return tuple(filter(None, [looked_up(each, settings) for each in said]))


OF_DETECTORS: tuple[Callable[[Mapping[str, Any]], str], ...] = (
    lambda settings: f"{settings['detecting']['width']} channels",
    lambda settings: f"anchors {_listed(settings['detecting']['anchors'])}",
    lambda settings: f"{settings['detecting']['regions']} regions",
    lambda settings: "frozen norms" if settings["detecting"]["frozen_norms"] else "norms trained",
    lambda settings: _jitter(**settings["frames"]),
)
"""What a detector is made of, and what it sees in training."""
OF_PROBES: tuple[Callable[[Mapping[str, Any]], str], ...] = (
    lambda settings: _counted(settings["epochs"]),
    lambda settings: f"batches of {settings['batch']}",
    lambda settings: f"weight decay {settings['weight_decay']:g}",
)
"""What trained a classifier on frozen features."""
OF_HEADS: dict[str, tuple[Callable[[Mapping[str, Any]], str], ...]] = {
    "linear": (lambda settings: f"rates {_listed(settings['lrs'])}",),
    "attentive": (
        lambda settings: f"rates {_listed(settings['attentive_lrs'])}",
        lambda settings: f"{settings['queries']} queries of {settings['heads']} heads",
    ),
}
"""And what is its kind's alone."""


def how_probed(head: str, result: Mapping[str, Any]) -> tuple[str, ...]:
    """How an image was shown to a frozen network, and what trained the classifier on its features, a phrase each."""
    trained = (*OF_PROBES, *OF_HEADS.get(head, OF_HEADS["linear"])) if result["command"] == "linear" else ()
    said = [
        looked_up(crop_words, result.get("transform", {})),
        *(looked_up(each, result["settings"]) for each in trained),
    ]
    return tuple(filter(None, said))


def _listed(numbers: Iterable[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)


def _jitter(crop: tuple[int, int], scale: tuple[float, float], **_: Any) -> str:
    (height, width), (least, most) = crop, scale
    return f"scaled by {least:g} to {most:g} and cut to {height}×{width}" if height else "scaled alike"


def _epochs(settings: Mapping[str, Any]) -> str:
    return _counted(settings["optim"]["epochs"])


def _counted(epochs: float) -> str:
    return f"{epochs} epoch{'s' * (epochs != 1)}"


def _images_shown(settings: Mapping[str, Any]) -> str:
    side = settings["evaluation"]["eval_size"] or settings["augment"]["image_size"]
    return crop_words({"size": [side, side], **settings["evaluation"]})


def _scenes_shown(settings: Mapping[str, Any]) -> str:
    crops = settings["crops"]
    slid = settings["decoding"]["evaluate"] == "slide"
    windows = f" in windows of {'×'.join(map(str, crops['crop']))}" * slid
    return f"{crops['short_side'] or min(crops['crop'])} px{windows}"


def _pictures_shown(settings: Mapping[str, Any]) -> str:
    return f"{max(settings['frames']['short_side'])} px, {settings['frames']['long_side']} at most"


def crop_words(transform: Mapping[str, Any]) -> str:
    """Of a centre crop."""
    return f"{'×'.join(map(str, transform['size']))} px of a crop of {100 * transform['crop_pct']:g} %"
