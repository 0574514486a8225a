"""What ImageNet recipes share: the paper's ViTs, loops, and the learning rates of OpenMixup."""

from __future__ import annotations

from dataclasses import replace

from a2mim.settings import Loop, Network, Optim

IMAGENET_PIXELS = "pretrained_cfg_overlay={'mean': (0.485, 0.456, 0.406), 'std': (0.229, 0.224, 0.225)}"
# The paper's ViT: BEiT with absolute positions, relative position biases in every layer and LayerScale 0.1.
_VIT = (
    "use_abs_pos_emb=True",
    "use_rel_pos_bias=True",
    "init_values=0.1",
    "drop_path_rate=0.1",
    IMAGENET_PIXELS,
)
# Its ViT-S is 768 wide and 8 deep, with 48.8 million parameters; timm's vit_small is another network.
VIT_SMALL = Network("beit_base_patch16_224", (*_VIT, "depth=8", "num_heads=8", "mlp_ratio=3"))
VIT_BASE = Network("beit_base_patch16_224", _VIT)
VIT_LARGE = Network("beit_large_patch16_224", _VIT)

BF16 = Loop(batch=2048, precision="bf16", pictures_every=10)
FLOAT32 = replace(BF16, precision="float32")
CNN_LOOP = replace(FLOAT32, channels_last=True, sync_bn=True)

# OpenMixup's StepFixCosineAnnealing: no warm-up in the cosine, and a warm-up that is a share of what it gives.
# Both anneal each group of parameters, whatever its factor, to min_lr itself.
STEP_FIX = Optim(cosine_from="warmup", warmup_to="schedule", min_lr_scaled=False)
# mmcv's CosineAnnealing: over the whole training, and a warm-up that is a share of what it gives.
ANNEALING = Optim(cosine_from="start", warmup_to="schedule", min_lr_scaled=False)
