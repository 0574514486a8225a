"""Hiera by its shapes."""

import re
from typing import Any

from a2mim.checkpoints.families.common import Architecture, Tensors, class_count, count, unusual
from a2mim.checkpoints.read import Checkpoint
from a2mim.checkpoints.resize import square_side


def is_hiera(tensors: Tensors) -> bool:
    """Blocks of growing width, with a projection where a stage begins."""
    marks = ("blocks.0.attn.qkv.weight", "patch_embed.proj.weight", "pos_embed")
    grows = any(re.fullmatch(r"blocks\.\d+\.proj\.weight", key) for key in tensors)
    return all(key in tensors for key in marks) and grows and tensors["patch_embed.proj.weight"].ndim == 4


USUAL_HEADS = {96: 1, 112: 2, 144: 2, 256: 4}
"""Width of the first stage → heads there; a stage has twice those of the one before."""


def describe_hiera(checkpoint: Checkpoint) -> Architecture:
    tensors = checkpoint.tensors
    width = tensors["patch_embed.proj.weight"].shape[0]
    depth = count(tensors, r"blocks\.(\d+)\.")
    starts = [0, *(n for n in range(depth) if f"blocks.{n}.proj.weight" in tensors)]
    stages = tuple(end - start for start, end in zip(starts, [*starts[1:], depth], strict=True))
    stated = checkpoint.settings.get("num_heads")
    assumed: dict[str, str] = {}
    if isinstance(stated, list) and stated and isinstance(stated[0], int):
        heads = stated[0]
    else:
        heads = USUAL_HEADS.get(width, max(1, width // 96))
        words = f"attention heads are assumed: {heads} in the first stage, for the file does not say"
        assumed = {"num_heads": words}
    side = square_side(tensors["pos_embed"].shape[1]) * 4
    wanted: dict[str, Any] = {
        "img_size": (side, side),
        "embed_dim": width,
        "num_heads": heads,
        "stages": stages,
        "num_classes": class_count(tensors, "head.fc.weight"),
    }
    # A decoder has a head for each stage that is pooled behind: pre-training pools twice, fine-tuning three times.
    heads_of_decoder = count(checkpoint.left_out, r"(?:multiscale_fusion\.)?multi_scale_fusion_heads\.(\d+)\.")
    wanted["q_pool"] = checkpoint.settings.get("num_query_pool", heads_of_decoder or 3)
    usual = {"img_size": (224, 224), "embed_dim": 96, "num_heads": 1, "stages": (1, 2, 7, 2), "num_classes": 1000}
    return Architecture("hiera", "hiera_tiny_224", unusual(wanted, {**usual, "q_pool": 3}), assumed=assumed)
