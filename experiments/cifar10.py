"""CIFAR-10: a small ViT and a small CNN, untrained, supervised, SimMIM and A²MIM, compared by accuracy and by profile.

Reproduces, on images of 32×32 pixels, the comparison behind figures 1 and 5 of the A²MIM paper: what masked-image
pre-training does to accuracy and to the orders of interaction, for a transformer and a CNN. Every pre-trained network
is fine-tuned by the same recipe and budget, and `supervised` is that very recipe from random weights. Untrained weights
are profiled only.

Should reach. Not answered yet: the GPU size has not been run. The CPU size proves the path, not the claim.

Costs.

            images  epochs: pre-training  fine-tuning  seeds  all epochs           profiles (each on grids of 16 and 8)
    gpu     50,000  200                   100          3      2 × 3 × 700 = 4,200  100 images, 13 orders, 1,000 passes
    cpu     10,000  5                     5            1      2 × 25 = 50          16 images, 5 orders, 400 passes

On two cores an epoch of the CPU size takes about 30 s for the ViT and 15 s for the CNN: 20 minutes of training, and 10
of profiles. The GPU size has not been timed.

Commands. Each does what is missing, stops after the minutes it is given, and goes on when it is started again, until it
says that everything is finished (exit code 0; 3 before that):

    python -m experiments.cifar10 --train cifar10-train.tar --test cifar10-test.tar --out runs/cifar10 --minutes 9
    python -m experiments.cifar10 --size cpu --train cifar10-train.tar --test cifar10-test.tar --out runs/cifar10-cpu

Add --quick to see in minutes whether it runs. The study is nothing but `a2mim` commands (results/commands.sh lists
them), so any part can be run alone:

    a2mim pretrain --recipe cifar10:a2mim_vit --data cifar10-train.tar --out runs/a2mim-vit
    a2mim finetune --recipe cifar10:finetune_vit --weights runs/a2mim-vit --data cifar10-train.tar \\
        --val cifar10-test.tar --out runs/a2mim-vit-ft
    a2mim profile experiments.cifar10:vit --weights runs/a2mim-vit-ft/backbone.safetensors --image-size 32 \\
        --data cifar10-test.tar --grid 16 --out runs/a2mim-vit-ft/profile-16
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from a2mim.settings import Augmentation, Data, Evaluation, Loop, Mixing, Network, Optim
from experiments.commands.finetune import Settings as Finetune
from experiments.commands.pretrain import Settings as Pretrain

if TYPE_CHECKING:
    from torch import nn

# ------------------------------------------------------------------------------------------- networks

# Mean over tokens behind the last norm, in pre-training and in fine-tuning alike: then all weights carry over.
_VIT_ARGS = ("img_size=32", "patch_size=4", "class_token=False", "global_pool=avg", "fc_norm=False")
_VIT = Network("vit_tiny_patch16_224", (*_VIT_ARGS, "embed_dim=192", "depth=6", "num_heads=3"))
_VIT_CPU = Network("vit_tiny_patch16_224", (*_VIT_ARGS, "embed_dim=128", "depth=4", "num_heads=4"))
# A pre-activation ResNet of two stages behind a stem of stride 4: maps of 8×8 and 4×4. (timm's ResNet v1 always has
# four stages, the last of which would see 1×1.) The mask token goes into an 8×8 map, a position for each mask cell.
_CNN = Network("resnetv2_18d", ("layers=(3, 3)", "channels=(128, 256)"))
_CNN_CPU = Network("resnetv2_18d", ("layers=(2, 2)", "channels=(64, 128)"))


def vit(num_classes: int = 10) -> nn.Module:
    """The ViT of the GPU size, for `a2mim profile experiments.cifar10:vit`."""
    return _made(_VIT, num_classes)


def vit_cpu(num_classes: int = 10) -> nn.Module:
    """The ViT of the CPU size."""
    return _made(_VIT_CPU, num_classes)


def cnn(num_classes: int = 10) -> nn.Module:
    """The ResNet of the GPU size."""
    return _made(_CNN, num_classes)


def cnn_cpu(num_classes: int = 10) -> nn.Module:
    """The ResNet of the CPU size."""
    return _made(_CNN_CPU, num_classes)


def _made(network: Network, num_classes: int) -> nn.Module:
    import timm

    from experiments.training import pairs

    # Profiles show the whole image, as training and evaluation do.
    whole = {"input_size": (3, 32, 32), "crop_pct": 1.0}
    arguments = pairs(network.model_args)
    return timm.create_model(network.model, num_classes=num_classes, pretrained_cfg_overlay=whole, **arguments)


# ------------------------------------------------------------------------------------------- recipes

_IN_MEMORY = Data(in_memory=True)
_LOOP = Loop(batch=512, precision="bf16", log_every=20, save_every=500)
_OPTIM = Optim(lr=1e-3, lr_batch=512, weight_decay=0.05, clip_grad=5.0)


def _pretrain(network: Network, method: str, *set: str) -> Pretrain:
    """Masked cells of 4×4 pixels: an eighth of the side, where the paper masks a seventh (32 of 224)."""
    return Pretrain(
        method=method,
        set=set,
        mask_cell=4,
        network=network,
        data=_IN_MEMORY,
        augment=Augmentation(image_size=32, scale=(0.67, 1.0)),
        optim=replace(_OPTIM, epochs=200, warmup_epochs=10.0),
        loop=replace(_LOOP, pictures_every=50),
    )


def _finetune(network: Network) -> Finetune:
    return Finetune(
        network=network,
        data=_IN_MEMORY,
        augment=Augmentation(image_size=32, crop="padded"),
        mixing=Mixing(mixup=0.2, cutmix=1.0, smoothing=0.1),
        evaluation=Evaluation(crop_pct=1.0, eval_batch=1000),
        optim=replace(_OPTIM, epochs=100, warmup_epochs=5.0, min_lr=1e-5),
        loop=replace(_LOOP, evaluate_every=5),
    )


def _on_two_cores(recipe: Any) -> Any:
    """Fewer images and epochs, smaller batches in float32, images decoded in the training process."""
    return replace(
        recipe,
        data=replace(recipe.data, limit=10000, workers=0),
        optim=replace(recipe.optim, epochs=5, warmup_epochs=0.5, lr_batch=256),
        loop=replace(recipe.loop, batch=128, precision="float32", save_every=50, pictures_every=5),
    )


# The released configurations of A²MIM's ViTs and of its ResNet-50, with the λ of the paper for both.
_FOURIER = ("fourier=released", "fourier_weight=0.1")
_CNN_TOKEN = ("gamma_init=1e-6", "spatial=focal_l1", "token_lr_scale=0.1", "gamma_lr_scale=0.1", "fourier_visible=1e-3")


def simmim_vit() -> Pretrain:
    return _pretrain(_VIT, "simmim")


def simmim_vit_cpu() -> Pretrain:
    return _on_two_cores(_pretrain(_VIT_CPU, "simmim"))


def simmim_cnn() -> Pretrain:
    """As published for CNNs: pixels are not filled, and leak through the overlapping stem."""
    return _pretrain(_CNN, "simmim")


def simmim_cnn_cpu() -> Pretrain:
    """As published for CNNs: pixels are not filled, and leak through the overlapping stem."""
    return _on_two_cores(_pretrain(_CNN_CPU, "simmim"))


def a2mim_vit() -> Pretrain:
    return _pretrain(_VIT, "a2mim", *_FOURIER)


def a2mim_vit_cpu() -> Pretrain:
    return _on_two_cores(_pretrain(_VIT_CPU, "a2mim", *_FOURIER))


def a2mim_cnn() -> Pretrain:
    return _pretrain(_CNN, "a2mim", *_FOURIER, *_CNN_TOKEN)


def a2mim_cnn_cpu() -> Pretrain:
    return _on_two_cores(_pretrain(_CNN_CPU, "a2mim", *_FOURIER, *_CNN_TOKEN))


def finetune_vit() -> Finetune:
    """With --weights of a pre-training; without, the supervised baseline."""
    return _finetune(_VIT)


def finetune_vit_cpu() -> Finetune:
    """With --weights of a pre-training; without, the supervised baseline."""
    return _on_two_cores(_finetune(_VIT_CPU))


def finetune_cnn() -> Finetune:
    """With --weights of a pre-training; without, the supervised baseline."""
    return _finetune(_CNN)


def finetune_cnn_cpu() -> Finetune:
    """With --weights of a pre-training; without, the supervised baseline."""
    return _on_two_cores(_finetune(_CNN_CPU))


# ------------------------------------------------------------------------------------------- the study

Family = Literal["vit", "cnn"]
TRAINED = {"supervised": "supervised", "simmim": "SimMIM", "a2mim": "A²MIM"}
PROFILED = {"untrained": "untrained"} | TRAINED
GRIDS = (16, 8)
NOT_YET = 3

MEASURE = {
    "gpu": ("--images", "100", "--budget", "1000"),
    "cpu": ("--images", "16", "--budget", "400", "--ratios", "0.05", "0.3", "0.5", "0.7", "0.95"),
}
# What --quick adds: nothing is learned, everything is run.
QUICK_TRAINING = ("--limit", "256", "--batch", "64", "--epochs", "2", "--warmup-epochs", "0.5")
QUICK_MEASURE = ("--images", "2", "--budget", "300", "--ratios", "0.3", "0.5", "0.7")


@dataclass(frozen=True)
class Study:
    """Train and profile every network, method and seed of the CIFAR-10 comparison, as far as the minutes reach.

    Start it again to go on. Writes a folder for each run into --out, and into --results what is worth keeping:
    accuracy.csv, middle_mass.csv, curves/ (J side by side, a figure for each network, grid and seed, and the tables
    behind them), loss/, pictures/, and commands.sh, the `a2mim` commands that all of it came from.
    """

    train: str
    """The training images: a .tar or a folder with ten classes."""
    test: str
    """The test images, which are also those that are profiled."""
    out: Path = Path("runs/cifar10")
    """Folder of all runs."""
    results: Path | None = None
    """Folder of tables and figures; without it, `results` in --out."""
    size: Literal["gpu", "cpu"] = "gpu"
    """gpu: the comparison; cpu: the same path in about an hour on two cores."""
    seeds: tuple[int, ...] = ()
    """One run each; without them 0 1 2, and 0 alone for the CPU size."""
    families: tuple[Family, ...] = ("vit", "cnn")
    """Networks to train."""
    minutes: float = 0.0
    """Stop after this long (0: when all is done). A profile that has begun is brought to its end."""
    quick: bool = False
    """256 images, 2 epochs, 2 profiled images: does it run?"""
    device: str = "auto"
    """cpu, cuda ...; auto takes CUDA where there is one."""

    @property
    def all_seeds(self) -> tuple[int, ...]:
        return self.seeds or ((0,) if self.size == "cpu" else (0, 1, 2))

    @property
    def kept(self) -> Path:
        return self.results or self.out / "results"


@dataclass(frozen=True)
class Step:
    """An `a2mim` command and the folder that it fills."""

    words: tuple[str, ...]
    folder: Path


def steps(study: Study) -> list[Step]:
    """All training runs and profiles, in the order in which they are made, seed by seed."""
    found = []
    for seed in study.all_seeds:
        for family in study.families:
            found += [step for method in TRAINED for step in training(study, family, method, seed)]
            found += [profile(study, family, method, seed, grid) for method in PROFILED for grid in GRIDS]
    return found


def folder_of(study: Study, family: str, method: str, seed: int) -> Path:
    return study.out / f"{family}-{method}-{seed}"


def training(study: Study, family: Family, method: str, seed: int) -> list[Step]:
    """The pre-training, where the method has one, and the fine-tuning."""
    size = "_cpu" if study.size == "cpu" else ""
    folder = folder_of(study, family, method, seed)
    before = folder.with_name(f"{folder.name}-pretrain")
    quick = QUICK_TRAINING if study.quick else ()
    common = ("--data", study.train, "--seed", str(seed), "--device", study.device, *quick)
    tune = ("finetune", "--recipe", f"cifar10:finetune_{family}{size}", "--val", study.test)
    if method == "supervised":
        return [Step((*tune, *common, "--out", str(folder)), folder)]
    first = ("pretrain", "--recipe", f"cifar10:{method}_{family}{size}")
    return [
        Step((*first, *common, "--out", str(before)), before),
        Step((*tune, "--weights", str(before), *common, "--out", str(folder)), folder),
    ]


def profile(study: Study, family: Family, method: str, seed: int, grid: int) -> Step:
    """The interactions of a trained network, or of random weights."""
    run = folder_of(study, family, method, seed)
    weights = "random" if method == "untrained" else str(run / "backbone.safetensors")
    factory = f"experiments.cifar10:{family}" + ("_cpu" if study.size == "cpu" else "")
    what = ("profile", factory, "--weights", weights, "--model-seed", str(seed), "--image-size", "32")
    how = ("--grid", str(grid), *(QUICK_MEASURE if study.quick else MEASURE[study.size]))
    folder = run / f"profile-{grid}"
    return Step((*what, "--data", study.test, *how, "--device", study.device, "--out", str(folder)), folder)


def comparisons(study: Study) -> list[Step]:
    """The curves of one network, grid and seed in one figure, for those whose profiles are all there."""
    found = []
    for seed in study.all_seeds:
        for family in study.families:
            for grid in GRIDS:
                runs = [folder_of(study, family, method, seed) / f"profile-{grid}" for method in PROFILED]
                figure = study.kept / "curves" / f"{family}-{grid}x{grid}-{seed}.png"
                words = ("compare", *map(str, runs), "--names", *PROFILED.values(), "--out", str(figure))
                found += [Step(words, figure)] if all(map(finished, runs)) else []
    return found


def finished(folder: Path) -> bool:
    """Whether a run or a profile is complete."""
    path = folder / "run.json"
    record = json.loads(path.read_text()) if path.exists() else {}
    return bool(record.get("finished")) or record.get("status") == "complete"


def run(study: Study) -> int:
    """Make what is missing; the exit code: 0 when all is there, 3 when time ran out, that of a command that failed."""
    from experiments import cli

    deadline = time.monotonic() + 60 * study.minutes
    write_commands(study)
    for step in steps(study):
        if finished(step.folder):
            continue
        words = list(step.words)
        if study.minutes and words[0] != "profile":
            left = (deadline - time.monotonic()) / 60
            words += ["--minutes", f"{max(left, 1e-4):.4f}"]
        print(f"\na2mim {shlex.join(words)}", flush=True)
        if code := cli.main(words):
            return code
        # Looked at behind the first command, so that however little time there is, something is done.
        if not finished(step.folder) or (study.minutes and time.monotonic() > deadline):
            break
    done = all(finished(step.folder) for step in steps(study))
    for step in comparisons(study):
        if code := cli.main(list(step.words)):
            return code
    collect(study)
    print(f"\nall is finished: see {study.kept}" if done else "\nnot finished: start the same command again")
    return 0 if done else NOT_YET


# ------------------------------------------------------------------------------------------- what is kept


def write_commands(study: Study) -> None:
    """results/commands.sh."""
    from a2mim.runs import write_text

    whole = f"# python -m experiments.cifar10 {shlex.join(sys.argv[1:])}"
    lines = [f"a2mim {shlex.join(step.words)}" for step in steps(study)]
    write_text(study.kept / "commands.sh", "\n".join([whole, *lines]) + "\n")


def collect(study: Study) -> None:
    """Tables over all finished runs, and copies of their figures and summaries."""
    import pandas as pd

    from a2mim.runs import write_text

    accuracies: list[dict[str, Any]] = []
    masses: list[dict[str, Any]] = []
    for seed in study.all_seeds:
        for family in study.families:
            for method in PROFILED:
                folder = folder_of(study, family, method, seed)
                who: dict[str, Any] = {"network": family, "method": method, "seed": seed}
                if finished(folder):
                    accuracies.append(who | accuracy(folder))
                for grid in GRIDS:
                    table = folder / f"profile-{grid}" / "middle_mass.csv"
                    if finished(table.parent):
                        masses += [{**who, "grid": grid, **row} for row in pd.read_csv(table).to_dict("records")]  # type: ignore[dict-item]
    for name, rows in {"accuracy": accuracies, "middle_mass": masses}.items():
        if rows:
            write_text(study.kept / f"{name}.csv", pd.DataFrame(rows).to_csv(index=False))
    if accuracies:
        print(pd.DataFrame(accuracies).to_string(index=False))
    for step in steps(study):
        if finished(step.folder):
            keep_figures(step, study.kept)


def accuracy(folder: Path) -> dict[str, Any]:
    """Of the last epoch, and of the best one (which the test images chose: an upper end, not an estimate)."""
    result = json.loads((folder / "run.json").read_text())
    last = result["last"]
    return {
        "top1": last["top1"],
        "best_top1": result["best"]["top1"],
        "val_loss": last["val_loss"],
        "epochs": result["epochs"],
        "train_images": result["images"],
        "seconds": result["seconds"],
    }


def keep_figures(step: Step, kept: Path) -> None:
    """loss/RUN.png, pictures/RUN.png (the last reconstructions), curves/RUN-profile-GRID.csv."""
    folder = step.folder
    if step.words[0] == "profile":
        copies = {folder / "strength.csv": kept / "curves" / f"{folder.parent.name}-{folder.name}.csv"}
    else:
        copies = {folder / "loss.png": kept / "loss" / f"{folder.name}.png"}
        copies |= {path: kept / "pictures" / f"{folder.name}.png" for path in sorted(folder.glob("pictures/*.png"))}
    for source, place in copies.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)


def main() -> int:
    """The command line of the study."""
    import tyro

    from experiments.cli import sentence

    study = tyro.cli(Study, prog="python -m experiments.cifar10", description=Study.__doc__)
    try:
        return run(study)
    except (ValueError, OSError) as error:
        print(f"experiments.cifar10: {sentence(error)}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
