"""Image towers of CLIP and SigLIP: OpenAI's and open_clip's names, and those of Hugging Face transformers.

OpenAI's models, and those of open_clip whose name says so, have quick GELUs; their files do not tell it, the settings
beside those of Hugging Face and of open_clip's hub do (`open_clip.py`).
"""

import re
from dataclasses import replace

from a2mim.checkpoints.convert import Source, Tensors, rename
from a2mim.checkpoints.sources.common import ANY, HALF, INDEX, LEAF, OF_CLIP, stack_qkv

TEXT = "text tower, and what joins it to the images"

# --- OpenAI, open_clip: github.com/openai/CLIP, clip/model.py; github.com/mlfoundations/open_clip, transformer.py

NAMES = {
    r"conv1\.weight": "patch_embed.proj.weight",
    r"class_embedding": "cls_token",
    r"positional_embedding": "pos_embed",
    r"ln_pre\.(.*)": r"norm_pre.\1",
    r"ln_post\.(.*)": r"fc_norm.\1",
    r"transformer\.resblocks\.(\d+)\.ln_([12])\.(.*)": r"blocks.\1.norm\2.\3",
    r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)": r"blocks.\1.attn.qkv.\2",
    r"transformer\.resblocks\.(\d+)\.attn\.out_proj\.(.*)": r"blocks.\1.attn.proj.\2",
    r"transformer\.resblocks\.(\d+)\.mlp\.c_fc\.(.*)": r"blocks.\1.mlp.fc1.\2",
    r"transformer\.resblocks\.(\d+)\.mlp\.c_proj\.(.*)": r"blocks.\1.mlp.fc2.\2",
}
DROPS = {
    rf"(text\.)?(transformer|token_embedding|ln_final|attn_mask|cls_emb)\.?({ANY})?": TEXT,
    r"(text\.)?(positional_embedding|text_projection|logit_scale|logit_bias)|text_projection\.(weight|bias)": TEXT,
    r"input_resolution|context_length|vocab_size": INDEX,
    r"visual\.proj": TEXT,
}


def leading_axes(tensors: Tensors) -> Tensors:
    """timm's class token and positions have one axis per image in front."""
    axes = {"cls_token": 3, "pos_embed": 3}
    return {
        key: x.reshape(*(1,) * (axes[key] - x.ndim), *x.shape) if key in axes and x.ndim < axes[key] else x
        for key, x in tensors.items()
    }


# Only the class token is normalised at the end, so that timm's norm stands behind the pooling.
POOLED = {"global_pool": "token", "fc_norm": True}

CLIP = Source(
    "clip",
    "github.com/openai/CLIP, clip/model.py; github.com/mlfoundations/open_clip, src/open_clip/transformer.py",
    marks=(r"visual\.class_embedding", r"visual\.transformer\.resblocks\.0\.attn\.in_proj_weight"),
    prefix=r"visual\.",
    drops=DROPS,
    names=NAMES,
    finish=leading_axes,
    norm_eps={"": 1e-5},
    pixels=OF_CLIP,
    arguments=POOLED,
    untold={
        "act_layer": "activations are assumed: GELU, for the file does not say; OpenAI's weights, and others that were "
        "trained as theirs, have quick GELU"
    },
)
OPENAI_CLIP = Source(
    # Only OpenAI's own files keep these three numbers.
    "openai's clip",
    "github.com/openai/CLIP, clip/model.py",
    marks=(*CLIP.marks, "input_resolution", "context_length", "vocab_size"),
    prefix=CLIP.prefix,
    drops=DROPS,
    names=NAMES,
    finish=leading_axes,
    norm_eps={"": 1e-5},
    pixels=OF_CLIP,
    arguments={"act_layer": "quick_gelu", **POOLED},
)
RESNET_LAYER = r"layer([1234])\.(\d+)\."
RESNET_NAMES = {
    r"(conv|bn)([123])\.(.*)": r"stem.conv\2.\1.\3",
    **{
        rf"{RESNET_LAYER}(conv|bn){n}\.(.*)": rf"stages.\1.\2.conv{n}_{size}.\3.\4"
        for n, size in ((1, "1x1"), (2, "kxk"), (3, "1x1"))
    },
    rf"{RESNET_LAYER}downsample\.0\.(.*)": r"stages.\1.\2.shortcut.conv.conv.\3",
    rf"{RESNET_LAYER}downsample\.1\.(.*)": r"stages.\1.\2.shortcut.conv.bn.\3",
    r"attnpool\.positional_embedding": "head.pos_embed",
    r"attnpool\.([qkv])_proj\.(.*)": r"head.\1.\2",
}


def stages_from_zero(renamed: Tensors) -> Tensors:
    return rename(renamed, lambda key: re.sub(r"^stages\.(\d)", lambda found: f"stages.{int(found[1]) - 1}", key))


CLIP_RESNET = Source(
    "clip's resnet",
    "github.com/openai/CLIP, clip/model.py",
    marks=(r"visual\.attnpool\.positional_embedding",),
    prefix=r"visual\.",
    drops={**DROPS, rf"visual\.attnpool\.c_proj\.{LEAF}": TEXT},
    names=RESNET_NAMES,
    finish=stages_from_zero,
    pixels=OF_CLIP,
    models={
        f"resnet{size}_clip": {"num_classes": 0, "img_size": side}
        for size, side in (("50", 224), ("101", 224), ("50x4", 288), ("50x16", 384), ("50x64", 448))
    },
)
OPEN_CLIP_TRUNK = Source(
    "open_clip with a network of timm's",
    "github.com/mlfoundations/open_clip, src/open_clip/timm_model.py",
    marks=(r"visual\.trunk\..*",),
    prefix=r"visual\.trunk\.",
    inner=True,
    drops={rf"text\.{ANY}": TEXT, rf"visual\.head\.{ANY}": TEXT, **DROPS},
)

# --- Hugging Face: models/clip/modeling_clip.py, models/siglip/modeling_siglip.py

BASE = r"(?:(?:clip|siglip)\.)?(?:vision_model\.)?"
LAYER = r"encoder\.layers\.(\d+)"
HUGGING_NAMES = {
    r"embeddings\.class_embedding": "cls_token",
    r"embeddings\.position_embedding\.weight": "pos_embed",
    r"embeddings\.patch_embedding\.(.*)": r"patch_embed.proj.\1",
    r"pre_layrnorm\.(.*)": r"norm_pre.\1",
    r"post_layernorm\.(.*)": r"norm.\1",
    rf"{LAYER}\.layer_norm([12])\.(.*)": r"blocks.\1.norm\2.\3",
    rf"{LAYER}\.self_attn\.([qkv])_proj\.(.*)": r"blocks.\1.attn.\2.\3",
    rf"{LAYER}\.self_attn\.out_proj\.(.*)": r"blocks.\1.attn.proj.\2",
    rf"{LAYER}\.mlp\.(fc[12])\.(.*)": r"blocks.\1.mlp.\2.\3",
    r"head\.probe": "attn_pool.latent",
    r"head\.attention\.out_proj\.(.*)": r"attn_pool.proj.\1",
    r"head\.attention\.in_proj_(weight|bias)": r"attn_pool.qkv.\1",
    r"head\.layernorm\.(.*)": r"attn_pool.norm.\1",
    r"head\.mlp\.(fc[12])\.(.*)": r"attn_pool.mlp.\1.\2",
    rf"classifier\.{LEAF}": r"head.\1",
}


def joined(renamed: Tensors) -> Tensors:
    """One matrix for queries, keys and values of a layer; the pooling's queries apart from its keys and values."""
    attentions = sorted({key.rpartition(".q.")[0] for key in renamed if ".attn.q." in key})
    parts = {
        f"{attention}.qkv.{leaf}": (f"{attention}.q.{leaf}", f"{attention}.k.{leaf}", f"{attention}.v.{leaf}")
        for attention in attentions
        for leaf in ("weight", "bias")
    }
    tensors = leading_axes(stack_qkv(renamed, parts))
    for leaf in ("weight", "bias"):
        whole = tensors.get(f"attn_pool.qkv.{leaf}")
        if whole is not None and whole.ndim and whole.shape[0] % 3 == 0:
            third = whole.shape[0] // 3
            tensors = {key: x for key, x in tensors.items() if x is not whole}
            tensors |= {f"attn_pool.q.{leaf}": whole[:third], f"attn_pool.kv.{leaf}": whole[third:]}
    return tensors


HUGGING_DROPS = {
    rf"(?:(?:clip|siglip)\.)?text_model\.{ANY}": TEXT,
    r"(?:text|visual)_projection\.weight|logit_scale|logit_bias": TEXT,
    rf"{BASE}embeddings\.position_ids": INDEX,
}
HUGGING_CLIP = Source(
    "hugging face",
    "github.com/huggingface/transformers, src/transformers/models/clip/modeling_clip.py",
    marks=(rf"{BASE}embeddings\.class_embedding", rf"{BASE}encoder\.layers\.0\.self_attn\.q_proj\.weight"),
    prefix=BASE,
    drops=HUGGING_DROPS,
    names={**HUGGING_NAMES, r"post_layernorm\.(.*)": r"fc_norm.\1"},
    finish=joined,
    norm_eps={"": 1e-5},
    pixels=OF_CLIP,
    arguments={"act_layer": "quick_gelu", **POOLED},
)
HUGGING_CLIP_CLASSIFIER = replace(
    HUGGING_CLIP,
    marks=(*HUGGING_CLIP.marks, r"classifier\.weight"),
    unread="a classifier on the mean of CLIP's patches, without their last norm (Hugging Face's "
    "CLIPForImageClassification), which no network of timm's computes: give the file of the network without it",
)
SIGLIP = Source(
    "hugging face",
    "github.com/huggingface/transformers, src/transformers/models/siglip/modeling_siglip.py",
    marks=(rf"{BASE}embeddings\.patch_embedding\.bias", rf"{BASE}encoder\.layers\.0\.self_attn\.q_proj\.weight"),
    prefix=BASE,
    drops=HUGGING_DROPS,
    names=HUGGING_NAMES,
    finish=joined,
    norm_eps={"": 1e-6},
    pixels=HALF,
    arguments={"act_layer": "gelu_tanh"},
)
SIGLIP_CLASSIFIER = replace(
    SIGLIP,
    marks=(*SIGLIP.marks, r"classifier\.weight"),
    drops={**HUGGING_DROPS, rf"{BASE}head\.{ANY}": "of the attention that pools, which the classifier does not see"},
)

WRAPPERS = (OPEN_CLIP_TRUNK,)
NAMED = (
    OPENAI_CLIP,
    CLIP,
    CLIP_RESNET,
    HUGGING_CLIP_CLASSIFIER,  # before those that it has the marks of, too
    HUGGING_CLIP,
    SIGLIP_CLASSIFIER,
    SIGLIP,
)
