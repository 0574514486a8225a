"""A network on images of noise: whether it runs on them, and which of its tensors hold a map of the image, and how.

A tensor is a map where a change in one quadrant of the image changes that quadrant of the map most.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NoReturn

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from a2mim.errors import out_of_memory

Side = Literal["input", "output"]


@dataclass(frozen=True)
class Layout:
    """How a tensor holds a map: NCHW, NHWC, or tokens NLC in raster order behind `prefix` others (class token …)."""

    kind: Literal["NCHW", "NHWC", "NLC"]
    channels: int
    grid: tuple[int, int]  # (h, w) at the image size that the backbone was read with
    prefix: int = 0


def own_image_size(backbone: nn.Module) -> int:
    """Side in pixels of the images that a timm model was made for."""
    for module in backbone.modules():
        size = getattr(module, "img_size", None)
        if size is not None:
            return int(size[0] if isinstance(size, Sequence) else size)
    config = getattr(backbone, "pretrained_cfg", None) or {}
    return int(config.get("input_size", (3, 224, 224))[-1])


def token_grid(tokens: int, aspect: float) -> tuple[int, int]:
    """Rows and columns of a map of that many tokens; aspect: height / width of the image."""
    height = round(math.sqrt(tokens * aspect))
    return height, tokens // height


def to_map(x: Tensor, layout: Layout, aspect: float = 1.0) -> Tensor:
    """A tensor in `layout` as a map (B, C, h, w), without prefix tokens. aspect: height / width of the image."""
    if layout.kind == "NCHW":
        return x
    if layout.kind == "NHWC":
        return x.permute(0, 3, 1, 2)
    height, width = token_grid(x.shape[1] - layout.prefix, aspect)
    return x[:, layout.prefix :].transpose(1, 2).reshape(x.shape[0], -1, height, width)


def intercept(backbone: nn.Module, module: str, side: Side, edit: Callable[[Any], Any]) -> RemovableHandle:
    """Call `edit` with a module's input or output in every forward pass; what it returns, unless None, replaces it."""
    if side == "output":
        return backbone.get_submodule(module).register_forward_hook(lambda _, args, output: edit(output))

    def before(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        x = edit(args[0]) if args else None
        return None if x is None else (x, *args[1:])

    return backbone.get_submodule(module).register_forward_pre_hook(before)


@contextmanager
def attached(*handles: RemovableHandle) -> Iterator[None]:
    """Inside, these hooks are there; behind it they are removed."""
    with ExitStack() as hooks:
        for handle in handles:
            hooks.enter_context(handle)
        yield


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients inside; every module's own mode is restored afterwards."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for m, training in modes:
            m.training = training


def read_layouts(backbone: nn.Module, image_size: int, modules: Sequence[str]) -> dict[str, Layout | None]:
    """The layout of each named module's output, in the order in which they run: None where that is no map of the image.
    Modules that `forward_features` does not run are left out."""
    found: dict[str, Layout | None] = {}

    def keep(name: str, output: Any) -> None:
        if name not in found:
            found[name] = layout_of(output, backbone) if isinstance(output, Tensor) else None

    handles = [intercept(backbone, name, "output", partial(keep, name)) for name in modules]
    with evaluating(backbone), attached(*handles):
        backbone.forward_features(quadrant_images(backbone, image_size))  # type: ignore[operator]
    return found


def read_layout(backbone: nn.Module, image_size: int) -> Layout:
    """How what `forward_features` returns holds a map of the image. Raises ValueError where it is none."""
    with evaluating(backbone):
        try:
            features = backbone.forward_features(quadrant_images(backbone, image_size))  # type: ignore[operator]
        except Exception as error:
            raise_unfit(backbone, image_size, error)
        layout = layout_of(features, backbone) if isinstance(features, Tensor) else None
    if layout is None:
        raise ValueError(
            f"what {type(backbone).__name__} gives for an image is no map of it, neither channels × height × width nor "
            "patch tokens in raster order: choose another network"
        )
    return layout


_N_IMAGES = 5  # noise, and the same with each quadrant changed


def quadrant_images(backbone: nn.Module, size: int) -> Tensor:
    """(5, C, size, size): an image of noise, and the same with other noise in each of its quadrants."""
    channels = next((m.in_channels for m in backbone.modules() if isinstance(m, nn.Conv2d)), 3)
    weight = next(backbone.parameters(), torch.empty(0))
    noise = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))
    images = torch.where(_quadrants(size, size)[:, None] > 0, noise[1], noise[0])
    return torch.cat([noise[:1], images]).to(weight.device, weight.dtype)


def _quadrants(height: int, width: int) -> Tensor:
    """(4, height, width): indicators of the quadrants; fractions where a grid of odd size straddles the middle."""
    rows = (0.5 * height - torch.arange(height)).clamp(0, 1)
    columns = (0.5 * width - torch.arange(width)).clamp(0, 1)
    return torch.stack([r[:, None] * c for r in (rows, 1 - rows) for c in (columns, 1 - columns)])


def layout_of(x: Tensor, backbone: nn.Module) -> Layout | None:
    """How x, computed from `quadrant_images`, holds a map of the (square) image; None where it holds none."""
    options: list[Layout] = []
    if x.shape[0] != _N_IMAGES:  # windows or pixels folded into the batch
        return None
    if x.ndim == 4:
        _, a, b, c = x.shape
        options += [Layout("NCHW", a, (b, c))] if b == c else []
        options += [Layout("NHWC", c, (a, b))] if a == b else []
        if len(options) == 1:
            return options[0]
    elif x.ndim == 3:
        for prefix in dict.fromkeys((0, getattr(backbone, "num_prefix_tokens", None) or 0)):
            side = math.isqrt(max(x.shape[1] - prefix, 0))
            if side > 0 and side * side == x.shape[1] - prefix:
                options.append(Layout("NLC", x.shape[2], (side, side), prefix))
    scores = [_locality(to_map(x, option)) for option in options]
    best = max(range(len(options)), key=lambda i: scores[i], default=None)
    # Tokens in another order than the raster's (grouped by window, say) would be masked in the wrong cells. They score
    # 0.0 to 0.14, maps in raster order 0.9 and more.
    return None if best is None or scores[best] < 0.5 else options[best]


def _locality(x_BCHW: Tensor) -> float:
    """How well the change that a quadrant of the image causes keeps to that quadrant of the map.

    0: not at all; 1: the positions that change most are its own, or nothing can be said because all change alike (an
    untrained global attention).
    """
    change = (x_BCHW[1:] - x_BCHW[:1]).abs().sum(1).double().cpu()
    quadrants = _quadrants(*change.shape[1:]).flatten(1)
    share = _share_inside(change.flatten(1), quadrants)
    best = _share_inside(change.flatten(1).sort(descending=True).values, quadrants.sort(descending=True).values)
    return (share - 0.5) / (best - 0.5) if best > 0.55 else 1.0


def _share_inside(change_4L: Tensor, inside_4L: Tensor) -> float:
    """Mean change inside, as a part of that inside and outside together: 0.5 if it is even."""
    inside = (change_4L * inside_4L).sum(1) / inside_4L.sum(1)
    outside = (change_4L * (1 - inside_4L)).sum(1) / (1 - inside_4L).sum(1)
    return float(torch.nan_to_num(inside / (inside + outside), nan=0.5).mean())


def refuse_unfit(backbone: nn.Module, size: int, classes: int = 0) -> None:
    """Run the network once on an image of this side, in evaluation mode: as a whole where it has `classes` outputs,
    else up to its features.

    Raises ValueError for a network that fails, or returns anything but one row of so many class scores.
    """
    name = type(backbone).__name__
    if not callable(getattr(backbone, "forward_features", None)):
        raise ValueError(f"{name} has no forward_features, timm's verb for the last map of features: use a timm model")
    weight = next(backbone.parameters(), torch.empty(0))
    image = quadrant_images(backbone, size)[:1].to(weight.device, weight.dtype)
    with evaluating(backbone), torch.random.fork_rng(devices=[]):
        try:
            x = backbone(image) if classes else backbone.forward_features(image)  # type: ignore[operator]
        except Exception as error:
            raise_unfit(backbone, size, error)
    if classes and not (isinstance(x, Tensor) and x.shape == (1, classes)):
        found = "×".join(map(str, x.shape)) if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise ValueError(
            f"{name} returns {found} for one image, not 1×{classes}, a score of each class: mend its forward"
        )


def raise_unfit(backbone: nn.Module, size: int | tuple[int, int], error: Exception) -> NoReturn:
    """Say that a network failed on images of this side, or height and width; memory that ran out stays what it is."""
    if out_of_memory(error):
        raise error
    lines = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    height, width = size if isinstance(size, tuple) else (size, size)
    raise ValueError(
        f"{type(backbone).__name__} does not run on images of {height}×{width} px ({reason}): choose another image "
        "size, or mend its forward"
    ) from error
