"""Saliency of cells: attributions against autograd and closed forms, attention against its formula."""

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

from interactions.grid import PatchGrid
from interactions.saliency import SALIENCIES, cell_saliency, last_attention, token_grid
from tests.interactions.tiny import CLASSES, SIZE, network

IMAGES = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([1, 4, 0])
ABSENT = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def vit(**changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        options = {
            "img_size": SIZE,
            "patch_size": 3,
            "embed_dim": 12,
            "depth": 2,
            "num_heads": 2,
            "num_classes": CLASSES,
        }
        model = timm.models.VisionTransformer(**(options | changes)).eval()
        for parameter in model.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
    return model


def cells(map_BHW, side):
    """Sums over equal cells, by NumPy."""
    size = SIZE // side
    return np.asarray(map_BHW).reshape(len(map_BHW), side, size, side, size).sum((2, 4)).reshape(len(map_BHW), -1)


def test_gradient_is_that_of_autograd():
    x_BCHW = IMAGES.clone().requires_grad_()
    network()(x_BCHW)[torch.arange(3), LABELS].sum().backward()
    assert x_BCHW.grad is not None
    saliency = cell_saliency("gradient", network(), IMAGES, LABELS, ABSENT, PatchGrid(4))
    np.testing.assert_allclose(saliency, cells(x_BCHW.grad.abs().sum(1), 4), rtol=1e-5)
    assert saliency.dtype == torch.float32 and saliency.shape == (3, 16)


def test_integrated_gradients_of_a_linear_model_are_its_terms():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, CLASSES))
    saliency = cell_saliency("integrated_gradients", model, IMAGES, LABELS, ABSENT, PatchGrid(2))
    weights_BCHW = model[1].weight.detach()[LABELS].view_as(IMAGES)
    np.testing.assert_allclose(saliency, cells((weights_BCHW * (IMAGES - ABSENT)).sum(1), 2), rtol=1e-3, atol=1e-5)


def test_integrated_gradients_add_up_to_the_difference_of_the_logits():
    model = network()
    saliency = cell_saliency("integrated_gradients", model, IMAGES, LABELS, ABSENT, PatchGrid(3))
    with torch.no_grad():
        difference = (model(IMAGES) - model(ABSENT))[torch.arange(3), LABELS]
    np.testing.assert_allclose(saliency.sum(1), difference, atol=0.05 * float(difference.abs().max()))


def test_cells_that_do_not_divide_the_image_share_out_every_pixel():
    seven = cell_saliency("gradient", network(), IMAGES, LABELS, ABSENT, PatchGrid(7))
    whole = cell_saliency("gradient", network(), IMAGES, LABELS, ABSENT, PatchGrid(2))
    np.testing.assert_allclose(seven.sum(1), whole.sum(1), rtol=1e-5)


def attention_by_formula(model, images_BCHW):
    """softmax(q kᵀ / √d) of the last block, from its own weights: B×heads×tokens×tokens."""
    inputs = []
    handle = model.blocks[-1].norm1.register_forward_hook(lambda _, given, output: inputs.append(output))
    with torch.no_grad():
        model(images_BCHW)
        handle.remove()
        batch, tokens, width = inputs[0].shape
        q, k, _ = model.blocks[-1].attn.qkv(inputs[0]).view(batch, tokens, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
    scores = np.einsum("bhqd,bhkd->bhqk", q.double().numpy(), k.double().numpy()) / np.sqrt(width // 2)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


@pytest.mark.parametrize("options", [{}, {"reg_tokens": 3}, {"class_token": False, "global_pool": "avg"}], ids=str)
def test_attention_is_its_formula(options):
    model = vit(**options)
    extra = model.num_prefix_tokens
    expected_BQK = attention_by_formula(model, IMAGES).mean(1)
    weights_BQK, found = last_attention(model, IMAGES)
    np.testing.assert_allclose(weights_BQK, expected_BQK, rtol=1e-4)
    assert found == extra
    mean = cell_saliency("mean_attention", model, IMAGES, LABELS, ABSENT, PatchGrid(4))
    np.testing.assert_allclose(mean, expected_BQK[:, extra:, extra:].mean(1), rtol=1e-4)
    if extra == 0:
        with pytest.raises(ValueError, match="has no class token: take the saliency mean_attention"):
            cell_saliency("class_attention", model, IMAGES, LABELS, ABSENT, PatchGrid(4))
        return
    expected = expected_BQK[:, 0, extra:]
    np.testing.assert_allclose(
        cell_saliency("class_attention", model, IMAGES, LABELS, ABSENT, PatchGrid(4)), expected, rtol=1e-4
    )
    coarse = cell_saliency("class_attention", model, IMAGES, LABELS, ABSENT, PatchGrid(2))
    np.testing.assert_allclose(coarse, expected.reshape(3, 2, 2, 2, 2).sum((2, 4)).reshape(3, 4), rtol=1e-4)


def test_registers_without_a_class_token_are_no_class_token():
    model = vit(class_token=False, reg_tokens=2, global_pool="avg")
    with pytest.raises(ValueError, match="has no class token"):
        cell_saliency("class_attention", model, IMAGES, LABELS, ABSENT, PatchGrid(4))


def test_the_model_is_left_as_it_was():
    model = vit()
    with torch.no_grad():
        before = model(IMAGES)
        fused = [block.attn.fused_attn for block in model.blocks]
        for name in SALIENCIES:
            cell_saliency(name, model, IMAGES, LABELS, ABSENT, PatchGrid(4))
        assert torch.equal(model(IMAGES), before)
    assert [block.attn.fused_attn for block in model.blocks] == fused
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_torch_multihead_attention_is_understood():
    torch.manual_seed(0)
    model = torchvision.models.VisionTransformer(SIZE, 3, 2, 2, 12, 24, num_classes=CLASSES).eval()
    weights_BQK, extra = last_attention(model, IMAGES)
    assert extra == 1 and weights_BQK.shape == (3, 17, 17)
    np.testing.assert_allclose(weights_BQK.sum(2), 1, rtol=1e-5)
    inputs = []
    layer = model.encoder.layers[-1]
    layer.ln_1.register_forward_hook(lambda _, given, output: inputs.append(output))
    with torch.no_grad():
        model(IMAGES)
        _, expected_BQK = layer.self_attention(inputs[0], inputs[0], inputs[0], need_weights=True)
    torch.testing.assert_close(weights_BQK, expected_BQK)
    saliency = cell_saliency("class_attention", model, IMAGES, LABELS, ABSENT, PatchGrid(4))
    torch.testing.assert_close(saliency, expected_BQK[:, 0, 1:])


def test_windows_do_not_count_but_a_last_layer_whose_window_is_the_image_does():
    options = {"img_size": 32, "patch_size": 4, "embed_dim": 8, "num_heads": (1, 2), "num_classes": CLASSES}
    images = torch.randn(2, 3, 32, 32)
    model = timm.models.SwinTransformer(
        depths=(1, 1), window_size=4, **options
    ).eval()  # 8×8 in windows, then 4×4 whole
    weights_BQK, extra = last_attention(model, images)
    assert weights_BQK.shape == (2, 16, 16) and extra == 0
    small = timm.models.SwinTransformer(depths=(1, 1), window_size=2, **options).eval()
    with pytest.raises(ValueError, match="SwinTransformer has no attention over the patches of the whole image"):
        last_attention(small, images)


@pytest.mark.parametrize("name", ["class_attention", "mean_attention"])
def test_a_network_without_attention_is_told_what_to_take(name):
    with pytest.raises(ValueError, match=r"Sequential has no attention .*: take the saliency gradient or"):
        cell_saliency(name, network(), IMAGES, LABELS, ABSENT, PatchGrid(4))


@pytest.mark.parametrize(
    ("patches", "height", "width", "grid"),
    [
        (196, 224, 224, (14, 14)),
        (98, 112, 224, (7, 14)),
        (197, 224, 224, None),
        (0, 224, 224, None),
        (12, 8, 6, (4, 3)),
    ],
)
def test_token_grid(patches, height, width, grid):
    assert token_grid(patches, height, width) == grid


def test_attention_between_channels_is_none_over_patches():
    class Channels(nn.Module):
        """Cross-covariance attention, as in XCiT: the channels weigh each other."""

        def __init__(self):
            super().__init__()
            self.attn_drop = nn.Dropout(0.1)

        def forward(self, x_BNC):
            weights_B1CC = self.attn_drop((x_BNC.mT @ x_BNC).softmax(-1)[:, None])
            return x_BNC @ weights_B1CC[:, 0]

    model = nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.Flatten(2), nn.Linear(9, 9), Transposed(), Channels()).eval()
    with pytest.raises(ValueError, match="has no attention over the patches"):
        last_attention(model, IMAGES)


class Transposed(nn.Module):
    def forward(self, x_BCN):
        return x_BCN.mT
