"""A²MIM and SimMIM, as configured in OpenMixup and A2MIM (configs/selfsup, configs/openmixup/pretrain).

The released Fourier loss averages spectra over the images that a device sees together before it compares them: its
value falls like 1 over their number. Released are 128 of them for ViT-B and ViT-L (8xb128_accu2), 256 for ViT-S and
ResNet-50 (8xb256), so that processes × --accumulate should be 16 and 8 with the batch of 2048 (`a2mim reproduce
imagenet` gives the --accumulate for its --gpus). All else but batch statistics is the same for any number.
"""

from __future__ import annotations

from dataclasses import replace

from a2mim.settings import Augmentation, Loop, Network, Optim
from experiments.commands.pretrain import Settings as Pretrain
from experiments.recipes.imagenet.common import BF16, CNN_LOOP, FLOAT32, STEP_FIX, VIT_BASE, VIT_LARGE, VIT_SMALL

_CONVNEXT_LOOP = replace(BF16, channels_last=True)  # no batch statistics to share
# torchvision's RandomResizedCrop with its own interpolation; bicubic crops have more of the highest frequencies.
_CROP = Augmentation(scale=(0.67, 1.0), interpolation="bilinear")

_VIT_PRETRAIN = Optim(
    epochs=800,
    lr=4e-4,
    lr_batch=2048,
    weight_decay=0.05,
    clip_grad=5.0,
    schedule="multistep",
    milestones=(700.0,),
    warmup_epochs=10.0,
)
_CNN_PRETRAIN = replace(
    STEP_FIX, epochs=300, lr=1.2e-3, lr_batch=2048, weight_decay=0.05, warmup_epochs=10.0, min_lr=1e-5
)


def _with_final_norm(network: Network) -> Network:
    """For pre-training: the last norm acts on tokens; fine-tuning has one behind the mean over tokens instead. Frozen,
    the network is the mean over patches, as the released files are read: no loss reaches its last class token."""
    return replace(network, model_args=(*network.model_args, "global_pool=avg", "use_fc_norm=False"))


def _pretrain_vit(network: Network, method: str, set: tuple[str, ...], loop: Loop = FLOAT32) -> Pretrain:
    """Relative positions do not decay in the released code either, whose rule for biases has them too."""
    return Pretrain(
        method=method, set=set, network=_with_final_norm(network), augment=_CROP, optim=_VIT_PRETRAIN, loop=loop
    )


IMAGES_OF_A_SPECTRUM = {
    "a2mim_vit_small": 256,
    "a2mim_vit_base": 128,
    "a2mim_vit_large": 128,
    "a2mim_resnet50": 256,
    "a2mim_resnet50_100": 256,
}
"""Over how many images spectra are averaged in the releases with fourier=released: imgs_per_gpu of OpenMixup's
configs/selfsup/a2mim/imagenet (vit_small_l0_sz224_8xb256, vit_base_l0_sz224_8xb128_accu2, r50_l3_sz224_init_8xb256)."""

_A2MIM_VIT = ("fourier=released", "fourier_weight=0.1")


def a2mim_vit_small() -> Pretrain:
    """82.1 after finetune_vit_small."""
    return _pretrain_vit(VIT_SMALL, "a2mim", _A2MIM_VIT)


def a2mim_vit_base() -> Pretrain:
    """84.2 after finetune_vit_base."""
    return _pretrain_vit(VIT_BASE, "a2mim", _A2MIM_VIT)


def a2mim_vit_large() -> Pretrain:
    """86.1 after finetune_vit_large."""
    return _pretrain_vit(VIT_LARGE, "a2mim", _A2MIM_VIT)


def simmim_vit_small() -> Pretrain:
    """81.7 after finetune_vit_small with --epochs 100. Released with fp16, as ViT-L; ViT-B in float32."""
    return _pretrain_vit(VIT_SMALL, "simmim", (), BF16)


def simmim_vit_base() -> Pretrain:
    """83.8 after finetune_vit_base."""
    return _pretrain_vit(VIT_BASE, "simmim", ())


def simmim_vit_large() -> Pretrain:
    """85.6 after finetune_vit_large with --epochs 100."""
    return _pretrain_vit(VIT_LARGE, "simmim", (), BF16)


_A2MIM_CNN = ("gamma_init=1e-6", "spatial=focal_l1", "token_lr_scale=0.1")
_NO_FOURIER = "fourier_weight=0"


def _a2mim_cnn(network: Network, *set: str, loop: Loop = CNN_LOOP) -> Pretrain:
    augment = replace(_CROP, scale=(0.8, 1.0))
    set = (*_A2MIM_CNN, *set)
    return Pretrain(method="a2mim", set=set, network=network, augment=augment, optim=_CNN_PRETRAIN, loop=loop)


def _a2mim_resnet(name: str, *set: str) -> Pretrain:
    """The mask γ decays, which no rule of the released configurations exempts."""
    recipe = _a2mim_cnn(Network(name), *set)
    return replace(recipe, optim=replace(recipe.optim, decay_also=("gamma_C",)))


def _a2mim_convnext(name: str) -> Pretrain:
    """The rule that exempts LayerScale's γ from decay exempts the mask's. The Fourier loss is off."""
    return _a2mim_cnn(_convnext(name), _NO_FOURIER, "gamma_lr_scale=0.1", loop=_CONVNEXT_LOOP)


def _convnext(name: str) -> Network:
    """For masked images: the last norm acts on the map, before the decoder. Fine-tuning has it behind the pooling."""
    return Network(name, ("head_norm_first=True",))


def _simmim_cnn(network: Network, *set: str, loop: Loop) -> Pretrain:
    optim = replace(_CNN_PRETRAIN, lr=8e-4)
    return Pretrain(method="simmim", set=set, network=network, augment=_CROP, optim=optim, loop=loop)


def _simmim_resnet(name: str) -> Pretrain:
    """Released with fp16."""
    return _simmim_cnn(Network(name), loop=replace(CNN_LOOP, precision="bf16"))


def _simmim_convnext(name: str) -> Pretrain:
    """The token is added to the features behind the stem, and masked pixels are not filled: they are all seen."""
    return _simmim_cnn(_convnext(name), "mask_token=add", loop=_CONVNEXT_LOOP)


def a2mim_resnet50() -> Pretrain:
    """80.4 after finetune_resnet50, 78.9 after finetune_resnet50_a3."""
    return _a2mim_resnet("resnet50", "fourier=released", "fourier_weight=0.5", "fourier_visible=1e-3")


def a2mim_resnet50_100() -> Pretrain:
    """78.8 after finetune_resnet50_a3: 100 epochs, in which the mask γ learns at a tenth of the rate, without decay."""
    recipe = a2mim_resnet50()
    optim = replace(recipe.optim, epochs=100, decay_also=())
    return replace(recipe, set=(*recipe.set, "gamma_lr_scale=0.1"), optim=optim)


def a2mim_resnet101() -> Pretrain:
    """81.9 after finetune_resnet101."""
    return _a2mim_resnet("resnet101", "fourier=released_plain", "fourier_weight=0.1", "fourier_visible=1e-3")


def a2mim_resnet152() -> Pretrain:
    """82.5 after finetune_resnet152. The released configuration has the Fourier loss off."""
    return _a2mim_resnet("resnet152", _NO_FOURIER)


def a2mim_resnet200() -> Pretrain:
    """83.0 after finetune_resnet200. The released configuration has the Fourier loss off."""
    return _a2mim_resnet("resnet200", _NO_FOURIER)


def a2mim_convnext_tiny() -> Pretrain:
    """Released; what it reached is not stated."""
    return _a2mim_convnext("convnext_tiny")


def a2mim_convnext_small() -> Pretrain:
    """83.7 after finetune_convnext_small."""
    return _a2mim_convnext("convnext_small")


def a2mim_convnext_base() -> Pretrain:
    """84.1 after finetune_convnext_base."""
    return _a2mim_convnext("convnext_base")


def simmim_resnet50() -> Pretrain:
    """79.9 after finetune_resnet50."""
    return _simmim_resnet("resnet50")


def simmim_resnet101() -> Pretrain:
    """81.3 after finetune_resnet101."""
    return _simmim_resnet("resnet101")


def simmim_resnet152() -> Pretrain:
    """81.9 after finetune_resnet152."""
    return _simmim_resnet("resnet152")


def simmim_resnet200() -> Pretrain:
    """82.2 after finetune_resnet200."""
    return _simmim_resnet("resnet200")


def simmim_convnext_tiny() -> Pretrain:
    """Released; what it reached is not stated."""
    return _simmim_convnext("convnext_tiny")


def simmim_convnext_small() -> Pretrain:
    """83.2 after finetune_convnext_small."""
    return _simmim_convnext("convnext_small")


def simmim_convnext_base() -> Pretrain:
    """83.6 after finetune_convnext_base."""
    return _simmim_convnext("convnext_base")
