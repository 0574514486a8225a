"""Training with labels: fine-tuning as released for each pre-training, and the baselines from random weights."""

from __future__ import annotations

from dataclasses import replace

from a2mim.settings import Augmentation, Evaluation, Loop, Mixing, Network, Optim
from experiments.commands.finetune import Settings as Finetune
from experiments.recipes.imagenet.common import ANNEALING, IMAGENET_PIXELS, STEP_FIX, VIT_BASE, VIT_LARGE, VIT_SMALL

_STRONG = Augmentation(scale=(0.08, 1.0), auto_augment="rand-m9-mstd0.5-inc1", erasing=0.25)
_STRONG_MIXING = Mixing(mixup=0.8, cutmix=1.0, smoothing=0.1)


def _finetune_vit(network: Network, epochs: int, ema: float, repeats: int = 1) -> Finetune:
    # the last norm of pre-training stays behind, and the one behind the mean over tokens is new, whatever the file has
    pooled = (*network.model_args, "global_pool=avg", "use_fc_norm=True")
    return Finetune(
        network=replace(network, model_args=pooled, partial=True),
        augment=replace(_STRONG, repeats=repeats),
        mixing=_STRONG_MIXING,
        optim=replace(
            STEP_FIX,
            epochs=epochs,
            lr=2.5e-3,
            lr_batch=256,
            weight_decay=0.05,
            layer_decay=0.65,
            clip_grad=5.0,
            warmup_epochs=20.0,
            min_lr=1e-6,
        ),
        loop=Loop(batch=1024, precision="bf16", ema=ema, ema_warmup_epochs=20.0 if ema else 0.0),
    )


def finetune_vit_small() -> Finetune:
    """82.1 from a2mim_vit_small; 81.7 from simmim_vit_small with --epochs 100."""
    return _finetune_vit(VIT_SMALL, 200, ema=0.0)


def finetune_vit_base() -> Finetune:
    """84.2 from a2mim_vit_base, 83.8 from simmim_vit_base."""
    return _finetune_vit(VIT_BASE, 100, ema=0.99996)


def finetune_vit_large() -> Finetune:
    """86.1 from a2mim_vit_large; 85.6 from simmim_vit_large with --epochs 100."""
    return _finetune_vit(VIT_LARGE, 150, ema=0.99996, repeats=3)


def _finetune_plain_vit(name: str, drop_path: float, optim: Optim, batch: int) -> Finetune:
    """A mean over tokens behind which there is a new norm, as for the paper's ViT."""
    arguments = ("global_pool=avg", "fc_norm=True", f"drop_path_rate={drop_path}", IMAGENET_PIXELS)
    network = Network(name, arguments, partial=True)
    loop = Loop(batch=batch, precision="bf16")
    return Finetune(network=network, augment=_STRONG, mixing=_STRONG_MIXING, optim=optim, loop=loop)


def finetune_mae_vit_base() -> Finetune:
    """83.6 from mae_vit_base."""
    optim = Optim(
        epochs=100, lr=5e-4, lr_batch=256, weight_decay=0.05, layer_decay=0.65, warmup_epochs=5.0, min_lr=1e-6
    )
    return _finetune_plain_vit("vit_base_patch16_224", 0.1, optim, 1024)


def finetune_mae_vit_large() -> Finetune:
    """85.9 from mae_vit_large."""
    optim = Optim(epochs=50, lr=1e-3, lr_batch=256, weight_decay=0.05, layer_decay=0.75, warmup_epochs=5.0, min_lr=1e-6)
    return _finetune_plain_vit("vit_large_patch16_224", 0.2, optim, 1024)


def finetune_maskfeat_vit_base() -> Finetune:
    """84.0 from maskfeat_vit_base."""
    optim = Optim(
        epochs=100,
        lr=2e-3,
        lr_batch=512,
        weight_decay=0.05,
        decay_also=("pos_embed", "cls_token"),  # ZERO_DECAY_POS_CLS is off in the released configuration
        layer_decay=0.65,
        warmup_epochs=20.0,
        # 1e-8 and 1e-6 at 512 images, and scaled as the rate is
        warmup_lr=4e-8,
        min_lr=4e-6,
    )
    return _finetune_plain_vit("vit_base_patch16_224", 0.1, optim, 2048)


def _rsb_a2(name: str, drop_path: float, ema: float = 0.0) -> Finetune:
    """RSB A2 (Wightman et al. 2021), as OpenMixup has it: LAMB, binary cross entropy, repeated augmentation, batch
    statistics over all processes (norm_cfg of r50_rsb_a2.py and r50_rsb_a3.py: SyncBN)."""
    loop = Loop(batch=2048, precision="bf16", channels_last=True, sync_bn=True)
    return Finetune(
        loss="bce",
        bce_threshold=0.2,
        network=Network(name, (f"drop_path_rate={drop_path}",)),
        augment=Augmentation(scale=(0.08, 1.0), auto_augment="rand-m7-mstd0.5-inc1", repeats=3),
        mixing=Mixing(mixup=0.1, cutmix=1.0),
        evaluation=Evaluation(crop_pct=0.95),
        optim=replace(
            ANNEALING,
            epochs=300,
            optimizer="lamb",
            lr=5e-3,
            lr_batch=2048,
            weight_decay=0.02,
            warmup_epochs=5.0,
            min_lr=1e-6,
        ),
        loop=replace(loop, ema=ema, ema_warmup_epochs=20.0 if ema else 0.0),
    )


def finetune_resnet50() -> Finetune:
    """80.4 from a2mim_resnet50, 79.9 from simmim_resnet50."""
    return _rsb_a2("resnet50", 0.05, ema=0.9999)


def finetune_resnet101() -> Finetune:
    """81.9 from a2mim_resnet101, 81.3 from simmim_resnet101."""
    return _rsb_a2("resnet101", 0.1)


def finetune_resnet152() -> Finetune:
    """82.5 from a2mim_resnet152, 81.9 from simmim_resnet152."""
    return _rsb_a2("resnet152", 0.15)


def finetune_resnet200() -> Finetune:
    """83.0 from a2mim_resnet200, 82.2 from simmim_resnet200."""
    return _rsb_a2("resnet200", 0.2)


def finetune_resnet50_a3() -> Finetune:
    """RSB A3: 78.9 from a2mim_resnet50. Trained at 160 px, evaluated at 224. Its authors call it unstable."""
    a2 = _rsb_a2("resnet50", 0.0)
    return replace(
        a2,
        augment=Augmentation(image_size=160, scale=(0.08, 1.0), auto_augment="rand-m6-mstd0.5-inc1"),
        evaluation=Evaluation(eval_size=224, crop_pct=0.95),
        optim=replace(a2.optim, epochs=100, lr=8e-3),
    )


def _finetune_convnext(name: str, drop_path: float) -> Finetune:
    """The recipe of SparK and ConvNeXt, as OpenMixup has it. The last norm of pre-training goes behind the pooling."""
    return Finetune(
        network=Network(name, (f"drop_path_rate={drop_path}", "head_norm_first=False")),
        augment=_STRONG,
        mixing=_STRONG_MIXING,
        optim=replace(ANNEALING, epochs=300, lr=4e-3, lr_batch=4096, weight_decay=0.05, warmup_epochs=5.0, min_lr=1e-6),
        loop=Loop(batch=4096, precision="bf16", channels_last=True, ema=0.9999, ema_warmup_epochs=20.0),
    )


def finetune_convnext_tiny() -> Finetune:
    """From a2mim_convnext_tiny or simmim_convnext_tiny: 400 epochs, nearer to SparK's own; its result is not stated.

    Layer decay is 0.7 there (OpenMixup, convnext_t_spark_ft), over 6 groups of layers of three blocks and their head
    (num_layers of its TransformerFinetuneConstructor): 0.7⁷ at the stem, which timm's 19 layers above it share here.
    """
    recipe = _finetune_convnext("convnext_tiny", 0.1)
    optim = replace(recipe.optim, epochs=400, lr=4e-4, weight_decay=0.01, layer_decay=0.7 ** (7 / 19))
    return replace(recipe, optim=optim)


def finetune_convnext_small() -> Finetune:
    """83.7 from a2mim_convnext_small, 83.2 from simmim_convnext_small."""
    return _finetune_convnext("convnext_small", 0.4)


def finetune_convnext_base() -> Finetune:
    """84.1 from a2mim_convnext_base, 83.6 from simmim_convnext_base."""
    return _finetune_convnext("convnext_base", 0.5)


# ------------------------------------------------------------------------------------------- from random weights


def _timm(recipe: Finetune) -> Finetune:
    """timm's rule: the cosine over the whole training, and the warm-up to its peak, where the rate then falls; batch
    statistics are each process's own (--sync-bn is off by default there)."""
    optim = replace(recipe.optim, cosine_from="start", warmup_to="peak", min_lr_scaled=True)
    return replace(recipe, optim=optim, loop=replace(recipe.loop, sync_bn=False))


def _deit(network: Network) -> Finetune:
    """DeiT's 300 epochs (Touvron et al. 2021)."""
    recipe = Finetune(
        network=network,
        augment=replace(_STRONG, repeats=3),
        mixing=_STRONG_MIXING,
        optim=Optim(
            epochs=300, lr=5e-4, lr_batch=512, weight_decay=0.05, warmup_epochs=5.0, warmup_lr=1e-6, min_lr=1e-5
        ),
        loop=Loop(batch=1024, precision="bf16"),
    )
    return _timm(recipe)


def supervised_vit_small() -> Finetune:
    """79.9. Which network the published number belongs to is not established; this is DeiT-S."""
    return _deit(Network("deit_small_patch16_224", ("drop_path_rate=0.1",)))


def supervised_vit_base() -> Finetune:
    """81.8."""
    return _deit(Network("deit_base_patch16_224", ("drop_path_rate=0.1",)))


def supervised_vit_large() -> Finetune:
    """82.6, by a recipe that is not established; this is DeiT's, with a deeper drop path."""
    return _deit(Network("vit_large_patch16_224", ("drop_path_rate=0.4",)))


def supervised_resnet50() -> Finetune:
    """79.8: RSB A2 from random weights."""
    return _timm(_rsb_a2("resnet50", 0.05))


def supervised_resnet101() -> Finetune:
    """81.3: RSB A2 from random weights."""
    return _timm(_rsb_a2("resnet101", 0.1))


def supervised_resnet152() -> Finetune:
    """81.8: RSB A2 from random weights."""
    return _timm(_rsb_a2("resnet152", 0.15))


def supervised_resnet200() -> Finetune:
    """82.1: RSB A2 from random weights."""
    return _timm(_rsb_a2("resnet200", 0.2))


def supervised_resnet50_a3() -> Finetune:
    """78.8: RSB A3 from random weights."""
    return _timm(finetune_resnet50_a3())


def supervised_convnext_small() -> Finetune:
    """83.1: the same recipe from random weights, with ConvNeXt's own warm-up (20 epochs) and cosine."""
    return _from_scratch(finetune_convnext_small())


def supervised_convnext_base() -> Finetune:
    """83.5: the same recipe from random weights, with ConvNeXt's own warm-up (20 epochs) and cosine."""
    return _from_scratch(finetune_convnext_base())


def _from_scratch(settings: Finetune) -> Finetune:
    """facebookresearch/ConvNeXt: the cosine after the warm-up; its average has a constant decay."""
    optim = replace(settings.optim, warmup_epochs=20.0, cosine_from="warmup", warmup_to="peak", min_lr_scaled=True)
    return replace(settings, optim=optim, loop=replace(settings.loop, ema_warmup_epochs=0.0))
