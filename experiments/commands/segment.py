"""`a2mim segment`: train a decoder on a backbone's features, or both together, to tell the class of every pixel."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from a2mim.segment.settings import Crops, Decoding, Scenes
from a2mim.settings import Loop, Network, Optim
from experiments.options import Start, is_begun, refuse_idle
from experiments.training.filling import usual_of

OPTIM = Optim(epochs=50, lr=1e-3, lr_batch=16, warmup_epochs=1.0, weight_decay=0.01)


@dataclass(frozen=True)
class Settings(Start):
    """Train a segmentation of pictures on any backbone, frozen or fine-tuned, and evaluate it as it goes.

    The backbone is a run's, a checkpoint's or timm's. The best state is that of the highest mIoU. Writes what `a2mim
    finetune` writes, and decoder.safetensors, per_class.csv (IoU and accuracy of each class) and predictions.png;
    run.json holds mIoU, mean and pixel accuracy in percent with 95 % intervals over pictures.

    For example:
        a2mim segment --weights runs/a2mim-vit --frozen --data camvid.tar --ignore 11 --out runs/camvid-vit
        a2mim segment --model resnet50 --weights pretrained --decoder fpn --data ade20k --first-class 1 --ignore 0
            --class-names ade20k.txt --crop 512 512 --layer-decay 0.8 --out runs/ade-r50
        a2mim segment --resume runs/ade-r50
    """

    network: Network = field(default_factory=Network)
    data: Scenes = field(default_factory=Scenes)
    crops: Crops = field(default_factory=Crops)
    decoding: Decoding = field(default_factory=Decoding)
    optim: Optim = OPTIM
    loop: Loop = field(default_factory=lambda: Loop(batch=16))

    def check(self) -> None:
        """Raises ValueError for what a segmentation does not do."""
        if self.loop.pictures_every:
            raise ValueError("--pictures-every draws reconstructions: a segmentation draws with --predictions")


usual = usual_of("segment")


def run(settings: Settings) -> None:
    """Train, and say what was reached."""
    from experiments.training.running import carry_out

    carry_out(settings, "segment", segment)


def refuse_single_pictures(settings: Settings, processes: int) -> None:
    """Raise ValueError where UPerNet would normalise its pool of a whole map over one picture, which is one number."""
    if settings.decoding.decoder == "upernet" and settings.loop.together(processes) < 2:
        raise ValueError(
            "upernet normalises over the batch, and one picture a step and process is none: use a larger --batch, less "
            "--accumulate or fewer processes"
        )


def segment(settings: Settings, world: Any) -> Any:
    """Train in settings.out as one process of `world`; returns the folder and what `train` returned."""
    refuse_single_pictures(settings, world.size)
    if settings.decoding.evaluate != "slide" and not is_begun(settings):
        refuse_idle(settings.decoding, "--evaluate slide", "overlap")
    from a2mim.gallery import normalisation
    from a2mim.segment.evaluate import SceneGallery, refuse_unfit_whole
    from a2mim.segment.method import Segment
    from a2mim.segment.pairs import open_scenes
    from a2mim.segment.views import SceneSource
    from experiments.training.running import train_run
    from experiments.training.segmenting import evaluator, make_backbone

    data, crops, decoding, loop = settings.data, settings.crops, settings.decoding, settings.loop
    images = open_scenes(data)
    held_out = open_scenes(data, train=False, classes=images.classes)
    classes = len(images.classes)
    model, architecture, report = make_backbone(settings.network, crops.crop, loop.seed)
    mean, std = normalisation(model)
    method = Segment(model, classes, decoding.decoder, decoding.frozen, crops.crop, loop.seed)
    window = crops.crop if decoding.evaluate == "slide" else None
    gallery = SceneGallery(held_out, crops.side, mean, std, window, decoding.overlap, data.workers)
    refuse_unfit_whole(method, gallery)
    source = SceneSource(images, (), mean, std, classes=classes, workers=data.workers, crops=crops)
    evaluate = evaluator(gallery, images.classes, Path(settings.out), decoding.predictions, world)
    run_of = (settings, "segment", world, method, source, gallery, architecture, report)
    return train_run(*run_of, evaluate=evaluate, decides="miou")
