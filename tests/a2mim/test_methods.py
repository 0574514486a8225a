import dataclasses
from itertools import cycle
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from a2mim.bounds import check
from a2mim.losses import fourier_loss
from a2mim.methods import METHODS, A2MIMSettings, Method, SimMIMSettings, Supervised, SupervisedSettings
from a2mim.methods.a2mim import A2MIM
from a2mim.methods.simmim import SimMIM
from a2mim.settings import Augmentation
from a2mim.shapes import shapes_alone
from a2mim.targets import hog
from tests.a2mim.families import FAMILIES, a2mim_of, make

pytestmark = pytest.mark.xdist_group("families")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def a2mim(name, **settings) -> Any:
    backbone, size = make(name)
    return A2MIM(backbone, A2MIMSettings(**({"image_size": size, "mask_cell": size // 4} | settings)))


def images(name, batch=2, seed=0):
    size = FAMILIES[name][0]
    return torch.randn(batch, 3, size, size, generator=seeded(seed))


@pytest.mark.parametrize("name", FAMILIES)
def test_one_step_of_every_family(name):
    """Gradient reaches the mask token, the decoder and the stem; what gets none is frozen; the export is timm's own."""
    method = a2mim_of(name).train()
    method.zero_grad()
    out = method({"image": images(name)}, seeded())
    out["loss"].backward()
    assert out["loss"].isfinite() and not out["spatial"].requires_grad and not out["fourier"].requires_grad
    assert out["loss"].item() == pytest.approx(out["spatial"].item() + 0.1 * out["fourier"].item(), rel=1e-6)
    assert (method.mask_token.token_C.grad != 0).float().mean() > 0.5
    assert method.decoder[0].weight.grad.abs().max() > 0
    assert any(p.grad.abs().max() > 0 for p in list(method.backbone.parameters())[:8] if p.grad is not None)
    for parameter_name, parameter in method.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, parameter_name
    with shapes_alone():
        assert list(method.backbone.state_dict()) == list(make(name)[0].state_dict())


@pytest.mark.parametrize(
    "name, places",
    [
        ("vit_tiny_patch16_224", [0, 1, 2, "blocks.2", 4]),
        ("swin_tiny_patch4_window7_224", [0, 1, 2, "layers.2.blocks.1", 3]),
        ("resnet18", [0, "layer2.1", 1, 2, 3]),
        ("convnext_atto", [0, 1, 2, "stages.2.blocks.1", "stages.3"]),
    ],
)
def test_the_token_goes_into_any_stage_or_block(name, places):
    variants: Any = cycle([{}, {"mask_token": "replace"}, {"gamma_init": 1e-6}])
    for place, settings in zip(places, variants, strict=False):  # variants has no end
        method = a2mim(name, mask_at=place, **settings)
        method({"image": images(name)}, seeded())["loss"].backward()
        for parameter in method.mask_token.parameters():
            assert parameter.grad.abs().max() > 0, (place, settings)


def loss_by_hand(prediction, image, mask, weight):
    pixels = F.interpolate(mask[:, None], image.shape[2:])
    spatial = ((prediction - image).abs() * pixels).sum() / (pixels.sum() + 1e-5) / 3
    return spatial + weight * fourier_loss(prediction, image, pixels)


@pytest.mark.parametrize("gamma", [None, 0.5])
def test_a2mim_on_a_resnet_by_hand(gamma):
    """Layer by layer: mean colour, token into the input of layer4, 1×1 convolution, pixel shuffle."""
    method = a2mim("resnet18", gamma_init=gamma).eval()
    image, net = images("resnet18"), method.backbone
    out = method({"image": image}, seeded(3))
    mask = method.draw_mask(image, seeded(3))
    pixels = mask.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, None]
    x = image * (1 - pixels) + image.mean((2, 3), keepdim=True) * pixels
    x = net.layer3(net.layer2(net.layer1(net.maxpool(net.act1(net.bn1(net.conv1(x)))))))
    m, token = mask[:, None], method.mask_token.token_C.view(-1, 1, 1)  # layer4 sees 4×4 positions, one a cell
    x = x * (1 - m) + (1.0 if gamma is None else gamma) * x * m + token * m
    x = F.pixel_shuffle(F.conv2d(net.layer4(x), method.decoder[0].weight, method.decoder[0].bias), 32)
    assert out["loss"].item() == pytest.approx(loss_by_hand(x, image, mask, 0.1).item(), rel=1e-5)


def test_simmim_on_a_vit_by_hand():
    """Token replacement behind the patch embedding, before positions and class token; pixels as they are; L1."""
    backbone, _ = make("vit_tiny_patch16_224")
    method: Any = SimMIM(backbone, SimMIMSettings(mask_cell=32)).eval()
    image = images("vit_tiny_patch16_224")
    out = method({"image": image}, seeded(3))
    mask = method.draw_mask(image, seeded(3))
    w = mask.repeat_interleave(2, 1).repeat_interleave(2, 2).flatten(1)[..., None]
    x = backbone.patch_embed(image)
    x = x * (1 - w) + method.mask_token.token_C * w
    x = backbone.norm(backbone.blocks(backbone.norm_pre(backbone._pos_embed(x))))
    x = method.decoder(x[:, 1:].transpose(1, 2).reshape(2, -1, 4, 4))
    assert list(out) == ["loss"]
    assert out["loss"].item() == pytest.approx(loss_by_hand(x, image, mask, 0.0).item(), rel=1e-5)


@pytest.mark.parametrize("name", ["a2mim", "simmim"])
def test_the_published_convnexts_by_hand(name):
    """The last norm comes before the decoder; SimMIM adds its token behind the stem and fills nothing."""
    backbone: Any = timm.create_model("convnext_atto", num_classes=0, head_norm_first=True)
    nn.init.uniform_(backbone.norm_pre.weight)
    if name == "a2mim":
        settings = A2MIMSettings(image_size=64, mask_cell=32, fourier_weight=0.0, gamma_init=0.5)
        method: Any = A2MIM(backbone, settings).eval()
    else:
        with pytest.warns(UserWarning, match="leak"):
            method = SimMIM(backbone, SimMIMSettings(image_size=64, mask_token="add")).eval()
    image = torch.randn(2, 3, 64, 64, generator=seeded())
    out = method({"image": image}, seeded(3))
    mask = method.draw_mask(image, seeded(3))
    token = method.mask_token.token_C.view(-1, 1, 1)
    if name == "a2mim":
        m = mask[:, None]
        pixels = m.repeat_interleave(32, 2).repeat_interleave(32, 3)
        x = image * (1 - pixels) + image.mean((2, 3), keepdim=True) * pixels
        x = backbone.stages[3].downsample(backbone.stages[2](backbone.stages[1](backbone.stages[0](backbone.stem(x)))))
        x = backbone.stages[3].blocks(x * (1 - m) + 0.5 * x * m + token * m)
    else:
        m = mask[:, None].repeat_interleave(8, 2).repeat_interleave(8, 3)  # 16×16 positions behind the stem
        x = backbone.stages(backbone.stem(image) + token * m)
    norm = backbone.norm_pre
    mean, variance = x.mean(1, keepdim=True), x.var(1, unbiased=False, keepdim=True)
    x = (x - mean) / (variance + 1e-6).sqrt() * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
    x = F.pixel_shuffle(F.conv2d(x, method.decoder[0].weight, method.decoder[0].bias), 32)
    assert "norm_pre.weight" not in method.structure.unused
    assert out["loss"].item() == pytest.approx(loss_by_hand(x, image, mask, 0.0).item(), rel=1e-5)


class Painted(nn.Module):
    """A decoder whose prediction is a parameter."""

    def __init__(self, prediction):
        super().__init__()
        self.prediction = nn.Parameter(prediction)

    def forward(self, features):
        return self.prediction


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "resnet18", "convnext_atto"])
@pytest.mark.parametrize("fourier", ["paper", "released", "released_plain"])
def test_visible_cells_get_no_gradient(name, fourier):
    method, image = a2mim(name, fourier=fourier), images(name)
    method.decoder = Painted(torch.randn(image.shape, generator=seeded(1)))
    out = method({"image": image}, seeded(3))
    out["loss"].backward()
    masked = F.interpolate(method.draw_mask(image, seeded(3))[:, None], image.shape[2:]).expand_as(image) > 0
    gradient = method.decoder.prediction.grad
    assert gradient[~masked].abs().max() == 0 and (gradient[masked] != 0).all()
    with torch.no_grad():
        method.decoder.prediction[~masked] += 10
    again = method({"image": image}, seeded(3))
    assert again["spatial"] == out["spatial"] and again["fourier"] != out["fourier"]


def test_without_the_fourier_loss_the_loss_does_not_know_visible_predictions():
    method, image = a2mim("resnet18", fourier_weight=0.0), images("resnet18")
    method.decoder = Painted(torch.randn(image.shape, generator=seeded(1)))
    loss = method({"image": image}, seeded(3))["loss"]
    masked = F.interpolate(method.draw_mask(image, seeded(3))[:, None], image.shape[2:]).expand_as(image) > 0
    with torch.no_grad():
        method.decoder.prediction[~masked] = torch.randn(int((~masked).sum()))
    assert method({"image": image}, seeded(3))["loss"] == loss


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18"])
def test_the_mask_comes_from_the_generator(name):
    method, batch = a2mim(name).eval(), {"image": images(name)}
    first = method(batch, seeded(0))["loss"]
    torch.manual_seed(99)
    assert method(batch, seeded(0))["loss"] == first != method(batch, seeded(1))["loss"]


def test_hog_as_target():
    method = a2mim("resnet18", target="hog", fourier_weight=0.0).eval()
    image = images("resnet18")
    loss = method({"image": image}, seeded(3))["loss"]
    mask = method.draw_mask(image, seeded(3))
    predicted = method.decoder(method.encode(image, mask)).detach().numpy()
    assert predicted.shape == (2, 9, 8, 8)
    m = np.repeat(np.repeat(mask.numpy(), 2, 1), 2, 2)[:, None]  # cells of 16 px are 2×2 histograms
    expected = (np.abs(predicted - hog(image).numpy()) * m).sum() / (m.sum() + 1e-5) / 9
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert method.pictures({"image": image}, seeded()) is None


def test_images_that_are_not_square():
    method = a2mim("resnet18", mask_at=2)
    image = torch.randn(2, 3, 64, 96)
    assert method({"image": image}, seeded())["loss"].isfinite()
    assert method.draw_mask(image, seeded()).shape == (2, 4, 6)


def test_learning_lowers_the_loss():
    """One batch, one mask, a few steps: the parts work together."""
    torch.manual_seed(0)
    method = a2mim("mobilenetv3_small_050", gamma_init=1e-6)
    smooth = F.interpolate(torch.randn(4, 3, 4, 4, generator=seeded()), (64, 64), mode="bilinear")
    optimizer = torch.optim.AdamW(method.parameters(), 3e-3)
    losses = []
    for _ in range(25):
        loss = method({"image": smooth}, seeded(3))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18"])
def test_pictures(name):
    method, image = a2mim(name).train(), images(name)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    pictures = method.pictures({"image": image}, seeded(3))
    assert pictures is not None and list(pictures) == ["original", "masked", "predicted", "composite"]
    assert all(torch.equal(before[k], v) for k, v in method.state_dict().items())
    assert all(m.training for m in method.modules())
    assert all(x.shape == image.shape and not x.requires_grad for x in pictures.values())
    masked = F.interpolate(method.draw_mask(image, seeded(3))[:, None], image.shape[2:]).expand_as(image) > 0
    assert torch.equal(pictures["original"], image)
    assert torch.equal(pictures["masked"][~masked], image[~masked])
    assert torch.allclose(pictures["masked"][masked], image.mean((2, 3), keepdim=True).expand_as(image)[masked])
    assert torch.equal(pictures["composite"], torch.where(masked, pictures["predicted"], image))


def test_what_the_optimizer_is_told():
    method = a2mim("resnet18", gamma_init=1e-6, token_lr_scale=0.1)
    names = dict(method.named_parameters())
    assert method.lr_scales() == {"mask_token.token_C": 0.1}
    assert {"mask_token.token_C", "mask_token.gamma_C"} <= method.no_weight_decay() <= set(names)
    method = a2mim("vit_tiny_patch16_224", gamma_lr_scale=0.1)
    assert method.lr_scales() == {}
    assert {"backbone.pos_embed", "backbone.cls_token", "mask_token.token_C"} <= method.no_weight_decay()


def test_no_mask_no_change():
    """Outside of the method the backbone is timm's own."""
    backbone, size = make("resnet18")
    image = images("resnet18")
    plain = backbone.eval()(image)
    method = A2MIM(backbone, A2MIMSettings(image_size=size, mask_cell=16)).eval()
    method({"image": image}, seeded())
    assert torch.equal(method.backbone(image), plain)


def test_compiled():
    method, batch = a2mim("resnet18", gamma_init=0.5).eval(), {"image": images("resnet18")}
    expected = method(batch, seeded())["loss"]
    method.compile(backend="eager")
    for _ in range(2):
        assert method(batch, seeded())["loss"].item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"mask_cell": 48}, "A mask cell of 48 px does not divide an image of 64×64 px"),
        ({"mask_ratio": 1.0}, "masks 16 of 16 cells"),
        ({"mask_ratio": 0.1, "mask_cell": 32, "mask_strategy": "whole_blocks"}, "masks 0 of 4 cells"),
        ({"mask_at": 9}, r"ResNet has no place 9 .*3: input of layer4"),
        ({"target": "hog"}, "set fourier_weight to 0"),
        ({"target": "hog", "fourier_weight": 0.0, "mask_cell": 4}, "hog has cells of 8 px"),
        ({"mask_token": "replace", "gamma_init": 1e-6}, "needs an added mask token"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        a2mim("resnet18", **settings)


def test_whole_blocks_that_leave_a_cell_visible_are_no_misfit():
    """Of 2×2 cells 0.8 are the nearest whole number, 3, where single cells would be rounded up to all 4."""
    method = a2mim("resnet18", mask_ratio=0.8, mask_cell=32, mask_strategy="whole_blocks")
    assert 1 <= method.draw_mask(images("resnet18", 50), seeded()).sum((1, 2)).max() <= 3
    with pytest.raises(ValueError, match="masks 4 of 4 cells"):
        a2mim("resnet18", mask_ratio=0.8, mask_cell=32)


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match="must be a multiple of its stride of 32 px"):
        a2mim("resnet18")({"image": torch.randn(2, 3, 80, 80)}, seeded())
    with pytest.raises(ValueError, match="does not divide an image of 72×72 px"):
        a2mim("resnet18")({"image": torch.randn(2, 3, 72, 72)}, seeded())


def classifier(classes=5):
    """With logits that are far apart."""
    backbone, _ = make("mobilenetv3_small_050", num_classes=classes)
    if classes:
        nn.init.normal_(backbone.classifier.weight, std=3.0)
    return backbone.eval()


def test_supervised_cross_entropy():
    backbone, image, target = classifier(), torch.randn(4, 3, 64, 64), torch.tensor([0, 4, 2, 2])
    p = backbone(image).detach().double().numpy()
    log_p = p - np.log(np.exp(p).sum(1, keepdims=True))
    hard = 0.9 * np.eye(5)[target] + 0.1 / 5
    out = Supervised(backbone, SupervisedSettings())({"image": image, "target": target}, seeded())
    assert out["loss"].item() == pytest.approx(-(hard * log_p).sum(1).mean(), rel=1e-5)
    assert out["accuracy"].item() == (p.argmax(1) == target.numpy()).mean() and not out["accuracy"].requires_grad
    soft = torch.rand(4, 5, generator=seeded()).softmax(1)  # smoothed by mixup
    out = Supervised(backbone, SupervisedSettings())({"image": image, "target": soft}, seeded())
    assert out["loss"].item() == pytest.approx(-(soft.numpy() * log_p).sum(1).mean(), rel=1e-5)


def test_supervised_binary_cross_entropy():
    backbone, image = classifier(), torch.randn(4, 3, 64, 64)
    soft = torch.tensor([[0.7, 0.3, 0, 0, 0], [0.1, 0.9, 0, 0, 0], [1.0, 0, 0, 0, 0], [0, 0, 0, 0.5, 0.5]])
    p = 1 / (1 + np.exp(-backbone(image).detach().double().numpy()))
    method = Supervised(backbone, SupervisedSettings(loss="bce", label_smoothing=0.0, bce_threshold=0.2))
    binary = (soft > 0.2).numpy()
    expected = -(binary * np.log(p) + (1 - binary) * np.log(1 - p)).mean()
    assert method({"image": image, "target": soft}, seeded())["loss"].item() == pytest.approx(expected, rel=1e-5)
    loss = method({"image": image, "target": torch.tensor([1, 0, 3, 3])}, seeded())["loss"].item()
    hard = np.eye(5)[[1, 0, 3, 3]]
    assert loss == pytest.approx(-(hard * np.log(p) + (1 - hard) * np.log(1 - p)).mean(), rel=1e-5)


def test_supervised_binary_cross_entropy_summed_over_classes():
    """OpenMixup's RSB: soft labels as they are; the sum over classes, divided by the batch."""
    backbone, image = classifier(), torch.randn(4, 3, 64, 64)
    soft = torch.tensor([[0.7, 0.3, 0, 0, 0], [0.1, 0.9, 0, 0, 0], [1.0, 0, 0, 0, 0], [0, 0, 0, 0.5, 0.5]])
    p = 1 / (1 + np.exp(-backbone(image).detach().double().numpy()))
    hard = np.eye(5)[[1, 0, 3, 3]]
    smoothed = np.where(hard == 1, 1 - 0.2 + 0.2 / 5, 0.2 / 5)
    for smoothing, target, y in (
        (0.2, soft, soft.numpy()),
        (0.0, torch.tensor([1, 0, 3, 3]), hard),
        (0.2, torch.tensor([1, 0, 3, 3]), smoothed),
    ):
        method = Supervised(backbone, SupervisedSettings(loss="bce_sum", label_smoothing=smoothing))
        expected = -(y * np.log(p) + (1 - y) * np.log(1 - p)).sum() / 4
        assert method({"image": image, "target": target}, seeded())["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_a_threshold_that_no_loss_has_is_refused():
    check(SupervisedSettings(loss="bce", bce_threshold=0.2))
    for loss in ("ce", "bce_sum"):
        with pytest.raises(ValueError, match="bce_threshold of supervised has no effect without loss=bce"):
            check(SupervisedSettings(loss=loss, bce_threshold=0.2))


def test_supervised_needs_a_classifier():
    with pytest.raises(ValueError, match="has no classifier"):
        Supervised(classifier(0), SupervisedSettings())


@pytest.mark.parametrize("name", METHODS)
def test_methods_keep_the_contract(name):
    crops = {"dynamic_img_size": True} if name == "dino" else {}
    network = "resnet18" if name == "spark" else "vit_tiny_patch16_224"
    backbone, _ = make(network, num_classes=5, **crops)
    settings: Any = METHODS[name].Settings()
    narrow = {"mask_cell": 32 if name == "spark" else 16, "hidden": 64, "prototypes": 64, "local_crops": 2}
    narrow |= {"decoder_width": 96, "decoder_depth": 1}
    settings = dataclasses.replace(settings, **{key: n for key, n in narrow.items() if hasattr(settings, key)})
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.anything = 1
    method = METHODS[name](backbone, settings)
    assert isinstance(method, Method) and method.backbone is backbone
    sides = [view.image_size for view in method.views(Augmentation(image_size=64))]
    views = [torch.randn(2, 3, side, side, generator=seeded()) for side in sides]
    shown = views if len(views) > 1 else views[0]
    batch = {"image": shown, "target": torch.tensor([1, 2]), "index": torch.tensor([7, 8])}
    out = method(batch, seeded())
    out["loss"].backward()
    assert out["loss"].shape == () and all(not v.requires_grad for k, v in out.items() if k != "loss")
    assert all((p.grad is not None) == p.requires_grad for p in method.parameters())
    names = dict(method.named_parameters())
    assert method.no_weight_decay() <= set(names) and set(method.lr_scales()) <= set(names)
    method.after_step(0.4, 0.5)
    assert (method.pictures(batch, seeded()) is None) == (name in ("supervised", "maskfeat") or len(views) > 1)


def test_a_whole_number_is_a_gamma_too():
    assert a2mim("resnet18", gamma_init=1).mask_token.gamma_C.is_floating_point()
