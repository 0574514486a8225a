"""What an occlusion run's folder holds: its record, its rows, the tables of accuracy, and the saliency of the cells,
which other runs may take from it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from interactions.fingerprint import tensor_bytes
from interactions.grid import PatchGrid
from interactions.runs.results import Results, load
from interactions.saliency import SALIENCIES
from interactions.seen import differing, refuse_others, seen_by
from interactions.selection import Chosen


@dataclass(frozen=True)
class Occlusion(Results):
    """What an occlusion run measured so far. `record` is its run.json."""

    def images(self) -> pd.DataFrame:
        """One row per (image, kind, seed, number of dropped cells): image, kind, seed, dropped, correct."""
        return self.rows("images")

    def shuffled_images(self) -> pd.DataFrame:
        """One row per (image, grid, seed): image, grid, seed, correct."""
        return self.rows("shuffling")

    def saliency(self) -> pd.DataFrame:
        """One row per (image, cell): image, name, cell, saliency; none where no salient cells were dropped."""
        return self.rows("saliency")

    def occlusion(self) -> pd.DataFrame:
        """One row per kind and share: kind, share (dropped / n), dropped, top1, low, high, images, seeds, baseline."""
        table, n = self.images(), self.settings["grid"] ** 2
        parts = []
        for kind in self.settings["kinds"]:
            part = accuracy_table(table[table.kind == kind], "dropped")
            part.insert(0, "share", part.dropped / n)
            part.insert(0, "kind", kind)
            parts.append(part)
        return pd.concat(parts, ignore_index=True).assign(baseline=self.settings["baseline"])

    def shuffling(self) -> pd.DataFrame:
        """One row per cut: grid (cells a side), top1, low, high, images, seeds."""
        table = self.shuffled_images()
        if len(table) == 0:
            return pd.DataFrame(columns=["grid", "top1", "low", "high", "images", "seeds"])
        return accuracy_table(table, "grid")


def load_occlusion(folder: str | Path) -> Occlusion:
    """The occlusion run in a folder, finished or not.

    Raises:
        FileNotFoundError: no run there.
        ValueError: a run.json that is not an occlusion run's.
    """
    return load(Occlusion, folder, "occlusion", "occlusion run")


def accuracy_table(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """Accuracy in per cent, with a 95 % interval over images.

    The interval is Wilson's (1927) at the effective number of images: as many as would give a share of right answers
    the variance that is seen between images. That is their number where there is one seed, more where an image's seeds
    differ (at most images × seeds), and never less: seeds that agree add nothing, and none or all right has an interval
    too, where resampling has none. (Dean and Pagano 2015, on intervals of proportions from clusters.)

    Args:
        table: columns image, seed, correct, and `by`, whose values become the rows; the same images and seeds in each.

    Returns:
        Columns `by`, top1, low, high, images, seeds.
    """
    wide = table.pivot(index=[by, "image"], columns="seed", values="correct").sort_index()
    rows = wide.index.get_level_values(by).unique()
    correct_RIS = wide.to_numpy(dtype=bool).reshape(len(rows), -1, wide.shape[1])
    n_images, n_seeds = correct_RIS.shape[1:]
    share_RI = correct_RIS.mean(2)
    share_R = share_RI.mean(1)
    # (NumPy divides 0 by 0 where all are right, or none: no variance is seen, and an image counts as one.)
    with np.errstate(divide="ignore", invalid="ignore"):
        effective_R = n_images * share_R * (1 - share_R) / (share_RI.var(1) / (1 - 1 / n_images))
    effective_R = np.nan_to_num(effective_R, nan=n_images).clip(n_images, n_images * n_seeds)
    low, high = wilson(share_R, effective_R)
    counts = {"images": n_images, "seeds": n_seeds}
    return pd.DataFrame({by: rows, "top1": 100 * share_R, "low": 100 * low, "high": 100 * high, **counts})


def wilson(share: np.ndarray, count: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Ends of Wilson's score interval of a probability, from the share of successes in so many trials."""
    z = stats.norm.ppf((1 + confidence) / 2)
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return (middle - half).clip(0, 1), (middle + half).clip(0, 1)


def saliency_table(chosen: Sequence[Chosen], saliency_IN: Tensor) -> pd.DataFrame:
    """One row per (image, cell): image, name, cell, saliency."""
    images, n = saliency_IN.shape
    return pd.DataFrame(
        {
            "image": np.repeat(np.array([one.image for one in chosen], np.int32), n),
            "name": np.repeat(np.array([one.name for one in chosen], object), n),
            "cell": np.tile(np.arange(n, dtype=np.int32), images),
            "saliency": saliency_IN.flatten().numpy().astype(np.float32),
        }
    )


@dataclass(frozen=True)
class Salient:
    """Of every image that an occlusion run measured, by its name: the saliency of the cells, float32 n, and the digest
    of its pixels. seen: how the run's images were made and normalised."""

    folder: str
    cells: Mapping[str, Tensor]
    digests: Mapping[str, str]
    seen: Mapping[str, Any]

    def of(self, chosen: Sequence[Chosen], seen: Mapping[str, Any]) -> Tensor:
        """Of these images, I×n. Where both runs made them in the same way, they are known by their pixels, too.

        Raises:
            ValueError: images that the run did not measure.
        """
        missing = [one.name for one in chosen if one.name not in self.cells]
        if missing:
            raise ValueError(
                f"{self.folder} holds no saliency of {missing[0]} ({len(missing)} of {len(chosen)} images): "
                "measure the images that it measured, with the same seed"
            )
        refuse_others(seen, {one.name: one.digest for one in chosen}, self.seen, self.digests, self.folder)
        return torch.stack([self.cells[one.name] for one in chosen])

    def shown_otherwise(self, seen: Mapping[str, Any]) -> list[str]:
        """In what the run's images were cut and resized otherwise: two networks may well normalise the same pixels each
        in its own way."""
        return [key for key in differing(seen, self.seen) if key not in ("mean", "std")]


def saliency_of(folder: str, grid: PatchGrid) -> Salient:
    """The saliency that an occlusion run found or took.

    Raises:
        ValueError: neither a way to find saliency nor a folder; a run on another grid, or one without saliency, or with
            two images of one name.
    """
    if not Path(folder).is_dir():
        raise ValueError(
            f"unknown saliency {folder!r}: choose one of {', '.join(SALIENCIES)}, or the folder of an occlusion run"
        )
    run = load_occlusion(folder)
    if run.settings["grid"] != grid.side:
        there = run.settings["grid"]
        raise ValueError(f"{folder} has the saliency of a {there}×{there} grid: measure with --grid {there}, too")
    table = run.saliency()
    if len(table) == 0:
        raise ValueError(f"{folder} holds no saliency: it dropped random cells only")
    if len(twice := table[table.duplicated(["name", "cell"])]):
        raise ValueError(f"{folder} holds {twice.name.iloc[0]} more than once: images are told apart by their names")
    cells = table.sort_values(["name", "cell"]).groupby("name").saliency
    found = {str(name): torch.tensor(values.to_numpy()) for name, values in cells}
    digests = {one["name"]: one["digest"] for one in run.record["images"]}
    return Salient(folder, found, digests, seen_by(run.record))


def digest_of(table: Mapping[str, Tensor]) -> str:
    """Of a table of saliency, whatever the order of its images."""
    digest = hashlib.sha256()
    for name in sorted(table):
        digest.update(name.encode(errors="surrogateescape") + tensor_bytes(table[name]))
    return digest.hexdigest()[:16]
