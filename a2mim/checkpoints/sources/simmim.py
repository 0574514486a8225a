"""BEiT's transformer (SimMIM uses it too) and the original Swin.

BEiT's attention has a bias for queries and values and none for keys, and a table of relative positions, one for all
blocks in pre-training, one per block after fine-tuning; timm's `Beit` has all of it under the same names, so that
nothing has to be merged: github.com/microsoft/unilm (beit), github.com/microsoft/SimMIM (models/vision_transformer.py,
models/swin_transformer.py, utils.py).

The original Swin downsamples at the end of a stage, timm's at the beginning of the next.
"""

import re

from a2mim.checkpoints.convert import Source, Tensors, rename, substitute
from a2mim.checkpoints.sources.common import (
    ATTENTION_MASK,
    DECODER,
    IMAGENET,
    INDEX,
    MASK_TOKEN,
    POSITION_INDEX,
    VIT_EPS,
    blocks_start,
)

SWIN_TABLE = "layers.0.blocks.0.attn.relative_position_bias_table"
COMPUTED = {POSITION_INDEX: INDEX, ATTENTION_MASK: INDEX}
SIMMIM_ONLY = {r"encoder\.mask_token": MASK_TOKEN, r"decoder\.0\.(weight|bias)": DECODER}


def encoder_has(tensors: Tensors, *keys: str) -> bool:
    return any(f"encoder.{key}" in tensors for key in keys)


def is_simmim_vit(tensors: Tensors) -> bool:
    return encoder_has(tensors, "blocks.0.attn.q_bias", "blocks.0.attn.qkv.weight")


def is_simmim_swin(tensors: Tensors) -> bool:
    return encoder_has(tensors, SWIN_TABLE)


def is_beit(tensors: Tensors) -> bool:
    own_tables = blocks_start(tensors, "attn.relative_position_bias_table")
    shared_table = "rel_pos_bias.relative_position_bias_table" in tensors
    scaled = blocks_start(tensors, "attn.q_bias") and blocks_start(tensors, "gamma_1")
    return blocks_start(tensors, "attn.qkv.weight") and (own_tables or shared_table or scaled)


def is_swin(tensors: Tensors) -> bool:
    """The original's layout, which has its first downsampling in the first stage, or saves its indices."""
    computed = any(re.fullmatch(f"{POSITION_INDEX}|{ATTENTION_MASK}", key) for key in tensors)
    return SWIN_TABLE in tensors and (computed or "layers.0.downsample.reduction.weight" in tensors)


def strip_encoder(tensors: Tensors) -> Tensors:
    return substitute(tensors, {r"encoder\.(.*)": r"\1"})


def convert_swin(tensors: Tensors) -> Tensors:
    """Move every downsampling to the next stage, and the classifier into timm's head."""

    def new_name(key: str) -> str:
        downsample = re.fullmatch(r"layers\.(\d+)\.downsample\.(.*)", key)
        if downsample:
            return f"layers.{int(downsample[1]) + 1}.downsample.{downsample[2]}"
        return re.sub(r"^head\.(weight|bias)$", r"head.fc.\1", key)

    return rename(tensors, new_name)


SIMMIM_VIT = Source("simmim", is_simmim_vit, strip_encoder, {**COMPUTED, **SIMMIM_ONLY}, VIT_EPS, pixels=IMAGENET)
SIMMIM_SWIN = Source(
    "simmim swin",
    is_simmim_swin,
    lambda tensors: convert_swin(strip_encoder(tensors)),
    {**COMPUTED, **SIMMIM_ONLY},
    {"": 1e-5},
    pixels=IMAGENET,
)
BEIT = Source(
    "beit",
    is_beit,
    drops={**COMPUTED, r"mask_token": MASK_TOKEN, r"lm_head\.(weight|bias)": "predictor of visual tokens"},
    norm_eps=VIT_EPS,
)
SWIN = Source("swin", is_swin, convert_swin, COMPUTED, {"": 1e-5}, pixels=IMAGENET)
