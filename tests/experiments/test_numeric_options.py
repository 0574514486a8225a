"""Every numeric option of every command with 0, −1, NaN, infinity and 10^20: exit code 2 with nothing written, or a
result. First what is refused by looking at the settings alone, which is nearly all of it; then, of what is let through
and is not the ordinary setting anyway, a sample on tiny images and networks.
"""

import contextlib
import dataclasses
import importlib
import json
import math
import signal
import types
import typing
from functools import cache
from typing import Annotated, Any

import pytest

from a2mim.bounds import Range, check
from experiments import cli
from tests.a2mim.instances import write_instances
from tests.a2mim.scenes import write_scenes
from tests.a2mim.tiny import write_images
from tests.experiments.test_cli import real_commands

ODD = {"0": 0.0, "-1": -1.0, "nan": math.nan, "inf": math.inf, "1e20": 1e20}
SECONDS = 120
"""That one command may take: a hang is a failure."""

CPU = "--device cpu"
TRAIN = f"--data {{images}} --image-size 32 --batch 8 --epochs 1 --warmup-epochs 0 --lr-batch 8 --workers 0 {CPU}"
GAME = f"--weights random --data {{images}} --target 1 --image-size 32 --images 2 {CPU}"
ORDINARY = {
    "bench coverage": "{profile} --out {out}",
    "bench curve": "{profile} {profile} --out {out}",
    "bench dense": f"--camvid {{scenes}} --coco {{things}} --model test_resnet --repeats 1 {CPU} --out {{out}}",
    "bench drop": f"test_vit --grid 2 --budget 200 --repeats 1 {CPU} --out {{out}}",
    "bench errors": f"test_vit --grids 2 --repeats 2 {CPU} --out {{out}}",
    "bench estimators": "--data {images} --work {out}/work --out {out} --quick",
    "bench game": f"test_resnet --grid 2 --batch-size 2 --batches 1 --repeats 1 --images 1 {CPU} --out {{out}}",
    "bench methods": f"test_resnet --methods simmim --image-size 64 --batch-size 2 --repeats 1 {CPU} --out {{out}}",
    "bench regret": f"test_vit --data {{images}} --grid 2 --budget 200 {CPU} --out {{out}}",
    "bench train": f"cifar10:a2mim_cnn_cpu --steps 1 --repeats 1 --batch-size 2 {CPU} --out {{out}}",
    "bench units": f"test_resnet --image-size 32 --grid 4 --images 1 --budget 200 --ratios 0.5 --repeats 1 {CPU} "
    "--batch-size 50 --speed plain --out {out}",
    "detect": "--model test_resnet --detector faster_rcnn --data {things} --short-side 32 --long-side 48 --batch 4 "
    "--anchors 8 16 32 64 128 --regions 8 --width 32 --epochs 1 --warmup-epochs 0 --lr-batch 4 --workers 0 "
    f"--predictions 0 {CPU} --out {{out}}",
    "finetune": f"--model test_vit {TRAIN} --out {{out}}",
    "knn": f"--model test_vit --data {{images}} --image-size 32 --k 3 --workers 0 {CPU} --out {{out}}/knn.json",
    "linear": f"--model test_vit --data {{images}} --image-size 32 --epochs 1 --workers 0 {CPU} --out {{out}}/l.json",
    "map": "test_resnet --weights random --image {images}/val/class0/0.png --image-size 32 --grid 3 --radius 1 "
    f"--budget 200 --permutations 1 {CPU} --out {{out}}/map.png",
    "occlusion": "test_resnet --weights random --data {images} --image-size 32 --images 2 --shares 0.5 --kinds random "
    f"--grid 2 --seeds 1 {CPU} --out {{out}}",
    "pretrain": f"--method supervised --model test_vit {TRAIN} --out {{out}}",
    "profile": f"test_resnet {GAME} --grid 3 --radius 1 --ratios 0.3 --budget 200 --out {{out}}",
    "reconstruct": "{trained} --data {images} --count 1 --device cpu --out {out}/r.png",
    "reproduce cifar10": "--plan --out {out}",
    "reproduce imagenet": "--plan --networks resnet50 --methods supervised --out {out}",
    "reproduce lite0": "--plan --data {images} --out {out}",
    "reproduce transfer": "--plan --camvid {scenes} --coco {things} --weights {trained} --out {out}",
    "report": "{profile} --out {out}/page.html",
    "figure": "fig4 {trained} --out {out}/fig4",
    "segment": f"--model test_resnet --data {{scenes}} --ignore 11 --crop 32 32 --batch 4 --epochs 1 --warmup-epochs 0 "
    f"--lr-batch 4 --workers 0 --predictions 0 {CPU} --out {{out}}",
    "spectrum": f"test_resnet --weights random --data {{images}} --image-size 32 --images 2 {CPU} --out {{out}}",
}
ALSO = {
    "--bce-threshold": "--loss bce",
    "--mask-cell": "--method simmim",
    "--mask-ratio": "--method simmim --mask-cell 16",
    "--decay-rate": "--schedule multistep --milestones 0.5",
    "--milestones": "--schedule multistep",
    "--pictures-every": "--method simmim --mask-cell 16",
    "--padding": "--crop padded",
    "--order": "--grid 3",
    "--published-pairs": "--design published",
}
"""What an option needs beside it to have an effect."""
SLOW = (
    "bench coverage",
    "bench curve",
    "bench dense",
    "bench drop",
    "bench errors",
    "bench estimators",
    "bench regret",
)
"""Too slow to be run for each value: what it refuses is looked at, and no more."""
RUN_IN = {"Augmentation": "pretrain", "Mixing": "pretrain", "Optim": "pretrain", "Loop": "pretrain", "Data": "pretrain"}
RUN_IN |= {"Evaluation": "knn", "Network": "knn", "Input": "occlusion"}
"""The one command in which the options that several share are run."""
SAMPLE = {
    "bench units": ("--ratios",),
    "pretrain": ("--mask-ratio", "--betas", "--eps", "--warmup-epochs", "--color-jitter"),
    "map": ("--order",),
    "profile": ("--ratios",),
    "occlusion": ("--shares", "--mean"),
    "detect": ("--flip",),
    "segment": ("--overlap",),
    "spectrum": ("--num-classes",),
}
"""Of commands that take half a second or more, the options that are run."""
NEGATIVE = ("--mean",)
"""What may be below zero."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One option of one command with one odd value in one place."""

    command: str
    words: tuple[str, ...]
    single: bool
    """Whether the option takes one value."""
    owner: str
    """The dataclass that the option belongs to: those of several commands are run in one of them."""

    def __str__(self):
        return " ".join((self.command, *self.words))


def number_in(kind) -> Any:
    """int or float where a type is one, perhaps beside something else."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return number_in(inner[0])
    if origin in (typing.Union, types.UnionType):
        return next(filter(None, map(number_in, inner)), None)
    return kind if kind in (int, float) else None


def places(field, kind):
    """(type, what to put before and behind the odd value) of each number that an option takes."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType) and any(typing.get_origin(each) is tuple for each in inner):
        origin, inner = tuple, typing.get_args(next(each for each in inner if typing.get_origin(each) is tuple))
    if origin is not tuple:
        return [(number_in(kind), (), ())] if number_in(kind) else []
    if inner[1] is Ellipsis:
        return [(number_in(inner[0]), (), ())] if number_in(inner[0]) else []
    usual = field.default if isinstance(field.default, tuple) else (0.9,) * len(inner)
    usual = tuple(map(str, usual))
    return [(number_in(each), usual[:k], usual[k + 1 :]) for k, each in enumerate(inner)]


def numbers(kind):
    """Every number in a settings dataclass and those inside of it: owner, option, type, whether the option takes a
    single value, and what stands before and behind the number."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        bare = typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
        if dataclasses.is_dataclass(bare):
            yield from numbers(bare)
            continue
        for number, before, behind in places(field, hint):
            single = number_in(hint) is not None
            yield kind, f"--{field.name.replace('_', '-')}", number, single, before, behind


def owner_of(kind):
    return f"{kind.__module__}.{kind.__name__}"


def settings_of(command):
    return importlib.import_module(cli.look_up(command.split(), cli.COMMANDS)).Settings


def cases():
    for command in ORDINARY:
        for owner, option, number, single, before, behind in numbers(settings_of(command)):
            for value in ODD:
                # An integer is typed as one, so that its size is what is refused.
                typed = str(10**20) if value == "1e20" and number is int else value
                yield Case(command, (option, *before, typed, *behind), single, owner_of(owner))


CASES = list(cases())


def code_of(words):
    try:
        return cli.main(words)
    except SystemExit as stop:
        return stop.code


def words_of(case, folders):
    also = ALSO.get(case.words[0], "") if case.command in ("pretrain", "finetune", "map", "profile") else ""
    if case.command == "finetune" and "--method" in also:
        also = ""
    usual = f"{ORDINARY[case.command]} {also}".format(**folders).split()
    # What is asked for takes the place of what the ordinary command says of it.
    if case.words[0] in usual:
        start = usual.index(case.words[0])
        end = next((k for k in range(start + 1, len(usual)) if usual[k].startswith("--")), len(usual))
        del usual[start:end]
    return [*case.command.split(), *usual, *case.words]


def with_value(settings, case):
    """Settings with what the case types in the place of one of them."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            if (changed := with_value(value, case)) is not None:
                return dataclasses.replace(settings, **{field.name: changed})
        elif owner_of(type(settings)) == case.owner and f"--{field.name.replace('_', '-')}" == case.words[0]:
            typed = tuple(int(word) if word.strip("-").isdigit() else float(word) for word in case.words[1:])
            return dataclasses.replace(settings, **{field.name: typed[0] if case.single else typed})
    return None


@pytest.fixture(scope="module")
def ordinary():
    """The settings of every ordinary command."""
    settings: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "guarded", lambda run, given, prog: settings.update({prog.removeprefix("a2mim "): given}))
        for command, words in ORDINARY.items():
            folders = dict.fromkeys(("images", "scenes", "things", "out", "trained", "profile"), "nowhere")
            cli.main([*command.split(), *words.format(**folders).split()])
    return settings


@pytest.fixture(scope="module")
def let_through(ordinary):
    """The cases whose values are not refused by looking at the settings, as every command does before it begins."""
    found = []
    with pytest.MonkeyPatch.context() as patch:  # the types of a class are worked out once, not for each of its cases
        patch.setattr(typing, "get_type_hints", cache(typing.get_type_hints))
        for case in CASES:
            with contextlib.suppress(ValueError):
                check(with_value(ordinary[case.command], case))
                found.append(case)
    return found


def test_every_command_with_a_number_is_tried():
    with_numbers = {" ".join(words) for words in real_commands() if any(numbers(settings_of(" ".join(words))))}
    assert with_numbers == set(ORDINARY)
    assert len(CASES) > 600


@pytest.fixture(scope="module")
def sample(let_through, ordinary):
    """Of the cases that are let through, those that are run."""

    def chosen(case):
        if with_value(ordinary[case.command], case) == ordinary[case.command]:
            return False  # the ordinary command itself
        if RUN_IN.get(case.owner.rpartition(".")[2], case.command) != case.command:
            return False
        return case.words[0] in SAMPLE.get(case.command, case.words)

    return list(filter(chosen, let_through))


def test_what_is_no_number_or_too_large_or_below_zero_is_refused_before_anything_is_opened(let_through):
    def odd(case):
        wrong = {"nan", "inf", str(10**20)} | ({"-1"} if case.words[0] not in NEGATIVE else set())
        return wrong & set(case.words)

    assert not [str(case) for case in let_through if odd(case)]


def strict(path):
    """Raises ValueError where a JSON file holds NaN or infinity."""

    def refuse(name):
        raise ValueError(f"{path} holds {name}")

    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    return [json.loads(line, parse_constant=refuse) for line in lines]


class Hang(BaseException):
    """A command that took too long."""


@contextlib.contextmanager
def at_most(seconds):
    def stop(*_):
        raise Hang(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("odd")
    write_images(root / "images" / "train", per_class=6, size=32)
    write_images(root / "images" / "val", per_class=2, size=32)
    write_scenes(root / "scenes", {"train": 4, "val": 1})
    write_instances(root / "things", (("train2017", 4), ("val2017", 1)))
    found = {
        "images": str(root / "images"),
        "scenes": str(root / "scenes"),
        "things": str(root / "things"),
        "trained": str(root / "trained"),
        "profile": str(root / "profile"),
    }
    train = f"pretrain --method simmim --mask-cell 16 --model test_vit {TRAIN} --out {{trained}} --pictures-every 1"
    assert cli.main(train.format(**found).split()) == 0
    profile = f"profile test_resnet {GAME} --grid 3 --radius 1 --ratios 0.3 0.5 --budget 200 --out {{profile}}"
    assert cli.main(profile.format(**found).split()) == 0
    return found


@pytest.mark.slow
@pytest.mark.parametrize("command", [name for name in ORDINARY if name not in SLOW])
def test_what_is_let_through_gives_a_result_or_is_refused_with_nothing_written(
    command, sample, folders, tmp_path, capfd, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for number, case in enumerate(case for case in sample if case.command == command):
        out = tmp_path / str(number)
        with at_most(SECONDS):
            code = code_of(words_of(case, {**folders, "out": str(out)}))
        said = capfd.readouterr().err
        if code == 0:
            for path in (*out.rglob("*.json"), *out.rglob("*.jsonl")):
                strict(path)
        else:
            assert code == cli.BAD_INPUT and "Traceback" not in said, f"{case}: {said}"
            assert not [path for path in out.rglob("*") if path.is_file()], f"{case}: {said}"


def test_a_range_says_what_it_takes():
    assert Range(1).complaint(0) == "is too small: use 1 or more" and not Range(1).complaint(1)
    assert Range(0, above=True).complaint(0) == "is too small: use more than 0"
    assert Range(0, 1, below=True).complaint(1) == "is too large: use less than 1"
    assert Range(0, 1).complaint(2) == "is too large: use at most 1"
