"""CIFAR-10 recipes: a small ViT and a small CNN, trained from scratch, by SimMIM and by A²MIM.

Reproduces, on images of 32×32 pixels, the comparison behind figures 1 and 5 of the A²MIM paper: what masked-image
pre-training does to accuracy and to the orders of interaction, for a transformer and a CNN. Every pre-trained network
is fine-tuned by the same recipe and budget, and without --weights that very recipe is the supervised baseline.
cifar10_baselines.py and cifar10_masked.py hold the other methods on the same networks.

Should reach. Not answered yet at the GPU size, which has not been run. The CPU size is a small answer: with three times
the epochs below (`--times 3`) and three seeds of the CNN in experiments/results/cifar10, where it reaches 80 % top-1,
and with these epochs and three seeds of the ViT in experiments/results/cifar10-vit (67 %, 68 % after A²MIM, 69 %
after SimMIM or SimCLR).

Costs.

            images  epochs: pre-training  fine-tuning
    gpu     50,000  200                   100
    cpu     50,000  3                     3

On one core of two an epoch of the CPU size takes about a minute for the CNN and two for the ViT. The GPU size has not
been timed.

What was tried for the CPU size, by a bare training loop before the recipe was written, on one thread of an AMD EPYC
core (AVX2): milliseconds an image forward and back, and per cent of the test images after two epochs of all training
images from scratch (batch 128, label smoothing 0.1, a fifth of the steps to warm up, one seed):

    stages   channels  stem  optimizer, rate     ms    CPU seconds  top-1
    (1, 1)   64, 128   32    SGD, 0.2            1.1   115          69.7
    (1, 1)   64, 128   64    SGD, 0.2                  184          71.3
    (1, 1)   64, 128   32    AdamW, 0.004        1.1   114          65.9
    (1, 1)   64, 256   32    SGD, 0.2            1.8   198          69.9
    (2, 2)   64, 128   64    not trained         3.0

Wider is better by less than a third epoch, which costs the same and gives 73.3 % (three seeds). Without
channels last a pass takes a quarter more. A ViT of width 128 takes 6.5 ms an image, of 96 4.0, of 64 2.2.

The ViT, in the same way (two epochs, clipped at 5, compiled; an Intel Xeon core): by timm's Muon 65.0 % at a rate of
0.02, 66.1 % at 0.01 and 65.6 % at 0.005, by AdamW 46.3 % at 0.002. A²MIM's loss after 360 steps, the schedule of three
epochs: 0.189 by Muon at 0.02, 0.246 by AdamW at 0.002. (Muon's rates are those of timm, which scales its steps to the
size of AdamW's; what is no matrix, the position embedding among it, is left to AdamW at the same rate.)

Commands (the CPU size with _cpu behind the recipe's name):

    a2mim pretrain --recipe cifar10:a2mim_vit --data cifar10-train.tar --out runs/a2mim-vit
    a2mim finetune --recipe cifar10:finetune_vit --weights runs/a2mim-vit --data cifar10-train.tar \\
        --val cifar10-test.tar --out runs/a2mim-vit-ft
    a2mim profile experiments.recipes.cifar10:vit --weights runs/a2mim-vit-ft/backbone.safetensors --image-size 32 \\
        --data cifar10-test.tar --grid 8 --out runs/a2mim-vit-ft/profile-8

The whole comparison, every method, figure and table: `a2mim reproduce cifar10`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from a2mim.settings import Augmentation, Data, Evaluation, Loop, Mixing, Network, Optim
from experiments.commands.finetune import Settings as Finetune
from experiments.commands.pretrain import Settings as Pretrain

if TYPE_CHECKING:
    from torch import nn

# ------------------------------------------------------------------------------------------- networks

# Mean over tokens behind the last norm, in pre-training and in fine-tuning alike: then all weights carry over.
_VIT_ARGS = ("img_size=32", "patch_size=4", "class_token=False", "global_pool=avg", "fc_norm=False")
_VIT = Network("vit_tiny_patch16_224", (*_VIT_ARGS, "embed_dim=192", "depth=6", "num_heads=3"))
_VIT_CPU = Network("vit_tiny_patch16_224", (*_VIT_ARGS, "embed_dim=64", "depth=4", "num_heads=2"))
# A pre-activation ResNet of two stages behind a stem of stride 4: maps of 8×8 and 4×4. (timm's ResNet v1 always has
# four stages, the last of which would see 1×1.) The mask token goes into an 8×8 map, a position for each mask cell.
_CNN = Network("resnetv2_18d", ("layers=(3, 3)", "channels=(128, 256)"))
_CNN_CPU = Network("resnetv2_18d", ("layers=(1, 1)", "channels=(64, 128)", "stem_chs=32"))


# Modules whose input the token joins (the output, of the first), in the order of the forward pass.
PLACES = {
    "vit": ("patch_embed", *(f"blocks.{k}" for k in range(1, 6))),
    "vit_cpu": ("patch_embed", *(f"blocks.{k}" for k in range(1, 4))),
    "cnn": ("stem", "stages.0.blocks.1", "stages.0.blocks.2", "stages.1", "stages.1.blocks.1", "stages.1.blocks.2"),
    "cnn_cpu": ("stem", "stages.1"),
}


def network(name: str) -> Network:
    """vit, cnn, and each with _cpu."""
    return {"vit": _VIT, "vit_cpu": _VIT_CPU, "cnn": _CNN, "cnn_cpu": _CNN_CPU}[name]


def vit(num_classes: int = 10) -> nn.Module:
    """The ViT of the GPU size, for `a2mim profile experiments.recipes.cifar10:vit`."""
    return _made(_VIT, num_classes)


def vit_cpu(num_classes: int = 10) -> nn.Module:
    """The ViT of the CPU size."""
    return _made(_VIT_CPU, num_classes)


def cnn(num_classes: int = 10) -> nn.Module:
    """The ResNet of the GPU size."""
    return _made(_CNN, num_classes)


def cnn_cpu(num_classes: int = 10) -> nn.Module:
    """The ResNet of the CPU size."""
    return _made(_CNN_CPU, num_classes)


def _made(network: Network, num_classes: int) -> nn.Module:
    import timm

    from a2mim.plain import pairs

    # Profiles show the whole image, as training and evaluation do.
    whole = {"input_size": (3, 32, 32), "crop_pct": 1.0}
    arguments = pairs(network.model_args)
    return timm.create_model(network.model, num_classes=num_classes, pretrained_cfg_overlay=whole, **arguments)


# ------------------------------------------------------------------------------------------- recipes

_IN_MEMORY = Data(in_memory=True)
_LOOP = Loop(batch=512, precision="bf16", log_every=20, save_every=500)
_OPTIM = Optim(lr=1e-3, lr_batch=512, weight_decay=0.05, clip_grad=5.0)


def _pretrain(network: Network, method: str, *set: str) -> Pretrain:
    """Masked cells of 4×4 pixels: an eighth of the side, where the paper masks a seventh (32 of 224)."""
    return Pretrain(
        method=method,
        set=set,
        mask_cell=4,
        network=network,
        data=_IN_MEMORY,
        augment=Augmentation(image_size=32, scale=(0.67, 1.0)),
        optim=replace(_OPTIM, epochs=200, warmup_epochs=10.0),
        loop=replace(_LOOP, pictures_every=50),
    )


def _finetune(network: Network) -> Finetune:
    return Finetune(
        network=network,
        data=_IN_MEMORY,
        augment=Augmentation(image_size=32, crop="padded"),
        mixing=Mixing(mixup=0.2, cutmix=1.0, smoothing=0.1),
        evaluation=Evaluation(crop_pct=1.0, eval_batch=1000),
        optim=replace(_OPTIM, epochs=100, warmup_epochs=5.0, min_lr=1e-5),
        loop=replace(_LOOP, evaluate_every=5),
    )


# Of the small ViT, which learns several times as much an epoch by it as by AdamW (see above).
MUON = {"optimizer": "muon", "lr": 5e-3, "momentum": 0.95}


def _on_two_cores(recipe: Any) -> Any:
    """Few epochs, small batches in float32, channels last, images decoded in the training process."""
    optim = replace(recipe.optim, epochs=3, warmup_epochs=0.5, lr=2e-3, lr_batch=128)
    return replace(
        recipe,
        data=replace(recipe.data, workers=0),
        optim=replace(optim, **MUON) if recipe.network == _VIT_CPU else optim,
        loop=replace(recipe.loop, batch=128, precision="float32", save_every=100, pictures_every=3, channels_last=True),
    )


def _finetune_on_two_cores(network: Network) -> Finetune:
    """What short trainings need: a high rate that falls to nothing, and no mixing, which takes many epochs to pay."""
    recipe = _on_two_cores(_finetune(network))
    vit = network is _VIT_CPU
    rate = replace(recipe.optim, warmup_epochs=0.6, min_lr=0.0)
    if not vit:
        rate = replace(rate, optimizer="sgd", lr=0.2, weight_decay=5e-4, clip_grad=0.0)
    return replace(
        recipe,
        mixing=Mixing(smoothing=0.1),
        optim=rate,
        loop=replace(recipe.loop, evaluate_every=1, pictures_every=0, channels_last=not vit),
    )


# The released configurations of A²MIM's ViTs and of its ResNet-50 (100 epochs), with the λ of the paper for both.
_FOURIER = ("fourier=released", "fourier_weight=0.1")
_NO_FOURIER = "fourier_weight=0"
_CNN_TOKEN = ("gamma_init=1e-6", "spatial=focal_l1", "token_lr_scale=0.1", "gamma_lr_scale=0.1", "fourier_visible=1e-3")


def simmim_vit() -> Pretrain:
    return _pretrain(_VIT, "simmim")


def simmim_vit_cpu() -> Pretrain:
    return _on_two_cores(_pretrain(_VIT_CPU, "simmim"))


def simmim_cnn() -> Pretrain:
    """As published for CNNs: pixels are not filled, and leak through the overlapping stem."""
    return _pretrain(_CNN, "simmim")


def simmim_cnn_cpu() -> Pretrain:
    """As published for CNNs: pixels are not filled, and leak through the overlapping stem."""
    return _on_two_cores(_pretrain(_CNN_CPU, "simmim"))


def a2mim_vit() -> Pretrain:
    return _pretrain(_VIT, "a2mim", *_FOURIER)


def a2mim_vit_cpu() -> Pretrain:
    return _on_two_cores(_pretrain(_VIT_CPU, "a2mim", *_FOURIER))


def a2mim_cnn() -> Pretrain:
    return _pretrain(_CNN, "a2mim", *_FOURIER, *_CNN_TOKEN)


def a2mim_cnn_cpu() -> Pretrain:
    return _on_two_cores(_pretrain(_CNN_CPU, "a2mim", *_FOURIER, *_CNN_TOKEN))


def spatial_vit() -> Pretrain:
    """A²MIM without its Fourier loss, for the reconstructions of figure 4."""
    return _pretrain(_VIT, "a2mim", _NO_FOURIER)


def spatial_vit_cpu() -> Pretrain:
    """A²MIM without its Fourier loss, for the reconstructions of figure 4."""
    return _on_two_cores(_pretrain(_VIT_CPU, "a2mim", _NO_FOURIER))


def spatial_cnn() -> Pretrain:
    """A²MIM without its Fourier loss, for the reconstructions of figure 4."""
    return _pretrain(_CNN, "a2mim", _NO_FOURIER, *_CNN_TOKEN)


def spatial_cnn_cpu() -> Pretrain:
    """A²MIM without its Fourier loss, for the reconstructions of figure 4."""
    return _on_two_cores(_pretrain(_CNN_CPU, "a2mim", _NO_FOURIER, *_CNN_TOKEN))


def finetune_vit() -> Finetune:
    """With --weights of a pre-training; without, the supervised baseline."""
    return _finetune(_VIT)


def finetune_vit_cpu() -> Finetune:
    """With --weights of a pre-training; without, the supervised baseline."""
    return _finetune_on_two_cores(_VIT_CPU)


def finetune_cnn() -> Finetune:
    """With --weights of a pre-training; without, the supervised baseline."""
    return _finetune(_CNN)


def finetune_cnn_cpu() -> Finetune:
    """With --weights of a pre-training; without, the supervised baseline."""
    return _finetune_on_two_cores(_CNN_CPU)
