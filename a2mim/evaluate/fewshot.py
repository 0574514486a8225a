"""Which of the labelled images a few-shot evaluation may see: a share of each class, or so many of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch.utils.data import Subset

from a2mim.images import Files, Images, whole
from a2mim.seeds import seed_of


def labels_of(images: Images) -> np.ndarray:
    """The label of every image (N,), without reading one. Raises ValueError where the data set does not tell them."""
    raw, rows = images.raw, np.arange(images.samples)
    while isinstance(raw, Subset):
        rows, raw = np.asarray(raw.indices)[rows], raw.dataset
    labels = np.asarray(raw.labels if isinstance(raw, Files) else getattr(whole(raw), "targets", ()))
    if labels.ndim != 1 or not len(labels):
        raise ValueError(
            f"{images.name} does not tell its labels before its images are read: for few of them give a folder or tar"
        )
    return labels[rows].astype(np.int64)


def draw(labels_N: np.ndarray, names: Sequence[str], share: float, per_class: int, seed: int) -> np.ndarray:
    """Numbers of the images, ascending: of the n images of a class round(n · share), or `per_class` where that is not
    0, drawn by the seed and the class alone.

    names: of the classes, by label, for messages.

    Raises ValueError where a class is left without images, or has fewer than are asked for.
    """
    kept = []
    for label in np.unique(labels_N):
        rows = np.flatnonzero(labels_N == label)
        count = per_class or round(len(rows) * share)
        if count > len(rows):
            raise ValueError(
                f"the class {names[label]} has {len(rows)} images, and --per-class asks for {count}: ask for fewer"
            )
        if not count:
            raise ValueError(
                f"--labels {share:g} leaves none of the {len(rows)} images of the class {names[label]}: use more than "
                f"{0.5 / len(rows):.2g}, or --per-class"
            )
        kept.append(np.random.default_rng(seed_of(seed, "few", int(label))).permutation(rows)[:count])
    return np.sort(np.concatenate(kept))
