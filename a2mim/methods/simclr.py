"""SimCLR: A Simple Framework for Contrastive Learning of Visual Representations (Chen et al., ICML 2020, arXiv
2002.05709).

    z = g(f(x))            f: backbone, g: MLP with one hidden layer; both views of an image, drawn from the same T
    ℓ(i, j) = −log [ exp(cos(z_i, z_j)/τ) / Σ_{k≠i} exp(cos(z_i, z_k)/τ) ]     (equation 1, NT-Xent)
    L = mean of ℓ(i, j) over the 2N embeddings i of the global batch, j the other view of i's image

Negatives come from all processes, with gradients. Both views pass in one batch, as in the official code.

    ImageNet, ResNet-50: τ 0.1, width 2048 → 128, s = 1, blur 0.5; LARS (momentum 0.9), batch 4096, learning rate
        0.3·batch/256, 10 epochs of warm-up, cosine, weight decay 1e-6
    CIFAR-10: τ 0.5, s = 0.5, no blur; batch 512, learning rate 1.0·batch/256, weight decay 1e-4

T: crops of 8 to 100 % of the area, flips, colour jitter s·(0.8, 0.8, 0.8, 0.2) with probability 0.8, grey with 0.2,
blur with a kernel of a tenth of the image. Official heads scale after the last batch norm; here nothing does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from a2mim.bounds import Count, Pixels, Positive, Range, Share
from a2mim.methods.base import Method
from a2mim.methods.siamese import contrast, embed, embedding_width, gather, mlp, paper_views, process, views_of
from a2mim.settings import Augmentation

__all__ = ["SimCLR", "SimCLRSettings", "nt_xent"]


@dataclass(frozen=True)
class SimCLRSettings:
    """Settings of SimCLR, the paper's for ImageNet by default."""

    image_size: Pixels | None = None
    """Side of the training images in pixels; the backbone's own if left out."""
    temperature: Positive = 0.1
    """τ (CIFAR-10: 0.5)."""
    hidden: Count = 2048
    """Width of the projection's hidden layer."""
    embedding: Count = 128
    """Width of z."""
    strength: Annotated[float, Range(0, 2.5)] = 1.0
    """s, the strength of the colour jitter (CIFAR-10: 0.5)."""
    blur: Share = 0.5
    """Probability of a blur (CIFAR-10: 0)."""


def nt_xent(z_AD: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Equation 1 over the embeddings of all processes; z_AD: this one's, all first views, then all second ones.

    Returns the mean over this process's embeddings, and the part of them whose partner is the most similar.
    """
    count, rank = len(z_AD), process()[0]
    own_A = torch.arange(count, device=z_AD.device)
    partner_A = own_A.roll(count // 2)
    return contrast(z_AD, gather(z_AD), rank * count + partner_A, temperature, skip_B=rank * count + own_A)


class SimCLR(Method):
    """See the module. Raises ValueError for a backbone that makes no embedding."""

    Settings: ClassVar[type[Any]] = SimCLRSettings
    compares = True

    def __init__(self, backbone: nn.Module, settings: SimCLRSettings):
        super().__init__()
        self.backbone, self.settings = backbone, settings
        width = embedding_width(backbone, settings.image_size)
        self.projector = mlp(width, settings.hidden, settings.embedding)

    def views(self, given: Augmentation) -> tuple[Augmentation, ...]:
        s = self.settings.strength
        view = Augmentation(
            scale=(0.08, 1.0),
            color_jitter=0.8 * s,
            hue=0.2 * s,
            color_jitter_prob=0.8,
            grayscale=0.2,
            blur=self.settings.blur,
        )
        return paper_views((view, view), given)

    def forward(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        z_AD = self.projector(embed(self.backbone, torch.cat(views_of(batch, 2))))
        loss, accuracy = nt_xent(z_AD, self.settings.temperature)
        return {"loss": loss, "accuracy": accuracy}
