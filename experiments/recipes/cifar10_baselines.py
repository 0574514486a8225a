"""CIFAR-10: SimCLR, BYOL, MoCo v3 and DINO on the networks of cifar10.py.

Reproduces the comparison of cifar10.py for contrastive methods: the networks, the images and the budget
(200 epochs, batch 512) are its own. Views are the papers', without blur, as SimCLR's CIFAR-10 configuration has it; the
heads are narrower, DINO has 4,096 prototypes, and its local crops are of 16 px. The CPU size has an epoch, batches of
128, BYOL's own heads, and DINO with 1,024 prototypes and no local crops.

Should reach. k-NN accuracy at least 10 points above that of the untrained network. The CPU size gives an epoch, about
as much time as three of a masked-image method; three of them, and fine-tuning, in experiments/results/cifar10 (80.5 %,
80.0 % without). With three times the time and a larger CNN, on 10,000 images, SimCLR gained 12.2 points, MoCo v3 10.9,
DINO 5.3 and BYOL 1.2. The GPU size has not been run. (SimCLR's own ResNet-18, without the stride of 4 in the stem,
reaches 91 % in 1,000 epochs.)

Costs. Two views, and a second forward pass of each where there is a momentum copy: 2 to 2.7 times the forward and
backward pass of a masked-image method on the same network; 3 for DINO with its 2 + 4 crops. Images are decoded and
augmented by --workers processes (at the CPU size by the training process), since colours are not changed in memory.

Commands (the same with byol, mocov3 and dino, and with cnn; without _cpu for the GPU size):

    a2mim pretrain --recipe cifar10_baselines:simclr_vit_cpu --data cifar10-train.tar --out runs/simclr-vit
    a2mim knn --weights runs/simclr-vit --data cifar10-train.tar --val cifar10-test.tar --limit 20000 --image-size 32 \\
        --crop-pct 1 --out runs/simclr-vit/knn.json
    a2mim finetune --recipe cifar10:finetune_vit_cpu --weights runs/simclr-vit --data cifar10-train.tar \\
        --val cifar10-test.tar --out runs/simclr-vit-ft

The untrained network, to compare with: a2mim knn with --model and --model-args of the network instead of --weights.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from experiments.recipes import cifar10, recipes_of

if TYPE_CHECKING:
    from experiments.commands.pretrain import Settings

_HEADS = ("hidden=512", "embedding=128", "blur=(0, 0)")
_SETTINGS: dict[str, tuple[str, ...]] = {
    "simclr": ("temperature=0.5", "strength=0.5", "blur=0", "hidden=512"),
    "byol": ("momentum=0.99", *_HEADS),
    "mocov3": ("momentum=0.99", "temperature=0.2", *_HEADS),
    "dino": (
        "momentum=0.99",
        "local_crops=4",
        "local_size=16",
        "prototypes=4096",
        "hidden=512",
        "bottleneck=128",
        "freeze_prototypes=0.02",
        "blur=(0, 0, 0)",
    ),
}
_SCALES = {"simclr": (0.08, 1.0), "byol": (0.2, 1.0), "mocov3": (0.2, 1.0), "dino": (0.4, 1.0)}
# Milder for the few epochs of the CPU size, in which little is learned from a twelfth of 32×32 pixels.
_CPU_SCALES = _SCALES | {"simclr": (0.2, 1.0), "dino": (0.2, 1.0)}
# What a few hundred steps need in another way: momentum copies that keep up, colder softmaxes, for BYOL the paper's
# wide heads, for DINO batch norm in the head. Points of k-NN accuracy above an untrained network larger than today's,
# on 10,000 images, in 7 to 9 epochs:
# SimCLR at 0.5 and half the rate 7, so 12; MoCo v3 at momentum 0.99 (7 epochs) 8.3, at 0.9 (9 epochs) 9.7, so 10.9;
# BYOL at 0.99 with narrow heads (7 epochs) -3.3, so 1.2; DINO without batch norm 2.3, so 5.3.
_CPU_SETTINGS: dict[str, tuple[str, ...]] = {
    "simclr": ("temperature=0.2", "strength=0.5", "blur=0", "hidden=512"),
    "byol": ("momentum=0.95", "blur=(0, 0)"),
    "mocov3": ("momentum=0.9", "temperature=0.1", *_HEADS),
    "dino": (
        "momentum=0.99",
        "local_crops=0",
        "batch_norm=True",
        "prototypes=1024",
        "hidden=1024",
        "teacher_temperature=0.04",
        "freeze_prototypes=0.02",
        "blur=(0, 0, 0)",
    ),
}
# Of AdamW. SimCLR's ViT is trained as those of cifar10.py are, by Muon.
_CPU_RATES = {"simclr": 2e-3, "byol": 1e-3, "mocov3": 2e-3, "dino": 1e-3}
# Two views an image, whose colours are changed one by one: an epoch takes as long as three of a masked-image method.
_CPU_EPOCHS = 1


def _recipe(method: str, network: str) -> Settings:
    from a2mim.settings import Augmentation, Data, Loop

    base = recipes_of(cifar10)[f"simmim_{network}"]()
    sizes = ("dynamic_img_size=True",) if method == "dino" and network.startswith("vit") else ()
    cpu = network.endswith("_cpu")
    recipe = replace(
        base,
        method=method,
        set=_SETTINGS[method],
        mask_cell=None,
        mask_ratio=None,
        mask_at="",
        network=replace(base.network, model_args=(*base.network.model_args, *sizes)),
        data=Data(limit=base.data.limit, workers=0 if cpu else 12),
        augment=Augmentation(image_size=32, scale=_SCALES[method]),
        optim=replace(base.optim, clip_grad=3.0),
        loop=Loop(batch=512, precision="bf16", log_every=20, save_every=500),
    )
    if not cpu:
        return recipe
    # Small batches and large steps, since what a short run lacks most is steps.
    cnn = network == "cnn_cpu"
    optim = replace(recipe.optim, epochs=_CPU_EPOCHS)
    if cnn or method != "simclr":  # the others were tried with AdamW alone
        optim = replace(optim, optimizer="adamw", lr=_CPU_RATES[method], momentum=0.9)
    return replace(
        recipe,
        set=_CPU_SETTINGS[method],
        augment=replace(recipe.augment, scale=_CPU_SCALES[method]),
        optim=optim,
        loop=replace(recipe.loop, batch=128, precision="float32", save_every=100, channels_last=cnn),
    )


def simclr_vit() -> Settings:
    return _recipe("simclr", "vit")


def simclr_vit_cpu() -> Settings:
    return _recipe("simclr", "vit_cpu")


def simclr_cnn() -> Settings:
    return _recipe("simclr", "cnn")


def simclr_cnn_cpu() -> Settings:
    return _recipe("simclr", "cnn_cpu")


def byol_vit() -> Settings:
    return _recipe("byol", "vit")


def byol_vit_cpu() -> Settings:
    return _recipe("byol", "vit_cpu")


def byol_cnn() -> Settings:
    return _recipe("byol", "cnn")


def byol_cnn_cpu() -> Settings:
    return _recipe("byol", "cnn_cpu")


def mocov3_vit() -> Settings:
    return _recipe("mocov3", "vit")


def mocov3_vit_cpu() -> Settings:
    return _recipe("mocov3", "vit_cpu")


def mocov3_cnn() -> Settings:
    return _recipe("mocov3", "cnn")


def mocov3_cnn_cpu() -> Settings:
    return _recipe("mocov3", "cnn_cpu")


def dino_vit() -> Settings:
    return _recipe("dino", "vit")


def dino_vit_cpu() -> Settings:
    return _recipe("dino", "vit_cpu")


def dino_cnn() -> Settings:
    return _recipe("dino", "cnn")


def dino_cnn_cpu() -> Settings:
    return _recipe("dino", "cnn_cpu")
