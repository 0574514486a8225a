"""Segmentation of CamVid (Brostow et al. 2009; 367 road scenes to train on, 101 to validate, 11 classes, void ignored).

Compares weights of one network by what a decoder makes of them: the linear decoder on the frozen network, the same
fine-tuned, and FPN fine-tuned, the network at a tenth of the decoder's rate. Pictures are 320×240 px, crops 224×320 at
scales from 0.75 to 1.5.

Reached, EfficientNet-Lite0, one seed (experiments/results/camvid), mIoU with ImageNet weights and with random ones:

    linear              39.9    15.9
    linear_finetuned    45.3    19.4
    fpn                 54.9    24.1

Costs. 180 steps of 8 pictures and 101 pictures of evaluation: `linear` 100 to 105 seconds of a processor,
`linear_finetuned` 333 to 378, `fpn` 603 to 731.

Commands (with random weights: --weights random, and another --out):

    a2mim segment --recipe camvid:linear --model tf_efficientnet_lite0 --weights efficientnet-lite0.pth \\
        --data camvid-320.tar --out runs/camvid-trained
    a2mim transfer runs/camvid-random runs/camvid-trained --out camvid
    a2mim reproduce transfer --camvid camvid-320.tar    # all of these, with both weights
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.commands.segment import Settings

_VOID = 11


def linear() -> Settings:
    """The linear decoder on the network as it is."""
    return _settings("linear", frozen=True)


def linear_finetuned() -> Settings:
    """The linear decoder, and the network trained with it at a tenth of its rate."""
    return _settings("linear", frozen=False)


def fpn() -> Settings:
    """FPN on four stages, and the network trained with it at a tenth of its rate."""
    return _settings("fpn", frozen=False)


def _settings(decoder: str, frozen: bool) -> Settings:
    from a2mim.segment.settings import Crops, Decoding, Scenes
    from a2mim.settings import Loop, Optim
    from experiments.commands.segment import Settings

    return Settings(
        data=Scenes(ignore=(_VOID,), workers=0),
        crops=Crops(crop=(224, 320), short_side=240, scale=(0.75, 1.5)),
        decoding=Decoding(decoder=decoder, frozen=frozen),  # type: ignore[arg-type]
        optim=Optim(epochs=4, lr=3e-3, lr_batch=8, backbone_rate=0.1, warmup_epochs=1.0, weight_decay=0.01),
        loop=Loop(batch=8, channels_last=True, evaluate_every=4, log_every=10, save_every=200, keep=1),
    )
