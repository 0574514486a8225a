"""k-nearest-neighbour classification of frozen features, as in DINO (Caron et al. 2021, Wu et al. 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from a2mim.evaluate.accuracy import class_count, hits

CHUNK = 1024
LEAST_VOTE = torch.finfo(torch.float32).tiny
"""So that a far neighbour's is one, too."""


def check_neighbours(k: int, images: int) -> None:
    """Raise ValueError where k neighbours cannot be had from so many training images."""
    if not 1 <= k <= images:
        raise ValueError(f"k = {k} neighbours cannot be had from {images} training images: choose another --k")


def knn(
    bank_ND: Tensor,
    bank_target_N: Tensor,
    query_MD: Tensor,
    query_target_M: Tensor,
    k: int = 20,
    temperature: float = 0.07,
    device: torch.device | None = None,
) -> dict[str, float]:
    """Weighted vote of the k training features of greatest cosine similarity s, each with weight exp(s / temperature).

    Returns {"top1", "top5"} in percent. Raises ValueError where the bank has fewer than k features, for a temperature
    that is not above 0, and for a label below 0.
    """
    check_neighbours(k, len(bank_ND))
    if not temperature > 0:
        raise ValueError(f"the temperature of the votes is {temperature}: use more than 0")
    device = device or torch.device("cpu")
    classes = class_count(bank_target_N, query_target_M)
    bank_DN = F.normalize(bank_ND.to(device), dim=1).T
    bank_target_N = bank_target_N.to(device)
    right = torch.zeros(2, dtype=torch.float64, device=device)
    for start in range(0, len(query_MD), CHUNK):
        query_BD = F.normalize(query_MD[start : start + CHUNK].to(device), dim=1)
        target_B = query_target_M[start : start + CHUNK].to(device)
        similarity_BK, neighbour_BK = (query_BD @ bank_DN).topk(k, dim=1)
        votes_BC = torch.zeros(len(query_BD), classes, device=device)
        # Relative to the nearest neighbour's: the same votes, which no temperature makes overflow.
        weight_BK = ((similarity_BK - similarity_BK[:, :1]) / temperature).exp().clamp(min=LEAST_VOTE)
        votes_BC.scatter_add_(1, bank_target_N[neighbour_BK], weight_BK)
        # A class for which nobody votes is no guess, not even the fifth.
        right += torch.stack(hits(votes_BC.masked_fill(votes_BC == 0, -torch.inf), target_B))
    top1, top5 = (100 * right / len(query_MD)).tolist()
    return {"top1": top1, "top5": top5}
