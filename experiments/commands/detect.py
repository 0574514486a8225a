"""`a2mim detect`: train torchvision's detectors on a backbone's features, to find boxes and masks of things."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from a2mim.detect.settings import Coco, Detecting, Frames
from a2mim.settings import Loop, Network, Optim
from experiments.options import Start, is_begun, refuse_idle
from experiments.training.filling import usual_of

OPTIM = Optim(epochs=12, lr=1e-4, lr_batch=16, warmup_epochs=0.5, weight_decay=0.05)


@dataclass(frozen=True)
class Settings(Start):
    """Train a detector of boxes and masks on any backbone, and evaluate it as it goes.

    The backbone is a run's, a checkpoint's or timm's. The best state is that of the highest box AP. Writes what `a2mim
    finetune` writes, and detector.safetensors, per_class.csv (AP of each class), detections.json (in COCO's format) and
    predictions.png; run.json holds COCO's AP of boxes and masks in percent, with 95 % intervals over pictures.

    For example:
        a2mim detect --weights runs/a2mim-r50 --data coco --drop-empty --batch 16 --out runs/coco-r50
        a2mim detect --weights runs/a2mim-vit --data coco.tar --detector faster_rcnn --layer-decay 0.7
            --short-side 480 640 800 --out runs/coco-vit
        a2mim detect --resume runs/coco-vit
    """

    network: Network = field(default_factory=Network)
    data: Coco = field(default_factory=Coco)
    frames: Frames = field(default_factory=Frames)
    detecting: Detecting = field(default_factory=Detecting)
    optim: Optim = OPTIM
    loop: Loop = field(default_factory=lambda: Loop(batch=16))

    def check(self) -> None:
        """Raises ValueError for what a detection does not do."""
        if self.loop.pictures_every:
            raise ValueError("--pictures-every draws reconstructions: a detection draws with --predictions")


usual = usual_of("detect")


def run(settings: Settings) -> None:
    """Train, and say what was reached."""
    from experiments.training.running import carry_out

    carry_out(settings, "detect", detect)


def refuse_idle_options(frames: Frames, detecting: Detecting) -> None:
    """Raise ValueError for what was asked for and would not be done."""
    if not frames.crop[0]:
        refuse_idle(frames, "--crop", "scale")
    if detecting.frozen and not detecting.frozen_norms:
        raise ValueError(
            "--no-frozen-norms has no effect beside --frozen, which trains nothing of the backbone: leave one out"
        )


def detect(settings: Settings, world: Any) -> Any:
    """Train in settings.out as one process of `world`; returns the folder and what `train` returned."""
    from a2mim.detect.evaluate import DetectGallery
    from a2mim.detect.method import Detect
    from a2mim.detect.pictures import open_coco
    from a2mim.detect.views import DetectSource
    from a2mim.gallery import normalisation
    from experiments.training.detecting import evaluator
    from experiments.training.running import train_run
    from experiments.training.segmenting import make_backbone

    data, frames, detecting, loop = settings.data, settings.frames, settings.detecting, settings.loop
    if not is_begun(settings):
        refuse_idle_options(frames, detecting)
    masks = detecting.detector == "mask_rcnn"
    images = open_coco(data, masks)
    held_out = open_coco(data, masks, train=False, like=images)
    classes = len(images.classes)
    model, architecture, report = make_backbone(settings.network, frames.largest if frames.pad else 0, loop.seed)
    mean, std = normalisation(model)
    method = Detect(
        model,
        classes,
        detecting.detector,
        detecting.frozen,
        detecting.frozen_norms,
        frames.largest,
        anchors=detecting.anchors,
        regions=detecting.regions,
        width=detecting.width,
        window=detecting.window,
        pad=frames.pad,
        seed=loop.seed,
    )
    gallery = DetectGallery(held_out, max(frames.short_side), frames.long_side, mean, std, data.workers)
    source = DetectSource(images, (), mean, std, classes=classes, workers=data.workers, frames=frames)
    evaluate = evaluator(gallery, Path(settings.out), detecting.predictions, world)
    run_of = (settings, "detect", world, method, source, gallery, architecture, report)
    return train_run(*run_of, evaluate=evaluate, decides="box_ap")
