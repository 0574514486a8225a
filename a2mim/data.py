"""Images on their way to the model: opened by a2mim.images, augmented by timm, batched, moved and normalised.

Augmentation is a function of (seed, epoch, image index), mixing of (seed, step): a training run can stop anywhere, go
on with another number of workers, and see the same pixels. Streamed data sets (WebDataset, Hugging Face's iterable
ones, TFDS) have no index: there the place in the stream takes its part, so that their number of workers must stay the
same, and going on within an epoch reads and discards what was seen of it.

A picture that cannot be decoded is told by name and left out. Evaluation counts the others. In training a batch keeps
its size: the place goes to another image of the whole set, with its own label, drawn by the seed, the epoch and the
number of the damaged one (`stand_in`), so that it too depends on nothing else.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.data import Mixup, create_transform, resolve_data_config
from timm.data.mixup import mixup_target
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate, get_worker_info
from torchvision import transforms
from tqdm import tqdm

from a2mim.bounds import check
from a2mim.decoding import Damaged, is_constant
from a2mim.dist import World
from a2mim.images import Images, is_named, one_line, open_place, tell
from a2mim.memory import MemoryImages
from a2mim.parts import part_of
from a2mim.plan import UNREADABLE, Key, Plan, Schedule, stand_in
from a2mim.seeds import seed_of, seeded
from a2mim.settings import Augmentation, Data, Evaluation, Mixing
from a2mim.trees import ReadFailed, open_tree, place_of

Batch = dict[str, Any]
Told = tuple[str, int, str]

VAL = "validation"

NO_MIXING = Mixing()
AS_TRAINED = Evaluation()


class WorkerDied(ValueError):
    """A process that decodes images is gone."""


class Unreadable(WorkerDied):
    """Images cannot be read any more, though they were there."""


def open_images(
    data: Data, train: bool = True, classes: dict[str, int] | None = None, seed: int = 0, flag: str | None = None
) -> Images:
    """Open the training or the validation images, and say what is to be known about them.

    classes: the training set's names and labels, which decide those of the validation images.
    flag: the option that chooses the part, where it is not that of Data ('': none).

    Raises FileNotFoundError for a place that does not exist, and ValueError where it holds no images, not the part that
    is asked for, or other classes, where training and validation images turn out to be the same files, or where timm
    cannot read the data set.
    """
    name, split, default = (data.data, data.split, "train") if train else (data.val or data.data, data.val_split, VAL)
    check(data)
    if not train:
        refuse_training_images(data)
    images = open_place(
        name,
        split,
        default,
        root=data.data_root,
        known=classes or None,
        limit=data.limit if train else 0,
        flag=("--split" if train else "--val-split") if flag is None else flag,
        train=train,
        seed=seed,
        stream_length=data.stream_length,
    )
    if int(os.environ.get("RANK", 0)) == 0:
        for note in images.notes:
            tell(f"note: {images.name}: {note}")
    return images


def refuse_training_images(data: Data) -> None:
    """Raises ValueError where the validation images would be the training images."""
    places = ((data.data, data.split, "train", "--split"), (data.val or data.data, data.val_split, VAL, "--val-split"))
    if any(is_named(name) or not Path(name).exists() for name, *_ in places):
        return
    train, val = (part_of(open_tree(Path(name).resolve()), *rest) for name, *rest in places)
    if place_of(train) == place_of(val):
        raise ValueError(
            f"the validation images would be the training images in {data.val or data.data}: name others with --val, "
            f"or put them into a sub-folder called {data.val_split}"
        )


# ---------------------------------------------------------------------------------------------------- one image


def view_transform(view: Augmentation, mean: Sequence[float], std: Sequence[float]) -> Callable[[Any], Tensor]:
    """PIL image -> (3, size, size): uint8, or normalised float where erasing needs it. timm's transforms throughout."""
    if view.crop == "centre":
        return create_transform(view.image_size, crop_pct=1.0, interpolation=view.interpolation, normalize=False)
    strength = view.color_jitter
    jitter = (strength, strength, strength if view.saturation is None else view.saturation, view.hue)
    first, second, last = create_transform(
        view.image_size,
        is_training=True,
        scale=view.scale,
        ratio=view.ratio,
        hflip=view.flip,
        color_jitter=jitter if any(jitter) else None,  # type: ignore[arg-type]
        color_jitter_prob=view.color_jitter_prob if view.color_jitter_prob < 1 else None,
        grayscale_prob=view.grayscale,
        auto_augment=view.auto_augment or None,
        interpolation=view.interpolation,
        mean=tuple(mean),
        std=tuple(std),
        re_prob=view.erasing,
        re_mode="pixel",
        normalize=view.erasing > 0,
        separate=True,
    )
    kernel = 2 * round(view.image_size / 20) + 1  # timm's own blur has one for 224 px
    if view.blur:
        second.transforms.append(transforms.RandomApply([transforms.GaussianBlur(max(3, kernel))], view.blur))
    if view.solarize:
        second.transforms.append(transforms.RandomSolarize(128, view.solarize))
    if view.crop == "padded":
        whole = evaluation_transform(view.image_size, 1.0).transforms[:-1]  # as images are decoded into memory
        crop = transforms.RandomCrop(view.image_size, padding=view.padding)
        first = transforms.Compose([*whole, crop, transforms.RandomHorizontalFlip(view.flip)])
    return transforms.Compose([first, second, last])


def evaluation_transform(size: int, crop_pct: float) -> transforms.Compose:
    """PIL image -> (3, size, size) uint8: resize so that a centre crop keeps `crop_pct` of the shorter side."""
    return create_transform(size, crop_pct=crop_pct, interpolation="bicubic", normalize=False)


class Samples(Dataset):
    """raw[key.image] through `views`, whose randomness is a function of (seed, key) alone.

    A damaged image is left out; with `stand_ins` another takes its place. What was found out about single images is in
    `told`: (what, number, why). A disk that fails gives nothing but `failed`, the sentence to stop with.
    """

    def __init__(
        self, raw: Any, views: Sequence[Callable[[Any], Tensor]], seed: int = 0, stand_ins: bool = False
    ) -> None:
        self.raw, self.views, self.seed, self.stand_ins = raw, views, seed, stand_ins

    def __getitem__(self, key: Key) -> Batch:
        told: list[Told] = []
        try:
            index, (image, target) = self._readable(key, told)
        except Damaged:
            return {"told": told, "failed": UNREADABLE} if self.stand_ins else {"told": told}
        except ReadFailed as error:
            return {"told": told, "failed": str(error)}
        if is_constant(image):
            told.append(("constant", index, ""))
        with seeded(self.seed, "view", *key):
            return {**self.shown(image, target), "index": index, "told": told}

    def shown(self, image: Any, target: Any) -> Batch:
        """What the model is to see of an image with its label."""
        made = [view(image) for view in self.views]
        return {"image": made if len(made) > 1 else made[0], "target": int(target)}

    def _readable(self, key: Key, told: list[Told]) -> tuple[int, Any]:
        for index in stand_in(key, self.seed, len(self.raw)) if self.stand_ins else (key.image,):
            try:
                return index, self.raw[index]
            except Damaged as error:
                told.append(("damaged", index, str(error)))
        raise Damaged


def together(samples: Sequence[Batch], collate: Callable[[Any], Batch] = default_collate) -> Batch:
    """A batch of those samples that hold an image, and what was told of all."""
    told = [each for sample in samples for each in sample.pop("told")]
    failed = [sample["failed"] for sample in samples if "failed" in sample]
    if failed:
        return {"told": told, "failed": failed[0]}
    whole = [sample for sample in samples if sample]
    return {**(collate(whole) if whole else {}), "told": told}


def heard(batches: Iterable[Batch], images: Images) -> Iterator[Batch]:
    """The batches that hold images, once what they tell of single ones is noted. Raises Unreadable."""
    for batch in batches:
        for what, index, why in batch.pop("told", ()):
            images.reports.add(what, index, why)
        if "failed" in batch:
            raise Unreadable(batch["failed"])
        if batch:
            yield batch


class Stream(IterableDataset):
    """One epoch of a streamed data set; the place in the stream stands in for the image's index."""

    def __init__(
        self, raw: Any, views: Sequence[Callable[[Any], Tensor]], seed: int, epoch: int, rank: int = 0
    ) -> None:
        self.raw, self.views, self.seed, self.epoch, self.rank = raw, views, seed, epoch, rank

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        for count, (image, target) in enumerate(self.raw):
            index = count * workers + number
            with seeded(self.seed, "view", self.epoch, index, self.rank):
                made = [view(image) for view in self.views]
            yield {"image": made if len(made) > 1 else made[0], "target": int(target), "index": index}


# ---------------------------------------------------------------------------------------------------- batches


@dataclass(frozen=True)
class Source:
    """Training images and what happens to them before the model sees them.

    memory: the images decoded, on the device; `images` is then not read again.
    classes: number of classes that mixing spreads its soft targets over.
    """

    images: Images
    views: tuple[Augmentation, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mixing: Mixing = NO_MIXING
    classes: int = 0
    workers: int = 0
    memory: MemoryImages | None = None

    @property
    def repeats(self) -> int:
        return self.views[0].repeats

    @property
    def collate(self) -> Callable[[Sequence[Batch]], Batch]:
        """Samples -> a batch."""
        return together

    def check(self, plan: Plan) -> None:
        """Raise ValueError for settings that cannot be."""
        mixer(self.mixing, self.classes, plan.slot_batch)
        try:
            self._transforms()
        except (AssertionError, LookupError, TypeError) as error:
            policy = self.views[0].auto_augment
            raise ValueError(
                f"timm cannot make these augmentations (--auto-augment {policy}): {one_line(error)}"
            ) from error

    def batches(
        self, plan: Plan, steps: range, slots: Sequence[int], device: torch.device, channels_last: bool = False
    ) -> Generator[Batch, None, None]:
        """The micro-batches of `steps`, each dealt to `slots` in turn, ready for the model.

        A batch holds image: float (B, 3, H, W), normalised, or a list of such views; target: long (B,), or float
        (B, classes) where mixing is on; index: long (B,).

        Raises ValueError for settings that cannot be, and WorkerDied.
        """
        return guarded(self._ready(plan, steps, slots, device, channels_last))

    def _ready(
        self, plan: Plan, steps: range, slots: Sequence[int], device: torch.device, channels_last: bool
    ) -> Iterator[Batch]:
        mix = mixer(self.mixing, self.classes, plan.slot_batch)
        if self.memory is not None:
            made = self._from_memory(self.memory, plan, steps, slots)
        elif self.images.streamed:
            made = self._from_stream(plan, steps, slots, device)
        else:
            made = self._from_files(plan, steps, slots, device)
        places = ((step, slot) for step in steps for slot in slots)
        for (step, slot), batch in zip(places, made, strict=True):
            batch = on_device(batch, device, self.mean, self.std, channels_last)
            if mix:
                with seeded(plan.seed, "mix", step, slot):
                    batch["image"], batch["target"] = mix(batch["image"], batch["target"])
            yield batch

    def _transforms(self) -> list[Callable[[Any], Tensor]]:
        return [view_transform(view, self.mean, self.std) for view in self.views]

    def samples(self, plan: Plan) -> Dataset:
        """Key -> the views of that image, made afresh."""
        return Samples(self.images.raw, self._transforms(), plan.seed, stand_ins=True)

    def _from_files(self, plan: Plan, steps: range, slots: Sequence[int], device: torch.device) -> Iterator[Batch]:
        # One loader for the whole run: workers fetch ahead across the end of an epoch.
        schedule = Schedule(plan, steps, slots)
        settings = loader_settings(self.workers, device)
        loader = DataLoader(self.samples(plan), batch_sampler=schedule, collate_fn=self.collate, **settings)
        return heard(started(loader), self.images)

    def _from_memory(self, memory: MemoryImages, plan: Plan, steps: range, slots: Sequence[int]) -> Iterator[Batch]:
        for keys in Schedule(plan, steps, slots):
            yield memory.batch(keys, self.views, plan.seed)

    def _from_stream(self, plan: Plan, steps: range, slots: Sequence[int], device: torch.device) -> Iterator[Batch]:
        # Fresh worker processes for each epoch: timm's readers keep their shuffling state for a process's lifetime.
        workers = max(1, self.workers)
        rank, per_epoch = slots[0], plan.steps_per_epoch
        for epoch in range(steps.start // per_epoch, -(-steps.stop // per_epoch)):
            self.images.raw.set_loader_cfg(num_workers=workers)
            self.images.raw.set_epoch(epoch)
            loader = DataLoader(
                Stream(self.images.raw, self._transforms(), plan.seed, epoch, rank),
                batch_size=plan.slot_batch,
                drop_last=True,
                generator=torch.Generator().manual_seed(seed_of(plan.seed, "stream", epoch, rank)),
                **{**loader_settings(workers, device), "persistent_workers": False},
            )
            skipped = max(0, steps.start - epoch * per_epoch) * len(slots)
            for count, batch in enumerate(started(loader)):
                if count >= per_epoch * len(slots):
                    break
                if count >= skipped:
                    yield batch


def make_source(
    images: Images,
    views: tuple[Augmentation, ...],
    model: nn.Module,
    device: torch.device,
    *,
    mixing: Mixing = NO_MIXING,
    classes: int = 0,
    workers: int = 0,
    in_memory: bool = False,
) -> Source:
    """A Source whose pixels are normalised as `model` (a timm model) asks for, decoded into memory if wanted."""
    mean, std = normalisation(model)
    memory = None
    if in_memory:
        memory = decoded(images, views[0].image_size, workers).to(device)
        memory.check(views)
    return Source(images, views, mean, std, mixing, classes, workers, memory)


def normalisation(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the three channels that the timm `model` was configured with."""
    config = resolve_data_config({}, model=model)
    return tuple(config["mean"]), tuple(config["std"])


def loader_settings(workers: int, device: torch.device) -> dict[str, Any]:
    """What every DataLoader of this project is given."""
    return {
        "num_workers": workers,
        "pin_memory": device.type == "cuda",
        "persistent_workers": workers > 0,
        "worker_init_fn": _start_worker if workers else None,
    }


def _start_worker(_: int) -> None:
    """Leave Ctrl-C to the main process, which stops in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def started(loader: DataLoader) -> Iterator[Batch]:
    """iter(loader), whose dead processes are noticed where a batch is waited for.

    torch would have the news of a death raise at whatever line the main process is at, in the middle of an optimizer
    step too. Without its handler, waiting for a batch finds out within seconds.
    """
    batches = iter(loader)
    if loader.num_workers and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return batches


def guarded(batches: Iterator[Batch]) -> Generator[Batch, None, None]:
    """`batches`, with a failed loader told in one sentence: WorkerDied, or ValueError."""
    try:
        yield from batches
    except (RuntimeError, ConnectionError, EOFError) as error:
        if isinstance(error, ConnectionError | EOFError) or "DataLoader worker (pid" in str(error):
            raise WorkerDied(one_line(error)) from error
        raise


def on_device(
    batch: Batch, device: torch.device, mean: Sequence[float], std: Sequence[float], channels_last: bool = False
) -> Batch:
    """Move a batch; uint8 pixels become normalised float32 there."""
    views = batch["image"] if isinstance(batch["image"], list) else [batch["image"]]
    ready = [normalised(view.to(device, non_blocking=True), mean, std) for view in views]
    if channels_last:
        ready = [view.contiguous(memory_format=torch.channels_last) for view in ready]
    moved = {name: value.to(device, non_blocking=True) for name, value in batch.items() if isinstance(value, Tensor)}
    return {**moved, "image": ready if isinstance(batch["image"], list) else ready[0]}


def normalised(x_BCHW: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 pixels -> (x / 255 - mean) / std in float32; float pixels are taken to be normalised already."""
    if x_BCHW.dtype != torch.uint8:
        return x_BCHW
    scale = torch.tensor(std, device=x_BCHW.device).view(1, -1, 1, 1) * 255
    return (x_BCHW - torch.tensor(mean, device=x_BCHW.device).view(1, -1, 1, 1) * 255) / scale


def mixer(mixing: Mixing, classes: int, batch: int) -> Callable[[Any, Tensor], tuple[Any, Tensor]] | None:
    """timm's Mixup and CutMix with label smoothing, smoothing alone, or None where all are off."""
    if not (mixing.mixup or mixing.cutmix or mixing.smoothing):
        return None
    if not classes:
        raise ValueError("mixup, CutMix and label smoothing need labelled images: set them to 0")
    if not (mixing.mixup or mixing.cutmix):
        return lambda image, target: (image, mixup_target(target, classes, 1.0, mixing.smoothing))
    if batch % 2:
        raise ValueError(f"mixup and CutMix pair images up: {batch} in a micro-batch is odd, change --batch")
    return Mixup(
        mixup_alpha=mixing.mixup,
        cutmix_alpha=mixing.cutmix,
        prob=mixing.mix_prob,
        switch_prob=mixing.switch_prob,
        label_smoothing=mixing.smoothing,
        num_classes=classes,
    )


# ---------------------------------------------------------------------------------------------------- evaluation


@dataclass(frozen=True)
class Gallery:
    """Images to evaluate on, in their own order, without augmentation."""

    images: Images
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float = 0.875
    batch: int = 256
    workers: int = 0
    memory: MemoryImages | None = None

    def batches(self, world: World, channels_last: bool = False) -> Iterator[Batch]:
        """This process's share (every size-th image from rank on), each image once, normalised and on the device."""
        return guarded(
            on_device(batch, world.device, self.mean, self.std, channels_last) for batch in self.loaded(world)
        )

    def loaded(self, world: World) -> Iterator[Batch]:
        """The same before they are moved and normalised: uint8."""
        return heard(self._loaded(world), self.images)

    def _loaded(self, world: World) -> Iterator[Batch]:
        view = [evaluation_transform(self.size, self.crop_pct)]
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


def examples(source: Source, count: int, device: torch.device) -> Batch | None:
    """`count` training images, evenly spaced and not augmented, as a batch; None for a streamed data set."""
    chosen = [Key(0, int(index)) for index in np.linspace(0, source.images.samples - 1, count)]
    if source.memory is not None:
        batch = source.memory.complete(chosen, 0)
    elif source.images.streamed:
        return None
    else:
        samples = Samples(source.images.raw, [evaluation_transform(source.views[0].image_size, 1.0)], stand_ins=True)
        batch = next(heard([together([samples[key] for key in chosen])], source.images))
    return on_device(batch, device, source.mean, source.std)
