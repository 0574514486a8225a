"""DINO: Emerging Properties in Self-Supervised Vision Transformers (Caron et al., ICCV 2021, arXiv 2104.14294).

    P_s(x) = softmax(g_s(x)/τ_s)     P_t(x) = softmax((g_t(x) − c)/τ_t), without gradient   (equation 1)
    loss = mean of −Σ P_t(x)·log P_s(x') over global crops x and all other crops x' of the image   (equation 3)
    c ← 0.9·c + 0.1·mean of g_t over both global crops of the global batch, for the next step      (equation 4)
    teacher ← λ·teacher + (1 − λ)·student after step k = 0, 1, … of K, λ = 1 − 0.004·(cos(πk/K) + 1)/2

Head: linear layers of 2048, 2048 and 256 with GELU between them and no batch norm (it can be had), L2 normalisation,
then the prototypes, 65,536 weight-normalised directions of length 1. Multi-crop: 2 global crops, which alone the
teacher sees, and 8 local ones of 96 px (of 224). The teacher is what is exported: `backbone` is the teacher's.

    ViT-S: AdamW, batch 1024, learning rate 5e-4·batch/256, 10 epochs of warm-up, cosine to 1e-6, weight decay from 0.04
        to 0.4, gradient clipped to 3, drop path 0.1 for the student; τ_s 0.1, τ_t from 0.04 to 0.07 in 30 epochs;
        prototypes fixed in the first epoch; global crops of 40 to 100 %, local ones of 5 to 40 %
    ResNet-50: SGD, learning rate 0.03·batch/256, weight decay 1e-4; global crops of 14 to 100 %, local ones of 5 to
        14 %

Differs from the official code: the centre moves once per optimizer step, however many micro-batches there are; τ_t
rises with every step, not every epoch; clipping (--clip-grad) is of the whole gradient, not of each parameter's; fixed
prototypes have a gradient of 0 and decay, where the official code gives the optimizer none.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from a2mim.bounds import Count, Natural, Pixels, Positive, Share
from a2mim.layouts import own_image_size
from a2mim.methods.base import Method
from a2mim.methods.siamese import (
    ASYMMETRIC,
    cosine_momentum,
    embed,
    embedding_width,
    follow,
    follower,
    momentum_copy,
    paper_views,
    process,
    views_of,
)
from a2mim.settings import Augmentation

__all__ = ["DINO", "DINOHead", "DINOSettings", "dino_loss"]

GLOBAL_SIZE, LOCAL_SIZE = 224, 96


@dataclass(frozen=True)
class DINOSettings:
    """Settings of DINO, the paper's for a ViT by default. Durations are parts of the training."""

    image_size: Pixels | None = None
    """Side of the global crops in pixels; the backbone's own if left out."""
    local_crops: Natural = 8
    """Number of local crops (0: no multi-crop)."""
    local_size: Pixels | None = None
    """Side of the local crops; left out: 96/224 of image_size, in whole patches of a transformer."""
    local_scale: tuple[Positive, Share] = (0.05, 0.4)
    """Range of a local crop's share of the image area (ResNet-50: 0.05 to 0.14). --scale is the global crops'."""
    prototypes: Count = 65536
    """Outputs of the head."""
    hidden: Count = 2048
    """Width of the head's hidden layers."""
    bottleneck: Count = 256
    """Width in front of the prototypes."""
    batch_norm: bool = False
    """Batch norm after the head's hidden layers (the official code's use_bn_in_head). It keeps a short training of a
    CNN from collapsing, whose embeddings are too alike at first for targets that tell images apart."""
    norm_last_layer: bool = True
    """Keep the prototypes' length at 1; without it a ViT-S does better, and larger networks are less stable."""
    momentum: Share = 0.996
    """λ at the beginning (a batch of 256: 0.9995)."""
    centre_momentum: Share = 0.9
    """What remains of the centre at each step."""
    student_temperature: Positive = 0.1
    """τ_s."""
    teacher_temperature: Positive = 0.07
    """τ_t after its warm-up; above 0.07 most trainings are unstable."""
    warmup_temperature: Positive = 0.04
    """τ_t at the beginning."""
    temperature_warmup: Share = 0.1
    """How long τ_t rises."""
    freeze_prototypes: Share = 0.01
    """How long the prototypes stay as they are: an epoch."""
    blur: tuple[Share, Share, Share] = (1.0, 0.1, 0.5)
    """Probability of a blur, in the two global crops and in the local ones."""

    def check(self) -> None:
        """Raises ValueError for a range of scales that ends before it begins."""
        low, high = self.local_scale
        if low > high:
            raise ValueError(f"local_scale of dino runs from {low:g} to {high:g}: give the smaller one first")


class DINOHead(nn.Module):
    """Projection and prototypes: (B, D) -> (B, prototypes). `trainable` (0 or 1) scales the prototypes' gradient."""

    trainable: Tensor

    def __init__(self, inside: int, settings: DINOSettings):
        super().__init__()
        hidden = settings.hidden
        layers: list[nn.Module] = []
        for width in (inside, hidden):
            layers += [nn.Linear(width, hidden), *([nn.BatchNorm1d(hidden)] if settings.batch_norm else []), nn.GELU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(hidden, settings.bottleneck))
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.prototypes = nn.Linear(settings.bottleneck, settings.prototypes, bias=False)
        lengths = torch.ones(settings.prototypes, 1)
        self.lengths = None if settings.norm_last_layer else nn.Parameter(lengths)
        self.register_buffer("trainable", torch.tensor(1.0))

    def forward(self, x_BD: Tensor) -> Tensor:
        directions_KD = F.normalize(self.prototypes.weight, dim=1)
        if self.lengths is not None:
            directions_KD = self.lengths * directions_KD
        directions_KD = torch.lerp(directions_KD.detach(), directions_KD, self.trainable)
        return F.linear(F.normalize(self.mlp(x_BD), dim=1), directions_KD)


def dino_loss(
    student_VBK: Sequence[Tensor],
    teacher_GBK: Sequence[Tensor],
    centre_K: Tensor,
    student_temperature: float,
    teacher_temperature: float | Tensor,
) -> Tensor:
    """Equation 3, the mean over pairs and images, in float32. Crop number i of the student is crop i of the teacher, as
    far as the teacher goes; no gradient reaches the teacher."""
    p_GBK = [F.softmax((each.detach().float() - centre_K) / teacher_temperature, dim=-1) for each in teacher_GBK]
    terms = []
    for v, logits_BK in enumerate(student_VBK):
        log_p_BK = F.log_softmax(logits_BK.float() / student_temperature, dim=-1)
        terms += [-(p_BK * log_p_BK).sum(-1).mean() for g, p_BK in enumerate(p_GBK) if g != v]
    return torch.stack(terms).mean()


class DINO(Method):
    """See the module. Raises ValueError for a backbone that makes no embedding of global or of local crops."""

    Settings: ClassVar[type[Any]] = DINOSettings
    trained = "student"
    centre: Tensor
    teacher_temperature: Tensor
    teacher_sum: Tensor
    teacher_count: Tensor

    def __init__(self, backbone: nn.Module, settings: DINOSettings):
        super().__init__()
        self.settings = settings
        width = embedding_width(backbone, settings.image_size)
        self.local_size = settings.local_size or _local_size(backbone, settings.image_size or own_image_size(backbone))
        if settings.local_crops:
            embedding_width(backbone, self.local_size)
        self.student, self.student_head = copy.deepcopy(backbone), DINOHead(width, settings)
        self.teacher_head = momentum_copy(self.student_head)
        self.backbone = follower(backbone)
        self.register_buffer("centre", torch.zeros(settings.prototypes))
        self.register_buffer("teacher_temperature", torch.tensor(0.0))
        self.register_buffer("teacher_sum", torch.zeros(settings.prototypes), persistent=False)
        self.register_buffer("teacher_count", torch.tensor(0.0), persistent=False)
        self.go_on_from(0.0)

    def views(self, given: Augmentation) -> tuple[Augmentation, ...]:
        settings = self.settings
        papers = [replace(view, scale=(0.4, 1.0)) for view in (*ASYMMETRIC, ASYMMETRIC[0])]
        views = paper_views([replace(view, blur=blur) for view, blur in zip(papers, settings.blur, strict=True)], given)
        local = replace(views[2], image_size=self.local_size, scale=settings.local_scale)
        return (*views[:2], *[local] * settings.local_crops)

    def forward(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        crops = views_of(batch, 2 + self.settings.local_crops)
        both, local = torch.cat(crops[:2]), crops[2:]
        with torch.no_grad():
            teacher_AK = self.teacher_head(embed(self.backbone, both)).float()
        # one pass for each size of crop
        embedded = [embed(self.student, each) for each in (both, *([torch.cat(local)] if local else []))]
        student_AK = self.student_head(torch.cat(embedded))
        loss = dino_loss(
            student_AK.chunk(len(crops)),
            teacher_AK.chunk(2),
            self.centre,
            self.settings.student_temperature,
            self.teacher_temperature,
        )
        self.teacher_sum += teacher_AK.sum(0)
        self.teacher_count += len(teacher_AK)
        p_AK = F.softmax((teacher_AK - self.centre) / self.teacher_temperature, dim=-1)
        # Of the mean target 0 where the teacher has collapsed to one prototype for all; of a single target log K where
        # it has to the uniform distribution. The difference is what the targets say about the images.
        entropy, target_entropy = _entropy(p_AK.mean(0)), _entropy(p_AK).mean()
        return {"loss": loss, "entropy": entropy, "target_entropy": target_entropy}

    @torch.no_grad()
    def after_step(self, begun: float, done: float) -> None:
        momentum = cosine_momentum(self.settings.momentum, begun)
        follow(self.backbone, self.student, momentum)
        follow(self.teacher_head, self.student_head, momentum)
        if process()[1] > 1:
            dist.all_reduce(self.teacher_sum)
            dist.all_reduce(self.teacher_count)
        self.centre.lerp_(self.teacher_sum / self.teacher_count.clamp(min=1), 1 - self.settings.centre_momentum)
        self.teacher_sum.zero_()
        self.teacher_count.zero_()
        self.go_on_from(done)

    def go_on_from(self, done: float) -> None:
        """What the next step uses. In buffers, so that a compiled forward pass is not compiled again."""
        settings = self.settings
        risen = min(1.0, done / settings.temperature_warmup) if settings.temperature_warmup else 1.0
        first, last = settings.warmup_temperature, settings.teacher_temperature
        self.teacher_temperature.fill_(first + risen * (last - first))
        self.student_head.trainable.fill_(float(done >= settings.freeze_prototypes))

    def no_weight_decay(self) -> set[str]:
        """None besides vectors: the paper decays positions and class token."""
        return set()


def _entropy(p_K: Tensor) -> Tensor:
    """In nats, of distributions over the last dimension."""
    return torch.special.entr(p_K).sum(-1)


def _local_size(backbone: Any, image_size: int) -> int:
    """96 px of 224, in whole patches where the backbone cuts the image into patches."""
    patch = getattr(getattr(backbone, "patch_embed", None), "patch_size", 1)
    patch = patch if isinstance(patch, int) else max(patch)
    return patch * max(1, round(image_size * LOCAL_SIZE / GLOBAL_SIZE / patch))
