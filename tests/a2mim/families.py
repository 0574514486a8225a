"""Named timm models of many families, small enough to run by the dozen: name -> (image size, arguments for timm)."""

from functools import cache
from typing import Any

import timm
import torch

from a2mim.methods import A2MIM, A2MIMSettings

FAMILIES: dict[str, tuple[int, dict[str, Any]]] = {
    # patch tokens
    "vit_tiny_patch16_224": (64, {"img_size": 64, "depth": 4}),
    "vit_base_patch16_rope_reg1_gap_256": (64, {"img_size": 64, "depth": 2, "embed_dim": 96, "num_heads": 3}),
    "deit_tiny_distilled_patch16_224": (64, {"img_size": 64, "depth": 2}),
    "beit_base_patch16_224": (64, {"img_size": 64, "depth": 2, "embed_dim": 96, "num_heads": 3}),
    "eva02_tiny_patch14_224": (56, {"img_size": 56, "depth": 2}),
    "cait_xxs24_224": (64, {"img_size": 64, "depth": 2}),
    "xcit_nano_12_p16_224": (64, {"img_size": 64, "depth": 2}),
    "mixer_s32_224": (64, {"img_size": 64}),
    "gmlp_ti16_224": (64, {"img_size": 64}),
    "resmlp_12_224": (64, {"img_size": 64}),
    # hierarchical transformers
    "swin_tiny_patch4_window7_224": (64, {"img_size": 64, "depths": (1, 1, 2, 1), "embed_dim": 48}),
    "swinv2_cr_tiny_224": (64, {"img_size": 64, "depths": (1, 1, 2, 1), "embed_dim": 48}),
    "pvt_v2_b0": (64, {"depths": (1, 1, 1, 1)}),
    "twins_svt_small": (64, {"depths": (2, 2, 2, 2), "embed_dims": (32, 64, 96, 128), "num_heads": (1, 2, 3, 4)}),
    "nest_tiny": (64, {"img_size": 64}),
    "levit_128s": (64, {"img_size": 64, "depth": (1, 1, 1)}),
    "maxvit_pico_rw_256": (64, {"img_size": 64, "depths": (1, 1, 1, 1)}),
    "tiny_vit_5m_224": (64, {"depths": (1, 1, 1, 1)}),
    # convolutions and mixtures
    "resnet18": (64, {"zero_init_last": False, "channels": (16, 32, 64, 128)}),
    "resnet50": (64, {"zero_init_last": False, "layers": (1, 1, 1, 1)}),
    "convnext_atto": (64, {"depths": (1, 1, 2, 1)}),
    "convnextv2_atto": (64, {"depths": (1, 1, 1, 1)}),
    "efficientnet_b0": (64, {}),
    "tf_efficientnet_lite0": (64, {}),
    "regnetx_002": (64, {"zero_init_last": False}),
    "mobilenetv2_050": (64, {}),
    "mobilenetv3_small_050": (64, {}),
    "densenet121": (64, {"block_config": (2, 2, 2, 2)}),
    "vgg11": (64, {"mlp_ratio": 0.01}),
    "poolformer_s12": (64, {}),
    "edgenext_xx_small": (64, {"depths": (1, 1, 2, 1)}),
    "mobilevit_xxs": (64, {}),
    "repvgg_a0": (64, {"width_factor": 0.5}),
    "dla34": (64, {"levels": (1, 1, 1, 1, 1, 1), "channels": (8, 16, 32, 64, 96, 128)}),
}


def make(name: str, **arguments: Any) -> tuple[Any, int]:
    """A named model with seeded random weights, and the size of its images."""
    torch.manual_seed(0)
    size, own = FAMILIES[name]
    return timm.create_model(name, **({"num_classes": 0} | own | arguments)), size


@cache
def a2mim_of(name: str) -> Any:
    """A²MIM on a named model, with 4×4 mask cells and a fill colour that does not know masked pixels; made once."""
    backbone, size = make(name)
    return A2MIM(backbone, A2MIMSettings(image_size=size, mask_cell=size // 4, fill="visible_mean"))
