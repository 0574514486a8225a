"""MoCo v3: An Empirical Study of Training Self-Supervised Vision Transformers (Chen, Xie, He, ICCV 2021, arXiv
2104.02057).

    q = predictor(projector(f(x)))     k = projector'(f'(x)), without gradient
    ctr(q, k) = 2τ · mean of −log [ exp(q·k⁺/τ) / Σ exp(q·k/τ) ]      q, k normalised                   (equation 1)
    loss = ctr(q1, k2) + ctr(q2, k1)                                                                  (algorithm 1)
    f' ← m·f' + (1 − m)·f before the next step, m from 0.99 to 1 along a cosine

The keys are those of the other view, of all processes. On a transformer the patch embedding is random and stays so
(section 4.2), under fixed sine–cosine positions, and the heads differ: a projector of 3 layers instead of 2, a batch
norm at the predictor's end.

    ViT-S, ViT-B: τ 0.2; AdamW, batch 4096, learning rate 1.5e-4·batch/256, weight decay 0.1, 40 of 300 epochs of
        warm-up, cosine; crops of 8 to 100 %
    ResNet-50: τ 1; LARS, batch 4096, learning rate 0.6·batch/256 (100 epochs; 0.3 for 300 and 1000), weight decay 1e-6
        (1.5e-6 for 1000), 10 epochs of warm-up, cosine; crops of 20 to 100 %; m from 0.996 for 1000 epochs

Differs from the official code: there every parameter of a ViT decays, here no vector and no class token (--decay-also).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from a2mim.bounds import Count, Pixels, Positive, Share
from a2mim.methods.base import Method
from a2mim.methods.mae import sincos_positions
from a2mim.methods.siamese import (
    ASYMMETRIC,
    contrast,
    cosine_momentum,
    embed,
    embedding_width,
    follow,
    gather,
    mlp,
    momentum_copy,
    paper_views,
    process,
    views_of,
)
from a2mim.settings import Augmentation

__all__ = ["MoCoV3", "MoCoV3Settings"]


@dataclass(frozen=True)
class MoCoV3Settings:
    """Settings of MoCo v3, the paper's by default."""

    image_size: Pixels | None = None
    """Side of the training images in pixels; the backbone's own if left out."""
    temperature: Positive | None = None
    """τ; left out: 0.2 for a transformer, 1 for a CNN."""
    momentum: Share = 0.99
    """m at the beginning (ResNet-50, 1,000 epochs: 0.996)."""
    hidden: Count = 4096
    """Width of the hidden layers of the heads."""
    embedding: Count = 256
    """Width of queries and keys."""
    patch_embedding: Literal["random", "kept", "trained"] = "random"
    """Of a transformer. random: new weights and sine–cosine positions, neither trained, the paper's way (a stem of
    several layers is trained, as in the official code); kept: those that it has, not trained; trained."""
    blur: tuple[Share, Share] = (1.0, 0.1)
    """Probability of a blur, in the first and in the second view."""


class MoCoV3(Method):
    """See the module. Raises ValueError for a backbone that makes no embedding."""

    Settings: ClassVar[type[Any]] = MoCoV3Settings
    compares = True

    def __init__(self, backbone: nn.Module, settings: MoCoV3Settings):
        super().__init__()
        self.backbone, self.settings = backbone, settings
        width = embedding_width(backbone, settings.image_size)
        transformer = hasattr(backbone, "patch_embed")
        if transformer and settings.patch_embedding != "trained":
            freeze_patch_embedding(backbone, renew=settings.patch_embedding == "random")
        self.temperature = settings.temperature or (0.2 if transformer else 1.0)
        self.projector = mlp(width, settings.hidden, settings.embedding, layers=3 if transformer else 2)
        self.predictor = mlp(settings.embedding, settings.hidden, settings.embedding, last_norm=transformer)
        self.momentum_backbone, self.momentum_projector = momentum_copy(backbone), momentum_copy(self.projector)

    def views(self, given: Augmentation) -> tuple[Augmentation, ...]:
        papers = [
            replace(view, blur=blur, interpolation="bilinear")
            for view, blur in zip(ASYMMETRIC, self.settings.blur, strict=True)
        ]
        return paper_views(papers, given)

    def forward(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        views = views_of(batch, 2)
        q1_BD, q2_BD = (self.predictor(self.projector(embed(self.backbone, view))) for view in views)
        with torch.no_grad():
            k1_ND, k2_ND = (gather(self.momentum_projector(embed(self.momentum_backbone, view))) for view in views)
        positive_B = process()[0] * len(q1_BD) + torch.arange(len(q1_BD), device=q1_BD.device)
        (loss1, right1), (loss2, right2) = (
            contrast(q_BD, k_ND, positive_B, self.temperature) for q_BD, k_ND in ((q1_BD, k2_ND), (q2_BD, k1_ND))
        )
        return {"loss": 2 * self.temperature * (loss1 + loss2), "accuracy": (right1 + right2) / 2}

    def after_step(self, begun: float, done: float) -> None:
        # Algorithm 1 moves the copy before it makes the keys of the next step: the same weights, the same moment.
        momentum = cosine_momentum(self.settings.momentum, done)
        follow(self.momentum_backbone, self.backbone, momentum)
        follow(self.momentum_projector, self.projector, momentum)


@torch.no_grad()
def freeze_patch_embedding(backbone: Any, renew: bool) -> None:
    """Stop training the patch embedding and the positions; renew: give them the official code's weights first, Xavier's
    uniform ones of a linear layer, and sine–cosine positions. A stem of several layers is trained then, as there, where
    a single projection alone is frozen."""
    layers = backbone.patch_embed.modules()
    projection = [layer for layer in layers if next(layer.parameters(recurse=False), None) is not None]
    single = len(projection) == 1 and isinstance(projection[0], nn.Conv2d)
    if single or not renew:
        backbone.patch_embed.requires_grad_(False)
    positions_1LC = getattr(backbone, "pos_embed", None)
    if not (isinstance(positions_1LC, nn.Parameter) and positions_1LC.ndim == 3):
        positions_1LC = None  # relative ones, or none
    if positions_1LC is not None:
        positions_1LC.requires_grad_(False)
    if not renew:
        return
    if single:
        convolution: Any = projection[0]
        nn.init.xavier_uniform_(convolution.weight.view(len(convolution.weight), -1))
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)
    if positions_1LC is not None:
        rows, columns = getattr(backbone.patch_embed, "grid_size", None) or (0, 0)
        width = positions_1LC.shape[2]
        if width % 4 or not 0 < rows * columns <= positions_1LC.shape[1]:
            raise ValueError(
                f"{type(backbone).__name__} has no grid of patches, or no channels in fours, for sine–cosine "
                "positions: use patch_embedding=kept or trained"
            )
        table_LC = sincos_positions((rows, columns), width, first="row")
        positions_1LC.zero_()
        positions_1LC[0, -len(table_LC) :] = table_LC  # behind those of a class token
