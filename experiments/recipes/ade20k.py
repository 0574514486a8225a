"""Segmentation of ADE20K (Zhou et al. 2017; SceneParsing: 20,210 pictures to train on, 2,000 to validate, 150 classes;
the value 0 of an annotation is none of them).

Reproduces the row of A²MIM (Li et al., ICML 2023), as far as segmentation_models_pytorch's decoder allows, and the
linear decoder that tells backbones apart:

                       schedule         the row is               mIoU    as stated by
    upernet_vit_base   160,000 steps    A²MIM, ViT-B, UperNet    49.0    the paper (at Papers with Code)
                                        MAE, ViT-B, UperNet      48.13   mmsegmentation, configs/mae
    linear_vit_base    80,000 steps     a linear decoder         -       nobody, at this schedule

None of them was run here. What the numbers are from:

    upernet_vit_base   A2MIM's release, seg_mmsegmentation/configs/ade20k/upernet_mae_base_8x2_512x512_160k_ade20k.py:
                       16 pictures, AdamW 1e-4, weight decay 0.05, layer decay 0.65, drop path 0.1, 1,500 steps of
                       warm-up from 1e-6 of the rate, then along a line to 0; scales 0.5 to 2 of a shorter side of 512
                       px, crops of 512, windows that go on by 341 px. (upernet_beit_base_8x2_512x512 beside it is the
                       same with 4e-4.)
    linear_vit_base    the linear evaluation of DINOv2 (Oquab et al. 2023, dinov2_vitb14_ade20k_linear_config.py): batch
                       norm and one 1×1 convolution, AdamW 1e-3, weight decay 1e-4, the same warm-up and line, crops of
                       512; for 80,000 steps, mmsegmentation's schedule_80k, where DINOv2 takes 40,000

Known differences: whole epochs stand for steps (127 and 63 of 1,263 steps are 160,401 and 79,569); no auxiliary head
(weight 0.4 there); the decoder is 256 wide, not 768; blocks 3, 6, 9 and 12, not 4, 6, 8 and 12; crops may hold one
class alone; torchvision's colour jitter stands for mmsegmentation's, which is stronger. The network is the paper's
ViT-B (BEiT's: relative positions of 512 px); a backbone of another kind: --model.

Costs. mmsegmentation states 9.96 GB of each of eight GPUs for upernet_vit_base, and no time: 2.6 million crops of 512
px through the network, forward and back. linear_vit_base: 1.3 million, forward alone.

Commands (ADE20K as it is published, the folder ADEChallengeData2016; a2mim may be torchrun --nproc-per-node 8
--no-python a2mim):

    a2mim segment --recipe ade20k:upernet_vit_base --weights runs/a2mim-vit-base --data ade20k --out runs/ade
    a2mim segment --recipe ade20k:linear_vit_base --weights runs/a2mim-vit-base --data ade20k --out runs/linear
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.commands.segment import Settings

_PER_EPOCH = 20_210 // 16
_WARMUP = 1500 / _PER_EPOCH


def upernet_vit_base() -> Settings:
    """UperNet on ViT-B, fine-tuned with layer decay, 127 epochs."""
    return _settings("upernet", frozen=False, epochs=127, lr=1e-4, weight_decay=0.05, layer_decay=0.65, path=0.1)


def linear_vit_base() -> Settings:
    """The linear decoder on ViT-B as it is, 63 epochs."""
    return _settings("linear", frozen=True, epochs=63, lr=1e-3, weight_decay=1e-4)


def _settings(
    decoder: str, frozen: bool, epochs: int, lr: float, weight_decay: float, layer_decay: float = 1.0, path: float = 0.0
) -> Settings:
    from a2mim.segment.settings import Crops, Decoding, Scenes
    from a2mim.settings import Loop, Network, Optim
    from experiments.commands.segment import Settings
    from experiments.recipes.imagenet.common import VIT_BASE

    arguments = [word for word in VIT_BASE.model_args if not word.startswith("drop_path_rate")]
    return Settings(
        network=Network(VIT_BASE.model, (*arguments, f"drop_path_rate={path:g}")),
        data=Scenes(first_class=1, ignore=(0,)),
        crops=Crops(crop=(512, 512), scale=(0.5, 2.0)),
        decoding=Decoding(decoder=decoder, frozen=frozen, evaluate="slide"),  # type: ignore[arg-type]
        optim=Optim(
            epochs=epochs,
            optimizer="adamw",
            lr=lr,
            lr_batch=16,
            weight_decay=weight_decay,
            layer_decay=layer_decay,
            schedule="poly",
            cosine_from="start",
            warmup_epochs=_WARMUP,
            warmup_to="schedule",
            warmup_lr=1e-6 * lr,
        ),
        loop=Loop(batch=16, precision="bf16", evaluate_every=epochs),
    )
