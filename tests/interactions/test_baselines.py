"""What an absent cell shows, each against its formula in NumPy or SciPy."""

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

from interactions.baselines import BASELINES, Normalisation

IMAGES_BCHW = torch.randn(2, 3, 20, 31, generator=torch.Generator().manual_seed(0)) + 0.3
STANDARD = Normalisation()


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stand_ins_fit_the_images(name, dtype):
    images_BCHW = IMAGES_BCHW.to(dtype)
    absent = BASELINES[name](images_BCHW, STANDARD)
    assert absent.dtype == dtype
    assert torch.where(torch.zeros(2, 1, 20, 31).bool(), images_BCHW, absent).shape == images_BCHW.shape
    assert bool(absent.isfinite().all())
    torch.testing.assert_close(absent.float(), BASELINES[name](IMAGES_BCHW, STANDARD))


def test_mean_is_the_mean_colour_of_the_data_set():
    pixels_BCHW = BASELINES["mean"](IMAGES_BCHW, STANDARD) * 0.2 + torch.tensor(STANDARD.mean).view(1, 3, 1, 1)
    assert np.allclose(pixels_BCHW[0, :, 0, 0], (0.485, 0.456, 0.406))
    assert not BASELINES["mean"](IMAGES_BCHW, STANDARD).any()


def test_image_mean_is_each_channel_of_each_image():
    absent = BASELINES["image_mean"](IMAGES_BCHW, STANDARD).expand_as(IMAGES_BCHW).numpy()
    for image in range(2):
        for channel in range(3):
            expected = IMAGES_BCHW[image, channel].numpy().astype(np.float64).mean()
            np.testing.assert_allclose(absent[image, channel], expected, rtol=1e-5)


@pytest.mark.parametrize("normalisation", [STANDARD, Normalisation((0.5, 0.1, 0.9), (0.5, 0.2, 1.0))])
def test_black_is_pixel_0(normalisation):
    absent = BASELINES["black"](IMAGES_BCHW, normalisation).numpy()
    pixels = absent * np.reshape(normalisation.std, (3, 1, 1)) + np.reshape(normalisation.mean, (3, 1, 1))
    np.testing.assert_allclose(pixels, 0, atol=1e-7)


def test_black_of_one_channel():
    absent = BASELINES["black"](IMAGES_BCHW[:, :1], Normalisation((0.13,), (0.31,)))
    assert absent.flatten().tolist() == pytest.approx([-0.13 / 0.31] * 2)


def gaussian(plane_HW: np.ndarray) -> np.ndarray:
    """Sampled Gaussian of a tenth of the shorter side, cut at 3 sigma, mirrored at the border."""
    sigma = min(plane_HW.shape) / 10
    for axis, side in enumerate(plane_HW.shape):
        reach = min(round(3 * sigma), (side - 1) // 2)
        weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
        plane_HW = correlate1d(plane_HW, weights / weights.sum(), axis=axis, mode="mirror")
    return plane_HW


@pytest.mark.parametrize(("height", "width"), [(20, 31), (31, 20), (12, 12), (9, 2), (2, 9), (3, 4), (2, 2), (1, 1)])
def test_blur_is_a_gaussian_also_on_tiny_images(height, width):
    images_BCHW = IMAGES_BCHW.repeat(1, 1, 2, 1)[:, :, :height, :width]
    blurred_BCHW = BASELINES["blur"](images_BCHW, STANDARD)
    assert blurred_BCHW.shape == images_BCHW.shape
    for plane_HW, blurred_HW in zip(images_BCHW.flatten(0, 1), blurred_BCHW.flatten(0, 1), strict=True):
        np.testing.assert_allclose(blurred_HW, gaussian(plane_HW.double().numpy()), atol=1e-5)


def test_noise_is_the_same_for_every_call_and_image_and_leaves_the_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, second = (BASELINES["noise"](IMAGES_BCHW, STANDARD) for _ in range(2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first, second)
    assert torch.equal(first[0], first[1])
    assert torch.equal(first[0], torch.randn(3, 20, 31, generator=torch.Generator().manual_seed(0)))


def test_noise_is_standard_normal():
    noise_CHW = BASELINES["noise"](torch.zeros(1, 3, 100, 100), STANDARD)[0]
    assert abs(float(noise_CHW.mean())) < 4 / np.sqrt(30_000)
    assert abs(float(noise_CHW.var()) - 1) < 4 * np.sqrt(2 / 30_000)


def test_uniform_noise_is_drawn_among_the_pixel_values():
    images_BCHW = torch.zeros(2, 3, 100, 100)
    absent = BASELINES["uniform_noise"](images_BCHW, STANDARD)
    pixels = absent.numpy() * np.reshape(STANDARD.std, (3, 1, 1)) + np.reshape(STANDARD.mean, (3, 1, 1))
    np.testing.assert_allclose(
        pixels[0], torch.rand(3, 100, 100, generator=torch.Generator().manual_seed(0)), atol=1e-6
    )
    assert torch.equal(absent[0], absent[1])
    with pytest.raises(ValueError, match="3 channels and a normalisation of 1"):
        BASELINES["uniform_noise"](images_BCHW, Normalisation((0.5,), (0.5,)))
