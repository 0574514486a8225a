"""Type command lines that cannot be: each must end with exit code 2 and a sentence, and write nothing.

    python -m tests.bad_commands                     # all: some ten minutes
    python -m tests.bad_commands --every 20          # one in twenty

They come of the commands' own options: to an ordinary line of each command, a path that is not there or of the wrong
kind (a text, an empty file or folder, weights, a picture, a pipe, /dev/zero), a name that nothing has, a word where a
number belongs, a word that is none of the choices; a word that is missing or too many; and lines that contradict
themselves. Numbers out of their range are tried by tests/experiments/test_numeric_options.py.
"""

import argparse
import contextlib
import dataclasses
import io
import os
import signal
import sys
import tempfile
import time
import traceback
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from experiments import cli
from tests.a2mim.instances import write_instances
from tests.a2mim.scenes import write_scenes
from tests.a2mim.tiny import write_images
from tests.experiments.test_numeric_options import GAME, ORDINARY, TRAIN, number_in, settings_of
from tests.kill_everything import play_a_formula

SECONDS = 300
"""That a line may take: a hang is a failure."""

LINES = {
    **{command: words for command, words in ORDINARY.items() if not command.startswith("reproduce")},
    "compare": "{profile} {other} --out {out}/c.png",
    "convert": "{weights} --model test_vit --out {out}/c.safetensors",
    "figure": "fig5 {profile} --out {out}/fig5",
    "inspect": "{weights}",
    "reproduce cifar10": "--plan --data-root {images} --out {out}",
    "reproduce lite0": "--data {images} --out {out}",
}
"""An ordinary line of each command."""
FIRST = {
    "bench game": "models",
    "bench methods": "models",
    "bench train": "recipes",
    "bench units": "models",
    "compare": "runs",
    "convert": "file",
    "figure": "figure",
    "inspect": "file",
    "map": "model",
    "occlusion": "model",
    "profile": "model",
    "reconstruct": "checkpoint",
    "report": "runs",
    "spectrum": "model",
}
"""What the words before the options say."""

NETWORKS = ("no_such_network", "test_vit.nope", "os:nope", "no_such_module:net", "json:loads", "tests.a2mim.tiny:nope")
CHECKPOINTS = ("nowhere.pth", "text.pth", "empty.pth", "empty", "pipe", "/dev/zero", "picture.png", "images")
DATA = ("nowhere", "text.txt", "empty", "pipe", "/dev/zero", "weights.pth", "empty.tar", "text.tar", "torch/nope", "")
RUNS = ("nowhere", "empty", "text.txt", "images")
DEVICES = ("nope", "meta", "cuda:99")
WRONG: dict[str, tuple[str, ...]] = {
    "amp": ("nope",),
    "auto_augment": ("nope",),
    "baseline": ("nope",),
    "checkpoint": CHECKPOINTS,
    "class_names": ("nowhere.txt", "empty.txt", "picture.png", "pipe", "empty"),
    "class_map": ("nowhere.txt", "empty.txt", "picture.png", "pipe", "empty"),
    "data": DATA,
    "design": ("nope",),
    "device": DEVICES,
    "file": CHECKPOINTS,
    "image": ("nowhere.png", "text.png", "empty.png", "empty", "pipe", "/dev/zero", "weights.pth"),
    "mask_at": ("nope",),
    "method": ("nope", ""),
    "methods": ("nope",),
    "model": NETWORKS,
    "model_args": ("nope", "no_such_argument=1"),
    "models": NETWORKS[:4],
    "networks": ("nope",),
    "optimizer": ("nope",),
    "out": ("text.txt/run", "/proc/nope/run"),
    "probe": DATA[:-1],
    "recipe": ("nope", "nope:nope", "cifar10:nope", "os:system"),
    "recipes": ("nope", "nope:nope", "cifar10:nope"),
    "resume": ("nowhere", "empty", "text.txt", "profile"),
    "runs": RUNS,
    "saliency": ("nowhere", "empty"),
    "set": ("nope", "nope=1"),
    "value": ("nope",),
    "weights": (*CHECKPOINTS, "weights.pth#nope"),
}
"""Values that an option of that name cannot have."""
OPTIONAL = ("bench estimators", "bench train")
"""Commands that need not be told of data."""
UNREAD = {"reproduce cifar10": ("device", "out"), "inspect": ("model_args",)}
"""A plan reads neither; what a model takes is a part of the answer."""
CONTRADICTIONS = {
    "profile": (
        "--value cosine --target 3 --only-correct", "--weights weights.pth --num-classes 7", "--target 999",
        "--grid 16 --image-size 8", "--design exact --grid 14 --budget 100", "--design published --grid 3",
        "--ratios 2", "--mean 0.5", "--probe images --value cosine --model-seed 1", "--keep nothing",
        "--budget 5", "--radius 0", "--data torch/cifar10", "--data torch/cifar10 --data-root nowhere",
        "--minutes -1", "--images 0", "--data images --split nope", "--target dog",
    ),
    "occlusion": ("--shares", "--kinds", "--grid 5 --image-size 3", "--saliency class_attention --kinds salient",
                  "--shuffle-grids 5", "--data torch/cifar10", "--split nope"),
    "spectrum": ("--data torch/cifar10", "--image-size 1", "--split nope", "--unit-images 0"),
    "map": ("--order 99", "--grid 40", "--target 99999", "--target dog", "--out {out}/map.txt", "--out {out}",
            "--budget 3"),
    "pretrain": ("--method simmim --mask-cell 5", "--method no-such", "--image-size 30 --method mae",
                 "--val images --split nope", "--resume {trained} --batch 4", "--resume {trained} --method mae",
                 "--recipe cifar10:a2mim_cnn --resume {trained} --lr 3", "--schedule multistep --milestones 2",
                 "--set fourier_weight=many --method a2mim", "--layer-decay 0.5 --model test_nope",
                 "--scale 1 0.1", "--ratio 2 1", "--betas 0.9", "--out {profile}", "--mixup 0.5 --method mae"),
    "finetune": ("--loss bce --bce-threshold 2", "--resume {trained}", "--val empty", "--val nowhere",
                 "--mixup 0.5 --batch 7", "--weights {trained} --model test_resnet", "--scale 0 1", "--out {profile}",
                 "--eval-size 7", "--recipe cifar10:a2mim_cnn"),
    "knn": ("--k 1000", "--val nowhere", "--out {profile}/run.json", "--weights {trained} --model test_resnet"),
    "linear": ("--lrs", "--val nowhere", "--out {profile}/run.json", "--weights {trained} --model test_resnet"),
    "detect": ("--model-args output_stride=8", "--resume {trained}", "--val images", "--split nope", "--scale 2 1",
               "--crop 32 0", "--long-side 8", "--short-side", "--out {profile}", "--detector retina"),
    "segment": ("--decoder fpn --model-args output_stride=8", "--resume {trained}", "--val images", "--first-class 11",
                "--decoder upernet --batch 1", "--scale 2 1", "--split nope", "--out {profile}",
                "--class-names text.txt"),
    "compare": ("--names one", "--measure nope", "--out {out}/c.nope", "--out {profile}/strength.png",
                "--names same same"),
    "figure": ("--names a b", "--pictures 2", "--dropped random", "--out {profile}/run", "--panels a b"),
    "report": ("--names a b", "--out {out}/page.txt", "--out {profile}/run.json", "--maps -1"),
    "reconstruct": ("--count 0", "--set nope=1", "--out {profile}/run.json", "--out {out}/r.nope", "--ratio 1.5"),
    "convert": ("--out {weights}", "--out {out}/c.nope", "--model test_resnet"),
    "inspect": ("--model no_such_network",),
    "bench game": ("--grid 50 --image-size 32", "--batch-size 0"),
    "bench methods": ("--methods nope",),
    "bench train": ("--steps 0", "--data nowhere"),
    "bench units": ("--grid 50 --image-size 32", "--repeats 0"),
    "bench estimators": ("--ratios 2", "--data empty", "--pairs 0"),
    "reproduce cifar10": ("--size tiny", "--families dog"),
    "reproduce imagenet": ("--networks dog", "--methods dog"),
    "reproduce lite0": ("--grid 1", "--data nowhere", "--ratios 2"),
}  # fmt: skip
"""Behind the ordinary line, words that cannot be with it, or with one another."""


def fields_of(kind: Any) -> Iterator[tuple[str, Any]]:
    """(name, type) of every option of a command."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        while typing.get_origin(hint) is Annotated:
            hint = typing.get_args(hint)[0]
        if dataclasses.is_dataclass(hint):
            yield from fields_of(hint)
        else:
            yield field.name, hint


def is_choice(kind: Any) -> bool:
    """Whether an option takes one of some words, and nothing else."""
    inner = [each for each in typing.get_args(kind) if each is not type(None) and each is not Ellipsis]
    if typing.get_origin(kind) is Literal:
        return True
    return bool(inner) and all(typing.get_origin(each) in (Literal, tuple) and is_choice(each) for each in inner)


def changed(words: list[str], option: str, values: list[str]) -> list[str]:
    """A line with other values of an option."""
    if option in words:
        start = words.index(option)
        end = next((k for k in range(start + 1, len(words)) if words[k].startswith("--")), len(words))
        words = words[:start] + words[end:]
    return [*words, option, *values]


def lines_of(command: str, words: list[str]) -> Iterator[list[str]]:
    """Bad lines of one command, whose ordinary words these are."""
    named = next((k for k, word in enumerate(words) if word.startswith("--")), len(words))
    first, rest = words[:named], words[named:]
    for name, kind in fields_of(settings_of(command)):
        if name in UNREAD.get(command, ()):
            continue
        option = f"--{name.replace('_', '-')}"
        if name == FIRST.get(command):
            wrong = WRONG.get(name, ("nope",))
            yield from ([value, *first[1:], *rest] for value in wrong)
            continue
        if number_in(kind) or is_choice(kind):
            yield changed(words, option, ["many"])
        for value in WRONG.get(name, ()) if command not in OPTIONAL or name != "data" else DATA[:-1]:
            yield changed(words, option, [value])
    yield [*words, "--no-such-option", "1"]
    yield [*words, "--out"] if "--out" not in words else words[: words.index("--out") + 1]
    if first and command not in ("pretrain", "finetune") and not command.startswith("bench"):
        yield rest
    if "--data" in rest and command not in ("bench estimators", "reproduce lite0"):
        yield [*first, *changed(rest, "--data", [])[:-1]]


def all_lines(places: dict[str, str]) -> list[list[str]]:
    """Every bad line of every command; those that come about twice, once."""
    found: dict[tuple[str, ...], None] = {}
    for command, line in LINES.items():
        words, head = line.format(**places).split(), command.split()
        for bad in lines_of(command, words):
            found[(*head, *bad)] = None
        for more in CONTRADICTIONS.get(command, ()):
            bad = list(words)
            for part in f" {more}".format(**places).split(" --")[1:]:
                option, *values = part.split()
                bad = changed(bad, f"--{option}", values)
            found[(*head, *bad)] = None
    return [list(words) for words in found]


def make_places(root: Path, with_runs: bool = True) -> dict[str, str]:
    """Images, weights, runs, and much that is none of these; the words that lines name them by."""
    import timm
    import torch
    from PIL import Image

    write_images(root / "images" / "train", per_class=6, size=32)
    write_images(root / "images" / "val", per_class=2, size=32)
    write_scenes(root / "scenes", {"train": 4, "val": 1})
    write_instances(root / "things", (("train2017", 4), ("val2017", 1)))
    Image.new("RGB", (32, 32)).save(root / "picture.png")
    torch.manual_seed(0)
    torch.save(timm.create_model("test_vit").state_dict(), root / "weights.pth")
    for name in ("text.txt", "text.pth", "text.png", "text.tar"):
        (root / name).write_text("nothing of use\n")
    for name in ("empty.txt", "empty.pth", "empty.png", "empty.tar"):
        (root / name).touch()
    (root / "empty").mkdir()
    os.mkfifo(root / "pipe")
    names = ("images", "scenes", "things", "weights.pth", "trained", "profile", "other")
    places = {name.split(".")[0]: name for name in names} | {"out": "out"}
    profile = (
        f"profile tests.interactions.tiny:network {GAME} --image-size 12 --grid 4 --radius 1 --ratios 0.5 --budget 100 "
        "--design pairwise --unit-images 1 --batch-size 16"
    )
    runs = (
        f"pretrain --method simmim --mask-cell 16 --model test_vit {TRAIN} --pictures-every 1 --out trained",
        f"{profile} --model-seed 0 --out profile",
        f"{profile} --model-seed 1 --out other",
    )
    for line in runs if with_runs else ():
        code, said = started(line.format(**places).split())
        assert code == 0, said
    return places


def listing(root: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder, with its size and the time of its last change."""
    return {
        str(path): (path.lstat().st_size if path.is_file() else 0, path.lstat().st_mtime_ns if path.is_file() else 0)
        for path in root.rglob("*")
    }


class Hang(BaseException):
    """A line that took too long."""


def started(words: list[str]) -> tuple[int | str, str]:
    """The exit code of a command, or the exception that it ended with; and what it said."""

    def stop(*_: Any) -> None:
        raise Hang(f"more than {SECONDS} s")

    said = io.StringIO()
    signal.signal(signal.SIGALRM, stop)
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            signal.alarm(SECONDS)
            code: int | str = cli.main(words)
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 1
        except (Exception, Hang) as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            code = f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"
        finally:
            signal.alarm(0)
    return code, said.getvalue()


def fault(words: list[str], root: Path) -> str:
    """What is wrong with the end of a bad line; nothing where it ended as it must."""
    before = listing(root)
    code, said = started(words)
    last = said.strip().splitlines()[-1] if said.strip() else ""
    if code != 2:
        return f"ended with {code}: {last}"
    if "Traceback" in said or not (last.strip().startswith("a2mim") or "full helptext" in last or "╰" in last):
        return f"said: {last}"
    after = listing(root)
    written = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    return f"left {', '.join(written)}" if written else ""


def main() -> int:
    """Print the lines that did not end as they must; 0 where there are none."""
    parser = argparse.ArgumentParser(prog="python -m tests.bad_commands", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="one line in so many")
    parser.add_argument("--command", default="", help="of one command")
    asked = parser.parse_args()
    os.environ["TQDM_DISABLE"] = "1"
    play_a_formula()
    start, faults = time.perf_counter(), 0
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        root = Path(folder)
        lines = [words for words in all_lines(make_places(root)) if " ".join(words).startswith(asked.command)]
        tried = lines[:: asked.every]
        for words in tried:
            if said := fault(words, root):
                faults += 1
                print(f"  a2mim {' '.join(words)}\n    {said}", flush=True)
    print(
        f"{len(tried)} bad command lines of {len(lines)}: {len(tried) - faults} ended with exit code 2, a sentence and "
        f"nothing written; {faults} did not ({time.perf_counter() - start:.0f} s)"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
