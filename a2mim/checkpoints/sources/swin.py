"""Swin and Swin V2: the original's names and those of Hugging Face transformers.

The original downsamples at the end of a stage, timm at the beginning of the next.
"""

import re

from a2mim.checkpoints.convert import Source, Tensors, substitute
from a2mim.checkpoints.sources.common import ATTENTION_MASK, IMAGENET, INDEX, LEAF, POSITION_INDEX, stack_qkv
from a2mim.checkpoints.sources.hugging_face import BASE, WHERE

WHERE_SWIN = "github.com/microsoft/Swin-Transformer, models/{}.py"
COMPUTED = {POSITION_INDEX: INDEX, ATTENTION_MASK: INDEX, r"(.*\.)?relative_coords_table": INDEX}
TABLE = r"layers\.0\.blocks\.0\.attn\.relative_position_bias_table"
DOWN = {rf"layers\.{n}\.downsample\.(.*)": rf"layers.{n + 1}.downsample.\1" for n in range(8)}
NAMES = {**DOWN, rf"head\.{LEAF}": r"head.fc.\1"}


def is_original(tensors: Tensors) -> bool:
    """The original's layout has its first downsampling in the first stage, or saves what it computes."""
    computed = any(re.fullmatch("|".join(COMPUTED), key) for key in tensors)
    return computed or any(key.startswith("layers.0.downsample.") for key in tensors)


SWIN = Source(
    "swin",
    WHERE_SWIN.format("swin_transformer"),
    marks=(TABLE,),
    when=is_original,
    drops=COMPUTED,
    names=NAMES,
    norm_eps={"": 1e-5},
    pixels=IMAGENET,
)
SWIN_V2 = Source(
    "swin v2",
    WHERE_SWIN.format("swin_transformer_v2"),
    marks=(r"layers\.0\.blocks\.0\.attn\.logit_scale",),
    when=is_original,
    drops=COMPUTED,
    names=NAMES,
    norm_eps={"": 1e-5},
    pixels=IMAGENET,
)

# --- Hugging Face

BLOCK = r"encoder\.layers\.(\d+)\.blocks\.(\d+)"
SELF = rf"{BLOCK}\.attention\.self"
HUGGING_NAMES = {
    r"embeddings\.patch_embeddings\.projection\.(.*)": r"patch_embed.proj.\1",
    r"embeddings\.norm\.(.*)": r"patch_embed.norm.\1",
    r"embeddings\.position_embeddings": "absolute_pos_embed",
    rf"{BLOCK}\.layernorm_before\.(.*)": r"layers.\1.blocks.\2.norm1.\3",
    rf"{BLOCK}\.layernorm_after\.(.*)": r"layers.\1.blocks.\2.norm2.\3",
    rf"{SELF}\.(query|key|value)\.(.*)": r"layers.\1.blocks.\2.attn.\3.\4",
    rf"{SELF}\.(relative_position_bias_table|logit_scale)": r"layers.\1.blocks.\2.attn.\3",
    rf"{SELF}\.continuous_position_bias_mlp\.(.*)": r"layers.\1.blocks.\2.attn.cpb_mlp.\3",
    rf"{BLOCK}\.attention\.output\.dense\.(.*)": r"layers.\1.blocks.\2.attn.proj.\3",
    rf"{BLOCK}\.intermediate\.dense\.(.*)": r"layers.\1.blocks.\2.mlp.fc1.\3",
    rf"{BLOCK}\.output\.dense\.(.*)": r"layers.\1.blocks.\2.mlp.fc2.\3",
    **{rf"encoder\.{there}": here for there, here in DOWN.items()},
    r"layernorm\.(.*)": r"norm.\1",
    rf"classifier\.{LEAF}": r"head.fc.\1",
}


def joined(renamed: Tensors) -> Tensors:
    """One matrix for queries, keys and values; V2's keys have no bias, and so its biases stay apart."""
    attentions = sorted({key.removesuffix(".query.weight") for key in renamed if key.endswith(".attn.query.weight")})
    made = {}
    for attention in attentions:
        second = f"{attention}.key.bias" not in renamed
        for leaf in ("weight",) if second else ("weight", "bias"):
            made[f"{attention}.qkv.{leaf}"] = (
                f"{attention}.query.{leaf}",
                f"{attention}.key.{leaf}",
                f"{attention}.value.{leaf}",
            )
    return substitute(stack_qkv(renamed, made), {r"(.*\.attn)\.(q|v)(?:uery|alue)\.bias": r"\1.\2_bias"})


HUGGING_SWIN = Source(
    "hugging face",
    f"{WHERE.format('swin', 'swin')} and swinv2",
    marks=(rf"{BASE}encoder\.layers\.0\.blocks\.0\.attention\.self\.query\.weight",),
    prefix=BASE,
    drops={**COMPUTED, rf"{BASE}embeddings\.mask_token": "mask token: shown in place of masked patches"},
    names=HUGGING_NAMES,
    finish=joined,
    norm_eps={"": 1e-5},
    pixels=IMAGENET,
)

NAMED = (HUGGING_SWIN, SWIN, SWIN_V2)
