"""The pictures that runs left: reconstructions, pair maps, and the figures of a study."""

import base64
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from figures.files import read_arrays
from figures.page.blocks import Block, Fold, Gallery, Picture, Section
from figures.pair_map import draw_pair_map
from figures.pictures import newest_pictures, opened
from figures.runs import Run
from figures.sections.common import spread
from figures.words import value_in_words

RECONSTRUCTION = ("original", "masked", "predicted", "composite")
SHEETS = 6  # at most, so that the page stays small


def holds_pictures(run: Run) -> bool:
    """Whether the folder holds anything that is shown here."""
    return bool(_archives(run) or study_figures(run) or _pair_maps(run))


def study_figures(run: Run) -> list[Path]:
    """The figures of a results folder, but for those that `picture_section` shows."""
    shown = {*_pair_maps(run), *(path.with_suffix(".png") for path in _archives(run))}
    return sorted({*run.folder.glob("*.png"), *run.folder.glob("figures/*.png")} - shown)


def picture_section(runs: Sequence[Run], maps: int = 4) -> Section:
    """The pair maps that lie there, as thumbnails, maps of the pairs that were kept, and the newest reconstructions of
    every run."""
    blocks: list[Block] = []
    for run in runs:
        for path in _pair_maps(run):
            words = f"{run.name}: which pairs of cells interact in {path.stem}"
            blocks.append(Picture(path, words, words, thumbnail=True))
    kept = [run for run in runs if run.holds("strength.csv") and (run.folder / "pairs").is_dir()]
    for run in kept[:maps]:
        blocks += _map_of_kept_pairs(run)
    if len(kept) > maps:
        blocks.append(f"Kept pairs are drawn for {maps} of {len(kept)} profiles.")
    for run in runs:
        blocks += _reconstructions(run) or _sheets(run)
    return Section("Pictures and pair maps", blocks, folded=True)


def _archives(run: Run) -> list[Path]:
    return sorted([*run.folder.glob("*.npz"), *run.folder.glob("pictures/*.npz")])


def _reconstructions(run: Run) -> list[Block]:
    """A training run leaves several; the newest, by the time of writing, shows what its weights can do now."""
    if (path := newest_pictures(run.folder, RECONSTRUCTION)) is None:
        return []
    try:
        arrays = read_arrays(path, RECONSTRUCTION)
        pictures = {name: x.clip(0, 1).transpose(0, 2, 3, 1) for name, x in arrays.items()}
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as reconstructions: {error}") from error
    if len(pictures) < len(RECONSTRUCTION):
        return []
    return [Gallery(pictures, f"{run.name}: what it saw, what it predicts, and both together ({path.stem}).")]


def _sheets(run: Run) -> list[Block]:
    """What a study kept of its runs' reconstructions: sheets that are drawn already, one a run."""
    sheets = sorted(run.folder.glob("pictures/*.png"))
    if not sheets:
        return []
    words = f"Reconstructions of {run.name}: {min(len(sheets), SHEETS)} of {len(sheets)} runs"
    return [Fold(words, [Picture(path, path.stem, path.stem, thumbnail=True) for path in spread(sheets, SHEETS)])]


def _pair_maps(run: Run) -> list[Path]:
    """The figures of `a2mim map`, known by the table of cells that it writes beside them."""
    stems = [path.name.removesuffix("-cells.csv") for path in sorted(run.folder.glob("*-cells.csv"))]
    return [path for stem in stems for suffix in (".png", ".svg") if (path := run.folder / f"{stem}{suffix}").is_file()]


def _map_of_kept_pairs(run: Run) -> list[Block]:
    """The pairs of the run's first image at the order next to the middle, over the thumbnail that the run kept of it;
    runs from before that was kept have blank cells."""
    units, images = sorted((run.folder / "pairs").glob("unit-*.parquet")), run.record.get("images") or []
    orders = run.record.get("orders") or []
    if not units or not images or not orders:
        return []
    if not isinstance(run.record["settings"]["grid"], int):
        return []  # regions of a label map, whose places the run does not keep
    middle = min(orders, key=lambda one: abs(one["ratio"] - 0.5))
    wanted = [("image", "==", images[0]["image"]), ("order", "==", middle["order"])]
    units = units if run.record.get("looks") else units[:1]
    pairs = pd.concat([pd.read_parquet(unit, filters=wanted) for unit in units])
    if pairs.empty:
        return []
    if "look" in pairs:  # at an image that was measured several times, the one of most draws; older first looks lack it
        look = pairs["look"].fillna(0)
        pairs = pairs[look == pairs["count"].groupby(look).sum().idxmax()]
    side, value = run.record["settings"]["grid"], value_in_words(run.record["settings"]["value"])
    pixels = _thumbnail(run)
    words = f"{run.name}: pairs of {images[0]['name']} at order {middle['order']} (ratio {middle['ratio']:g})."
    if pixels is None:
        words += " The run kept no thumbnail, so the cells are blank."
    with TemporaryDirectory() as folder:
        path = Path(folder) / "map.png"
        shown = np.ones((2 * side, 2 * side, 3)) if pixels is None else pixels
        cells, strength = pairs[["i", "j"]].to_numpy(), pairs["mean"].to_numpy()
        draw_pair_map(shown, side, cells, strength, path, standard_errors=pairs["standard_error"], unit=value)
        return [Picture(path.read_bytes(), words, words, thumbnail=True)]


def _thumbnail(run: Run) -> NDArray[np.uint8] | None:
    """The pixels that the run kept of its first image, H×W×3.

    Raises:
        ValueError: a thumbnail that is no picture.
    """
    kept = run.record.get("thumbnail")
    if kept is None:
        return None
    try:
        with opened(base64.b64decode(kept, validate=True)) as picture:
            return np.asarray(picture.convert("RGB"))
    except (ValueError, TypeError) as error:  # base64's complaints, too
        raise ValueError(f"{run.folder / 'run.json'} is damaged (its thumbnail is no picture): {error}") from error
