"""The commands of the CIFAR-10 study: every method on a small ViT and a small CNN, trained and measured.

The study is nothing but `a2mim` commands; results/commands.sh lists them, so that any part can be run alone.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from a2mim.bounds import Count
from experiments.folders import is_complete
from experiments.recipes import cifar10, recipes_of
from experiments.studies import token_position
from experiments.studies.cifar10.earlier import is_salient_to, joined_networks
from experiments.studies.methods import METHODS, UNTRAINED
from experiments.studies.steps import Step
from experiments.studies.trainings import EPOCH_SECONDS, SEEDS, Scale, data_words, suffix, training_words
from interactions.settings import PAPER_RATIOS

FAMILIES: dict[str, str] = {"cnn": "CNN", "vit": "ViT"}
HEADLINE = ("supervised", "a2mim", "simclr")
"""What the declared test needs; made and measured first, seed by seed."""
ORDER = (*HEADLINE, UNTRAINED, *[name for name in METHODS if name not in HEADLINE])
"""In which they are made and measured: the others are occluded where the supervised network looks."""
MASKED = ("a2mim", "simmim", "mae", "spark", "maskfeat")
CORE = (UNTRAINED, "supervised", "simmim", "a2mim")
"""In figure 5, and also measured on cells of 2×2 pixels."""
CONTEXT_CHECK = ("a2mim", "supervised", "simclr")
"""Also measured by the published protocol, with as many contexts as the size has passes for, and four times as many."""
THROUGH = ("supervised", "a2mim")
"""Whose first seed, 0, is measured through training as well: frozen, as what trained it left it."""
STATES = 8
"""Parts of that training after which its weights are kept, besides those before it."""
FINE_TUNED, FROZEN = "fine-tuned log_odds", "frozen cosine"
BASELINES: dict[str, tuple[str, ...]] = {"cnn": ("mean", "blur"), "vit": ("mean", "blur", "drop")}
"""What an absent cell shows: an answer that one of them alone gives is an answer about it."""
SOME_CELLS = tuple(f"{ratio:g}" for ratio in PAPER_RATIOS if ratio > 0)
"""The paper's orders but 0, which drop has not: of an empty coalition no patch is left that these ViTs could pool."""


@dataclass(frozen=True)
class Setup:
    """One way in which the interactions of a network are measured."""

    frozen: bool
    baseline: str

    @property
    def name(self) -> str:
        """As tables have it; the mean colour goes without saying."""
        return " ".join([FROZEN if self.frozen else FINE_TUNED, *self._unusual])

    @property
    def folder(self) -> str:
        """Of its profile, in that of the network."""
        return "-".join(["frozen-8" if self.frozen else "profile-8", *self._unusual])

    @property
    def words(self) -> tuple[str, ...]:
        value = ("--value", "cosine") if self.frozen else ()
        return (*value, *(("--baseline", self.baseline) if self._unusual else ()))

    @property
    def _unusual(self) -> list[str]:
        return [self.baseline] if self.baseline != "mean" else []

    def of(self, settings: "Settings", family: str, method: str, seed: int) -> Path:
        """The folder of its profile of a network."""
        place = backbone_of if self.frozen else folder_of
        return place(settings, family, method, seed) / self.folder


def setups(family: str) -> list[Setup]:
    """Both set-ups with every baseline."""
    return [Setup(frozen, baseline) for baseline in BASELINES[family] for frozen in (False, True)]


COURSE = Setup(frozen=True, baseline="mean")
"""In which networks are followed through training."""


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
    published_pairs: int
    """Pairs of the published protocol, whose contexts are the budget over four times as many: 25 of each pair at the
    GPU size and 5 at the CPU size, where the protocol has 50."""
    pictures: int
    """Images for occlusion and spectrum."""
    pass_seconds: dict[str, float]
    """First guesses, until commands of the kind are done."""


SIZES = {
    "gpu": Size((200, 100), 100, 1000, (), 10, 1000, {"vit": 1e-4, "cnn": 1e-4}),
    "cpu": Size((3, 3), 64, 100, (), 5, 200, {"vit": 1e-3, "cnn": 5e-4}),
}


def size_of(settings: "Settings") -> Size:
    size = SIZES[settings.size]
    return replace(size, images=2, budget=200, ratios=("0.3", "0.5", "0.7"), pictures=20) if settings.quick else size


@dataclass(frozen=True)
class Settings(Scale):
    """Train and measure every method on a small ViT and a small CNN, and draw every figure and one page.

    Pre-training, fine-tuning, nearest neighbours, interactions in two set-ups (fine-tuned with log-odds, frozen with
    cosine), occlusion, spectrum; and the interactions through the training of the first seed's supervised and A²MIM
    networks. Start it again to go on: what is done is skipped. It ends with exit code 0 when all is done, with 3 when
    the time was over before; tables, figures and page are made of what is there either way.

    Writes a folder for each run into --out, and into --results what is worth keeping: accuracy.csv, masses.csv,
    differences.csv, declared.csv (the test of the question), published.csv, images.tar.xz (the rows of every image),
    curves/, figures/, loss/, pictures/, report.html, and commands.sh, the `a2mim` commands that all of it came from.

    For example:
        a2mim reproduce cifar10 --size cpu --budget 120
        a2mim reproduce cifar10 --size cpu --times 3 --methods supervised a2mim simclr --no-sweep --out runs/cifar10-3
        a2mim reproduce cifar10 --train cifar10-train.tar --test cifar10-test.tar --out runs/cifar10 --budget 9
        a2mim reproduce cifar10 --size cpu --families vit --methods maskfeat --joined experiments/results/cifar10-vit
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
    times: Count = 1
    """Epochs of every training, as multiples of its recipe's (those of figure 6 excepted)."""
    sweep: bool = True
    """Also train A²MIM with its token in every place, for figure 6."""
    images: Count | None = None
    """Test images by whose interactions the networks are compared, in place of the size's (gpu: 100, cpu: 64). A study
    that has measured fewer measures the rest of them."""
    joined: Path | None = None
    """Results of an earlier study of the same --size, --times and --quick, and of seeds and families that this one has,
    too (the folder with its study.json, accuracy.csv, masses.csv and images.tar.xz): its networks stand beside those of
    this one in every table and figure, and are not trained again."""

    @property
    def kept(self) -> Path:
        return self.results or self.out / "results"

    @property
    def all_methods(self) -> tuple[str, ...]:
        return self.methods or tuple(METHODS)

    def check(self) -> None:
        """Raises ValueError for a method that there is not, or not for the networks; and as every study does."""
        super().check()
        for method in self.methods:
            if method not in METHODS:
                raise ValueError(f"there is no method {method!r}: choose of {', '.join(METHODS)}")
            if not {*METHODS[method].families} & {*self.families}:
                raise ValueError(
                    f"{METHODS[method].label} trains no {' or '.join(FAMILIES[each] for each in self.families)}: leave "
                    f"{method} out of --methods, or name --families {' '.join(METHODS[method].families)}"
                )


# ------------------------------------------------------------------------------------------- the commands


def steps(settings: Settings) -> list[Step]:
    """All commands in the order in which they are run: seed by seed, method by method, every network but those of a
    study that is joined."""
    found: list[Step] = []
    there = joined_networks(settings)

    def missing(methods: Iterable[str], family: str, seed: int) -> list[str]:
        return [method for method in methods if (family, method, seed) not in there]

    for methods in (HEADLINE, ORDER[len(HEADLINE) :]):
        for family in settings.families:
            for usual in (True, False):  # with the mean colour first
                for seed in settings.all_seeds:
                    for method in missing(methods, family, seed):
                        found += training(settings, family, method, seed) if usual else ()
                        found += measuring(settings, family, method, seed, usual)
        for family in settings.families:
            for seed in settings.all_seeds:
                found += through_training(settings, family, missing(methods, family, seed), seed)
    for method in ORDER:
        for family in settings.families:
            for seed in settings.all_seeds:
                for each in missing([method], family, seed):
                    found += further(settings, family, each, seed)
    return found + (token_position.steps(settings) if settings.sweep else [])


def is_trained(settings: Settings, family: str, method: str) -> bool:
    """Whether the study trains it; not those that are not trained at all."""
    return method in METHODS and method in settings.all_methods and family in METHODS[method].families


def is_measured(settings: Settings, family: str, method: str) -> bool:
    return method == UNTRAINED or (is_trained(settings, family, method) and METHODS[method].tuned)


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


def is_followed(settings: Settings, family: str, method: str, seed: int) -> bool:
    """Whether the training of this network keeps weights on the way: that of the first of all seeds, whichever are
    asked for now, so that others can be added."""
    return seed == SEEDS[0] and method in THROUGH and is_trained(settings, family, method)


def training(settings: Settings, family: str, method: str, seed: int) -> Iterator[Step]:
    """The pre-training, where the method has one, and the fine-tuning."""
    if not is_trained(settings, family, method):
        return
    size, about = size_of(settings), METHODS[method]
    before, after = (of(settings, family, method, seed) for of in (backbone_of, folder_of))
    common = training_words(settings, seed)
    kept = ("--keep-states", str(STATES)) if is_followed(settings, family, method, seed) else ()
    guesses = [settings.times * epochs * EPOCH_SECONDS[settings.size][family] for epochs in size.epochs]
    weights: tuple[str, ...] = ()
    if about.pretrains:
        recipe = f"{about.recipes}:{method}_{family}{suffix(settings)}"
        own = (*longer(settings, recipe), *kept)
        words: tuple[str, ...] = ("pretrain", "--recipe", recipe, *common, *own, "--out", str(before))
        yield Step(words, before, about.cost * guesses[0])
        weights = ("--weights", str(before))
    if about.tuned:
        recipe = f"cifar10:finetune_{family}{suffix(settings)}"
        own = (*longer(settings, recipe), *(() if about.pretrains else kept))
        words = ("finetune", "--recipe", recipe, "--val", settings.test, *weights, *common, *own, "--out", str(after))
        yield Step(words, after, guesses[1])


def longer(settings: Settings, recipe: str) -> tuple[str, ...]:
    """--epochs of a recipe (module:name) in a study that trains longer than its recipes; nothing in any other."""
    if settings.times == 1 or settings.quick:
        return ()
    module, name = recipe.split(":")
    epochs = recipes_of(import_module(f"experiments.recipes.{module}"))[name]().optim.epochs
    return "--epochs", str(settings.times * epochs)


@dataclass(frozen=True)
class Measured:
    """One network, and the commands that measure it."""

    settings: Settings
    family: str
    method: str
    seed: int

    def place(self, frozen: bool) -> Path:
        return (backbone_of if frozen else folder_of)(self.settings, self.family, self.method, self.seed)

    def command(self, verb: str, name: str, guess: float, *words: str, frozen: bool = False) -> Step:
        """A command whose results are called `name`, of the network with its classifier, or frozen."""
        settings, tuned, place = self.settings, self.place(False), self.place(frozen)
        weights: tuple[str, ...] = ("random" if self.method == UNTRAINED else str(place / "backbone.safetensors"),)
        # What a pre-training exports has no classifier; neither cosine nor spectrum asks for one.
        weights += ("--num-classes", "0") if place != tuned else ()
        model = f"experiments.recipes.cifar10:{self.family}{suffix(settings)}"
        seeded = ("--model-seed", str(self.seed), "--image-size", "32", *data_words(settings, "test"))
        out = place / name
        head = (verb, model, "--weights", *weights, *seeded, *words)
        return Step((*head, "--device", settings.device, "--out", str(out)), out, guess)

    def compared(self, setup: Setup) -> Step:
        """The interactions by which networks are compared."""
        orders = SOME_CELLS if setup.baseline == "drop" else ()
        guess, how = self.effort(orders=orders, images=self.settings.images)
        return self.command("profile", setup.folder, guess, *how, *setup.words, frozen=setup.frozen)

    def profile(self, name: str, *words: str, grid: int = 8, times: int = 1) -> Step:
        """Other interactions of the fine-tuned network; times: of the passes of the study's size."""
        guess, how = self.effort(grid, times)
        return self.command("profile", name, guess, *how, *words)

    def effort(
        self, grid: int = 8, times: int = 1, orders: tuple[str, ...] = (), images: int | None = None
    ) -> tuple[float, tuple[str, ...]]:
        """Seconds that a profile may take, and the words that say how much is measured; orders: those that are listed
        where the size lists none; images: in place of the size's."""
        size = size_of(self.settings)
        budget, listed, images = times * size.budget, size.ratios or orders, images or size.images
        how = ("--grid", str(grid), "--images", str(images), "--budget", str(budget))
        ratios = ("--ratios", *listed) if listed else ()
        count = len(listed or PAPER_RATIOS)
        return images * budget * count * size.pass_seconds[self.family], (*how, *ratios)

    def through_training(self) -> Step:
        """Interactions of every state that its training kept, frozen."""
        guess, how = self.effort()
        run, settings = self.place(True), self.settings
        out = run / f"{COURSE.folder}-course"
        # The whole image, as the network's factory shows it to the other measurements.
        words = ("--checkpoints", "all", "--image-size", "32", "--crop-pct", "1", *data_words(settings, "test"), *how)
        words = ("profile", str(run), *words, *COURSE.words, "--device", settings.device, "--out", str(out))
        return Step(words, out, (STATES + 1) * guess)


def measuring(settings: Settings, family: str, method: str, seed: int, usual: bool) -> Iterator[Step]:
    """Interactions of one network in both set-ups, with the mean colour as baseline, or with every other."""
    network = Measured(settings, family, method, seed)
    chosen = [setup for setup in setups(family) if (setup.baseline == "mean") == usual]
    for setup in chosen if is_measured(settings, family, method) else ():
        yield network.compared(setup)


def through_training(settings: Settings, family: str, methods: Iterable[str], seed: int) -> Iterator[Step]:
    """Interactions at every kept state of the trainings that are followed."""
    for method in methods:
        if is_followed(settings, family, method, seed):
            yield Measured(settings, family, method, seed).through_training()


def further(settings: Settings, family: str, method: str, seed: int) -> Iterator[Step]:
    """Neighbours, the finer grid, the published protocol, occlusion and spectrum of one network."""
    if not is_measured(settings, family, method):
        return
    size, network = size_of(settings), Measured(settings, family, method, seed)
    yield neighbours(settings, family, method, seed)
    if method in CONTEXT_CHECK:
        for times in (1, 4):
            # The images and the seed of the other measurements, not the protocol's own.
            own = [word for name in ("crop-pct", "interpolation", "mean", "std") for word in (f"--{name}", "None")]
            design = ("--design", "published", "--published-pairs", str(size.published_pairs), "--seed", "0", *own)
            yield network.profile(f"published-{times}", *design, times=times)
    if method in CORE:
        yield network.profile("profile-16", grid=16)
    pictures = ("--images", str(size.pictures))
    # All networks lose the patches that are salient to the supervised one, where there is one.
    given = salient_to_all(settings, family, seed) if method != "supervised" else None
    occluded = ("--grid", "8", *pictures, "--seeds", "3", *(("--saliency", str(given)) if given else ()))
    yield network.command("occlusion", "occlusion", 90 * size.pictures * size.pass_seconds[family], *occluded)
    yield network.command("spectrum", "spectrum", 20, *pictures, frozen=True)


def salient_to_all(settings: Settings, family: str, seed: int) -> Path | None:
    """The occlusion of the supervised network, by whose saliency the others lose their patches; None where there is
    none, now and at every later start: a joined network was not measured here, and may have been kept without it."""
    out = folder_of(settings, family, "supervised", seed) / "occlusion"
    if (family, "supervised", seed) in joined_networks(settings):
        return out if is_salient_to(settings, out.relative_to(settings.out)) else None
    return out if "supervised" in settings.all_methods or is_complete(out) else None


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
