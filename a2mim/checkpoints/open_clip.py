"""open_clip_config.json, which open_clip's code writes beside its weights: what it says of the network of the images.

github.com/mlfoundations/open_clip, src/open_clip/factory.py, model.py (CLIPVisionCfg) and transformer.py.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from a2mim.checkpoints.archive import json_beside
from a2mim.checkpoints.errors import CheckpointError
from a2mim.checkpoints.sources import Recognised
from a2mim.checkpoints.sources.clip import CLIP, CLIP_RESNET, OPEN_CLIP_TRUNK
from a2mim.checkpoints.stated import shown, whole

NAME = "open_clip_config.json"


def configuration(path: Path, found: Recognised) -> dict[str, Any]:
    """The configuration beside a file that has open_clip's names; empty without one."""
    names = (CLIP, CLIP_RESNET, OPEN_CLIP_TRUNK)
    return json_beside(path, NAME) if any(each is name for each in found.sources for name in names) else {}


def part(config: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """A part of a configuration by the names that lead to it; empty where it is not there."""
    for name in names:
        inner = config.get(name)
        config = inner if isinstance(inner, Mapping) else {}
    return config


def arguments(config: Mapping[str, Any], path: Path, found: Recognised) -> dict[str, Any]:
    """Arguments of timm.create_model that a configuration states of open_clip's own transformer.

    Raises CheckpointError for one that pools as timm's does not.
    """
    if not config or found.names is not CLIP:
        return {}
    said, tower = part(config, "model_cfg"), part(config, "model_cfg", "vision_cfg")
    tanh = part(tower, "act_kwargs").get("approximate") == "tanh"
    act_layer = "quick_gelu" if said.get("quick_gelu") else "gelu_tanh" if tanh else "gelu"
    pool, behind = tower.get("pool_type", "tok"), tower.get("final_ln_after_pool", False)
    if (pool, behind) == ("avg", True):
        return {"act_layer": act_layer, "global_pool": "avg"}
    if pool != "tok" or tower.get("global_average_pool"):
        raise CheckpointError(
            f"{NAME} beside '{path}' states a pooling that is not read (pool_type {shown(pool)}, global_average_pool "
            f"{shown(tower.get('global_average_pool'))}, final_ln_after_pool {shown(behind)})"
        )
    return {"act_layer": act_layer}


def trunk(config: Mapping[str, Any], found: Recognised) -> list[str]:
    """What a configuration calls the network of timm's that a file is of; empty without one."""
    said = part(config, "model_cfg", "vision_cfg").get("timm_model_name")
    return [said] if isinstance(said, str) and OPEN_CLIP_TRUNK in found.sources else []


def heads(config: Mapping[str, Any], path: Path, found: Recognised) -> int | None:
    """Attention heads of open_clip's own transformer; None where the configuration does not say how wide it is."""
    tower = part(config, "model_cfg", "vision_cfg")
    width, each = tower.get("width"), tower.get("head_width", 64)
    if width is None or found.names is not CLIP:
        return None
    if not whole(1, 16384)(width) or not whole(1, 16384)(each) or width < each:
        raise CheckpointError(f"{NAME} beside '{path}' states no width of heads: {shown(each)} of {shown(width)}")
    return int(width // each)


def pixels(config: Mapping[str, Any]) -> list[Any] | None:
    """Mean and deviation of the images as they stand there, for the reader to check; None without any."""
    said = part(config, "preprocess_cfg")
    return [said[key] for key in ("mean", "std") if key in said] or None
