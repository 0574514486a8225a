"""Whole masked-image networks: a checkpoint's decoder and mask tokens, under the names of this project's methods.

Encoders are `read`'s business, which leaves the rest out by rule; here is what becomes of that rest where it is wanted
(`a2mim.methods.restore` makes the method of it). A key that no rule here knows keeps its name, and so does not fit.

- MAE: github.com/facebookresearch/mae (models_mae.py); the same in Hugging Face transformers (ViTMAEForPreTraining).
- SimMIM: github.com/microsoft/SimMIM (models/simmim.py).
- A²MIM and SimMIM of OpenMixup: github.com/Westlake-AI/openmixup (openmixup/models/necks/mim_neck.py, backbones/
  mim_vit.py, mim_resnet.py, convnext.py, mim_swin.py, and configs/selfsup/_base_/models). Their ConvNeXts normalise the
  last map before the decoder; their SimMIM adds the mask token to a ConvNeXt's features, and replaces others.
- SparK: github.com/keyu-tian/SparK (pretrain/spark.py, decoder.py).
- FCMAE: github.com/facebookresearch/ConvNeXt-V2 (models/fcmae.py).
- MAE on Hiera: github.com/facebookresearch/hiera (hiera/hiera_mae.py); the same in Hugging Face transformers
  (HieraForPreTraining).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from a2mim.checkpoints.configured import head_count
from a2mim.checkpoints.convert import Tensors, substitute
from a2mim.checkpoints.describe import method as method_name
from a2mim.checkpoints.errors import CheckpointError, sound
from a2mim.checkpoints.families.cnn import is_convnext
from a2mim.checkpoints.families.common import count
from a2mim.checkpoints.read import Checkpoint
from a2mim.checkpoints.sources.common import DECODER, MASK_TOKEN, stack_qkv


@dataclass(frozen=True)
class PreTraining:
    """A masked-image network in a file: the encoder, and the rest of the method that trained it."""

    encoder: Checkpoint
    method: str
    """Name in a2mim.methods.restore.RESTORED."""
    settings: dict[str, Any]
    """Of the method: what the file tells, and what the source's code does where it is not this project's default."""
    tensors: Tensors
    """All but the encoder, under the method's own names."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Of timm.create_model, beyond those that the encoder's tensors tell."""
    image_size: int | None = None
    """Side of the training images in pixels, where neither the encoder nor its model tells it."""
    untold: tuple[str, ...] = ()
    """Settings that decide what a prediction means and that the file does not tell."""


def pretraining(checkpoint: Checkpoint) -> PreTraining:
    """The masked-image network of a file that `read` has read.

    Raises CheckpointError for a file without a decoder that predicts pixels: an encoder alone, another kind of method.
    """
    reasons = {key: why for why, keys in checkpoint.dropped.items() for key in keys}
    parts = {key: x for key, x in checkpoint.left_out.items() if reasons[key].startswith((DECODER, MASK_TOKEN))}
    for mark, describe in DECODERS.items():
        if mark in parts:
            dropped = {why: keys for why, keys in checkpoint.dropped.items() if not set(keys) & parts.keys()}
            with sound(checkpoint.path):
                return describe(replace(checkpoint, dropped=dropped), parts)
    raise CheckpointError(
        f"checkpoint '{checkpoint.path}' holds no decoder that predicts pixels (method: {method_name(checkpoint)}): "
        "give a file of MAE, SimMIM, A²MIM, SparK or FCMAE that has its decoder, or the folder of a pre-training run"
    )


# --- MAE

MAE_NAMES = {
    r"mask_token": "mask_token_C",
    r"decoder_pos_embed": "positions_ND",
    r"decoder_embed\.(.*)": r"embed.\1",
    r"decoder_pred\.(.*)": r"head.\1",
}


def mae(checkpoint: Checkpoint, parts: Tensors) -> PreTraining:
    """The weights do not tell what was predicted, patches or normalised ones, nor the decoder's heads: the published
    decoder is 512 wide with 16 of them, 32 channels each."""
    tensors = squeezed(substitute(parts, MAE_NAMES), "mask_token_C", "positions_ND")
    width, told = tensors["head.weight"].shape[-1], checkpoint.settings
    settings: dict[str, Any] = {
        "positions": "own",
        "decoder_width": width,
        "decoder_depth": count(tensors, r"decoder_blocks\.(\d+)\."),
        "decoder_heads": max(1, width // 32),
    }
    inside = tensors.get("decoder_blocks.0.mlp.fc1.weight")
    if inside is not None and inside.ndim == 2 and inside.shape[0] != 4 * width:
        settings["decoder_hidden"] = inside.shape[0]
    if settings["decoder_depth"]:
        check_width(checkpoint, tensors.get("decoder_blocks.0.attn.proj.weight"), width)
    if "decoder_num_attention_heads" in told:
        settings["decoder_heads"] = head_count(told, "decoder_num_attention_heads", checkpoint.path)
    settings |= stated(checkpoint)
    untold = () if "normalised_target" in settings else ("normalised_target",)
    return PreTraining(checkpoint, "mae", settings, tensors, untold=untold)


def check_width(checkpoint: Checkpoint, weight: Tensor | None, width: int) -> None:
    """Refuse a width of the decoder that its own layers do not have, for which as large a one would be made."""
    if weight is None or weight.shape[:2] != (width, width):
        raise CheckpointError(f"the decoder in '{checkpoint.path}' is not {width} wide throughout: it is damaged")


# transformers 4 and 5.
HF_LAYER = r"decoder\.(?:decoder_layers|decoder_encoder\.layer)\.(\d+)"
HF_NAMES = {
    r"decoder\.(mask_token|decoder_pos_embed|(?:decoder_embed|decoder_norm|decoder_pred)\..*)": r"\1",
    rf"{HF_LAYER}\.layernorm_before\.(.*)": r"decoder_blocks.\1.norm1.\2",
    rf"{HF_LAYER}\.layernorm_after\.(.*)": r"decoder_blocks.\1.norm2.\2",
    rf"{HF_LAYER}\.attention\.attention\.(query|key|value)\.(.*)": r"decoder_blocks.\1.attn.\2.\3",
    rf"{HF_LAYER}\.attention\.output\.dense\.(.*)": r"decoder_blocks.\1.attn.proj.\2",
    rf"{HF_LAYER}\.intermediate\.dense\.(.*)": r"decoder_blocks.\1.mlp.fc1.\2",
    rf"{HF_LAYER}\.output\.dense\.(.*)": r"decoder_blocks.\1.mlp.fc2.\2",
}


def hugging_face_mae(checkpoint: Checkpoint, parts: Tensors) -> PreTraining:
    """config.json beside the file tells what the weights do not."""
    renamed = substitute(parts, HF_NAMES)
    attentions = {key.removesuffix(".query.weight") for key in renamed if key.endswith(".query.weight")}
    three = {
        f"{attention}.qkv.{leaf}": tuple(f"{attention}.{part}.{leaf}" for part in ("query", "key", "value"))
        for attention in attentions
        for leaf in ("weight", "bias")
    }
    return mae(checkpoint, stack_qkv(renamed, three))  # type: ignore[arg-type]


# --- SimMIM and A²MIM: a mask token, and a decoder of one convolution


def simmim(checkpoint: Checkpoint, parts: Tensors) -> PreTraining:
    names = {r"encoder\.mask_token": "mask_token.token_C"}
    return PreTraining(checkpoint, "simmim", {}, squeezed(substitute(parts, names), "mask_token.token_C"))


OPENMIXUP_NAMES = {
    r"(?:backbone\.)?mask_token": "mask_token.token_C",
    r"(?:backbone\.)?mask_gamma": "mask_token.gamma_C",
    r"neck\.(?:decoder_pred|decoder)\.0\.(weight|bias)": r"decoder.0.\1",
}


def openmixup_a2mim(checkpoint: Checkpoint, parts: Tensors) -> PreTraining:
    return openmixup(checkpoint, parts, "a2mim", {"fourier_weight": 0.0})


def openmixup_simmim(checkpoint: Checkpoint, parts: Tensors) -> PreTraining:
    if is_convnext(checkpoint.tensors):
        return openmixup(checkpoint, parts, "simmim", {"mask_token": "add"})
    return openmixup(checkpoint, parts, "simmim", {})


def openmixup(checkpoint: Checkpoint, parts: Tensors, method: str, settings: dict[str, Any]) -> PreTraining:
    tensors = squeezed(substitute(parts, OPENMIXUP_NAMES), "mask_token.token_C", "mask_token.gamma_C")
    if "mask_token.gamma_C" in tensors:
        settings = {**settings, "gamma_init": 1e-6}
    return PreTraining(checkpoint, method, settings, tensors)


# --- SparK

SPARK_NAMES = {
    r"densify_norms\.(\d+)\.(.*)": r"densify.\1.norm.\2",
    r"densify_projs\.(\d+)\.(.*)": r"densify.\1.project.\2",
    r"mask_tokens\.(\d+)": r"densify.\1.mask_token_C",
    r"dense_decoder\.dec\.(\d+)\.up_sample\.(.*)": r"decoder.\1.0.\2",
    # The upsampling is the first of this project's Sequential, and the others follow it.
    **{rf"dense_decoder\.dec\.(\d+)\.conv\.{n}\.(.*)": rf"decoder.\1.{n + 1}.\2" for n in (0, 1, 3, 4)},
    r"dense_decoder\.proj\.(.*)": r"head.\1",
}


def spark(checkpoint: Checkpoint, parts: Tensors) -> PreTraining:
    """A buffer that its code has no use for any more tells the size of the images."""
    renamed = substitute(parts, SPARK_NAMES)
    tensors = squeezed(renamed, *(key for key in renamed if key.endswith("mask_token_C")))
    first, black = tensors.get("decoder.0.0.weight"), checkpoint.left_out.get("norm_black")
    settings: dict[str, Any] = {} if first is None else {"decoder_width": first.shape[0]}
    if not any(".norm." in key for key in tensors if key.startswith("densify.")):
        settings["densify_norm"] = False
    if first is not None:
        check_width(checkpoint, first, first.shape[0])
    size = black.shape[-1] if black is not None and black.ndim == 4 else None
    return PreTraining(checkpoint, "spark", settings, tensors, image_size=size)


NORMALISED: dict[str, Any] = {"normalised_target": True}

# --- FCMAE

FCMAE_NAMES = {
    r"mask_token": "mask_token_C",
    r"proj\.(.*)": r"embed.\1",
    r"pred\.(.*)": r"head.\1",
    r"decoder\.(\d+)\.dwconv\.(.*)": r"decoder_blocks.\1.conv_dw.\2",
    r"decoder\.(\d+)\.norm\.(.*)": r"decoder_blocks.\1.norm.\2",
    r"decoder\.(\d+)\.pwconv([12])\.(.*)": r"decoder_blocks.\1.mlp.fc\2.\3",
    r"decoder\.(\d+)\.grn\.gamma": r"decoder_blocks.\1.mlp.grn.weight",
    r"decoder\.(\d+)\.grn\.beta": r"decoder_blocks.\1.mlp.grn.bias",
}


def fcmae(checkpoint: Checkpoint, parts: Tensors) -> PreTraining:
    """Its code always predicts normalised patches, unless a command line in the file says otherwise."""
    renamed = substitute(parts, FCMAE_NAMES)
    responses = (key for key in renamed if ".mlp.grn." in key)
    tensors = squeezed(renamed, "mask_token_C", *responses)
    settings = {**NORMALISED, "decoder_depth": count(tensors, r"decoder_blocks\.(\d+)\.")}
    if "mask_token_C" in tensors:
        settings["decoder_width"] = tensors["mask_token_C"].numel()
    return PreTraining(checkpoint, "fcmae", settings | stated(checkpoint), tensors)


def stated(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a command line or a configuration says of the mask and of what is predicted."""
    told = checkpoint.settings
    made = {"mask_ratio": told["mask_ratio"]} if isinstance(told.get("mask_ratio"), float) else {}
    for name in ("norm_pix_loss", "normalize_pixel_loss"):
        if isinstance(told.get(name), bool):
            made["normalised_target"] = told[name]
    return made


# --- MAE on Hiera


def hiera_mae(checkpoint: Checkpoint, parts: Tensors) -> PreTraining:
    """Its code always predicts normalised patches."""
    renamed = substitute(parts, {r"multi_scale_fusion_heads\.(.*)": r"fusion.\1"})
    found = mae(checkpoint, renamed)
    return replace(found, method="hiera_mae", settings=NORMALISED | found.settings, untold=())


HF_HIERA_LAYER = r"decoder\.decoder_block\.layers\.(\d+)"
HF_HIERA_NAMES = {
    r"decoder\.(mask_token|(?:decoder_norm|decoder_pred)\..*)": r"\1",
    r"decoder\.decoder_embeddings\.(.*)": r"decoder_embed.\1",
    r"decoder\.decoder_position_embeddings": "decoder_pos_embed",
    rf"{HF_HIERA_LAYER}\.layernorm_before\.(.*)": r"decoder_blocks.\1.norm1.\2",
    rf"{HF_HIERA_LAYER}\.layernorm_after\.(.*)": r"decoder_blocks.\1.norm2.\2",
    rf"{HF_HIERA_LAYER}\.((?:attn|mlp)\..*)": r"decoder_blocks.\1.\2",
    r"multiscale_fusion\.(.*)": r"\1",
}


def hugging_face_hiera_mae(checkpoint: Checkpoint, parts: Tensors) -> PreTraining:
    """config.json beside the file may tell the decoder's heads."""
    found = hiera_mae(checkpoint, substitute(parts, HF_HIERA_NAMES))
    if "decoder_num_heads" not in checkpoint.settings:
        return found
    heads = head_count(checkpoint.settings, "decoder_num_heads", checkpoint.path)
    return replace(found, settings=found.settings | {"decoder_heads": heads})


def squeezed(tensors: Mapping[str, Tensor], *names: str) -> Tensors:
    """The tensors, those of the given names without their axes of length 1."""
    return {key: x.squeeze() if key in names else x for key, x in tensors.items()}


# A key that only the decoder of one layout has -> how to read it.
DECODERS = {
    "multi_scale_fusion_heads.0.weight": hiera_mae,
    "multiscale_fusion.multi_scale_fusion_heads.0.weight": hugging_face_hiera_mae,
    "decoder_pred.weight": mae,
    "decoder.decoder_pred.weight": hugging_face_mae,
    "decoder.0.weight": simmim,
    "neck.decoder_pred.0.weight": openmixup_a2mim,
    "neck.decoder.0.weight": openmixup_simmim,
    "dense_decoder.proj.weight": spark,
    "pred.weight": fcmae,
}
