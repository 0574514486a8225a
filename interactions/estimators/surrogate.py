"""A quadratic surrogate g(T) = c + aᵀT + TᵀBT of the game, fitted by polynomial-kernel ridge regression.

The kernel on centred masks z, z' is λ = zᵀWz' plus a multiple of λ²; W says which cells are expected to act alike
(neighbours in an image). One B×B solve gives g and one more matrix product its interactions: Δg(i,j,S) = 2B_ij.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

CURVATURES = (0.0, 0.3, 1.0)
RIDGES = (0.003, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
SELECTION_ROWS = 128
"""Coalitions that choose curvature and ridge: both are ratios of variances, which more coalitions do not change."""


@dataclass(frozen=True)
class Quadratic:
    """g as a kernel expansion: `predict` maps coalitions B×n to g, `matrix_NN` is B (its diagonal is of no use)."""

    predict: Callable[[Tensor], Tensor]
    matrix_NN: Tensor

    def __call__(self, coalitions_BN: Tensor) -> Tensor:
        return self.predict(coalitions_BN)

    def interactions(self, first_P: Tensor, second_P: Tensor) -> Tensor:
        """B_ij of each pair."""
        return self.matrix_NN[first_P, second_P]


def no_surrogate(coalitions_BN: Tensor, values_B: Tensor) -> Quadratic:
    """g = the mean value: plain centring."""
    mean = values_B.mean()
    n_players = coalitions_BN.shape[1]
    return Quadratic(lambda rows_BN: mean.expand(len(rows_BN)), values_B.new_zeros(n_players, n_players))


def fit_quadratic(coalitions_BN: Tensor, values_B: Tensor, smoothing_NN: Tensor | None) -> Quadratic:
    """The ridge fit whose curvature and penalty have the least leave-one-out error on the fitted rows."""
    centre_N, mean = coalitions_BN.mean(0), values_B.mean()
    z_BN = coalitions_BN - centre_N
    smooth_BN = z_BN if smoothing_NN is None else z_BN @ smoothing_NN
    kernel_BB = smooth_BN @ z_BN.T
    scale = kernel_BB.diagonal().mean()
    kernel_BB = kernel_BB / scale
    few = slice(SELECTION_ROWS)
    curvature, ridge = select(kernel_BB[few, few], values_B[few])
    factor_BB = ridged_factor(kernel_BB, curvature, ridge)
    weight_B = torch.cholesky_solve((values_B - mean)[:, None], factor_BB).squeeze(1)

    def predict(rows_BN: Tensor) -> Tensor:
        kernel = (rows_BN - centre_N) @ smooth_BN.T / scale
        return mean + (kernel + curvature * kernel**2) @ weight_B

    matrix_NN = curvature / scale**2 * smooth_BN.T @ (weight_B[:, None] * smooth_BN)
    return Quadratic(predict, matrix_NN)


def select(kernel_BB: Tensor, values_B: Tensor) -> tuple[Tensor, Tensor]:
    """Curvature and ridge of least leave-one-out error, as scalars on the device: the host need not wait for them."""
    ridge_R = values_B.new_tensor(RIDGES)
    losses = []
    for curvature in CURVATURES:
        eigenvalue_B, vector_BB = torch.linalg.eigh(kernel_BB + curvature * kernel_BB**2)
        inverse_BR = 1 / (eigenvalue_B.clamp(min=0)[:, None] + ridge_R)
        weight_BR = vector_BB @ (inverse_BR * (vector_BB.T @ (values_B - values_B.mean()))[:, None])
        losses.append(((weight_BR / (vector_BB**2 @ inverse_BR)) ** 2).mean(0))
    settings_K2 = values_B.new_tensor(list(product(CURVATURES, RIDGES)))
    curvature_best, ridge_best = settings_K2[torch.cat(losses).argmin()]
    return curvature_best, ridge_best


def ridged_factor(kernel_BB: Tensor, curvature: Tensor | float, ridge: Tensor | float) -> Tensor:
    """Cholesky factor of λ + curvature·λ² + ridge·1."""
    full_BB = kernel_BB + curvature * kernel_BB**2
    return torch.linalg.cholesky(full_BB + ridge * torch.eye(len(full_BB), dtype=full_BB.dtype, device=full_BB.device))


def neighbour_smoothing(side: int, width: float = 1.2) -> Tensor:
    """W for the cells of a side×side grid: a Gaussian of their distance, `width` in cells; n×n float64."""
    rows_N, columns_N = (torch.arange(side**2) // side).double(), (torch.arange(side**2) % side).double()
    squared_NN = (rows_N[:, None] - rows_N) ** 2 + (columns_N[:, None] - columns_N) ** 2
    return torch.exp(-squared_NN / (2 * width**2))
