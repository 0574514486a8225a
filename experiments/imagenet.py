"""ImageNet-1k recipes: the main table of the A²MIM paper (Li et al., ICML 2023), pre-training and fine-tuning.

Reproduces. Pre-train with `a2mim_*` or `simmim_*`, then `finetune_*` from its weights; `supervised_*` is the baseline.
Hyper-parameters are those of the released configurations (A2MIM ccca6dc, openmixup 37e1372), DeiT and RSB.

Should reach (top-1 after fine-tuning, as the README of the released code states it; none of it was run here):

                  supervised  SimMIM  A²MIM  fine-tuning              pre-training  GMACs  EFLOP: pre-, fine-tuning
    vit_small     79.9        81.7    82.1   200 epochs (SimMIM 100)  800 epochs    10     61, 15
    vit_base      81.8        83.8    84.2   100                      800           17.6   108, 14
    vit_large     82.6        85.6    86.1   150 (SimMIM 100)         800           61.6   379, 71
    resnet50      79.8        79.9    80.4   300, RSB A2              300           4.1    9.5, 9.5
    resnet50 A3   78.8        –       78.9   100, RSB A3              300           4.1    9.5, 1.6
    resnet101     81.3        81.3    81.9   300, RSB A2              300           7.8    18, 18
    resnet152     81.8        81.9    82.5   300, RSB A2              300           11.6   27, 27
    resnet200     82.1        82.2    83.0   300, RSB A2              300           15.1   35, 35
    convnext_small  83.1      83.2    83.7   300                      300           8.7    20, 20
    convnext_base   83.5      83.6    84.1   300                      300           15.4   36, 36

Contrastive pre-training, by the official hyper-parameters: top-1 of a linear classifier, as the papers state it. (After
finetune_resnet50_a3, 300 epochs of openmixup reach: SimCLR 78.5 (100 epochs), BYOL 78.9, MoCo v3 79.0.)

                      linear  epochs  EFLOP                           linear  epochs  EFLOP
    simclr_resnet50   69.3    1000    63      mocov3_vit_small        73.2    300     28
    byol_resnet50     72.5    300     25      mocov3_vit_base         76.7    300     108
    mocov3_resnet50   72.8    300     25      dino_vit_small          76.0    300     44
    dino_resnet50     75.3 (800 epochs)  100  13

Other masked-image methods, by their released hyper-parameters; fine-tuned top-1 as their own repositories state it:

                       top-1  pre-training  EFLOP                         top-1  pre-training  EFLOP
    mae_vit_base       83.6   1600 epochs   118     spark_resnet50        80.6   1600 epochs   200
    mae_vit_large      85.9   1600          250     spark_resnet101       82.2   1600          250
    maskfeat_vit_base  84.0   1600          216     spark_resnet152       82.7   1600          290
    maskfeat_vit_large 85.7   1600          757     spark_resnet200       83.1   1600          340
                                                    spark_convnext_small  84.1   1600          240
                                                    spark_convnext_base   84.8   1600          330

MAE: a quarter of the encoder and 5.4 GMACs of decoder; SparK: the dense CNN (sparse by masking saves nothing) and 11 to
12 GMACs of decoder and densifying.

Costs. EFLOP = 10¹⁸ floating-point operations, counted as 6 × GMACs × images; an accelerator that sustains 100 TFLOP/s
needs 2.8 hours for one (vit_base: 300 hours to pre-train; 38 on 8 of them). That is arithmetic, not a measurement.

Commands (a2mim may be torchrun --nproc-per-node 8 --no-python a2mim; --accumulate N where memory is short):

    a2mim pretrain --recipe imagenet:a2mim_vit_base --data imagenet/train --out runs/a2mim-vit-base
    a2mim finetune --recipe imagenet:finetune_vit_base --weights runs/a2mim-vit-base --data imagenet --out runs/a2mim-ft
    a2mim finetune --recipe imagenet:supervised_resnet50 --data imagenet --out runs/supervised-resnet50

Learning rates follow each release's own formula, at every step; RSB and DeiT change theirs once an epoch, so that these
are the same at whole epochs only.

Known differences from the released code: bf16 instead of fp16; no mix_repeat (two mixed copies of each batch, used for
fine-tuning ViT-B); with averages of weights go averages of batch statistics, where OpenMixup takes the running ones.
RSB's binary cross entropy is RSB's own (soft labels count from 0.2 on, the mean over classes), where OpenMixup, which
fine-tuned the networks of A²MIM's table, takes soft labels as they are and sums over classes: --loss bce_sum. Where the
released supervised configurations are not described, DeiT's, RSB's and ConvNeXt's own are used.
"""

from __future__ import annotations

from dataclasses import replace

from a2mim.settings import Augmentation, Evaluation, Loop, Mixing, Network, Optim
from experiments.commands.finetune import Settings as Finetune
from experiments.commands.pretrain import Settings as Pretrain

# ------------------------------------------------------------------------------------------- networks

# The paper's ViT: BEiT with absolute positions, relative position biases in every layer and LayerScale 0.1.
_VIT = (
    "use_abs_pos_emb=True",
    "use_rel_pos_bias=True",
    "init_values=0.1",
    "drop_path_rate=0.1",
    "pretrained_cfg_overlay={'mean': (0.485, 0.456, 0.406), 'std': (0.229, 0.224, 0.225)}",
)
# Its ViT-S is 768 wide and 8 deep, with 48.8 million parameters; timm's vit_small is another network.
_VIT_SMALL = Network("beit_base_patch16_224", (*_VIT, "depth=8", "num_heads=8", "mlp_ratio=3"))
_VIT_BASE = Network("beit_base_patch16_224", _VIT)
_VIT_LARGE = Network("beit_large_patch16_224", _VIT)


def _with_final_norm(network: Network) -> Network:
    """For pre-training: the last norm acts on tokens; fine-tuning has one behind the mean over tokens instead."""
    return replace(network, model_args=(*network.model_args, "global_pool=token"))


# ------------------------------------------------------------------------------------------- pre-training

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
# OpenMixup's StepFixCosineAnnealing: no warm-up in the cosine, and a warm-up that is a share of what it gives.
_STEP_FIX = Optim(cosine_from="warmup", warmup_to="schedule")
_CNN_PRETRAIN = replace(
    _STEP_FIX, epochs=300, lr=1.2e-3, lr_batch=2048, weight_decay=0.05, warmup_epochs=10.0, min_lr=1e-5
)
_BF16 = Loop(batch=2048, precision="bf16", pictures_every=10)
_FLOAT32 = replace(_BF16, precision="float32")
_CNN_LOOP = replace(_FLOAT32, channels_last=True, sync_bn=True)
_CONVNEXT_LOOP = replace(_BF16, channels_last=True)  # no batch statistics to share
# torchvision's RandomResizedCrop with its own interpolation; bicubic crops have more of the highest frequencies.
_CROP = Augmentation(scale=(0.67, 1.0), interpolation="bilinear")


def _pretrain_vit(network: Network, method: str, set: tuple[str, ...], loop: Loop = _FLOAT32) -> Pretrain:
    """Relative positions do not decay in the released code either, whose rule for biases has them too."""
    return Pretrain(
        method=method, set=set, network=_with_final_norm(network), augment=_CROP, optim=_VIT_PRETRAIN, loop=loop
    )


_A2MIM_VIT = ("fourier=released", "fourier_weight=0.1")


def a2mim_vit_small() -> Pretrain:
    """82.1 after finetune_vit_small."""
    return _pretrain_vit(_VIT_SMALL, "a2mim", _A2MIM_VIT)


def a2mim_vit_base() -> Pretrain:
    """84.2 after finetune_vit_base."""
    return _pretrain_vit(_VIT_BASE, "a2mim", _A2MIM_VIT)


def a2mim_vit_large() -> Pretrain:
    """86.1 after finetune_vit_large."""
    return _pretrain_vit(_VIT_LARGE, "a2mim", _A2MIM_VIT)


def simmim_vit_small() -> Pretrain:
    """81.7 after finetune_vit_small with --epochs 100. Released with fp16, as ViT-L; ViT-B in float32."""
    return _pretrain_vit(_VIT_SMALL, "simmim", (), _BF16)


def simmim_vit_base() -> Pretrain:
    """83.8 after finetune_vit_base."""
    return _pretrain_vit(_VIT_BASE, "simmim", ())


def simmim_vit_large() -> Pretrain:
    """85.6 after finetune_vit_large with --epochs 100."""
    return _pretrain_vit(_VIT_LARGE, "simmim", (), _BF16)


_A2MIM_CNN = ("gamma_init=1e-6", "spatial=focal_l1", "token_lr_scale=0.1")
_NO_FOURIER = "fourier_weight=0"


def _a2mim_cnn(network: Network, *set: str, loop: Loop = _CNN_LOOP) -> Pretrain:
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
    return _simmim_cnn(Network(name), loop=replace(_CNN_LOOP, precision="bf16"))


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


# ------------------------------------------------------------------------------------------- contrastive

_IMAGENET_PIXELS = "pretrained_cfg_overlay={'mean': (0.485, 0.456, 0.406), 'std': (0.229, 0.224, 0.225)}"
_LARS = Optim(optimizer="lars", lr=0.3, lr_batch=256, momentum=0.9, weight_decay=1e-6, warmup_epochs=10.0)


def _contrastive(method: str, network: Network, optim: Optim, batch: int, *set: str) -> Pretrain:
    """Views are the method's own."""
    cnn = "resnet" in network.model
    loop = Loop(batch=batch, precision="bf16", channels_last=cnn, sync_bn=True)
    return Pretrain(method=method, set=set, network=network, optim=optim, loop=loop)


def simclr_resnet50() -> Pretrain:
    """69.3 (linear); --epochs 100: 64.5."""
    return _contrastive("simclr", Network("resnet50"), replace(_LARS, epochs=1000), 4096)


def byol_resnet50() -> Pretrain:
    """72.5 (linear); 74.3 with --epochs 1000 --lr 0.2 --weight-decay 1.5e-6 --set momentum=0.996."""
    return _contrastive("byol", Network("resnet50"), replace(_LARS, epochs=300), 4096, "momentum=0.99")


def mocov3_resnet50() -> Pretrain:
    """72.8 (linear); 68.9 with --epochs 100 --lr 0.6; 74.6 with --epochs 1000 --weight-decay 1.5e-6, momentum=0.996."""
    recipe = _contrastive("mocov3", Network("resnet50"), replace(_LARS, epochs=300), 4096)
    return replace(recipe, augment=Augmentation(scale=(0.2, 1.0)))


def _mocov3_vit(name: str) -> Pretrain:
    network = Network(name, ("num_heads=12", "weight_init=moco", _IMAGENET_PIXELS))
    optim = Optim(epochs=300, lr=1.5e-4, lr_batch=256, weight_decay=0.1, warmup_epochs=40.0)
    return _contrastive("mocov3", network, optim, 4096)


def mocov3_vit_small() -> Pretrain:
    """73.2 (linear). Its ViT-S has 12 heads, where timm's has 6: give --model-args num_heads=12 to what follows."""
    return _mocov3_vit("vit_small_patch16_224")


def mocov3_vit_base() -> Pretrain:
    """76.7 (linear)."""
    return _mocov3_vit("vit_base_patch16_224")


def dino_vit_small() -> Pretrain:
    """73.3 (k-NN), 76.0 (linear); with --epochs 100 and the official defaults 69.3 and 74.0."""
    network = Network("vit_small_patch16_224", ("dynamic_img_size=True", "drop_path_rate=0.1", _IMAGENET_PIXELS))
    optim = Optim(
        epochs=300,
        lr=5e-4,
        lr_batch=256,
        weight_decay=0.04,
        weight_decay_end=0.4,
        clip_grad=3.0,
        warmup_epochs=10.0,
        min_lr=1e-6,
    )
    # 30 epochs of rising temperature, one of fixed prototypes
    schedule = ("temperature_warmup=0.1", f"freeze_prototypes={1 / 300:.5f}")
    return _contrastive("dino", network, optim, 1024, "norm_last_layer=False", *schedule)


def dino_resnet50() -> Pretrain:
    """The official command for 100 epochs; its accuracy is not stated (75.3, linear, is that of 800 epochs)."""
    optim = Optim(
        epochs=100,
        optimizer="momentum",
        lr=0.03,
        lr_batch=256,
        weight_decay=1e-4,
        clip_grad=3.0,
        warmup_epochs=10.0,
        min_lr=1e-6,
    )
    network = Network("resnet50", ("zero_init_last=False",))
    recipe = _contrastive("dino", network, optim, 512, "teacher_temperature=0.04", "local_scale=(0.05, 0.14)")
    return replace(recipe, augment=Augmentation(scale=(0.14, 1.0)))


# ------------------------------------------------------------------------------------------- masked images

_MAE = Optim(epochs=1600, lr=1.5e-4, lr_batch=256, weight_decay=0.05, betas=(0.9, 0.95), warmup_epochs=40.0)
_MASKFEAT = Optim(
    epochs=1600,
    lr=2e-4,
    lr_batch=256,
    weight_decay=0.05,
    clip_grad=0.02,
    warmup_epochs=30.0,
    # 1e-6 at 256 images, and scaled as the rate is (BASE_LR_SCALE_NUM_SHARDS)
    warmup_lr=8e-6,
    min_lr=8e-6,
)
_SPARK = Optim(
    epochs=1600,
    optimizer="lamb",
    lr=2e-4,
    lr_batch=256,
    betas=(0.9, 0.95),
    weight_decay=0.04,
    weight_decay_end=0.2,
    clip_grad=5.0,
    warmup_epochs=40.0,
    warmup_lr=1.6e-5,
    min_lr=3.2e-6,
)


def _mae(name: str) -> Pretrain:
    return Pretrain(
        method="mae",
        network=Network(name, ("weight_init=jax", _IMAGENET_PIXELS)),
        augment=Augmentation(scale=(0.2, 1.0)),
        optim=_MAE,
        loop=replace(_BF16, batch=4096),
    )


def mae_vit_base() -> Pretrain:
    """83.6 after finetune_mae_vit_base."""
    return _mae("vit_base_patch16_224")


def mae_vit_large() -> Pretrain:
    """85.9 after finetune_mae_vit_large; 85.4 with --epochs 800."""
    return _mae("vit_large_patch16_224")


def _maskfeat(name: str) -> Pretrain:
    return Pretrain(
        method="maskfeat",
        network=Network(name, (_IMAGENET_PIXELS,)),
        augment=Augmentation(scale=(0.5, 1.0)),
        optim=_MASKFEAT,
        loop=_BF16,
    )


def maskfeat_vit_base() -> Pretrain:
    """84.0 after finetune_maskfeat_vit_base; openmixup states 83.5 with --epochs 300."""
    return _maskfeat("vit_base_patch16_224")


def maskfeat_vit_large() -> Pretrain:
    """85.7 after the released fine-tuning, which is not among the recipes."""
    return _maskfeat("vit_large_patch16_224")


def _spark(name: str, drop_path: float, optim: Optim = _SPARK) -> Pretrain:
    """Drop path is the released models' own, which --dp 0, the default there, leaves as it is."""
    return Pretrain(
        method="spark",
        network=Network(name, (f"drop_path_rate={drop_path}",)),
        augment=Augmentation(scale=(0.67, 1.0)),
        optim=optim,
        loop=replace(_CNN_LOOP, batch=4096),
    )


def spark_resnet50() -> Pretrain:
    """80.6 after the released fine-tuning (RSB A2 with layer decay 0.7; finetune_resnet50 comes closest)."""
    return _spark("resnet50", 0.05)


def spark_resnet101() -> Pretrain:
    """82.2, likewise (layer decay 0.8)."""
    return _spark("resnet101", 0.08)


def spark_resnet152() -> Pretrain:
    """82.7, likewise (layer decay 0.8)."""
    return _spark("resnet152", 0.1)


def spark_resnet200() -> Pretrain:
    """83.1, likewise (layer decay 0.8)."""
    return _spark("resnet200", 0.15)


def spark_convnext_small() -> Pretrain:
    """84.1 after the released fine-tuning (400 epochs, layer decay 0.7; finetune_convnext_small comes closest)."""
    return _spark("convnext_small", 0.2, replace(_SPARK, betas=(0.9, 0.999)))


def spark_convnext_base() -> Pretrain:
    """84.8, likewise."""
    return _spark("convnext_base", 0.3, replace(_SPARK, betas=(0.9, 0.999)))


# ------------------------------------------------------------------------------------------- fine-tuning

_STRONG = Augmentation(scale=(0.08, 1.0), auto_augment="rand-m9-mstd0.5-inc1", erasing=0.25)
_STRONG_MIXING = Mixing(mixup=0.8, cutmix=1.0, smoothing=0.1)


def _finetune_vit(network: Network, epochs: int, ema: float, repeats: int = 1) -> Finetune:
    return Finetune(
        # the last norm of pre-training stays behind, and the one behind the mean over tokens is new
        network=replace(network, partial=True),
        augment=replace(_STRONG, repeats=repeats),
        mixing=_STRONG_MIXING,
        optim=replace(
            _STEP_FIX,
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
    return _finetune_vit(_VIT_SMALL, 200, ema=0.0)


def finetune_vit_base() -> Finetune:
    """84.2 from a2mim_vit_base, 83.8 from simmim_vit_base."""
    return _finetune_vit(_VIT_BASE, 100, ema=0.99996)


def finetune_vit_large() -> Finetune:
    """86.1 from a2mim_vit_large; 85.6 from simmim_vit_large with --epochs 100."""
    return _finetune_vit(_VIT_LARGE, 150, ema=0.99996, repeats=3)


def _finetune_plain_vit(name: str, drop_path: float, optim: Optim, batch: int) -> Finetune:
    """A mean over tokens behind which there is a new norm, as for the paper's ViT."""
    network = Network(name, ("global_pool=avg", f"drop_path_rate={drop_path}", _IMAGENET_PIXELS), partial=True)
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
        layer_decay=0.65,
        warmup_epochs=20.0,
        # 1e-8 and 1e-6 at 512 images, and scaled as the rate is
        warmup_lr=4e-8,
        min_lr=4e-6,
    )
    return _finetune_plain_vit("vit_base_patch16_224", 0.1, optim, 2048)


# mmcv's CosineAnnealing: over the whole training, and a warm-up that is a share of what it gives.
_ANNEALING = Optim(cosine_from="start", warmup_to="schedule")


def _rsb_a2(name: str, drop_path: float, ema: float = 0.0) -> Finetune:
    """RSB A2 (Wightman et al. 2021), as OpenMixup has it: LAMB, binary cross entropy, repeated augmentation."""
    return Finetune(
        loss="bce",
        bce_threshold=0.2,
        network=Network(name, (f"drop_path_rate={drop_path}",)),
        augment=Augmentation(scale=(0.08, 1.0), auto_augment="rand-m7-mstd0.5-inc1", repeats=3),
        mixing=Mixing(mixup=0.1, cutmix=1.0),
        evaluation=Evaluation(crop_pct=0.95),
        optim=replace(
            _ANNEALING,
            epochs=300,
            optimizer="lamb",
            lr=5e-3,
            lr_batch=2048,
            weight_decay=0.02,
            warmup_epochs=5.0,
            min_lr=1e-6,
        ),
        loop=Loop(batch=2048, precision="bf16", channels_last=True, ema=ema, ema_warmup_epochs=20.0 if ema else 0.0),
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
        optim=replace(
            _ANNEALING, epochs=300, lr=4e-3, lr_batch=4096, weight_decay=0.05, warmup_epochs=5.0, min_lr=1e-6
        ),
        loop=Loop(batch=4096, precision="bf16", channels_last=True, ema=0.9999, ema_warmup_epochs=20.0),
    )


def finetune_convnext_tiny() -> Finetune:
    """From a2mim_convnext_tiny or simmim_convnext_tiny: 400 epochs, nearer to SparK's own; its result is not stated."""
    recipe = _finetune_convnext("convnext_tiny", 0.1)
    return replace(recipe, optim=replace(recipe.optim, epochs=400, lr=4e-4, weight_decay=0.01, layer_decay=0.7))


def finetune_convnext_small() -> Finetune:
    """83.7 from a2mim_convnext_small, 83.2 from simmim_convnext_small."""
    return _finetune_convnext("convnext_small", 0.4)


def finetune_convnext_base() -> Finetune:
    """84.1 from a2mim_convnext_base, 83.6 from simmim_convnext_base."""
    return _finetune_convnext("convnext_base", 0.5)


# ------------------------------------------------------------------------------------------- supervised from scratch


def _timm(recipe: Finetune) -> Finetune:
    """timm's rule: the cosine over the whole training, and the warm-up to its peak, where the rate then falls."""
    return replace(recipe, optim=replace(recipe.optim, cosine_from="start", warmup_to="peak"))


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
    optim = replace(settings.optim, warmup_epochs=20.0, cosine_from="warmup", warmup_to="peak")
    return replace(settings, optim=optim, loop=replace(settings.loop, ema_warmup_epochs=0.0))
