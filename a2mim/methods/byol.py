"""BYOL: Bootstrap Your Own Latent (Grill et al., NeurIPS 2020, arXiv 2006.07733).

    online:  q(g(f(v)))        target: g'(f'(v'))        f: backbone, g: projector, q: predictor
    L(v, v') = ‖q̄ − z̄'‖² = 2 − 2·cos(q(z), sg(z'))              (equation 2)
    loss = L(v, v') + L(v', v), the mean over images                (symmetrised)
    ξ ← τ·ξ + (1 − τ)·θ after step k = 0, 1, …, τ = 1 − (1 − τ_base)·(cos(πk/K) + 1)/2    (equation 3, section 3.3)

Only the online network has the predictor, and only it gets a gradient. Each view passes by itself, so that batch norms
see one view at a time, as in the official code. Batch statistics are those of a process unless --sync-bn is on, as it
was in the paper.

    ImageNet, ResNet-50: projector and predictor 4096 → 256, no batch norm at their ends; LARS (momentum 0.9), batch
        4096, 10 epochs of warm-up, cosine.     epochs   lr per 256   weight decay   τ_base   linear accuracy
                                                 300      0.3          1e-6           0.99     72.5
                                                 1000     0.2          1.5e-6         0.996    74.3
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from a2mim.bounds import Count, Pixels, Share
from a2mim.methods.base import Method
from a2mim.methods.siamese import (
    ASYMMETRIC,
    cosine_momentum,
    embed,
    embedding_width,
    follow,
    mlp,
    momentum_copy,
    paper_views,
    views_of,
)
from a2mim.settings import Augmentation

__all__ = ["BYOL", "BYOLSettings", "regression_loss"]


@dataclass(frozen=True)
class BYOLSettings:
    """Settings of BYOL, those of 1,000 epochs of ImageNet by default."""

    image_size: Pixels | None = None
    """Side of the training images in pixels; the backbone's own if left out."""
    momentum: Share = 0.996
    """τ_base, from which the target's momentum rises to 1 (300 epochs: 0.99)."""
    hidden: Count = 4096
    """Width of the hidden layers of projector and predictor."""
    embedding: Count = 256
    """Width of the projection."""
    blur: tuple[Share, Share] = (1.0, 0.1)
    """Probability of a blur, in the first and in the second view."""


def regression_loss(prediction_BD: Tensor, target_BD: Tensor) -> Tensor:
    """Equation 2, the mean over images, in float32; no gradient reaches the target."""
    return (2 - 2 * F.cosine_similarity(prediction_BD.float(), target_BD.detach().float())).mean()


class BYOL(Method):
    """See the module. Raises ValueError for a backbone that makes no embedding."""

    Settings: ClassVar[type[Any]] = BYOLSettings
    compares = True

    def __init__(self, backbone: nn.Module, settings: BYOLSettings):
        super().__init__()
        self.backbone, self.settings = backbone, settings
        width = embedding_width(backbone, settings.image_size)
        self.projector = mlp(width, settings.hidden, settings.embedding, last_norm=False)
        self.predictor = mlp(settings.embedding, settings.hidden, settings.embedding, last_norm=False)
        self.target_backbone, self.target_projector = momentum_copy(backbone), momentum_copy(self.projector)

    def views(self, given: Augmentation) -> tuple[Augmentation, ...]:
        papers = [replace(view, blur=blur) for view, blur in zip(ASYMMETRIC, self.settings.blur, strict=True)]
        return paper_views(papers, given)

    def forward(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        first, second = views_of(batch, 2)
        z1_BD, z2_BD = (self.projector(embed(self.backbone, view)) for view in (first, second))
        with torch.no_grad():
            t1_BD, t2_BD = (self.target_projector(embed(self.target_backbone, view)) for view in (first, second))
        loss = regression_loss(self.predictor(z1_BD), t2_BD) + regression_loss(self.predictor(z2_BD), t1_BD)
        # 1/√D where embeddings spread in all directions, 0 where they have collapsed to one
        spread = F.normalize(z1_BD.detach().float(), dim=1).std(0).mean()
        return {"loss": loss, "spread": spread}

    def after_step(self, begun: float, done: float) -> None:
        momentum = cosine_momentum(self.settings.momentum, begun)  # k of step k, counted from 0
        follow(self.target_backbone, self.backbone, momentum)
        follow(self.target_projector, self.projector, momentum)
