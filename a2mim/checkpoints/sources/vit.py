"""Plain vision transformers whose names are timm's but for what surrounds them: MAE, MoCo v3, DINO, iBOT, DeiT.

Containers (see `read`): MAE and DeiT {model}; MoCo v3 {state_dict}; DINO and iBOT {student, teacher}, or flat.
"""

from a2mim.checkpoints.convert import Source, Tensors, substitute, unchanged
from a2mim.checkpoints.sources.common import (
    DECODER,
    IMAGENET,
    MASK_TOKEN,
    PROJECTOR,
    VIT_EPS,
    blocks_start,
    fold_batch_norm,
    layer_scale,
)

LEAF = r"(weight|bias)"
BATCH_NORM_LEAF = r"(weight|bias|running_mean|running_var|num_batches_tracked)"

# --- MAE: github.com/facebookresearch/mae, models_mae.py and main_linprobe.py

MAE_DECODER = {
    rf"decoder_(embed|norm|pred)\.{LEAF}": DECODER,
    rf"decoder_blocks\.\d+\.(norm[12]|attn\.qkv|attn\.proj|mlp\.fc[12])\.{LEAF}": DECODER,
    r"decoder_pos_embed": DECODER,
    r"mask_token": MASK_TOKEN,
}


def is_mae(tensors: Tensors) -> bool:
    return blocks_start(tensors, "attn.qkv.weight") and any(key.startswith("decoder_") for key in tensors)


def is_mae_probe(tensors: Tensors) -> bool:
    return blocks_start(tensors, "attn.qkv.weight") and "head.0.running_mean" in tensors and "head.1.weight" in tensors


def convert_mae_probe(tensors: Tensors) -> Tensors:
    """The linear probe's batch norm (eps 1e-6) becomes a part of the linear classifier."""
    return fold_batch_norm(tensors, norm="head.0", linear="head.1", eps=1e-6, into="head")


MAE = Source("mae", is_mae, unchanged, MAE_DECODER, VIT_EPS, pixels=IMAGENET)
MAE_PROBE = Source("mae linear probe", is_mae_probe, convert_mae_probe, norm_eps=VIT_EPS, pixels=IMAGENET)

# --- MoCo v3: github.com/facebookresearch/moco-v3, moco/builder.py. The encoder to read comes first in the file as
# base_encoder; `read` puts the momentum encoder in its place where that is asked for.

MOCO = "base_encoder."


def is_moco_v3(tensors: Tensors) -> bool:
    return any(key.startswith(MOCO) for key in tensors)


def convert_moco_v3(tensors: Tensors) -> Tensors:
    return substitute(tensors, {r"base_encoder\.(.*)": r"\1"})


MOCO_V3 = Source(
    "moco v3",
    is_moco_v3,
    convert_moco_v3,
    {
        rf"predictor\.\d+\.{BATCH_NORM_LEAF}": PROJECTOR,
        rf"base_encoder\.(head|fc)\.\d+\.{BATCH_NORM_LEAF}": PROJECTOR,
    },
    VIT_EPS,
    pixels=IMAGENET,
)

# --- DINO: github.com/facebookresearch/dino, utils.MultiCropWrapper and vision_transformer.DINOHead.
# --- iBOT: github.com/bytedance/ibot, models/head.py, models/vision_transformer.py.

DINO_HEAD = {
    rf"head\.mlp2?(\.\d+)?\.{BATCH_NORM_LEAF}": PROJECTOR,
    r"head\.last_layer2?\.(weight|bias|weight_[gv]|parametrizations\.weight\.original[01])": PROJECTOR,
}
IBOT_MASK = r"(backbone\.)?masked_embed"


def is_ibot(tensors: Tensors) -> bool:
    marked = any(key in tensors for key in ("masked_embed", "backbone.masked_embed"))
    return marked or (is_dino(tensors) and any(key.startswith("head.last_layer2.") for key in tensors))


def is_dino(tensors: Tensors) -> bool:
    heads = any(key.startswith(("head.mlp", "head.last_layer")) for key in tensors)
    return heads and any(key.startswith("backbone.") for key in tensors)


def convert_multi_crop(tensors: Tensors) -> Tensors:
    """Off with the multi-crop wrapper's prefix; iBOT's layer scale gets the ViT's name."""
    return layer_scale(substitute(tensors, {r"backbone\.(.*)": r"\1"}))


IBOT = Source("ibot", is_ibot, convert_multi_crop, {**DINO_HEAD, IBOT_MASK: MASK_TOKEN}, VIT_EPS, "dino", IMAGENET)
DINO = Source("dino", is_dino, convert_multi_crop, DINO_HEAD, VIT_EPS, "dino", IMAGENET)

# --- DeiT: github.com/facebookresearch/deit. Distilled models have timm's names; DeiT III writes its layer scale as
# BEiT does, and has no position for the class token.


def is_deit_iii(tensors: Tensors) -> bool:
    return all(blocks_start(tensors, key) for key in ("gamma_1", "attn.qkv.weight", "attn.qkv.bias"))


def is_deit_distilled(tensors: Tensors) -> bool:
    return "dist_token" in tensors and blocks_start(tensors, "attn.qkv.weight")


DEIT_III = Source("deit iii", is_deit_iii, layer_scale, norm_eps=VIT_EPS, pixels=IMAGENET)
DEIT_DISTILLED = Source("deit distilled", is_deit_distilled, norm_eps=VIT_EPS, pixels=IMAGENET)
