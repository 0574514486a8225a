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
- which tensors are maps, and how they are laid out: what convolution, pooling, norm, activation, addition and plain
  rearrangement make of a map is one, and tokens put before it are prefix tokens (class token …). Where that thread
  breaks, as between windows, a change in one quadrant of the image must change that quadrant of the map most.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from interactions.outputs import DoesNotRun, does_not_run, is_out_of_memory, run

Side = Literal["input", "output"]
Kind = Literal["NCHW", "NHWC", "NLC", "NCL"]


@dataclass(frozen=True)
class Layout:
    """How a tensor holds a map: NCHW, NHWC, or tokens in raster order (NLC, NCL), in NLC behind `prefix` others."""

    kind: Kind
    channels: int
    height: int
    width: int
    prefix: int = 0

    @property
    def positions(self) -> int:
        return self.height * self.width


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
    root = _trace(model, image_shape)
    residual = {type(call.module) for call in root.inside() if call.sums}
    found = _chain(root, residual)
    if isinstance(found, _Call):
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

    handles = []
    for name, side in by_place:
        module, hook = model.get_submodule(name), partial(hand_over, (name, side))
        if side == "output":
            handles.append(module.register_forward_hook(lambda _, args, output, hook=hook: hook(only_tensor(output))))
        else:
            handles.append(module.register_forward_pre_hook(lambda _, args, hook=hook: hook(args[0])))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def run_features(model: nn.Module, x_BCHW: Tensor) -> Any:
    """One forward pass, without the classifier where the model can do without."""
    forward = getattr(model, "forward_features", None)
    return run(forward if callable(forward) else model, x_BCHW)


def only_tensor(output: Any) -> Tensor | None:
    """The tensor that a module returns, be it alone or beside its height and width; None where it returns several."""
    if isinstance(output, Tensor):
        return output
    tensors = [x for x in output if isinstance(x, Tensor)] if isinstance(output, list | tuple) else []
    return tensors[0] if len(tensors) == 1 else None


def to_map(x: Tensor, layout: Layout) -> Tensor:
    """A tensor in `layout` as a map B×C×H×W, without prefix tokens."""
    if layout.kind == "NCHW":
        return x
    if layout.kind == "NHWC":
        return x.permute(0, 3, 1, 2)
    if layout.kind == "NCL":
        return x.unflatten(2, (layout.height, layout.width))
    return x[:, layout.prefix :].transpose(1, 2).unflatten(2, (layout.height, layout.width))


# --- from a traced forward pass to blocks


@dataclass
class _Event:
    """Something that tells kinds of blocks apart, at a time of the trace."""

    time: int
    what: str


@dataclass
class _Sum:
    """Two tensors that depend on the image, added; and the first call that reads the sum."""

    time: int
    value: Tensor | None
    reader: tuple[str, int, Layout | None] | None = None


@dataclass
class _Call:
    """One call of a module. `output`: how its output holds a map, None where it holds none."""

    name: str
    module: nn.Module
    number: int
    start: int
    end: int = 0
    output: Layout | None = None
    bare: bool = False  # the output has no positions at all
    calls: "list[_Call]" = field(default_factory=list)
    sums: list[_Sum] = field(default_factory=list)
    events: list[_Event] = field(default_factory=list)

    def inside(self) -> "Iterator[_Call]":
        for call in self.calls:
            yield call
            yield from call.inside()

    def between(self, start: int, end: int) -> list[_Event]:
        return [event for event in self.events if start < event.time < end]

    def has_weights(self) -> bool:
        return any(event.what in _WEIGHTED for event in self.events)

    def is_linear(self) -> bool:
        return not any(event.what == "activation" for event in self.events)


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

    def extend(self, call: _Call) -> None:
        """Norm, activation and pooling that follow; pooling to a single position belongs to a classifier."""
        if call.output is not None and (call.output.positions > 1 or self.layout.positions == 1):
            self.module, self.call, self.layout = call.name, call.number, call.output
            self.linear = self.linear and call.is_linear()


def _chain(call: _Call, residual: set[type]) -> list[_Point] | _Call:
    """The blocks that one call runs one after the other; or the block inside that has no map, where this call's own
    output is none either."""
    points: list[_Point] = []
    for inner in call.calls:
        if inner.has_weights():
            found = _blocks(inner, residual)
            if isinstance(found, _Call):
                return [_unit(call, call.output, "block")] if call.output and call.name else found
            points += found
        elif points and not points[-1].residual:
            points[-1].extend(inner)
    return points


def _blocks(call: _Call, residual: set[type]) -> list[_Point] | _Call:
    if type(call.module) in residual:
        if call.output is not None:
            return _split(call, call.output)
        if call.bare:
            return []
        around = [inner for inner in call.calls if _is_around(inner, residual)]
        found = _chain(_Call(call.name, call.module, call.number, 0, calls=around), residual) if around else []
        return found or call
    if type(call.module).forward is nn.Sequential.forward or any(type(c.module) in residual for c in call.inside()):
        return _chain(call, residual)
    if call.output is None:
        return []
    spatial = any(event.what == "conv" for event in call.events) or call.output.kind == "NCHW"
    return [_unit(call, call.output, "conv" if spatial else "mlp", linear=call.is_linear())]


def _is_around(call: _Call, residual: set[type]) -> bool:
    return type(call.module) in residual or any(type(inner.module) in residual for inner in call.inside())


def _unit(call: _Call, output: Layout, kind: str, **about: Any) -> _Point:
    return _Point(call.name, kind, call.name, "output", call.number, output, **about)


def _split(call: _Call, output: Layout) -> list[_Point]:
    """The sub-blocks of a residual block: up to every sum that a later branch reads and adds to, and up to the end."""
    size = output.positions * output.channels
    inner = [
        (s.time, *s.reader)
        for s, following in pairwise(call.sums)
        if s.reader is not None
        and s.reader[2] is not None
        and s.reader[2].positions * s.reader[2].channels == size
        and any(event.what in _WORK for event in call.between(s.time, following.time))
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


def _worker(call: _Call, start: int, end: int) -> str:
    """Name of the last module with weights (or, without any, that pools) between two times: blocks.0.attn …"""
    calls = [inner for inner in call.calls if start < inner.start < end]
    working = [inner.name for inner in calls if inner.has_weights()] or [inner.name for inner in calls if inner.events]
    return working[-1] if working else call.name


def _kinds(windows: Sequence[list[_Event]], layout: Layout) -> list[str]:
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


# --- the trace

_WEIGHTED = {"conv", "pointwise", "linear", "token_linear"}
_WORK = _WEIGHTED | {"attention", "pool"}
_SUMS = {"add", "add_", "__add__", "__iadd__", "__radd__"}
_PRODUCTS = {"matmul", "__matmul__", "bmm", "baddbmm", "einsum"}
_ATTENTION = {"scaled_dot_product_attention", "multi_head_attention_forward", "_native_multi_head_attention"}
_POOLS = {"avg_pool2d", "max_pool2d", "adaptive_avg_pool2d", "fft2", "rfft2"}
_ELEMENTWISE = {
    "mul", "mul_", "__mul__", "__rmul__", "__imul__", "sub", "__sub__", "clone", "contiguous", "to", "type_as",
    "addcmul", "batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "dropout",
    "dropout_", "dropout2d",
}  # fmt: skip
_OF_MAPS = {"conv2d", "cat", "concat", "chunk", "split", "interpolate", "pad", "_pad"} | _POOLS
_ACTIVATIONS = {
    "relu", "relu6", "gelu", "silu", "hardswish", "hardsigmoid", "hardtanh", "leaky_relu", "prelu", "elu", "selu",
    "celu", "mish", "softplus", "sigmoid", "tanh", "threshold",
}  # fmt: skip


def _trace(model: nn.Module, image_shape: Sequence[int]) -> _Call:
    weight = next(model.parameters(), torch.empty(0))
    images = _quadrant_images(image_shape).to(weight.device, weight.dtype)
    tracer = _Tracer(model, images)
    with torch.no_grad(), tracer.hooked():
        try:
            with tracer:
                run_features(model, images)
        except Exception as error:  # a network may fail in any way at all
            if is_out_of_memory(error) or isinstance(error, DoesNotRun):
                raise
            raise does_not_run(type(model).__name__, image_shape[1:], error) from error
    tracer.root.end = tracer.time
    return tracer.root


class _Tracer(TorchFunctionMode):
    """Sees every module call and every torch function of one forward pass. State: the calls that are under way."""

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        super().__init__()
        self.model, self.batch, self.aspect = model, len(images), images.shape[-2] / images.shape[-1]
        self.prefixes = tuple(dict.fromkeys((getattr(model, "num_prefix_tokens", None) or 0, 0)))
        self.root = _Call("", model, 0, 0)
        self.under_way, self.time, self.paused = [self.root], 0, False
        self.counts: Counter[str] = Counter()
        images._from_image = True  # type: ignore[attr-defined]
        _set_layout(images, Layout("NCHW", *images.shape[1:]))

    @contextmanager
    def hooked(self) -> Iterator[None]:
        handles = []
        for name, module in self.model.named_modules():
            if name:
                handles.append(module.register_forward_pre_hook(partial(self.enter, name)))
                handles.append(module.register_forward_hook(self.leave))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def enter(self, name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        with self._pause():
            self._note_reader(name, args)
            call = _Call(name, module, self.counts[name], self._tick())
            self.counts[name] += 1
            self.under_way[-1].calls.append(call)
            self.under_way.append(call)

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        with self._pause():
            call = self.under_way.pop()
            call.end = self._tick()
            x = only_tensor(output)
            call.output = None if x is None else self._layout(x)
            call.bare = x is not None and _positions(x) <= 1
            for made in call.sums:
                made.value = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.paused:
            return result
        given = [x for x in tree_leaves((args, kwargs or {})) if isinstance(x, Tensor)]
        if any(hasattr(x, "_from_image") for x in given):
            name = getattr(func, "__name__", "")
            changed = args[0] if name == "__setitem__" else result
            for x in tree_leaves(changed):
                if isinstance(x, Tensor):
                    x._from_image = True  # type: ignore[attr-defined]
                    _set_layout(x, _kept_layout(name, args, given, x))
            with self._pause():
                self._note(name, given, result)
        return result

    def _note(self, name: str, given: list[Tensor], result: Any) -> None:
        from_image = [x for x in given if hasattr(x, "_from_image")]
        if name in _SUMS:
            same = len(given) == 2 and len(from_image) == 2 and given[0].shape == given[1].shape
            if same and given[0].ndim >= 3 and len(given[0]) % self.batch == 0:
                self.under_way[-1].sums.append(_Sum(self._tick(), result))
        elif name in _ATTENTION or (name in _PRODUCTS and len(from_image) >= 2):
            self._happen(_Event(self._tick(), "attention"))
        elif name in ("conv2d", "_conv_forward"):
            wide = len(given) > 1 and max(given[1].shape[2:]) > 1
            self._happen(_Event(self._tick(), "conv" if wide else "pointwise"))
        elif name == "linear":
            layout = _layout_of(given[0])
            along_tokens = layout is not None and layout.kind == "NCL"
            self._happen(_Event(self._tick(), "token_linear" if along_tokens else "linear"))
        elif name in _POOLS:
            self._happen(_Event(self._tick(), "pool"))
        elif name.rstrip("_") in _ACTIVATIONS:
            self._happen(_Event(self._tick(), "activation"))

    def _happen(self, event: _Event) -> None:
        for call in self.under_way:
            call.events.append(event)

    def _note_reader(self, name: str, args: tuple[Any, ...]) -> None:
        """A sum that this call reads is what the branch behind it starts from."""
        if not args or not isinstance(args[0], Tensor):
            return
        where = args[0].untyped_storage().data_ptr()
        for made in reversed(self.under_way[-1].sums):
            if made.value is not None and made.value.untyped_storage().data_ptr() == where:
                made.reader = made.reader or (name, self.counts[name], self._layout(args[0]))
                return

    def _layout(self, x: Tensor) -> Layout | None:
        if not hasattr(x, "_from_image") or len(x) != self.batch:
            return None
        if _layout_of(x) is None:
            _set_layout(x, _read_layout(x, self.aspect, self.prefixes))
        return _layout_of(x)

    def _tick(self) -> int:
        self.time += 1
        return self.time

    @contextmanager
    def _pause(self) -> Iterator[None]:
        before, self.paused = self.paused, True
        try:
            yield
        finally:
            self.paused = before


def _layout_of(x: Tensor) -> Layout | None:
    return getattr(x, "_layout", None)


def _set_layout(x: Tensor, layout: Layout | None) -> None:
    x._layout = layout  # type: ignore[attr-defined]


def _kept_layout(name: str, args: Sequence[Any], given: list[Tensor], made: Tensor) -> Layout | None:
    """The layout of what a function makes of maps, where it can be told."""
    before = _layout_of(made)
    maps = [(x, layout) for x in given if (layout := _layout_of(x)) is not None]
    if not maps:
        return before
    first, layout = maps[0]
    if name in _SUMS | _ELEMENTWISE or name.rstrip("_") in _ACTIVATIONS:
        return next((layout for x, layout in maps if x.shape == made.shape), before)
    if name in _OF_MAPS and layout.kind == "NCHW" and made.ndim == 4:
        return Layout("NCHW", *made.shape[1:])
    if name in ("linear", "chunk", "split") and layout.kind in ("NHWC", "NLC") and made.shape[:-1] == first.shape[:-1]:
        return replace(layout, channels=made.shape[-1])
    if name in ("cat", "concat") and layout.kind == "NLC" and made.ndim == 3 and given[-1] is first:
        prefix = layout.prefix + made.shape[1] - first.shape[1]
        return replace(layout, prefix=prefix) if prefix >= layout.prefix and made.shape[2] == layout.channels else None
    if name == "__getitem__" and layout.kind == "NLC" and made.shape[1:] == (layout.positions, layout.channels):
        return replace(layout, prefix=0)
    if name in ("permute", "transpose", "swapaxes"):
        return _permuted(layout, first.ndim, name, [k for k in tree_leaves(args[1:]) if isinstance(k, int)])
    if name in ("reshape", "view", "flatten", "unflatten"):
        return _reshaped(layout, made)
    return before


def _permuted(layout: Layout, ndim: int, name: str, dims: list[int]) -> Layout | None:
    order = list(range(ndim))
    if name == "permute":
        order = [d % ndim for d in dims]
    elif len(dims) == 2:
        a, b = (d % ndim for d in dims)
        order[a], order[b] = b, a
    kind = next((kind for kind in get_args(Kind) if list(kind) == [layout.kind[d] for d in order]), None)
    return None if kind is None or (layout.prefix and kind != "NLC") else replace(layout, kind=kind)


def _reshaped(layout: Layout, made: Tensor) -> Layout | None:
    channels, sides, tokens = layout.channels, (layout.height, layout.width), layout.positions + layout.prefix
    last = layout.kind in ("NHWC", "NLC")
    shapes: dict[tuple[int, ...], Kind] = {(tokens, channels): "NLC"} if last else {(channels, tokens): "NCL"}
    if not layout.prefix:
        shapes |= {(*sides, channels): "NHWC"} if last else {(channels, *sides): "NCHW"}
    kind = shapes.get(tuple(made.shape[1:]))
    return None if kind is None else replace(layout, kind=kind)


def _positions(x: Tensor) -> int:
    return x.shape[1] if x.ndim == 3 else min(math.prod(x.shape[2:]), math.prod(x.shape[1:3])) if x.ndim == 4 else 1


# --- which tensors are maps

_LOCAL = 0.5
"""How local a change must be. Tokens in raster order score 0.9 and more, in another order (grouped by window, say) less
than 0.4."""


def _quadrant_images(image_shape: Sequence[int]) -> Tensor:
    """(5, C, H, W): an image of noise, and the same with other noise in each of its quadrants."""
    noise = torch.randn(2, *image_shape, generator=torch.Generator().manual_seed(0))
    changed = torch.where(_quadrants(*image_shape[1:])[:, None] > 0, noise[1], noise[0])
    return torch.cat([noise[:1], changed])


def _quadrants(height: int, width: int) -> Tensor:
    """(4, height, width): indicators of the quadrants; fractions where a grid of odd size straddles the middle."""
    rows = (0.5 * height - torch.arange(height)).clamp(0, 1)
    columns = (0.5 * width - torch.arange(width)).clamp(0, 1)
    return torch.stack([r[:, None] * c for r in (rows, 1 - rows) for c in (columns, 1 - columns)])


def _read_layout(x: Tensor, aspect: float, prefixes: Sequence[int]) -> Layout | None:
    """How x, computed from `_quadrant_images`, holds a map of an image of that height / width; None if it does not."""
    options: list[Layout] = []
    if x.ndim == 4:
        _, a, b, c = x.shape
        options = [Layout("NCHW", a, b, c), Layout("NHWC", c, a, b)]
    elif x.ndim == 3:
        for prefix in prefixes:
            tokens = x.shape[1] - prefix
            sides = [h for h in range(1, tokens + 1) if tokens % h == 0] if tokens > 1 else []
            options += [Layout("NLC", x.shape[2], h, tokens // h, prefix) for h in sides]
    options = [option for option in options if _has_aspect(option, aspect)]
    options.sort(key=lambda option: abs(math.log(option.height / option.width / aspect)))
    return next((option for option in options if _locality(to_map(x, option)) >= _LOCAL), None)


def _has_aspect(layout: Layout, aspect: float) -> bool:
    """Whether the map has the image's proportions, but for less than a position that rounding adds or takes."""
    height, width = layout.height, layout.width
    return height - 1 < aspect * (width + 1) and aspect * (width - 1) < height + 1


def _locality(x_BCHW: Tensor) -> float:
    """How well the change that a quadrant of the image causes keeps to that quadrant of the map.

    At each position, the share that its own quadrant has in the changes by all four, against that of the quadrant which
    changes it most. 0: no more than the quarter of chance; 1: its own does, or nothing can be said because all four
    change it alike.
    """
    change_4HW = (x_BCHW[1:] - x_BCHW[:1]).abs().sum(1).double().cpu()
    share_4HW = (change_4HW / change_4HW.sum(0)).nan_to_num(nan=0.25)
    quadrants_4HW = _quadrants(*share_4HW.shape[1:]).double()
    own = float((share_4HW * quadrants_4HW).sum(0).mean())
    best = float(share_4HW.max(0).values.mean())
    return (own - 0.25) / (best - 0.25) if best > 0.3 else 1.0
