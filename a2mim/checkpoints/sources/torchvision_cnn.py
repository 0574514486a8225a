"""torchvision's EfficientNet, RegNet and MobileNet V3, whose shapes are those of one of timm's models by name.

timm writes the same blocks by what they do; here their layers are counted. What a block is is told by what it has: a
squeeze (block.N.fc1), and how many layers.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from a2mim.checkpoints.convert import Source, Tensors, rename, substitute
from a2mim.checkpoints.sources.common import HALF, IMAGENET

WHERE = "github.com/pytorch/vision, torchvision/models/{}.py"
LAYER = re.compile(r"(\d+)\.(\d+)\.(.*)")  # layer of a block, convolution (0) or norm (1), leaf
SQUEEZE = re.compile(r"(\d+)\.fc([12])\.(.*)")

# The convolutions of a block in their order, and their norms: by the number of them, whether the first is deep (one
# input channel: a depthwise block that does not expand).
FORMS: Mapping[str, tuple[str, ...]] = {
    "plain": ("conv",),
    "depthwise": ("conv_dw", "conv_pw"),
    "fused": ("conv_exp", "conv_pwl"),
    "inverted": ("conv_pw", "conv_dw", "conv_pwl"),
}


def form(convolutions: list[str], tensors: Tensors) -> tuple[str, ...]:
    """timm's names of a block's convolutions. convolutions: their weights' keys, in their order."""
    if len(convolutions) == 2:
        first = tensors[convolutions[0]]
        return FORMS["depthwise" if first.ndim == 4 and first.shape[1] == 1 else "fused"]
    return FORMS["plain" if len(convolutions) == 1 else "inverted"]


def block_names(block: str, tensors: Tensors) -> dict[str, str]:
    """Names of a block's layers behind `block.` → timm's."""
    prefix = f"{block}.block."
    layers = sorted(
        {int(found[1]) for key in tensors if key.startswith(prefix) and (found := LAYER.fullmatch(key[len(prefix) :]))}
    )
    weights = [f"{prefix}{n}.0.weight" for n in layers if f"{prefix}{n}.0.weight" in tensors]
    kinds = form(weights, tensors)
    names: dict[str, str] = {}
    # A damaged block has more or fewer layers than its form: what gets no name here is refused as unknown, or missing.
    for place, (number, kind) in enumerate(zip(layers, kinds, strict=False), start=1):
        names |= {f"{number}.0": kind, f"{number}.1": f"bn{place}"}
    squeezes = {found[1] for key in tensors if (found := SQUEEZE.fullmatch(key.removeprefix(prefix)))}
    for layer in squeezes:
        names |= {f"{layer}.fc1": "se.conv_reduce", f"{layer}.fc2": "se.conv_expand"}
    return names


def renamed_blocks(tensors: Tensors, places: Mapping[str, str]) -> Tensors:
    """Blocks under timm's names. places: a block's name here → there."""
    inside = {block: block_names(block, tensors) for block in places}

    def new_name(key: str) -> str:
        found = re.fullmatch(r"(features\.\d+(?:\.\d+)?)\.block\.(\d+\.\w+)\.(\w+)", key)
        if not found or found[1] not in places or found[2] not in inside[found[1]]:
            return key
        return f"{places[found[1]]}.{inside[found[1]][found[2]]}.{found[3]}"

    return rename(tensors, new_name)


# --- EfficientNet


def efficient_net(tensors: Tensors) -> Tensors:
    """features.0 is the stem, the last one the head, those between are timm's stages."""
    blocks = {found[1] for key in tensors if (found := re.match(r"(features\.\d+\.\d+)\.block\.", key))}
    places = {block: f"blocks.{int(block.split('.')[1]) - 1}.{block.split('.')[2]}" for block in blocks}
    last = max((int(key.split(".")[1]) for key in tensors if re.match(r"features\.\d+\.", key)), default=0)
    ends = {
        r"features\.0\.0\.(.*)": r"conv_stem.\1",
        r"features\.0\.1\.(.*)": r"bn1.\1",
        rf"features\.{last}\.0\.(.*)": r"conv_head.\1",
        rf"features\.{last}\.1\.(.*)": r"bn2.\1",
        r"classifier\.1\.(.*)": r"classifier.\1",
    }
    return substitute(renamed_blocks(tensors, places), ends)


EFFICIENT_NET = Source(
    "torchvision efficientnet",
    WHERE.format("efficientnet"),
    marks=(r"features\.0\.0\.weight", r"features\.1\.0\.block\.0\.0\.weight", r"classifier\.1\.weight"),
    unless=(r".*\.layer_scale",),
    finish=efficient_net,
    pixels=IMAGENET,
    models={
        **{f"efficientnet_b{n}": {} for n in range(5)},
        **{f"efficientnet_b{n}": {"bn_eps": 1e-3} for n in range(5, 8)},
        **{f"efficientnetv2_{size}": {"bn_eps": 1e-3} for size in "sml"},
    },
    tensors={
        **{f"efficientnet_b{n}": count for n, count in enumerate((360, 508, 508, 574, 706, 854, 986, 1200))},
        **{f"efficientnetv2_{size}": count for size, count in zip("sml", (782, 1120, 1548), strict=True)},
    },
)

EFFICIENT_NET_V2_L = replace(
    EFFICIENT_NET,
    # The only one that deep; torchvision trained it with other means than all of its others.
    marks=(*EFFICIENT_NET.marks, r"features\.6\.24\.block\.0\.0\.weight"),
    pixels=HALF,
    models={"efficientnetv2_l": EFFICIENT_NET.models["efficientnetv2_l"]},
)

# --- MobileNet V3

DEPTHS = {15: (1, 2, 3, 4, 2, 3), 11: (1, 2, 3, 2, 3)}
"""Number of blocks → how many timm has in each stage: large, small."""


def mobile_net(tensors: Tensors) -> Tensors:
    """features.1, 2 … are blocks in one list; timm has them in stages, and a last stage of one convolution."""
    numbers = sorted({int(found[1]) for key in tensors if (found := re.match(r"features\.(\d+)\.block\.", key))})
    depths = DEPTHS.get(len(numbers), (len(numbers),))
    there = [f"blocks.{stage}.{place}" for stage, depth in enumerate(depths) for place in range(depth)]
    places = {f"features.{number}": name for number, name in zip(numbers, there, strict=True)}
    last = max(numbers, default=0) + 1
    ends = {
        r"features\.0\.0\.(.*)": r"conv_stem.\1",
        r"features\.0\.1\.(.*)": r"bn1.\1",
        rf"features\.{last}\.0\.(.*)": rf"blocks.{len(depths)}.0.conv.\1",
        rf"features\.{last}\.1\.(.*)": rf"blocks.{len(depths)}.0.bn1.\1",
        r"classifier\.0\.(.*)": r"conv_head.\1",
        r"classifier\.3\.(.*)": r"classifier.\1",
    }
    made = substitute(renamed_blocks(tensors, places), ends)
    head = made.get("conv_head.weight")
    return made if head is None or head.ndim != 2 else made | {"conv_head.weight": head[:, :, None, None]}


MOBILE_NET = Source(
    "torchvision mobilenet v3",
    WHERE.format("mobilenetv3"),
    marks=(r"features\.0\.0\.weight", r"features\.1\.block\.0\.0\.weight", r"classifier\.3\.weight"),
    finish=mobile_net,
    pixels=IMAGENET,
    models={f"mobilenetv3_{size}_100": {"bn_eps": 1e-3} for size in ("large", "small")},
)

# --- RegNet

BLOCK = r"trunk_output\.block(\d)\.block\d-(\d+)"
REGNET_NAMES = {
    r"stem\.0\.(.*)": r"stem.conv.\1",
    r"stem\.1\.(.*)": r"stem.bn.\1",
    **{rf"{BLOCK}\.f\.{x}\.0\.(.*)": rf"s\1.b\2.conv{n}.conv.\3" for n, x in enumerate("abc", 1)},
    **{rf"{BLOCK}\.f\.{x}\.1\.(.*)": rf"s\1.b\2.conv{n}.bn.\3" for n, x in enumerate("abc", 1)},
    rf"{BLOCK}\.f\.se\.(fc[12])\.(.*)": r"s\1.b\2.se.\3.\4",
    rf"{BLOCK}\.proj\.0\.(.*)": r"s\1.b\2.downsample.conv.\3",
    rf"{BLOCK}\.proj\.1\.(.*)": r"s\1.b\2.downsample.bn.\3",
    r"fc\.(.*)": r"head.fc.\1",
}


def counted_from_one(tensors: Tensors) -> Tensors:
    """Blocks of a stage are counted from 0 there, from 1 in timm."""
    return rename(tensors, lambda key: re.sub(r"^(s\d\.b)(\d+)", lambda found: f"{found[1]}{int(found[2]) + 1}", key))


REGNETS = {
    "y": {"004": 384, "008_tv": 340, "016": 626, "032": 494, "080_tv": 406, "160": 428, "320": 472, "1280": 626},
    "x": {"004_tv": 428, "008": 320, "016": 356, "032": 482, "080": 446, "160": 428, "320": 446},
}
"""Kind → size → number of tensors. Three of torchvision's have other widths than the paper's, and timm has both."""

REGNET = Source(
    "torchvision regnet",
    WHERE.format("regnet"),
    marks=(r"stem\.0\.weight", r"trunk_output\.block1\.block1-0\.f\.a\.0\.weight"),
    names=REGNET_NAMES,
    finish=counted_from_one,
    pixels=IMAGENET,
    models={f"regnet{kind}_{size}": {} for kind, sizes in REGNETS.items() for size in sizes},
    tensors={f"regnet{kind}_{size}": count for kind, sizes in REGNETS.items() for size, count in sizes.items()},
)

NAMED = (EFFICIENT_NET_V2_L, EFFICIENT_NET, MOBILE_NET, REGNET)
