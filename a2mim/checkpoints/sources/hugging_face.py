"""Hugging Face transformers: ViT, DeiT, ViTMAE, BEiT, ConvNeXt and ResNet, with or without the base model's prefix.

github.com/huggingface/transformers, src/transformers/models/*/modeling_*.py. Queries, keys and values are separate
there; BEiT's keys have no bias, and so timm's Beit has none either. Layer norms have an epsilon of 1e-12, except
inside of ConvNeXt; `read` takes it and the number of heads from config.json where that lies beside the file.
"""

import re

from a2mim.checkpoints.convert import Source, Tensors, substitute
from a2mim.checkpoints.sources.common import DECODER, INDEX, MASK_TOKEN, POSITION_INDEX, stack_qkv

BASE = r"(?:(?:vit|deit|beit|convnext|resnet)\.)?"
LAYER = rf"{BASE}encoder\.layer\.(\d+)"

DROPS = {
    POSITION_INDEX: INDEX,
    rf"{BASE}embeddings\.mask_token": MASK_TOKEN,
    r"decoder\.(\w+\.)*\w+": DECODER,
    r"lm_head\.(weight|bias)": "predictor of visual tokens",
    rf"{BASE}pooler\.dense\.(weight|bias)": "pooler, a layer that no classifier uses",
}

VIT_NAMES = {
    rf"{BASE}embeddings\.cls_token": "cls_token",
    rf"{BASE}embeddings\.distillation_token": "dist_token",
    rf"{BASE}embeddings\.position_embeddings": "pos_embed",
    rf"{BASE}embeddings\.patch_embeddings\.projection\.(.*)": r"patch_embed.proj.\1",
    rf"{LAYER}\.layernorm_before\.(.*)": r"blocks.\1.norm1.\2",
    rf"{LAYER}\.layernorm_after\.(.*)": r"blocks.\1.norm2.\2",
    rf"{LAYER}\.attention\.attention\.(query|key|value)\.(weight|bias)": r"blocks.\1.attn.\2.\3",
    rf"{LAYER}\.attention\.attention\.relative_position_bias\.relative_position_bias_table": (
        r"blocks.\1.attn.relative_position_bias_table"
    ),
    rf"{LAYER}\.attention\.output\.dense\.(.*)": r"blocks.\1.attn.proj.\2",
    rf"{LAYER}\.intermediate\.dense\.(.*)": r"blocks.\1.mlp.fc1.\2",
    rf"{LAYER}\.output\.dense\.(.*)": r"blocks.\1.mlp.fc2.\2",
    rf"{LAYER}\.lambda_([12])": r"blocks.\1.gamma_\2",
    rf"{BASE}encoder\.relative_position_bias\.relative_position_bias_table": (
        "rel_pos_bias.relative_position_bias_table"
    ),
    rf"{BASE}layernorm\.(.*)": r"norm.\1",
    rf"{BASE}pooler\.layernorm\.(.*)": r"fc_norm.\1",
    r"(?:classifier|cls_classifier)\.(weight|bias)": r"head.\1",
    r"distillation_classifier\.(weight|bias)": r"head_dist.\1",
}

STAGE = rf"{BASE}encoder\.stages\.([0-3])"
CONVNEXT_NAMES = {
    rf"{BASE}embeddings\.patch_embeddings\.(.*)": r"stem.0.\1",
    rf"{BASE}embeddings\.layernorm\.(.*)": r"stem.1.\1",
    rf"{STAGE}\.downsampling_layer\.([01])\.(.*)": r"stages.\1.downsample.\2.\3",
    rf"{STAGE}\.layers\.(\d+)\.dwconv\.(.*)": r"stages.\1.blocks.\2.conv_dw.\3",
    rf"{STAGE}\.layers\.(\d+)\.layernorm\.(.*)": r"stages.\1.blocks.\2.norm.\3",
    rf"{STAGE}\.layers\.(\d+)\.pwconv([12])\.(.*)": r"stages.\1.blocks.\2.mlp.fc\3.\4",
    rf"{STAGE}\.layers\.(\d+)\.layer_scale_parameter": r"stages.\1.blocks.\2.gamma",
    rf"{BASE}layernorm\.(.*)": r"head.norm.\1",
    r"classifier\.(weight|bias)": r"head.fc.\1",
}

RESNET_NAMES = {
    rf"{BASE}embedder\.embedder\.convolution\.(.*)": r"conv1.\1",
    rf"{BASE}embedder\.embedder\.normalization\.(.*)": r"bn1.\1",
    r"classifier\.1\.(weight|bias)": r"fc.\1",
    **{
        rf"{BASE}encoder\.stages\.{stage}\.layers\.(\d+)\.{there}\.(.*)": rf"layer{stage + 1}.\1.{here}.\2"
        for stage in range(4)
        for there, here in {
            r"shortcut\.convolution": "downsample.0",
            r"shortcut\.normalization": "downsample.1",
            **{rf"layer\.{n}\.convolution": f"conv{n + 1}" for n in range(3)},
            **{rf"layer\.{n}\.normalization": f"bn{n + 1}" for n in range(3)},
        }.items()
    },
}


def has(tensors: Tensors, mark: str) -> bool:
    return any(re.fullmatch(BASE + mark, key) for key in tensors)


def is_vit(tensors: Tensors) -> bool:
    return has(tensors, r"encoder\.layer\.0\.attention\.attention\.query\.weight")


def is_convnext(tensors: Tensors) -> bool:
    return has(tensors, r"encoder\.stages\.0\.layers\.0\.dwconv\.weight")


def is_resnet(tensors: Tensors) -> bool:
    return has(tensors, r"embedder\.embedder\.convolution\.weight")


def convert_vit(tensors: Tensors) -> Tensors:
    """Rename, and join queries, keys and values; BEiT's biases of queries and values stay apart, as in timm's Beit."""
    renamed = substitute(tensors, VIT_NAMES)
    blocks = {key.removesuffix(".query.weight") for key in renamed if key.endswith(".attn.query.weight")}
    parts = {}
    for block in sorted(blocks):
        leaves = ["weight"] if f"{block}.key.bias" not in renamed else ["weight", "bias"]
        for leaf in leaves:
            parts[f"{block}.qkv.{leaf}"] = tuple(f"{block}.{part}.{leaf}" for part in ("query", "key", "value"))
    beit = any("relative_position_bias_table" in key or re.search(r"blocks\.\d+\.gamma_1", key) for key in renamed)
    stacked = stack_qkv(renamed, parts)  # type: ignore[arg-type]
    return substitute(stacked, {r"(.*\.attn)\.(q|v)(?:uery|alue)\.bias": r"\1.\2_bias"}) if beit else stacked


HUGGING_FACE = (
    Source("hugging face", is_vit, convert_vit, DROPS, {"": 1e-12}),
    Source(
        "hugging face",
        is_convnext,
        lambda tensors: substitute(tensors, CONVNEXT_NAMES),
        norm_eps={"": 1e-6, "head.norm": 1e-12},
    ),
    Source("hugging face", is_resnet, lambda tensors: substitute(tensors, RESNET_NAMES)),
)
