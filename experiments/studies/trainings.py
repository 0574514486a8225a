"""What the studies of CIFAR-10 share: who is trained on what, for how long, and how a command is told so."""

from pathlib import Path
from typing import Literal, Protocol

Family = Literal["vit", "cnn"]
Extent = Literal["gpu", "cpu"]

SEEDS: dict[str, tuple[int, ...]] = {"gpu": (0, 1, 2), "cpu": (0,)}
EPOCH_SECONDS = {"gpu": {"vit": 5.0, "cnn": 5.0}, "cpu": {"vit": 75.0, "cnn": 35.0}}
"""First guesses, until commands of the kind are done."""
QUICK = ("--limit", "256", "--batch", "64", "--epochs", "2", "--warmup-epochs", "0.5")
"""What --quick changes in a training: nothing is learned, everything is run."""


class Study(Protocol):
    """The settings of a study that its trainings come from."""

    @property
    def train(self) -> str: ...
    @property
    def test(self) -> str: ...
    @property
    def data_root(self) -> str: ...
    @property
    def out(self) -> Path: ...
    @property
    def kept(self) -> Path: ...
    @property
    def size(self) -> Extent: ...
    @property
    def families(self) -> tuple[Family, ...]: ...
    @property
    def all_seeds(self) -> tuple[int, ...]: ...
    @property
    def quick(self) -> bool: ...
    @property
    def device(self) -> str: ...


def suffix(study: Study) -> str:
    """Of recipes and networks."""
    return "_cpu" if study.size == "cpu" else ""


def data_words(study: Study, part: Literal["train", "test"]) -> tuple[str, ...]:
    """--data of the training or the test images."""
    named = any(name.startswith("torch/") for name in (study.train, study.test))
    return "--data", getattr(study, part), *(("--data-root", study.data_root) if named else ())


def training_words(study: Study, seed: int) -> tuple[str, ...]:
    """What every training of the study is told."""
    common = (*data_words(study, "train"), "--seed", str(seed), "--device", study.device)
    return (*common, *QUICK) if study.quick else common
