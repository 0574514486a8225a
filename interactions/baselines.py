"""What an absent cell shows. Each baseline maps normalised images B×C×H×W to their stand-ins, broadcastable to B×C×H×W.

`mean` is the published choice (0 after normalisation, the data set's mean colour).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur


@dataclass(frozen=True)
class Normalisation:
    """Channel means and standard deviations by which pixels in 0 to 1 were normalised."""

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)


Baseline = Callable[[Tensor, Normalisation], Tensor]


def mean(images_BCHW: Tensor, normalisation: Normalisation) -> Tensor:
    """The data set's mean colour: 0 in normalised space."""
    return torch.zeros_like(images_BCHW[:, :, :1, :1])


def image_mean(images_BCHW: Tensor, normalisation: Normalisation) -> Tensor:
    """Each image's own mean colour."""
    return images_BCHW.mean((2, 3), keepdim=True)


def black(images_BCHW: Tensor, normalisation: Normalisation) -> Tensor:
    """Pixel value 0 before normalisation.

    Raises:
        ValueError: images of other channels than the normalisation has.
    """
    if images_BCHW.shape[1] != len(normalisation.mean):
        raise ValueError(
            f"images of {images_BCHW.shape[1]} channels and a normalisation of {len(normalisation.mean)}: the baseline "
            "black needs a mean and a deviation for each channel"
        )
    colour = [-m / s for m, s in zip(normalisation.mean, normalisation.std, strict=True)]
    return images_BCHW.new_tensor(colour)[None, :, None, None].expand_as(images_BCHW[:, :, :1, :1])


def blur(images_BCHW: Tensor, normalisation: Normalisation) -> Tensor:
    """The image under a Gaussian blur whose sigma is a tenth of its shorter side: colours stay, shapes go."""
    sigma = min(images_BCHW.shape[-2:]) / 10
    # A kernel may not reach beyond the reflected border.
    kernel = [min(2 * round(3 * sigma) + 1, 2 * ((side - 1) // 2) + 1) for side in reversed(images_BCHW.shape[-2:])]
    return gaussian_blur(images_BCHW, kernel, [sigma, sigma])


def noise(images_BCHW: Tensor, normalisation: Normalisation) -> Tensor:
    """Standard normal noise in normalised space, the same for every image and every run (seed 0)."""
    noise_CHW = torch.randn(images_BCHW.shape[1:], generator=torch.Generator().manual_seed(0))
    return noise_CHW.to(images_BCHW).expand_as(images_BCHW)


def uniform_noise(images_BCHW: Tensor, normalisation: Normalisation) -> Tensor:
    """Pixels drawn uniformly from 0 to 1 before normalisation, the same for every image and every run (seed 0).

    Raises:
        ValueError: images of other channels than the normalisation has.
    """
    dark_BCHW = black(images_BCHW, normalisation)
    pixels_CHW = torch.rand(images_BCHW.shape[1:], generator=torch.Generator().manual_seed(0))
    return dark_BCHW + pixels_CHW.to(images_BCHW) / images_BCHW.new_tensor(normalisation.std)[:, None, None]


BASELINES: dict[str, Baseline] = {
    "mean": mean,
    "image_mean": image_mean,
    "black": black,
    "blur": blur,
    "noise": noise,
    "uniform_noise": uniform_noise,
}
