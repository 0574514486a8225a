"""What a run measures and how, as plain data. Imports nothing heavy: `--help` reads this file."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_type_hints

PRECISION = 0.1
FREE = ("precision", "of", "relative", "images", "minutes")
"""What may differ when a profile goes on: none of it changes what was measured, only how much more is."""

PAPER_RATIOS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)

SpeedName = Literal["auto", "plain", "channels-last", "folded", "compiled"]

Target = Literal["label", "predicted"] | int | str

LARGEST = 2**63 - 1
LARGEST_GRID = 1024
LARGEST_BUDGET = 10_000_000
"""Coalitions of one image and order, which are held in memory together."""

Kind = Literal["random", "salient", "non_salient"]
Masking = Literal["after_normalisation", "before_normalisation"]
TENTHS = tuple(k / 10 for k in range(11))


def refuse_outside(settings: Any, low: float, high: float, *names: str) -> None:
    """Raises ValueError where a number, or one of several, is not within [low, high]; None stands for no number."""
    for name in names:
        value = getattr(settings, name)
        for number in value if isinstance(value, tuple | list) else (value,):
            if number is None or low <= number <= high:
                continue
            wrong = f"small: use {low:g} or more" if number < low else f"large: use at most {high:.12g}"
            raise ValueError(f"{name} {number} is {'no number' if number != number else f'too {wrong}'}")


def refuse_unknown_speed(speed: str) -> None:
    """Raises ValueError for a way of running that does not exist."""
    if speed not in get_args(SpeedName):
        raise ValueError(f"unknown speed {speed!r}: choose one of {', '.join(get_args(SpeedName))}")


S = TypeVar("S")


def whole(number: Any, name: str) -> int:
    """A whole number of any type (NumPy's, a tensor's, 4.0) as an int.

    Raises:
        ValueError: anything else; says what `name` is.
    """
    try:
        if not isinstance(number, str) and float(number) == int(number):
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"{name} is {number!r}: give a whole number")


def settled(settings: S) -> S:
    """Settings from Python with plain numbers and tuples, whatever they were given as: NumPy's, lists, 4.0 for 4.

    Raises:
        ValueError: a fraction where a whole number is wanted, or what is no number; names the setting.
    """
    hints = get_type_hints(type(settings))
    given = {each.name: getattr(settings, each.name) for each in fields(settings)}  # type: ignore[arg-type]
    return replace(settings, **{name: _settled(name, value, hints[name]) for name, value in given.items()})  # type: ignore[type-var]


def refuse_single(value: Any, name: str) -> None:
    """Raises ValueError for a single number where several are asked."""
    if not hasattr(value, "__iter__") or getattr(value, "ndim", 1) == 0:
        raise ValueError(f"{name} is {value!r}: give several numbers, or a list of one")


def _settled(name: str, value: Any, hint: Any) -> Any:
    kinds = get_args(hint) or (hint,)
    if getattr(value, "ndim", None) == 0:
        value = value.item()  # of NumPy or a tensor: a number that JSON knows
    if isinstance(value, str) and float in kinds and str not in kinds:
        raise ValueError(f"{name} is {value!r}: give {'numbers' if ... in kinds else 'a number'}")
    if value is None or (isinstance(value, str) and not set(kinds) <= {int, type(None)}):
        return value
    if bool in kinds:
        return bool(value)
    if set(kinds) <= {int, type(None)} or (int in kinds and not hasattr(value, "__len__")):
        return whole(value, name)
    inner = next((get_args(kind)[0] for kind in (hint, *kinds) if get_args(kind) and ... in get_args(kind)), None)
    if inner is None and not hasattr(value, "__iter__"):
        return value
    refuse_single(value, name)
    if inner not in (int, float):
        return tuple(value)
    try:
        return tuple(whole(each, name) if inner is int else float(each) for each in value)
    except TypeError as error:
        raise ValueError(f"{name} is {value!r}: give numbers") from error


@dataclass(frozen=True)
class Game:
    """What is measured: the players and their pairs, what v is, and what absence shows."""

    grid: int | str = 14
    """Cells along one side of the image; its players are the grid × grid cells. Or a label map of the model's input (a
    .npy file, or a grey or palette picture): its regions are the players, the same in every image."""
    ratios: tuple[float, ...] = PAPER_RATIOS
    """Orders m, as shares of n − 2: m = int((n − 2) · ratio)."""
    radius: int = 2
    """Pairs of cells at most so many rows and columns apart."""
    pairs: str = "near"
    """Which pairs are measured: near (within the radius; of regions those that touch), all, or those of a CSV file with
    the columns i and j, the numbers of cells along rows from 0."""
    value: str = "log_odds"
    """What v is: log_odds, log_prob, logit, probability, correct (0 or 1), cosine, which needs no classifier, or your
    own function module:function, from logits B×K and classes B to values B."""
    baseline: str = "mean"
    """What an absent cell shows: mean, image_mean, black, blur, noise, uniform_noise, or your own function
    module:function, from images and their normalisation to pictures; or drop, which removes its tokens from a plain
    vision transformer and shows nothing: another game, and a quicker one."""
    target: Target = "label"
    """The class whose score is v: the image's label, the model's own predicted class on the whole image, a number, or
    the folder of another profile, whose class of each image (by name) is taken, and whose images alone are measured.
    cosine needs none."""


@dataclass(frozen=True)
class Effort:
    """How much is measured, and of which images."""

    precision: float | None = None
    """Half width of the 95 % interval to which J_rms is measured at every order: images, and the passes of each order,
    are chosen for it as the run goes. 0.1 where neither --images nor --budget are given."""
    of: Literal["curve", "rms", "difference"] = "curve"
    """What the precision is of: J_rms at every order (curve); rms at every order, as a share of itself (rms), which an
    order with next to no interactions never reaches; or, of two models, the difference of their M of J_rms."""
    relative: bool = False
    """Where J_rms is above 1, measure it to that share of itself: 5 to ±0.5 at a precision of 0.1. Curves that rise
    steeply at an end take many times the images otherwise."""
    images: int | None = None
    """At most so many images. Without --precision exactly so many (100 where --budget alone is given; 500 in the
    published design, where None stands for all)."""
    minutes: float = 0.0
    """Stop after so long, with the precision that is reached by then (0: never); the same command goes on."""
    budget: int | None = None
    """The same number of passes for each image and order, instead of a precision (3000 where --images alone is given;
    in the published design those of 50 contexts a pair). Too few for all pairs of the first and the last order (2,147
    of a 14×14 grid) measure a random part of them, each exactly."""
    design: str = "auto"
    """auto (for each order what a pilot predicts best), exact (n ≤ 16), pairwise, shared, pooled, or published: the
    released code's own protocol with its pairs, contexts and seeds. Without other words that is 50 pairs × 50 contexts,
    500 images, seed 1, Resize 256 bilinear and centre crop 224 px, ImageNet's mean and deviation (and, as published, of
    the training split: --split train); what is typed beside it is taken, and named as changed."""
    published_pairs: int = 50
    """Pairs of the published design; its contexts are budget / (4 · pairs)."""
    only_correct: bool = False
    """Leave out images whose label is not the model's own top class."""
    shuffle: bool = True
    """Take images in a random order that the seed decides, not in the data set's own."""
    seed: int = 0
    """Of the images drawn and of the coalitions. 1 in the published design."""


@dataclass(frozen=True)
class Execution:
    """How it is computed, and what of it stays."""

    batch_size: int | None = None
    """Coalitions in one forward pass; found by itself where it is None."""
    amp: str | None = None
    """bfloat16 or float16 for most single coalitions of a pool, of which a few in float32 correct the mean, where that
    is quicker; all else, and everything where it is None, is in float32 without TF32."""
    speed: SpeedName = "auto"
    """How the network runs: plain, channels-last, folded (channels-last, with batch normalisations folded into
    convolutions), compiled (channels-last, by torch.compile), or auto, which takes what is fastest by a short
    measurement, compilation only in runs of more than twenty minutes. The values differ in their last bits alone."""
    keep: Literal["pairs", "images"] = "pairs"
    """Detail that stays: every pair's interaction, or only each image's strength."""
    unit_images: int = 4
    """Images measured and written together; what an interruption loses at most."""


@dataclass(frozen=True)
class ProfileSettings(Execution, Effort, Game):  # the fields of the last one come first
    """Everything that decides the result of a profile, besides the model and the images."""

    @property
    def needs_labels(self) -> bool:
        """Whether the images' labels count: as what is explained, or as what correct ones are told by."""
        return self.only_correct or (self.target == "label" and self.value != "cosine")

    def resolved(self) -> "ProfileSettings":
        """With what was left open filled in: a precision, or a number of images and passes."""
        if self.design == "published":
            return self
        fixed = self.images is not None or self.budget is not None
        if self.precision is not None or self.of != "curve" or not fixed:
            return replace(self, precision=PRECISION if self.precision is None else self.precision)
        images = 100 if self.images is None else self.images
        return replace(self, images=images, budget=3000 if self.budget is None else self.budget)

    def check(self) -> None:
        """Raises ValueError for what can be told to be impossible without model and images."""
        refuse_outside(self, 1, LARGEST, "images", "radius", "published_pairs", "batch_size", "unit_images")
        refuse_outside(self, 1, LARGEST_BUDGET, "budget")
        if not isinstance(self.grid, str):
            refuse_outside(self, 2, LARGEST_GRID, "grid")
        refuse_outside(self, 0, 1, "ratios")
        refuse_outside(self, 0, LARGEST, "seed")
        refuse_outside(self, 1e-6, 10, "precision")
        refuse_outside(self, 0, 1e6, "minutes")
        refuse_unknown_speed(self.speed)
        if self.design == "published" and (self.precision is not None or self.of != "curve"):
            raise ValueError("the published design has a fixed number of passes: leave out precision and of")
        if self.precision is not None and self.budget is not None:
            raise ValueError("a precision chooses the passes of each order by itself: give it or a budget, not both")
        if self.of == "rms" and (self.relative or self.budget is not None):
            raise ValueError(
                "a precision of rms is relative by itself and chooses the passes: leave out relative and budget"
            )
        if self.of == "difference" and self.relative:
            raise ValueError("a precision of difference is that of M and has no use for relative: leave relative out")
        if self.keep not in ("pairs", "images"):
            raise ValueError(f"cannot keep {self.keep!r}: choose pairs or images")
        of_run = isinstance(self.target, str) and self.target and Path(self.target, "run.json").exists()
        of_class = isinstance(self.target, int) and self.target >= 0
        if (of_run or of_class) and self.value == "cosine":
            given = f"those of {self.target}" if of_run else f"class {self.target}"
            raise ValueError(f"cosine explains no class, so it has no use for {given}: leave target out")
        if not (self.target in ("label", "predicted") or of_run or of_class):
            raise ValueError(
                f"unknown target {self.target!r}: choose label, predicted, the number of a class, or the folder of "
                "another profile"
            )


@dataclass(frozen=True)
class OcclusionSettings:
    """Everything that decides the result of an occlusion run, besides the model and the images."""

    grid: int = 14
    """Cells along one side of the image."""
    shares: tuple[float, ...] = TENTHS
    """Shares of the cells that are dropped; each becomes the nearest whole number of cells."""
    kinds: tuple[Kind, ...] = ("random", "salient", "non_salient")
    """Which cells are dropped first: random ones, the most salient, or the least salient."""
    baseline: str = "zero"
    """What a dropped cell shows: zero, whose colour --masking decides, or mean, image_mean, black, blur, noise,
    uniform_noise, or your own function module:function; or drop, which removes its tokens from a plain vision
    transformer."""
    masking: Masking = "after_normalisation"
    """Where cells are dropped: zero is the data set's mean colour after normalisation, and black before it; noise is
    normal after it, and uniform over the pixel values before it. Other baselines are the same either way."""
    saliency: str = "gradient"
    """Of the model itself: gradient or integrated_gradients (captum), class_attention or mean_attention (its last
    layer); or the folder of another occlusion run: what was salient there is dropped here too."""
    shuffle_grids: tuple[int, ...] | None = None
    """Cells a side into which images are cut for patch shuffling; None: those of 1, 2, 4, 8, 14 and 16 that divide the
    image. Give none to leave it out."""
    images: int | None = 500
    """At most so many images; all where it is None."""
    shuffle: bool = True
    """Take images in a random order that the seed decides, not in the data set's own."""
    seeds: int = 3
    """Draws of the random cells and of the shuffled patches for each image."""
    seed: int = 0
    """Of the images drawn, and the first one of the draws."""
    batch_size: int | None = None
    """Pictures in one forward pass; found by itself where it is None."""
    amp: str | None = None
    """bfloat16 or float16; float32 without TF32 where it is None."""
    speed: SpeedName = "auto"
    """How the network runs: plain, channels-last, folded (channels-last, with batch normalisations folded into
    convolutions), compiled (channels-last, by torch.compile), or auto, which takes what is fastest by a short
    measurement, compilation only in runs of more than twenty minutes. The values differ in their last bits alone."""
    unit_images: int = 16
    """Images measured and written together; what an interruption loses at most."""

    def check(self) -> None:
        """Raises ValueError for what can be told to be impossible without model and images."""
        refuse_outside(self, 1, LARGEST, "images", "seeds", "batch_size", "unit_images", "shuffle_grids")
        refuse_outside(self, 1, LARGEST_GRID, "grid")
        refuse_outside(self, 0, 1, "shares")
        refuse_unknown_speed(self.speed)
        refuse_outside(self, 0, LARGEST, "seed")
        if not self.shares:
            raise ValueError("there are no shares of dropped cells: give numbers between 0 and 1")
        for chosen, known, what in (
            (self.kinds, get_args(Kind), "kind of cells"),
            ((self.masking,), get_args(Masking), "masking point"),
        ):
            if unknown := [name for name in chosen if name not in known]:
                raise ValueError(f"unknown {what} {unknown[0]!r}: choose from {', '.join(known)}")
        if not self.kinds:
            raise ValueError("there is no kind of cells to drop: give random, salient or non_salient")
        if twice := [kind for kind in self.kinds if self.kinds.count(kind) > 1]:
            raise ValueError(f"{twice[0]} is there twice: give each kind of cells once")
