"""Images to evaluate on, in their own order and not augmented; and images decoded into memory as these are shown.

A picture that cannot be decoded is told by name and left out; the others count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from timm.data import resolve_data_config
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from a2mim.dist import World
from a2mim.images import Images
from a2mim.loading import guarded, heard, loader_settings, on_device, started, together
from a2mim.memory import MemoryImages
from a2mim.plan import Key
from a2mim.samples import EVALUATED, Batch, Samples, Stream, evaluation_transform
from a2mim.settings import Evaluation

AS_TRAINED = Evaluation()


def one_by_one(samples: Dataset, images: Images, workers: int, world: World) -> Iterator[Batch]:
    """This process's share of the samples (every size-th from rank on), no batches made of them; what they tell of
    images is noted."""
    share = [Key(0, index) for index in range(world.rank, images.samples, world.size)]
    settings = {**loader_settings(workers, world.device), "persistent_workers": False}
    loader = DataLoader(samples, sampler=share, batch_size=None, collate_fn=as_it_is, **settings)  # type: ignore[arg-type]
    return guarded(heard(started(loader), images))


def as_it_is(sample: Batch) -> Batch:
    """A sample of which no batch is made."""
    return sample


@dataclass(frozen=True)
class Gallery:
    """Images to evaluate on, in their own order, without augmentation.

    shown: makes the model's input of an image, normalised, where that is not the usual centre crop of `crop_pct`.
    """

    images: Images
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float = 0.875
    batch: int = 256
    workers: int = 0
    memory: MemoryImages | None = None
    shown: Callable[[Any], Tensor] | None = None

    def batches(self, world: World, channels_last: bool = False) -> Iterator[Batch]:
        """This process's share (every size-th image from rank on), each image once, normalised and on the device."""
        return guarded(
            on_device(batch, world.device, self.mean, self.std, channels_last) for batch in self.loaded(world)
        )

    def loaded(self, world: World) -> Iterator[Batch]:
        """The same before they are moved and normalised: uint8, but what `shown` made."""
        return heard(self._loaded(world), self.images)

    def _loaded(self, world: World) -> Iterator[Batch]:
        view = [self.shown or evaluation_transform(self.size, self.crop_pct)]
        settings = {**loader_settings(self.workers, world.device), "persistent_workers": False}
        if self.images.streamed:
            return started(
                DataLoader(Stream(self.images.raw, view, 0, 0, world.rank), batch_size=self.batch, **settings)
            )
        share = [Key(0, index) for index in range(world.rank, self.images.samples, world.size)]
        cut = [share[start : start + self.batch] for start in range(0, len(share), self.batch)]
        if self.memory is not None:
            return (batch for batch in map(self.memory.plain, cut) if len(batch["index"]))
        samples = Samples(self.images.raw, view)
        return started(DataLoader(samples, batch_sampler=cut, collate_fn=together, **settings))


def refuse_shared_stream(images: Images, world: World) -> None:
    """Raise ValueError where processes would share a stream: timm's readers deal them equal numbers of images, some
    twice and others never, and evaluation is to count each once."""
    if images.streamed and world.size > 1:
        raise ValueError(
            f"{images.name} is streamed, of which {world.size} processes would see some images twice and others never: "
            "evaluate in one process, or give a folder or a .tar"
        )


def make_gallery(
    images: Images,
    model: nn.Module,
    size: int,
    device: torch.device,
    evaluation: Evaluation = AS_TRAINED,
    *,
    workers: int = 0,
    in_memory: bool = False,
) -> Gallery:
    """A Gallery as `model` (a timm model) asks for it, of images of `size` unless `evaluation` names another."""
    mean, std = normalisation(model)
    size = evaluation.eval_size or size
    memory = decoded(images, size, workers, evaluation.crop_pct).to(device) if in_memory else None
    return Gallery(images, size, mean, std, evaluation.crop_pct, evaluation.eval_batch, workers, memory)


def normalisation(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the three channels that the timm `model` was configured with."""
    config = resolve_data_config({}, model=model)
    return tuple(config["mean"]), tuple(config["std"])


def shown_by(model: nn.Module, size: int, evaluation: Evaluation) -> dict[str, Any]:
    """What `make_gallery` does with an image of the same arguments, ready for JSON."""
    mean, std = normalisation(model)
    side = evaluation.eval_size or size
    how = {"interpolation": EVALUATED, "crop_pct": evaluation.crop_pct}
    return {"size": [side, side], **how, "mean": list(mean), "std": list(std)}


def decoded(images: Images, size: int, workers: int = 0, crop_pct: float = 1.0) -> MemoryImages:
    """Every image decoded once, as a Gallery shows it, on the CPU. Raises ValueError for a streamed data set."""
    if images.streamed:
        raise ValueError("a streamed data set cannot be decoded into memory: drop --in-memory")
    gallery = Gallery(images, size, (), (), crop_pct, batch=512, workers=workers)
    steps = -(-images.samples // gallery.batch)
    pixels_NCHW = torch.zeros(images.samples, 3, size, size, dtype=torch.uint8)
    targets_N, readable_N = torch.zeros(images.samples, dtype=torch.long), torch.zeros(images.samples, dtype=torch.bool)
    for batch in tqdm(guarded(gallery.loaded(World())), f"decoding {images.name}", steps, leave=False, mininterval=1):
        index_B = batch["index"]
        pixels_NCHW[index_B], targets_N[index_B], readable_N[index_B] = batch["image"], batch["target"], True
    if not readable_N.any():
        raise ValueError(
            f"none of the {images.samples} images of {images.name} can be decoded: is the data set damaged?"
        )
    return MemoryImages(pixels_NCHW, targets_N, readable_N)
