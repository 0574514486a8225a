"""`a2mim inspect`: what a checkpoint is, and which timm model it fits."""

from dataclasses import dataclass
from typing import Any

import tyro


@dataclass(frozen=True)
class Settings:
    """Say what a checkpoint is: method, model, classifier, copies, and what of it would be loaded.

    Reads MAE, MoCo, DINO (v2, v3), iBOT, I-JEPA, SimMIM, BEiT, Swin (V2), SparK, ConvNeXt (V2, FCMAE), Hiera, DeiT,
    CLIP, SigLIP, SwAV, Barlow Twins, VICReg, lightly, solo-learn, timm, torchvision, OpenMixup (A²MIM), mmpretrain and
    Hugging Face files, and runs no code that one may hold. The model is read off names and shapes and compared key by
    key; docs/checkpoints.md has the table and the rules.

    For example:
        a2mim inspect mae_pretrain_vit_base.pth
        a2mim inspect 'dino.pth#student' --json
        a2mim inspect weights.pth --model resnext101_64x4d
    """

    file: tyro.conf.Positional[str]
    """The checkpoint, or the folder of a finished training run; FILE#copy for one of the copies of the network in it
    (student, momentum_encoder, model, ema ...)."""
    model: str = ""
    """Compare with this timm model, instead of the one that the shapes suggest."""
    model_args: tuple[str, ...] = ()
    """Arguments of the model that the file does not tell, such as num_heads=12."""
    json: bool = False
    """Print JSON with every key, instead of a table."""


def run(settings: Settings) -> None:
    """Read, describe, print."""
    import json

    from a2mim.checkpoints import read
    from a2mim.checkpoints.describe import describe
    from a2mim.plain import pairs, printable
    from experiments.models import check_timm_name, file_of

    if settings.model:
        check_timm_name(settings.model, pretrained=False)
    said = describe(read(file_of(settings.file), settings.model), settings.model, pairs(settings.model_args))
    if settings.json:
        print(json.dumps(said, indent=2))
        return
    rows = table(said)
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f"{name:{width}}  {printable(text)}")


def table(said: dict[str, Any]) -> list[tuple[str, str]]:
    """The rows to print: what is known first, then what fits and what does not."""
    from a2mim.checkpoints.errors import listed

    precision = ", ".join(f"{n} {kind}" for kind, n in said["precision"].items())
    rows = [
        ("file", f"{said['file']} ({said['bytes'] / 1e6:.1f} MB, {said['format']})"),
        ("names", said["names"]),
        ("method", said["method"]),
        ("stage", said["stage"] + (f" ({said['classes']} classes)" if said["classes"] else "")),
        ("weights", f"{said['parameters'] / 1e6:.2f} M in {said['tensors']} tensors ({precision})"),
    ]
    if said["container"]:
        also = f"; beside it {', '.join(said['beside'])}" if said["beside"] else ""
        rows.append(("container", f"{said['container']}{also}"))
    if said["prefix"]:
        rows.append(("prefix", f"{said['prefix']} was taken off"))
    if said["copies"]:
        others = ", ".join(f"#{name}" for name in said["copies"][1:])
        rows.append(("copies", f"{said['copies'][0]} is read; {others} behind the file's name reads another"))
    if said["averaged"]:
        rows.append(("average", "these weights are a moving average of the trained ones"))
    arguments = ", ".join(f"{key}={value!r}" for key, value in said["arguments"].items())
    rows.append(("model", f"timm {said['model']}({arguments})" if said["model"] else "unknown"))
    rows.append(("fits", f"yes, all {said['loaded']} keys" if said["fits"] else f"no: {said['problem']}"))
    for why, keys in said["dropped"].items():
        rows.append(("left out", f"{len(keys)} keys, {why} ({listed(keys)})"))
    for why, keys in said["fresh"].items():
        rows.append(("made", f"{len(keys)} keys, {why} ({listed(keys)})"))
    rows += [("adapted", note) for note in said["adapted"]]
    if said["missing"]:
        rows.append(("missing", f"{len(said['missing'])} keys that the model needs ({listed(said['missing'])})"))
    if said["norm_eps"]:
        epsilons = ", ".join(f"{eps:g}{f' in {name}' if name else ''}" for name, eps in said["norm_eps"].items())
        rows.append(("norms", f"layer norms get an epsilon of {epsilons}"))
    if said["pixels"]:
        rows.append(("images", f"normalised with mean {said['pixels']['mean']}, deviation {said['pixels']['std']}"))
    return rows + [("assumed", words) for words in said["assumed"].values()]
