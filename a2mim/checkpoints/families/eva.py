"""DINOv3's transformer (timm's Eva with rotary positions) by its shapes."""

from typing import Any

from a2mim.checkpoints.families.common import Architecture, Tensors, class_count, count, unusual
from a2mim.checkpoints.families.vit import EMBEDDING, heads_of, ratio
from a2mim.checkpoints.read import Checkpoint


def is_dinov3(tensors: Tensors) -> bool:
    """A class token, a layer scale, and no positions among the weights."""
    marks = ("cls_token", "blocks.0.gamma_1", "blocks.0.attn.qkv.weight", EMBEDDING)
    tables = ("pos_embed", "rel_pos_bias.relative_position_bias_table", "blocks.0.attn.relative_position_bias_table")
    return all(key in tensors for key in marks) and not any(key in tensors for key in tables)


def describe_dinov3(checkpoint: Checkpoint) -> Architecture:
    tensors = checkpoint.tensors
    width, channels, patch, _ = tensors[EMBEDDING].shape
    gated = "blocks.0.mlp.fc1_g.weight" in tensors
    hidden = tensors["blocks.0.mlp.fc1_g.weight" if gated else "blocks.0.mlp.fc1.weight"].shape[0]
    sizes = {
        "patch_size": patch,
        "in_chans": channels,
        "embed_dim": width,
        "depth": count(tensors, r"blocks\.(\d+)\."),
        "mlp_ratio": ratio(hidden, width),
    }
    heads, assumed = heads_of(checkpoint, sizes)
    wanted: dict[str, Any] = {
        **sizes,
        "num_heads": heads,
        "qkv_bias": "blocks.0.attn.q_bias" in tensors,
        "num_reg_tokens": tensors["reg_token"].shape[1] if "reg_token" in tensors else 0,
        "global_pool": "token",
        "num_classes": class_count(tensors, "head.weight"),
        "img_size": checkpoint.image_size or 256,
    }
    usual: dict[str, Any] = {"patch_size": 16, "in_chans": 3, "num_reg_tokens": 4, "num_classes": 0}
    usual |= {"global_pool": "avg", "img_size": 256}
    named: dict[str, Any]
    if gated:
        named = {"embed_dim": 384, "depth": 12, "num_heads": 6, "mlp_ratio": 4.0, "qkv_bias": False}
        name = "vit_small_plus_patch16_dinov3"
    else:
        named = {"embed_dim": 768, "depth": 12, "num_heads": 12, "mlp_ratio": 4.0, "qkv_bias": True}
        name = "vit_base_patch16_dinov3_qkvb"
    return Architecture("eva", name, unusual(wanted, {**usual, **named}), assumed=assumed)
