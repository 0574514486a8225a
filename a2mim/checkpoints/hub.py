"""config.json that timm's code writes beside a file of its hub: what it says of the network in that file.

github.com/huggingface/pytorch-image-models, timm/models/_hub.py (save_for_hf, _parse_model_cfg).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm

from a2mim.checkpoints.archive import json_beside
from a2mim.checkpoints.stated import ARGUMENTS, is_plain, shown

FILES = ("model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin")
"""What the hub calls a file of weights."""
RATES = "_rate"
"""How arguments end that act in training alone."""
VIEW = ("input_size", "crop_pct", "crop_mode", "interpolation")
"""What the configuration of images says of how they are shown, beside their mean and deviation."""


def configuration(path: Path) -> dict[str, Any]:
    """The configuration beside a file that is called as on the hub; empty where it is none of timm's."""
    config = json_beside(path, "config.json") if path.name in FILES else {}
    return config if isinstance(config.get("architecture"), str) else {}


def pretrained(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part about images; the whole where timm's code of before had no parts."""
    said = config.get("pretrained_cfg") or config
    return said if isinstance(said, Mapping) else {}


def architecture(path: Path) -> dict[str, Any]:
    """The network as timm's code would make it: {"architecture": name, **arguments}, for `stated.plain_network` to
    judge; empty without the arguments, which older files lack, or where this timm has no such model."""
    config = configuration(path)
    said = config.get("model_args")
    if not isinstance(said, dict) or not is_plain(config["architecture"]):
        return {}
    images = pretrained(config)
    given = {key: value for key, value in said.items() if value is not None and not key.endswith(RATES)}
    if given.get("in_chans") == 3:
        del given["in_chans"]
    usual: Any = timm.get_pretrained_cfg(config["architecture"])
    size, own = images.get("input_size"), usual and tuple(usual.input_size[1:])
    if images.get("fixed_input_size") and isinstance(size, list) and len(size) == 3 and tuple(size[1:]) != own:
        given = {"img_size": size[1:], **given}
    classes = config.get("num_classes", images.get("num_classes"))
    return {"architecture": config["architecture"], **given, **({} if classes is None else {"num_classes": classes})}


def taken(path: Path) -> dict[str, Any]:
    """Those of the arguments that a file may give, for a network that somebody named."""
    return {key: value for key, value in architecture(path).items() if key in ARGUMENTS and ARGUMENTS[key](value)}


def untaken(path: Path) -> dict[str, str]:
    """In words, those that it may not; empty where there are none."""
    said, allowed = architecture(path), taken(path)
    words = ", ".join(
        f"{shown(key)} = {shown(value)}" for key, value in said.items() if key not in (*allowed, "architecture")
    )
    told = f"config.json beside the file gives its network {words}, which is not taken over: --model-args says it"
    return {"arguments": told} if words else {}


def pixels(path: Path) -> list[Any] | None:
    """Mean and deviation of the images as they stand there, for the reader to check; None without any."""
    images = pretrained(configuration(path))
    return [images[key] for key in ("mean", "std") if key in images] or None


def label_names(path: Path) -> Any:
    """Number → name of the classes as they stand there, for the reader to check; empty without any."""
    config = configuration(path)
    there = [part[key] for part in (config, pretrained(config)) for key in ("label_names", "labels") if key in part]
    said: Any = there[0] if there else {}
    return dict(enumerate(said)) if isinstance(said, list) else said


def other_view(path: Path, shown_as: Mapping[str, Any]) -> dict[str, Any]:
    """How images were shown to a file's network, where that is not as they are shown now."""
    images = pretrained(configuration(path))
    return {key: images[key] for key in VIEW if key in images and images[key] != listed(shown_as.get(key))}


def listed(value: Any) -> Any:
    """A value as JSON has it."""
    return list(value) if isinstance(value, tuple) else value
