"""Hiera: its own names, its masked autoencoder's, and those of Hugging Face transformers."""

import re

from a2mim.checkpoints.convert import Source, Tensors, rename
from a2mim.checkpoints.sources.common import ANY, DECODER, IMAGENET, LEAF, MASK_TOKEN, VIT_EPS
from a2mim.checkpoints.sources.hugging_face import BASE, WHERE

MARKS = (r"blocks\.0\.attn\.qkv\.weight", r"blocks\.\d+\.proj\.weight", "pos_embed", r"patch_embed\.proj\.weight")
NAMES = {r"(?:encoder_)?norm\.(.*)": r"head.norm.\1", r"head\.projection\.(.*)": r"head.fc.\1"}

JOINS = f"{DECODER}: it joins the stages"

HIERA = Source(
    "hiera",
    "github.com/facebookresearch/hiera, hiera/hiera.py",
    marks=MARKS,
    unless=(r"head\.norm\.weight", r"decoder_.*"),
    names=NAMES,
    norm_eps=VIT_EPS,
    pixels=IMAGENET,
)
MAE_HIERA = Source(
    "mae, hiera",
    "github.com/facebookresearch/hiera, hiera/hiera_mae.py",
    marks=(*MARKS, r"decoder_embed\.weight", r"encoder_norm\.weight"),
    drops={
        rf"decoder_{ANY}": DECODER,
        rf"multi_scale_fusion_heads\.\d+\.{LEAF}": JOINS,
        "mask_token": MASK_TOKEN,
    },
    names=NAMES,
    norm_eps=VIT_EPS,
    pixels=IMAGENET,
)


# --- Hugging Face

LAYER = re.compile(r"encoder\.stages\.(\d+)\.layers\.(\d+)\.(.*)")
INSIDE = {"layernorm_before": "norm1", "layernorm_after": "norm2"}
OUTSIDE = {
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "pooler.layernorm": "head.norm",
    "encoder_norm": "head.norm",
    "classifier": "head.fc",
}


def counted_through(tensors: Tensors) -> Tensors:
    """Blocks are counted through all stages in timm."""
    places = sorted({(int(found[1]), int(found[2])) for key in tensors if (found := LAYER.fullmatch(key))})
    number = {place: n for n, place in enumerate(places)}

    def new_name(key: str) -> str:
        if found := LAYER.fullmatch(key):
            first, _, leaf = found[3].partition(".")
            return f"blocks.{number[int(found[1]), int(found[2])]}.{INSIDE.get(first, first)}.{leaf}"
        for there, here in OUTSIDE.items():
            if key == there or key.startswith(f"{there}."):
                return here + key.removeprefix(there)
        return key

    return rename(tensors, new_name)


HUGGING_HIERA = Source(
    "hugging face",
    WHERE.format("hiera", "hiera"),
    marks=(rf"{BASE}encoder\.stages\.0\.layers\.0\.attn\.qkv\.weight", rf"{BASE}embeddings\.position_embeddings"),
    prefix=BASE,
    drops={
        rf"decoder\.{ANY}": DECODER,
        rf"multiscale_fusion\.multi_scale_fusion_heads\.\d+\.{LEAF}": JOINS,
    },
    finish=counted_through,
    norm_eps={"": 1e-6},
    pixels=IMAGENET,
)

NAMED = (HIERA, MAE_HIERA, HUGGING_HIERA)
