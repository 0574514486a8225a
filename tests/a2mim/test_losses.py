"""Every loss against plain NumPy, written from the formulas of the paper and of the released code."""

from typing import Any

import numpy as np
import pytest
import torch

from a2mim import losses

B, C, H, W = 3, 3, 6, 8

spatial_loss: Any = losses.spatial_loss
fourier_loss: Any = losses.fourier_loss


@pytest.fixture
def case() -> Any:
    """Prediction and target (B, C, H, W), mask (B, 1, H, W) with a different number of masked pixels in each image."""
    rng = np.random.default_rng(0)
    mask = (rng.random((B, 1, H, W)) < np.array([0.3, 0.5, 0.8]).reshape(B, 1, 1, 1)).astype(float)
    return [
        torch.from_numpy(a).float()
        for a in (rng.standard_normal((B, C, H, W)), rng.standard_normal((B, C, H, W)), mask)
    ]


def dft(x):
    """Orthonormal two-dimensional DFT by its matrix, channel by channel."""
    matrices = [np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n) / np.sqrt(n) for n in (H, W)]
    return np.einsum("uh,...hw,vw->...uv", matrices[0], x, matrices[1])


def arrays(case):
    return [a.double().numpy() for a in case]


def test_spatial_l1(case):
    p, x, m = arrays(case)
    total = sum(abs(p[b, c, i, j] - x[b, c, i, j]) for b, c, i, j in np.ndindex(p.shape) if m[b, 0, i, j])
    assert spatial_loss(*case).item() == pytest.approx(total / (m.sum() + 1e-5) / 3, rel=1e-5)


def test_spatial_focal_l1(case):
    p, x, m = arrays(case)
    d = np.abs(p - x)
    focal = d * (2 / (1 + np.exp(-0.2 * d)) - 1)
    assert spatial_loss(*case, "focal_l1").item() == pytest.approx((focal * m).sum() / (m.sum() + 1e-5) / 3, rel=1e-5)


def test_nothing_masked_is_no_loss(case):
    assert spatial_loss(case[0], case[1], torch.zeros(B, 1, H, W)) == 0


@pytest.mark.parametrize("kind", ["l1", "focal_l1"])
def test_spatial_loss_does_not_know_visible_pixels(case, kind):
    p, x, m = case
    p = p.requires_grad_()
    loss = spatial_loss(p, x, m, kind)
    loss.backward()
    visible = (m == 0).expand_as(p)
    assert p.grad[visible].abs().max() == 0 and (p.grad[~visible] != 0).all()
    changed = p.detach() + 100 * torch.randn(p.shape) * visible
    assert spatial_loss(changed, x, m, kind) == loss


@pytest.mark.parametrize("alpha", [1.0, 0.5, 2.0])
def test_fourier_paper(case, alpha):
    p, x, m = arrays(case)
    y = p * m + p * (1 - m)  # sg changes no value
    distance = np.abs(dft(y) - dft(x))
    assert fourier_loss(*case, alpha=alpha).item() == pytest.approx((distance**alpha * distance).mean(), rel=1e-5)


def test_fourier_paper_is_the_mean_square_by_parseval(case):
    p, x, _ = arrays(case)
    assert fourier_loss(*case).item() == pytest.approx(((p - x) ** 2).mean(), rel=1e-5)


def test_fourier_paper_gradient(case):
    """By finite differences of the formula, weights held constant, on masked pixels; zero on visible ones (sg)."""
    p, x, m = arrays(case)
    prediction = case[0].double().requires_grad_()
    fourier_loss(prediction, case[1], case[2]).backward()
    weight, step = np.abs(dft(p) - dft(x)), 1e-5
    for b, c, i, j in [(0, 0, 0, 0), (1, 2, 3, 4), (2, 1, 5, 7), (2, 0, 2, 6), (0, 1, 4, 1), (1, 0, 1, 2)]:
        change = np.zeros_like(p)
        change[b, c, i, j] = step * m[b, 0, i, j]  # sg(x̂) of a visible pixel does not move
        up, down = ((weight * np.abs(dft(p + s * change) - dft(x))).mean() for s in (1, -1))
        assert prediction.grad[b, c, i, j].item() == pytest.approx((up - down) / (2 * step), rel=1e-3, abs=1e-7)
    visible = (case[2] == 0).expand_as(prediction)
    assert prediction.grad[visible].abs().max() == 0 and (prediction.grad[~visible] != 0).all()


def mixed(p, x, m, q):
    m_f = m + (1 - m) * q
    return p * m_f + (0.5 * p + 0.5 * x) * (1 - m_f)


@pytest.mark.parametrize("q", [0.0, 1e-3, 0.3])
@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_fourier_released(case, q, alpha):
    p, x, m = arrays(case)
    spectra = dft(mixed(p, x, m, q)), dft(x)
    real, imaginary = ([part(s).mean(0) for s in spectra] for part in (np.real, np.imag))  # batch averages, then Δ
    squared = (real[0] - real[1]) ** 2 + (imaginary[0] - imaginary[1]) ** 2
    weight = np.log(1 + np.sqrt(squared) ** alpha)
    expected = (weight / weight.max() * squared).mean()
    assert fourier_loss(*case, "released", alpha=alpha, visible=q).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("q", [0.0, 1e-3])
@pytest.mark.parametrize("spatial", ["l1", "focal_l1"])
def test_fourier_released_plain(case, q, spatial):
    p, x, m = arrays(case)
    distance = np.abs(dft(mixed(p, x, m, q)) - dft(x))
    if spatial == "focal_l1":
        distance = distance * (2 / (1 + np.exp(-0.2 * distance)) - 1)
    computed = fourier_loss(*case, "released_plain", visible=q, spatial=spatial)
    assert computed.item() == pytest.approx(distance.mean(), rel=1e-5)


@pytest.mark.parametrize("kind", ["released", "released_plain"])
def test_released_gradient_on_visible_pixels_is_scaled_by_q(case, kind):
    """r = ½sg(x̂) + ½x: a visible pixel's own gradient is q times what a masked one gets, and nothing for q = 0."""
    p, x, m = case
    p = p.requires_grad_()
    visible = (m == 0).expand_as(p)
    (off,) = torch.autograd.grad(fourier_loss(p, x, m, kind), p)
    (on,) = torch.autograd.grad(fourier_loss(p, x, m, kind, visible=1e-3), p)
    assert off[visible].abs().max() == 0 and (off[~visible] != 0).any()
    assert (on[visible] != 0).all() and on[visible].abs().mean() < 5e-3 * on[~visible].abs().mean()


def test_released_spectra_of_opposite_errors_cancel(case):
    """The published averaging over the batch: two images whose errors are opposite cost nothing."""
    x, m = case[1][:2], torch.ones(2, 1, H, W)
    error = torch.stack([case[0][0], -case[0][0]])
    assert fourier_loss(x + error, x, m, "released") < 1e-10 < fourier_loss(x + error, x, m, "released_plain")


@pytest.mark.parametrize(("kind", "expected"), [("released", 1 / 4), ("released_plain", 1.0), ("paper", 1.0)])
def test_the_released_loss_falls_with_the_images_that_it_sees_together(kind, expected):
    """Independent errors average out: the square of the mean of B spectra is 1/B of theirs."""
    generator = torch.Generator().manual_seed(0)
    x, error = torch.randn(2, 256, 3, 16, 16, generator=generator)
    m = torch.ones(256, 1, 16, 16)
    few, many = (
        torch.stack([fourier_loss(*part, kind) for part in zip(*(t.split(n) for t in (x + error, x, m)), strict=True)])
        for n in (16, 64)
    )
    assert many.mean().item() == pytest.approx(expected * few.mean().item(), rel=0.15)


@pytest.mark.parametrize("kind", ["paper", "released", "released_plain"])
def test_a_perfect_prediction_costs_nothing_and_makes_no_nan(case, kind):
    x = case[1]
    p = x.clone().requires_grad_()
    loss = fourier_loss(p, x, case[2], kind)
    loss.backward()
    assert loss == 0 and torch.isfinite(p.grad).all()


def test_losses_are_float32_under_autocast(case):
    p, x, m = case
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = p.bfloat16()
        assert spatial_loss(low, x, m).dtype == fourier_loss(low, x, m).dtype == torch.float32


def test_unknown_names_are_refused(case):
    with pytest.raises(ValueError, match="no Fourier loss 'focal': choose paper"):
        fourier_loss(*case, "focal")
    with pytest.raises(ValueError, match="no spatial loss 'l2': choose l1"):
        losses.penalty(case[0], "l2")  # type: ignore[arg-type]
