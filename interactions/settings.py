"""What a profile measures and how, as plain data. Imports nothing heavy: `--help` reads this file."""

from dataclasses import dataclass
from typing import Literal

PAPER_RATIOS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)

Target = Literal["label", "predicted"] | int


@dataclass(frozen=True)
class ProfileSettings:
    """Everything that decides the result of a profile, besides the model and the images."""

    grid: int = 14
    """Cells along one side of the image; its players are the grid × grid cells."""
    ratios: tuple[float, ...] = PAPER_RATIOS
    """Orders m, as shares of n − 2: m = int((n − 2) · ratio)."""
    radius: int = 2
    """Pairs of cells at most so many rows and columns apart."""
    value: str = "log_odds"
    """What v is: log_odds, log_prob, logit, probability, or cosine, which needs no classifier."""
    baseline: str = "mean"
    """What an absent cell shows: mean, image_mean, black, blur or noise."""
    target: Target = "label"
    """The class whose score is v: the image's label, the model's own predicted class on the whole image, or a number.
    cosine needs none."""
    images: int | None = 100
    """At most so many images; all where it is None."""
    only_correct: bool = False
    """Leave out images whose label is not the model's own top class."""
    shuffle: bool = True
    """Take images in a random order that the seed decides, not in the data set's own."""
    budget: int = 3000
    """Passes for each image and order. The first and the last order take what exactness needs."""
    design: str = "auto"
    """auto (for each order what a pilot predicts best), exact (n ≤ 16), pairwise, shared, pooled, or published:
    the released code's own protocol, its pairs, contexts and seeds."""
    published_pairs: int = 50
    """Pairs of the published design; its contexts are budget / (4 · pairs)."""
    seed: int = 0
    """Of the images drawn and of the coalitions."""
    batch_size: int | None = None
    """Coalitions in one forward pass; found by itself where it is None."""
    amp: str | None = None
    """bfloat16 or float16, where the measured rounding error allows it; float32 without TF32 where it is None."""
    channels_last: bool = False
    """Memory layout of model and images."""
    compile: bool = False
    """Run the model through torch.compile."""
    keep: Literal["pairs", "images"] = "pairs"
    """Detail that stays: every pair's interaction, or only each image's strength."""
    unit_images: int = 4
    """Images measured and written together; what an interruption loses at most."""

    def check(self) -> None:
        """Raises ValueError for what can be told to be impossible without model and images."""
        for name in ("images", "budget", "published_pairs", "batch_size", "unit_images"):
            if (number := getattr(self, name)) is not None and number < 1:
                raise ValueError(f"{name} is {number}: give 1 or more")
        if self.seed < 0:
            raise ValueError(f"the seed is {self.seed}: give 0 or more")
        if self.keep not in ("pairs", "images"):
            raise ValueError(f"cannot keep {self.keep!r}: choose pairs or images")
        if self.target not in ("label", "predicted") and not isinstance(self.target, int):
            raise ValueError(f"unknown target {self.target!r}: choose label, predicted, or the number of a class")
