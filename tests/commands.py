"""Every command once, on tiny images and networks: its exit code, what was said, and the folder of what it left.

The console script runs in this process, since importing torch takes seconds.
"""

import contextlib
import io
import runpy
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from experiments.benchmarks import dense
from tests.a2mim.instances import write_instances
from tests.a2mim.scenes import write_scenes
from tests.a2mim.tiny import write_images
from tests.sketches import sketched

SCRIPT = Path(sys.executable).with_name("a2mim")


def exit_code_of(words):
    """Of the console script, started as the interpreter starts it, which makes a code of any exit: an integer is the
    code, None is 0, anything else is printed and 1."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["a2mim", *words])
        try:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        except SystemExit as stop:
            return 0 if stop.code is None else stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            traceback.print_exc()
            return 1
    return 0


CPU = ("--device", "cpu")
SMALL = ("--image-size", "32", "--workers", "0", "--batch", "8", "--lr-batch", "8", "--epochs", "1", *CPU)
SMALL += ("--warmup-epochs", "0")
RANDOM = ("--weights", "random", "--image-size", "32", *CPU)
GRID = ("--grid", "4", "--budget", "200", "--radius", "1")

WORKS = """
    version
    pretrain --model test_vit --data photos --mask-cell 16 --out pre {small}
    finetune --weights pre --data photos --out tuned {small} --keep-states 1
    knn --weights pre --data photos --k 3 --image-size 32 --workers 0 --device cpu --out knn.json
    linear --weights pre --data photos --head attentive --epochs 2 --image-size 32 --workers 0 {cpu} --out linear.json
    detect --weights pre --detector faster_rcnn --data things {boxes} --batch 4 --epochs 1 --out det {few}
    segment --weights pre --frozen --data scenes --ignore 11 --crop 32 32 --batch 4 --epochs 1 --out seg {few}
    transfer seg det linear.json --out transfer
    inspect pre/backbone.safetensors
    convert pre/backbone.safetensors --out converted.safetensors
    reconstruct pre --data photos --count 1 --device cpu --out reconstruction.png
    profile test_resnet --data photos --target 3 --images 2 --ratios 0.3 0.5 --out one {grid} {random}
    profile test_vit --data photos --target 3 --images 2 --ratios 0.3 0.5 --out two {grid} {random}
    profile tuned --checkpoints all --data photos --images 2 --ratios 0.3 0.5 --out through {grid} --image-size 32 {cpu}
    occlusion test_resnet --data photos --images 2 --shares 0.5 --grid 4 --out occlusion {random}
    spectrum test_resnet --data photos --images 2 --out spectrum {random}
    map test_resnet --image photos/val/class0/0.png --permutations 1 --out map.png {grid} {random}
    compare one two --out comparison.png
    figure fig5 one two --out fig5
    report one two --out page.html
    reproduce cifar10 --plan
    reproduce imagenet --networks resnet50 --methods a2mim --plan
    reproduce lite0 --data photos --plan
    reproduce transfer --camvid scenes --coco things --weights pre --plan
    bench dense --camvid scenes --coco things --model test_resnet --batch-size 1 --repeats 2 --device cpu --out dense
    bench game test_resnet --grid 4 --batch-size 2 --batches 1 --repeats 1 --images 1 --device cpu --out game
    bench methods test_resnet --methods simmim --image-size 64 --batch-size 2 --repeats 1 --device cpu --out methods
    bench train cifar10:a2mim_cnn_cpu --steps 1 --repeats 1 --batch-size 2 --device cpu --out train
    bench units test_resnet --image-size 32 --grid 4 --images 1 --repeats 1 --batch-size 50 --speed plain --out units
"""
SLOW = {("bench", "estimators"), *(("bench", name) for name in ("coverage", "curve", "drop", "errors", "regret"))}
"""Run for minutes even when asked for little (estimators), or by tests of their own."""

REFUSALS = """
    bench estimators --data nowhere --work work --out estimators
    compare nowhere --out comparison2.png
    convert nowhere.pth --out converted2.safetensors
    finetune --weights nowhere --data photos --out tuned2 {small}
    inspect nowhere.pth
    profile test_resnet --data nowhere --out three {random}
    report nowhere --out page2.html
    version --no-such-option
"""


def commands(text):
    words = {
        "cpu": " ".join(CPU),
        "boxes": "--short-side 32 --long-side 48 --anchors 8 16 32 64 128 --regions 8 --width 32",
        "few": " ".join((*CPU, "--workers", "0")),
        "small": " ".join(SMALL),
        "random": " ".join(RANDOM),
        "grid": " ".join(GRID),
    }
    return [line.format(**words).split() for line in text.strip().splitlines()]


@contextlib.contextmanager
def narrow() -> Iterator[None]:
    """`bench dense` trains heads an eighth as wide: those of its recipe, 17 million weights, take ten seconds."""

    def asked(name, settings, whole=dense.asked):
        recipe = whole(name, settings)
        return replace(recipe, detecting=replace(recipe.detecting, width=32)) if name == "coco:small" else recipe

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense, "asked", asked)
        yield


@cache
def done(base: Path) -> tuple[Path, dict[str, int], str]:
    """The folder, the exit code of every command above, and what was said, in a new folder below `base`. The files that
    ask for it are in one group of pytest-xdist, so that it is done once."""
    folder = Path(tempfile.mkdtemp(dir=base))
    write_images(folder / "photos" / "train", per_class=6, size=32)
    write_images(folder / "photos" / "val", per_class=2, size=32)
    write_scenes(folder / "scenes", {"train": 4, "val": 1})
    write_instances(folder / "things", (("train2017", 4), ("val2017", 1)))
    found, said = {}, io.StringIO()
    quiet = contextlib.redirect_stdout(io.StringIO())
    with sketched(), narrow(), contextlib.chdir(folder), quiet, contextlib.redirect_stderr(said):
        for words in (*commands(WORKS), *commands(REFUSALS)):
            found[" ".join(words)] = exit_code_of(words)
    return folder, found, said.getvalue()
