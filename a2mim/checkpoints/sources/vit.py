"""Plain vision transformers whose names are timm's but for what surrounds them: MAE, DeiT, DINO's backbones.

Containers (see `read`): MAE and DeiT {model}; DINO's released backbones are flat.
"""

from a2mim.checkpoints.convert import Source, Tensors
from a2mim.checkpoints.resize import square_side
from a2mim.checkpoints.sources.common import (
    ATTENTION,
    DECODER,
    IMAGENET,
    LEAF,
    MASK_TOKEN,
    VIT_EPS,
    fold_batch_norm,
    layer_scale,
    one_head,
)

MAE = Source(
    "mae",
    "github.com/facebookresearch/mae, models_mae.py",
    marks=(ATTENTION, r"decoder_.*"),
    unless=(r"multi_scale_fusion_heads\..*",),
    drops={
        rf"decoder_(embed|norm|pred)\.{LEAF}": DECODER,
        rf"decoder_blocks\.\d+\.(norm[12]|attn\.qkv|attn\.proj|mlp\.fc[12])\.{LEAF}": DECODER,
        r"decoder_pos_embed": DECODER,
        r"mask_token": MASK_TOKEN,
    },
    norm_eps=VIT_EPS,
    pixels=IMAGENET,
)


def folded_probe(tensors: Tensors) -> Tensors:
    """The linear probe's batch norm (eps 1e-6) becomes a part of the linear classifier."""
    return fold_batch_norm(tensors, norm="head.0", linear="head.1", eps=1e-6, into="head")


I_JEPA = Source(
    "i-jepa",
    "github.com/facebookresearch/ijepa, src/models/vision_transformer.py and src/helper.py",
    marks=(ATTENTION, "pos_embed"),
    unless=("cls_token",),
    beside=("encoder", "predictor"),
    norm_eps=VIT_EPS,
    pixels=IMAGENET,
)
MAE_PROBE = Source(
    "mae linear probe",
    "github.com/facebookresearch/mae, main_linprobe.py",
    marks=(ATTENTION, r"head\.0\.running_mean", r"head\.1\.weight"),
    finish=folded_probe,
    norm_eps=VIT_EPS,
    pixels=IMAGENET,
)


def class_token_without_position(tensors: Tensors) -> bool:
    """DeiT III adds its positions to the patches alone; others with BEiT's layer scale have one for the class token."""
    positions = tensors.get("pos_embed")
    return positions is not None and positions.ndim == 3 and bool(square_side(positions.shape[1]))


SCALED = (r"blocks\.0\.gamma_1", ATTENTION, r"blocks\.0\.attn\.qkv\.bias")
PARALLEL_NAMES = {
    rf"(blocks\.\d+)\.{there}{old}\.(.*)": rf"\1.{here}.{new}\2"
    for old, here_number in (("", 0), ("1", 1))
    for there, here, new in (
        (r"attn", f"attns.{here_number}", "attn."),
        (r"norm1", f"attns.{here_number}", "norm."),
        (r"mlp", f"ffns.{here_number}", "mlp."),
        (r"norm2", f"ffns.{here_number}", "norm."),
    )
} | {
    r"(blocks\.\d+)\.gamma_1(?:_0)?": r"\1.attns.0.ls.gamma",
    r"(blocks\.\d+)\.gamma_1_1": r"\1.attns.1.ls.gamma",
    r"(blocks\.\d+)\.gamma_2(?:_0)?": r"\1.ffns.0.ls.gamma",
    r"(blocks\.\d+)\.gamma_2_1": r"\1.ffns.1.ls.gamma",
}

DEIT_PARALLEL = Source(
    "deit iii, parallel",
    "github.com/facebookresearch/deit, models_v2.py",
    marks=(ATTENTION, r"blocks\.0\.attn1\.qkv\.weight", r"blocks\.0\.mlp1\.fc1\.weight"),
    names=PARALLEL_NAMES,
    norm_eps=VIT_EPS,
    pixels=IMAGENET,
)
DEIT_III = Source(
    "deit iii",
    "github.com/facebookresearch/deit, models_v2.py",
    marks=SCALED,
    when=class_token_without_position,
    finish=layer_scale,
    norm_eps=VIT_EPS,
    pixels=IMAGENET,
)
SCALED_VIT = Source(
    "vit with beit's layer scale",
    "github.com/bytedance/ibot, models/vision_transformer.py",
    marks=SCALED,
    finish=layer_scale,
    norm_eps=VIT_EPS,
    positions="dino",
    pixels=IMAGENET,
)
DEIT_DISTILLED = Source(
    "deit distilled",
    "github.com/facebookresearch/deit, models.py",
    marks=(ATTENTION, "dist_token"),
    finish=one_head,
    norm_eps=VIT_EPS,
    pixels=IMAGENET,
)
