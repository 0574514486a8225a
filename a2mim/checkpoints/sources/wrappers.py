"""Training files whose network lies behind a prefix, with the names of another source: the method is told here.

What the pre-training alone needs is left out by a rule that has a name.
"""

from a2mim.checkpoints.convert import Source
from a2mim.checkpoints.sources.common import (
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

WRAPPERS = (AUGNET, MOCO_V3, IBOT, DINO, SIMMIM, SPARK)
