import numpy as np
import pytest
import torch

from a2mim.targets import hog, sobel_hog

skimage_hog = pytest.importorskip("skimage.feature").hog


def images(seed, shape=(2, 3, 32, 48)):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def reference(image_CHW, norm, cell=8, orientations=9):
    return skimage_hog(
        image_CHW.movedim(0, -1).numpy(),
        orientations=orientations,
        pixels_per_cell=(cell, cell),
        cells_per_block=(1, 1),
        block_norm={"l2": "L2", "l2-hys": "L2-Hys"}[norm],
        feature_vector=False,
        channel_axis=-1,
    )[:, :, 0, 0]  # (h, w, orientations)


@pytest.mark.parametrize("norm", ["l2", "l2-hys"])
@pytest.mark.parametrize("cell, orientations", [(8, 9), (4, 6)])
def test_hog_equals_scikit_image(norm, cell, orientations):
    x = images(0)
    computed = hog(x, orientations, cell, norm=norm)
    assert computed.shape == (2, orientations, 32 // cell, 48 // cell)
    for one, image in zip(computed, x, strict=True):
        np.testing.assert_allclose(one.movedim(0, -1), reference(image, norm, cell, orientations), atol=1e-6)


def test_hog_of_each_channel_equals_scikit_image_channel_by_channel():
    x = images(1)
    computed = hog(x, channels="each")
    assert computed.shape == (2, 27, 4, 6)
    for channel in range(3):
        expected = reference(x[0, channel : channel + 1], "l2")
        np.testing.assert_allclose(computed[0, 9 * channel : 9 * channel + 9].movedim(0, -1), expected, atol=1e-6)


def released_hog(image_HW, cell, orientations=9):
    """(h, w, orientations) by SlowFast's formula (slowfast/models/operators.py, HOGLayerC), a pixel at a time.

    Its filters are Sobel's with the sign turned, which moves the angle by π, a whole turn of unsigned bins. Differences
    are taken first, so that they are 0 where its reflected border makes both neighbours one pixel.
    """
    x = np.pad(image_HW, 1, mode="reflect")
    counts = np.zeros((image_HW.shape[0] // cell, image_HW.shape[1] // cell, orientations))
    for row in range(image_HW.shape[0]):
        for column in range(image_HW.shape[1]):
            near = x[row : row + 3, column : column + 3]
            gx = np.array([1, 2, 1]) @ (near[:, 0] - near[:, 2])
            gy = (near[0] - near[2]) @ np.array([1, 2, 1])
            angle = int(np.floor(np.arctan2(gx, gy) / np.pi * orientations)) % orientations
            counts[row // cell, column // cell, angle] += np.sqrt(gx**2 + gy**2)
    return counts / np.maximum(np.linalg.norm(counts, axis=-1, keepdims=True), 1e-12)


@pytest.mark.parametrize("cell", [8, 4])
def test_sobel_hog_is_maskfeats_released_layer(cell):
    """On noise, and on a photograph's kind of gradients: whole numbers, flat parts, edges along the axes."""
    stairs = torch.arange(24.0)[:, None] // 5 * 20 + torch.arange(32.0) // 7 * 30
    blocks = torch.stack([stairs, stairs.flip(0), (stairs > 60) * 255.0]).double()[None]
    for x in (images(3, (2, 3, 24, 32)), blocks):
        for dtype in (torch.float64, torch.float32):
            computed = sobel_hog(x.to(dtype), cell=cell)
            assert computed.dtype == dtype and computed.shape == (len(x), 27, 24 // cell, 32 // cell)
            for b, channel in np.ndindex(len(x), 3):
                expected = released_hog(x[b, channel].numpy(), cell)
                ours = computed[b, 9 * channel : 9 * channel + 9].movedim(0, -1)
                cosine = (ours.numpy() * expected).sum(-1)[np.linalg.norm(expected, axis=-1) > 0]
                np.testing.assert_allclose(cosine, 1, atol=1e-5)
                np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_the_textbooks_histograms_are_others_than_maskfeats():
    """Their bins count from another axis; even the best match of bins leaves them apart."""
    x = images(4, (1, 1, 64, 64))
    ours, textbook = sobel_hog(x)[0], hog(x, channels="each")[0]
    best = max(float((ours * textbook.roll(shift, 0)).sum(0).mean()) for shift in range(9))
    assert best < 0.97


def test_a_ramp_has_one_orientation():
    """Brightness that grows along a direction of 45 degrees has all of its gradient in the third bin of nine."""
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    h = hog((rows + columns).expand(1, 3, 24, 24))[0]
    assert torch.allclose(h[:, 1, 1], torch.eye(9)[2], atol=1e-4)


def test_a_flat_image_has_no_orientation_and_no_nan():
    assert hog(torch.ones(1, 3, 16, 16)).abs().max() == 0


def test_histograms_have_length_one_and_no_gradient():
    h = hog(images(2).requires_grad_())
    assert not h.requires_grad
    assert torch.allclose(h.norm(dim=1), torch.ones_like(h[:, 0]), atol=1e-6)


def test_cells_that_do_not_divide_the_image_are_refused():
    with pytest.raises(ValueError, match="HOG cells of 8 px do not divide an image of 30×32 px"):
        hog(torch.zeros(1, 3, 30, 32))
