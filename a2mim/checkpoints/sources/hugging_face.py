"""Hugging Face transformers: vision transformers, with or without the base model's prefix.

Queries, keys and values are separate there; BEiT's keys have no bias, and so timm's Beit has none either. `read` takes
heads, activation and the epsilon of layer norms from config.json where that lies beside the file. Versions 4 and 5 of
the library differ in MAE's decoder alone.
"""

import re
from dataclasses import replace

from a2mim.checkpoints.convert import Source, Tensors, substitute
from a2mim.checkpoints.sources.common import (
    ANY,
    DECODER,
    INDEX,
    LEAF,
    MASK_TOKEN,
    POSITION_INDEX,
    TOKENS,
    one_head,
    stack_qkv,
)

WHERE = "github.com/huggingface/transformers, src/transformers/models/{}/modeling_{}.py"
BASE = (
    r"(?:(?:vit|deit|beit|ijepa|data2vec_vision|convnext|convnextv2|resnet|swin|swinv2|hiera|dinov2|"
    r"dinov2_with_registers|dinov3_vit)\.)?"
)
LAYER = r"encoder\.layer\.(\d+)"

DROPS = {
    POSITION_INDEX: INDEX,
    rf"{BASE}embeddings\.mask_token": MASK_TOKEN,
    rf"decoder\.{ANY}": DECODER,
    rf"lm_head\.{LEAF}": TOKENS,
    rf"{BASE}pooler\.dense\.{LEAF}": "pooler, a layer that no classifier uses",
}

EMBEDDINGS = {
    r"embeddings\.cls_token": "cls_token",
    r"embeddings\.distillation_token": "dist_token",
    r"embeddings\.register_tokens": "reg_token",
    r"embeddings\.position_embeddings": "pos_embed",
    r"embeddings\.patch_embeddings\.projection\.(.*)": r"patch_embed.proj.\1",
}
ATTENTION = {
    rf"{LAYER}\.attention\.attention\.(query|key|value)\.{LEAF}": r"blocks.\1.attn.\2.\3",
    rf"{LAYER}\.attention\.output\.dense\.(.*)": r"blocks.\1.attn.proj.\2",
}
VIT_NAMES = {
    **EMBEDDINGS,
    **ATTENTION,
    rf"{LAYER}\.layernorm_before\.(.*)": r"blocks.\1.norm1.\2",
    rf"{LAYER}\.layernorm_after\.(.*)": r"blocks.\1.norm2.\2",
    rf"{LAYER}\.attention\.attention\.relative_position_bias\.relative_position_bias_table": (
        r"blocks.\1.attn.relative_position_bias_table"
    ),
    rf"{LAYER}\.intermediate\.dense\.(.*)": r"blocks.\1.mlp.fc1.\2",
    rf"{LAYER}\.output\.dense\.(.*)": r"blocks.\1.mlp.fc2.\2",
    rf"{LAYER}\.lambda_([12])": r"blocks.\1.gamma_\2",
    r"encoder\.relative_position_bias\.relative_position_bias_table": "rel_pos_bias.relative_position_bias_table",
    r"layernorm\.(.*)": r"norm.\1",
    r"pooler\.layernorm\.(.*)": r"fc_norm.\1",
    rf"(?:classifier|cls_classifier)\.{LEAF}": r"head.\1",
    rf"distillation_classifier\.{LEAF}": r"head_dist.\1",
}
DINOV2_NAMES = {
    **EMBEDDINGS,
    **ATTENTION,
    rf"{LAYER}\.(norm[12]|mlp\.fc[12])\.(.*)": r"blocks.\1.\2.\3",
    rf"{LAYER}\.mlp\.weights_in\.(.*)": r"blocks.\1.mlp.fc1.\2",
    rf"{LAYER}\.mlp\.weights_out\.(.*)": r"blocks.\1.mlp.fc2.\2",
    rf"{LAYER}\.layer_scale([12])\.lambda1": r"blocks.\1.ls\2.gamma",
    r"layernorm\.(.*)": r"norm.\1",
    rf"classifier\.{LEAF}": r"head.\1",
}


def joined(renamed: Tensors) -> Tensors:
    """Queries, keys and values as one matrix; BEiT's biases of queries and values stay apart, as in timm's Beit."""
    blocks = {key.removesuffix(".query.weight") for key in renamed if key.endswith(".attn.query.weight")}
    parts = {}
    for block in sorted(blocks):
        leaves = ["weight"] if f"{block}.key.bias" not in renamed else ["weight", "bias"]
        for leaf in leaves:
            parts[f"{block}.qkv.{leaf}"] = tuple(f"{block}.{part}.{leaf}" for part in ("query", "key", "value"))
    beit = any("relative_position_bias_table" in key or re.search(r"blocks\.\d+\.gamma_1", key) for key in renamed)
    stacked = stack_qkv(renamed, parts)  # type: ignore[arg-type]
    if beit:
        return substitute(stacked, {r"(.*\.attn)\.(q|v)(?:uery|alue)\.bias": r"\1.\2_bias"})
    return one_head(stacked)


def registered(renamed: Tensors) -> Tensors:
    """Registers have no position and the class token has one, which timm's models add to it beforehand."""
    tensors = joined(renamed)
    return class_position_added(tensors) if "reg_token" in tensors else tensors


def class_position_added(tensors: Tensors) -> Tensors:
    """The class token with its position, and the positions of the patches alone."""
    token, positions = tensors.get("cls_token"), tensors.get("pos_embed")
    if token is None or positions is None or positions.ndim != 3 or token.shape != positions[:, :1].shape:
        return tensors
    return tensors | {"cls_token": token + positions[:, :1], "pos_embed": positions[:, 1:]}


QUERY = rf"{BASE}encoder\.layer\.0\.attention\.attention\.query\.weight"

BEIT_OF_TWO_NORMS = Source(
    "hugging face",
    WHERE.format("beit", "beit"),
    marks=(QUERY, r"lm_head\.weight", r"beit\.layernorm\.weight", r"layernorm\.weight"),
    drops=DROPS,
    names={
        **{rf"beit\.{there}": here for there, here in VIT_NAMES.items()},
        r"beit\.layernorm\.(.*)": r"norm.0.\1",
        r"layernorm\.(.*)": r"norm.1.\1",
    },
    finish=joined,
    norm_eps={"": 1e-12},
)
VIT = Source(
    "hugging face",
    WHERE.format("vit", "vit"),
    marks=(QUERY,),
    unless=(rf"{BASE}encoder\.layer\.0\.layer_scale1\.lambda1",),
    prefix=BASE,
    drops=DROPS,
    names=VIT_NAMES,
    finish=joined,
    norm_eps={"": 1e-12},
)
DINOV2 = Source(
    "hugging face",
    WHERE.format("dinov2", "dinov2"),
    marks=(QUERY, rf"{BASE}encoder\.layer\.0\.layer_scale1\.lambda1"),
    prefix=BASE,
    drops=DROPS,
    names=DINOV2_NAMES,
    finish=registered,
    norm_eps={"": 1e-6},
)

DINOV2_REGISTERS = replace(
    DINOV2, marks=(*DINOV2.marks, rf"{BASE}embeddings\.register_tokens"), positions="antialiased"
)  # modeling_dinov2_with_registers.py

HUGGING_FACE = (BEIT_OF_TWO_NORMS, VIT, DINOV2_REGISTERS, DINOV2)
