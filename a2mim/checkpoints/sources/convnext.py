"""ConvNeXt in the original's names, and as SparK pre-trains it: without a last norm."""

import torch

from a2mim.checkpoints.convert import Source, Tensors
from a2mim.checkpoints.resize import square_side
from a2mim.checkpoints.sources.common import ANY, DECODER, IMAGENET, LEAF, MASK_TOKEN

EPS = {"": 1e-6}

STAGE_NAMES = {
    r"downsample_layers\.0\.(\d)\.(.*)": r"stem.\1.\2",
    r"downsample_layers\.([123])\.(\d)\.(.*)": r"stages.\1.downsample.\2.\3",
    r"stages\.(\d)\.(\d+)\.(?:dwconv|depthwise_conv)\.(.*)": r"stages.\1.blocks.\2.conv_dw.\3",
    r"stages\.(\d)\.(\d+)\.(?:pwconv|pointwise_conv)([12])\.(.*)": r"stages.\1.blocks.\2.mlp.fc\3.\4",
    r"stages\.(\d)\.(\d+)\.(norm\..*|gamma)": r"stages.\1.blocks.\2.\3",
}
NAMES = {**STAGE_NAMES, r"norm\.(.*)": r"head.norm.\1", rf"(?:head|fc)\.{LEAF}": r"head.fc.\1"}
MARKS = (r"downsample_layers\.0\.0\.weight", r"stages\.0\.0\.dwconv\.weight")
WHERE = "github.com/facebookresearch/ConvNeXt, models/convnext.py"

NO_LAST_NORM = "last norm, which the pre-training has not: ones and zeros, as its fine-tuning begins"


def with_last_norm(tensors: Tensors) -> Tensors:
    """A last norm as it is made, of the width and precision of the last block's norm."""
    like = [x for key, x in tensors.items() if key.startswith("stages.3.") and key.endswith(".norm.weight")]
    if not like:
        return tensors
    return tensors | {"head.norm.weight": torch.ones_like(like[-1]), "head.norm.bias": torch.zeros_like(like[-1])}


CONVNEXT = Source("convnext", WHERE, MARKS, (r"stages\.0\.0\.grn\..*",), names=NAMES, norm_eps=EPS, pixels=IMAGENET)
CONVNEXT_WITHOUT_LAST_NORM = Source(
    "spark's convnext",
    "github.com/keyu-tian/SparK, pretrain/models/convnext.py",
    MARKS,
    (r"norm\.weight", r"(head|fc)\.weight", r"stages\.0\.0\.grn\..*"),
    names=NAMES,
    finish=with_last_norm,
    fresh={r"head\.norm\.(weight|bias)": NO_LAST_NORM},
    norm_eps=EPS,
    pixels=IMAGENET,
)

# --- V2: github.com/facebookresearch/ConvNeXt-V2. Its global response norm has weights of 1×1×1×C, timm's of C.

SECOND_WHERE = "github.com/facebookresearch/ConvNeXt-V2, models/{}.py"
SECOND_NAMES = {
    **NAMES,
    r"stages\.(\d)\.(\d+)\.grn\.gamma": r"stages.\1.blocks.\2.mlp.grn.weight",
    r"stages\.(\d)\.(\d+)\.grn\.beta": r"stages.\1.blocks.\2.mlp.grn.bias",
}


def flat_vectors(tensors: Tensors) -> Tensors:
    """Biases and the global response norm as vectors."""
    return {
        key: x.flatten()
        if x.ndim > 1 and x.numel() == x.shape[-1] and (".mlp.grn." in key or key.endswith(".bias"))
        else x
        for key, x in tensors.items()
    }


CONVNEXT_V2 = Source(
    "convnext v2",
    SECOND_WHERE.format("convnextv2"),
    (*MARKS, r"stages\.0\.0\.grn\.gamma", r"norm\.weight"),
    names=SECOND_NAMES,
    finish=flat_vectors,
    norm_eps=EPS,
    pixels=IMAGENET,
)


def dense(tensors: Tensors) -> Tensors:
    """Kernels of MinkowskiEngine, (places, in, out) or (places, channels), as convolutions: places are counted down
    the columns."""
    made = {}
    for key, x in tensors.items():
        side = square_side(x.shape[0]) if key.endswith(".kernel") and x.ndim in (2, 3) else 0
        if side:
            cut = x.reshape(side, side, *x.shape[1:])  # column, row, …
            wanted = cut.permute(2, 1, 0)[:, None] if x.ndim == 2 else cut.permute(3, 2, 1, 0)
            made[f"{key.removesuffix('kernel')}weight"] = wanted.contiguous()
        else:
            made[key] = x
    return with_last_norm(flat_vectors(made))


FCMAE = Source(
    "fcmae",
    SECOND_WHERE.format("fcmae"),
    (r"encoder\.stages\.0\.0\.dwconv\.kernel", r"encoder\.stages\.0\.0\.grn\.gamma"),
    prefix=r"encoder\.",
    drops={
        r"mask_token": MASK_TOKEN,
        rf"(proj|pred)\.{LEAF}": DECODER,
        rf"decoder\.{ANY}": DECODER,
    },
    names={
        r"downsample_layers\.([123])\.0\.ln\.(.*)": r"stages.\1.downsample.0.\2",
        r"stages\.(\d)\.(\d+)\.norm\.ln\.(.*)": r"stages.\1.blocks.\2.norm.\3",
        r"stages\.(\d)\.(\d+)\.pwconv([12])\.linear\.(.*)": r"stages.\1.blocks.\2.mlp.fc\3.\4",
        **SECOND_NAMES,
    },
    finish=dense,
    fresh={r"head\.norm\.(weight|bias)": NO_LAST_NORM},
    norm_eps=EPS,
    pixels=IMAGENET,
)

# --- of one stage

ISOTROPIC = Source(
    "convnext of one stage",
    "github.com/facebookresearch/ConvNeXt, models/convnext_isotropic.py",
    (r"stem\.weight", r"blocks\.0\.dwconv\.weight"),
    names={
        r"blocks\.(\d+)\.dwconv\.(.*)": r"blocks.\1.conv_dw.\2",
        r"blocks\.(\d+)\.pwconv([12])\.(.*)": r"blocks.\1.mlp.fc\2.\3",
    },
    norm_eps=EPS,
    pixels=IMAGENET,
)

NAMED = (FCMAE, CONVNEXT_V2, CONVNEXT_WITHOUT_LAST_NORM, CONVNEXT, ISOTROPIC)
