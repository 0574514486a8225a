"""Intersection over union and accuracies, from counts of each image, and their interval over images."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from a2mim.redraws import FEWEST, ends_of, times_drawn
from a2mim.segment.pairs import IGNORE


def counts_of(predicted: Tensor, target: Tensor, classes: int) -> Tensor:
    """Pixels of each class that are right, that are of it, and that are predicted to be (3, K), int64; those that are
    to be ignored count nowhere. Both are (H, W)."""
    valid = target != IGNORE
    predicted, target = predicted[valid], target[valid]
    right = predicted[predicted == target]
    return torch.stack([torch.bincount(each, minlength=classes) for each in (right, target, predicted)])


def per_class(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts (..., 3, K) -> IoU and accuracy of each class (..., K): NaN for one that is nowhere."""
    right, actual, predicted = (counts[..., n, :].astype(np.float64) for n in range(3))
    with np.errstate(invalid="ignore"):
        return right / (actual + predicted - right), right / actual


def summary(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Counts (..., 3, K) -> miou and mean_accuracy over the classes that occur, pixel_accuracy; percent (...)."""
    iou, accuracy = per_class(counts)
    with np.errstate(invalid="ignore"):
        pixels = counts[..., 0, :].sum(-1) / counts[..., 1, :].sum(-1)
        found = {"miou": mean(iou), "mean_accuracy": mean(accuracy), "pixel_accuracy": pixels}
    return {name: 100 * values for name, values in found.items()}


def mean(values: np.ndarray) -> np.ndarray:
    """Over the last dimension, without NaN; NaN where there is nothing else."""
    there = ~np.isnan(values)
    return np.where(there, values, 0.0).sum(-1) / there.sum(-1)


def intervals(counts_N3K: np.ndarray, seed: int = 0) -> dict[str, float]:
    """miou_low, miou_high and so on: percentiles 2.5 and 97.5 of 1,000 draws of the images with replacement; empty for
    fewer than eight images."""
    if len(counts_N3K) < FEWEST:
        return {}
    return ends_of(redrawn(counts_N3K, seed))


def redrawn(counts_N3K: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """What `summary` gives for each of 1,000 draws of the images with replacement: the same images for any counts."""
    images = len(counts_N3K)
    drawn = times_drawn(images, seed).astype(np.float64) @ counts_N3K.reshape(images, -1)
    return summary(drawn.reshape(-1, *counts_N3K.shape[1:]))


def difference(first_N3K: np.ndarray, second_N3K: np.ndarray, seed: int = 0) -> dict[str, float]:
    """By how much the second's mIoU is the higher one, with its 95 % interval over the same images (difference,
    difference_low, difference_high; no ends for fewer than eight)."""
    point = float(summary(second_N3K.sum(0))["miou"] - summary(first_N3K.sum(0))["miou"])
    if len(first_N3K) < FEWEST:
        return {"difference": point}
    drawn = redrawn(second_N3K, seed)["miou"] - redrawn(first_N3K, seed)["miou"]
    return {"difference": point, **ends_of({"difference": drawn})}
