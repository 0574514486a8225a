"""What a file or a run's record may say of its network: a model that timm has, and plain arguments. Never code.

A name such as `module:function` or `hf-hub:owner/model`, and arguments that are paths, are things to run, to fetch or
to open. They come from the command line alone, where somebody chose them; in a file they are refused with a sentence.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import timm

from a2mim.checkpoints.errors import CheckpointError
from a2mim.plain import printable

Check = Callable[[Any], bool]

LONGEST = 8
"""Stages of a network."""


class NotPlainError(CheckpointError):
    """A network that a file may not name."""


def plain_network(said: Mapping[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    """The model and the arguments for timm.create_model that a file or a run's record says.

    Args:
        said: {"architecture": name, and the arguments}, as JSON knows it.
        where: what says so, the beginning of a sentence.

    Raises:
        NotPlainError: anything but a model that timm has, and arguments of ARGUMENTS within their bounds.
    """
    name = said.get("architecture")
    if not isinstance(name, str) or not is_plain(name):
        raise NotPlainError(
            f"{where} names the network {shown(name)}, and only a model that timm has may be named there: what is code "
            "or has to be fetched is named on the command line, by you"
        )
    arguments = {key: value for key, value in said.items() if key != "architecture"}
    return name, plain_arguments(arguments, where)


def plain_arguments(arguments: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The arguments, lists as tuples. Raises NotPlainError for one that is not in ARGUMENTS, or out of its bounds."""
    for key, value in arguments.items():
        allowed = ARGUMENTS.get(key)
        if allowed is None or not (value is None or allowed(value)):
            what = "no argument that may be given there" if allowed is None else "nothing that this argument may be"
            raise NotPlainError(
                f"{where} gives its network the argument {shown(key)} = {shown(value)}, which is {what}: name the "
                "network and its arguments on the command line"
            )
    return {key: tuple(x) if isinstance(x, list) else x for key, x in arguments.items()}


def is_plain(name: str) -> bool:
    """Whether timm has a model of that name, with no tag or one that timm knows. Looks nothing up elsewhere."""
    if not re.fullmatch(r"[a-zA-Z0-9_]+(\.[a-zA-Z0-9_]+)?", name) or not timm.is_model(name):
        return False
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError:  # no such tag
        return False
    return True


def shown(value: Any) -> str:
    """A value of a file as one may print it."""
    text = printable(repr(value))
    return text if len(text) <= 80 else f"{text[:77]}…"


def parsed(text: str, where: str) -> Any:
    """JSON of a file. Raises CheckpointError where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where} is not valid JSON: the file is damaged") from error


# --- what an argument may be


def whole(low: int, high: int) -> Check:
    return lambda x: type(x) is int and low <= x <= high


def number(low: float, high: float) -> Check:
    return lambda x: type(x) in (int, float) and low <= x <= high  # NaN is nowhere between


def flag(x: Any) -> bool:
    return isinstance(x, bool)


def word(x: Any) -> bool:
    """A key of one of timm's own lists (of norms, activations …)."""
    return isinstance(x, str) and re.fullmatch(r"[a-z0-9_]{0,32}", x) is not None


def each(check: Check) -> Check:
    """One, or one for each stage."""
    return lambda x: check(x) or (isinstance(x, list | tuple) and 1 <= len(x) <= LONGEST and all(map(check, x)))


def pixels(x: Any) -> bool:
    """The part of timm's data configuration that says how images are shown; never where weights lie."""
    known: dict[str, Check] = {
        "mean": each(number(-10, 10)),
        "std": each(number(1e-6, 1e3)),
        "input_size": each(whole(1, 4096)),
        "crop_pct": number(0.01, 10),
        "crop_mode": word,
        "interpolation": word,
    }
    return isinstance(x, Mapping) and all(key in known and known[key](value) for key, value in x.items())


_size, _width, _count, _rate = whole(1, 4096), whole(1, 16384), whole(1, 256), number(0, 1)

ARGUMENTS: dict[str, Check] = {
    "num_classes": whole(0, 1_000_000),
    "in_chans": whole(1, 256),
    "img_size": each(_size),
    "patch_size": each(_size),
    "window_size": each(_size),
    "dynamic_img_size": flag,
    "strict_img_size": flag,
    "embed_dim": each(_width),
    "dims": each(_width),
    "channels": each(_width),
    "depth": _count,
    "depths": each(_count),
    "layers": each(_count),
    "num_heads": each(_count),
    "mlp_ratio": each(number(0.001, 64)),
    "cardinality": whole(1, 4096),
    "base_width": whole(1, 4096),
    "stem_width": whole(1, 4096),
    "stem_type": word,
    "output_stride": whole(1, 64),
    "avg_down": flag,
    "zero_init_last": flag,
    "qkv_bias": flag,
    "qk_norm": flag,
    "pre_norm": flag,
    "class_token": flag,
    "no_embed_class": flag,
    "reg_tokens": whole(0, 1024),
    "num_reg_tokens": whole(0, 1024),
    "stages": each(_count),
    "q_pool": whole(0, LONGEST),
    "dim": _width,
    "pretrained_window_sizes": each(whole(0, 4096)),
    "rope_temperature": number(1, 1e6),
    "use_grn": flag,
    "bottleneck": flag,
    "stem_chs": _width,
    "small_images": flag,
    "stem_padding": whole(0, 8),
    "bn_eps": number(0, 1),
    "pos_embed": word,
    "init_values": number(0, 100),
    "ls_init_value": number(0, 100),
    "global_pool": word,
    "fc_norm": flag,
    "use_fc_norm": flag,
    "head_norm_first": flag,
    "use_abs_pos_emb": flag,
    "use_rel_pos_bias": flag,
    "use_shared_rel_pos_bias": flag,
    "weight_init": word,
    "act_layer": word,
    "norm_layer": word,
    "aa_layer": word,
    "drop_rate": _rate,
    "drop_path_rate": _rate,
    "attn_drop_rate": _rate,
    "proj_drop_rate": _rate,
    "pos_drop_rate": _rate,
    "patch_drop_rate": _rate,
    "pretrained_cfg_overlay": pixels,
}
"""Arguments of timm's models that a file may give, and what each may be (or None). All of them are sizes, switches,
rates and words; none is a path, an address or the name of something to import."""

FORM = frozenset(
    {
        *("num_heads", "qkv_bias", "qk_norm", "pre_norm", "class_token", "no_embed_class", "init_values"),
        *("global_pool", "fc_norm", "use_fc_norm", "head_norm_first", "act_layer", "norm_layer", "aa_layer"),
        *("use_abs_pos_emb", "use_rel_pos_bias", "use_shared_rel_pos_bias", "rope_temperature"),
        *("avg_down", "stem_type", "stem_padding", "small_images", "bn_eps"),
    }
)
"""Those that are a network's own choice and no size: whoever names a model of its family means them as the file says,
for most leave every shape as it is."""
