"""Any timm model as an encoder: its map of features, and the places where a mask token can be put into it.

Nothing here knows a model by its name. A backbone is run once on an image of noise, and what is read off is

- which modules run, and in which order: the stages are the modules that timm's `feature_info` names, or, without it,
  the children of the container that holds most of the weights;
- which tensors are maps of the image, and how they are laid out: a change in one quadrant of the image must change
  that quadrant of the map most;
- which weights the map of features does not depend on (a classifier, a class token's own layers).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from a2mim.layouts import (
    Layout,
    Side,
    attached,
    evaluating,
    intercept,
    layout_of,
    own_image_size,
    quadrant_images,
    raise_unfit,
    to_map,
)

Point = tuple[str, Side]  # the input or the output of a module


@dataclass(frozen=True)
class Place:
    """A point of the forward pass that carries a map: the input or the output of one module."""

    module: str
    side: Side
    layout: Layout

    def __str__(self) -> str:
        height, width = self.layout.grid
        return f"{self.side} of {self.module} ({self.layout.channels} channels, {height}×{width})"


@dataclass(frozen=True)
class Structure:
    """What was read off a backbone.

    places: where a mask token can go, in the order of the forward pass. For plain transformers and mixers, 0 is the
        patch embedding (before class token and positions) and the others are inputs of blocks; for backbones with
        stages, they are inputs of stages, behind the stage's own downsampling where it has a separate one.
    default: index of the paper's place for the family: the patch embedding, and the last stage of a CNN.
    features: the map that `forward_features` returns; stride: image pixels per position of it.
    unused: names of the parameters that this map does not depend on.
    """

    image_size: int
    channels: int
    places: tuple[Place, ...]
    default: int
    features: Layout
    stride: int
    unused: tuple[str, ...]


def read_structure(backbone: nn.Module, image_size: int | None = None) -> Structure:
    """Read the structure of a timm model by running it (in evaluation mode, leaving weights and statistics untouched).

    image_size: side of the square images in pixels; the backbone's own where it is None.
    Raises ValueError with the structure that is missing.
    """
    name = type(backbone).__name__
    if not callable(getattr(backbone, "forward_features", None)):
        raise ValueError(f"{name} has no forward_features, timm's verb for the last map of features: use a timm model.")
    size = image_size or own_image_size(backbone)
    images = quadrant_images(backbone, size)
    with evaluating(backbone):
        try:
            calls, features = _calls(backbone, images[:1])
        except Exception as error:
            raise_unfit(backbone, size, error)
        if not isinstance(features, Tensor):
            raise ValueError(
                f"forward_features of {name} returns a {type(features).__name__}, not one map of features: "
                "backbones with several output branches are not supported."
            )
        candidates = _candidates(backbone, calls)
        maps, features = _maps(backbone, images, candidates)
        layout = layout_of(features, backbone)
        if layout is None:
            raise ValueError(
                f"forward_features of {name} returns a tensor of shape {tuple(features.shape[1:])} per image, which "
                "is no map of the image: neither channels × height × width nor patch tokens in raster order."
            )
        stride = _stride(name, layout, size)
        places = []
        for (module, side), x in _distinct(candidates, maps):
            found = layout_of(x, backbone)
            if found is not None:
                places.append(Place(module, side, found))
        plain = {place.layout.grid for place in places} == {layout.grid}
        if not plain:  # the blocks of a plain transformer follow each other; stages may hide a branch
            places = [place for place in places if not _bypassed(backbone, images, place)]
        if not places:
            raise ValueError(
                f"{name} offers no place for a mask token: it has neither a feature_info whose modules carry all that "
                "is known of the image as one map, nor patch tokens in raster order, nor a container of such blocks."
            )
        unused = _unused(backbone, images[:1], layout)
    patches = any(child.startswith("patch_embed") for child, _ in backbone.named_children())
    default = 0 if plain or patches else len(places) - 1
    return Structure(size, images.shape[1], tuple(places), default, layout, stride, unused)


def freeze_unused(backbone: nn.Module, structure: Structure) -> None:
    """Stop training what the map of features does not depend on: it would get no gradient."""
    for name in structure.unused:
        backbone.get_parameter(name).requires_grad_(False)


def find_place(backbone: nn.Module, structure: Structure, at: int | str) -> Place:
    """The place named by `at`: "default", an index into `structure.places`, or the dotted name of any module that runs
    on a map of the image (its input; the output of the patch embedding or stem, where that is the first place).

    Raises ValueError with the places that the backbone has.
    """
    if at == "default":
        return structure.places[structure.default]
    try:
        number = int(at)
    except ValueError:
        return _place_at_module(backbone, structure, str(at))
    if 0 <= number < len(structure.places):
        return structure.places[number]
    raise ValueError(_no_place(backbone, structure, at))


# --- how the structure is read


@dataclass(frozen=True)
class _Call:
    module: str
    entered: int
    left: int
    on_map: bool  # the first argument is a tensor, and not the image itself


def _calls(backbone: nn.Module, image: Tensor) -> tuple[dict[str, _Call], Any]:
    """The first call of every module that `forward_features` runs, in order, and what it returns."""
    clock = iter(range(10**9))
    entered: dict[str, tuple[int, bool]] = {}
    left: dict[str, int] = {}

    def enter(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            on_map = bool(args) and isinstance(args[0], Tensor) and args[0] is not image
            entered.setdefault(name, (next(clock), on_map))

        return hook

    def leave(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            left.setdefault(name, next(clock))

        return hook

    handles = []
    for name, module in backbone.named_modules():
        handles += [module.register_forward_pre_hook(enter(name)), module.register_forward_hook(leave(name))]
    with attached(*handles):
        features = backbone.forward_features(image)  # type: ignore[operator]
    calls = [_Call(name, *start[:1], left[name], start[1]) for name, start in entered.items() if name in left]
    return {call.module: call for call in sorted(calls, key=lambda call: call.entered)}, features


def _candidates(backbone: nn.Module, calls: dict[str, _Call]) -> list[Point]:
    """Where a token might go: behind the embedding, into the first stage, and behind each stage but the last."""
    stages = _stages(backbone, calls)
    embedding = next((name for name in ("patch_embed", "stem") if name in calls), None)
    points: list[Point] = [(embedding, "output")] if embedding else []
    if not stages:
        return points
    container, dot, _ = stages[-1].partition(".")
    first = next((name for name in calls if dot and name.startswith(container + ".")), None)
    if first is not None and calls[first].on_map:
        points.append((_behind_downsampling(backbone, first, calls), "input"))
    for stage in stages[:-1]:
        following = (name for name in calls if calls[name].entered > calls[stage].left)
        weighted = next(
            (name for name in following if any(True for _ in backbone.get_submodule(name).parameters())), None
        )
        if weighted is not None and calls[weighted].on_map:
            points.append((_behind_downsampling(backbone, weighted, calls), "input"))
    return sorted(points, key=lambda p: calls[p[0]].entered if p[1] == "input" else calls[p[0]].left)


def _stages(backbone: nn.Module, calls: dict[str, _Call]) -> list[str]:
    """Names of the modules whose outputs end the stages, in the order in which they run."""
    info: Any = getattr(backbone, "feature_info", None) or []
    entries = info.info if hasattr(info, "info") else info
    names = [entry["module"] for entry in entries if "module" in entry]
    if not names or not all(name in calls for name in names):
        containers = [
            m for m in backbone.named_children() if isinstance(m[1], nn.Sequential | nn.ModuleList) and len(m[1]) > 1
        ]
        if not containers:
            return []
        prefix, largest = max(containers, key=lambda named: sum(p.numel() for p in named[1].parameters()))
        children = [f"{prefix}.{child}" for child, _ in largest.named_children()]
        # a list of lists of blocks: a stage ends with the last block of its list
        inside = [[name for name in calls if f"{name}.".startswith(f"{child}.")] for child in children]
        names = [max(called, key=lambda name: calls[name].left) for called in inside if called]
    exact = {entry["module"] for entry in entries if entry.get("exact")}  # somebody's own, who knows what they name
    names = [name if name in exact else _outermost(name, calls) for name in names]
    return sorted(dict.fromkeys(names), key=lambda name: calls[name].left)


def _outermost(name: str, calls: dict[str, _Call]) -> str:
    """The module of the container that a feature lies in: a branch may go around what is inside of a block."""
    parts = name.split(".")
    paths = (".".join(parts[:depth]) for depth in range(2, len(parts)))
    return next((path for path in paths if path in calls), name)


def _behind_downsampling(backbone: nn.Module, name: str, calls: dict[str, _Call]) -> str:
    """The first block of a stage that opens with a downsampling of its own, the stage itself otherwise."""
    stage = backbone.get_submodule(name)
    blocks, downsample = getattr(stage, "blocks", None), getattr(stage, "downsample", None)
    if isinstance(blocks, nn.Sequential | nn.ModuleList) and len(blocks) and isinstance(downsample, nn.Module):
        inside = [f"{name}.downsample", f"{name}.blocks.0"]
        if all(i in calls for i in inside) and calls[inside[0]].entered < calls[inside[1]].entered:
            return inside[1]
    return name


def _maps(backbone: nn.Module, images: Tensor, points: Sequence[Point]) -> tuple[list[Tensor | None], Tensor]:
    """The tensor at each point, for all images, and the features."""
    seen: dict[Point, Tensor] = {}

    def keep(point: Point, x: Any) -> None:
        if isinstance(x, Tensor) and x is not images:
            seen.setdefault(point, x)

    with attached(*(intercept(backbone, *point, partial(keep, point)) for point in points)):
        features = backbone.forward_features(images)  # type: ignore[operator]
    return [seen.get(point) for point in points], features


def _distinct(points: Sequence[Point], maps: Sequence[Tensor | None]) -> Iterator[tuple[Point, Tensor]]:
    """Points without a tensor, and points that carry the same tensor as an earlier one, left out."""
    seen: set[int] = set()
    for point, x in zip(points, maps, strict=True):
        if x is not None and id(x) not in seen:
            seen.add(id(x))
            yield point, x


def _bypassed(backbone: nn.Module, images: Tensor, place: Place) -> bool:
    """Whether the features still depend on the image when the map at this place does not: a branch goes around it."""
    with intercept(backbone, place.module, place.side, torch.zeros_like):
        base, other = backbone.forward_features(images[[0, -1]])  # type: ignore[operator]
    return not torch.allclose(base, other, equal_nan=True)


def _stride(name: str, layout: Layout, size: int) -> int:
    stride, rest = divmod(size, layout.grid[0])
    if rest:
        raise ValueError(
            f"{name} makes a {layout.grid[0]}×{layout.grid[1]} map of a {size}×{size} image, no whole number of pixels "
            f"per position: choose a multiple of its stride (about {round(size / layout.grid[0])} px) as image size."
        )
    return stride


def _unused(backbone: nn.Module, image: Tensor, layout: Layout) -> tuple[str, ...]:
    """Names of the parameters that get no gradient from the map of features."""
    named = [(name, p) for name, p in backbone.named_parameters() if p.requires_grad]
    with torch.enable_grad():
        features = to_map(backbone.forward_features(image), layout)  # type: ignore[operator]
        if not features.requires_grad:  # all frozen by the caller
            return tuple(name for name, _ in named)
        gradients = torch.autograd.grad(features.sum(), [p for _, p in named], allow_unused=True)
    return tuple(name for (name, _), gradient in zip(named, gradients, strict=True) if gradient is None)


def _place_at_module(backbone: nn.Module, structure: Structure, name: str) -> Place:
    side: Side = "input"
    if name == structure.places[0].module and structure.places[0].side == "output":
        side = "output"
    if name not in dict(backbone.named_modules()):
        raise ValueError(_no_place(backbone, structure, name))
    with evaluating(backbone):
        images = quadrant_images(backbone, structure.image_size)
        (x,), _ = _maps(backbone, images, [(name, side)])
        layout = None if x is None else layout_of(x, backbone)
        if layout is None:
            raise ValueError(_no_place(backbone, structure, name))
        place = Place(name, side, layout)
        if _bypassed(backbone, images, place):
            raise ValueError(
                f"A branch of {type(backbone).__name__} goes around the {place}: choose the input of a whole block."
            )
    return place


def _no_place(backbone: nn.Module, structure: Structure, at: int | str) -> str:
    places = "; ".join(f"{i}: {place}" for i, place in enumerate(structure.places))
    return f"{type(backbone).__name__} has no place {at!r} for a mask token. It has {places}."
