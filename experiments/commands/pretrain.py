"""`a2mim pretrain`: train a backbone by any method, from scratch or from weights."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from a2mim.bounds import Count, Share, option
from a2mim.settings import Augmentation, Data, Evaluation, Loop, Mixing, Network, Optim
from experiments.options import Start
from experiments.training.filling import usual_of


@dataclass(frozen=True)
class Settings(Start):
    """Train a backbone by a method: masked images, contrast, or supervised from scratch.

    Writes into one folder run.json (settings, versions, result), log.jsonl, state/ to go on from, pictures/ of
    reconstructions, loss.png, and in the end backbone.safetensors, which timm.create_model(..., checkpoint_path=...)
    and every --weights read. Interrupt it at any time: the same command, or --resume with the folder alone, goes on.
    torchrun shares the batch between processes:

        torchrun --nproc-per-node 8 --no-python a2mim pretrain ...

    For example:
        a2mim pretrain --model resnet50 --data imagenet/train --out runs/a2mim-resnet50
        a2mim pretrain --recipe imagenet:a2mim_resnet50 --data imagenet/train --out runs/a2mim-resnet50
        a2mim pretrain --method simmim --model vit_small_patch16_224 --data photos --mask-ratio 0.5 --out runs/simmim
        a2mim pretrain --method byol --model resnet50 --data photos --optimizer lars --lr 0.3 \\
            --lr-batch 256 --weight-decay 1e-6 --out runs/byol
        a2mim pretrain --method supervised --model resnet18 --data imagenet --set loss=bce --out runs/supervised
        a2mim pretrain --resume runs/a2mim-resnet50
    """

    method: str = "a2mim"
    """a2mim, simmim, mae, maskfeat, spark (masked images), simclr, byol, mocov3, dino (contrast) or supervised; or your
    own, module:Class, which is run."""
    set: tuple[str, ...] = ()
    """Settings of the method, name=value, such as fourier_weight=0.5 gamma_init=1e-6; a recipe's others stay."""
    mask_at: str = ""
    """Where the mask token goes: a number (a bad one lists them), a module's name, or default."""
    mask_ratio: Share | None = None
    """Part of the image that is masked."""
    mask_cell: Count | None = None
    """Side of a mask cell in pixels."""
    network: Network = field(default_factory=Network)
    data: Data = field(default_factory=Data)
    augment: Augmentation = field(default_factory=Augmentation)
    """Methods that compare several views make them as their papers do, where nothing else is given here; run.json says
    how (`views`)."""
    mixing: Mixing = field(default_factory=Mixing)
    evaluation: Evaluation = field(default_factory=Evaluation)
    optim: Optim = field(default_factory=Optim)
    loop: Loop = field(default_factory=lambda: Loop(pictures_every=10))


usual = usual_of("pretrain")


def run(settings: Settings) -> None:
    """Train, and say what was reached."""
    from experiments.training.running import carry_out

    carry_out(settings, "pretrain", pretrain)


def pretrain(settings: Settings, world: Any) -> Any:
    """Train in settings.out as one process of `world`; returns the folder and what `train` returned."""
    from a2mim.data import open_images
    from a2mim.evaluate.finetune import evaluator
    from a2mim.layouts import refuse_unfit
    from a2mim.plain import to_plain
    from a2mim.runs import known_run
    from experiments.training.assembly import (
        labelled,
        make_method,
        make_network,
        settings_of,
        source_of,
        validation,
        with_overwritten,
    )
    from experiments.training.running import draw_pictures, train_run

    folder = Path(settings.out)
    run = known_run(folder)
    supervised = settings.method == "supervised"
    if run is None and not supervised:
        refuse_evaluation(settings)
    data, loop, size = settings.data, settings.loop, settings.augment.image_size
    images = open_images(data, seed=loop.seed)
    images.refuse_among(folder)
    classes = labelled(images) if supervised else 0
    model, architecture, report = make_network(settings.network, classes, size, loop.seed)
    refuse_unfit(model, size, classes)
    if run is None:
        refuse_said_twice(settings)
    wanted = method_settings(settings)
    loaded = {name: x.clone() for name, x in model.state_dict().items()} if report else {}
    method = make_method(settings.method, model, wanted, size, loop.seed, run)
    report = report and with_overwritten(report, loaded, model, settings.method)
    first = {"method_settings": to_plain(settings_of(settings.method, wanted, size))}
    gallery = validation(data, images, model, size, world, settings.evaluation) if supervised else None
    source = source_of(settings, images, method.views(settings.augment), model, classes, world)
    evaluate = evaluator(gallery, world) if gallery else None
    run_of = (settings, "pretrain", world, method, source, gallery, architecture, report)
    return train_run(*run_of, first=first, evaluate=evaluate, pictures=draw_pictures)


def refuse_said_twice(settings: Settings) -> None:
    """Raise ValueError where --set and a masking flag, which may be the recipe's, say two things."""
    from a2mim.plain import pairs

    wanted = method_settings(settings)
    for name, value in pairs(settings.set).items():
        if value != wanted[name]:
            raise ValueError(
                f"--set {name}={value} and {option(name)} {wanted[name]} (typed, or the recipe's) say two things: give "
                f"{option(name)} {value} alone"
            )


def refuse_evaluation(settings: Settings) -> None:
    """Raise ValueError for images to evaluate on, which only supervised training does."""
    data = settings.data
    if data.val or data.val_split != Data.val_split or settings.evaluation.eval_size:
        raise ValueError(
            f"{settings.method} is not evaluated while it trains: leave out --val, --val-split and --eval-size, and "
            "give them to finetune, linear or knn"
        )


def method_settings(settings: Settings) -> dict[str, Any]:
    """--set, and the masking flags that were given."""
    from a2mim.plain import pairs

    flags = {"mask_at": settings.mask_at or None, "mask_ratio": settings.mask_ratio, "mask_cell": settings.mask_cell}
    given = {name: value for name, value in flags.items() if value is not None}
    if str(given.get("mask_at", "")).isdigit():
        given["mask_at"] = int(given["mask_at"])
    return {**pairs(settings.set), **given}
