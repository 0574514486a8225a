"""Handwritten digits: the second part of `make demo`, a small ViT trained supervised and by A²MIM, without labels.

Reproduces nothing: it shows the way from training to a curve. Images are scikit-learn's digits, 1,797 of 8×8 pixels,
enlarged to 24×24 (experiments/studies/demo_training.py writes them).

Costs under a minute of one core each. Commands: `make demo`, or

    a2mim pretrain --recipe digits:a2mim --data demo/training/digits --out runs/digits-a2mim
"""

from a2mim.settings import Augmentation, Data, Evaluation, Loop, Network, Optim
from experiments.commands.pretrain import Settings as Pretrain

SIZE = 24
NETWORK = Network(
    "vit_tiny_patch16_224",
    (f"img_size={SIZE}", "patch_size=4", "class_token=False", "global_pool=avg", "embed_dim=96", "depth=4"),
)


def supervised() -> Pretrain:
    return _recipe("supervised", None)


def a2mim() -> Pretrain:
    return _recipe("a2mim", 4)


def _recipe(method: str, mask_cell: int | None) -> Pretrain:
    """The same network, images and epochs for both methods."""
    return Pretrain(
        method=method,
        mask_cell=mask_cell,
        network=NETWORK,
        data=Data(workers=0, in_memory=True),
        augment=Augmentation(image_size=SIZE, flip=0.0),
        evaluation=Evaluation(crop_pct=1.0),
        optim=Optim(epochs=6, lr=1e-3, lr_batch=64, warmup_epochs=1.0, clip_grad=5.0),
        loop=Loop(batch=64, log_every=5, evaluate_every=3, pictures_every=6),
    )
