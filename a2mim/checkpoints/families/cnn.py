"""ResNets and ConvNeXts (V2 too) by their shapes."""

from typing import Any

from a2mim.checkpoints.families.common import Architecture, Tensors, class_count, count, unusual
from a2mim.checkpoints.read import Checkpoint


def is_resnet(tensors: Tensors) -> bool:
    return "conv1.weight" in tensors and all(f"layer{n}.0.conv2.weight" in tensors for n in (1, 2, 3, 4))


def is_convnext(tensors: Tensors) -> bool:
    return "stem.0.weight" in tensors and all(f"stages.{n}.blocks.0.conv_dw.weight" in tensors for n in range(4))


def describe_resnet(checkpoint: Checkpoint) -> Architecture:
    tensors = checkpoint.tensors
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
    stem, _, kernel, _ = tensors["conv1.weight"].shape
    if stem != 64 or kernel == 3:  # timm's ResNets have no other plain stem
        own = {**wanted, "bottleneck": bottleneck, "stem_chs": stem}
        padding, assumed = small_images(checkpoint.source) if kernel == 3 else ({}, {})
        return Architecture("resnet", "resnet_of_stem", unusual({**own, **padding}, OF_STEM), assumed=assumed)
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


OF_STEM = {
    "bottleneck": True,
    "cardinality": 1,
    "base_width": 64,
    "in_chans": 3,
    "num_classes": 1000,
    "stem_chs": 64,
    "stem_padding": 1,
}
"""What resnet_of_stem has where nothing else is said."""


def small_images(source: str) -> tuple[dict[str, Any], dict[str, str]]:
    """A stem of 3×3, and the assumption in words. solo-learn pads by 2 (solo/methods/base.py), all others by 1."""
    padding = 2 if source == "solo-learn" else 1
    words = (
        f"a stem of 3×3 is assumed to have stride 1, padding {padding} and no pooling behind it, as for small images"
    )
    return {"small_images": True, "stem_padding": padding}, {"stem_padding": words}


def describe_convnext(checkpoint: Checkpoint) -> Architecture:
    tensors = checkpoint.tensors
    depths = tuple(count(tensors, rf"stages\.{n}\.blocks\.(\d+)\.") for n in range(4))
    dims = tuple(tensors[f"stages.{n}.blocks.0.conv_dw.weight"].shape[0] for n in range(4))
    stem = tensors["stem.0.weight"]
    second = "stages.0.blocks.0.mlp.grn.weight" in tensors
    wanted = {
        "depths": depths,
        "dims": dims,
        "patch_size": stem.shape[-1],
        "in_chans": stem.shape[1],
        "ls_init_value": 1e-6 if "stages.0.blocks.0.gamma" in tensors else None,
        "use_grn": second,
        "head_norm_first": "norm_pre.weight" in tensors,
        "num_classes": class_count(tensors, "head.fc.weight"),
    }
    sizes = {
        "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
        "small": ((3, 3, 27, 3), (96, 192, 384, 768)),
        "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
        "large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
        "xlarge": ((3, 3, 27, 3), (256, 512, 1024, 2048)),
    }
    sizes = SECOND_SIZES if second else sizes
    size = next((name for name, each in sizes.items() if each == (depths, dims)), "tiny")
    usual: dict[str, Any] = dict(zip(("depths", "dims"), sizes[size], strict=True))
    usual |= {"patch_size": 4, "in_chans": 3, "num_classes": 1000, "head_norm_first": False}
    usual |= {"use_grn": second, "ls_init_value": None if second else 1e-6}
    return Architecture("convnext", f"convnext{'v2' * second}_{size}", unusual(wanted, usual), ("head_norm_first",))


SECOND_SIZES = {
    "atto": ((2, 2, 6, 2), (40, 80, 160, 320)),
    "femto": ((2, 2, 6, 2), (48, 96, 192, 384)),
    "pico": ((2, 2, 6, 2), (64, 128, 256, 512)),
    "nano": ((2, 2, 8, 2), (80, 160, 320, 640)),
    "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
    "large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
    "huge": ((3, 3, 27, 3), (352, 704, 1408, 2816)),
}
"""Of ConvNeXt V2."""


def is_isotropic(tensors: Tensors) -> bool:
    return "stem.weight" in tensors and "blocks.0.conv_dw.weight" in tensors and "blocks.0.mlp.fc1.weight" in tensors


def describe_isotropic(checkpoint: Checkpoint) -> Architecture:
    """A ConvNeXt of one stage (a2mim.networks)."""
    tensors = checkpoint.tensors
    wanted = {
        "dim": tensors["stem.weight"].shape[0],
        "depth": count(tensors, r"blocks\.(\d+)\."),
        "ls_init_value": 1e-6 if "blocks.0.gamma" in tensors else None,
        "num_classes": class_count(tensors, "head.weight"),
    }
    usual = {"dim": 384, "depth": 18, "ls_init_value": None, "num_classes": 1000}
    return Architecture("convnext", "convnext_isotropic_small", unusual(wanted, usual))
