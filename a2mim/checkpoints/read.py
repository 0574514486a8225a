"""From a file to tensors under timm's names, and what the file was."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from a2mim.checkpoints import hub
from a2mim.checkpoints.configured import hints, tell
from a2mim.checkpoints.contents import choose_copy, read_file, strip_prefixes, unwrap
from a2mim.checkpoints.convert import Dropped, Pixels
from a2mim.checkpoints.errors import CheckpointError, sound
from a2mim.checkpoints.resize import RULES, PositionRule
from a2mim.checkpoints.rotary import is_named
from a2mim.checkpoints.sources import NATIVE, Recognised, recognise
from a2mim.checkpoints.stated import parsed, shown, whole


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
    fresh: Dropped = field(default_factory=dict)
    """Why → which keys of the network the file has not, and were made."""
    norm_eps: Mapping[str, float] = field(default_factory=dict)
    """Beginning of module names → epsilon of the layer norms there."""
    heads: int | None = None
    """Number of attention heads, where the file or its source tells it."""
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
    image_size: int | None = None
    """Side of the images in pixels, where the file's settings state it."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Of timm.create_model, where the source's code or the settings fix what no shape tells."""
    assumed: Mapping[str, str] = field(default_factory=dict)
    """What nothing tells → what is taken, in words."""
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """timm's names of the models that the source has, each with its arguments; empty where shapes tell them."""
    untold: Mapping[str, str] = field(default_factory=dict)
    """Arguments of timm.create_model that neither file nor settings tell → what is taken, in words."""
    unread: str = ""
    """Why files of this kind are not read, and what to do instead; empty for those that are."""

    @property
    def architecture(self) -> dict[str, Any]:
        """The timm model that the file, or timm's config.json beside it, states ({"architecture": name, **arguments});
        empty where none is stated.

        It is what somebody wrote into a file, for `stated.plain_network` to judge. Raises CheckpointError where it is
        not of that form.
        """
        where = f"the metadata 'architecture' of checkpoint '{self.path}'"
        said = parsed(self.metadata.get("architecture", "{}"), where)
        if not isinstance(said, dict):
            raise CheckpointError(f"{where} names no network: name the model yourself")
        return said or (hub.architecture(self.path) if self.source == NATIVE.name else {})

    @property
    def classes(self) -> dict[str, int]:
        """The classes of the network, name -> number, as the file or its configuration states them; empty without.

        Raises CheckpointError where that is no list of classes.
        """
        where, said = f"the list of classes in config.json beside '{self.path}'", self.settings.get("id2label")
        said = said or hub.label_names(self.path)
        if isinstance(said, dict) and all(str(number).isdecimal() and len(str(number)) < 7 for number in said):
            said = [(name, int(number)) for number, name in said.items()]
        named = checked_classes(said or [], where)
        if named and not all(name.startswith("LABEL_") for name in named):
            return named
        where = f"the metadata 'classes' of checkpoint '{self.path}'"
        said = parsed(self.metadata.get("classes", "{}"), where)
        return checked_classes(list(said.items()) if isinstance(said, dict) else said, where)


def checked_classes(said: Any, where: str) -> dict[str, int]:
    """Names and numbers of classes, as they are. Raises CheckpointError where they are anything else."""
    number = whole(0, 999_999)
    if not isinstance(said, list) or not all(
        isinstance(pair, tuple) and isinstance(pair[0], str) and number(pair[1]) for pair in said
    ):
        raise CheckpointError(f"{where} is no list of classes: {shown(said)}")
    # ImageNet has two classes that are called crane: such a name says nothing of which it is.
    times = Counter(name for name, _ in said)
    return {name: number for name, number in said if times[name] == 1}


def read(path: str | Path, model: str = "") -> Checkpoint:
    """Read a .safetensors file or a torch pickle (.pth, .pt, .bin) onto the CPU, running no code that it may hold.

    Of a file with several copies of the network one is named behind the path: `dino.pth#student`,
    `moco.pth#momentum_encoder`, `run.pth#model`, `openmixup.pth#ema`. Tensors of zip and safetensors files stay mapped
    to the file.

    model: timm's name of the network, where it is known. It matters to files whose keys are those of several networks,
    with rotary positions and without, and which themselves do not say whose they are.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: not a checkpoint, damaged, with other things inside than plain tensors, without that copy.
    """
    path, copy = split_copy(path)
    content, metadata = read_file(path)
    with sound(path):
        return understood(content, metadata, path, copy, model)


def understood(content: Any, metadata: Mapping[str, str], path: Path, copy: str, model: str = "") -> Checkpoint:
    """What a file holds, under timm's names. Raises CheckpointError as `read` does."""
    container, tensors, copies = unwrap(content, path, copy)
    prefix, tensors = strip_prefixes(tensors)
    tensors, inner, others = choose_copy(tensors, "" if copy == container else copy)
    if copy and copy not in (container, *inner[:1]):
        known = ", ".join((*inner, *copies)) or "one alone, whose name is that of the file"
        raise CheckpointError(f"checkpoint '{path}' has no copy '{copy}' of the network: it has {known}")
    texts = (metadata.get("architecture", ""), *hints(content, hub.configuration(path)), path.name)
    if is_named(tensors, model, texts):
        found = Recognised((NATIVE,), tensors, {}, {}, {})
    else:
        found = recognise(tensors, tuple(map(str, content)) if container else ())
    told = tell(content, metadata, path, container, found)
    return Checkpoint(
        found.tensors,
        path,
        container,
        prefix,
        found.name,
        found.dropped | others,
        (*inner, *copies),
        found.fresh,
        told.norm_eps,
        told.heads,
        stated_positions(metadata, path) or found.positions,
        told.pixels,
        told.hints,
        metadata,
        tuple(str(key) for key in content if key != container) if container else (),
        found.left_out,
        told.settings,
        told.image_size,
        told.arguments,
        told.assumed,
        found.models,
        told.untold,
        found.unread,
    )


def stated_positions(metadata: Mapping[str, str], path: Path) -> PositionRule | None:
    """The rule by which positions are resized, as a converted file states that of its source; None where it does not.

    Raises CheckpointError for a rule that is none.
    """
    said = metadata.get("positions")
    if said is not None and said not in RULES:
        raise CheckpointError(f"the metadata 'positions' of checkpoint '{path}' is none of {', '.join(RULES)}")
    return next((rule for rule in RULES if rule == said), None)


def split_copy(path: str | Path) -> tuple[Path, str]:
    """`file#copy` → (file, copy), unless a file of that whole name is there."""
    whole = Path(path)
    if "#" not in whole.name or whole.exists():
        return whole, ""
    name, _, copy = whole.name.rpartition("#")
    return whole.with_name(name), copy
