"""Masked pixels must reach neither the encoder's output nor the prediction, except through the fill colour."""

import warnings

import pytest
import torch

from a2mim.masking import pixel_mask
from a2mim.methods import A2MIMSettings, SimMIMSettings
from a2mim.methods.a2mim import A2MIM
from a2mim.methods.simmim import SimMIM
from tests.a2mim.families import FAMILIES, a2mim_of, make

pytestmark = pytest.mark.xdist_group("families")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def outputs(method, image, mask):
    with torch.no_grad():
        features = method.eval().encode(image, mask)
        return features, method.decoder(features)


def case(method, size):
    """Images, masks, the masked pixels, and the images with other colours in them."""
    image = torch.randn(2, 3, size, size, generator=seeded(1))
    mask = method.draw_mask(image, seeded(2))
    masked = pixel_mask(mask, (size, size)).expand_as(image) > 0
    other = torch.where(masked, 5 * torch.randn(image.shape, generator=seeded(3)), image)
    return image, mask, masked, other


@pytest.mark.parametrize("name", FAMILIES)
def test_a2mim_sees_no_masked_pixel(name):
    method = a2mim_of(name)
    image, mask, masked, other = case(method, FAMILIES[name][0])
    before, after = outputs(method, image, mask), outputs(method, other, mask)
    assert torch.equal(before[0], after[0]) and torch.equal(before[1], after[1])
    assert not method.leaks
    # and the test can fail: visible pixels do reach both
    changed = outputs(method, torch.where(masked, image, image + 1), mask)
    assert not torch.equal(before[0], changed[0]) and not torch.equal(before[1], changed[1])


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "resnet18", "convnext_atto"])
def test_the_published_fill_knows_masked_pixels_by_their_mean_only(name):
    backbone, size = make(name)
    method = A2MIM(backbone, A2MIMSettings(image_size=size, mask_cell=size // 4))
    image, mask, masked, other = case(method, size)
    shuffled = image.clone()
    for b in range(2):
        for c in range(3):
            values = image[b, c][masked[b, c]]
            shuffled[b, c][masked[b, c]] = values[torch.randperm(len(values), generator=seeded())]
    before, same_mean = outputs(method, image, mask), outputs(method, shuffled, mask)
    assert not torch.equal(image, shuffled)
    for a, b in zip(before, same_mean, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(before[0], outputs(method, other, mask)[0])  # another mean, another colour


@pytest.mark.parametrize(
    "name",
    ["vit_tiny_patch16_224", "beit_base_patch16_224", "swin_tiny_patch4_window7_224", "mixer_s32_224", "convnext_atto"],
)
def test_simmim_needs_no_fill_where_the_embedding_is_made_of_patches(name):
    backbone, size = make(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method = SimMIM(backbone, SimMIMSettings(image_size=size, mask_cell=32))
    image, mask, _, other = case(method, size)
    before, after = outputs(method, image, mask), outputs(method, other, mask)
    assert torch.equal(before[0], after[0]) and torch.equal(before[1], after[1]) and not method.leaks


@pytest.mark.parametrize("name", ["resnet18", "regnetx_002", "efficientnet_b0", "densenet121", "vgg11"])
def test_published_simmim_on_a_cnn_leaks_and_says_so(name):
    backbone, size = make(name)
    with pytest.warns(UserWarning, match="masked pixels leak into the encoder"):
        method = SimMIM(backbone, SimMIMSettings(image_size=size, mask_cell=16))
    image, mask, _, other = case(method, size)
    before, after = outputs(method, image, mask), outputs(method, other, mask)
    assert method.leaks
    assert (before[0] - after[0]).abs().max() > 1e-3 * before[0].abs().max()
    assert (before[1] - after[1]).abs().max() > 1e-3 * before[1].abs().max()

    backbone, size = make(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        closed = SimMIM(backbone, SimMIMSettings(image_size=size, mask_cell=16, fill="visible_mean"))
    before, after = outputs(closed, image, mask), outputs(closed, other, mask)
    assert torch.equal(before[0], after[0]) and not closed.leaks


def test_a_mask_cell_smaller_than_the_patch_leaks():
    with pytest.warns(UserWarning, match="leak"):
        assert SimMIM(make("vit_tiny_patch16_224")[0], SimMIMSettings(mask_cell=8)).leaks
