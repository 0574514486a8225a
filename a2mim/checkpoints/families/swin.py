"""Swin and Swin V2 by their shapes."""

import math
import re
from typing import Any

from a2mim.checkpoints.errors import CheckpointError
from a2mim.checkpoints.families.common import Architecture, Tensors, class_count, count, next_known, unusual
from a2mim.checkpoints.read import Checkpoint
from a2mim.checkpoints.resize import square_side
from a2mim.checkpoints.stated import whole


def is_swin(tensors: Tensors) -> bool:
    stages = count(tensors, r"layers\.(\d+)\.")
    tables = [tensors.get(f"layers.{n}.blocks.0.attn.relative_position_bias_table") for n in range(stages)]
    return bool(tables) and all(x is not None and x.ndim == 2 for x in tables) and "patch_embed.proj.weight" in tensors


def describe_swin(checkpoint: Checkpoint) -> Architecture:
    """A later stage that is smaller than the window has a smaller table, which tells the size of the images."""
    tensors = checkpoint.tensors
    stages = count(tensors, r"layers\.(\d+)\.")
    tables = [tensors[f"layers.{n}.blocks.0.attn.relative_position_bias_table"] for n in range(stages)]
    windows = [(square_side(table.shape[0]) + 1) // 2 for table in tables]
    wanted = sizes(checkpoint, windows, tuple(table.shape[1] for table in tables))
    absolute = "absolute_pos_embed" in tensors
    return named_swin("swin_ape" if absolute else "swin", wanted, "swin_{}_patch4_window{}_{}", (7, 224))


def sizes(checkpoint: Checkpoint, windows: list[int], heads: tuple[int, ...]) -> dict[str, Any]:
    """timm's arguments, of either version; one window and number of heads for each stage."""
    tensors = checkpoint.tensors
    width, channels, patch, _ = tensors["patch_embed.proj.weight"].shape
    return {
        "img_size": image_side(checkpoint, windows, patch),
        "window_size": windows[0],
        "patch_size": patch,
        "in_chans": channels,
        "embed_dim": width,
        "depths": tuple(count(tensors, rf"layers\.{n}\.blocks\.(\d+)\.") for n in range(len(windows))),
        "num_heads": heads,
        "num_classes": class_count(tensors, "head.fc.weight"),
    }


def image_side(checkpoint: Checkpoint, windows: list[int], patch: int) -> int:
    """The side of the images: told by a stage that is smaller than the window, by the settings, by the attention masks
    of shifted windows; else the least that fills the window in the last stage."""
    for n, window in enumerate(windows):
        if window < windows[0]:
            return window * patch * 2**n
    if checkpoint.image_size:
        return checkpoint.image_size
    for key, x in checkpoint.left_out.items():
        found = re.search(r"layers\.(\d+)\.blocks\.\d+\.attn_mask$", key)
        if found and x.ndim == 3 and int(found[1]) < len(windows):
            return square_side(x.shape[0]) * square_side(x.shape[1]) * patch * 2 ** int(found[1])
    return windows[0] * patch * 2 ** (len(windows) - 1)


SIZES: dict[Any, tuple[str, tuple[int, ...]]] = {
    (96, (2, 2, 6, 2)): ("tiny", (3, 6, 12, 24)),
    (96, (2, 2, 18, 2)): ("small", (3, 6, 12, 24)),
    (128, (2, 2, 18, 2)): ("base", (4, 8, 16, 32)),
    (192, (2, 2, 18, 2)): ("large", (6, 12, 24, 48)),
}


def named_swin(family: str, wanted: dict[str, Any], pattern: str, usual_size: tuple[int, int]) -> Architecture:
    """The name that says the most of the sizes, and the arguments that it does not say."""
    usual: dict[str, Any] = {"patch_size": 4, "in_chans": 3, "num_classes": 1000}
    size, named_heads = SIZES.get((wanted["embed_dim"], wanted["depths"]), ("tiny", ()))
    if family == "swin_ape":
        name, window, side = "swin_ape_tiny_patch4_window7_224", 7, 224
        named_heads = named_heads if size == "tiny" else ()
    else:
        name = next_known(
            pattern.format(size, wanted["window_size"], wanted["img_size"]),
            pattern.format(size, *usual_size),
            pattern.format("tiny", *usual_size),
        )
        window, side = map(int, re.findall(r"window(\d+)_(\d+)", name)[0])
        named_heads = named_heads if f"_{size}_" in name else ()
    usual |= {"window_size": window, "img_size": side}
    if named_heads:
        usual |= {"embed_dim": wanted["embed_dim"], "depths": wanted["depths"], "num_heads": named_heads}
    return Architecture("swin", name, unusual(wanted, usual))


# --- V2


def is_swin_v2(tensors: Tensors) -> bool:
    return "layers.0.blocks.0.attn.logit_scale" in tensors and "patch_embed.proj.weight" in tensors


def describe_swin_v2(checkpoint: Checkpoint) -> Architecture:
    """Its biases are computed, so that no weight tells the windows: buffers of the original's code do, or settings."""
    tensors = checkpoint.tensors
    stages = count(tensors, r"layers\.(\d+)\.")
    windows, trained = windows_of(checkpoint, stages)
    heads = tuple(tensors[f"layers.{n}.blocks.0.attn.logit_scale"].shape[0] for n in range(stages))
    wanted = sizes(checkpoint, windows, heads)
    if any(trained):
        wanted["pretrained_window_sizes"] = trained
    return named_swin("swinv2", wanted, "swinv2_{}_window{}_{}", (8, 256))


def windows_of(checkpoint: Checkpoint, stages: int) -> tuple[list[int], tuple[int, ...]]:
    """The side of the windows of each stage, and of those that its biases were first trained with (0: the same).

    The original keeps the table of coordinates that its biases are made from: 2·side - 1 rows, whose largest value is
    log2(8 · (side - 1) / (trained side - 1) + 1) / 3.
    """
    windows, trained = [], []
    for n in range(stages):
        # The original's names, and torchvision's.
        places = (
            f"layers.{n}.blocks.0.attn.relative_coords_table",
            f"features.{2 * n + 1}.0.attn.relative_coords_table",
        )
        key = next((key for key in checkpoint.left_out if key in places), "")
        if key:
            table = checkpoint.left_out[key]
            side = (table.shape[1] + 1) // 2
            reach = 2 ** (3 * float(table.max())) - 1
            first = round(8 * (side - 1) / reach + 1) if reach > 0 and math.isfinite(reach) else side
            windows.append(side)
            trained.append(0 if first == side else first)
    if len(windows) == stages:
        return windows, tuple(trained)
    stated: Any = checkpoint.settings.get("window_size")
    if not whole(1, 4096)(stated) or not checkpoint.image_size:
        raise CheckpointError(
            f"checkpoint '{checkpoint.path}' is a Swin V2, whose weights do not tell the size of its windows: name the "
            "timm model that it is of (swinv2_...)"
        )
    first_trained: Any = checkpoint.settings.get("pretrained_window_sizes") or (0,) * stages
    return windows_within(checkpoint, stated, stages), tuple(first_trained)


def windows_within(checkpoint: Checkpoint, side: int, stages: int) -> list[int]:
    """The same side in each stage, or that of the stage where it is smaller."""
    patch = checkpoint.tensors["patch_embed.proj.weight"].shape[-1]
    return [min(side, (checkpoint.image_size or 0) // patch // 2**n) for n in range(stages)]
