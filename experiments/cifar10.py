"""CIFAR-10: a small ViT and a small CNN, untrained, supervised, SimMIM and A²MIM, compared by accuracy and by profile.

Reproduces, on images of 32×32 pixels, the comparison behind figures 1 and 5 of the A²MIM paper: what masked-image
pre-training does to accuracy and to the orders of interaction, for a transformer and a CNN. Every pre-trained model is
fine-tuned by the same recipe and budget, and `supervised` is that very recipe from random weights. Untrained weights
are profiled only.

Should reach. Not answered yet: the GPU size has not been run. (The CPU size proves the path, not the claim.)

Costs. GPU size, per seed and network: 300 epochs of supervised training or fine-tuning and 400 of pre-training; with 3
seeds and 2 networks 4,200 epochs of 50,000 small images. CPU size: one seed, 2 + 1 + 1 epochs a network on 20,000
images; about two hours on two cores.

Commands. Each stops after the minutes it is given, saves, and goes on when it is started again, until it says that all
runs are finished (exit code 0; 3 before that):

    python -m experiments.cifar10 --train cifar10-train.tar --test cifar10-test.tar --out runs/cifar10 --minutes 9
    python -m experiments.cifar10 --size cpu --train cifar10-train.tar --test cifar10-test.tar --out runs/cifar10-cpu

One run alone, and one profile:

    a2mim pretrain --recipe cifar10:a2mim_vit --data cifar10-train.tar --out runs/a2mim-vit
    a2mim finetune --recipe cifar10:finetune_vit --weights runs/a2mim-vit --data cifar10-train.tar \\
        --val cifar10-test.tar --out runs/a2mim-vit-ft
    a2mim profile experiments.cifar10:vit --weights runs/a2mim-vit-ft/backbone.safetensors --image-size 32 \\
        --data cifar10-test.tar --grid 16 --out runs/a2mim-vit-ft/profile
"""

from __future__ import annotations

import json
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

Family = Literal["vit", "cnn"]
METHODS = ("supervised", "simmim", "a2mim")
NOT_YET = 3

# ------------------------------------------------------------------------------------------- networks

# Mean over tokens behind the last norm, in pre-training and in fine-tuning alike: then all weights carry over.
_VIT = ("img_size=32", "patch_size=4", "class_token=False", "global_pool=avg", "fc_norm=False")
# A ResNet of two stages behind timm's stem of stride 4: maps of 8×8 and 4×4.
_NETWORKS: dict[tuple[Family, str], Network] = {
    ("vit", "gpu"): Network("vit_tiny_patch16_224", (*_VIT, "embed_dim=192", "depth=6", "num_heads=3")),
    ("vit", "cpu"): Network("vit_tiny_patch16_224", (*_VIT, "embed_dim=128", "depth=4", "num_heads=4")),
    ("cnn", "gpu"): Network("resnet18", ("layers=(3, 3)", "channels=(128, 256)")),
    ("cnn", "cpu"): Network("resnet18", ("layers=(2, 2)", "channels=(64, 128)")),
}


def vit(num_classes: int = 10, size: str = "gpu") -> nn.Module:
    """The small ViT, for --model experiments.cifar10:vit."""
    return _built("vit", size, num_classes)


def cnn(num_classes: int = 10, size: str = "gpu") -> nn.Module:
    """The small ResNet."""
    return _built("cnn", size, num_classes)


def vit_cpu(num_classes: int = 10) -> nn.Module:
    """The ViT of the CPU size."""
    return _built("vit", "cpu", num_classes)


def cnn_cpu(num_classes: int = 10) -> nn.Module:
    """The ResNet of the CPU size."""
    return _built("cnn", "cpu", num_classes)


def _built(family: Family, size: str, num_classes: int) -> nn.Module:
    import timm

    from experiments.training import pairs

    network = _NETWORKS[family, size]
    return timm.create_model(network.model, num_classes=num_classes, **pairs(network.model_args))


# ------------------------------------------------------------------------------------------- recipes

_IN_MEMORY = Data(in_memory=True)
_VIEW = Augmentation(image_size=32)
_LOOP = Loop(batch=512, precision="bf16", log_every=20)


def pretraining(method: str, family: Family, size: str = "gpu", seed: int = 0) -> Pretrain:
    """Masked cells of 4×4 pixels: an eighth of the side, where the paper masks a seventh (32 of 224)."""
    fourier = ("fourier=released", "fourier_weight=0.1") if method == "a2mim" else ()
    cnn = ("gamma_init=1e-6", "spatial=focal_l1") if (method, family) == ("a2mim", "cnn") else ()
    settings = Pretrain(
        method=method,
        set=(*fourier, *cnn),
        mask_cell=4,
        network=_NETWORKS[family, size],
        data=_IN_MEMORY,
        augment=replace(_VIEW, scale=(0.67, 1.0)),
        optim=Optim(epochs=200, lr=1e-3, lr_batch=512, weight_decay=0.05, warmup_epochs=10.0, clip_grad=5.0),
        loop=replace(_LOOP, seed=seed, pictures_every=50, evaluate_every=10, save_every=500),
    )
    return _for_cpu(settings, epochs=2) if size == "cpu" else settings


def finetuning(family: Family, size: str = "gpu", seed: int = 0) -> Finetune:
    """The recipe of every fine-tuning, and of supervised training, which begins with random weights."""
    settings = Finetune(
        network=_NETWORKS[family, size],
        data=_IN_MEMORY,
        augment=replace(_VIEW, crop="padded"),
        mixing=Mixing(mixup=0.2, cutmix=1.0, smoothing=0.1),
        evaluation=Evaluation(crop_pct=1.0, eval_batch=1000),
        optim=Optim(
            epochs=100, lr=1e-3, lr_batch=512, weight_decay=0.05, warmup_epochs=5.0, min_lr=1e-5, clip_grad=5.0
        ),
        loop=replace(_LOOP, seed=seed, evaluate_every=5, save_every=500),
    )
    return _for_cpu(settings, epochs=1) if size == "cpu" else settings


def _for_cpu(settings: Any, epochs: int) -> Any:
    """What two cores can do: fewer images, fewer epochs, smaller batches in float32."""
    return replace(
        settings,
        data=replace(settings.data, limit=20000, workers=0),
        optim=replace(settings.optim, epochs=epochs, warmup_epochs=0.2),
        loop=replace(settings.loop, batch=128, precision="float32", save_every=50, evaluate_every=1, pictures_every=1),
    )


def simmim_vit() -> Pretrain:
    return pretraining("simmim", "vit")


def simmim_cnn() -> Pretrain:
    return pretraining("simmim", "cnn")


def a2mim_vit() -> Pretrain:
    return pretraining("a2mim", "vit")


def a2mim_cnn() -> Pretrain:
    return pretraining("a2mim", "cnn")


def finetune_vit() -> Finetune:
    return finetuning("vit")


def finetune_cnn() -> Finetune:
    return finetuning("cnn")


def supervised_vit() -> Finetune:
    """Fine-tuning from random weights."""
    return finetuning("vit")


def supervised_cnn() -> Finetune:
    """Fine-tuning from random weights."""
    return finetuning("cnn")


# ------------------------------------------------------------------------------------------- the whole comparison


@dataclass(frozen=True)
class Study:
    """Train every network, method and seed of the CIFAR-10 comparison, as far as the minutes reach.

    Start it again to go on. Writes a folder for each run, accuracy.csv (a row per run) and profiles.sh (the commands
    that measure the interactions of what was trained).
    """

    train: str
    """The training images: a .tar or a folder."""
    test: str
    """The test images."""
    out: Path = Path("runs/cifar10")
    """Folder of all runs."""
    size: Literal["gpu", "cpu"] = "gpu"
    """gpu: the comparison; cpu: the same path in about two hours on two cores."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run each; the CPU size takes the first only."""
    families: tuple[Family, ...] = ("vit", "cnn")
    """Networks to train."""
    minutes: float = 0.0
    """Stop after this long (0: when all is done)."""
    limit: int = 0
    """Use fewer training images (0: what the size says): for trying the path out."""
    device: str = "auto"
    """cpu, cuda ...; auto takes CUDA where there is one."""


def stages(study: Study) -> list[tuple[str, str, Family, int, Path]]:
    """(stage, method, family, seed, folder) of every run, in the order in which they are made, seed by seed."""
    seeds = study.seeds[:1] if study.size == "cpu" else study.seeds
    found: list[tuple[str, str, Family, int, Path]] = []
    for seed in seeds:
        for family in study.families:
            for method in METHODS:
                if method != "supervised":
                    found.append(("pretrain", method, family, seed, study.out / f"{family}-{method}-pretrain-{seed}"))
                found.append(("finetune", method, family, seed, study.out / f"{family}-{method}-{seed}"))
    return found


def settings_of(study: Study, stage: str, method: str, family: Family, seed: int, folder: Path) -> Any:
    """The settings of one run, its weights those of the pre-training that goes before it."""
    if stage == "pretrain":
        settings: Any = pretraining(method, family, study.size, seed)
    else:
        settings = finetuning(family, study.size, seed)
        weights = "random" if method == "supervised" else str(study.out / f"{family}-{method}-pretrain-{seed}")
        settings = replace(settings, network=replace(settings.network, weights=weights))
    data = replace(settings.data, data=study.train, val=study.test)
    if study.limit:
        data = replace(data, limit=study.limit)
    return replace(settings, data=data, out=str(folder))


def run(study: Study) -> int:
    """Make what is missing; 0 when all is there, 3 when time ran out before."""
    from a2mim.dist import join
    from experiments.commands.finetune import finetune
    from experiments.commands.pretrain import pretrain

    deadline = time.monotonic() + 60 * study.minutes
    done = True
    with join(study.device) as world:
        for stage, method, family, seed, folder in stages(study):
            if finished(folder):
                continue
            left = (deadline - time.monotonic()) / 60
            if study.minutes and left < 0.2:
                done = False
                break
            print(f"{stage} {method} {family}, seed {seed}", flush=True)
            settings = settings_of(study, stage, method, family, seed, folder)
            settings = replace(settings, loop=replace(settings.loop, minutes=left if study.minutes else 0.0))
            _, result = (pretrain if stage == "pretrain" else finetune)(settings, world)
            if not result["finished"]:
                done = False
                break
        if world.main:
            write_tables(study)
    print("all runs are finished" if done else "not finished: start the same command again")
    return 0 if done else NOT_YET


def finished(folder: Path) -> bool:
    path = folder / "run.json"
    return path.exists() and json.loads(path.read_text())["finished"]


def write_tables(study: Study) -> None:
    """accuracy.csv of the finished runs, and profiles.sh."""
    import pandas as pd

    from a2mim.runs import write_text

    rows, commands = [], []
    suffix = "_cpu" if study.size == "cpu" else ""
    for stage, method, family, seed, folder in stages(study):
        if stage == "pretrain" or not finished(folder):
            continue
        result = json.loads((folder / "run.json").read_text())
        rows.append(
            {
                "network": family,
                "method": method,
                "seed": seed,
                "top1": result["last"]["top1"],
                "best_top1": result["best"]["top1"],
                "val_loss": result["last"]["val_loss"],
                "seconds": result["seconds"],
            }
        )
        weights = folder / "backbone.safetensors"
        commands += [
            _profile(f"{family}{suffix}", str(weights), folder / f"profile-{g}", study.test, g) for g in (16, 8)
        ]
    for family in study.families:
        place = study.out / f"{family}-untrained"
        commands += [_profile(f"{family}{suffix}", "random", place / f"profile-{g}", study.test, g) for g in (16, 8)]
    write_text(study.out / "profiles.sh", "\n".join(commands) + "\n")
    if rows:
        write_text(study.out / "accuracy.csv", pd.DataFrame(rows).to_csv(index=False))
        print(pd.DataFrame(rows).to_string(index=False))


def _profile(factory: str, weights: str, out: Path, test: str, grid: int) -> str:
    return (
        f"a2mim profile experiments.cifar10:{factory} --weights {weights} --num-classes 10 --image-size 32 "
        f"--data {test} --grid {grid} --out {out}"
    )


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
