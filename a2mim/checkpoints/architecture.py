"""Which timm model a checkpoint fits, read off the shapes of its tensors.

A guess is a timm name and arguments of timm.create_model. Whether it fits is not guessed: the model is built without
memory (on torch's meta device), and its keys and shapes are compared with the file's.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import timm
import torch
from torch import Tensor, nn

from a2mim.checkpoints.errors import sound
from a2mim.checkpoints.read import Checkpoint
from a2mim.checkpoints.resize import square_side
from a2mim.checkpoints.stated import is_plain, plain_network

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Architecture:
    """A timm model: timm.create_model(name, **arguments)."""

    family: str
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    """Only what differs from the name's own."""
    form: tuple[str, ...] = ()
    """Those of the arguments that are the source's choice and no size: pooling, heads, biases."""
    sized: bool = False
    """Whether shapes told it, and no name."""


def guess(checkpoint: Checkpoint) -> Architecture | None:
    """The timm model that a checkpoint is of; None where its names and shapes are those of no known family.

    A file that states its architecture (written by this project) is believed, then the shapes, then the names that the
    file's settings and its own name contain. Shapes alone do not tell everything: see `identify`.

    Raises CheckpointError for a file that states anything but a model of timm's with plain arguments, and for shapes
    that no network has.
    """
    if stated := checkpoint.architecture:
        name, arguments = plain_network(stated, f"checkpoint '{checkpoint.path}'")
        return Architecture(name.split("_")[0], name, arguments)
    with sound(checkpoint.path):
        for recognised, describe in FAMILIES:
            if recognised(checkpoint.tensors):
                return replace(describe(checkpoint.tensors, checkpoint.heads), sized=True)
    for name in (*checkpoint.hints, checkpoint.path.stem.split("-")[0], checkpoint.path.name.split(".")[0]):
        if is_plain(name):
            return Architecture(name.split("_")[0], name, classes(checkpoint, name))
    return None


def classes(checkpoint: Checkpoint, name: str) -> dict[str, Any]:
    """num_classes where the file's classifier has another number than the model of that name."""
    config: Any = timm.get_pretrained_cfg(name)
    classifier = config.classifier if config and isinstance(config.classifier, str) else "head"
    number = class_count(checkpoint.tensors, f"{classifier}.weight")
    return {} if config and number == config.num_classes else {"num_classes": number}


def build(architecture: Architecture, device: str = "meta") -> nn.Module:
    """The model of a guess; on the meta device without memory for its weights.

    Raises ValueError where timm cannot build it.
    """
    try:
        with torch.device(device):
            return timm.create_model(architecture.name, **architecture.arguments)
    except Exception as error:  # sizes that do not go together make a network's own code fail in any way at all
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"timm cannot build {architecture.name} with {architecture.arguments}: {said}") from error


# --- by family


def describe_vit(tensors: Tensors, heads: int | None) -> Architecture:
    sizes = vit_sizes(tensors)
    width, patch = sizes["embed_dim"], sizes["patch_size"]
    prefix = sum(key in tensors for key in ("cls_token", "dist_token"))
    length = tensors["pos_embed"].shape[1]
    # DeiT III gives the class token no position.
    bare = prefix == 1 and not square_side(length - prefix) and bool(square_side(length))
    side = square_side(length if bare else length - prefix)
    wanted = {
        **sizes,
        "img_size": side * patch,
        "num_heads": heads or usual_heads(width, sizes["depth"], sizes["mlp_ratio"]),
        "qkv_bias": "blocks.0.attn.qkv.bias" in tensors,
        "init_values": 1e-5 if "blocks.0.ls1.gamma" in tensors else None,
        "class_token": "cls_token" in tensors,
        "no_embed_class": bare,
        "global_pool": "avg" if "fc_norm.weight" in tensors or "cls_token" not in tensors else "token",
        "fc_norm": False if "cls_token" not in tensors and "norm.weight" in tensors else None,
        "num_classes": class_count(tensors, "head.weight"),
    }
    distilled = "dist_token" in tensors
    size = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1280: "huge"}.get(width, "base")
    if distilled:
        name = next_known(f"deit_{size}_distilled_patch16_224", "deit_base_distilled_patch16_224")
        for key in ("class_token", "no_embed_class", "global_pool", "fc_norm"):
            del wanted[key]
    else:
        name = next_known(
            f"vit_{size}_patch{patch}_{side * patch}", f"vit_{size}_patch{patch}_224", "vit_base_patch16_224"
        )
    named = {**VIT_USUAL, **name_sizes(name)}
    form = ("qkv_bias", "init_values", "class_token", "no_embed_class", "global_pool", "fc_norm")
    return Architecture("vit", name, unusual(wanted, named), ("num_heads", *form) if heads else form)


def describe_beit(tensors: Tensors, heads: int | None) -> Architecture:
    sizes = vit_sizes(tensors)
    width, patch = sizes["embed_dim"], sizes["patch_size"]
    shared = tensors.get("rel_pos_bias.relative_position_bias_table")
    table = tensors.get("blocks.0.attn.relative_position_bias_table", shared)
    length = tensors["pos_embed"].shape[1] - 1 if table is None else 0
    side = square_side(length) if table is None else (square_side(table.shape[0] - 3) + 1) // 2
    pooled, head = "fc_norm.weight" in tensors, "head.weight" in tensors
    wanted = {
        **sizes,
        "img_size": side * patch,
        "num_heads": usual_heads(width, sizes["depth"], sizes["mlp_ratio"]) if table is None else table.shape[1],
        "qkv_bias": "blocks.0.attn.q_bias" in tensors,
        "init_values": 0.1 if "blocks.0.gamma_1" in tensors else None,
        "use_abs_pos_emb": "pos_embed" in tensors,
        "use_rel_pos_bias": table is not None and shared is None,
        "use_shared_rel_pos_bias": shared is not None,
        # Without a classifier nothing says how to pool; BEiT and SimMIM take the mean over the patches when they tune.
        "global_pool": "avg" if pooled or not head else "token",
        "use_fc_norm": False if not pooled and not head else None,
        "num_classes": class_count(tensors, "head.weight"),
    }
    size = "large" if width == 1024 else "base"
    name = next_known(f"beit_{size}_patch16_{side * patch}", f"beit_{size}_patch16_224")
    named = {**VIT_USUAL, **BEIT_USUAL, **name_sizes(name)}
    form = ("qkv_bias", "init_values", "use_abs_pos_emb", "use_rel_pos_bias", "use_shared_rel_pos_bias")
    return Architecture("beit", name, unusual(wanted, named), (*form, "global_pool", "use_fc_norm"))


def describe_swin(tensors: Tensors, heads: int | None) -> Architecture:
    width, channels, patch, _ = tensors["patch_embed.proj.weight"].shape
    stages = count(tensors, r"layers\.(\d+)\.")
    depths = tuple(count(tensors, rf"layers\.{n}\.blocks\.(\d+)\.") for n in range(stages))
    tables = [tensors[f"layers.{n}.blocks.0.attn.relative_position_bias_table"] for n in range(stages)]
    window = (square_side(tables[0].shape[0]) + 1) // 2
    wanted = {
        "img_size": window * patch * 2 ** (stages - 1),
        "window_size": window,
        "patch_size": patch,
        "in_chans": channels,
        "embed_dim": width,
        "depths": depths,
        "num_heads": tuple(table.shape[1] for table in tables),
        "num_classes": class_count(tensors, "head.fc.weight"),
    }
    usual: dict[str, Any] = {"patch_size": 4, "in_chans": 3, "num_classes": 1000}
    sizes: dict[Any, tuple[str, tuple[int, ...]]] = {
        (96, (2, 2, 6, 2)): ("tiny", (3, 6, 12, 24)),
        (96, (2, 2, 18, 2)): ("small", (3, 6, 12, 24)),
        (128, (2, 2, 18, 2)): ("base", (4, 8, 16, 32)),
        (192, (2, 2, 18, 2)): ("large", (6, 12, 24, 48)),
    }
    size, named_heads = sizes.get((width, depths), ("tiny", ()))
    name = next_known(f"swin_{size}_patch4_window{window}_{wanted['img_size']}", f"swin_{size}_patch4_window7_224")
    named_window, named_size = map(int, re.findall(r"window(\d+)_(\d+)", name)[0])
    usual |= {"window_size": named_window, "img_size": named_size}
    if named_heads:
        usual |= {"embed_dim": width, "depths": depths, "num_heads": named_heads}
    return Architecture("swin", name, unusual(wanted, usual))


def describe_resnet(tensors: Tensors, heads: int | None) -> Architecture:
    bottleneck = "layer1.0.conv3.weight" in tensors
    layers = tuple(count(tensors, rf"layer{n}\.(\d+)\.") for n in (1, 2, 3, 4))
    firsts = [tensors[f"layer{n}.0.conv2.weight"] for n in (1, 2, 3, 4)]
    channels = tuple(
        tensors[f"layer{n}.0.conv3.weight"].shape[0] // 4 if bottleneck else firsts[n - 1].shape[0]
        for n in (1, 2, 3, 4)
    )
    width, per_group = firsts[0].shape[:2]
    groups = width // per_group
    wanted = {
        "layers": layers,
        "channels": channels,
        "cardinality": groups,
        "base_width": width * 64 // channels[0] // groups,
        "in_chans": tensors["conv1.weight"].shape[1],
        "num_classes": class_count(tensors, "fc.weight"),
    }
    form = (bottleneck, groups, wanted["base_width"])
    sizes = {
        (False, 1, 64): {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)},
        (True, 1, 64): {26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)},
        (True, 32, 4): {50: (3, 4, 6, 3)},
        (True, 32, 8): {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)},
        (True, 1, 128): {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)},
    }
    names = {(True, 32, 4): "resnext{}_32x4d", (True, 32, 8): "resnext{}_32x8d", (True, 1, 128): "wide_resnet{}_2"}
    known = form if form in sizes else (bottleneck, 1, 64)
    depth = next((n for n, each in sizes[known].items() if each == layers), 50 if bottleneck else 18)
    name = names.get(known, "resnet{}").format(depth)
    usual = {
        "layers": sizes[known].get(depth),
        "channels": (64, 128, 256, 512),
        "cardinality": known[1],
        "base_width": known[2],
        "in_chans": 3,
        "num_classes": 1000,
    }
    return Architecture("resnet", name, unusual(wanted, usual))


def describe_convnext(tensors: Tensors, heads: int | None) -> Architecture:
    depths = tuple(count(tensors, rf"stages\.{n}\.blocks\.(\d+)\.") for n in range(4))
    dims = tuple(tensors[f"stages.{n}.blocks.0.conv_dw.weight"].shape[0] for n in range(4))
    stem = tensors["stem.0.weight"]
    wanted = {
        "depths": depths,
        "dims": dims,
        "patch_size": stem.shape[-1],
        "in_chans": stem.shape[1],
        "ls_init_value": 1e-6 if "stages.0.blocks.0.gamma" in tensors else None,
        "num_classes": class_count(tensors, "head.fc.weight"),
    }
    sizes = {
        "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
        "small": ((3, 3, 27, 3), (96, 192, 384, 768)),
        "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
        "large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
        "xlarge": ((3, 3, 27, 3), (256, 512, 1024, 2048)),
    }
    size = next((name for name, each in sizes.items() if each == (depths, dims)), "tiny")
    usual: dict[str, Any] = dict(zip(("depths", "dims"), sizes[size], strict=True))
    usual |= {"patch_size": 4, "in_chans": 3, "ls_init_value": 1e-6, "num_classes": 1000}
    return Architecture("convnext", f"convnext_{size}", unusual(wanted, usual))


def is_vit(tensors: Tensors) -> bool:
    marks = ("blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight", "patch_embed.proj.weight", "pos_embed")
    return all(key in tensors for key in marks) and tensors["patch_embed.proj.weight"].ndim == 4


def is_beit(tensors: Tensors) -> bool:
    """What timm's plain ViT cannot hold."""
    marks = ("blocks.0.attn.relative_position_bias_table", "rel_pos_bias.relative_position_bias_table")
    tables = [tensors[key] for key in marks if key in tensors]
    sized = bool(tables) or "pos_embed" in tensors
    beit = bool(tables) or "blocks.0.attn.q_bias" in tensors
    usable = all(key in tensors for key in ("blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight"))
    return beit and sized and usable and getattr(tensors.get("patch_embed.proj.weight"), "ndim", 0) == 4


def is_swin(tensors: Tensors) -> bool:
    stages = count(tensors, r"layers\.(\d+)\.")
    tables = [tensors.get(f"layers.{n}.blocks.0.attn.relative_position_bias_table") for n in range(stages)]
    return bool(tables) and all(x is not None and x.ndim == 2 for x in tables) and "patch_embed.proj.weight" in tensors


def is_resnet(tensors: Tensors) -> bool:
    return "conv1.weight" in tensors and all(f"layer{n}.0.conv2.weight" in tensors for n in (1, 2, 3, 4))


def is_convnext(tensors: Tensors) -> bool:
    return "stem.0.weight" in tensors and all(f"stages.{n}.blocks.0.conv_dw.weight" in tensors for n in range(4))


FAMILIES: tuple[tuple[Callable[[Tensors], bool], Callable[[Tensors, int | None], Architecture]], ...] = (
    (is_beit, describe_beit),
    (is_vit, describe_vit),
    (is_swin, describe_swin),
    (is_resnet, describe_resnet),
    (is_convnext, describe_convnext),
)

VIT_USUAL = {
    "in_chans": 3,
    "mlp_ratio": 4.0,
    "qkv_bias": True,
    "init_values": None,
    "class_token": True,
    "no_embed_class": False,
    "global_pool": "token",
    "fc_norm": None,
    "num_classes": 1000,
}
BEIT_USUAL = {
    "init_values": 0.1,
    "use_abs_pos_emb": False,
    "use_rel_pos_bias": True,
    "use_shared_rel_pos_bias": False,
    "global_pool": "avg",
    "use_fc_norm": None,
}


def name_sizes(name: str) -> dict[str, Any]:
    """What a name such as vit_small_patch16_224 says about sizes."""
    size, patch, image = re.findall(r"_(\w+?)_(?:distilled_)?patch(\d+)_(\d+)", name)[0]
    width, depth = {"tiny": (192, 12), "small": (384, 12), "base": (768, 12), "large": (1024, 24), "huge": (1280, 32)}[
        size
    ]
    sizes = {"embed_dim": width, "depth": depth, "num_heads": usual_heads(width, depth, 4)}
    return sizes | {"patch_size": int(patch), "img_size": int(image)}


def usual_heads(width: int, depth: int, mlp_ratio: float) -> int:
    """Attention heads of a ViT, which its shapes do not tell: 64 channels each, but for the largest ones and for the
    ViT-S of OpenMMLab and of A²MIM (768 wide, 8 deep, 8 heads)."""
    if (width, depth, mlp_ratio) == (768, 8, 3):
        return 8
    if width < 1:
        raise ValueError(f"a width of {width}")
    return 16 if width in (1280, 1408, 1664) else max(1, width // 64)


def vit_sizes(tensors: Tensors) -> dict[str, Any]:
    """The arguments of a transformer that its shapes alone tell."""
    width, channels, patch, _ = tensors["patch_embed.proj.weight"].shape
    return {
        "patch_size": patch,
        "in_chans": channels,
        "embed_dim": width,
        "depth": count(tensors, r"blocks\.(\d+)\."),
        "mlp_ratio": tensors["blocks.0.mlp.fc1.weight"].shape[0] / width,
    }


def count(tensors: Tensors, pattern: str) -> int:
    """How many numbers stand at that place of the keys: one more than the largest.

    A number that the file has not as many tensors for is none of its network's: its keys find no place, and are told.
    """
    found = {match[1] for key in tensors if (match := re.match(pattern, key))}
    most = len(tensors)
    return 1 + max((int(each) for each in found if len(each) <= len(str(most)) and int(each) < most), default=-1)


def class_count(tensors: Tensors, classifier: str) -> int:
    """Classes of a classifier; 0 without one."""
    return tensors[classifier].shape[0] if classifier in tensors else 0


def next_known(*names: str) -> str:
    """The first name that timm has."""
    return next(name for name in names if timm.is_model(name))


def unusual(wanted: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that differ from those that the name stands for."""

    def same(key: str) -> bool:
        a, b = wanted[key], usual.get(key, ...)
        return math.isclose(a, b) if isinstance(a, float) and isinstance(b, float) else a == b

    return {key: wanted[key] for key in wanted if not same(key)}
