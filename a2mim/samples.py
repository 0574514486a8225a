"""One image on its way to the model: read, augmented, and told about where that cannot be.

Augmentation is a function of (seed, epoch, image index). Streamed data sets have no index: there the place in the
stream takes its part.

A picture that cannot be decoded is told by name and left out. In training a batch keeps its size: the place goes to
another image of the whole set, with its own label, drawn by the seed, the epoch and the number of the damaged one
(`stand_in`), so that it too depends on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from PIL import Image
from timm.data import auto_augment, create_transform
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info
from torchvision import transforms

from a2mim.decoding import Damaged, is_constant
from a2mim.plan import UNREADABLE, Key, stand_in
from a2mim.seeds import seeded
from a2mim.settings import Augmentation
from a2mim.trees import ReadFailed

EVALUATED = "bicubic"
"""How an image is resized that is evaluated on."""
Batch = dict[str, Any]
Told = tuple[str, int, str]


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
    if view.auto_augment:
        posterize_to_black(second.transforms[0])
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


def posterize_to_black(policy: Any) -> None:
    """Give timm's policy (its RandAugment, AutoAugment or AugMix) the `posterize` below in place of timm's."""
    ops = chain.from_iterable(policy.policy) if hasattr(policy, "policy") else policy.ops
    for op in ops:
        if op.aug_fn is auto_augment.posterize:
            op.aug_fn = posterize


def posterize(image: Image.Image, bits: int, **more: Any) -> Image.Image:
    """timm's; where no bit is kept a black image, as the published policies have it and Pillow made it until 13.

    Pillow 13 raises there, and timm (1.0.31) asks for it still: at magnitudes of 10, which rand-m9-mstd0.5-inc1 draws
    now and then, and in AutoAugment's v0. Once timm makes the black image itself, both functions can go.
    """
    return auto_augment.posterize(image, bits, **more) if bits > 0 else Image.new(image.mode, image.size)


def evaluation_transform(size: int, crop_pct: float) -> transforms.Compose:
    """PIL image -> (3, size, size) uint8: resize so that a centre crop keeps `crop_pct` of the shorter side."""
    return create_transform(size, crop_pct=crop_pct, interpolation=EVALUATED, normalize=False)


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


class Stream(IterableDataset):
    """One epoch of a streamed data set; the place in the stream stands in for the image's index.

    endless: begin again where the images end, with places that go on: processes hold different numbers of them, and
    whoever reads stops at the end of the epoch.
    """

    def __init__(
        self,
        raw: Any,
        views: Sequence[Callable[[Any], Tensor]],
        seed: int,
        epoch: int,
        rank: int = 0,
        endless: bool = False,
    ) -> None:
        self.raw, self.views, self.seed, self.epoch, self.rank = raw, views, seed, epoch, rank
        self.endless = endless

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        for count, (image, target) in enumerate(passes(self.raw) if self.endless else self.raw):
            index = count * workers + number
            with seeded(self.seed, "view", self.epoch, index, self.rank):
                made = [view(image) for view in self.views]
            yield {"image": made if len(made) > 1 else made[0], "target": int(target), "index": index}


def passes(raw: Iterable[Any]) -> Iterator[Any]:
    """What `raw` gives, again and again, until it gives nothing."""
    found = True
    while found:
        found = False
        for each in raw:
            found = True
            yield each
