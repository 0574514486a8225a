"""`a2mim finetune`: train a whole network with labels, from the weights that some run or file holds."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from a2mim.bounds import Share
from a2mim.settings import Augmentation, Data, Evaluation, Loop, Mixing, Network, Optim
from experiments.options import Start, is_begun
from experiments.training.filling import usual_of

# Fine-tuning as SimMIM and BEiT do it; see experiments/recipes/imagenet/ for each network's own.
AUGMENT = Augmentation(scale=(0.08, 1.0), auto_augment="rand-m9-mstd0.5-inc1", erasing=0.25)
MIXING = Mixing(mixup=0.8, cutmix=1.0, smoothing=0.1)
OPTIM = Optim(lr=2.5e-3, lr_batch=256, warmup_epochs=20.0, min_lr=1e-6, layer_decay=0.65, clip_grad=5.0)


@dataclass(frozen=True)
class Settings(Start):
    """Fine-tune a network on labelled images and evaluate it on the validation images after every epoch.

    Starts from --weights with a fresh classifier, trains all of the network, and writes what `a2mim pretrain` writes;
    run.json holds the accuracy of the last and of the best epoch beside all settings.

    For example:
        a2mim finetune --weights runs/a2mim-vit --data imagenet --out runs/a2mim-vit-ft
        a2mim finetune --recipe imagenet:finetune_resnet50 --weights runs/a2mim-resnet50 --data imagenet --out runs/ft
        a2mim finetune --model resnet18 --weights pretrained --data train.tar --val test.tar --epochs 20 \\
            --warmup-epochs 2 --out runs/r18
        a2mim finetune --resume runs/ft
    """

    loss: Literal["ce", "bce", "bce_sum"] = "ce"
    """ce: cross entropy; bce: one binary cross entropy per class, the mean over classes (RSB); bce_sum: their sum over
    classes, of soft labels as they are (OpenMixup's RSB)."""
    bce_threshold: Share | None = None
    """For bce: soft labels above it count as 1 and the others as 0 (RSB: 0.2)."""
    network: Network = field(default_factory=Network)
    data: Data = field(default_factory=Data)
    augment: Augmentation = AUGMENT
    mixing: Mixing = MIXING
    evaluation: Evaluation = field(default_factory=Evaluation)
    optim: Optim = OPTIM
    loop: Loop = field(default_factory=lambda: Loop(batch=1024))


usual = usual_of("finetune")


def run(settings: Settings) -> None:
    """Fine-tune, and say what was reached."""
    from experiments.training.running import carry_out

    carry_out(settings, "finetune", finetune)


def finetune(settings: Settings, world: Any) -> Any:
    """Fine-tune in settings.out as one process of `world`; returns the folder and what `train` returned."""
    from a2mim.data import open_images
    from a2mim.evaluate.finetune import evaluator
    from a2mim.layouts import refuse_unfit
    from a2mim.methods import Supervised, SupervisedSettings
    from experiments.training.assembly import labelled, make_network, source_of, validation
    from experiments.training.running import train_run

    begun = is_begun(settings)
    if settings.loss != "bce" and settings.bce_threshold is not None and not begun:
        raise ValueError("--bce-threshold has no effect without --loss bce: leave it out, or give both")
    if settings.loop.pictures_every and not begun:
        raise ValueError("--pictures-every draws reconstructions, and a fine-tuning makes none: leave it out")
    data, loop, size = settings.data, settings.loop, settings.augment.image_size
    images = open_images(data, seed=loop.seed)
    images.refuse_among(Path(settings.out))
    classes = labelled(images)
    model, architecture, report = make_network(settings.network, classes, size, loop.seed)
    refuse_unfit(model, size, classes)
    gallery = validation(data, images, model, size, world, settings.evaluation)
    source = source_of(settings, images, (settings.augment,), model, classes, world)
    # Label smoothing belongs to the soft labels that mixing makes.
    loss = SupervisedSettings(loss=settings.loss, label_smoothing=0.0, bce_threshold=settings.bce_threshold)
    run_of = (settings, "finetune", world, Supervised(model, loss), source, gallery, architecture, report)
    return train_run(*run_of, evaluate=evaluator(gallery, world))
