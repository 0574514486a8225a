"""CIFAR-10: MAE, MaskFeat and SparK on the networks of cifar10.py.

Reproduces the comparison of cifar10.py for further masked-image methods: networks, images, augmentation,
optimizer and budget are those of its SimMIM recipes. What a patch of 16×16 pixels is at 224 px is one of 4×4 here: MAE
masks 75 % of 64 patches, its decoder half as wide (at the CPU size as wide) and a third as deep as the encoder or less;
MaskFeat predicts one histogram a patch, since fewer than 4×4 pixels make none, and masks 40 % in blocks; SparK masks
60 % of 4×4 cells of 8×8 pixels, the stride of its CNN, whose last map its decoder is as wide as (at the CPU size half).

Should reach. After fine-tuning at least 2 points above training from scratch with the same budget, or 3 points of k-NN
accuracy above the untrained network. MAE at the CPU size: 70.2 % fine-tuned, 67.1 % from scratch (three seeds, but
fine-tuned on images that were normalised otherwise than in pre-training). SparK at the CPU size, nine epochs before
and nine of fine-tuning: 80.0 % as from scratch, 40.7 % of nearest neighbours, 35.7 % untrained (three seeds,
experiments/results/cifar10). MaskFeat has not been run with the networks of today; a larger one gained 3.6 points after
fine-tuning, in 10 epochs of 10,000 images.

Costs. MAE's encoder sees a quarter of the tokens, so that its step is cheaper than a supervised one; MaskFeat's costs
what SimMIM's does; SparK adds a decoder and the hiding of masked positions to the dense CNN. `a2mim bench methods`
measures it. At the CPU size, on one of two cores (AMD EPYC), SimMIM's CNN takes 0.26 s a step of 128 images, and
SparK 1.35 s with a decoder 128 wide, 0.59 with 64, 0.38 with 32, which would leave four channels to the finest scale.

Commands (the CPU size with _cpu after the recipe's name; the recipes are mae_vit, maskfeat_vit and spark_cnn):

    a2mim pretrain --recipe cifar10_masked:mae_vit --data cifar10-train.tar --out runs/mae-vit
    a2mim knn --weights runs/mae-vit --data cifar10-train.tar --val cifar10-test.tar --image-size 32 --crop-pct 1 \\
        --out runs/mae-vit/knn.json
    a2mim finetune --recipe cifar10:finetune_vit --weights runs/mae-vit --data cifar10-train.tar \\
        --val cifar10-test.tar --out runs/mae-vit-ft

From scratch: the same `finetune` without --weights.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from experiments.recipes import cifar10, recipes_of

if TYPE_CHECKING:
    from experiments.commands.pretrain import Settings


# Central differences and blocks that are cut, as what is said above was trained with.
_CELLS = ("hog_cell=4", "hog=central", "mask_strategy=blockwise")


def _recipe(method: str, network: str, cell: int, *set: str) -> Settings:
    recipe = recipes_of(cifar10)[f"simmim_{network}"]()
    return replace(recipe, method=method, mask_cell=cell, set=set)


def mae_vit() -> Settings:
    return _recipe("mae", "vit", 4, "decoder_width=96", "decoder_depth=2", "decoder_heads=3")


def mae_vit_cpu() -> Settings:
    return _recipe("mae", "vit_cpu", 4, "decoder_width=64", "decoder_depth=1", "decoder_heads=2")


def maskfeat_vit() -> Settings:
    return _recipe("maskfeat", "vit", 4, *_CELLS)


def maskfeat_vit_cpu() -> Settings:
    return _recipe("maskfeat", "vit_cpu", 4, *_CELLS)


def spark_cnn() -> Settings:
    return _recipe("spark", "cnn", 8, "decoder_width=256")


def spark_cnn_cpu() -> Settings:
    return _recipe("spark", "cnn_cpu", 8, "decoder_width=64")
