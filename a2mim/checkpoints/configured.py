"""What the settings in a file, and the configurations of Hugging Face and of timm's hub beside it, say of a network.

All of it is what somebody wrote into a file: each is checked before it is used.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from a2mim.bounds import Deviation, Mean, complaint
from a2mim.checkpoints import hub, open_clip
from a2mim.checkpoints.archive import json_beside
from a2mim.checkpoints.convert import Pixels, Tensors
from a2mim.checkpoints.errors import CheckpointError
from a2mim.checkpoints.positions import table_of
from a2mim.checkpoints.preprocessor import kept_pixels
from a2mim.checkpoints.sources import Recognised
from a2mim.checkpoints.sources.common import HALF, IMAGENET
from a2mim.checkpoints.sources.hugging_face_cnn import RESNET
from a2mim.checkpoints.sources.openmmlab import OWN
from a2mim.checkpoints.stated import number, parsed, shown, whole

OPENMMLAB = OWN["name"]


@dataclass(frozen=True)
class Told:
    """What the settings of a file say, or its source's code where they say nothing."""

    norm_eps: Mapping[str, float]
    """Beginning of module names → epsilon of the layer norms there."""
    heads: int | None
    """Attention heads of a transformer that has as many in each block."""
    pixels: Pixels | None
    """Mean and deviation of the images."""
    image_size: int | None
    hints: tuple[str, ...]
    """Names of models."""
    settings: Mapping[str, Any]
    arguments: Mapping[str, Any]
    """Of timm.create_model, beyond what shapes tell."""
    assumed: Mapping[str, str]
    """What → in which words, where nothing told it."""
    untold: Mapping[str, str]
    """Arguments of timm.create_model that nothing tells → what the source's code does, in words."""


def tell(content: Any, metadata: Mapping[str, str], path: Path, container: str, found: Recognised) -> Told:
    """What the settings in a file and beside it say.

    Raises CheckpointError for numbers that are none of what they are called.
    """
    config = of_images(json_beside(path, "config.json")) if found.names.name == "hugging face" else {}
    settings = config or arguments(content)
    clip = open_clip.configuration(path, found)
    given = found.arguments | activation(config, path, found) | open_clip.arguments(clip, path, found)
    images, assumed = pixels(content, metadata, path, container, found, config)
    return Told(
        norm_eps(metadata, config, path, found) or found.norm_eps,
        head_count(config, "num_attention_heads", path)
        or head_count({"heads": parsed(metadata.get("heads", "null"), f"the metadata of '{path}'")}, "heads", path)
        or open_clip.heads(clip, path, found)
        or moco_heads(found.tensors, metadata),
        images,
        image_size(content, config, path),
        tuple(name for name in (*hints(content, hub.configuration(path)), *open_clip.trunk(clip, found)) if name),
        settings,
        given,
        assumed,
        {key: words for key, words in found.names.untold.items() if key not in given},
    )


def of_images(config: Mapping[str, Any]) -> dict[str, Any]:
    """A Hugging Face configuration, with what it says of the network that sees images where it is of two towers."""
    tower = config.get("vision_config")
    classes = {key: config[key] for key in ("id2label",) if key in config}
    return {**config, **(tower if isinstance(tower, dict) else {}), **classes}


def norm_eps(metadata: Mapping[str, str], config: Mapping[str, Any], path: Path, found: Recognised) -> dict[str, float]:
    """Epsilons that a converted file or a Hugging Face configuration states."""
    source = found.names
    if "layer_norm_eps" in config and source.norm_eps:
        said, where = {source.config_eps: config["layer_norm_eps"]}, f"config.json beside '{path}'"
    else:
        where = f"the metadata 'norm_eps' of checkpoint '{path}'"
        said = parsed(metadata.get("norm_eps", "{}"), where)
    if not isinstance(said, dict) or not all(map(number(0, 1), said.values())):
        raise CheckpointError(f"{where} states no epsilon of layer norms, a number from 0 to 1: {shown(said)}")
    stated = {str(name): float(eps) for name, eps in said.items()}
    return {**source.norm_eps, **stated} if stated and source.config_eps else stated


ACTIVATIONS = {"gelu": "gelu", "quick_gelu": "quick_gelu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh"}
"""Hugging Face's name → timm's."""


def activation(config: Mapping[str, Any], path: Path, found: Recognised) -> dict[str, str]:
    """The activation of a transformer's layers, where a configuration says another than the source's code has."""
    said = config.get("hidden_act")
    if found.names is RESNET:
        refuse_other_resnet(config, path)
        return {}
    if said is None or config.get("use_swiglu_ffn") or config.get("use_gated_mlp"):
        return {}
    if not isinstance(said, str) or said not in ACTIVATIONS:
        raise CheckpointError(
            f"config.json beside '{path}' states the activation {shown(said)}, and {', '.join(ACTIVATIONS)} are known: "
            "name the timm model that has it"
        )
    usual = found.arguments.get("act_layer", "gelu")
    return {} if ACTIVATIONS[said] == usual else {"act_layer": ACTIVATIONS[said]}


def refuse_other_resnet(config: Mapping[str, Any], path: Path) -> None:
    """Raise CheckpointError for a ResNet that computes what no ResNet of timm's with its names and shapes does."""
    usual = {"hidden_act": "relu", "downsample_in_bottleneck": False, "downsample_in_first_stage": False}
    if other := [f"{key} = {shown(config[key])}" for key in usual if config.get(key, usual[key]) != usual[key]]:
        raise CheckpointError(
            f"config.json beside '{path}' states {', '.join(other)}, which no ResNet of timm's has: such a network "
            "needs a factory"
        )


def image_size(content: Any, config: Mapping[str, Any], path: Path) -> int | None:
    """The side of the images, as a configuration states it; None where it does not, or where they are not square."""
    yacs = yacs_config(content).get("DATA")
    said = config.get("image_size", yacs.get("IMG_SIZE") if isinstance(yacs, Mapping) else None)
    if isinstance(said, list) and len(said) == 2 and said[0] == said[1]:
        said = said[0]
    if said is not None and not whole(1, 4096)(said):
        raise CheckpointError(f"the settings of '{path}' state no size of images: {shown(said)}")
    return said


def yacs_config(content: Any) -> Mapping[str, Any]:
    """The settings of Swin's and SimMIM's code, which a training checkpoint keeps; empty without them."""
    config = content.get("config")
    return config if isinstance(config, Mapping) and "DATA" in config else {}


# --- mean and deviation of the images

TRAINED_WITH = {
    "vit": HALF,
    "vit_mae": IMAGENET,
    "deit": IMAGENET,
    "beit": HALF,
    "data2vec-vision": HALF,
    "ijepa": IMAGENET,
    "dinov2": IMAGENET,
    "dinov2_with_registers": IMAGENET,
    "dinov3_vit": IMAGENET,
}
"""Hugging Face's model_type → what its published models were trained with (their preprocessor_config.json)."""


def pixels(
    content: Any,
    metadata: Mapping[str, str],
    path: Path,
    container: str,
    found: Recognised,
    config: Mapping[str, Any],
) -> tuple[Pixels | None, dict[str, str]]:
    """Mean and deviation of the images as the file or a configuration beside it states them, or the source's code.

    Where none of them does: what the family was trained with, or None for those of timm's model, and the assumption in
    words.
    """
    if said := parsed_words(metadata):
        return stated_pixels(content, metadata, path, found), said
    if stated := stated_pixels(content, metadata, path, found):
        return stated, {}
    if "architecture" in metadata:  # of this project, before it wrote them: whose family is guessed below is another's
        return None, {"pixels": ASSUMED.format("those of timm's model")}
    if found.pixels:
        return found.pixels, {}
    if table_of(found.tensors.get("pos_embed")):
        return IMAGENET, {}
    guessed, why = family_pixels(content, path, container, found, config)
    whose = {IMAGENET: "ImageNet's", HALF: "0.5 and 0.5", None: "those of timm's model"}[guessed]
    return guessed, {"pixels": ASSUMED.format(whose + why)}


UNTOUCHED: Pixels = ((0.0,) * 3, (1.0,) * 3)
"""Of pixels from 0 to 1."""
ASSUMED = "mean and deviation of the images are assumed: {}, for the file does not say"


def parsed_words(metadata: Mapping[str, str]) -> dict[str, str]:
    """What a converted file's own source did not tell."""
    said = parsed(metadata.get("assumed", "{}"), "the metadata 'assumed'")
    return {str(key): str(words) for key, words in said.items()} if isinstance(said, dict) else {}


def stated_pixels(content: Any, metadata: Mapping[str, str], path: Path, found: Recognised) -> Pixels | None:
    """What the file, or a configuration beside it, states; None where none does."""
    where = f"the metadata 'pixels' of checkpoint '{path}'"
    stated = parsed(metadata.get("pixels", "null"), where)
    if stated is None and found.names.name == "hugging face":
        where = f"preprocessor_config.json beside '{path}'"
        processor = json_beside(path, "preprocessor_config.json")
        if processor.get("do_rescale") is False:
            raise CheckpointError(f"{where} leaves pixels at 0 to 255 (do_rescale false), which are not made here")
        if processor.get("do_normalize") is False:
            return UNTOUCHED
        stated = [processor[key] for key in ("image_mean", "image_std") if key in processor] or None
    if stated is None and found.names.name == OPENMMLAB:
        where, stated = f"data_preprocessor of checkpoint '{path}'", kept_pixels(content, found.left_out, path)
    if stated is None and (stated := open_clip.pixels(open_clip.configuration(path, found))):
        where = f"{open_clip.NAME} beside '{path}'"
    if stated is None and (stated := hub.pixels(path)):
        where = f"config.json beside '{path}'"
    args = arguments(content)
    if stated is None and isinstance(args.get("imagenet_default_mean_and_std"), bool):
        return IMAGENET if args["imagenet_default_mean_and_std"] else HALF
    if stated is None and isinstance(args.get("mean"), list | tuple) and isinstance(args.get("std"), list | tuple):
        where, stated = f"the settings of '{path}'", [args["mean"], args["std"]]
    if stated is None:
        return IMAGENET if yacs_config(content) else None
    try:
        (*mean,), (*std,) = stated
    except (TypeError, ValueError):
        mean, std = [], []
    if (
        not mean
        or len(mean) != len(std)
        or any(complaint(x, Mean) for x in mean)
        or any(complaint(x, Deviation) for x in std)
    ):
        raise CheckpointError(f"{where} states no mean and deviation of images: {shown(stated)}")
    return tuple(map(float, mean)), tuple(map(float, std))


def family_pixels(
    content: Any, path: Path, container: str, found: Recognised, config: Mapping[str, Any]
) -> tuple[Pixels | None, str]:
    """What the family of a file was trained with, and why it is taken to be one of that family."""
    kind = config.get("model_type")
    if found.names.name == "hugging face":
        if not isinstance(kind, str):
            kind = "vit_mae" if any(key.startswith("decoder.") for key in found.left_out) else "vit"
        return TRAINED_WITH.get(kind), f" as of {kind}"
    if found.names.name == OPENMMLAB:
        return IMAGENET, " as of OpenMMLab's configurations"
    if found.names.name == "beit":
        said = (path.name.lower(), *hints(content, {}))
        second = any("beitv2" in text or "beit2" in text for text in said)
        second = second or any(key.startswith("cls_pt_") for key in found.left_out)
        return (IMAGENET, " as of BEiT v2") if second else (HALF, " as of BEiT")
    if "blocks.0.attn.qkv.weight" not in found.tensors:
        return None, ""
    if container == "model":
        return IMAGENET, " as of MAE, DeiT and SimMIM, who save so"
    if "head.weight" not in found.tensors or "dino" in path.name.lower():
        return IMAGENET, " as of DINO's backbones"
    return None, ""


def arguments(content: Any) -> Mapping[str, Any]:
    """The command line that a training checkpoint keeps; empty without one."""
    args = content.get("args") or content.get("hyper_parameters")
    return vars(args) if isinstance(args, argparse.Namespace) else args if isinstance(args, Mapping) else {}


def hints(content: Any, config: Mapping[str, Any]) -> list[str]:
    """Names of a model that a training checkpoint's settings give, or timm's config.json (`hub.configuration`)."""
    settings = arguments(content)
    said = [content.get("arch"), *(settings.get(key) for key in ("model", "arch", "model_name"))]
    said.append(config.get("architecture"))
    return [name for name in said if isinstance(name, str)]


def head_count(config: Mapping[str, Any], name: str, path: Path) -> int | None:
    """Attention heads as a configuration states them; None where it does not."""
    said = config.get(name)
    if said is not None and not whole(1, 1024)(said):
        raise CheckpointError(f"the settings of '{path}' state no number of heads in {name}: {shown(said)}")
    return said


def moco_heads(tensors: Tensors, metadata: Mapping[str, Any]) -> int | None:
    """MoCo v3's ViT-S has 12 heads where every other has 6, of the same shapes: its table of positions tells it."""
    pos_embed = tensors.get("pos_embed")
    small = pos_embed is not None and pos_embed.shape[-1:] == (384,) and "architecture" not in metadata
    return 12 if small and table_of(pos_embed) == "moco v3" else None
