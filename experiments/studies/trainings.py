"""What the studies of CIFAR-10 share: who is trained on what, for how long, and how a command is told so."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from a2mim.bounds import Natural, NotNegative

Family = Literal["vit", "cnn"]
Extent = Literal["gpu", "cpu"]

SEEDS = (0, 1, 2)
EPOCH_SECONDS = {"gpu": {"vit": 5.0, "cnn": 5.0}, "cpu": {"vit": 130.0, "cnn": 65.0}}
"""First guesses, until commands of the kind are done."""
QUICK = ("--limit", "256", "--batch", "64", "--epochs", "2", "--warmup-epochs", "0.5")
"""What --quick changes in a training: nothing is learned, everything is run."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How far the study goes."""

    data_root: str = "data"
    """Where a data set that is named lies, or is put."""
    results: Path | None = None
    """Folder of what is worth keeping; without it, `results` in --out."""
    size: Extent = "gpu"
    """gpu: the comparison; cpu: a small one on two cores, in few epochs."""
    seeds: tuple[Natural, ...] = ()
    """One run each; without them 0 1 2."""
    families: tuple[Family, ...] = ("cnn", "vit")
    """Networks."""
    budget: NotNegative = 0.0
    """Minutes, after which nothing new is begun (0: when all is done)."""
    plan: bool = False
    """Only print the commands, which of them are done, and the time that is left."""
    quick: bool = False
    """256 images, 2 epochs, 2 measured images: does it run?"""
    device: str = "auto"
    """cpu, cuda ...; auto takes CUDA where there is one."""

    @property
    def all_seeds(self) -> tuple[int, ...]:
        return self.seeds or SEEDS

    def check(self) -> None:
        """Raises ValueError for a seed or a network that is named twice."""
        for name, given in (("seeds", self.seeds), ("families", self.families)):
            if len(set(given)) < len(given):
                raise ValueError(f"--{name} {' '.join(map(str, given))} names one of them twice: name each one once")


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
    from a2mim.images import is_named

    named = is_named(study.train) or is_named(study.test)
    return "--data", getattr(study, part), *(("--data-root", study.data_root) if named else ())


def training_words(study: Study, seed: int) -> tuple[str, ...]:
    """What every training of the study is told."""
    common = (*data_words(study, "train"), "--seed", str(seed), "--device", study.device)
    return (*common, *QUICK) if study.quick else common
