"""What methods share that compare views of an image: embeddings, heads, the momentum copy, gathering over processes.

They compare images of one forward pass: of all processes' micro-batches where that is said, but not of accumulated
ones, so `--accumulate` is not the same as more processes here.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from timm.layers.patch_dropout import PatchDropout, PatchDropoutWithIndices
from torch import Tensor, nn

from a2mim.layouts import evaluating, own_image_size
from a2mim.plain import overlay
from a2mim.settings import Augmentation

__all__ = [
    "ASYMMETRIC",
    "contrast",
    "cosine_momentum",
    "embed",
    "embedding_width",
    "follow",
    "follower",
    "gather",
    "mlp",
    "momentum_copy",
    "paper_views",
    "process",
    "views_of",
]

# T and T' of BYOL (Grill et al. 2020, table 6), which MoCo v3 and DINO took over.
_T = Augmentation(
    scale=(0.08, 1.0),
    color_jitter=0.4,
    saturation=0.2,
    hue=0.1,
    color_jitter_prob=0.8,
    grayscale=0.2,
    blur=1.0,
)
ASYMMETRIC = (_T, overlay(_T, Augmentation(blur=0.1, solarize=0.2), Augmentation()))


# ------------------------------------------------------------------------------------------- views


def paper_views(papers: Sequence[Augmentation], given: Augmentation) -> tuple[Augmentation, ...]:
    """The views of a paper, each with every setting of `given` that is not Augmentation()'s own, or that was typed."""
    typed = {each.name: getattr(given, each.name) for each in dataclasses.fields(given) if each.name in given.typed}
    return tuple(dataclasses.replace(overlay(paper, given, Augmentation()), **typed, typed=()) for paper in papers)


def views_of(batch: dict[str, Any], count: int) -> list[Tensor]:
    """The `count` views (B, C, H, W) of a batch. Raises ValueError where it has another number of them."""
    views = batch["image"] if isinstance(batch["image"], list | tuple) else [batch["image"]]
    if len(views) != count:
        raise ValueError(
            f"the method compares {count} views of each image and was given {len(views)}: "
            "make the images with its own views (method.views)"
        )
    return list(views)


# ------------------------------------------------------------------------------------------- networks


def embed(backbone: Any, image_BCHW: Tensor) -> Tensor:
    """(B, D): what a timm model hands to its classifier."""
    return backbone.forward_head(backbone.forward_features(image_BCHW), pre_logits=True)


def embedding_width(backbone: nn.Module, image_size: int | None = None) -> int:
    """D of `embed`; parameters that do not reach it (a classifier) are frozen, since they would get no gradient.

    Raises ValueError for a backbone that does not make one vector of an image of `image_size` px (its own if None).
    """
    name, size = type(backbone).__name__, image_size or own_image_size(backbone)
    channels = next((m.in_channels for m in backbone.modules() if isinstance(m, nn.Conv2d)), 3)
    weight = next(backbone.parameters())
    parameters = [p for p in backbone.parameters() if p.requires_grad]
    image = torch.zeros(2, channels, size, size, dtype=weight.dtype, device=weight.device)
    with evaluating(backbone), torch.enable_grad():
        try:
            embedding = embed(backbone, image)
        except (AttributeError, RuntimeError, AssertionError, ValueError, TypeError) as error:
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            raise ValueError(
                f"{name} makes no embedding of images of {size}×{size} px ({reason}): choose another size of the "
                "images, or a timm model that takes this one (a ViT takes several with dynamic_img_size=True)"
            ) from error
        if embedding.ndim != 2:
            raise ValueError(f"{name} does not pool its features to one vector: its shape is {tuple(embedding.shape)}")
        if parameters and embedding.requires_grad:
            reached = torch.autograd.grad(embedding.sum(), parameters, allow_unused=True)
            for parameter, gradient in zip(parameters, reached, strict=True):
                parameter.requires_grad_(gradient is not None)
    return embedding.shape[1]


def mlp(inside: int, hidden: int, outside: int, layers: int = 2, last_norm: bool = True) -> nn.Sequential:
    """Linear, batch norm, ReLU, …, linear, and at the end batch norm without scale and shift, or none.

    No linear layer has a bias: a batch norm would take it away again, and the official heads have none at the end.
    """
    widths = [inside, *[hidden] * (layers - 1), outside]
    modules: list[nn.Module] = []
    for before, after in pairwise(widths):
        modules += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*modules[:-2], *([nn.BatchNorm1d(outside, affine=False)] if last_norm else []))


# ------------------------------------------------------------------------------------------- the momentum copy


def momentum_copy(module: nn.Module) -> Any:
    """A copy, made a follower."""
    return follower(copy.deepcopy(module))


def follower(module: nn.Module) -> Any:
    """`module`, from now on without gradients and dropping nothing (features, patches, layers). It stays in training
    mode: its batch norms use the statistics of the batch, and keep running ones of their own."""
    each: Any
    for each in module.requires_grad_(False).modules():
        if isinstance(each, nn.modules.dropout._DropoutNd):
            each.p = 0.0
        if isinstance(each, PatchDropout | PatchDropoutWithIndices):
            each.prob = 0.0
        for rate in {"drop_prob", "drop_rate"} & vars(each).keys():  # of stochastic depth, and before classifiers
            setattr(each, rate, 0.0)
    return module


@torch.no_grad()
def follow(target: nn.Module, online: nn.Module, momentum: float) -> None:
    """ξ ← m·ξ + (1 − m)·θ, over parameters."""
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), 1 - momentum)


def cosine_momentum(base: float, progress: float) -> float:
    """m = 1 − (1 − base)·(cos(π·progress) + 1)/2: from base to 1 over the training (BYOL, section 3.3)."""
    return 1 - (1 - base) * (math.cos(math.pi * progress) + 1) / 2


# ------------------------------------------------------------------------------------------- processes


def process() -> tuple[int, int]:
    """Rank of this process, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(process()[1])]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        # Every process's loss depends on these rows. DDP takes the mean over processes, as the loss itself does.
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        rank, size = process()
        return gradient.chunk(size)[rank]


def gather(x_BD: Tensor) -> Tensor:
    """The rows of all processes, those of process 0 first, differentiable; as many from each."""
    return x_BD if process()[1] == 1 else _Gather.apply(x_BD)  # type: ignore[return-value]


def contrast(
    query_BD: Tensor, key_ND: Tensor, positive_B: Tensor, temperature: float, skip_B: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """InfoNCE: the mean of −log softmax(cos(q, k)/τ) at each query's positive key, in float32.

    skip_B: the key that a query is not compared to (itself). Returns the loss, and the part of the queries whose
    positive is the most similar key.
    """
    with torch.autocast(query_BD.device.type, enabled=False):
        logits_BN = F.normalize(query_BD.float(), dim=1) @ F.normalize(key_ND.float(), dim=1).T / temperature
        if skip_B is not None:
            logits_BN = logits_BN.scatter(1, skip_B[:, None], -torch.inf)
        accuracy = (logits_BN.detach().argmax(1) == positive_B).float().mean()
        return F.cross_entropy(logits_BN, positive_B), accuracy
