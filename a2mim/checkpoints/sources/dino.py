"""DINOv2 in its own names (flat, or a training's teacher), and DINOv3 as Hugging Face transformers writes it."""

from dataclasses import replace

from a2mim.checkpoints.convert import Source, Tensors, substitute
from a2mim.checkpoints.sources.common import (
    ANY,
    IMAGENET,
    INDEX,
    LEAF,
    MASK_TOKEN,
    NORM_LEAF,
    PROJECTOR,
    VIT_EPS,
    stack_qkv,
)
from a2mim.checkpoints.sources.hugging_face import WHERE, class_position_added

CHUNKS = {r"blocks\.\d+\.(\d+\.(?:norm|attn|mlp|ls).*)": r"blocks.\1"}
"""A large training cuts the blocks into chunks, and counts them in front of the block."""


def with_registers(tensors: Tensors) -> Tensors:
    return class_position_added(tensors) if "reg_token" in tensors else tensors


DINOV2_NAMES = {
    **CHUNKS,
    r"register_tokens": "reg_token",
    r"(blocks\.\d+\.mlp)\.w12\.(.*)": r"\1.fc1.\2",
    r"(blocks\.\d+\.mlp)\.w3\.(.*)": r"\1.fc2.\2",
}
DINOV2 = Source(
    "dinov2",
    "github.com/facebookresearch/dinov2, dinov2/models/vision_transformer.py",
    marks=("mask_token", r"blocks\.0\.(0\.)?ls1\.gamma", r"blocks\.0\.(0\.)?attn\.qkv\.weight", "pos_embed"),
    unless=(r"decoder.*", r"blocks\.0\.attn\.q_bias"),
    drops={"mask_token": MASK_TOKEN},
    names=DINOV2_NAMES,
    finish=with_registers,
    norm_eps=VIT_EPS,
    positions="dino",
    pixels=IMAGENET,
)
DINOV2_REGISTERS = replace(DINOV2, marks=(*DINOV2.marks, "register_tokens"), positions="antialiased")
"""dinov2/hub/backbones.py: of those with registers alone positions are resized by antialiasing, without an offset."""
DINOV2_TEACHER = Source(
    "dinov2",
    "github.com/facebookresearch/dinov2, dinov2/train/ssl_meta_arch.py",
    marks=(r"backbone\.mask_token", r"backbone\.blocks\.0\.(0\.)?ls1\.gamma", r"(dino|ibot)_head\..*"),
    prefix=r"backbone\.",
    inner=True,
    drops={rf"(dino|ibot)_head\.{ANY}": PROJECTOR, rf"ibot_head\.{NORM_LEAF}": PROJECTOR},
)

# --- DINOv3

BASE = r"(?:dinov3_vit\.)?(?:model\.)?"
LAYER = r"layer\.(\d+)"
DINOV3_NAMES = {
    r"embeddings\.cls_token": "cls_token",
    r"embeddings\.register_tokens": "reg_token",
    r"embeddings\.patch_embeddings\.(.*)": r"patch_embed.proj.\1",
    rf"{LAYER}\.(norm[12])\.(.*)": r"blocks.\1.\2.\3",
    rf"{LAYER}\.attention\.([qkv])_proj\.(.*)": r"blocks.\1.attn.\2.\3",
    rf"{LAYER}\.attention\.o_proj\.(.*)": r"blocks.\1.attn.proj.\2",
    rf"{LAYER}\.layer_scale([12])\.lambda1": r"blocks.\1.gamma_\2",
    rf"{LAYER}\.mlp\.gate_proj\.(.*)": r"blocks.\1.mlp.fc1_g.\2",
    rf"{LAYER}\.mlp\.up_proj\.(.*)": r"blocks.\1.mlp.fc1.\2",
    rf"{LAYER}\.mlp\.down_proj\.(.*)": r"blocks.\1.mlp.fc2.\2",
    rf"classifier\.{LEAF}": r"head.\1",
}


def joined(renamed: Tensors) -> Tensors:
    """One matrix for queries, keys and values, whose keys have no bias; a gated MLP's second input gets timm's name;
    a list of no registers is none."""
    gated = any(".mlp.fc1_g." in key for key in renamed)
    tensors = substitute(renamed, {r"(.*\.mlp)\.fc1\.(.*)": r"\1.fc1_x.\2"}) if gated else renamed
    attentions = sorted({key.rpartition(".q.")[0] for key in tensors if ".attn.q." in key})
    parts = {f"{a}.qkv.weight": (f"{a}.q.weight", f"{a}.k.weight", f"{a}.v.weight") for a in attentions}
    stacked = substitute(stack_qkv(tensors, parts), {r"(.*\.attn)\.([qv])\.bias": r"\1.\2_bias"})
    return {key: x for key, x in stacked.items() if not (key == "reg_token" and x.ndim == 3 and x.shape[1] == 0)}


DINOV3 = Source(
    "hugging face",
    WHERE.format("dinov3_vit", "dinov3_vit"),
    marks=(rf"{BASE}layer\.0\.attention\.q_proj\.weight", rf"{BASE}layer\.0\.layer_scale1\.lambda1"),
    prefix=BASE,
    drops={rf"{BASE}embeddings\.mask_token": MASK_TOKEN, rf"{BASE}rope_embeddings\.\w+": INDEX},
    names=DINOV3_NAMES,
    finish=joined,
    norm_eps={"": 1e-5},
    pixels=IMAGENET,
)

WRAPPERS = (DINOV2_TEACHER,)
NAMED = (DINOV2_REGISTERS, DINOV2, DINOV3)
