"""From a file to tensors under timm's names.

A file from the internet must not run code: pickles are read with `weights_only=True`, which knows tensors and plain
containers alone, and the harmless records listed in `inert`.
"""

import argparse
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from a2mim.bounds import Deviation, Mean, complaint
from a2mim.checkpoints.archive import TORCHSCRIPT, check_file, check_zip, is_zip, read_text
from a2mim.checkpoints.convert import Dropped, Pixels, Source, Tensors, drop
from a2mim.checkpoints.errors import CheckpointError, listed, sound
from a2mim.checkpoints.inert import INERT
from a2mim.checkpoints.positions import table_of
from a2mim.checkpoints.resize import PositionRule
from a2mim.checkpoints.sources import recognise
from a2mim.checkpoints.sources.common import IMAGENET
from a2mim.checkpoints.stated import number, parsed, shown, whole

# Where the tensors lie in a training checkpoint, the first that is there. Averaged weights come first, as in timm: they
# are what a run that kept them was evaluated with; of DINO's two networks the teacher is. (mmengine swaps before it
# saves: its average is in state_dict.)
CONTAINERS = (
    "state_dict_ema",
    "model_ema",
    "teacher",
    "student",
    "state_dict",
    "ema_state_dict",
    "model",
    "model_state",
    "model_state_dict",
    "module",
)

# What wrappers write in front of every key: DistributedDataParallel and torch.compile.
PREFIXES = ("module.", "_orig_mod.")

# Hugging Face's names of a network that is kept in several files, and of their index.
SHARD = re.compile(r"-\d{5}-of-\d{5}\.|\.index\.json$")

# What Hugging Face's hub calls a file of weights, with a config.json of its own beside it.
HUB_FILES = ("model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin")

# Buffers, which OpenMMLab's hook averages only when it is told to.
NEVER_AVERAGED = r"(running_mean|running_var|num_batches_tracked|_index|attn_mask|data_preprocessor\.(mean|std))$"
OTHER_COPY = "another copy of the network: the file's name with #{} behind it takes that one"


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a file under timm's names, and what the file was."""

    tensors: dict[str, Tensor]
    path: Path
    container: str
    """Key of the file's top level that held the tensors; empty for a flat file."""
    prefix: str
    """What was stripped from the front of every key."""
    source: str
    """Whose names the file used (see `sources`)."""
    dropped: Dropped = field(default_factory=dict)
    """Why → which keys of the file were left out."""
    copies: tuple[str, ...] = ()
    """Copies of the network in the file (student, teacher, average …), the one that was taken first."""
    norm_eps: Mapping[str, float] = field(default_factory=dict)
    """Beginning of module names → epsilon of the layer norms there."""
    heads: int | None = None
    """Number of attention heads, where the source has another than the shapes suggest."""
    positions: PositionRule = "bicubic"
    """How position embeddings are resized."""
    pixels: Pixels | None = None
    """Mean and deviation of the images that the network was trained with, where the file or its source tells them."""
    hints: tuple[str, ...] = ()
    """What the file and its source say about the name of the model."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What a safetensors file says about itself."""
    beside: tuple[str, ...] = ()
    """What else the file's top level holds (optimizer, epoch …)."""
    left_out: Mapping[str, Tensor] = field(default_factory=dict)
    """What a rule left out, under the file's own names (see `pretraining`, which reads decoders from it)."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the program that wrote the file, as far as it keeps them."""

    @property
    def architecture(self) -> dict[str, Any]:
        """The timm model that the file states ({"architecture": name, **arguments}); empty where it states none.

        It is what somebody wrote into a file, for `stated.plain_network` to judge. Raises CheckpointError where it is
        not of that form.
        """
        where = f"the metadata 'architecture' of checkpoint '{self.path}'"
        said = parsed(self.metadata.get("architecture", "{}"), where)
        if not isinstance(said, dict):
            raise CheckpointError(f"{where} names no network: name the model yourself")
        return said

    @property
    def classes(self) -> dict[str, int]:
        """The classes of the network, name -> number, as the file or its configuration states them; empty without."""
        stated = self.settings.get("id2label")
        if stated and not all(str(name).startswith("LABEL_") for name in stated.values()):
            return {str(name): int(number) for number, name in stated.items()}
        return json.loads(self.metadata.get("classes", "{}"))


def read(path: str | Path) -> Checkpoint:
    """Read a .safetensors file or a torch pickle (.pth, .pt, .bin) onto the CPU, running no code that it may hold.

    Of a file with several copies of the network one is named behind the path: `dino.pth#student`,
    `moco.pth#momentum_encoder`, `run.pth#model`, `openmixup.pth#ema`. Tensors of zip and safetensors files stay mapped
    to the file.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: not a checkpoint, damaged, with other things inside than plain tensors, without that copy.
    """
    path, copy = split_copy(path)
    content, metadata = read_file(path)
    with sound(path):
        return understood(content, metadata, path, copy)


def understood(content: Any, metadata: Mapping[str, str], path: Path, copy: str) -> Checkpoint:
    """What a file holds, under timm's names. Raises CheckpointError as `read` does."""
    container, tensors, copies = unwrap(content, path, copy)
    prefix, tensors = strip_prefixes(tensors)
    tensors, inner, others = choose_copy(tensors, "" if copy == container else copy)
    if copy and copy not in (container, *inner[:1]):
        known = ", ".join((*inner, *copies)) or "one alone, whose name is that of the file"
        raise CheckpointError(f"checkpoint '{path}' has no copy '{copy}' of the network: it has {known}")
    source = recognise(tensors)
    kept, dropped = drop(tensors, source.drops)
    converted = source.convert(kept)
    beside = json_beside(path, "config.json")
    config = beside if source.name == "hugging face" else {}
    return Checkpoint(
        converted,
        path,
        container,
        prefix,
        source.name,
        dropped | others,
        (*inner, *copies),
        norm_eps(metadata, config, path) or source.norm_eps,
        head_count(config, "num_attention_heads", path) or moco_heads(converted, metadata),
        source.positions,
        pixels(path, source, converted, metadata),
        tuple(name for name in (source.model, *hints(content, beside, path)) if name),
        metadata,
        tuple(str(key) for key in content if key != container) if container else (),
        {key: tensors[key] for keys in dropped.values() for key in keys},
        config or arguments(content),
    )


def split_copy(path: str | Path) -> tuple[Path, str]:
    """`file#copy` → (file, copy), unless a file of that whole name is there."""
    whole = Path(path)
    if "#" not in whole.name or whole.exists():
        return whole, ""
    name, _, copy = whole.name.rpartition("#")
    return whole.with_name(name), copy


def choose_copy(tensors: Tensors, copy: str) -> tuple[Tensors, tuple[str, ...], Dropped]:
    """Of two networks in one state dict the one to read: (its tensors, names of both with that one first, the others).

    MoCo v3 writes base_encoder and momentum_encoder; OpenMMLab's averaging hook writes a buffer `ema_a_b_weight` beside
    `a.b.weight`, which it exchanges with the weights around each evaluation.
    """
    pairs = {"base_encoder": "momentum_encoder"}
    for base, other in pairs.items():
        if not all(any(key.startswith(f"{name}.") for key in tensors) for name in (base, other)):
            continue
        taken, left = (other, base) if copy == other else (base, other)
        rest = {key: x for key, x in tensors.items() if not key.startswith((f"{base}.", f"{other}."))}
        ours = {f"{base}{key.removeprefix(taken)}": x for key, x in tensors.items() if key.startswith(f"{taken}.")}
        theirs = tuple(key for key in tensors if key.startswith(f"{left}."))
        if alone := [key for key in theirs if f"{base}{key.removeprefix(left)}" not in ours]:
            raise CheckpointError(f"{taken}, the copy to read, lacks what {left} has: {listed(alone)}")
        return ours | rest, (taken, left), {OTHER_COPY.format(left): theirs}
    averages = {f"ema_{key.replace('.', '_')}": key for key in tensors}
    found = {ema: key for ema, key in averages.items() if ema in tensors}
    if not found:
        return tensors, (), {}
    plain = {key: x for key, x in tensors.items() if key not in found}
    if copy == "ema":
        if alone := [key for key in plain if key not in found.values() and not re.search(NEVER_AVERAGED, key)]:
            raise CheckpointError(f"the average lacks {len(alone)} of the weights ({listed(alone)}): damaged?")
        others = tuple(found.values())
        plain |= {key: tensors[ema] for ema, key in found.items()}
        return plain, ("ema", "weights"), {OTHER_COPY.format("weights"): others}
    return plain, ("weights", "ema"), {OTHER_COPY.format("ema"): tuple(found)}


def arguments(content: Any) -> Mapping[str, Any]:
    """The command line that a training checkpoint keeps; empty without one."""
    args = content.get("args") or content.get("hyper_parameters")
    return vars(args) if isinstance(args, argparse.Namespace) else args if isinstance(args, Mapping) else {}


def hints(content: Any, config: Mapping[str, Any], path: Path) -> list[str]:
    """Names of a model that a training checkpoint's settings give, or timm's config.json beside a file of its hub."""
    settings = arguments(content)
    said = [content.get("arch"), *(settings.get(key) for key in ("model", "arch", "model_name"))]
    if path.name in HUB_FILES:
        said.append(config.get("architecture"))
    return [name for name in said if isinstance(name, str)]


def norm_eps(metadata: Mapping[str, str], config: Mapping[str, Any], path: Path) -> dict[str, float]:
    """Epsilons that a converted file or a Hugging Face configuration states."""
    if "layer_norm_eps" in config and config.get("model_type") != "convnext":
        said, where = {"": config["layer_norm_eps"]}, f"config.json beside '{path}'"
    else:
        where = f"the metadata 'norm_eps' of checkpoint '{path}'"
        said = parsed(metadata.get("norm_eps", "{}"), where)
    if not isinstance(said, dict) or not all(map(number(0, 1), said.values())):
        raise CheckpointError(f"{where} states no epsilon of layer norms, a number from 0 to 1: {shown(said)}")
    return {str(name): float(eps) for name, eps in said.items()}


def head_count(config: Mapping[str, Any], name: str, path: Path) -> int | None:
    """Attention heads as a configuration states them; None where it does not."""
    said = config.get(name)
    if said is not None and not whole(1, 1024)(said):
        raise CheckpointError(f"the settings of '{path}' state no number of heads in {name}: {shown(said)}")
    return said


def json_beside(path: Path, name: str) -> dict[str, Any]:
    """A configuration beside a file of Hugging Face or of timm's hub; empty without one."""
    beside = path.parent / name
    try:
        content = json.loads(read_text(beside))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def pixels(path: Path, source: Source, tensors: Tensors, metadata: Mapping[str, str]) -> Pixels | None:
    """Mean and deviation of the images, as a converted file, a Hugging Face processor or the source states them.

    Encoders of MAE and MoCo v3 under timm's own names are told by their positions.
    """
    where = f"the metadata 'pixels' of checkpoint '{path}'"
    stated = parsed(metadata.get("pixels", "null"), where)
    if stated is None and source.name == "hugging face":
        where = f"preprocessor_config.json beside '{path}'"
        processor = json_beside(path, "preprocessor_config.json")
        stated = [processor[key] for key in ("image_mean", "image_std") if key in processor] or None
    if stated is None:
        return source.pixels or (IMAGENET if table_of(tensors.get("pos_embed")) else None)
    try:
        (*mean,), (*std,) = stated
    except (TypeError, ValueError):
        mean, std = [], []
    if (
        not mean
        or len(mean) != len(std)
        or any(complaint(x, Mean) for x in mean)
        or any(complaint(x, Deviation) for x in std)
    ):
        raise CheckpointError(f"{where} states no mean and deviation of images: {shown(stated)}")
    return tuple(map(float, mean)), tuple(map(float, std))


def moco_heads(tensors: Tensors, metadata: Mapping[str, Any]) -> int | None:
    """MoCo v3's ViT-S has 12 heads where every other has 6, of the same shapes: its table of positions tells it."""
    pos_embed = tensors.get("pos_embed")
    small = pos_embed is not None and pos_embed.shape[-1:] == (384,) and "architecture" not in metadata
    return 12 if small and table_of(pos_embed) == "moco v3" else None


def read_file(path: Path) -> tuple[Any, dict[str, str]]:
    """Whatever the file holds (plain containers, numbers, strings and tensors), and the metadata of safetensors."""
    if path.is_dir():
        raise CheckpointError(f"checkpoint '{path}' is a folder: name the file in it")
    if SHARD.search(path.name):
        raise CheckpointError(
            f"checkpoint '{path}' is a part of a network or the list of its parts: save the network in one file, with "
            "transformers by save_pretrained(folder, max_shard_size='100GB')"
        )
    if not path.exists():
        raise FileNotFoundError(f"checkpoint '{path}' does not exist")
    check_file(path, f"checkpoint '{path}'")
    try:
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
            return safetensors.torch.load_file(path), metadata
        if zipped := is_zip(path):
            check_zip(path)
        # A training checkpoint often carries its command line and logs, which are inert records. What torch would warn
        # of (odd pickle protocols, TorchScript) is refused below in one sentence.
        allowed = torch.serialization.safe_globals([argparse.Namespace, *INERT])
        with allowed, warnings.catch_warnings(action="ignore"):
            # Only the zip format can be mapped, and so be read without a second copy in memory.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped), {}
    except (OSError, CheckpointError):
        raise
    except Exception as error:
        # Damaged bytes make the readers fail in any way at all (RuntimeError, EOFError, KeyError, struct.error …).
        raise CheckpointError(unreadable(path, error)) from error


def unreadable(path: Path, error: Exception) -> str:
    """One sentence about a file that could not be read."""
    foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
    if foreign:
        return (
            f"checkpoint '{path}' holds {foreign[1]}, not only plain tensors, and loading that could run code: "
            "save model.state_dict() alone, best as .safetensors"
        )
    if "TorchScript" in str(error):
        return TORCHSCRIPT.format(path)
    return (
        f"checkpoint '{path}' cannot be read as a {'safetensors' if path.suffix == '.safetensors' else 'torch'} file: "
        "it is damaged, cut short, or something else; fetch it again and compare its size"
    )


def unwrap(content: Any, path: Path, copy: str = "") -> tuple[str, dict[str, Tensor], tuple[str, ...]]:
    """Find the state dict in what a file holds: (key of the container or "", tensors by name, keys of all containers).

    copy: the container to take, where it is one; else the first of CONTAINERS.
    """
    if not isinstance(content, Mapping) or not content:
        kind = "nothing" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise CheckpointError(f"checkpoint '{path}' holds {kind}, not tensors by name: save model.state_dict()")
    containers = tuple(key for key in CONTAINERS if isinstance(content.get(key), Mapping) and content[key])
    container = copy if copy in containers else next(iter(containers), "")
    tensors = content[container] if container else content
    if isinstance(tensors.get("config"), Mapping):  # SparK's state dict carries its settings
        tensors = {key: value for key, value in tensors.items() if key != "config"}
    foreign = [str(key) for key, value in tensors.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    where = f"under '{container}'" if container else "at its top level"
    if foreign:
        raise CheckpointError(
            f"checkpoint '{path}' holds {len(foreign)} things {where} that are not tensors by name "
            f"({listed(foreign)}): save model.state_dict() alone, or under 'state_dict'"
        )
    inflated = [key for key, x in tensors.items() if stored(x) < x.numel()]
    if inflated:
        raise CheckpointError(
            f"checkpoint '{path}' holds {len(inflated)} tensors {where} with more elements than it stores "
            f"({listed(inflated)}): save model.state_dict() with each tensor contiguous"
        )
    others = tuple(key for key in containers if key != container)
    return container, dict(tensors), (container, *others) if others else ()


def stored(x: Tensor) -> int:
    """How many elements of a tensor there are in the file: an expanded one states more than it brings."""
    if x.layout != torch.strided:
        return x.numel()  # refused where it is fitted to a model
    if x.device.type != "cpu":
        return 0  # a tensor without content
    return x.untyped_storage().nbytes() // x.element_size()


def strip_prefixes(tensors: dict[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Take wrappers' prefixes off, as long as every key carries the same one: (what was taken off, tensors)."""
    stripped = ""
    while tensors and (prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in tensors)), "")):
        tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
        stripped += prefix
    return stripped, tensors
