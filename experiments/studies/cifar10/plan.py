"""The commands of the CIFAR-10 study: every method on a small ViT and a small CNN, trained and measured.

The study is nothing but `a2mim` commands; results/commands.sh lists them, so that any part can be run alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.recipes import cifar10
from experiments.studies import token_position
from experiments.studies.methods import METHODS, UNTRAINED
from experiments.studies.steps import Step
from experiments.studies.trainings import EPOCH_SECONDS, Scale, data_words, suffix, training_words

FAMILIES: dict[str, str] = {"vit": "ViT", "cnn": "CNN"}
ORDER = ("supervised", UNTRAINED, *list(METHODS)[1:])
"""In which they are made and measured: the others are occluded where the supervised network looks."""
MASKED = ("a2mim", "simmim", "mae", "spark", "maskfeat")
CORE = (UNTRAINED, "supervised", "simmim", "a2mim")
"""Also measured on cells of 2×2 pixels."""
CONTEXT_CHECK = ("supervised", "a2mim")
"""Also measured by the published protocol, with as many contexts and with four times as many."""
FINE_TUNED, FROZEN = "fine-tuned log_odds", "frozen cosine"


@dataclass(frozen=True)
class Size:
    """What is spent on a network."""

    epochs: tuple[int, int]
    """Of pre-training and fine-tuning."""
    images: int
    """For the interactions."""
    budget: int
    """Passes for each of these images and each order."""
    ratios: tuple[str, ...]
    """Orders, as shares of n − 2; empty for the paper's 13."""
    pictures: int
    """Images for occlusion and spectrum."""
    pass_seconds: dict[str, float]
    """First guesses, until commands of the kind are done."""


SIZES = {
    "gpu": Size((200, 100), 100, 1000, (), 1000, {"vit": 1e-4, "cnn": 1e-4}),
    "cpu": Size((5, 5), 16, 400, ("0.05", "0.3", "0.5", "0.7", "0.95"), 200, {"vit": 2.5e-3, "cnn": 1.5e-3}),
}


def size_of(settings: "Settings") -> Size:
    size = SIZES[settings.size]
    return replace(size, images=2, budget=200, ratios=("0.3", "0.5", "0.7"), pictures=20) if settings.quick else size


@dataclass(frozen=True)
class Settings(Scale):
    """Train and measure every method on a small ViT and a small CNN, and draw every figure and one page.

    Pre-training, fine-tuning, nearest neighbours, interactions in two set-ups (fine-tuned with log-odds, frozen with
    cosine), occlusion, spectrum. Start it again to go on: what is done is skipped. It ends with exit code 0 when all
    is done, with 3 when the time was over before; tables, figures and page are made of what is there either way.

    Writes a folder for each run into --out, and into --results what is worth keeping: accuracy.csv, masses.csv,
    differences.csv, published.csv, curves/, figures/, loss/, pictures/, report.html, and commands.sh, the `a2mim`
    commands that all of it came from.

    For example:
        a2mim reproduce cifar10 --size cpu --budget 120
        a2mim reproduce cifar10 --train cifar10-train.tar --test cifar10-test.tar --out runs/cifar10 --budget 9
        a2mim reproduce cifar10 --plan
    """

    train: str = "torch/cifar10"
    """The training images: a .tar or a folder with ten classes, or timm's name (fetched into --data-root)."""
    test: str = "torch/cifar10"
    """The test images, which are also those that are measured."""
    out: Path = Path("runs/cifar10")
    """Folder of all runs."""
    methods: tuple[str, ...] = ()
    """Methods to train (empty: all)."""
    sweep: bool = True
    """Also train A²MIM with its token in every place, for figure 6."""

    @property
    def kept(self) -> Path:
        return self.results or self.out / "results"

    @property
    def all_methods(self) -> tuple[str, ...]:
        return self.methods or tuple(METHODS)


# ------------------------------------------------------------------------------------------- the commands


def steps(settings: Settings) -> list[Step]:
    """All commands in the order in which they are run: seed by seed, method by method, every network."""
    found: list[Step] = []
    for seed in settings.all_seeds:
        for method in ORDER:
            about = METHODS.get(method)
            for family in settings.families:
                if about and method in settings.all_methods and family in about.families:
                    found += training(settings, family, method, seed)
                if about is None or (about.tuned and method in settings.all_methods and family in about.families):
                    found += measuring(settings, family, method, seed)
    return found + (token_position.steps(settings) if settings.sweep else [])


def folder_of(settings: Settings, family: str, method: str, seed: int) -> Path:
    """Of the network that is measured with its classifier."""
    return settings.out / f"{family}-{method}-{seed}"


def backbone_of(settings: Settings, family: str, method: str, seed: int) -> Path:
    """Of the network that is measured frozen: before fine-tuning, where there is such a thing."""
    folder = folder_of(settings, family, method, seed)
    trained = method in METHODS and METHODS[method].pretrains
    return folder.with_name(f"{folder.name}-pretrain") if trained else folder


def everyone(settings: Settings) -> list[tuple[str, str, int]]:
    """(network, method, seed), the untrained networks first."""
    return [
        (family, method, seed)
        for family in settings.families
        for method in (UNTRAINED, *METHODS)
        for seed in settings.all_seeds
        if method == UNTRAINED or family in METHODS[method].families
    ]


def training(settings: Settings, family: str, method: str, seed: int) -> Iterator[Step]:
    """The pre-training, where the method has one, and the fine-tuning."""
    size, about = size_of(settings), METHODS[method]
    before, after = (of(settings, family, method, seed) for of in (backbone_of, folder_of))
    common = training_words(settings, seed)
    guesses = [epochs * EPOCH_SECONDS[settings.size][family] for epochs in size.epochs]
    weights: tuple[str, ...] = ()
    if about.pretrains:
        recipe = f"{about.recipes}:{method}_{family}{suffix(settings)}"
        yield Step(("pretrain", "--recipe", recipe, *common, "--out", str(before)), before, about.cost * guesses[0])
        weights = ("--weights", str(before))
    if about.tuned:
        recipe = f"cifar10:finetune_{family}{suffix(settings)}"
        words = ("finetune", "--recipe", recipe, "--val", settings.test, *weights, *common, "--out", str(after))
        yield Step(words, after, guesses[1])


def measuring(settings: Settings, family: str, method: str, seed: int) -> Iterator[Step]:
    """Neighbours, interactions, occlusion and spectrum of one network."""
    size = size_of(settings)
    folder, before = folder_of(settings, family, method, seed), backbone_of(settings, family, method, seed)
    model = f"experiments.recipes.cifar10:{family}{suffix(settings)}"
    tuned = ("random" if method == UNTRAINED else str(folder / "backbone.safetensors"),)
    # What a pre-training exports has no classifier; neither cosine nor spectrum asks for one.
    frozen = (str(before / "backbone.safetensors"), "--num-classes", "0") if before != folder else tuned
    seeded = ("--model-seed", str(seed), "--image-size", "32", *data_words(settings, "test"))

    def command(verb: str, weights: tuple[str, ...], out: Path, guess: float, *words: str) -> Step:
        head = (verb, model, "--weights", *weights, *seeded, *words)
        return Step((*head, "--device", settings.device, "--out", str(out)), out, guess)

    def profile(weights: tuple[str, ...], out: Path, *words: str, grid: int = 8, times: int = 1) -> Step:
        budget, orders = times * size.budget, len(size.ratios) or 13
        how = ("--grid", str(grid), "--images", str(size.images), "--budget", str(budget))
        ratios = ("--ratios", *size.ratios) if size.ratios else ()
        guess = size.images * budget * orders * size.pass_seconds[family]
        return command("profile", weights, out, guess, *how, *ratios, *words)

    yield neighbours(settings, family, method, seed)
    for grid in (8, 16) if method in CORE else (8,):
        yield profile(tuned, folder / f"profile-{grid}", grid=grid)
    yield profile(frozen, before / "frozen-8", "--value", "cosine")
    if method in CONTEXT_CHECK:
        for times in (1, 4):
            # The images and the seed of the other measurements, not the protocol's own.
            own = [word for name in ("crop-pct", "interpolation", "mean", "std") for word in (f"--{name}", "None")]
            design = ("--design", "published", "--published-pairs", "10", "--seed", "0", *own)
            yield profile(tuned, folder / f"published-{times}", *design, times=times)
    pictures = ("--images", str(size.pictures))
    # All networks lose the patches that are salient to the supervised one.
    of_supervised = folder_of(settings, family, "supervised", seed) / "occlusion"
    given = (
        ("--saliency", str(of_supervised)) if "supervised" in settings.all_methods and method != "supervised" else ()
    )
    occluded = ("--grid", "8", *pictures, "--seeds", "3", *given)
    yield command("occlusion", tuned, folder / "occlusion", 90 * size.pictures * size.pass_seconds[family], *occluded)
    yield command("spectrum", frozen, before / "spectrum", 20, *pictures)


def neighbours(settings: Settings, family: str, method: str, seed: int) -> Step:
    """k-NN accuracy of the frozen network."""
    out = backbone_of(settings, family, method, seed) / "knn.json"
    network = cifar10.network(family + suffix(settings))
    weights: tuple[str, ...] = ("--weights", str(out.parent))
    if method == UNTRAINED:
        weights = ("--weights", "random", "--model", network.model, "--model-args", *network.model_args)
    limit = ("--limit", "256" if settings.quick else "10000") if settings.size == "cpu" or settings.quick else ()
    how = (*data_words(settings, "train"), "--val", settings.test, *limit, "--image-size", "32", "--crop-pct", "1")
    how = (*how, "--workers", "0", "--model-seed", str(seed), "--device", settings.device, "--out", str(out))
    return Step(("knn", *weights, *how), out, 60)
