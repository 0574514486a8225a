"""The methods that the studies compare: what each is called, whose recipes train it, and what it costs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """A way to train: its name in figures, the module with its recipes, the networks that it is for, and what one of
    its epochs costs beside a supervised one."""

    label: str
    recipes: str = "cifar10"
    families: tuple[str, ...] = ("vit", "cnn")
    cost: float = 1.0
    pretrains: bool = True
    tuned: bool = True
    """Fine-tuned and measured; else only pre-trained, for its reconstructions."""
    contrastive: bool = False


# What the headline question needs comes first.
METHODS = {
    "supervised": Method("supervised", pretrains=False),
    "a2mim": Method("A²MIM"),
    "simmim": Method("SimMIM"),
    "mae": Method("MAE", "cifar10_masked", ("vit",), 0.6),
    "spark": Method("SparK", "cifar10_masked", ("cnn",), 4.0),
    "maskfeat": Method("MaskFeat", "cifar10_masked", ("vit",)),
    "simclr": Method("SimCLR", "cifar10_baselines", cost=2.2, contrastive=True),
    "mocov3": Method("MoCo v3", "cifar10_baselines", cost=2.8, contrastive=True),
    "byol": Method("BYOL", "cifar10_baselines", cost=2.8, contrastive=True),
    "dino": Method("DINO", "cifar10_baselines", cost=3.2, contrastive=True),
    "spatial": Method("A²MIM without Fourier loss", tuned=False),
}
UNTRAINED = "untrained"
NAMES = {UNTRAINED: "untrained"} | {name: method.label for name, method in METHODS.items()}
LABELS = {name: label for name, label in NAMES.items() if name == UNTRAINED or METHODS[name].tuned}
"""Of the methods that are measured."""
KINDS = {
    LABELS[name]: "contrastive pre-training" if METHODS[name].contrastive else "masked-image pre-training"
    for name in LABELS
    if name in METHODS and METHODS[name].pretrains
}
COMPARED = tuple(label for label in LABELS.values() if label not in KINDS)
"""What the pre-trained networks are compared with."""
