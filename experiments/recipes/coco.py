"""Detection on COCO (Lin et al. 2014; train2017 to train on, val2017 to validate, 80 categories), and on 256 pictures
of it.

Reproduces the rows of A²MIM's table (Li et al., ICML 2023), as far as torchvision's detectors allow:

                  schedule  the row is                  box AP  mask AP  as stated by
    resnet50_2x   2×        A²MIM, ResNet-50, C4        39.8    34.9     the paper (at Papers with Code)
    vit_base_1x   1×        A²MIM, ViT-B                49.4    43.5     the paper (at Papers with Code)
    resnet50_1x   1×        supervised ResNet-50, FPN   38.6    35.2     Detectron2, MODEL_ZOO.md

None of them was run here. What the numbers are from:

    resnet50_2x   facebookresearch/moco, detection/configs (coco_R_50_C4_2x.yaml, Base-RCNN-C4-BN.yaml), as A2MIM's
                  release follows MoCo: 180,000 steps of 16 pictures, rate 0.02, a tenth of it at 120,000 and 160,000,
                  shorter sides 640 to 800, nothing frozen, batch norms trained (on several GPUs: --sync-bn)
    resnet50_1x   Detectron2, configs/Base-RCNN-FPN.yaml: 90,000 steps of 16, a tenth at 60,000 and 80,000, the same
                  sides, frozen batch norms
    vit_base_1x   Detectron2, projects/ViTDet/configs/COCO/mask_rcnn_vitdet_b_100ep.py: AdamW, 64 pictures, layer decay
                  0.7, a tenth at 8/9 and 26/27 of the way, large-scale jitter to 1024 px; 12 epochs, not its 100

Known differences: FPN stands for C4 (torchvision's heads see levels, not ResNet's last stage); whole epochs stand for
steps (12 and 24 of 117,266 pictures with instances are 87,948 and 175,896 steps of 16); in resnet50_1x the first two
stages are trained, too; ViTDet's windows and relative positions are not timm's, so that every block of vit_base_1x
attends to the whole picture; its heads have four convolutions and layer norms, torchvision's two linear layers. A²MIM
released no configuration of its ViT-B row. Not compared with a released file: the rate 1e-4 and the weight decay 0.1 of
vit_base_1x, which that configuration takes from another one.

Costs. Detectron2 states 0.261 s a step on eight V100 for resnet50_1x, 6.5 hours; twice that for resnet50_2x. For
vit_base_1x nothing is stated: 22,000 steps of 64 pictures of 1024 px. `small` takes 192 steps of 8 pictures of 192 px,
a quarter of an hour of a processor by the count of its operations; it has not been run, and no AP is stated.

Commands (a2mim may be torchrun --nproc-per-node 8 --no-python a2mim):

    a2mim detect --recipe coco:resnet50_2x --weights runs/a2mim-resnet50 --data coco --out runs/coco-r50
    a2mim detect --recipe coco:vit_base_1x --weights runs/a2mim-vit-base --data coco --accumulate 4 --out runs/coco-vit
    a2mim detect --recipe coco:small --model tf_efficientnet_lite0 --weights efficientnet-lite0.pth \\
        --data coco-256.tar --out runs/coco-256
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

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
    """ViT-B with ViTDet's simple feature pyramid, 12 epochs of large-scale jitter."""
    from a2mim.detect.settings import Coco, Detecting, Frames
    from a2mim.settings import Loop, Network, Optim
    from experiments.commands.detect import Settings

    per_epoch = _PICTURES // 64
    return Settings(
        network=Network(model="vit_base_patch16_224", model_args=("drop_path_rate=0.1",)),
        data=Coco(drop_empty=True, annotated_only=True),
        frames=Frames((1024,), 1024, crop=(1024, 1024), scale=(0.1, 2.0)),
        detecting=Detecting(),
        optim=Optim(
            epochs=12,
            optimizer="adamw",
            lr=1e-4,
            lr_batch=64,
            weight_decay=0.1,
            layer_decay=0.7,
            schedule="multistep",
            milestones=(12 * 8 / 9, 12 * 26 / 27),
            warmup_epochs=250 / per_epoch,
            warmup_lr=1e-7,
        ),
        loop=Loop(batch=64, precision="bf16", evaluate_every=12),
    )


def small() -> Settings:
    """Boxes on coco-256 (128 pictures to train on) with the network as it is, for a processor."""
    from a2mim.detect.settings import Coco, Detecting, Frames
    from a2mim.settings import Loop, Optim
    from experiments.commands.detect import Settings

    return Settings(
        data=Coco(annotated_only=True, workers=0),
        frames=Frames((192,), 256),
        detecting=Detecting("faster_rcnn", anchors=(16, 32, 64, 128, 256), regions=64, frozen=True),
        optim=Optim(epochs=16, lr=1e-3, lr_batch=8, warmup_epochs=1.0, weight_decay=0.01, clip_grad=1.0),
        loop=Loop(batch=8, evaluate_every=16, log_every=10, save_every=1000, keep=1),
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
