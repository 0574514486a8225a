"""Images to measure: those of a2mim.images, as a model asks for them, with the labels that it knows."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import timm
from PIL import Image
from timm.data import create_transform
from torch import Tensor, nn

from a2mim.checkpoints import read
from a2mim.checkpoints.read import split_copy
from a2mim.checkpoints.shards import is_index
from a2mim.decoding import is_constant
from a2mim.images import Images, open_place, tell
from experiments.machine import is_first
from experiments.models import check_timm_name, weights_file

Transform = Callable[[Image.Image], Tensor]


@dataclass(frozen=True)
class ImageData:
    """Images with random access: image number -> (normalised image C×H×W, label or None).

    Reading raises Damaged for a picture that cannot be decoded. Pictures of one colour are told.
    """

    images: Images
    transform: Transform

    def __len__(self) -> int:
        return self.images.samples

    def __getitem__(self, index: int) -> tuple[Tensor, int | None]:
        image, label = self.images.raw[index]
        if is_constant(image):
            self.images.reports.add("constant", index)
        return self.transform(image), int(label) if self.labelled and label is not None and int(label) >= 0 else None

    @property
    def labelled(self) -> bool:
        """Whether the images have labels."""
        return self.images.labelled

    @property
    def classes(self) -> int | None:
        """How many classes the labels count; None where the data set does not say."""
        return len(self.images.classes) or None

    @property
    def names(self) -> Sequence[str] | None:
        """Of the images; None where they have none."""
        return self.images.names

    @property
    def streamed(self) -> bool:
        """Whether images arrive in one order only."""
        return self.images.streamed


def open_images(
    data: str,
    transform: Transform,
    *,
    root: str | None = None,
    split: str = "validation",
    class_map: str | None = None,
    model_classes: int | None = None,
    known: Mapping[str, int] | None = None,
    labels_needed: bool = True,
    channels: int = 3,
) -> ImageData:
    """Open a folder or .tar of images, or a data set by timm's name, and say what is to be known about it.

    Args:
        data: a path, or a name such as torch/cifar10, hfds/uoft-cs/cifar10, wds/imagenet. The label of a file is that
            of its first-level folder; images that are all in one folder have no labels.
        root: where a named data set is kept.
        split: the part to read; of a folder that is divided into parts the sub-folder of that name (or val, …).
        class_map: text file of class names, one a line, whose line numbers are the labels.
        model_classes: of the model. Folders that are called by their synsets have the labels of timm's list for that
            number of classes, however few of them there are.
        known: the model's own classes (`known_classes`), which decide.
        labels_needed: without it, labels that cannot be told are left out, with a note.
        channels: 1 for grey images, 3 for colour.

    Raises:
        FileNotFoundError: no such path, no such class map.
        ValueError: no images there, no such part, folders that are none of the classes, a damaged tar, a data set that
            timm cannot open.
    """
    images = open_place(
        data,
        split,
        "validation",
        root=root or "",
        known=known,
        whose="the model",
        class_map=class_map or "",
        model_classes=model_classes,
        labels_needed=labels_needed,
        mode="L" if channels == 1 else "RGB",
    )
    if is_first():
        for note in images.notes:
            tell(f"note: {images.name}: {note}")
    if images.streamed:
        images = replace(images, raw=Stream(images.raw, images.samples))
    return ImageData(images, transform)


def known_classes(model: nn.Module, weights: str) -> dict[str, int] | None:
    """The model's classes, name -> number, as its weights state them: those of our training runs, of Hugging Face's
    configurations, and what timm fetches. None where nothing is stated."""
    file = weights_file(weights)
    if file is not None:
        path, _ = split_copy(file)
        stated = is_index(path) or path.suffix in (".safetensors", ".bin")
        return (read(file).classes if stated else None) or None
    names = (getattr(model, "pretrained_cfg", None) or {}).get("label_names") if weights == "pretrained" else None
    return {name: label for label, name in enumerate(names)} if names else None


def evaluation_transform(config: Mapping[str, Any], image_size: int | None = None) -> Transform:
    """The evaluation transform that a model's data configuration asks for: resize, centre crop, normalise.

    Args:
        config: what `create_model` returns: input_size, interpolation, mean, std, crop_pct, crop_mode.
        image_size: side in pixels, instead of the configured one.
    """
    size = (config["input_size"][0], image_size, image_size) if image_size else config["input_size"]
    known = {name: value for name, value in config.items() if name not in ("assumed", "adapted")}
    return create_transform(**{**known, "input_size": size}, is_training=False)


def size_arguments(name: str, image_size: Any) -> dict[str, Any]:
    """What `create_model` must be told so that the model takes images of `image_size`, a side or height and width:
    nothing, unless its size is built in. Raises ValueError for a name or a tag that timm does not know."""
    if not image_size or ":" in name:
        return {}
    check_timm_name(name, pretrained=False)
    known = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return {"img_size": image_size} if known is not None and known.fixed_input_size else {}


@dataclass
class Stream:
    """A data set that can only be read from its start: what has been read stays in memory."""

    images: Iterable[tuple[Image.Image, Any]]
    length: int
    seen: list[tuple[Image.Image, Any]] = field(default_factory=list)
    rest: Iterator[tuple[Image.Image, Any]] | None = None

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Image.Image, Any]:
        self.rest = self.rest if self.rest is not None else iter(self.images)
        self.seen += islice(self.rest, max(0, index + 1 - len(self.seen)))
        return self.seen[index]
