"""Detection on COCO (Lin et al. 2014; train2017 to train on, val2017 to validate, 80 categories), and on 256 pictures
of it.

Reproduces the rows of A²MIM's table (Li et al., ICML 2023), as far as torchvision's detectors allow:

                    schedule  the row is                     box AP  mask AP  as stated by
    resnet50_2x     2×        A²MIM, ResNet-50, C4           39.8    34.9     the paper (at Papers with Code)
    vit_base_1x     1×        A²MIM, ViT-B                   49.4    43.5     the paper (at Papers with Code)
    resnet50_1x     1×        supervised ResNet-50, FPN      38.6    35.2     Detectron2, MODEL_ZOO.md
    vitdet_base_1x  1×        MAE, ViTDet-B, 100 epochs      51.6    45.9     Detectron2, projects/ViTDet/README.md

None of these was run here. What the numbers are from, each compared with the released file:

    resnet50_2x     A2MIM's release, det_detectron2/configs/coco_R_50_C4_2x.yaml, which is facebookresearch/moco's
                    (as is Base-RCNN-C4-BN.yaml, from which the last two facts are; A2MIM's
                    coco_R_50_C4_2x_moco.yaml beside it has a longer side of 1200, MoCo's 1333, as here):
                    180,000 steps of 16 pictures, rate 0.02, a tenth of it at 120,000 and 160,000, shorter sides 640 to
                    800, nothing frozen, batch norms trained (on several GPUs: --sync-bn)
    vit_base_1x     A2MIM's release, det_mmdetection/configs/coco/mask-rcnn_vit_base_giou_4conv1f_1x_coco.py: AdamW
                    3e-4 for 16 pictures, weight decay 0.05 (not of norms and positions), drop path 0.2, 500 steps of
                    warm-up from 1e-3 of the rate, a tenth of it at epochs 9 and 11
    resnet50_1x     Detectron2, configs/Base-RCNN-FPN.yaml: 90,000 steps of 16, a tenth at 60,000 and 80,000, the same
                    sides, frozen batch norms
    vitdet_base_1x  Detectron2, projects/ViTDet/configs/COCO/mask_rcnn_vitdet_b_100ep.py and what it takes from
                    configs/common/optim.py: AdamW 1e-4 for 64 pictures, weight decay 0.1 (not of norms and positions),
                    layer decay 0.7, drop path 0.1, 250 steps of warm-up, a tenth at 8/9 and 26/27 of the way,
                    large-scale jitter to 1024 px; attention in windows of 14 × 14 patches but for blocks 2, 5, 8 and 11
                    (configs/common/models/mask_rcnn_vitdet.py); 12 epochs, not its 100

Known differences: FPN stands for C4 (torchvision's heads see levels, not ResNet's last stage); whole epochs stand for
steps (12 and 24 of 117,266 pictures with instances are 87,948 and 175,896 steps of 16); in resnet50_1x the first two
stages are trained, too. Of both ViTs the heads there have four convolutions and norms, torchvision's two linear layers,
and vit_base_1x's there learns boxes by GIoU. Biases do not decay, where Detectron2 exempts norms and positions alone.
ViTDet adds relative positions to its attention, which start at zero, and drops the class token; here there are none of
the first, and every window sees the second. vit_base_1x is the paper's ViT-B as it is pre-trained (BEiT's: relative and
absolute positions, which the release's file for detection switches off; images of one size), so that every picture is
padded to 1024 px, after ViTDet's jitter in place of sides from 480 to 800, and its last map becomes the levels, where
the release gives four blocks of one stride to FPN; every block attends to the whole picture, as there.

Costs. Detectron2 states 0.261 s a step on eight V100 for resnet50_1x, 6.5 hours; twice that for resnet50_2x; 0.314 s a
picture of each of its GPUs for ViTDet-B. For vit_base_1x nothing is stated: 88,000 steps of 16 pictures of 1024 px.

`small` is for a processor: boxes on coco-256 (98 of its training pictures hold instances), the network as it is. It
takes 549 seconds of one and reaches a box AP of 0.01 % (experiments/results/coco): the path runs, nothing is learnt.

Commands (a2mim may be torchrun --nproc-per-node 8 --no-python a2mim):

    a2mim detect --recipe coco:resnet50_2x --weights runs/a2mim-resnet50 --data coco --out runs/coco-r50
    a2mim detect --recipe coco:vit_base_1x --weights runs/a2mim-vit-base --data coco --accumulate 4 --out runs/coco-vit
    a2mim detect --recipe coco:small --model tf_efficientnet_lite0 --weights efficientnet-lite0.pth \\
        --data coco-256.tar --out runs/coco-256
    a2mim reproduce transfer --coco coco-256.tar    # small, with these weights and with random ones
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.commands.detect import Settings

_PICTURES = 117_266
"""Of train2017, those with instances."""
_SIDES = (640, 672, 704, 736, 768, 800)


def resnet50_1x() -> Settings:
    """ResNet-50 with FPN, 12 epochs, batch normalisation as it was pre-trained."""
    return _resnet50(12, (60_000, 80_000), frozen_norms=True)


def resnet50_2x() -> Settings:
    """ResNet-50 with FPN, 24 epochs, batch normalisation trained."""
    return _resnet50(24, (120_000, 160_000), frozen_norms=False)


def vit_base_1x() -> Settings:
    """The paper's ViT-B with ViTDet's simple feature pyramid, 12 epochs of large-scale jitter."""
    from experiments.recipes.imagenet.common import VIT_BASE

    kept = tuple(word for word in VIT_BASE.model_args if not word.startswith("drop_path_rate"))
    rates = {"lr": 3e-4, "warmup_lr": 3e-7, "weight_decay": 0.05, "milestones": (9.0, 11.0)}
    return _vit_base(VIT_BASE.model, (*kept, "drop_path_rate=0.2"), 16, 500, pad=True, **rates)


def vitdet_base_1x() -> Settings:
    """ViT-B with ViTDet's simple feature pyramid and its rates, 12 epochs of large-scale jitter."""
    milestones = (12 * 8 / 9, 12 * 26 / 27)
    rates = {"lr": 1e-4, "warmup_lr": 1e-7, "weight_decay": 0.1, "layer_decay": 0.7, "milestones": milestones}
    made = _vit_base("vit_base_patch16_224", ("drop_path_rate=0.1",), 64, 250, pad=False, **rates)
    return replace(made, detecting=replace(made.detecting, window=14))  # window_size of mask_rcnn_vitdet.py


def small() -> Settings:
    """Boxes on coco-256 (128 pictures to train on) with the network as it is, for a processor."""
    from a2mim.detect.settings import Coco, Detecting, Frames
    from a2mim.settings import Loop, Optim
    from experiments.commands.detect import Settings

    return Settings(
        data=Coco(annotated_only=True, workers=0),
        frames=Frames((128,), 192),
        detecting=Detecting("faster_rcnn", anchors=(8, 16, 32, 64, 128), regions=64, frozen=True),
        optim=Optim(epochs=6, lr=1e-3, lr_batch=8, warmup_epochs=1.0, weight_decay=0.01, clip_grad=1.0),
        loop=Loop(batch=8, channels_last=True, evaluate_every=6, log_every=10, save_every=1000, keep=1),
    )


def _resnet50(epochs: int, steps: tuple[int, int], frozen_norms: bool) -> Settings:
    from a2mim.detect.settings import Coco, Detecting, Frames
    from a2mim.settings import Loop, Network, Optim
    from experiments.commands.detect import Settings

    per_epoch = _PICTURES // 16
    return Settings(
        network=Network(model="resnet50"),
        data=Coco(drop_empty=True, annotated_only=True),
        frames=Frames(_SIDES, 1333),
        detecting=replace(Detecting(), frozen_norms=frozen_norms),
        optim=Optim(
            epochs=epochs,
            optimizer="momentum",
            lr=0.02,
            lr_batch=16,
            weight_decay=1e-4,
            schedule="multistep",
            milestones=tuple(step / per_epoch for step in steps),
            warmup_epochs=1000 / per_epoch,
            warmup_lr=2e-5,
        ),
        loop=Loop(batch=16, precision="bf16", evaluate_every=12),
    )


def _vit_base(model: str, arguments: tuple[str, ...], batch: int, warmup: int, pad: bool, **rates: Any) -> Settings:
    """warmup: in steps. rates: of Optim."""
    from a2mim.detect.settings import Coco, Frames
    from a2mim.settings import Loop, Network, Optim
    from experiments.commands.detect import Settings

    return Settings(
        network=Network(model, arguments),
        data=Coco(drop_empty=True, annotated_only=True),
        frames=Frames((1024,), 1024, crop=(1024, 1024), scale=(0.1, 2.0), pad=pad),
        optim=Optim(
            epochs=12,
            optimizer="adamw",
            lr_batch=batch,
            schedule="multistep",
            warmup_epochs=warmup / (_PICTURES // batch),
            **rates,
        ),
        loop=Loop(batch=batch, precision="bf16", evaluate_every=12),
    )
