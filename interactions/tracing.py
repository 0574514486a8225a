"""One forward pass of a network on noise, seen call by call and function by function.

What is written down is which modules run, inside of which and in which order; where two tensors that depend on the
image are added; what tells kinds of blocks apart (convolutions, products, layers along the tokens, pooling …); and
which tensors are maps of the image, and how they are laid out.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from interactions.layouts import Kind, Layout, quadrant_images, read_layout
from interactions.outputs import DoesNotRun, does_not_run, is_out_of_memory, run

WEIGHTED = {"conv", "pointwise", "linear", "token_linear"}
WORK = WEIGHTED | {"attention", "pool"}
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


@dataclass
class Event:
    """Something that tells kinds of blocks apart, at a time of the trace."""

    time: int
    what: str


@dataclass
class Sum:
    """Two tensors that depend on the image, added; and the first call that reads the sum."""

    time: int
    value: Tensor | None
    reader: tuple[str, int, Layout | None] | None = None


@dataclass
class Call:
    """One call of a module. `output`: how its output holds a map, None where it holds none."""

    name: str
    module: nn.Module
    number: int
    start: int
    end: int = 0
    output: Layout | None = None
    bare: bool = False  # the output has no positions at all
    calls: "list[Call]" = field(default_factory=list)
    sums: list[Sum] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def inside(self) -> "Iterator[Call]":
        for call in self.calls:
            yield call
            yield from call.inside()

    def between(self, start: int, end: int) -> list[Event]:
        return [event for event in self.events if start < event.time < end]

    def has_weights(self) -> bool:
        return any(event.what in WEIGHTED for event in self.events)

    def is_linear(self) -> bool:
        return not any(event.what == "activation" for event in self.events)


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


def trace(model: nn.Module, image_shape: Sequence[int]) -> Call:
    weight = next(model.parameters(), torch.empty(0))
    images = quadrant_images(image_shape).to(weight.device, weight.dtype)
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
        self.root = Call("", model, 0, 0)
        self.under_way, self.time, self.paused = [self.root], 0, False
        self.counts: Counter[str] = Counter()
        images._from_image = True  # type: ignore[attr-defined]
        _set_layout(images, Layout("NCHW", *images.shape[1:]))

    @contextmanager
    def hooked(self) -> Iterator[None]:
        with ExitStack() as hooks:
            for name, module in self.model.named_modules():
                if name:
                    hooks.enter_context(module.register_forward_pre_hook(partial(self.enter, name)))
                    hooks.enter_context(module.register_forward_hook(self.leave))
            yield

    def enter(self, name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        with self._pause():
            self._note_reader(name, args)
            call = Call(name, module, self.counts[name], self._tick())
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
                self.under_way[-1].sums.append(Sum(self._tick(), result))
        elif name in _ATTENTION or (name in _PRODUCTS and len(from_image) >= 2):
            self._happen(Event(self._tick(), "attention"))
        elif name in ("conv2d", "_conv_forward"):
            wide = len(given) > 1 and max(given[1].shape[2:]) > 1
            self._happen(Event(self._tick(), "conv" if wide else "pointwise"))
        elif name == "linear":
            layout = _layout_of(given[0])
            along_tokens = layout is not None and layout.kind == "NCL"
            self._happen(Event(self._tick(), "token_linear" if along_tokens else "linear"))
        elif name in _POOLS:
            self._happen(Event(self._tick(), "pool"))
        elif name.rstrip("_") in _ACTIVATIONS:
            self._happen(Event(self._tick(), "activation"))

    def _happen(self, event: Event) -> None:
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
            _set_layout(x, read_layout(x, self.aspect, self.prefixes))
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
