"""The pictures that runs left: reconstructions, pair maps, and the figures of a study."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from figures.page.blocks import Block, Fold, Gallery, Picture, Section
from figures.pair_map import draw_pair_map
from figures.runs import Run

RECONSTRUCTION = ("original", "masked", "predicted", "composite")
SHEETS = 8  # at most, so that the page stays small


def holds_pictures(run: Run) -> bool:
    """Whether the folder holds anything that is shown here."""
    return bool(_archives(run) or study_figures(run) or _pair_maps(run))


def study_figures(run: Run) -> list[Path]:
    """The figures of a results folder, but for those that `picture_section` shows."""
    shown = {*_pair_maps(run), *(path.with_suffix(".png") for path in _archives(run))}
    return sorted({*run.folder.glob("*.png"), *run.folder.glob("figures/*.png")} - shown)


def picture_section(runs: Sequence[Run], maps: int = 4) -> Section:
    """The newest reconstructions of every run, the pair maps that lie there, and maps of the pairs that were kept."""
    blocks: list[Block] = []
    for run in runs:
        blocks += _reconstructions(run) or _sheets(run)
        for path in _pair_maps(run):
            words = f"{run.name}: which pairs of cells interact in one image ({path.stem})"
            blocks.append(Picture(path, words, words))
    kept = [run for run in runs if run.holds("strength.csv") and (run.folder / "pairs").is_dir()]
    for run in kept[:maps]:
        blocks += _map_of_kept_pairs(run)
    if len(kept) > maps:
        blocks.append(f"Kept pairs are drawn for {maps} of {len(kept)} profiles.")
    return Section("Pictures and pair maps", blocks)


def _archives(run: Run) -> list[Path]:
    return sorted([*run.folder.glob("*.npz"), *run.folder.glob("pictures/*.npz")])


def _reconstructions(run: Run) -> list[Block]:
    """A training run leaves several; the newest shows what its weights can do now."""
    if not (archives := _archives(run)):
        return []
    path = archives[-1]
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not set(RECONSTRUCTION) <= set(archive.files):
                return []
            pictures = {name: archive[name].clip(0, 1).transpose(0, 2, 3, 1) for name in RECONSTRUCTION}
    except (OSError, ValueError, BadZipFile) as error:
        raise ValueError(f"{path} cannot be read as reconstructions: {error}") from error
    return [Gallery(pictures, f"{run.name}: what it saw, what it predicts, and both together ({path.stem}).")]


def _sheets(run: Run) -> list[Block]:
    """What a study kept of its runs' reconstructions: sheets that are drawn already, one a run."""
    sheets = sorted(run.folder.glob("pictures/*.png"))
    if not sheets:
        return []
    words = f"Reconstructions of {run.name}: {min(len(sheets), SHEETS)} of {len(sheets)} runs"
    return [Fold(words, [Picture(path, path.stem, path.stem) for path in sheets[:SHEETS]])]


def _pair_maps(run: Run) -> list[Path]:
    """The figures of `a2mim map`, known by the table of cells that it writes beside them."""
    stems = [path.name.removesuffix("-cells.csv") for path in sorted(run.folder.glob("*-cells.csv"))]
    return [path for stem in stems for suffix in (".png", ".svg") if (path := run.folder / f"{stem}{suffix}").is_file()]


def _map_of_kept_pairs(run: Run) -> list[Block]:
    """The pairs of the run's first image at the order next to the middle. A run keeps no pixels, so the cells are
    blank."""
    units, images = sorted((run.folder / "pairs").glob("unit-*.parquet")), run.record.get("images") or []
    orders = run.record.get("orders") or []
    if not units or not images or not orders:
        return []
    if isinstance(run.record["settings"]["grid"], str):
        return []  # regions of a label map, which is not kept either
    middle = min(orders, key=lambda one: abs(one["ratio"] - 0.5))
    pairs = pd.read_parquet(units[0])
    pairs = pairs[(pairs["image"] == images[0]["image"]) & (pairs["order"] == middle["order"])]
    if pairs.empty:
        return []
    side, value = run.record["settings"]["grid"], run.record["settings"]["value"].replace("_", "-")
    words = (
        f"{run.name}: pairs of {images[0]['name']} at order {middle['order']} (ratio {middle['ratio']:g}). "
        "The run keeps no pixels, so the cells are blank."
    )
    with TemporaryDirectory() as folder:
        path = Path(folder) / "map.png"
        blank = np.ones((2 * side, 2 * side, 3))
        cells, strength = pairs[["i", "j"]].to_numpy(), pairs["mean"].to_numpy()
        draw_pair_map(blank, side, cells, strength, path, standard_errors=pairs["standard_error"], unit=value)
        return [Picture(path.read_bytes(), words, words)]
