"""`a2mim reproduce imagenet`: the paper's main table and figures at real scale, as a plan with its costs, and run.

Which recipes there are is read from experiments/recipes/imagenet/ by their names: METHOD_NETWORK pre-trains; its
weights are tuned by finetune_METHOD_NETWORK or finetune_NETWORK, if one is for the same timm model; supervised_NETWORK
is the baseline.
"""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from a2mim.bounds import Count, NotNegative, Positive
from experiments.folders import read_record
from experiments.studies.methods import METHODS
from experiments.studies.steps import Step, finished, refuse_other_commands, run_steps, typed
from interactions.forecast import duration

IMAGES = 1_281_167
DATA_GB = 150
PASSES_PER_IMAGE = 13 * 3000
OCCLUDED = 9 * (3 + 2) + 2 + 1 + 5 * 3
"""Passes of an image in occlusion: of nine inner shares three draws and both kinds of salient cells; all and none; the
shuffled ones."""
FIGURE_IMAGES = ("--images", "500", "--grid", "14")


@dataclass(frozen=True)
class Settings:
    """Pre-train, fine-tune and measure the networks of the paper's main table on ImageNet-1k.

    Without the images or without CUDA it prints the plan: every command, its GPU hours by arithmetic (operations of the
    network × images × what the method repeats, at the given speed) and the disk that it needs. Where both are there, it
    runs what is missing, and goes on when it is started again.

    For example:
        a2mim reproduce imagenet --networks vit_small resnet50
        a2mim reproduce imagenet --data /data/imagenet --gpus 8 --networks resnet50 --methods a2mim simmim supervised
    """

    data: str = "imagenet"
    """Folder with train/ and validation/ (or val/), a sub-folder for each class."""
    out: Path = Path("runs/imagenet")
    """Folder of all runs."""
    networks: tuple[str, ...] = ()
    """Of the recipes, such as vit_small, resnet50, convnext_base (empty: all)."""
    methods: tuple[str, ...] = ()
    """Such as a2mim, simmim, supervised, mae (empty: all)."""
    gpus: Count = 1
    """GPUs of this machine, one process each."""
    tflops: Positive = 100.0
    """What one GPU sustains, in 10¹² operations a second, for the hours of the plan."""
    budget: NotNegative = 0.0
    """Minutes, after which nothing new is begun (0: when all is done)."""
    plan: bool = False
    """Print the plan even where it could be run."""


def run(settings: Settings) -> int:
    """Print the plan, or run it."""
    from interactions.runs.lock import held

    made = list(steps(settings))
    refuse_other_commands(made, settings.out)
    missing = lacking(settings)
    if settings.plan or missing:
        print(plan(made, settings))
        if missing and not settings.plan:
            print(f"not run here: {' and '.join(missing)}")
        return 0
    with held(settings.out):
        return run_steps(made, settings.budget, launcher(settings.gpus), settings.out)


def lacking(settings: Settings) -> list[str]:
    """What is not there and has to be."""
    import torch

    found = [] if Path(settings.data).exists() else [f"there are no images at {settings.data} (--data)"]
    gpus = torch.cuda.device_count()
    return found + ([] if gpus >= settings.gpus else [f"there are {gpus} of {settings.gpus} CUDA devices"])


def launcher(gpus: int) -> Callable[[list[str]], int] | None:
    """Runs a command in as many processes as there are GPUs."""
    # -P keeps what lies in the working directory off the import path.
    python = [sys.executable, "-P", "-m"]
    head = [*python, "torch.distributed.run", "--nproc-per-node", str(gpus), "--no-python", *python, "experiments.cli"]
    return None if gpus == 1 else lambda words: in_processes([*head, *words])


def in_processes(command: Sequence[str]) -> int:
    """Run torchrun to its end, and where this process is to stop let it end first: its processes save their state, and
    are deaf to Ctrl-C themselves, since each is in a session of its own.

    Returns its exit code, as a shell tells that of a killed one.
    """
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        # Of a session of its own: Ctrl-C reaches it through this process alone.
        with subprocess.Popen(command, start_new_session=True) as child:
            try:
                code = child.wait()
            except KeyboardInterrupt:
                child.terminate()
                child.wait()
                raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


# ------------------------------------------------------------------------------------------- the commands


def recipes() -> dict[str, Callable[[], Any]]:
    """The recipes of experiments/recipes/imagenet/."""
    from experiments.recipes import imagenet, recipes_of

    return recipes_of(imagenet)


def steps(settings: Settings) -> Iterator[Step]:
    """Network by network: the baseline, then every method, and the measurements behind each.

    Raises ValueError for a network or a method that has no recipe.
    """
    known, chosen = recipes(), []
    for name in known:
        method, _, network = name.partition("_")
        if method in METHODS and f"finetune_{network}" in known:  # a network of the table
            chosen.append((network, method))
    for what, asked, there in (
        ("network", settings.networks, {network for network, _ in chosen}),
        ("method", settings.methods, {method for _, method in chosen}),
    ):
        if unknown := sorted(set(asked) - there):
            raise ValueError(f"no recipe has the {what} {', '.join(unknown)}: choose of {', '.join(sorted(there))}")
    every = sorted(chosen, key=lambda pair: (pair[0], list(METHODS).index(pair[1])))
    chosen = [
        (network, method)
        for network, method in every
        if network in (settings.networks or [network]) and method in (settings.methods or [method])
    ]
    refuse_unpaired(settings, every, chosen)
    profiles: dict[str, list[Path]] = {}
    for network, method in chosen:
        for each in row(settings, known, network, method):
            yield each
            if each.out.name == "profile":
                profiles.setdefault(network, []).append(each.out)
    for network, folders in profiles.items():
        if len(folders) > 1:
            figure = settings.out / f"{network}.png"
            names = [folder.parent.name.removesuffix(f"_{network}") for folder in folders]
            yield Step(("compare", *map(str, folders), "--names", *names, "--out", str(figure)), figure, 60)


def refuse_unpaired(settings: Settings, every: Sequence[tuple[str, str]], chosen: Sequence[tuple[str, str]]) -> None:
    """Raise ValueError where no (network, method) is left of a network, or of a method, that was asked for."""
    for option, kind, asked in (("--networks", 0, settings.networks), ("--methods", 1, settings.methods)):
        for name in asked:
            if name not in {pair[kind] for pair in chosen}:
                there = dict.fromkeys(pair[1 - kind] for pair in every if pair[kind] == name)
                raise ValueError(
                    f"{name} has recipes with {', '.join(there)} alone, none of which was asked for: leave it out of "
                    f"{option}, or name one of these"
                )


def row(settings: Settings, known: dict[str, Callable[[], Any]], network: str, method: str) -> Iterator[Step]:
    """One row of the table: training, fine-tuning, and what is measured frozen and tuned."""
    name = f"{method}_{network}"
    recipe, data = known[name](), ("--data", settings.data)
    before, after = settings.out / f"{name}-pretrain", settings.out / name
    forward = operations(recipe) / 3
    if method == "supervised":
        yield step(settings, recipe, "finetune", name, data, after)
    else:
        yield step(settings, recipe, "pretrain", name, data, before, METHODS[method].cost)
        backbone = ("auto", "--weights", str(before / "backbone.safetensors"), *data)
        yield measure(settings, "spectrum", backbone, before / "spectrum", 5000 * forward, "--images", "5000")
        passes = 500 * PASSES_PER_IMAGE * forward
        cosine = (*FIGURE_IMAGES, "--value", "cosine")
        yield measure(settings, "profile", backbone, before / "frozen", passes, *cosine)
        if METHODS[method].contrastive:
            words = ("--weights", str(before), *data)
            yield measure(settings, "linear", words, before / "linear.json", IMAGES * forward)
        tune = tuning(known, name, network)
        if tune is None:
            return
        yield step(settings, known[tune](), "finetune", tune, ("--weights", str(before), *data), after)
    tuned = ("auto", "--weights", str(after / "backbone.safetensors"), *data)
    yield measure(settings, "profile", tuned, after / "profile", 500 * PASSES_PER_IMAGE * forward, *FIGURE_IMAGES)
    words = ("--grid", "14", "--images", "5000")
    yield measure(settings, "occlusion", tuned, after / "occlusion", 5000 * OCCLUDED * forward, *words)


def tuning(known: dict[str, Callable[[], Any]], name: str, network: str) -> str | None:
    """The recipe that fine-tunes these weights; None where there is none for their model."""
    model = known[name]().network.model
    found = (tune for tune in (f"finetune_{name}", f"finetune_{network}") if tune in known)
    return next((tune for tune in found if known[tune]().network.model == model), None)


def measure(settings: Settings, verb: str, head: tuple[str, ...], out: Path, work: float, *words: str) -> Step:
    """A measuring command of so many operations."""
    return Step((verb, *head, *words, "--out", str(out)), out, seconds(work, settings))


def step(
    settings: Settings, recipe: Any, verb: str, name: str, words: tuple[str, ...], out: Path, cost: float = 1.0
) -> Step:
    """A training command, with the seconds that it takes on all GPUs."""
    work = operations(recipe) * IMAGES * recipe.optim.epochs * cost
    words = (*words, *in_parts(settings, recipe, name, out))
    return Step((verb, "--recipe", f"imagenet:{name}", *words, "--out", str(out)), out, seconds(work, settings))


def in_parts(settings: Settings, recipe: Any, name: str, out: Path) -> tuple[str, ...]:
    """The --accumulate with which a Fourier loss averages spectra over as many images as the released one, whose weight
    falls with their number, where so many GPUs allow it; that of a training which is there, whatever it is."""
    from experiments.recipes.imagenet.a2mim import IMAGES_OF_A_SPECTRUM

    parts, rest = 1, 0
    if (out / "run.json").exists():
        parts = read_record(out).get("settings", {}).get("loop", {}).get("accumulate", 1)
    elif together := IMAGES_OF_A_SPECTRUM.get(name):
        parts, rest = divmod(recipe.loop.batch, together * settings.gpus)
    return ("--accumulate", str(parts)) if parts > 1 and not rest else ()


# ------------------------------------------------------------------------------------------- the costs


def seconds(work: float, settings: Settings) -> float:
    """Of so many operations on all GPUs."""
    return work / (settings.tflops * 1e12 * settings.gpus)


def operations(recipe: Any) -> float:
    """Of a forward and a backward pass of one image: three times those of the forward pass."""
    return 3 * 2 * size_of(recipe)[0]


SIZELESS = ("drop_path_rate", "weight_init", "zero_init_last", "pretrained_cfg_overlay")
"""Arguments of networks that change neither operations nor parameters."""


def size_of(recipe: Any) -> tuple[float, float]:
    """Multiply-adds of an image's forward pass and parameters of a recipe's network."""
    arguments = tuple(each for each in recipe.network.model_args if each.partition("=")[0] not in SIZELESS)
    return counted(recipe.network.model, arguments, recipe.augment.image_size)


@cache
def counted(model: str, arguments: tuple[str, ...], image_size: int) -> tuple[float, float]:
    """The same, counted on shapes alone: nothing is computed."""
    import timm
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from a2mim.plain import pairs
    from a2mim.shapes import shapes_alone

    with shapes_alone():
        network = timm.create_model(model, num_classes=1000, **pairs(arguments)).eval()
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, image_size, image_size))
    return counter.get_total_flops() / 2, sum(parameter.numel() for parameter in network.parameters())


def plan(made: list[Step], settings: Settings) -> str:
    """The commands with GPU hours, and the sums."""
    known = recipes()
    lines = ["GPU hours  command"]
    for each in made:
        hours = each.guess * settings.gpus / 3600
        lines.append(f"{'done' if finished(each) else f'{hours:,.1f}':>9}  {typed(each)}")
    left = [each for each in made if not finished(each)]
    hours = sum(each.guess for each in left) * settings.gpus / 3600
    trained = [each.words[2].removeprefix("imagenet:") for each in left if each.words[1] == "--recipe"]
    disk = sum(gigabytes(known[name]()) for name in trained)
    lines += [
        f"{hours:,.0f} GPU hours are left at {settings.tflops:g} TFLOP/s sustained: "
        f"{duration(hours * 3600 / settings.gpus)} on {settings.gpus}. This is arithmetic, not a measurement.",
        f"Disk: {disk:,.0f} GB of checkpoints, and {DATA_GB} GB of images.",
    ]
    return "\n".join(lines)


def gigabytes(recipe: Any) -> float:
    """Saved states of one run: weights, gradient moments and a moving copy, as often as are kept, and the best."""
    parameters = size_of(recipe)[1]
    return parameters * 4 * 4 * (recipe.loop.keep + 1) / 1e9
