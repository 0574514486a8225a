"""Images to measure: a folder, a .tar, or any data set that timm reads, through the transform that a model asks for."""

import contextlib
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import timm
from PIL import Image
from timm.data import ImageNetInfo, create_dataset, create_transform
from torch import Tensor

STREAMED = ("wds/", "hfids/", "tfds/")
IMAGENET = {synset: label for label, synset in enumerate(ImageNetInfo("imagenet-1k").label_names())}
Transform = Callable[[Image.Image], Tensor]


@dataclass(frozen=True)
class ImageData:
    """Images with random access: image number -> (normalised image C×H×W, label).

    Attributes:
        source: image number -> (PIL image, label), raising what the decoder raises.
        mode: RGB, or L for grey images.
        labelled: without it every label is None.
        classes: how many classes the labels count; None where the data set does not say.
        names: of the images, None where they have none.
        streamed: images arrive in one order only.
    """

    source: Any
    transform: Transform
    mode: str = "RGB"
    labelled: bool = True
    classes: int | None = None
    names: list[str] | None = None
    streamed: bool = False

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, int | None]:
        image, label = self.source[index]
        return self.transform(image.convert(self.mode)), int(label) if self.labelled else None


def open_images(
    data: str,
    transform: Transform,
    *,
    root: str | None = None,
    split: str = "validation",
    class_map: str | None = None,
    classes: int | None = None,
    channels: int = 3,
) -> ImageData:
    """Open a folder or .tar of images, or a data set by timm's name.

    Args:
        data: a path, or a name such as torch/cifar10, hfds/uoft-cs/cifar10, wds/imagenet. The label of a file is the
            place of its folder among the sorted folders; images that are all in one folder have no labels.
        root: where a named data set is kept.
        split: the part to read; of a folder the sub-folder of that name (or val, …), if there is one.
        class_map: timm's text file of class names, one a line, whose line numbers are the labels.
        classes: of the model. Folders that are called by their ImageNet synsets keep their ImageNet labels under a
            model of 1,000 classes, however few of them there are.
        channels: 1 for grey images, 3 for colour.

    Raises:
        FileNotFoundError: no such path, no such class map.
        ValueError: no images there, a damaged tar, a data set that timm cannot open.
    """
    mode = "L" if channels == 1 else "RGB"
    if class_map and not Path(class_map).is_file():
        raise FileNotFoundError(f"there is no class map at '{class_map}'")
    if is_name(data):
        return _open_named(data, root, split, class_map, transform, mode)
    place = Path(data)
    if not place.exists():
        raise FileNotFoundError(f"there are no images at '{data}': it does not exist")
    if place.is_file() and place.suffix != ".tar":
        raise ValueError(f"'{data}' is neither a folder nor a .tar of images")
    reader = _read_files(place, split, class_map)
    folders = folders_of(reader)
    if class_map is None and classes == len(IMAGENET) and set(folders) <= set(IMAGENET):
        reader = _read_files(place, split, IMAGENET)
    labelled = class_map is not None or len(folders) > 1
    names = [str(name) for name in reader.filenames()]
    return ImageData(Files(reader), transform, mode, labelled, len(folders) if labelled else None, names)


def is_name(data: str) -> bool:
    """Whether timm is meant to know the data set by name: a prefix of its own, and no such folder here."""
    return data.lower().startswith((*STREAMED, "hfds/", "torch/")) and not Path(data).exists()


def evaluation_transform(config: Mapping[str, Any], image_size: int | None = None) -> Transform:
    """The evaluation transform that a model's data configuration asks for: resize, centre crop, normalise.

    Args:
        config: what `create_model` returns: input_size, interpolation, mean, std, crop_pct, crop_mode.
        image_size: side in pixels, instead of the configured one.
    """
    size = (config["input_size"][0], image_size, image_size) if image_size else config["input_size"]
    return create_transform(**{**config, "input_size": size}, is_training=False)


def size_arguments(name: str, image_size: int | None) -> dict[str, int]:
    """What `create_model` must be told so that the model takes images of `image_size`: nothing, unless its size is
    built in."""
    known = timm.get_pretrained_cfg(name, allow_unregistered=True) if image_size and ":" not in name else None
    return {"img_size": image_size} if image_size and known is not None and known.fixed_input_size else {}


def folders_of(reader: Any) -> dict[str, int]:
    """The labels of a timm reader by the names of their folders."""
    return getattr(reader, "class_to_idx", None) or getattr(reader, "class_name_to_idx", None) or {}


@dataclass(frozen=True)
class Files:
    """A timm reader's image files, decoded. (timm's own data set puts another image in the place of a damaged one.)"""

    reader: Any

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> tuple[Image.Image, Any]:
        file, label, *_ = self.reader[index]
        with file:
            image = Image.open(file)
            image.load()
        return image, label


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


@contextlib.contextmanager
def one_sentence(what: str) -> Iterator[None]:
    """Turn whatever a reader raises while it looks for images into one sentence that begins with `what`."""
    try:
        yield
    except (ValueError, RuntimeError, OSError, AssertionError, ImportError, tarfile.TarError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{what}: {reason}") from error


def _read_files(place: Path, split: str, class_map: Any) -> Any:
    with one_sentence(f"'{place}' holds no images that can be read (.png, .jpg or .jpeg)"):
        return create_dataset("", root=str(place), split=split, class_map=class_map).reader  # type: ignore[union-attr]


def _open_named(data: str, root: str | None, split: str, class_map: Any, transform: Transform, mode: str) -> ImageData:
    streamed = data.lower().startswith(STREAMED)
    with one_sentence(f"timm cannot open the split '{split}' of the data set '{data}' in '{root or ''}'"):
        raw = create_dataset(
            data,
            root=root,
            split=split,
            class_map=class_map,
            input_img_mode=mode,
            download=False,  # type: ignore[arg-type]
        )
        length = len(raw)
    if length == 0:
        raise ValueError(f"the data set '{data}' has no images in the split '{split}': name another --split")
    classes = len(getattr(raw, "classes", None) or getattr(getattr(raw, "reader", None), "class_to_idx", None) or {})
    if streamed:
        return ImageData(Stream(raw, length), transform, mode, classes=classes or None, streamed=True)
    source = Files(raw.reader) if hasattr(raw, "reader") else raw
    return ImageData(source, transform, mode, classes=classes or None)
