"""`a2mim linear`: how well a linear classifier does on frozen features."""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from a2mim.bounds import Count, Natural, Peak, Pixels, Rate
from a2mim.settings import Data, Evaluation, Network

Flat = tyro.conf.arg(name="")


@dataclass(frozen=True)
class Settings:
    """Train linear classifiers on frozen features at several learning rates, and report the best.

    Features are what the network hands to its classifier, of centre-cropped images, computed once. The learning rate
    is chosen on a tenth of the training images, never on the validation images. Writes linear.json: accuracy, the
    rate that was chosen, and all settings.

    For example:
        a2mim linear --weights runs/a2mim-vit --data imagenet --out runs/a2mim-vit/linear.json
        a2mim linear --model resnet50 --weights pretrained --data train.tar --val test.tar --epochs 50 --out linear.json
    """

    out: str = ""
    """The file to write (.json)."""
    epochs: Count = 100
    """Passes over the features."""
    batch: Count = 1024
    """Features per step."""
    lrs: tuple[Peak, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    """Learning rates for a batch of 256, scaled linearly."""
    weight_decay: Rate = 0.0
    """Weight decay of the classifiers."""
    seed: Natural = 0
    """Of the order of features and of the tenth held out."""
    image_size: Pixels = 224
    """Side of the images in pixels."""
    model_seed: Natural = 0
    """Of random weights."""
    device: str = "auto"
    """cpu, cuda ...; auto takes CUDA where there is one."""
    network: Annotated[Network, Flat] = field(default_factory=Network)
    data: Annotated[Data, Flat] = field(default_factory=Data)
    evaluation: Annotated[Evaluation, Flat] = field(default_factory=Evaluation)


def run(settings: Settings) -> None:
    """Probe, write, and say what was reached."""
    from a2mim.dist import join
    from a2mim.evaluate.linear import Probe, linear_probe
    from experiments.frozen import both_features, write_result
    from experiments.machine import commit

    probe = Probe(settings.epochs, settings.batch, settings.lrs, settings.weight_decay, settings.seed)
    about = {"commit": commit()}
    with join(settings.device) as world:
        train, test = both_features(settings, world)
        if world.main:
            result = linear_probe(*train.pair, *test.pair, probe, device=world.device)
            write_result(settings, "linear", about | result, train, test)
