"""`a2mim convert`: any checkpoint as safetensors under timm's names."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from experiments.help import FILE


@dataclass(frozen=True)
class Settings:
    """Write a checkpoint's network in timm's names, as safetensors.

    Everything that `a2mim inspect` says would be loaded is written, the classifier too; the file knows its model, so
    that `--weights FILE` of the other commands needs no name, and timm.create_model(..., checkpoint_path=FILE) reads
    it. A file that does not fit its model completely is refused.

    For example:
        a2mim convert mae_pretrain_vit_base.pth --out backbone.safetensors
        a2mim convert 'moco.pth#momentum_encoder' --out momentum.safetensors
    """

    file: tyro.conf.Positional[str]
    """The checkpoint, or the folder of a finished training run; FILE#copy for one of its copies of the network."""
    out: Annotated[Path, FILE]
    """The file to write (.safetensors)."""
    model: str = ""
    """The timm model that it is of, instead of the one that the shapes suggest; what no name says (heads, pooling,
    biases) still comes from the file."""
    model_args: tuple[str, ...] = ()
    """Arguments of the model that the file does not tell, such as num_heads=12."""


def run(settings: Settings) -> None:
    """Read, compare, write, and say how to open the result."""
    import timm

    from a2mim.checkpoints import read
    from a2mim.checkpoints.describe import fit, untold
    from a2mim.export import write_checkpoint
    from a2mim.plain import pairs, printable
    from experiments.models import file_of
    from experiments.outputs import claim

    if settings.out.suffix != ".safetensors":
        raise ValueError(
            f"the result is safetensors: give --out a name like {settings.out.with_suffix('.safetensors')}"
        )
    if settings.out.is_dir():
        raise ValueError(f"'{settings.out}' is a folder: name a file in it with --out")
    file = file_of(settings.file)
    claim([settings.out], files_of(file))
    checkpoint = read(file, settings.model)
    typed = pairs(settings.model_args)
    fitting = fit(checkpoint, settings.model, typed)
    if fitting is None:
        raise ValueError(f"no known model fits '{settings.file}': name the timm model that it is of with --model")
    name, arguments = fitting.architecture.name, fitting.architecture.arguments
    if not fitting.complete:
        raise ValueError(f"'{settings.file}' does not fit timm's {name} completely: {fitting.problem}")
    assumed = untold(checkpoint, fitting, typed)
    # what is assumed of the heads is not stated as if it were known
    told = replace(checkpoint, assumed=assumed, heads=None if "num_heads" in assumed else fitting.heads)
    write_checkpoint(told, settings.out, {"architecture": name, **arguments})
    given = "".join(f", {key}={value!r}" for key, value in arguments.items())
    for words in assumed.values():
        print(f"note: {words}")
    print(f"wrote {len(checkpoint.tensors)} tensors into {settings.out}; open it with")
    if timm.model_entrypoint(name).__module__ == "a2mim.networks":
        print("    import a2mim.networks")
    print(f'    timm.create_model("{name}"{given}, checkpoint_path="{settings.out}")')
    if checkpoint.norm_eps:
        eps = ", ".join(
            f"{eps:g}{f' in {printable(part)}' if part else ''}" for part, eps in checkpoint.norm_eps.items()
        )
        print(f"and set the epsilon of its layer norms to {eps}, which --weights {settings.out} does by itself")


def files_of(checkpoint: str) -> list[Path]:
    """What is read of a checkpoint: its file, and where that is the list of its parts these, too."""
    from a2mim.checkpoints.read import split_copy
    from a2mim.checkpoints.shards import is_index, places_in

    path, _ = split_copy(checkpoint)
    parts = set(places_in(path).values()) if is_index(path) and path.is_file() else ()
    return [path, *(path.parent / name for name in parts)]
