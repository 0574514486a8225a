"""Networks of public checkpoints that timm does not have, as timm models under names of their own.

    import a2mim.networks
    timm.create_model("convnext_isotropic_small")

- vit_class_and_mean: a ViT whose classifier reads the class token beside the mean of the patches (DINOv2's linear
  classifiers: github.com/facebookresearch/dinov2, eval/linear.py; Hugging Face's Dinov2ForImageClassification).
- vit_conv_small_patch16_224: MoCo v3's ViT with a stem of convolutions (github.com/facebookresearch/moco-v3, vits.py).
- resnet_of_stem: a ResNet whose stem is not 64 wide (Hugging Face's ResNet, embedding_size), or one for small images: a
  first convolution of 3×3 without stride, and no pooling behind it (SimCLR, arXiv 2002.05709, appendix B.9).
- convnext_isotropic_small: github.com/facebookresearch/ConvNeXt, models/convnext_isotropic.py.
- beit_two_norms_patch16_224: BEiT with a second norm behind the last one, as Hugging Face's BeitForMaskedImageModeling.
- swin_ape_tiny_patch4_window7_224: Swin with absolute positions (github.com/microsoft/Swin-Transformer, APE).
"""

from itertools import pairwise
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import PatchEmbed
from timm.models import VisionTransformer, build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.beit import Beit
from timm.models.convnext import ConvNeXtBlock
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

__all__ = ["BeitOfTwoNorms", "ClassAndMean", "ConvStem", "IsotropicConvNeXt", "ResNetOfStem", "SwinWithPositions"]


HALF = (0.5, 0.5, 0.5)


def config(classifier: str, embedding: str, fixed: bool) -> dict[str, Any]:
    return {
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": None,
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "fixed_input_size": fixed,
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": embedding,
        "classifier": classifier,
    }


default_cfgs = generate_default_cfgs(
    {
        "vit_class_and_mean.untrained": config("head", "patch_embed.proj", True) | {"input_size": (3, 518, 518)},
        "vit_conv_small_patch16_224.untrained": config("head", "patch_embed.proj.0", True),
        "resnet_of_stem.untrained": config("fc", "conv1", False),
        "convnext_isotropic_small.untrained": config("head", "stem", False),
        "beit_two_norms_patch16_224.untrained": config("head", "patch_embed.proj", True) | {"mean": HALF, "std": HALF},
        "swin_ape_tiny_patch4_window7_224.untrained": config("head.fc", "patch_embed.proj", True),
    }
)


class ClassAndMean(VisionTransformer):
    """A ViT whose classifier reads the class token and the mean of the patches, side by side."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.head_hidden_size = 2 * self.embed_dim
        if self.num_classes:
            self.head = nn.Linear(2 * self.embed_dim, self.num_classes)

    def pool(self, x: Tensor, pool_type: str | None = None) -> Tensor:
        return torch.cat([x[:, 0], x[:, self.num_prefix_tokens :].mean(1)], dim=-1)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        self.num_classes = num_classes
        self.head = nn.Linear(2 * self.embed_dim, num_classes) if num_classes else nn.Identity()


@register_model
def vit_class_and_mean(pretrained: bool = False, **given: Any) -> nn.Module:
    usual = {"img_size": 518, "patch_size": 14, "embed_dim": 768, "depth": 12, "num_heads": 12}
    return build_model_with_cfg(ClassAndMean, "vit_class_and_mean", pretrained, **{**usual, **given})


class ConvStem(PatchEmbed):
    """Four 3×3 convolutions of stride 2 with batch norm and ReLU, each twice as wide as the last, then one of 1×1."""

    def __init__(self, in_chans: int = 3, embed_dim: int = 384, **given: Any) -> None:
        super().__init__(in_chans=in_chans, embed_dim=embed_dim, **given)
        layers: list[nn.Module] = []
        widths = [in_chans, *(embed_dim // n for n in (8, 4, 2, 1))]
        for narrow, wide in pairwise(widths):
            layers += [nn.Conv2d(narrow, wide, 3, 2, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU(inplace=True)]
        self.proj = nn.Sequential(*layers, nn.Conv2d(embed_dim, embed_dim, 1))  # type: ignore[assignment]


@register_model
def vit_conv_small_patch16_224(pretrained: bool = False, **given: Any) -> nn.Module:
    usual = {"patch_size": 16, "embed_dim": 384, "depth": 11, "num_heads": 12, "embed_layer": ConvStem}
    return build_model_with_cfg(VisionTransformer, "vit_conv_small_patch16_224", pretrained, **{**usual, **given})


class IsotropicConvNeXt(nn.Module):
    """A ConvNeXt of one stage: patches, blocks, mean over the map, norm, classifier."""

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        depth: int = 18,
        dim: int = 384,
        ls_init_value: float | None = None,
        drop_path_rate: float = 0.0,
        global_pool: str = "avg",
    ) -> None:
        super().__init__()
        self.num_classes, self.num_features, self.head_hidden_size = num_classes, dim, dim
        self.stem = nn.Conv2d(in_chans, dim, 16, 16)
        rates = torch.linspace(0, drop_path_rate, depth, device="cpu").tolist()
        self.blocks = nn.Sequential(
            *(ConvNeXtBlock(dim, drop_path=rate, ls_init_value=ls_init_value) for rate in rates)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, num_classes) if num_classes else nn.Identity()
        self.feature_info = [{"num_chs": dim, "reduction": 16, "module": "blocks"}]

    def forward_features(self, x: Tensor) -> Tensor:
        return self.blocks(self.stem(x))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = self.norm(x.mean((2, 3)))
        return pooled if pre_logits else self.head(pooled)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        self.num_classes = num_classes
        self.head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()


@register_model
def convnext_isotropic_small(pretrained: bool = False, **given: Any) -> nn.Module:
    return build_model_with_cfg(IsotropicConvNeXt, "convnext_isotropic_small", pretrained, **given)


class BeitOfTwoNorms(Beit):
    """A BEiT whose tokens are normalised twice at the end."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        width = self.embed_dim
        self.norm = nn.Sequential(nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6))


@register_model
def beit_two_norms_patch16_224(pretrained: bool = False, **given: Any) -> nn.Module:
    usual = {"patch_size": 16, "embed_dim": 768, "depth": 12, "num_heads": 12, "init_values": 0.1, "use_fc_norm": False}
    name = "beit_two_norms_patch16_224"
    return build_model_with_cfg(
        BeitOfTwoNorms, name, pretrained, **{"use_abs_pos_emb": False, "use_rel_pos_bias": True, **usual, **given}
    )


class ResNetOfStem(ResNet):
    """A ResNet whose first convolution has another number of channels than 64 (Hugging Face's embedding_size), or is of
    3×3 without stride and without pooling behind it, as for CIFAR-10."""

    def __init__(self, stem_chs: int = 64, small_images: bool = False, stem_padding: int = 1, **arguments: Any) -> None:
        super().__init__(**arguments)
        stage: Any = self.layer1
        first = stage[0]
        wide = first.conv3.out_channels if hasattr(first, "conv3") else first.conv2.out_channels
        size, stride, padding = (3, 1, stem_padding) if small_images else (7, 2, 3)
        stem: Any = nn.Conv2d(arguments.get("in_chans", 3), stem_chs, size, stride, padding, bias=False)
        self.conv1 = stem
        if small_images:
            self.maxpool = nn.Identity()  # type: ignore[assignment]
        self.bn1 = nn.BatchNorm2d(stem_chs)
        old = first.conv1
        first.conv1 = nn.Conv2d(stem_chs, old.out_channels, old.kernel_size, old.stride, old.padding, bias=False)
        short = nn.Sequential(nn.Conv2d(stem_chs, wide, 1, bias=False), nn.BatchNorm2d(wide))
        first.downsample = None if stem_chs == wide else short


@register_model
def resnet_of_stem(pretrained: bool = False, **given: Any) -> nn.Module:
    blocks = {False: BasicBlock, True: Bottleneck}
    block = blocks[given.pop("bottleneck", True)]
    return build_model_with_cfg(ResNetOfStem, "resnet_of_stem", pretrained, **{"block": block, **given})


class SwinWithPositions(SwinTransformer):
    """A Swin that adds learned absolute positions to its patches."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        embedding: Any = self.patch_embed
        patches = embedding.grid_size[0] * embedding.grid_size[1]
        self.absolute_pos_embed = nn.Parameter(torch.zeros(1, patches, embedding.proj.out_channels))

    def forward_features(self, x: Tensor) -> Tensor:
        x_BHWC = self.patch_embed(x)
        x_BHWC = x_BHWC + self.absolute_pos_embed.view(1, *x_BHWC.shape[1:])
        return self.norm(self.layers(x_BHWC))


@register_model
def swin_ape_tiny_patch4_window7_224(pretrained: bool = False, **given: Any) -> nn.Module:
    usual = {"patch_size": 4, "window_size": 7, "embed_dim": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24)}
    name = "swin_ape_tiny_patch4_window7_224"
    return build_model_with_cfg(SwinWithPositions, name, pretrained, **{**usual, **given})
