"""Training files whose network lies behind a prefix, with the names of another source: the method is told here.

What the pre-training alone needs is left out by a rule that has a name.
"""

from a2mim.checkpoints.convert import Source
from a2mim.checkpoints.sources.common import (
    ANY,
    DECODER,
    IMAGENET,
    LEAF,
    MASK_TOKEN,
    NORM_LEAF,
    PROJECTOR,
    VIT_EPS,
)

MOCO_V3 = Source(
    "moco v3",
    "github.com/facebookresearch/moco-v3, moco/builder.py",
    marks=(r"base_encoder\..*",),
    prefix=r"base_encoder\.",
    inner=True,
    drops={
        rf"predictor\.\d+\.{NORM_LEAF}": PROJECTOR,
        rf"base_encoder\.(head|fc)\.\d+\.{NORM_LEAF}": PROJECTOR,
    },
    norm_eps=VIT_EPS,
    pixels=IMAGENET,
)

DINO_HEAD = {
    rf"head\.mlp2?(\.\d+)?\.{NORM_LEAF}": PROJECTOR,
    r"head\.last_layer2?\.(weight|bias|weight_[gv]|parametrizations\.weight\.original[01])": PROJECTOR,
    rf"head\.last_norm2?\.{NORM_LEAF}": PROJECTOR,
}
MULTI_CROP = r"backbone\."
IBOT_MASK = {r"(backbone\.)?masked_embed": MASK_TOKEN}

IBOT = Source(
    "ibot",
    "github.com/bytedance/ibot, models/head.py and models/vision_transformer.py",
    marks=(r"(backbone\.)?masked_embed|head\.last_layer2\..*",),
    prefix=MULTI_CROP,
    inner=True,
    drops={**DINO_HEAD, **IBOT_MASK},
    norm_eps=VIT_EPS,
    positions="dino",
    pixels=IMAGENET,
)
DINO = Source(
    "dino",
    "github.com/facebookresearch/dino, utils.py and vision_transformer.py",
    marks=(r"head\.(mlp|last_layer).*", r"backbone\..*"),
    prefix=MULTI_CROP,
    inner=True,
    drops=DINO_HEAD,
    norm_eps=VIT_EPS,
    positions="dino",
    pixels=IMAGENET,
)

SIMMIM = Source(
    "simmim",
    "github.com/microsoft/SimMIM, models/simmim.py",
    marks=(r"encoder\.(blocks\.0\.attn\.(q_bias|qkv\.weight)|layers\.0\.blocks\.0\.attn\.qkv\.weight)",),
    unless=(r"encoder\.stages\..*",),
    prefix=r"encoder\.",
    inner=True,
    drops={r"encoder\.mask_token": MASK_TOKEN, rf"decoder\.0\.{LEAF}": DECODER},
    pixels=IMAGENET,
)

SPARK = Source(
    "spark",
    "github.com/keyu-tian/SparK, pretrain/spark.py and encoder.py",
    marks=(r"sparse_encoder\.sp_cnn\..*",),
    prefix=r"sparse_encoder\.sp_cnn\.",
    inner=True,
    drops={
        rf"densify_(norms|projs)\.\d+\.{NORM_LEAF}": DECODER,
        rf"dense_decoder\.(\w+\.)*{NORM_LEAF}": DECODER,
        r"mask_tokens\.\d+": MASK_TOKEN,
        r"imn_[ms]|norm_black": "pixel constants of the pre-training",
    },
    pixels=IMAGENET,
)

# --- contrastive and clustering methods: `read` puts the momentum encoder in the other's place where it is asked for.

QUEUE = "queue of the contrastive loss"
BESIDE = "linear classifier that was trained beside the network, without influence on it"
HEADS = {
    rf"(\w+_)?(projector|projection|projection_head|prediction_head|predictor|prototypes)(_\w+)?\.{ANY}": (PROJECTOR),
    r"(\w+_)?queue(_\w+)?": QUEUE,
    rf"(momentum_|online_)?(classifier|linear)(_\w+)?\.{ANY}": BESIDE,
    rf"criterion\.{ANY}|loss_?\w*\.{ANY}": "buffers of the loss",
}
SOLO_AND_LIGHTLY = {**HEADS, r"backbone\.mask_token": MASK_TOKEN, rf"decoder\.{ANY}": DECODER}

MOCO = Source(
    "moco",
    "github.com/facebookresearch/moco, moco/builder.py",
    marks=(r"encoder_q\..*",),
    prefix=r"encoder_q\.",
    inner=True,
    drops={rf"encoder_q\.fc\.{ANY}": PROJECTOR, r"queue(_ptr)?": QUEUE},
    pixels=IMAGENET,
)
SWAV = Source(
    "swav",
    "github.com/facebookresearch/swav, src/resnet50.py",
    marks=(r"projection_head\..*", r"prototypes\..*"),
    unless=(r"backbone\..*",),
    inner=True,
    drops=HEADS,
    pixels=IMAGENET,
)
BARLOW_TWINS = Source(
    "barlow twins",
    "github.com/facebookresearch/barlowtwins, main.py",
    marks=(r"backbone\..*", r"projector\..*", r"bn\.running_mean"),
    prefix=r"backbone\.",
    inner=True,
    drops={rf"projector\.{ANY}": PROJECTOR, rf"bn\.{NORM_LEAF}": PROJECTOR},
    pixels=IMAGENET,
)
VICREG = Source(
    "vicreg",
    "github.com/facebookresearch/vicreg, main_vicreg.py",
    marks=(r"backbone\..*", r"projector\..*"),
    unless=(r"(classifier|momentum_\w+|predictor|prototypes)\..*",),
    prefix=r"backbone\.",
    inner=True,
    drops={rf"projector\.{ANY}": PROJECTOR},
    pixels=IMAGENET,
)
SIMCLR = Source(
    "simclr",
    "github.com/sthalles/SimCLR, models/resnet_simclr.py",
    marks=(r"backbone\.fc\.0\.weight", r"backbone\.fc\.2\.weight"),
    prefix=r"backbone\.",
    inner=True,
    drops={rf"backbone\.fc\.[02]\.{LEAF}": PROJECTOR},
    pixels=IMAGENET,
)
SOLO_LEARN = Source(
    "solo-learn",
    "github.com/vturrisi/solo-learn, solo/methods/base.py",
    marks=(r"backbone\..*", r"classifier\.weight"),
    beside=("pytorch-lightning_version",),
    prefix=r"backbone\.",
    inner=True,
    drops=SOLO_AND_LIGHTLY,
)
LIGHTLY = Source(
    "lightly",
    "github.com/lightly-ai/lightly, examples and lightly/models",
    marks=(r"backbone\..*", r"(projection_head|prediction_head|online_classifier|prototypes)\..*"),
    prefix=r"backbone\.(?:vit\.)?",
    inner=True,
    drops=SOLO_AND_LIGHTLY,
)
LIGHTNING = Source(
    "a Lightning module",
    "github.com/Lightning-AI/pytorch-lightning",
    marks=(r"backbone\..*",),
    beside=("pytorch-lightning_version",),
    prefix=r"backbone\.",
    inner=True,
    drops=SOLO_AND_LIGHTLY,
)
AVERAGED_MODEL = Source(
    # Says nothing of the method: torch.optim.swa_utils, which torchvision's training uses too.
    "",
    "github.com/pytorch/pytorch, torch/optim/swa_utils.py",
    marks=("n_averaged",),
    prefix=r"module\.",
    inner=True,
    drops={"n_averaged": "how many models were averaged"},
)
LINEAR_ALONE = Source(
    "linear classifier alone",
    "github.com/facebookresearch/dino, eval_linear.py; github.com/facebookresearch/moco-v3, main_lincls.py",
    marks=(r"(?:linear|fc|head|classifier)\.weight",),
    unless=(r"(?!(?:linear|fc|head|classifier)\.(?:weight|bias)$).*",),
    unread="a linear classifier alone, without the network whose features it reads: give the network's own file, and "
    "fit a classifier to it with --probe",
)

# What is left of `backbone.`: told by no method.
OTHER_BACKBONE = Source(
    "backbone of another project",
    "any training that calls its network `backbone`",
    marks=(r"backbone\..*",),
    prefix=r"backbone\.",
    inner=True,
    drops=HEADS,
)

# --- a network from a package

AUGNET = Source(
    "imgsim",
    "pypi.org/project/imgsim",
    marks=(r"pre\.conv1\.weight",),
    unless=(r"(?!pre\.).*",),
    prefix=r"pre\.",
    inner=True,
    drops={rf"pre\.fc\.{LEAF}": PROJECTOR},
    pixels=IMAGENET,
)

WRAPPERS = (
    AVERAGED_MODEL,
    LINEAR_ALONE,
    AUGNET,
    MOCO_V3,
    MOCO,
    IBOT,
    DINO,
    SIMMIM,
    SPARK,
    SWAV,
    BARLOW_TWINS,
    SOLO_LEARN,
    VICREG,
    SIMCLR,
    LIGHTLY,
    LIGHTNING,
)
