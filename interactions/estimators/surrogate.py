"""A quadratic surrogate g(T) = c + aᵀT + TᵀBT of the game, fitted by ridge regression on a fixed basis.

The prior is that of the kernel λ + `CURVATURE`·λ² with λ = zᵀWz' on centred masks z, z'; W says which cells are
expected to act alike (neighbours in an image). The basis are the eigenfunctions of λ and their products, those of most
variance under the prior: so the moments of a sample's parts add up, and a fit to some of them costs a small solve.
Δg(i,j,S) = 2B_ij for every context S.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

FEATURES = 128
"""On EfficientNet-Lite0 (14×14 grid) 64 explain nearly as much as 512; a 4×4 grid has 152, the last of little use."""
CURVATURE = 0.3
"""On that network and on small ones no choice between several, by the data, did better."""
RIDGES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
SELECTION_ROWS = 64
"""Coalitions of a part that choose the ridge: a ratio of variances, which more coalitions do not change."""


@dataclass(frozen=True)
class Basis:
    """The functions 1, u_k and u_k·u_l of a coalition, where u = (T − centre)·loadings.

    Attributes:
        loadings_NK: of the K linear functions, scaled so that those of all cells have the total variance 1.
        first_Q, second_Q: k ≤ l of the products.
    """

    centre: float
    loadings_NK: Tensor
    first_Q: Tensor
    second_Q: Tensor

    @classmethod
    def constant(cls, n_players: int) -> "Basis":
        """Nothing but 1: g is the mean value."""
        none_0 = torch.empty(0, dtype=torch.long)
        return cls(0.0, torch.empty(n_players, 0, dtype=torch.float64), none_0, none_0)

    @classmethod
    def quadratic(cls, n_players: int, size: int, smoothing_NN: Tensor | None, features: int = FEATURES) -> "Basis":
        """At most about `features` functions, for coalitions of about `size` cells."""
        similar_NN = torch.eye(n_players, dtype=torch.float64) if smoothing_NN is None else smoothing_NN
        strength_N, vector_NN = (part.flip(-1) for part in torch.linalg.eigh(similar_NN))
        share_N = strength_N.clamp(min=0) / strength_N.clamp(min=0).sum()
        centre = size / n_players
        first_Q, second_Q = torch.triu_indices(n_players, n_players)
        variance_M = torch.cat([share_N, 2 * share_N[first_Q] * share_N[second_Q]])
        most_M = variance_M.argsort(descending=True, stable=True)[:features]
        product_Q = most_M[most_M >= n_players] - n_players
        first_Q, second_Q = first_Q[product_Q], second_Q[product_Q]
        linear = int(torch.cat([most_M[most_M < n_players], second_Q]).max()) + 1
        loadings_NK = (vector_NN * (share_N / (centre * (1 - centre))).sqrt())[:, :linear]
        return cls(centre, loadings_NK, first_Q, second_Q)

    def to(self, device: torch.device) -> "Basis":
        return Basis(self.centre, *(part.to(device) for part in (self.loadings_NK, self.first_Q, self.second_Q)))

    @property
    def linear(self) -> int:
        return self.loadings_NK.shape[1]

    def functions(self, shown_BN: Tensor) -> Tensor:
        """All functions of coalitions given as float64 B×n: 1, the linear ones, the products; B×D.

        The products make up `CURVATURE`·λ².
        """
        u_BK = (shown_BN - self.centre) @ self.loadings_NK
        products_BQ = u_BK[:, self.first_Q] * u_BK[:, self.second_Q] * self._factors()
        return torch.cat([torch.ones_like(shown_BN[:, :1]), u_BK, products_BQ], 1)

    def linear_of(self, functions_BD: Tensor) -> Tensor:
        """The linear ones among the functions."""
        return functions_BD[..., 1 : 1 + self.linear]

    def second_differences(self, coefficients_HD: Tensor, first_P: Tensor, second_P: Tensor) -> Tensor:
        """2B_ij of each of H surrogates, H×P."""
        products_HQ = coefficients_HD[:, 1 + self.linear :] * self._factors()
        matrix_HKK = coefficients_HD.new_zeros(len(coefficients_HD), self.linear, self.linear)
        matrix_HKK[:, self.first_Q, self.second_Q] = products_HQ
        twice_HNN = self.loadings_NK @ (matrix_HKK + matrix_HKK.mT) @ self.loadings_NK.T
        return twice_HNN[:, first_P, second_P]

    def _factors(self) -> Tensor:
        return (CURVATURE * (2 - (self.first_Q == self.second_Q).to(self.loadings_NK))).sqrt()


def fit(gram_FDD: Tensor, target_FD: Tensor, ridge_F: Tensor) -> Tensor:
    """Coefficients F×D of F ridge fits from their moments ΦᵀΦ and Φᵀv; the constant is not penalised."""
    penalised_FDD = gram_FDD.clone()
    penalised_FDD.diagonal(dim1=1, dim2=2)[:, 1:] += ridge_F[:, None]
    # cholesky_ex: the matrices are positive definite, and cholesky would wait for the device to say so.
    factor_FDD, _ = torch.linalg.cholesky_ex(penalised_FDD)
    return torch.cholesky_solve(target_FD[:, :, None], factor_FDD).squeeze(2)


def evidence(u_KRL: Tensor, values_KR: Tensor) -> Tensor:
    """−2 log likelihood of R values of each of K parts, up to a constant, for each of `RIDGES`: K×len(RIDGES).

    Values are taken to be normally distributed with covariance in proportion to kernel + ridge. (The leave-one-out
    error told the ridge worse, from so few coalitions.)

    Args:
        u_KRL: L linear functions of the coalitions. They must be drawn independently: of two that differ in one cell,
            each would tell the other, and no ridge would seem small enough.
    """
    centred_KR = values_KR - values_KR.mean(1, keepdim=True)
    linear_KRR, ridges = u_KRL @ u_KRL.mT, values_KR.new_tensor(RIDGES)
    eigenvalue_KR, vector_KRR = torch.linalg.eigh(linear_KRR + CURVATURE * linear_KRR**2)
    variance_KRC = eigenvalue_KR.clamp(min=0)[:, :, None] + ridges
    fitted_KC = ((vector_KRR.mT @ centred_KR[:, :, None]).square() / variance_KRC).mean(1)
    # Where all values are equal, every ridge is as good.
    return values_KR.shape[1] * fitted_KC.clamp(min=torch.finfo(fitted_KC.dtype).tiny).log() + variance_KRC.log().sum(1)


def neighbour_smoothing(side: int, width: float = 1.2) -> Tensor:
    """W for the cells of a side×side grid: a Gaussian of their distance, `width` in cells; n×n float64."""
    rows_N, columns_N = (torch.arange(side**2) // side).double(), (torch.arange(side**2) % side).double()
    squared_NN = (rows_N[:, None] - rows_N) ** 2 + (columns_N[:, None] - columns_N) ** 2
    return torch.exp(-squared_NN / (2 * width**2))
