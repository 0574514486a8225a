"""Which image each process sees at each step, as a pure function of (seed, step): so a run can start anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from a2mim.seeds import seed_of


class Key(NamedTuple):
    """One augmented image: all that its randomness depends on, besides the seed."""

    epoch: int
    image: int
    copy: int = 0


@dataclass(frozen=True)
class Plan:
    """The order of training images.

    An epoch is a random order of the `samples` images, cut into global batches; what is left over is dropped. A global
    batch is dealt out to `slots` = processes × accumulated micro-batches like cards, so that the same slots
    see the same images and random numbers whether they are processes, micro-batches, or some of each. With
    `repeats` r an epoch holds samples / r images, each r times in a row, so that copies go to different slots
    (repeated augmentation, Hoffer et al. 2020, as in DeiT).

    Raises ValueError where the batch exceeds the data set or is not a multiple of the slots.
    """

    samples: int
    batch: int
    seed: int = 0
    slots: int = 1
    repeats: int = 1

    def __post_init__(self) -> None:
        if self.batch < 1 or self.slots < 1 or self.repeats < 1:
            raise ValueError(
                f"batch ({self.batch}), processes × micro-batches ({self.slots}) and repeats ({self.repeats}) "
                "must each be at least 1"
            )
        if self.batch > self.samples:
            raise ValueError(
                f"a batch of {self.batch} is larger than the data set of {self.samples} images: "
                f"use --batch {self.samples} or less"
            )
        if self.batch % self.slots:
            raise ValueError(
                f"a batch of {self.batch} cannot be dealt out evenly to {self.slots} processes × micro-batches: "
                f"use a multiple of {self.slots}"
            )

    @property
    def steps_per_epoch(self) -> int:
        return self.samples // self.batch

    @property
    def slot_batch(self) -> int:
        """Images in one micro-batch of one process."""
        return self.batch // self.slots

    def keys(self, step: int, slot: int) -> list[Key]:
        """The images that `slot` sees at `step` (both from 0)."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = _epoch_order(self.samples, self.seed, epoch, self.repeats)
        chosen = order[position * self.batch : (position + 1) * self.batch][slot :: self.slots]
        return [Key(epoch, int(index), int(copy)) for index, copy in chosen]


TRIES = 100
UNREADABLE = f"{TRIES} images in a row could not be decoded: is the data set damaged?"


def stand_in(key: Key, seed: int, samples: int) -> Iterator[int]:
    """The image of `key`, then those that take its place, each if the ones before it cannot be decoded.

    They are drawn from the whole set by seed, epoch and image, so that it matters neither where a run began nor what it
    met before.
    """
    yield key.image
    for attempt in range(1, TRIES):
        yield seed_of(seed, "instead", key.epoch, key.image, attempt) % samples


@dataclass(frozen=True)
class Schedule:
    """A batch sampler for torch's DataLoader: the micro-batches of `steps`, each dealt to `slots` in turn."""

    plan: Plan
    steps: range
    slots: Sequence[int]

    def __iter__(self) -> Iterator[list[Key]]:
        return (self.plan.keys(step, slot) for step in self.steps for slot in self.slots)

    def __len__(self) -> int:
        return len(self.steps) * len(self.slots)


@lru_cache(maxsize=2)
def _epoch_order(samples: int, seed: int, epoch: int, repeats: int) -> np.ndarray:
    """(samples, 2) image index and copy number."""
    order = np.random.default_rng(seed_of(seed, "order", epoch)).permutation(samples)
    pairs = np.stack([np.repeat(order, repeats), np.tile(np.arange(repeats), samples)], axis=1)
    return pairs[:samples]
