"""What a run of another task is called in a table: its data, what is unusual of its set-up, and what runs of one set-up
may differ in."""

from collections.abc import Mapping
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
    said = [_epochs, pixels, *((_levels, _anchors, _regions, _norms, _jitter) if task == "detect" else ())]
    return tuple(filter(None, [looked_up(each, settings) for each in said]))


def how_probed(head: str, result: Mapping[str, Any]) -> tuple[str, ...]:
    """How an image was shown to a frozen network, and what trained the classifier on its features, a phrase each."""
    said = [lambda settings: crop_words(result["transform"])]
    if result["command"] == "linear":
        said += [_passes, _batches, _decay, _attention_rates if head == "attentive" else _rates]
        said += [_queries] if head == "attentive" else []
    return tuple(filter(None, [looked_up(each, result["settings"]) for each in said]))


def _passes(settings: Mapping[str, Any]) -> str:
    return _counted(settings["epochs"])


def _batches(settings: Mapping[str, Any]) -> str:
    return f"batches of {settings['batch']}"


def _decay(settings: Mapping[str, Any]) -> str:
    return f"weight decay {settings['weight_decay']:g}"


def _rates(settings: Mapping[str, Any]) -> str:
    return f"rates {', '.join(f'{rate:g}' for rate in settings['lrs'])}"


def _attention_rates(settings: Mapping[str, Any]) -> str:
    return f"rates {', '.join(f'{rate:g}' for rate in settings['attentive_lrs'])}"


def _queries(settings: Mapping[str, Any]) -> str:
    return f"{settings['queries']} queries of {settings['heads']} heads"


def _levels(settings: Mapping[str, Any]) -> str:
    return f"{settings['detecting']['width']} channels"


def _anchors(settings: Mapping[str, Any]) -> str:
    return f"anchors {', '.join(map(str, settings['detecting']['anchors']))}"


def _regions(settings: Mapping[str, Any]) -> str:
    return f"{settings['detecting']['regions']} regions"


def _norms(settings: Mapping[str, Any]) -> str:
    return "frozen norms" if settings["detecting"]["frozen_norms"] else "norms trained"


def _jitter(settings: Mapping[str, Any]) -> str:
    (height, width), (least, most) = settings["frames"]["crop"], settings["frames"]["scale"]
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
