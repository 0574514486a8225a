"""What a masked-image network makes of images that are partly hidden: the network of a run or of a released checkpoint,
and its pictures."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from a2mim.checkpoints import Checkpoint, read
from a2mim.checkpoints.load import LoadReport, model_name, set_epsilons, set_pixels
from a2mim.checkpoints.pretraining import pretraining
from a2mim.decoding import Damaged
from a2mim.gallery import normalisation
from a2mim.images import evenly
from a2mim.methods import A2MIM, MaskFeat, Method, SparK
from a2mim.methods.patches import MaskedPatches
from a2mim.methods.restore import BACKBONE, RESTORED, load_method, own_tensors, restore
from a2mim.plain import to_plain
from a2mim.runs import best_state, newest_state, read_run, stored_settings
from experiments.commands.pretrain import Settings as Pretrain
from experiments.commands.pretrain import method_settings
from experiments.datasets import ImageData, size_arguments
from experiments.models import create_model
from experiments.training.assembly import make_method
from experiments.training.running import is_of_input
from experiments.training.trust import check_architecture, check_method

ZERO = "Masked pixels show the colour that is normalised to 0."
FILLS = {
    "image_mean": "Masked pixels show the mean colour of the whole image, hidden pixels included.",
    "visible_mean": "Masked pixels show the mean colour of the visible ones.",
    "zero": ZERO,
    "none": "Masked pixels are drawn in the colour that is normalised to 0; the network hides their features instead.",
}
LEAK = "Masked pixels leak: the encoder sees some of them in front of its mask token, so they are not all unseen."
KNOWN = (
    "Each predicted patch is drawn with the mean and contrast of the true one: those of hidden pixels are known here."
)
RAW = "The network predicts patches of a normalised contrast, and they are drawn as they are: their mean says nothing."


@dataclass(frozen=True)
class Network:
    """A masked-image method with its weights, and where it came from."""

    method: Any
    image_size: int
    title: str
    about: dict[str, Any]
    """Ready for JSON: kind, file or folder, step, weights, architecture, what was loaded and left out."""
    normalises: bool
    """Whether it was trained to predict patches of a normalised contrast."""

    @property
    def pixels(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation that its images are normalised with."""
        return normalisation(self.method.backbone)


def open_network(
    path: Path, given: Mapping[str, Any], image_size: int | None = None, best: bool = False, trust: bool = False
) -> Network:
    """The network of a pre-training run's folder, or of a released checkpoint with its decoder.

    Args:
        path: the folder of a run of `a2mim pretrain`, or a file (`load_method` says of whom).
        given: settings of the method that win over those it was trained with.
        image_size: side in pixels, instead of that of the training images.
        best: of a run the best saved state, instead of the latest.
        trust: run the factory that the run's record names.

    Raises:
        FileNotFoundError: no such file, no saved state.
        ValueError: a method that predicts no picture; settings or weights that do not fit; `best` of a file; a record
            that names code, without `trust`.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*leak")  # the figure says it
        if path.is_dir():
            return of_run(path, given, image_size, best, trust)
        if best:
            raise ValueError(f"'{path}' is a file and holds one state: --best needs the folder of a run")
        return of_file(path, given, image_size)


def of_file(path: Path, given: Mapping[str, Any], image_size: int | None) -> Network:
    """See `open_network`."""
    found = pretraining(read(path))
    check_flags(found.method, RESTORED[found.method].Settings, given)
    if "normalised_target" in found.untold and "normalised_target" not in given:
        raise ValueError(
            f"'{path}' does not tell whether its MAE predicts pixels (as mae_visualize_*: --norm-pix no) or patches "
            "normalised by their own mean and deviation (as mae_pretrain_*: --norm-pix yes): say which"
        )
    method, report = load_method(found, image_size, **given)
    check_pictures(method, str(path), given)
    architecture = model_name(method.backbone)
    about = {"kind": "checkpoint", "architecture": architecture, **asdict(report), "path": path.name}
    normalises = isinstance(method, SparK) or found.settings.get("normalised_target", given.get("normalised_target"))
    title = f"{name_of(method)} on {architecture}, {path.name}"
    return Network(method, method.structure.image_size, title, about, bool(normalises))


def of_run(folder: Path, given: Mapping[str, Any], image_size: int | None, best: bool, trust: bool) -> Network:
    """See `open_network`. The weights are the moving average where the run keeps one."""
    run, settings, architecture = asked_of_run(folder, trust)
    trained_at = settings.augment.image_size
    trained = method = method_of(run, architecture, settings, {}, trained_at)
    check_flags(settings.method, type(trained).Settings, given)
    check_pictures(trained, str(folder), given)
    state = saved_state(folder, best)
    if given or (image_size or trained_at) != trained_at:
        method = method_of(run, architecture, settings, given, image_size or trained_at)
    report = fill(method, trained, state, folder)
    name = folder.resolve().name
    about = about_run(run, state, name, best) | asdict(report) | {"path": name}
    title = f"{name_of(method)} on {architecture[0]}, {name}, step {state['step']:,}"
    normalises = bool(getattr(getattr(trained, "settings", None), "normalised_target", False))
    return Network(method.eval(), image_size or trained_at, title, about, isinstance(trained, SparK) or normalises)


def asked_of_run(folder: Path, trust: bool) -> tuple[dict[str, Any], Pretrain, tuple[str, Mapping[str, Any]]]:
    """A run's record, its settings, and its network's name and arguments.

    Raises:
        ValueError: no run of `a2mim pretrain`; a record that is damaged, or names code without `trust`.
    """
    run = read_run(folder)
    if run.get("command") != "pretrain":
        raise ValueError(
            f"{folder} holds a run of `a2mim {run.get('command')}`, which predicts no picture: name one of "
            "`a2mim pretrain`"
        )
    settings = stored_settings(Pretrain, folder, run)
    if not isinstance(run.get("architecture"), dict):
        raise ValueError(f"{folder} does not say what its network is: its run.json has no architecture")
    architecture = check_architecture(run["architecture"], folder / "run.json", trust)
    check_method(settings.method, "", folder / "run.json", trust)
    return run, settings, architecture


def saved_state(folder: Path, best: bool) -> dict[str, Any]:
    """The best or the latest saved state of a run. Raises FileNotFoundError where there is none."""
    state = best_state(folder) if best else newest_state(folder)
    if state is None:
        which = "best state" if best else "saved state"
        raise FileNotFoundError(f"{folder} holds no {which} (state/), and backbone.safetensors has no decoder")
    return state


def weights_of(state: Mapping[str, Any]) -> str:
    """Which of a state's weights are shown."""
    return "ema" if state["ema"] is not None else "method"


def fill(method: Method, trained: Method, state: Mapping[str, Any], folder: Path) -> LoadReport:
    """Load a state's weights into a method of any image size; `trained` is one of that which the run was trained at."""
    saved: dict[str, Tensor] = state[weights_of(state)]
    # Fixed tables that no state keeps, in the size that the network was trained with.
    tables = {name: x for name, x in own_tensors(trained).items() if name not in trained.state_dict()}
    encoder = Checkpoint(
        {name.removeprefix(BACKBONE): x for name, x in saved.items() if name.startswith(BACKBONE)},
        folder,
        weights_of(state),
        "",
        "a2mim",
        positions="antialiased",
    )
    return restore(method, encoder, tables | {name: x for name, x in saved.items() if not name.startswith(BACKBONE)})


def about_run(run: Mapping[str, Any], state: Mapping[str, Any], name: str, best: bool) -> dict[str, Any]:
    """What is known of a run and its state, ready for JSON."""
    return {
        "kind": "run",
        "run": name,
        "architecture": run["architecture"],
        "commit": run.get("commit"),
        "versions": run.get("versions"),
        "step": state["step"],
        "steps": run.get("steps"),
        "state": "best" if best else "latest",
        "weights": "moving average" if weights_of(state) == "ema" else "as trained",
    }


def method_of(
    run: Mapping[str, Any],
    architecture: tuple[str, Mapping[str, Any]],
    settings: Pretrain,
    given: Mapping[str, Any],
    image_size: int,
) -> Method:
    """The method of a run, not trained yet, at an image size, with other settings where they are given."""
    name, arguments = architecture[0], dict(architecture[1])
    classes = arguments.pop("num_classes", None)
    if image_size != settings.augment.image_size:
        arguments |= size_arguments(name, image_size)
    backbone, _ = create_model(name, "random", classes, settings.loop.seed, **arguments)
    begin_as(backbone, run.get("loaded") or {})
    with torch.random.fork_rng(devices=[]):
        wanted = {**method_settings(settings), **given}
        return make_method(settings.method, backbone, wanted, image_size, settings.loop.seed, run)


def begin_as(backbone: torch.nn.Module, loaded: Mapping[str, Any]) -> None:
    """Where a run began with the weights of a file, give its backbone what these brought along and no state keeps:
    epsilons of norms, and mean and deviation of the images.

    Raises FileNotFoundError where the file is needed and gone.
    """
    if not any(map(is_of_input, loaded.get("adapted", ()))):
        return
    try:
        checkpoint = read(loaded["path"])
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"the run began with the weights in '{loaded['path']}', which says how its images were normalised and is "
            "not there any more: put it back"
        ) from error
    set_epsilons(backbone, checkpoint.norm_eps)
    set_pixels(backbone, checkpoint.pixels)


def check_flags(method: str, kind: type, given: Mapping[str, Any]) -> None:
    """Raise ValueError for a flag that means a setting which the method does not have."""
    for name, flag in {"normalised_target": "--norm-pix", "mask_strategy": "--strategy"}.items():
        if name in given and name not in {each.name for each in fields(kind)}:
            raise ValueError(f"{flag} is no setting of {method}: leave it out")


def check_pictures(method: Any, where: str, given: Mapping[str, Any]) -> None:
    """Raise ValueError for a method that predicts no picture, and for settings that would change what it predicts."""
    if isinstance(method, MaskFeat) or getattr(getattr(method, "settings", None), "target", "") == "hog":
        raise ValueError(f"{where} predicts histograms of oriented gradients ({name_of(method)}), which are no picture")
    if type(method).pictures is Method.pictures:
        raise ValueError(
            f"{where} was trained by {name_of(method)}, which predicts no pixels: there is nothing to draw"
        )
    if method.structure.channels != 3:
        raise ValueError(f"{where} sees images of {method.structure.channels} channels, and pictures have three")
    if isinstance(method, SparK) and given.get("mask_cell", method.cell) != method.cell:
        raise ValueError(
            f"{where} predicts patches of {method.cell} px in units of their own, and SparK masks whole ones: "
            "leave out --mask-cell"
        )


def reconstruct(network: Network, images_BCHW: Tensor, seed: int) -> dict[str, np.ndarray]:
    """original, masked, predicted and composite of normalised images: float32 (B, 3, H, W) in [0, 1], cut off there.

    The cells that are masked depend on the seed and the number of images alone.
    """
    pictures = network.method.pictures({"image": images_BCHW}, torch.Generator().manual_seed(seed))
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in network.pixels)
    return {name: (x.cpu().float() * std + mean).clamp(0, 1).numpy() for name, x in pictures.items()}


def chosen(data: ImageData, count: int) -> list[int]:
    """Numbers of `count` images, evenly spaced through the data set; of a stream the first ones."""
    if count < 1:
        raise ValueError(f"--count {count} draws nothing: give 1 or more")
    return list(range(min(count, len(data)))) if data.streamed else evenly(len(data), count)


def readable(data: ImageData, numbers: Sequence[int]) -> tuple[list[int], Tensor]:
    """Those of the images that can be decoded: their numbers, and B×C×H×W. Raises ValueError where there is none."""
    found = {}
    for number in numbers:
        try:
            found[number] = data[number][0]
        except Damaged as error:
            data.images.reports.add("damaged", number, str(error))
    if not found:
        raise ValueError(f"none of the {len(numbers)} images chosen of {data.images.name} can be decoded")
    return list(found), torch.stack(list(found.values()))


def described(network: Network, seed: int) -> tuple[str, str]:
    """Two texts for the figure: how the images were masked, and what the pictures must not be taken for."""
    method, settings = network.method, network.method.settings
    cell = getattr(method, "cell", None) or settings.mask_cell
    strategy = getattr(settings, "mask_strategy", "random")
    side = network.image_size
    masking = (
        f"Images of {side}×{side} px, {settings.mask_ratio:.0%} masked in cells of {cell} px ({strategy}, seed {seed})."
    )
    shown = FILLS[settings.fill] if isinstance(method, A2MIM) else ZERO
    notes = [LEAK] if isinstance(method, A2MIM) and method.leaks else []
    if network.normalises:
        drawn_raw = isinstance(method, MaskedPatches) and not settings.normalised_target
        notes.append(RAW if drawn_raw else KNOWN)
    untrained = "The loss is on masked pixels, so predictions of visible ones mean little."
    return f"{masking} {shown} {untrained}", " ".join(notes)


def settings_of(network: Network) -> dict[str, Any]:
    """The method and its settings, as plain data."""
    return {"method": name_of(network.method), "method_settings": to_plain(network.method.settings)}


def name_of(method: Method) -> str:
    """A method's name for people."""
    name = type(method).__name__
    return {"A2MIM": "A²MIM", "HieraMAE": "MAE"}.get(name, name)
