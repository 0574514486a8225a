"""The losses of masked-image methods, in float32: A²MIM's and SimMIM's (Li et al., ICML 2023, section 4.3; Xie et al.,
CVPR 2022), and the squared error of MAE, SparK and MaskFeat.

Unless names say otherwise: prediction and target (B, C, H, W), mask (B, 1, H, W) with 1 = masked, at the target's
resolution.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Penalty = Literal["l1", "focal_l1"]
Fourier = Literal["paper", "released", "released_plain"]

__all__ = ["Fourier", "Penalty", "fourier_loss", "patch_loss", "penalty", "spatial_loss"]


def penalty(distance: Tensor, kind: Penalty) -> Tensor:
    """l1: |d|. focal_l1: |d|·(2σ(0.2|d|) − 1), which the released CNN configurations use (Yang et al., ICML 2021)."""
    if kind == "l1":
        return distance
    if kind == "focal_l1":
        return distance * (2 * torch.sigmoid(0.2 * distance) - 1)
    raise ValueError(f"There is no spatial loss {kind!r}: choose l1 or focal_l1.")


def spatial_loss(prediction: Tensor, target: Tensor, mask: Tensor, kind: Penalty = "l1") -> Tensor:
    """Σ ℓ·M / (Σ M + 1e-5) / C: the mean penalty of masked pixels. Visible pixels neither count nor get a gradient."""
    losses = penalty((prediction.float() - target.float()).abs(), kind)
    return (losses * mask).sum() / (mask.sum() + 1e-5) / target.shape[1]


def patch_loss(prediction_BLD: Tensor, target_BLD: Tensor, mask_BL: Tensor) -> Tensor:
    """The mean squared error of masked patches (mask 1), a mean over patches of means over their D numbers."""
    error_BL = (prediction_BLD.float() - target_BLD.float()).square().mean(-1)
    return (error_BL * mask_BL).sum() / mask_BL.sum()


def fourier_loss(
    prediction: Tensor,
    target: Tensor,
    mask: Tensor,
    kind: Fourier = "paper",
    *,
    alpha: float = 1.0,
    visible: float = 0.0,
    spatial: Penalty = "l1",
) -> Tensor:
    """Distance of prediction x̂ and target x in the spectrum, F the orthonormal 2-d Fourier transform of each channel.

    paper: mean over channels and frequencies of w·|Δ|, Δ = F(x̂⊙M + sg(x̂)⊙(1−M)) − F(x), w = |Δ|^alpha. What is
        predicted of visible pixels enters the value but gets no gradient (sg). The paper writes a sum; the mean over an
        orthonormal transform makes λ independent of the size of the image. w is a weight, so it is held constant too.
        (For alpha = 1 the value is, by Parseval, the mean squared error over all pixels.)
    released: what the published configurations compute. The input is x̂⊙M' + r⊙(1−M') with M' = M + q·(1−M),
        q = `visible`, r = ½sg(x̂) + ½x; the spectra are averaged over the batch *before* they are compared (the value
        depends on the batch of one device); w = log(1 + |Δ|^alpha), divided by its largest value and held constant; the
        loss is the mean of w·|Δ|² (focal frequency loss, Jiang et al., ICCV 2021).
    released_plain: the same input, and the mean of the spatial penalty (`spatial`) of |Δ|, per image (published for
        ResNet-101).
    """
    x_hat, x, m = prediction.float(), target.float(), mask.float()
    if kind == "paper":
        difference = _spectrum(x_hat * m + x_hat.detach() * (1 - m)) - _spectrum(x)
        distance = difference.abs()
        return (distance.detach() ** alpha * distance).mean()
    if kind not in ("released", "released_plain"):
        raise ValueError(f"There is no Fourier loss {kind!r}: choose paper, released or released_plain.")
    m = m + (1 - m) * visible
    mixed = x_hat * m + (0.5 * x_hat.detach() + 0.5 * x) * (1 - m)
    if kind == "released_plain":
        return penalty((_spectrum(mixed) - _spectrum(x)).abs(), spatial).mean()
    difference = _spectrum(mixed.mean(0)) - _spectrum(x.mean(0))  # the transform is linear: also the means of spectra
    squared = difference.real**2 + difference.imag**2
    weight = torch.log1p(squared.detach().sqrt() ** alpha)
    weight = (weight / weight.max()).nan_to_num(nan=0.0).clamp(0, 1)
    return (weight * squared).mean()


def _spectrum(x: Tensor) -> Tensor:
    return torch.fft.fft2(x, norm="ortho")
