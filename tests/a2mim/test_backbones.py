import pytest
import timm
import torch
import torchvision
from torch import nn

from a2mim.backbones import find_place, read_structure
from a2mim.layouts import Layout, to_map, token_grid
from tests.a2mim.families import FAMILIES, a2mim_of, make

pytestmark = pytest.mark.xdist_group("families")

PAPER_PLACES = {
    # The place, its channels (of these small networks), and image pixels per position of it. Published: ViT behind the
    # patch embedding, ResNet at the input of layer4, ConvNeXt behind the downsampling of its last stage, Swin behind
    # the patch embedding.
    "vit_tiny_patch16_224": ("patch_embed", "output", 192, 16),
    "deit_tiny_distilled_patch16_224": ("patch_embed", "output", 192, 16),
    "beit_base_patch16_224": ("patch_embed", "output", 96, 16),
    "swin_tiny_patch4_window7_224": ("patch_embed", "output", 48, 4),
    "mixer_s32_224": ("stem", "output", 512, 32),
    "resnet18": ("layer4", "input", 64, 16),
    "convnext_atto": ("stages.3.blocks.0", "input", 320, 32),
    "regnetx_002": ("s4", "input", 152, 16),
    "efficientnet_b0": ("blocks.5", "input", 112, 16),
    "densenet121": ("features.transition3", "input", 128, 16),
    "vgg11": ("features.16", "input", 512, 16),
}


@pytest.mark.parametrize("name", PAPER_PLACES)
def test_default_place_is_the_papers(name):
    backbone, size = make(name)
    structure = read_structure(backbone, size)
    place = find_place(backbone, structure, "default")
    assert (place.module, place.side, place.layout.channels, size // place.layout.grid[0]) == PAPER_PLACES[name]


@pytest.mark.parametrize("name", FAMILIES)
def test_features_agree_with_timm(name):
    """Channels and stride against what timm itself says, map against forward_features by hand."""
    method, size = a2mim_of(name), FAMILIES[name][0]
    backbone, structure = method.backbone, method.structure
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        features = backbone.eval().forward_features(images)
    x = to_map(features, structure.features)
    assert structure.features.channels == x.shape[1] == backbone.num_features
    assert x.shape[2:] == (size // structure.stride,) * 2
    info = backbone.feature_info
    entries = info.info if hasattr(info, "info") else info
    assert structure.stride == entries[-1]["reduction"]
    if name == "resnet50":
        assert (structure.places[structure.default].module, structure.features.channels) == ("layer4", 2048)
    if features.ndim == 3:  # patch tokens are the last ones, in raster order
        assert torch.equal(x.flatten(2).transpose(1, 2), features[:, features.shape[1] - x.shape[2] * x.shape[3] :])


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18", "swin_tiny_patch4_window7_224", "densenet121"])
def test_reading_leaves_the_backbone_as_it_was(name):
    backbone, size = make(name)
    backbone.train()
    next(m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d | nn.LayerNorm)).eval()
    modes = [m.training for m in backbone.modules()]
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    random = torch.get_rng_state()
    read_structure(backbone, size)
    after = backbone.state_dict()
    assert list(before) == list(after) and all(torch.equal(before[k], after[k]) for k in before)
    assert modes == [m.training for m in backbone.modules()]
    assert all(p.grad is None for p in backbone.parameters())
    assert torch.equal(random, torch.get_rng_state())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in backbone.modules())


def test_unused_parameters_are_those_that_get_no_gradient():
    backbone, size = make("convnext_atto", num_classes=7)
    structure = read_structure(backbone, size)
    backbone.forward_features(torch.randn(2, 3, size, size)).sum().backward()
    without = {name for name, p in backbone.named_parameters() if p.grad is None}
    assert without == set(structure.unused) == {"head.norm.weight", "head.norm.bias", "head.fc.weight", "head.fc.bias"}


def test_own_image_size():
    assert read_structure(make("vit_tiny_patch16_224")[0]).image_size == 64
    assert read_structure(make("mixer_s32_224")[0]).image_size == 64
    assert read_structure(make("mobilenetv3_small_050")[0]).image_size == 224


def test_places_are_found_by_number_and_by_name():
    backbone, size = make("resnet18")
    structure = read_structure(backbone, size)
    assert [place.module for place in structure.places] == ["layer1", "layer2", "layer3", "layer4"]
    assert find_place(backbone, structure, 1) == find_place(backbone, structure, "1") == structure.places[1]
    inner = find_place(backbone, structure, "layer3.1")
    assert (inner.side, inner.layout) == ("input", Layout("NCHW", 64, (4, 4)))

    backbone, size = make("vit_tiny_patch16_224")
    structure = read_structure(backbone, size)
    assert [str(p).split(" (")[0] for p in structure.places] == [
        "output of patch_embed",
        *(f"input of blocks.{i}" for i in range(4)),
    ]
    assert [p.layout.prefix for p in structure.places] == [0, 1, 1, 1, 1]
    assert find_place(backbone, structure, "patch_embed") == structure.places[0]


@pytest.mark.parametrize("at", [4, -1, "layer5", "fc"])
def test_a_place_that_is_missing_is_refused_with_those_there_are(at):
    backbone, size = make("resnet18")
    structure = read_structure(backbone, size)
    with pytest.raises(ValueError, match=r"no place .* It has 0: input of layer1 \(64 channels, 16×16\); 1: .*layer4"):
        find_place(backbone, structure, at)


def test_a_place_that_a_branch_goes_around_is_refused():
    backbone, size = make("resnet18")
    structure = read_structure(backbone, size)
    with pytest.raises(ValueError, match=r"A branch of ResNet goes around the input of layer3\.0\.conv2"):
        find_place(backbone, structure, "layer3.0.conv2")


def test_tokens_in_another_order_than_the_rasters_are_no_place():
    """Hiera groups tokens by mask unit behind its patch embedding."""
    backbone = timm.create_model("hiera_tiny_224", num_classes=0, img_size=96)
    structure = read_structure(backbone, 96)
    assert [place.module for place in structure.places] == ["patch_embed"]
    with pytest.raises(ValueError, match=r"no place 'blocks\.1'"):
        find_place(backbone, structure, "blocks.1")


class Pooled(nn.Module):
    def forward_features(self, x):
        return x.mean((2, 3))


class Bare(nn.Module):
    """A map of features, and nothing to go by inside."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 3, 4, 4))

    def forward_features(self, x):
        return nn.functional.conv2d(x, self.weight, stride=4)


@pytest.mark.parametrize(
    "backbone, size, message",
    [
        (torchvision.models.resnet18, 64, "ResNet has no forward_features"),
        (lambda: nn.Sequential(nn.Conv2d(3, 8, 1)), 64, "Sequential has no forward_features"),
        (lambda: timm.create_model("coat_tiny", num_classes=0, img_size=64), 64, "returns a list, not one map"),
        (lambda: timm.create_model("coat_lite_tiny", num_classes=0, img_size=64), 64, "is no map of the image"),
        (lambda: timm.create_model("hrnet_w18_small", num_classes=0), 64, "no place for a mask token.*feature_info"),
        (lambda: timm.create_model("vit_tiny_patch16_224", img_size=64), 96, "does not run on images of 96×96 px"),
        (lambda: timm.create_model("convmixer_768_32"), 64, "9×9 map of a 64×64 image"),
        (Bare, 64, "no place for a mask token"),
    ],
)
def test_unsupported_backbones_say_what_is_missing(backbone, size, message):
    with pytest.raises(ValueError, match=message):
        read_structure(backbone(), size)


def test_a_backbone_that_pools_is_unsupported():
    with pytest.raises(ValueError, match=r"shape \(3,\) per image, which is no map"):
        read_structure(Pooled(), 64)


def test_a_frozen_backbone_can_be_read():
    backbone, size = make("resnet18", num_classes=3)
    for parameter in backbone.layer1.parameters():
        parameter.requires_grad = False
    assert read_structure(backbone, size).unused == ("fc.weight", "fc.bias")
    assert read_structure(backbone.requires_grad_(False), size).unused == ()


def test_layouts():
    x_BCHW = torch.randn(2, 5, 3, 4)
    assert to_map(x_BCHW, Layout("NCHW", 5, (3, 4))) is x_BCHW
    assert torch.equal(to_map(x_BCHW.permute(0, 2, 3, 1), Layout("NHWC", 5, (3, 4))), x_BCHW)
    tokens = torch.cat([torch.randn(2, 2, 5), x_BCHW.flatten(2).transpose(1, 2)], 1)
    assert torch.equal(to_map(tokens, Layout("NLC", 5, (3, 4), prefix=2), aspect=3 / 4), x_BCHW)
    assert token_grid(14 * 28, 0.5) == (14, 28) and token_grid(1, 1.0) == (1, 1)
