"""Attentive probing: one cross-attention with learned queries, and a linear classifier, on frozen tokens.

Where a linear probe sees what a network pools, this sees every token of a transformer (prefix tokens among them) or
every place of a CNN's map, and learns what to pool: the attentive probe of AIM (El-Nouby et al. 2024, arXiv
2401.08541), fairer to masked-image models, whose class token or mean nothing has trained. Heads are trained with AdamW
and a cosine to 0 on cached tokens, without augmentation, and the learning rate is chosen as for the linear probe.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from a2mim.evaluate.linear import Kind, Probe, linear_head, moments, probed
from a2mim.layouts import Layout


class AttentiveHead(nn.Module):
    """Logits (B, K) of tokens (B, L, D), which are standardised first:

        mean over queries q of  W · attention(q, tokens) + b

    with the multi-head attention of torch (projections of queries, keys, values and output). Random weights, but W and
    b, are drawn by `seed`. Raises ValueError where the heads do not divide D.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean_D: Tensor, deviation_D: Tensor, classes: int, queries: int, heads: int, seed: int) -> None:
        super().__init__()
        width = len(mean_D)
        check_heads(width, heads)
        self.register_buffer("mean", mean_D)
        self.register_buffer("deviation", deviation_D)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.queries = nn.Parameter(torch.randn(1, queries, width) * 0.02)
            self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.classifier = linear_head(width, classes)

    def forward(self, x_BLD: Tensor) -> Tensor:
        x_BLD = (x_BLD - self.mean) / self.deviation
        queries_BQD = self.queries.expand(len(x_BLD), -1, -1)
        return self.classifier(self.attention(queries_BQD, x_BLD, x_BLD, need_weights=False)[0].mean(1))


def check_heads(width: int, heads: int) -> None:
    """Raise ValueError where heads of attention do not divide the channels among them."""
    if width % heads:
        raise ValueError(
            f"{heads} heads of attention do not divide tokens of {width} numbers: choose others by --heads"
        )


def as_tokens(layout: Layout, model: Any, x: Tensor) -> Tensor:
    """What `forward_features` returns as tokens (B, L, D): those of a transformer, prefix and all, or the places of a
    map, row by row."""
    if layout.kind == "NLC":
        return x
    return x.flatten(1, 2) if layout.kind == "NHWC" else x.flatten(2).transpose(1, 2)


def attentive_probe(
    train_NLD: Tensor,
    train_target_N: Tensor,
    test_MLD: Tensor,
    test_target_M: Tensor,
    probe: Probe,
    device: torch.device | None = None,
    queries: int = 1,
    heads: int = 8,
) -> dict[str, Any]:
    """Tokens and labels of both sets -> {"top1", "top5" (test, percent), "lr", "held_out" (lr -> top-1)}.

    Raises ValueError as `linear_probe` and AttentiveHead do.
    """
    mean_D, deviation_D = moments(train_NLD)

    def make(width: int, classes: int) -> nn.Module:
        return AttentiveHead(mean_D, deviation_D, classes, queries, heads, probe.seed)

    kind = Kind(make, partial(torch.optim.AdamW, betas=(0.9, 0.95)))
    return probed(train_NLD, train_target_N, test_MLD, test_target_M, probe, kind, device)
