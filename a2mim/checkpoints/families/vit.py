"""Plain vision transformers (timm's VisionTransformer) by their shapes."""

import re
from collections.abc import Mapping
from typing import Any

from a2mim.checkpoints.families.common import Architecture, Tensors, class_count, count, next_known, unusual
from a2mim.checkpoints.read import Checkpoint
from a2mim.checkpoints.resize import square_side

WIDTHS = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1280: "huge"}
EMBEDDING = "patch_embed.proj.weight"


def is_vit(tensors: Tensors) -> bool:
    marks = ("blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight", EMBEDDING, "pos_embed")
    return all(key in tensors for key in marks) and tensors[EMBEDDING].ndim == 4


def is_parallel(tensors: Tensors) -> bool:
    marks = ("blocks.0.attns.1.attn.qkv.weight", "blocks.0.ffns.1.mlp.fc1.weight", EMBEDDING, "pos_embed")
    return all(key in tensors for key in marks) and tensors[EMBEDDING].ndim == 4


def has_conv_stem(tensors: Tensors) -> bool:
    return all(key in tensors for key in ("patch_embed.proj.12.weight", "pos_embed", "blocks.0.mlp.fc1.weight"))


def describe_vit(checkpoint: Checkpoint) -> Architecture:
    tensors = checkpoint.tensors
    sizes = vit_sizes(tensors)
    width, patch = sizes["embed_dim"], sizes["patch_size"]
    wanted = {**sizes, **vit_form(checkpoint, sizes)}
    side = wanted["img_size"]
    wanted["num_heads"], assumed = heads_of(checkpoint, sizes)
    size = WIDTHS.get(width, "base")
    if "dist_token" in tensors:
        name = next_known(f"deit_{size}_distilled_patch16_224", "deit_base_distilled_patch16_224")
        for key in ("class_token", "no_embed_class", "global_pool", "fc_norm", "reg_tokens", "pre_norm"):
            del wanted[key]
    elif is_gated(tensors):
        name = "vit_giant_patch14_reg4_dinov2" if wanted["reg_tokens"] else "vit_giant_patch14_dinov2"
        return gated(name, wanted, assumed)
    elif reads_class_and_mean(tensors):
        name = "vit_class_and_mean"
    else:
        name = next_known(f"vit_{size}_patch{patch}_{side}", f"vit_{size}_patch{patch}_224", "vit_base_patch16_224")
    named = {**VIT_USUAL, **name_sizes(name)}
    return Architecture(
        "vit", name, unusual(wanted, named), ("num_heads", *FORM) if checkpoint.heads else FORM, assumed=assumed
    )


FORM = ("qkv_bias", "init_values", "class_token", "no_embed_class", "global_pool", "fc_norm")


def vit_form(checkpoint: Checkpoint, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a ViT that say which of its parts there are."""
    tensors, patch = checkpoint.tensors, sizes["patch_size"]
    tokens = [tensors[key].shape[1] for key in ("cls_token", "dist_token", "reg_token") if key in tensors]
    length = tensors["pos_embed"].shape[1]
    # DeiT III gives the class token no position, DINOv2 none to registers.
    bare = bool(tokens) and not square_side(length - sum(tokens)) and bool(square_side(length))
    mean = "fc_norm.weight" in tensors or "cls_token" not in tensors
    attentive = "attn_pool.latent" in tensors
    registers = tensors["reg_token"].shape[1] if "reg_token" in tensors else 0
    return {
        "img_size": square_side(length if bare else length - sum(tokens)) * patch,
        "qkv_bias": any(f"blocks.0.{part}qkv.bias" in tensors for part in ("attn.", "attns.0.attn.")),
        "init_values": 1e-5 if any(f"blocks.0.{part}gamma" in tensors for part in ("ls1.", "attns.0.ls.")) else None,
        "class_token": "cls_token" in tensors,
        "reg_tokens": registers,
        "pre_norm": "norm_pre.weight" in tensors,
        "no_embed_class": bare,
        "global_pool": "map" if attentive else "avg" if mean else "token",
        "fc_norm": False if mean and not attentive and "norm.weight" in tensors else None,
        "num_classes": class_count(tensors, "head.weight"),
    }


def is_gated(tensors: Tensors) -> bool:
    """Whether the first layer of the MLP makes twice what the second takes (SwiGLU)."""
    first, second = tensors["blocks.0.mlp.fc1.weight"], tensors.get("blocks.0.mlp.fc2.weight")
    return second is not None and second.ndim == 2 and first.shape[0] == 2 * second.shape[1]


def gated(name: str, wanted: dict[str, Any], assumed: Mapping[str, str]) -> Architecture:
    """A ViT of DINOv2's giant form, whose sizes the name does not say as the others' do."""
    usual = {**VIT_USUAL, "init_values": 1e-5, "no_embed_class": bool(wanted["reg_tokens"])}
    usual |= {"reg_tokens": 4 * bool(wanted["reg_tokens"]), "num_classes": 0}
    return Architecture("vit", name, unusual(wanted, usual), FORM, assumed=assumed)


def reads_class_and_mean(tensors: Tensors) -> bool:
    head = tensors.get("head.weight")
    return head is not None and head.ndim == 2 and head.shape[1] == 2 * tensors[EMBEDDING].shape[0]


def describe_parallel(checkpoint: Checkpoint) -> Architecture:
    """Blocks of two attentions side by side, then two MLPs (timm's ParallelThingsBlock)."""
    tensors = checkpoint.tensors
    width, channels, patch, _ = tensors[EMBEDDING].shape
    sizes = {
        "patch_size": patch,
        "in_chans": channels,
        "embed_dim": width,
        "depth": count(tensors, r"blocks\.(\d+)\."),
        "mlp_ratio": ratio(tensors["blocks.0.ffns.0.mlp.fc1.weight"].shape[0], width),
    }
    heads, assumed = heads_of(checkpoint, sizes)
    name = "vit_base_patch16_18x2_224" if width == 768 else "vit_small_patch16_18x2_224"
    usual = {**VIT_USUAL, "patch_size": 16, "depth": 18, "img_size": 224, "init_values": 1e-5}
    usual |= {"embed_dim": 768, "num_heads": 12} if width == 768 else {"embed_dim": 384, "num_heads": 6}
    wanted = {**sizes, **vit_form(checkpoint, sizes), "num_heads": heads}
    wanted["init_values"] = wanted["init_values"] or 0.0  # timm takes no None for an argument that a name sets
    return Architecture("vit", name, unusual(wanted, usual), FORM, assumed=assumed)


def describe_conv_stem(checkpoint: Checkpoint) -> Architecture:
    """MoCo v3's ViT with four strided convolutions in place of the patch embedding (a2mim.networks)."""
    tensors = checkpoint.tensors
    width = tensors["pos_embed"].shape[-1]
    sizes = {
        "patch_size": 16,
        "embed_dim": width,
        "depth": count(tensors, r"blocks\.(\d+)\."),
        "mlp_ratio": ratio(tensors["blocks.0.mlp.fc1.weight"].shape[0], width),
    }
    heads, assumed = heads_of(checkpoint, sizes)
    wanted = {**sizes, **vit_form(checkpoint, sizes), "num_heads": heads}
    usual = {**VIT_USUAL, "patch_size": 16, "embed_dim": 384, "depth": 11, "num_heads": 12, "img_size": 224}
    return Architecture("vit", "vit_conv_small_patch16_224", unusual(wanted, usual), FORM, assumed=assumed)


VIT_USUAL = {
    "in_chans": 3,
    "mlp_ratio": 4.0,
    "qkv_bias": True,
    "init_values": None,
    "class_token": True,
    "reg_tokens": 0,
    "pre_norm": False,
    "no_embed_class": False,
    "global_pool": "token",
    "fc_norm": None,
    "num_classes": 1000,
}


def name_sizes(name: str) -> dict[str, Any]:
    """What a name such as vit_small_patch16_224 says about sizes."""
    if name == "vit_class_and_mean":
        name = "vit_base_patch14_518"
    size, patch, image = re.findall(r"_(\w+?)_(?:distilled_)?patch(\d+)_(\d+)", name)[0]
    width, depth = {"tiny": (192, 12), "small": (384, 12), "base": (768, 12), "large": (1024, 24), "huge": (1280, 32)}[
        size
    ]
    sizes = {"embed_dim": width, "depth": depth, "num_heads": usual_heads(width, depth, 4)}
    return sizes | {"patch_size": int(patch), "img_size": int(image)}


def usual_heads(width: int, depth: int, mlp_ratio: float) -> int:
    """Attention heads of a ViT, which its shapes do not tell: 64 channels each, but for the largest ones and for the
    ViT-S of OpenMMLab and of A²MIM (768 wide, 8 deep, 8 heads)."""
    if (width, depth, mlp_ratio) == (768, 8, 3):
        return 8
    if width < 1:
        raise ValueError(f"a width of {width}")
    return 16 if width in (1280, 1408, 1664) else max(1, width // 64)


def heads_of(checkpoint: Checkpoint, sizes: Mapping[str, Any]) -> tuple[int, dict[str, str]]:
    """Attention heads as the file tells them, else the usual ones, and the assumption in words."""
    if checkpoint.heads:
        return checkpoint.heads, {}
    width = sizes["embed_dim"]
    heads = usual_heads(width, sizes["depth"], sizes["mlp_ratio"])
    words = f"attention heads are assumed: {heads} of {width / heads:g} channels, for the file does not say"
    return heads, {"num_heads": words}


def ratio(hidden: int, width: int) -> float:
    """hidden / width, such that int(width · ratio) is `hidden` again."""
    exact = hidden / width
    return exact if int(width * exact) == hidden else (hidden + 0.5) / width


def vit_sizes(tensors: Tensors) -> dict[str, Any]:
    """The arguments of a transformer that its shapes alone tell."""
    width, channels, patch, _ = tensors["patch_embed.proj.weight"].shape
    return {
        "patch_size": patch,
        "in_chans": channels,
        "embed_dim": width,
        "depth": count(tensors, r"blocks\.(\d+)\."),
        "mlp_ratio": ratio(tensors["blocks.0.mlp.fc1.weight"].shape[0], width),
    }
