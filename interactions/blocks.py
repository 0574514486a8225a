"""The blocks of an image model, and where in its forward pass each block's map of features can be read.

Nothing here knows a model by its name. The model is run once, on an image of noise and the same with each quadrant
changed, and what is read off is

- which modules run, inside of which, and in which order;
- where a module adds two tensors that depend on the image: a residual connection. Such a module is a block. Where
  several additions follow each other, as behind attention and behind the MLP of a transformer, and the sum is what the
  next branch reads, each of them ends a sub-block;
- outside of residual blocks: a convolution or linear layer with what follows it (norm, activation, pooling), a module
  that wraps several such layers, a stage's downsampling;
- what happens between two sums: products of two tensors that depend on the image are attention, layers along the
  tokens are token mixing, convolutions wider than one pixel are convolutions, all else is an MLP;
- which tensors are maps, and how they are laid out (layouts.py).

tracing.py makes that one pass; here its calls become blocks.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal

from torch import Tensor, nn

from interactions.layouts import Layout, to_map
from interactions.tracing import WORK, Call, Event, only_tensor, trace

Side = Literal["input", "output"]


@dataclass(frozen=True)
class Block:
    """One block, or one sub-block of a transformer.

    name: of the module that does its work. kind: stem, attention, token_mixing, mlp, conv, downsample, or block for one
    whose inside carries no map of the whole image. Its map is the input or the output (side) of `module`, which may be
    called several times in one pass: `call` counts from 0.
    """

    name: str
    kind: str
    module: str
    side: Side
    call: int
    layout: Layout


def find_blocks(model: nn.Module, image_shape: Sequence[int]) -> list[Block]:
    """The blocks of a model in the order in which they run, at least two.

    Args:
        model: of timm, or any that takes images B×C×H×W; in evaluation mode. Weights and statistics stay as they are.
        image_shape: (C, H, W); the image need not be square.

    Raises:
        ValueError: a model that does not run on such images, or whose blocks carry no maps; says which.
    """
    root = trace(model, image_shape)
    residual = {type(call.module) for call in root.inside() if call.sums}
    found = _chain(root, residual)
    if isinstance(found, Call):
        raise ValueError(
            f"the block {found.name} of {type(model).__name__} adds branches but hands on no map of the image (neither "
            "channels × height × width nor patch tokens in raster order), nor does a module around it"
        )
    found = _with_stem(_with_downsampling(found))
    if len(found) < 2:
        raise ValueError(
            f"{type(model).__name__} has no sequence of blocks to follow: {len(found)} of its modules are residual "
            "blocks, convolutions or linear layers whose output is a map of the image"
        )
    return [Block(p.name, p.kind, p.module, p.side, p.call, p.layout) for p in found]


@contextmanager
def watch(model: nn.Module, blocks: Sequence[Block], see: Callable[[int, Tensor], None]) -> Iterator[None]:
    """While one forward pass is made inside, `see(number of the block, its map B×C×H×W)` is called for every block."""
    calls: Counter[tuple[str, Side]] = Counter()
    by_place: dict[tuple[str, Side], dict[int, int]] = {}
    for number, block in enumerate(blocks):
        by_place.setdefault((block.module, block.side), {})[block.call] = number

    def hand_over(place: tuple[str, Side], x: Tensor | None) -> None:
        number = by_place[place].get(calls[place])
        calls[place] += 1
        if number is not None and x is not None:
            see(number, to_map(x, blocks[number].layout))

    with ExitStack() as hooks:
        for name, side in by_place:
            module, hook = model.get_submodule(name), partial(hand_over, (name, side))
            if side == "output":
                handle = module.register_forward_hook(lambda _, args, output, hook=hook: hook(only_tensor(output)))
            else:
                handle = module.register_forward_pre_hook(lambda _, args, hook=hook: hook(args[0]))
            hooks.enter_context(handle)
        yield


@dataclass
class _Point:
    """A block in the making. `open`: norms, activations and pooling that follow still belong to it."""

    name: str
    kind: str
    module: str
    side: Side
    call: int
    layout: Layout
    residual: bool = False
    linear: bool = False

    def extend(self, call: Call) -> None:
        """Norm, activation and pooling that follow; pooling to a single position belongs to a classifier."""
        if call.output is not None and (call.output.positions > 1 or self.layout.positions == 1):
            self.module, self.call, self.layout = call.name, call.number, call.output
            self.linear = self.linear and call.is_linear()


def _chain(call: Call, residual: set[type]) -> list[_Point] | Call:
    """The blocks that one call runs one after the other; or the block inside that has no map, where this call's own
    output is none either."""
    points: list[_Point] = []
    for inner in call.calls:
        if inner.has_weights():
            found = _blocks(inner, residual)
            if isinstance(found, Call):
                return [_unit(call, call.output, "block")] if call.output and call.name else found
            points += found
        elif points and not points[-1].residual:
            points[-1].extend(inner)
    return points


def _blocks(call: Call, residual: set[type]) -> list[_Point] | Call:
    if type(call.module) in residual:
        if call.output is not None:
            return _split(call, call.output)
        if call.bare:
            return []
        around = [inner for inner in call.calls if _is_around(inner, residual)]
        found = _chain(Call(call.name, call.module, call.number, 0, calls=around), residual) if around else []
        return found or call
    if type(call.module).forward is nn.Sequential.forward or any(type(c.module) in residual for c in call.inside()):
        return _chain(call, residual)
    if call.output is None:
        return []
    spatial = any(event.what == "conv" for event in call.events) or call.output.kind == "NCHW"
    return [_unit(call, call.output, "conv" if spatial else "mlp", linear=call.is_linear())]


def _is_around(call: Call, residual: set[type]) -> bool:
    return type(call.module) in residual or any(type(inner.module) in residual for inner in call.inside())


def _unit(call: Call, output: Layout, kind: str, **about: Any) -> _Point:
    return _Point(call.name, kind, call.name, "output", call.number, output, **about)


def _split(call: Call, output: Layout) -> list[_Point]:
    """The sub-blocks of a residual block: up to every sum that a later branch reads and adds to, and up to the end."""
    size = output.positions * output.channels
    inner = [
        (s.time, *s.reader)
        for s, following in pairwise(call.sums)
        if s.reader is not None
        and s.reader[2] is not None
        and s.reader[2].positions * s.reader[2].channels == size
        and any(event.what in WORK for event in call.between(s.time, following.time))
    ]
    ends = [time for time, *_ in inner] + [call.end]
    spans = list(pairwise([call.start, *ends]))
    windows = [call.between(start, end) for start, end in spans]
    kinds = _kinds(windows, output)
    if len(windows) == 1:
        return [_unit(call, output, kinds[0], residual=True)]
    names = [_worker(call, start, end) for start, end in spans]
    points = [
        _Point(name, kind, module, "input", number, layout, residual=True)
        for name, kind, (_, module, number, layout) in zip(names[:-1], kinds[:-1], inner, strict=True)
        if layout is not None
    ]
    return [*points, _Point(names[-1], kinds[-1], call.name, "output", call.number, output, residual=True)]


def _worker(call: Call, start: int, end: int) -> str:
    """Name of the last module with weights (or, without any, that pools) between two times: blocks.0.attn …"""
    calls = [inner for inner in call.calls if start < inner.start < end]
    working = [inner.name for inner in calls if inner.has_weights()] or [inner.name for inner in calls if inner.events]
    return working[-1] if working else call.name


def _kinds(windows: Sequence[list[Event]], layout: Layout) -> list[str]:
    happened = [{event.what for event in window} for window in windows]
    kinds = [_kind(what) for what in happened]
    if kinds == ["mlp"] and layout.kind == "NCHW":
        return ["conv"]  # one by one pixel
    if {"attention", "token_mixing"} & set(kinds):
        # a depthwise convolution between the layers of a transformer's MLP does not make it another kind of block
        dense = [bool(what & {"pointwise", "linear"}) for what in happened]
        kinds = ["mlp" if kind == "conv" and d else kind for kind, d in zip(kinds, dense, strict=True)]
    return kinds


def _kind(what: set[str]) -> str:
    if "attention" in what:
        return "attention"
    if "token_linear" in what:
        return "token_mixing"
    if "conv" in what:
        return "conv"
    return "token_mixing" if "pool" in what else "mlp"


def _with_downsampling(points: list[_Point]) -> list[_Point]:
    """A linear map that leaves fewer positions is a stage's downsampling."""
    for before, point in pairwise(points):
        if point.linear and point.layout.positions < before.layout.positions:
            point.kind = "downsample"
    return points


def _with_stem(points: list[_Point]) -> list[_Point]:
    """The layers before the first part of the model that has residual blocks, as one block: the stem."""
    if not points or points[0].residual:
        return points
    later = {_part(point) for point in points if point.residual}
    length = next((k for k, point in enumerate(points) if _part(point) in later), 0)
    stem = points[max(length, 1) - 1]
    stem.kind = "stem"
    if length and len({_part(point) for point in points[:length]}) == 1:
        stem.name = _part(stem)
    return [stem, *points[max(length, 1) :]]


def _part(point: _Point) -> str:
    """The child of the model that the block lies in."""
    return point.name.split(".")[0]
