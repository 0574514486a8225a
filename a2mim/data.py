"""The images of a training run: opened by a2mim.images, dealt to steps, augmented, batched and mixed.

What is done to an image is a function of (seed, epoch, image index), and of (seed, step): a training run can stop
anywhere, go on with another number of workers, and see the same pixels. Streamed data sets (WebDataset, Hugging Face's
iterable ones, TFDS) have no index: their number of workers must stay the same, going on within an epoch reads and
discards what was seen of it, and a worker whose share ends before the epoch does begins it again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from a2mim.bounds import check
from a2mim.errors import one_line
from a2mim.gallery import decoded, normalisation
from a2mim.images import Images, evenly, is_named, open_place, tell
from a2mim.loading import Unreadable, guarded, heard, loader_settings, mixer, on_device, started, together
from a2mim.memory import MemoryImages
from a2mim.parts import part_of
from a2mim.plan import Key, Plan, Schedule
from a2mim.samples import Batch, Samples, Stream, evaluation_transform, view_transform
from a2mim.seeds import seed_of, seeded
from a2mim.settings import Augmentation, Data, Mixing
from a2mim.trees import open_tree, place_of

VAL = "validation"

NO_MIXING = Mixing()


def open_images(
    data: Data,
    train: bool = True,
    classes: dict[str, int] | None = None,
    seed: int = 0,
    flag: str | None = None,
    once: bool = False,
) -> Images:
    """Open the training or the validation images, and say what is to be known about them.

    classes: the training set's names and labels, which decide those of the validation images.
    flag: the option that chooses the part, where it is not that of Data ('': none).
    once: training images, each once, as their features are taken: a streamed data set otherwise gives epochs, of which
        some images are in twice and others not.

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
        train=train and not once,
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
    if is_named(data.data) and data.val in ("", data.data) and data.val_split == data.split:
        raise ValueError(
            f"the validation images would be the training images, {data.split} of {data.data}: name another part with "
            "--val-split, or other images with --val"
        )
    if any(is_named(name) or not Path(name).exists() for name, *_ in places):
        return
    train, val = (part_of(open_tree(Path(name).resolve()), *rest) for name, *rest in places)
    if place_of(train) == place_of(val):
        raise ValueError(
            f"the validation images would be the training images in {data.val or data.data}: name others with --val, "
            f"or put them into a sub-folder called {data.val_split}"
        )


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
        for view in self.views:  # those of a method, which what was typed has changed
            view.check()
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

        Raises ValueError for settings that cannot be, and WorkerDied; Unreadable for a stream that gives nothing.
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
                Stream(self.images.raw, self._transforms(), plan.seed, epoch, rank, endless=True),
                batch_size=plan.slot_batch,
                drop_last=True,
                generator=torch.Generator().manual_seed(seed_of(plan.seed, "stream", epoch, rank)),
                **{**loader_settings(workers, device), "persistent_workers": False},
            )
            skipped, wanted = max(0, steps.start - epoch * per_epoch) * len(slots), per_epoch * len(slots)
            count = 0
            for count, batch in enumerate(islice(started(loader), wanted), 1):
                if count > skipped:
                    yield batch
            if count < wanted:
                raise Unreadable(
                    f"the data set {self.images.name} gave {count} of the {wanted} batches of an epoch and then no "
                    "more images: it needs some, and a shard, for every process"
                )


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
    if images.streamed and max(view.repeats for view in views) > 1:
        raise ValueError(f"images of {images.name} arrive in one order, once each: repeated views need --repeats 1")
    if in_memory:
        memory = decoded(images, views[0].image_size, workers).to(device)
        memory.check(views)
    return Source(images, views, mean, std, mixing, classes, workers, memory)


def examples(source: Source, count: int, device: torch.device) -> Batch | None:
    """At most `count` training images, evenly spaced and not augmented, as a batch; None for a streamed data set."""
    chosen = [Key(0, index) for index in evenly(source.images.samples, count)]
    if source.memory is not None:
        batch = source.memory.complete(chosen, 0)
    elif source.images.streamed:
        return None
    else:
        samples = Samples(source.images.raw, [evaluation_transform(source.views[0].image_size, 1.0)], stand_ins=True)
        batch = next(heard([together([samples[key] for key in chosen])], source.images))
    return on_device(batch, device, source.mean, source.std)
