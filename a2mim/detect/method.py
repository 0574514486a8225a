"""Detection as a method of the one training loop: torchvision's Faster and Mask R-CNN on a timm backbone's maps.

Pictures come normalised and padded to one size: torchvision's own resizing and normalisation have no part in it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import LevelMapper

from a2mim.detect.necks import Levels, make_neck, strides_of
from a2mim.detect.windows import Windows, in_windows
from a2mim.maps import OnMaps, Taken, last_map, stage_maps

RATIOS = (0.5, 1.0, 2.0)
ANCHORS = (32, 64, 128, 256, 512)
REGIONS = 512
WIDTH = 256
SURE = 0.5
"""Share of a pixel from which it belongs to a mask."""


def taken(backbone: Any) -> Taken:
    """The maps for a detector: those of four stages, or the last one of a plain transformer. Raises ValueError for a
    backbone that does not have them."""
    last = last_map(backbone, 2)
    if not last.plain:
        return stage_maps(backbone, "a detector", "use another network")
    if last.strides[0] % 4:
        raise ValueError(
            f"patches of {last.strides[0]} px give no levels of a quarter of it, which a detector needs: use a network "
            "with patches of 8 or 16 px"
        )
    return last


class Detect(OnMaps):
    """A timm backbone, a neck, and torchvision's region proposals and heads.

    classes: their number, without the background. detector: mask_rcnn or faster_rcnn.
    frozen: the backbone is left as it is, in evaluation mode; frozen_norms: its batch normalisation alone.
    size: height and width of pictures, on which it is tried, as on half of it upright; pad: every picture is padded to
    it. anchors: sides of the square ones, finest level first.
    regions: proposals of a picture that the heads are trained on. width: channels of the levels and of the heads.
    window: cells along a side of the windows that most blocks of a plain transformer attend in (0: the whole picture).

    Raises ValueError for a backbone that has no such maps, or does not run on images of that size.
    """

    def __init__(
        self,
        backbone: nn.Module,
        classes: int,
        detector: str,
        frozen: bool,
        frozen_norms: bool,
        size: tuple[int, int],
        *,
        anchors: tuple[int, ...] = ANCHORS,
        regions: int = REGIONS,
        width: int = WIDTH,
        window: int = 0,
        pad: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(backbone, taken(backbone), frozen)
        multiple = self.maps.multiple
        self.whole = (size[0] + -size[0] % multiple, size[1] + -size[1] % multiple) if pad else None
        self.frozen_norms, self.masks = frozen_norms, detector == "mask_rcnn"
        self.windows: Windows | None = None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.neck = make_neck(self.maps, width)
            self.rpn, self.roi_heads = make_heads(self.masks, classes, anchors, regions, width, strides_of(self.maps))
        if frozen_norms:
            for norm in batch_norms(backbone):
                norm.requires_grad_(False)
        self.train()
        # Pictures differ in size, which not all networks bear, and stand upright, too.
        for tried in [size] if pad else [size, (size[1], max(1, size[0] // 2))]:
            try:
                self.refuse_unfit(tried)
            except ValueError as error:
                raise (
                    error if pad else ValueError(f"{error}, or fill every picture up to one size with --pad")
                ) from error
        if window:
            image = self.padded(torch.zeros(1, 3, *size))
            self.windows = in_windows(backbone, window, image, super().features, self.maps.strides[-1])

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.frozen_norms:
            for norm in batch_norms(self.backbone):
                norm.eval()
        return self

    def padded(self, image_BCHW: Tensor) -> Tensor:
        if self.whole is None:
            return super().padded(image_BCHW)
        height, width = image_BCHW.shape[2:]
        return F.pad(image_BCHW, (0, self.whole[1] - width, 0, self.whole[0] - height))

    def features(self, image_BCHW: Tensor) -> list[Tensor]:
        if self.windows:
            height, width = self.padded(image_BCHW).shape[2:]
            self.windows.grid = (height // self.maps.strides[-1], width // self.maps.strides[-1])
        return super().features(image_BCHW)

    def levels(self, image_BCHW: Tensor) -> Levels:
        """The maps that the heads see, of images that are padded already."""
        return self.neck(self.features(image_BCHW))

    def forward(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        """{"loss": the sum of torchvision's losses, and each of them}. batch: see a2mim.detect.views.padded.

        Proposals and heads stay in float32 under autocast: torchvision gives anchors, proposals and the boxes of the
        instances the type of the maps, and bfloat16 knows only every fourth pixel beyond 512.
        """
        sizes = [(height, width) for height, width in batch["size"].tolist()]
        images = ImageList(self.padded(blank(batch["image"], sizes)), sizes)
        levels, targets = self.levels(images.tensors), targets_of(batch)
        with torch.autocast(images.tensors.device.type, enabled=False):
            levels = OrderedDict((name, x.float()) for name, x in levels.items())
            proposals, losses = self.rpn(images, levels, targets)
            _, more = self.roi_heads(levels, proposals, sizes, targets)
        losses = {**losses, **more}
        return {"loss": sum(losses.values()), **{name: loss.detach() for name, loss in losses.items()}}  # type: ignore[dict-item]

    def look(self, image_BCHW: Tensor) -> Any:
        size = (image_BCHW.shape[2], image_BCHW.shape[3])
        return [self.found(each[None], size) for each in image_BCHW]

    def found(self, image_1CHW: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        """Of a normalised image, in pixels of the picture of that height and width that it shows: boxes (N, 4) left,
        top, right, bottom, scores (N,), the highest first, labels (N,), and masks (N, H, W) bool of a Mask R-CNN."""
        shown = (image_1CHW.shape[2], image_1CHW.shape[3])
        images = ImageList(self.padded(image_1CHW), [shown])
        levels = self.levels(images.tensors)
        proposals, _ = self.rpn(images, levels)
        ((made,), _) = self.roi_heads(levels, proposals, [shown])
        scale = made["boxes"].new_tensor([size[1] / shown[1], size[0] / shown[0]]).repeat(2)
        boxes = made["boxes"] * scale
        result = {"boxes": boxes, "scores": made["scores"], "labels": made["labels"] - 1}
        if self.masks:
            result["masks"] = paste_masks_in_image(made["masks"], boxes, size)[:, 0] > SURE
        return result


def make_heads(
    masks: bool, classes: int, anchors: tuple[int, ...], regions: int, width: int, strides: list[float]
) -> tuple[nn.Module, nn.Module]:
    """torchvision's region proposal network and heads, for levels of these strides. What its heads have at 256
    channels (four times as many for boxes, four layers of as many for masks) they have at any width."""

    class Levelled(nn.Module):
        out_channels = width

    kind: Any = MaskRCNN if masks else FasterRCNN
    boxes = AnchorGenerator([(n,) for n in anchors], (RATIOS,) * len(anchors))
    heads: dict[str, nn.Module] = {
        "box_head": TwoMLPHead(width * 7**2, 4 * width),
        "box_predictor": FastRCNNPredictor(4 * width, classes + 1),
    }
    if masks:
        heads["mask_head"] = MaskRCNNHeads(width, (width,) * 4, 1)
        heads["mask_predictor"] = MaskRCNNPredictor(width, width, classes + 1)
    made = kind(Levelled(), rpn_anchor_generator=boxes, box_batch_size_per_image=regions, **heads)
    for module in made.modules():
        if isinstance(module, MultiScaleRoIAlign):  # which would guess strides from the first picture that it sees
            first, last = (round(math.log2(stride)) for stride in (strides[0], strides[-1]))
            module.scales, module.map_levels = [1 / stride for stride in strides], LevelMapper(first, last)  # type: ignore[assignment]
    return made.rpn, made.roi_heads


def batch_norms(module: nn.Module) -> list[nn.Module]:
    return [each for each in module.modules() if isinstance(each, _BatchNorm)]


def blank(image_BCHW: Tensor, sizes: list[tuple[int, int]]) -> Tensor:
    """The images with zeros beside each picture."""
    image_BCHW = image_BCHW.clone()
    for image, (height, width) in zip(image_BCHW, sizes, strict=True):
        image[:, height:] = 0
        image[:, :, width:] = 0
    return image_BCHW


def targets_of(batch: dict[str, Any]) -> list[dict[str, Tensor]]:
    """What torchvision's detectors want of each picture; its class 0 is the background."""
    counts = batch["count"].tolist()
    parts = {"boxes": batch["boxes"], "labels": batch["labels"] + 1}
    parts |= {"masks": batch["masks"]} if "masks" in batch else {}
    each = zip(*(x.split(counts) for x in parts.values()), strict=True)
    return [dict(zip(parts, one, strict=True)) for one in each]
