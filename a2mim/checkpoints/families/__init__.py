"""The families of timm's models (and of this project's few own ones) that shapes tell, one file each."""

from collections.abc import Callable

from a2mim.checkpoints.families import beit, cnn, eva, hiera, swin, vit
from a2mim.checkpoints.families.common import Architecture, Tensors
from a2mim.checkpoints.read import Checkpoint

FAMILIES: tuple[tuple[Callable[[Tensors], bool], Callable[[Checkpoint], Architecture]], ...] = (
    (beit.is_beit, beit.describe_beit),
    (hiera.is_hiera, hiera.describe_hiera),
    (vit.is_vit, vit.describe_vit),
    (vit.is_parallel, vit.describe_parallel),
    (vit.has_conv_stem, vit.describe_conv_stem),
    (eva.is_dinov3, eva.describe_dinov3),
    (swin.is_swin, swin.describe_swin),
    (swin.is_swin_v2, swin.describe_swin_v2),
    (cnn.is_resnet, cnn.describe_resnet),
    (cnn.is_convnext, cnn.describe_convnext),
    (cnn.is_isotropic, cnn.describe_isotropic),
)
