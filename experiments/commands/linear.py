"""`a2mim linear`: how well a linear classifier, or an attentive one, does on frozen features."""

from dataclasses import dataclass, field
from typing import Literal

from a2mim.bounds import Count, Natural, Peak, Rate
from a2mim.settings import Area, Data, Evaluation, Network
from experiments.options import Features, refuse_idle


@dataclass(frozen=True)
class Settings(Features):
    """Train linear or attentive classifiers on frozen features at several learning rates, and report the best.

    Features are what the network hands to its classifier, of centre-cropped images, computed once. The learning rate
    is chosen on a tenth of the training images, never on the validation images; where one is given, nothing is held
    out. With --head attentive a cross-attention with learned queries pools the tokens, or the places of a map, before
    its linear classifier, and is shown beside the linear one. With --labels or --per-class the classifiers see few
    labelled images, drawn anew for each of --seeds. Writes linear.json: accuracy, the rate that was chosen, a table
    with a row for each head and seed, all settings, what was loaded and assumed of the weights, and how images are
    shown.

    For example:
        a2mim linear --weights runs/a2mim-vit --data imagenet --out runs/a2mim-vit/linear.json
        a2mim linear --weights runs/a2mim-vit --data imagenet --head attentive --labels 0.1 --out attentive.json
        a2mim linear --weights runs/a2mim-vit --data imagenet --per-class 5 --seeds 3 --out five-shot.json
        a2mim linear --model resnet50 --weights pretrained --data train.tar --val test.tar --epochs 50 --out linear.json
    """

    head: Literal["linear", "attentive"] = "linear"
    """linear: a linear classifier on pooled features; attentive: a cross-attention that learns to pool the tokens, and
    the linear one beside it."""
    queries: Count = 1
    """Learned queries of the attentive head, whose answers are averaged."""
    heads: Count = 8
    """Heads of its attention; they must divide the number of channels."""
    labels: Area = 1.0
    """Share of each class's training images that the classifiers see, such as 0.01."""
    per_class: Natural = 0
    """Training images of each class that they see instead (0: the share)."""
    seeds: Count = 1
    """So many times are images drawn and classifiers trained: with `seed`, `seed` + 1, …; the mean is reported."""
    epochs: Count = 100
    """Passes over the features."""
    batch: Count = 1024
    """Features per step."""
    lrs: tuple[Peak, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    """Learning rates of linear classifiers (SGD) for a batch of 256, scaled linearly."""
    attentive_lrs: tuple[Peak, ...] = (3e-5, 1e-4, 3e-4, 1e-3)
    """Learning rates of attentive ones (AdamW), in the same way."""
    weight_decay: Rate = 0.0
    """Weight decay of the classifiers."""
    seed: Natural = 0
    """Of the images that are drawn, the order of features, the tenth held out, and the attention's first weights."""
    network: Network = field(default_factory=Network)
    data: Data = field(default_factory=Data)
    evaluation: Evaluation = field(default_factory=Evaluation)

    def check(self) -> None:
        """Raises ValueError for two answers to one question, for rates that nothing can choose among, and for settings
        of a head that is not trained."""
        if self.per_class and self.labels != 1:
            raise ValueError("--labels and --per-class both say how many labelled images are seen: give one of them")
        if self.head != "attentive":
            refuse_idle(self, "--head attentive", "queries", "heads", "attentive_lrs")
        rates = {"--lrs": self.lrs} | ({"--attentive-lrs": self.attentive_lrs} if self.head == "attentive" else {})
        for name, each in rates.items():
            if not each:
                raise ValueError(f"{name} names no learning rate: give one at least")
            if self.per_class == 1 and len(each) > 1:
                raise ValueError(
                    f"with one image of each class there is none to choose a learning rate by: give one with {name}"
                )


def run(settings: Settings) -> None:
    """Probe, write, and say what was reached."""
    from a2mim.dist import join
    from experiments.machine import commit
    from experiments.training.frozen import Few, both_features, sized
    from experiments.training.probing import conclude, probe_all

    settings = sized(settings)
    about = {"commit": commit()}
    seeds = range(settings.seed, settings.seed + settings.seeds)
    few = Few(settings.labels, settings.per_class, seeds)
    with join(settings.device) as world:
        trains, test, made = both_features(settings, world, few=few, tokens=settings.head == "attentive")
        if world.main:
            rows = probe_all(settings, seeds, trains, test, world.device)
            conclude(settings, about | made, rows, trains[0], test)
