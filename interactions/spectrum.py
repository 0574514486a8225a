"""Which spatial frequencies a model's feature maps hold, and how much they vary over the image, block by block.

    run = measure_spectrum(model, dataset, out="runs/resnet50-spectrum", images=1000)
    run.spectrum()      # one row per block and frequency: the relative log-amplitude, with its interval
    run.variance()      # one row per block

After Park & Kim 2022, "How do vision transformers work?" (arXiv 2202.06709), as the A²MIM paper uses it (its figures
A3 and A4) and its released code computes it: the mean of the logarithm over images and channels, not the logarithm of
the mean.

A map is reduced to a few numbers in the hook that sees it. All that grows with the images are these numbers, from which
the intervals are made: one float for each image, block and frequency (some 200 an image for a ResNet-50 at 224 px).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from interactions.ahead import read_ahead
from interactions.blocks import Block, find_blocks, watch
from interactions.forecast import forecast
from interactions.full_precision import full_precision
from interactions.game import NonFiniteValueError
from interactions.independence import refuse_dependent
from interactions.intervals import RESAMPLES, interval_of_mean
from interactions.layouts import Layout
from interactions.outputs import device_of, is_out_of_memory
from interactions.runs.ranks import Ranks
from interactions.runs.record import NOTHING, Material, begin_run, place_of
from interactions.runs.results import Results, load
from interactions.runs.units import Measure, carry_out, finish, measure_units
from interactions.selection import Chosen, Images, read_again, select
from interactions.settings import ProfileSettings, settled
from interactions.speed import seconds_of
from interactions.tracing import run_features

EPSILON = 1e-6
"""What is added to an amplitude before its logarithm, as in the released code."""
TABLES = ("spectrum.csv", "variance.csv")
ROW_BYTES = 60
"""Of an image and block in the tables, as written."""
CHUNK = 2**24
"""Numbers of a map whose Fourier transform is taken at once."""

# --- one batch of feature maps


def frequencies(height: int, width: int) -> np.ndarray:
    """The K frequencies of `log_amplitude`, in units of π: 2k / side of the shorter side, from 0 to below 1.

    The half diagonal of the shifted spectrum from its centre, which ends before π where the side is even. (The released
    plots stretch the axis so that the last entry stands at π: 6/7 π at 14×14.)
    """
    side = min(height, width)
    return 2 * np.arange((side + 1) // 2) / side


def log_amplitude(x_BCHW: Tensor) -> Tensor:
    """log(|F| + 1e-6) along the half diagonal, F the 2-D Fourier transform of each channel; mean over channels: B×K.

    Absolute: the relative log-amplitude is the difference to the first entry, frequency 0. The longer side of a map
    that is not square is read at its nearest frequencies. In float64 behind the transform (float32 where the device has
    no other).

    White noise is not quite flat: F is real at frequency 0 and complex elsewhere, so the relative log-amplitude is
    (log 2) / 2 above 0 at every other frequency.
    """
    height, width = x_BCHW.shape[2:]
    steps = np.arange(len(frequencies(height, width)))
    rows, columns = (np.rint(steps * side / min(height, width)).astype(int) for side in (height, width))
    spectrum_BCK = torch.fft.rfft2(x_BCHW)[..., torch.as_tensor(rows), torch.as_tensor(columns)]
    return (spectrum_BCK.abs().to(wide(x_BCHW)) + EPSILON).log().mean(1)


def feature_variance(x_BCHW: Tensor) -> Tensor:
    """The variance over positions (divisor: their number less one, as in the released code), mean over channels: B."""
    x_BCL = x_BCHW.flatten(2)
    return x_BCL.var(2, correction=min(1, x_BCL.shape[2] - 1)).to(wide(x_BCHW)).mean(1)


def wide(x: Tensor) -> torch.dtype:
    """float64, but for devices that lack it."""
    return torch.float32 if x.device.type == "mps" else torch.float64


@torch.no_grad()
def measure_maps(model: nn.Module, blocks: Sequence[Block], x_BCHW: Tensor) -> list[tuple[np.ndarray, np.ndarray]]:
    """Log-amplitude B×K and variance B of every block's map, from one forward pass."""
    seen: dict[int, tuple[Tensor, Tensor]] = {}

    def see(number: int, map_BCHW: Tensor) -> None:
        map_BCHW = map_BCHW.detach()
        map_BCHW = map_BCHW if map_BCHW.dtype == torch.float64 else map_BCHW.float()
        parts = map_BCHW.split(max(1, CHUNK // map_BCHW[0].numel()))
        amplitude, variance = ([reduce(part) for part in parts] for reduce in (log_amplitude, feature_variance))
        seen[number] = torch.cat(amplitude), torch.cat(variance)

    with full_precision(), watch(model, blocks, see):
        run_features(model, x_BCHW)
    missed = [block.name for number, block in enumerate(blocks) if number not in seen]
    if missed:
        raise ValueError(f"{missed[0]} does not run for every image: the model must treat all alike")
    return [(seen[k][0].cpu().numpy(), seen[k][1].cpu().numpy()) for k in range(len(blocks))]


# --- a run


def measure_spectrum(
    model: nn.Module,
    dataset: Images,
    *,
    out: str | Path,
    images: int | None = 1000,
    shuffle: bool = True,
    seed: int = 0,
    unit_images: int = 32,
    names: Sequence[str] | None = None,
    model_name: str = "",
    data_name: str = "",
    transform: Mapping[str, Any] = NOTHING,
    about: Mapping[str, Any] = NOTHING,
    num_workers: int = 0,
    progress: bool = True,
    dry_run: bool = False,
) -> "Spectrum":
    """Measure a model over the images of a data set; go on with the measurement if `out` holds it unfinished.

    Started by torchrun, every process calls this with the same arguments, and each measures its share of the images.

    Args:
        model: any timm model, or any that `find_blocks` can follow, on the device where it is to run. It needs no
            classifier and is put into evaluation mode.
        dataset: image number -> (normalised image C×H×W, label or None); the labels are not used. All images of one
            size, and the same pixels at every reading. What cannot be read is skipped.
        out: folder of the run: run.json, images/, amplitudes/, spectrum.csv, variance.csv.
        images: at most so many; all where it is None.
        shuffle: take images in a random order that the seed decides, not in the data set's own.
        unit_images: images measured and written together, in one batch where memory allows; what an interruption loses.
        names: of the images, for messages.
        model_name, data_name: for the record.
        transform: how the data set makes its images, ready for JSON; a run with another is not gone on with.
        about: what else to record of this start, ready for JSON, such as the commit of the source tree.
        num_workers, dry_run: as of `profile_model`.

    Raises:
        ValueError: a model whose blocks cannot be found, or that treats an image otherwise among others; no usable
            image; a folder that holds a run with others.
        NonFiniteValueError: a map that holds NaN or infinity; names the block and the image.
        OSError: a folder that cannot be written to, a full disk.
    """
    wanted = settled(
        ProfileSettings(images=images, shuffle=shuffle, seed=seed, unit_images=unit_images, value="cosine")
    )
    wanted.check()
    images, seed, unit_images = wanted.images, wanted.seed, wanted.unit_images
    material, folder = Material.of(model, dataset, names, model_name, data_name, transform), Path(out)
    settings = {"images": images, "shuffle": shuffle, "seed": seed, "unit_images": unit_images}

    def begin() -> dict[str, Any]:
        def settle() -> dict[str, Any]:
            found = select(model, dataset, names, wanted, progress, wanted=wanted.images)
            record = prepared(model, found.shape or (), found.chosen, found.skipped)
            image_1CHW = read_again(dataset, found.chosen[:1])
            refuse_dependent_maps(model, blocks_of(record), image_1CHW[0])
            rows = len(found.chosen) * len(record["blocks"])
            return {
                **record,
                **forecast(len(found.chosen), ROW_BYTES * rows),
                "passes_per_second": rate(record, image_1CHW),
            }

        def rate(record: Mapping[str, Any], image_1CHW: Tensor) -> float:
            device = device_of(model, image_1CHW.device)
            x_1CHW = image_1CHW.to(device)  # a single one, which the check before this one had in memory
            return 1 / seconds_of(lambda: measure_maps(model, blocks_of(record), x_1CHW), device)

        asked, place = material.asked(settings), place_of(model, about)
        again = partial(read_again, dataset)
        return begin_run(
            folder, asked, {}, settle, place, TABLES, "spectrum", say=progress, dry_run=dry_run, again=again
        )

    def measure(record: dict[str, Any], ranks: Ranks) -> None:
        measure_units(folder, record, unit_images, ranks, unit_measure(model, dataset, blocks_of(record)), progress)

    def end(record: dict[str, Any]) -> dict[str, Any]:
        run = Spectrum(folder, record)
        return finish(folder, record, unit_images, dict(zip(TABLES, (run.spectrum, run.variance), strict=True)))

    with read_ahead(dataset, wanted, num_workers) as dataset:  # which the steps read from here on
        carry_out(folder, begin, measure, end)
    return load_spectrum(folder)


@dataclass(frozen=True)
class Spectrum(Results):
    """What a spectrum run measured so far. `record` is its run.json."""

    def spectrum(self, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
        """One row per block and frequency: block, name, kind, depth (0 to 1), frequency (in units of π), log_amplitude
        (relative to frequency 0) with its 95 % bootstrap interval over images (low, high), images.

        Maps with fewer than three positions along a side have no frequency above 0 and are left out.
        """
        values_NV, keys = self._values("amplitudes", ["block", "step"], "log_amplitude")
        zero = np.array([keys.get_loc((block, 0)) for block, _ in keys], dtype=int)
        rows = [
            {**about, "frequency": frequencies(about["height"], about["width"])[step]}
            for block, step in keys
            for about in [self.record["blocks"][block]]
        ]
        table = with_intervals(rows, values_NV - values_NV[:, zero], "log_amplitude", resamples, seed)
        return table[min_side(table) > 2].drop(columns=["height", "width"]).reset_index(drop=True)

    def variance(self, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
        """One row per block: block, name, kind, depth (0 to 1), variance with its 95 % bootstrap interval over images
        (low, high), images. Maps of a single position are left out."""
        values_NV, keys = self._values("images", ["block"], "variance")
        rows = [self.record["blocks"][block] for block in keys]
        table = with_intervals(rows, values_NV, "variance", resamples, seed)
        table["low"] = table.low.clip(lower=0)
        return table.drop(columns=["height", "width"])

    def _values(self, part: str, keys: list[str], value: str) -> tuple[np.ndarray, pd.Index]:
        """One row per image, one column per key."""
        table = self.rows(part).pivot(index="image", columns=keys, values=value)
        return table.to_numpy(), table.columns


def load_spectrum(folder: str | Path) -> Spectrum:
    """The run in a folder, finished or not.

    Raises:
        FileNotFoundError: no run there.
        ValueError: a run.json that another command wrote.
    """
    return load(Spectrum, folder, "spectrum", "spectrum")


def prepared(
    model: nn.Module, shape: Sequence[int], chosen: Sequence[Chosen], skipped: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What a fresh run writes down: its images, its blocks and where to read them, and which maps are too small."""
    blocks = find_blocks(model, shape)
    if all(block.layout.positions == 1 for block in blocks):
        raise ValueError(
            f"every block's map has a single position ({', '.join(block.name for block in blocks[:3])} …): there is no "
            "spectrum and no variance; give larger images, or another network"
        )
    return {
        "passes_per_image": 1,
        "image_shape": list(shape),
        "blocks": [row_of(block, number, len(blocks)) for number, block in enumerate(blocks)],
        "places": [asdict(block) for block in blocks],
        "left_out": [
            {"block": number, "name": block.name, "reason": reason}
            for number, block in enumerate(blocks)
            if (reason := too_small(block.layout))
        ],
        "skipped": list(skipped),
        "images": [asdict(one) for one in chosen],
    }


def refuse_dependent_maps(model: nn.Module, blocks: Sequence[Block], image_CHW: Tensor) -> None:
    """Raises ValueError where the map of an image is no matter of that image alone; see `refuse_dependent`."""
    device = device_of(model)

    def forward(x_BCHW: Tensor) -> list[Tensor]:
        return [torch.from_numpy(part) for parts in measure_maps(model, blocks, x_BCHW) for part in parts]

    image_CHW = image_CHW.to(device)
    refuse_dependent(model, forward, image_CHW, torch.zeros_like(image_CHW))


def too_small(layout: Layout) -> str:
    """Why a map is left out of a table; empty where it is not."""
    size = f"a map of {layout.height}×{layout.width}"
    if layout.positions == 1:
        return f"{size} has no spectrum and no variance"
    return f"{size} has no frequency between 0 and π" if min(layout.height, layout.width) < 3 else ""


def row_of(block: Block, number: int, count: int) -> dict[str, Any]:
    """What the tables say about a block."""
    size = {"height": block.layout.height, "width": block.layout.width}
    return {"block": number, "name": block.name, "kind": block.kind, "depth": number / (count - 1), **size}


def blocks_of(record: Mapping[str, Any]) -> list[Block]:
    """The blocks as the record has them."""
    return [Block(**{**place, "layout": Layout(**place["layout"])}) for place in record["places"]]


def unit_measure(model: nn.Module, dataset: Images, blocks: Sequence[Block]) -> Measure:
    """What measures a unit of images: images (one row per image and block: variance), amplitudes (one row per image,
    block and step along the half diagonal). The batch is halved for good where memory does not suffice."""
    device = device_of(model)
    batch: int | None = None

    def measure(
        chosen: Sequence[Chosen], on_batch: Callable[[int], object], _: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        nonlocal batch
        x_BCHW = read_again(dataset, chosen)
        batch = batch or len(x_BCHW)
        while True:
            try:
                done = [measure_maps(model, blocks, part.to(device)) for part in x_BCHW.split(batch)]
                break
            except RuntimeError as error:
                if not is_out_of_memory(error) or batch == 1:
                    raise
                batch //= 2
        by_block = list(zip(*done, strict=True))
        amplitudes = [np.concatenate([amplitude for amplitude, _ in maps]) for maps in by_block]
        variances = [np.concatenate([variance for _, variance in maps]) for maps in by_block]
        refuse_non_finite(blocks, amplitudes, chosen)
        on_batch(len(chosen))
        return unit_tables(blocks, amplitudes, variances, chosen), {"batch_size": batch}

    return measure


def unit_tables(
    blocks: Sequence[Block],
    amplitudes: Sequence[np.ndarray],
    variances: Sequence[np.ndarray],
    chosen: Sequence[Chosen],
) -> dict[str, pd.DataFrame]:
    """The rows of a unit; maps of a single position have none."""
    image_B = np.array([one.image for one in chosen], dtype=np.int32)
    parts: dict[str, list[pd.DataFrame]] = {"images": [], "amplitudes": []}
    for number, (block, amplitude_BK, variance_B) in enumerate(zip(blocks, amplitudes, variances, strict=True)):
        if block.layout.positions == 1:
            continue
        about = {"image": image_B, "block": np.int16(number)}
        parts["images"].append(pd.DataFrame({**about, "variance": variance_B}))
        for step, amplitude_B in enumerate(amplitude_BK.T):
            parts["amplitudes"].append(pd.DataFrame({**about, "step": np.int16(step), "log_amplitude": amplitude_B}))
    return {part: pd.concat(tables, ignore_index=True) for part, tables in parts.items()}


def refuse_non_finite(blocks: Sequence[Block], amplitudes: Sequence[np.ndarray], chosen: Sequence[Chosen]) -> None:
    """Raises NonFiniteValueError for the first block whose map is not finite."""
    for block, amplitude_BK in zip(blocks, amplitudes, strict=True):
        wrong = ~np.isfinite(amplitude_BK).all(1)
        if wrong.any():
            name = chosen[int(wrong.argmax())].name
            raise NonFiniteValueError(f"the map of {block.name} holds NaN or infinity for {name}: check the weights")


def with_intervals(
    rows: Sequence[Mapping[str, Any]], values_NV: np.ndarray, value: str, resamples: int, seed: int
) -> pd.DataFrame:
    """The rows with the mean of each column of values and its interval."""
    low, high = interval_of_mean(values_NV, resamples, seed)
    numbers = pd.DataFrame({value: values_NV.mean(0), "low": low, "high": high, "images": len(values_NV)})
    return pd.concat([pd.DataFrame(rows), numbers], axis=1)


def min_side(table: pd.DataFrame) -> pd.Series:
    return table[["height", "width"]].min(axis=1)
