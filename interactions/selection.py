"""Which images of a data set a profile measures, and the class that is explained in each."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from interactions.classes import Classes
from interactions.fingerprint import image_digest
from interactions.full_precision import full_precision
from interactions.game import NonFiniteValueError
from interactions.outputs import class_logits, device_of, is_out_of_memory, one_line, refuse_one_output, run
from interactions.settings import ProfileSettings, whole
from interactions.values import CLASS_VALUES

HOPELESS = 20
"""So many unreadable images before a readable one, and the whole data set is taken to be unreadable."""


class Images(Protocol):
    """Any data set with random access: image number -> (normalised image C×H×W, label), the label None or negative
    where there is none. Reading may raise anything: that image is then skipped, unless memory ran out or the
    system says why it could not be read (an OSError with an errno)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Tensor, Any]: ...


@dataclass(frozen=True)
class Chosen:
    """An image to measure: its place in the run's list, its number in the data set, its target class (None for a value
    without one), and a digest of its pixels, by which a changed data set or a random transform is noticed."""

    position: int
    image: int
    name: str
    label: int | None
    target: int | None
    digest: str


@dataclass
class Selection:
    """The images to measure in their order; those that cannot be read; how many the model classifies wrongly."""

    chosen: list[Chosen] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    wrong: int = 0
    tried: int = 0
    classes: int | None = None
    shape: tuple[int, ...] | None = None
    passes: int = 0

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Selection":
        """That of a run, to go on from; with the images that it chose and left for later."""
        return cls(
            chosen=[Chosen(**one) for one in (*record["images"], *record.get("ahead", ()))],
            skipped=record["skipped"],
            wrong=record["wrong"],
            tried=record.get("tried", len(record["images"]) + len(record["skipped"]) + record["wrong"]),
            classes=record["classes"],
            shape=tuple(record["image_shape"]),
        )


def select(
    model: nn.Module,
    images: Images,
    names: Sequence[str] | None,
    settings: ProfileSettings,
    progress: bool = False,
    *,
    wanted: int | None = None,
    known: Selection | None = None,
    classes: Classes | None = None,
) -> Selection:
    """The first `wanted` usable images of a random order that the seed decides (all where it is None).

    An image that cannot be read is skipped; with `only_correct`, so is one whose label is not the model's top class.

    Args:
        known: a selection to go on from: those that follow it are added to a copy of it.
        classes: of another run's images, which are then the targets; images that it left out are left out here, too.

    Raises:
        OSError: an image that was there and cannot be read any more.
        ValueError: no usable image at all; a missing label, or one outside the model's classes; images of different
            sizes; a model without classes where classes are needed, or with other ones than `classes`.
        NonFiniteValueError: logits that are NaN or infinite.
    """
    if len(images) == 0:
        raise ValueError("the data set is empty: give a folder, a tar or a data set that holds images")
    wanted = min(wanted or len(images), len(images))
    found = Selection() if known is None else replace(known, chosen=list(known.chosen), skipped=list(known.skipped))
    with tqdm(total=wanted, initial=len(found.chosen), desc="images", disable=not progress) as bar:
        for number, name in islice(_called(len(images), names, settings, classes), found.tried, None):
            if len(found.chosen) >= wanted or (not found.chosen and len(found.skipped) == HOPELESS):
                break
            found.tried += 1
            if classes is not None and name not in classes.by_name:
                continue
            try:
                image_CHW, label = read(images, number)
            except Exception as error:  # decoders of damaged files raise almost anything
                if is_out_of_memory(error) or (isinstance(error, OSError) and error.errno is not None):
                    raise  # of the machine (a failing disk, a file that has gone): no damage to pass over
                found.skipped.append({"image": number, "name": name, "reason": one_line(error)})
                continue
            _take(found, model, number, name, image_CHW, label, settings, classes)
            bar.update(len(found.chosen) - bar.n)
    if not found.chosen:
        raise ValueError(_why_none(found, classes))
    return found


def candidates(count: int, settings: ProfileSettings) -> Iterator[int]:
    """Image numbers in the order in which they are tried: a longer list begins with the shorter one."""
    if not settings.shuffle:
        return iter(range(count))
    return iter(np.random.default_rng(settings.seed).permutation(count).tolist())


def _called(
    count: int, names: Sequence[str] | None, settings: ProfileSettings, classes: Classes | None
) -> Iterable[tuple[int, str]]:
    """The candidates with their names. Those behind the last one that `classes` holds may be held when that run has
    grown: they are not tried yet."""
    called = (
        (number, names[number] if names is not None else f"image {number}") for number in candidates(count, settings)
    )
    if classes is None:
        return called
    listed = list(called)
    return listed[: 1 + max((k for k, (_, name) in enumerate(listed) if name in classes.by_name), default=-1)]


def read(images: Images, number: int) -> tuple[Tensor, int | None]:
    """One image and its label, None where it has none."""
    image_CHW, label = images[number]
    if not (isinstance(image_CHW, Tensor) and image_CHW.ndim == 3 and image_CHW.is_floating_point()):
        raise ValueError("the data set must give normalised images as float tensors C×H×W")
    label = None if label is None else whole(label, "the label")
    return image_CHW, None if label is None or label < 0 else label


def read_again(images: Images, chosen: Sequence[Chosen], labelled: bool = False) -> Tensor:
    """The images that were chosen earlier, I×C×H×W.

    labelled: whether their labels count.

    Raises:
        ValueError: an image whose pixels are not those of the selection; one with another label that counts.
    """
    tensors = []
    for one in chosen:
        image_CHW, label = read(images, one.image)
        tensors.append(image_CHW)
        if labelled and label != one.label:
            raise ValueError(
                f"the label of {one.name} is {label}, and was {one.label} when the run began: restore the labels (and "
                "what maps them), or start a new run in another folder"
            )
        if image_digest(tensors[-1]) != one.digest:
            raise ValueError(
                f"{one.name} is not the image that it was when the run began: restore the data set and its transform "
                "(which must not be random), or start a new run in another folder"
            )
    return torch.stack(tensors)


@torch.inference_mode()
def logits_of(model: nn.Module, image_CHW: Tensor, name: str, value: str = "log_odds") -> Tensor:
    """The model's logits K on one whole image, in float32.

    Raises:
        ValueError: an output that cannot be read as one row of logits, or as too few for the value.
        NonFiniteValueError: NaN or infinity.
    """
    device = device_of(model, image_CHW.device)
    with full_precision():
        logits_BK = class_logits(run(model, image_CHW[None].to(device)), 1)
    refuse_one_output(value, logits_BK.shape[1])
    if not bool(logits_BK.isfinite().all()):
        raise NonFiniteValueError(f"the model returned NaN or infinity for {name}: check the weights")
    if value in CLASS_VALUES and is_probabilities(logits_BK[0]):
        warnings.warn(
            f"the model returns numbers for {name} that are at least 0 and sum to 1, as probabilities do, and {value} "
            "takes scores from before a softmax: give the model without it",
            stacklevel=2,
        )
    return logits_BK[0]


def is_probabilities(logits_K: Tensor) -> bool:
    """Whether these are hardly scores: after a softmax they are at least 0 and sum to 1."""
    return len(logits_K) > 1 and bool((logits_K >= 0).all()) and abs(float(logits_K.double().sum()) - 1) < 1e-4


def _take(
    found: Selection,
    model: nn.Module,
    number: int,
    name: str,
    image_CHW: Tensor,
    label: int | None,
    settings: ProfileSettings,
    classes: Classes | None,
) -> None:
    """Add one readable image, unless it is left out for being classified wrongly."""
    found.shape = found.shape or tuple(image_CHW.shape)
    if tuple(image_CHW.shape) != found.shape:
        raise ValueError(f"{name} is {tuple(image_CHW.shape)}, others are {found.shape}: crop all images to one size")
    explains_class = settings.value != "cosine"
    predicted = None
    if settings.only_correct or (explains_class and (settings.target == "predicted" or found.classes is None)):
        logits_K = logits_of(model, image_CHW, name, settings.value if explains_class else "correct")
        found.passes, found.classes, predicted = found.passes + 1, len(logits_K), int(logits_K.argmax())
    if settings.only_correct:
        if found.classes == 1:
            raise ValueError(
                "the model has one output, by which no class of several is the predicted one: measure without the "
                "filter for correct images, or wrap the model so that it gives a score for each class"
            )
        _check_class(label, found.classes, name)
        if label != predicted:
            found.wrong += 1
            return
    target = None
    if explains_class:
        if classes is not None:
            target = classes.by_name[name]
            _check_same(found.classes, classes)
        elif isinstance(settings.target, str):
            target = {"label": label, "predicted": predicted}[settings.target]
        else:
            target = settings.target
        _check_class(target, found.classes, name)
    found.chosen.append(Chosen(len(found.chosen), number, name, label, target, image_digest(image_CHW)))


def _check_class(number: int | None, classes: int | None, name: str) -> None:
    if number is None:
        raise ValueError(
            f"{name} has no label: give labelled images, or explain the target predicted or a class by its number"
        )
    if classes is not None and not 0 <= number < classes:
        raise ValueError(
            f"class {number} of {name} is outside the model's {classes} classes, 0 to {classes - 1}: "
            "give a data set with the model's classes, or explain the target predicted"
        )


def _check_same(own: int | None, classes: Classes) -> None:
    if own is not None and own != classes.classes:
        raise ValueError(
            f"{classes.folder} explains some of {classes.classes} classes and this model has {own}: the classes of one "
            "can be the other's only where both have the same"
        )


def _why_none(found: Selection, classes: Classes | None) -> str:
    if classes is not None and not found.skipped and not found.wrong:
        return (
            f"{classes.folder} explains none of these images, which are told apart by their names: give the images "
            "that it measured"
        )
    if found.wrong:
        return (
            f"the model classifies none of the {found.wrong} images as labelled: check that the labels are the model's "
            "classes, or measure without the filter for correct ones"
        )
    first = found.skipped[0]
    return (
        f"none of the first {len(found.skipped)} images can be read ({first['name']}: {first['reason']}): "
        "check the files and the transform"
    )
