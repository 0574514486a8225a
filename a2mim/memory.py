"""Small images kept on the device: decoded once, cropped and flipped there a whole batch at a time.

The random numbers of an epoch are one table, a function of (seed, epoch, view), with a row for each image: so an
image's augmentation does not depend on the batch it is in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from a2mim.plan import UNREADABLE, Key, stand_in
from a2mim.seeds import seed_of
from a2mim.settings import Augmentation


class MemoryImages:
    """images_NCHW: uint8 (N, 3, S, S); targets_N: long. Both on the device that trains.

    readable_N: False where an image could not be decoded (None: all could).
    """

    def __init__(self, images_NCHW: Tensor, targets_N: Tensor, readable_N: Tensor | None = None) -> None:
        self.images_NCHW, self.targets_N = images_NCHW, targets_N
        damaged = [] if readable_N is None else (~readable_N).nonzero().flatten().tolist()
        self.damaged = frozenset[int](damaged)

    def __len__(self) -> int:
        return len(self.images_NCHW)

    def to(self, device: torch.device) -> MemoryImages:
        moved = MemoryImages(self.images_NCHW.to(device), self.targets_N.to(device))
        moved.damaged = self.damaged
        return moved

    def check(self, views: Sequence[Augmentation]) -> None:
        """Raise ValueError for an augmentation that images in memory cannot be given."""
        for view in views:
            if more := view.besides_cropping():
                raise ValueError(f"{', '.join(more)}: images in memory are only cropped and flipped: drop --in-memory")
            if view.crop == "resized" and view.interpolation not in ("bilinear", "bicubic"):
                raise ValueError(
                    f"images in memory are resized bilinearly, not by --interpolation {view.interpolation}: drop "
                    "--in-memory, or leave the interpolation as it is"
                )
            if view.crop == "padded" and view.image_size != self.images_NCHW.shape[-1]:
                side = self.images_NCHW.shape[-1]
                raise ValueError(f"a padded crop keeps the size of the images in memory: use --image-size {side}")

    def plain(self, keys: Sequence[Key]) -> dict[str, Any]:
        """The images as they are, uint8, without those that are damaged."""
        return self._taken([key.image for key in keys if key.image not in self.damaged])

    def complete(self, keys: Sequence[Key], seed: int) -> dict[str, Any]:
        """The images as they are, with others in the places of damaged ones (see plan.stand_in)."""
        return self._taken([self._readable(key, seed) for key in keys])

    def _taken(self, numbers: Sequence[int]) -> dict[str, Any]:
        index_B = torch.tensor(numbers, dtype=torch.long).to(self.images_NCHW.device, non_blocking=True)
        return {"image": self.images_NCHW[index_B], "target": self.targets_N[index_B], "index": index_B}

    def batch(self, keys: Sequence[Key], views: Sequence[Augmentation], seed: int) -> dict[str, Any]:
        """The images as each of `views` shows them, uint8 (B, 3, size, size), a list where there are several.

        What stands in for a damaged image takes its random numbers.
        """
        batch = self.complete(keys, seed)
        epoch, copies = keys[0].epoch, max(view.repeats for view in views)
        rows = torch.tensor([(key.copy, key.image) for key in keys]).to(batch["index"].device, non_blocking=True)
        copy_B, image_B = rows.unbind(1)
        made = []
        for number, view in enumerate(views):
            table = random_table(len(self), copies, seed, epoch, number, batch["index"].device)
            made.append(augmented(batch["image"], table[copy_B, image_B], view))
        return {**batch, "image": made if len(made) > 1 else made[0]}

    def _readable(self, key: Key, seed: int) -> int:
        if key.image not in self.damaged:
            return key.image
        for number in stand_in(key, seed, len(self)):
            if number not in self.damaged:
                return number
        raise ValueError(UNREADABLE)


@lru_cache(maxsize=16)
def random_table(images: int, copies: int, seed: int, epoch: int, view: int, device: torch.device) -> Tensor:
    """(copies, images, 5) uniform numbers in [0, 1): area, aspect ratio, x, y, flip."""
    generator = torch.Generator().manual_seed(seed_of(seed, "memory", epoch, view))
    return torch.rand((copies, images, 5), generator=generator).to(device)


def augmented(x_BCHW: Tensor, random_B5: Tensor, view: Augmentation) -> Tensor:
    """uint8 (B, 3, S, S) -> uint8 (B, 3, size, size), cropped and flipped by the numbers in each row of `random_B5`."""
    flip_B = random_B5[:, 4] < view.flip
    if view.crop == "padded":
        return padded_crop(x_BCHW, random_B5, flip_B, view.padding)
    if view.crop == "resized":
        return resized_crop(x_BCHW, random_B5, flip_B, view)
    centred = F.interpolate(x_BCHW.float(), (view.image_size, view.image_size), mode="bilinear", antialias=True)
    return centred.round().byte() if view.image_size != x_BCHW.shape[-1] else x_BCHW


def padded_crop(x_BCHW: Tensor, random_B5: Tensor, flip_B: Tensor, padding: int) -> Tensor:
    """Pad with black, cut the original size out at a random place, flip."""
    side = x_BCHW.shape[-1]
    start_B2 = (random_B5[:, 2:4] * (2 * padding + 1)).long()
    within_S = torch.arange(side, device=x_BCHW.device)
    columns_BS = torch.where(flip_B[:, None], side - 1 - within_S, within_S) + start_B2[:, :1]
    rows_BS = within_S + start_B2[:, 1:]
    padded_BHWC = F.pad(x_BCHW, (padding,) * 4).permute(0, 2, 3, 1)
    image_B = torch.arange(len(x_BCHW), device=x_BCHW.device)
    cut_BHWC = padded_BHWC[image_B[:, None, None], rows_BS[:, :, None], columns_BS[:, None, :]]
    return cut_BHWC.permute(0, 3, 1, 2)


def resized_crop(x_BCHW: Tensor, random_B5: Tensor, flip_B: Tensor, view: Augmentation) -> Tensor:
    """Random resized crop with bilinear sampling.

    Area is uniform in view.scale, aspect ratio log-uniform in view.ratio, as in torchvision; but where the rectangle
    exceeds the image, its side is cut to the image's instead of drawing again. There is no low-pass filter, so crops
    should not shrink much: right for images that are kept at about the size that the model sees.
    """
    low, high = view.scale
    area_B = low + (high - low) * random_B5[:, 0]
    low, high = (math.log(bound) for bound in view.ratio)
    ratio_B = torch.exp(low + (high - low) * random_B5[:, 1])
    width_B, height_B = (area_B * ratio_B).sqrt().clamp(max=1), (area_B / ratio_B).sqrt().clamp(max=1)
    centre_x_B = (2 * random_B5[:, 2] - 1) * (1 - width_B)
    centre_y_B = (2 * random_B5[:, 3] - 1) * (1 - height_B)
    none_B = torch.zeros_like(width_B)
    turned_B = torch.where(flip_B, -width_B, width_B)
    theta_B23 = torch.stack([turned_B, none_B, centre_x_B, none_B, height_B, centre_y_B], dim=1).view(-1, 2, 3)
    grid_BHW2 = F.affine_grid(theta_B23, [len(x_BCHW), 3, view.image_size, view.image_size], align_corners=False)
    made = F.grid_sample(x_BCHW.float(), grid_BHW2, mode="bilinear", padding_mode="border", align_corners=False)
    return made.round().clamp(0, 255).byte()
