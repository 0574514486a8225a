"""Vision transformers with rotary positions (timm's Eva), whose keys may be those of transformers without any.

timm writes its vit_*_patch16_rope_ape_224 by the very keys and shapes that the code of DeiT III writes. A name tells
which one a file is of: the user's, that in the file's settings or in the configuration beside it, the file's own.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import timm
import torch
from torch import Tensor

from a2mim.checkpoints.resize import square_side
from a2mim.shapes import shapes_alone

SCALES = {r"(blocks\.\d+)\.ls([12])\.gamma": r"\1.gamma_\2"}
"""The layer scale of timm's plain ViT → of its Eva."""

MARKS = ("blocks.0.gamma_1", "blocks.0.attn.q_bias", "norm_pre.weight")
"""One of them is a key of every such network whose keys another may have."""


@cache
def rotary() -> frozenset[str]:
    """timm's names of these networks."""
    return frozenset(timm.list_models(module="eva"))


@cache
def models() -> frozenset[str]:
    """The names of timm's models."""
    return frozenset(timm.list_models())


def is_rotary(name: str) -> bool:
    return name.partition(".")[0] in rotary()


def whole_names(text: str) -> list[str]:
    """timm's models that a text names by whole words, the longest name first."""
    return sorted(spans(text) & models(), key=len, reverse=True)


def spans(text: str) -> set[str]:
    """Words of a text, alone and joined with those behind them."""
    words = [word for word in re.split(r"[^a-z0-9]+", text.lower()[:200]) if word]
    return {"_".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1)}


def is_named(tensors: Mapping[str, Tensor], model: str, texts: Iterable[str]) -> bool:
    """Whether a file is said to be of a network with rotary positions, and has its keys.

    model: what the user calls it, which decides alone where that is a model of timm's; texts: what else may name it.
    """
    names = whole_names(model) or [name for text in texts for name in whole_names(text)]
    return any(is_rotary(name) and form(tensors).keys() == shortened(name).keys() for name in names)


def rivals(tensors: Mapping[str, Tensor]) -> list[str]:
    """Those whose keys and shapes are a file's, but for its number of patches and of classes."""
    if "patch_embed.proj.weight" not in tensors or not any(mark in tensors for mark in MARKS):
        return []
    wanted, depth = form(tensors), blocks(tensors)
    short = [name for name in sorted(rotary()) if shortened(name) == wanted]
    return [name for name in short if blocks(made(name).state_dict()) == depth]


def form(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Keys → shapes of the first block and of what stands before and behind; of positions whether the class token has
    one."""
    found: dict[str, Any] = {
        key: tuple(x.shape) for key, x in tensors.items() if not re.match(r"head\.|blocks\.(?!0\.)", key)
    }
    if len(positions := found.get("pos_embed", ())) == 3:
        found["pos_embed"] = (bool(square_side(positions[1])), positions[2])
    return found


def blocks(tensors: Mapping[str, Tensor]) -> int:
    return len({key.split(".")[1] for key in tensors if key.startswith("blocks.")})


@cache
def shortened(name: str) -> dict[str, Any]:
    """The form of a network, read off one block; empty for one that cannot be cut so."""
    try:
        return form(made(name, depth=1).state_dict())
    except Exception:  # a network's own code fails in any way at all
        return {}


def made(name: str, **arguments: Any) -> torch.nn.Module:
    with shapes_alone():
        return timm.create_model(name, **arguments)
