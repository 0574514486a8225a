"""MaskFeat: its target, its masks, and its loss, each against a computation of its own."""

import numpy as np
import pytest
import torch
from skimage.feature import hog as skimage_hog

from a2mim.methods.maskfeat import MaskFeat, MaskFeatSettings
from tests.a2mim.masked import images, resumed_and_whole, seeded, vit
from tests.a2mim.test_targets import released_hog


def maskfeat(backbone=None, **settings):
    torch.manual_seed(1)
    small = {"mask_cell": 8, "hog_cell": 4}
    return MaskFeat(vit() if backbone is None else backbone, MaskFeatSettings(**(small | settings)))


def histograms(image_CHW, cell):
    """(C, h, w, 9) by scikit-image, channel by channel."""
    options = {"orientations": 9, "pixels_per_cell": (cell, cell), "cells_per_block": (1, 1), "block_norm": "L2"}
    return np.stack([skimage_hog(x.double().numpy(), feature_vector=False, **options)[:, :, 0, 0] for x in image_CHW])


def test_the_paper_s_numbers():
    method = MaskFeat(vit(img_size=64, patch_size=16), MaskFeatSettings())
    assert method.decoder[0].weight.shape == (108, 16, 1, 1)  # 2×2 cells × 9 bins × 3 channels
    mask = method.draw_mask(images(64), seeded())
    assert mask.shape == (2, 4, 4) and mask.sum((1, 2)).tolist() == [6, 6]  # round(0.4 · 16), or seldom fewer
    drawn = MaskFeat(vit(img_size=32, patch_size=4), MaskFeatSettings(mask_cell=4, hog_cell=4))
    assert drawn.draw_mask(images(32).repeat(99, 1, 1, 1), seeded()).sum((1, 2)).unique().tolist() == [25, 26]


@pytest.mark.parametrize("kind", ["sobel", "central"])
def test_the_loss_cell_by_cell(kind):
    """Of every masked patch each HOG cell and channel, compared with the released layer's or scikit-image's."""
    method, image = maskfeat(hog=kind).eval(), images(32)
    loss = method({"image": image}, seeded(3))["loss"]
    mask = method.draw_mask(image, seeded(3))
    with torch.no_grad():
        prediction = method.decoder(method.encode(image, mask)).numpy()
    assert prediction.shape == (2, 27, 8, 8)
    errors = []
    for b in range(2):
        target = np.stack([released_hog(x.numpy(), 4) for x in image[b]])
        if kind == "central":
            target = histograms(image[b], 4)
        for row in range(8):
            for column in range(8):
                if mask[b, row // 2, column // 2]:
                    for channel in range(3):
                        predicted = prediction[b, 9 * channel : 9 * channel + 9, row, column]
                        errors.append(np.mean((predicted - target[channel, row, column]) ** 2))
    assert loss.item() == pytest.approx(np.mean(errors), rel=1e-5)


def test_a_linear_layer_predicts_the_cells_of_its_own_patch():
    """The paper's linear head: the four cells of a patch come from the token of that patch alone."""
    method = maskfeat()
    features = images(4).new_zeros(1, 16, 4, 4)
    before = method.decoder(features)
    features[0, :, 1, 2] = 1.0
    changed = (method.decoder(features) != before).any(1)[0]
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2:4, 4:6] = True
    assert torch.equal(changed, expected)


def test_visible_predictions_get_no_gradient_and_masked_pixels_are_not_seen():
    method, image = maskfeat(), images(32)
    mask = method.draw_mask(image, seeded(3))
    pixels = (mask.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None] > 0).expand_as(image)
    other = torch.where(pixels, images(32, seed=9), image)
    assert torch.equal(method.eval().encode(image, mask), method.encode(other, mask)) and not method.leaks
    prediction = torch.randn(2, 27, 8, 8, requires_grad=True)
    method.decoder.forward = lambda _: prediction
    method({"image": image}, seeded(3))["loss"].backward()
    masked = (mask.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, None] > 0).expand_as(prediction)
    assert prediction.grad[~masked].abs().max() == 0 and (prediction.grad[masked] != 0).all()
    assert method.pictures({"image": image}, seeded()) is None


def test_resume(tmp_path):
    resumed_and_whole(
        tmp_path,
        lambda: MaskFeat(vit(img_size=16, patch_size=4, depth=1), MaskFeatSettings(mask_cell=4, hog_cell=4)),
    )


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="HOG cells of 3 px must divide the mask cell of 8 px and the stride"):
        maskfeat(hog_cell=3)
    with pytest.raises(ValueError, match=r"HOG cells of 16 px .* stride of VisionTransformer \(8 px\)"):
        maskfeat(mask_cell=16, hog_cell=16)
