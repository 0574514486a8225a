"""Does a model treat every image by itself, and twice alike? If not, v of a coalition is no number.

A batch normalisation without running statistics, attention along the wrong dimension, or anything else that mixes the
images of a batch makes v(T) depend on which coalitions happen to share T's batch; dropout that stays on makes it
random. Both would look like interactions.

An image is shown beside three others, and beside copies of itself, in batches of one size: then the same kernels round
alike, and the two outputs of a model that keeps images apart are equal to the bit, in float32 and bfloat16 alike. The
tolerance leaves room for sums that an accelerator adds up in any order.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
"""Of a difference, in units of the largest number that differs from row to row in the tensor that it is seen in."""
ALONE = 0.1
"""The same for the image alone: a batch of another size rounds otherwise, in 16 bits by some per cent."""

Forward = Callable[[Tensor], Any]


def refuse_dependent(model: nn.Module, forward: Forward, image_CHW: Tensor, absent_CHW: Tensor) -> None:
    """Nothing, where the output for an image is a matter of that image alone.

    Args:
        model: in whose modules the place is looked for where it is not.
        forward: x_BCHW -> the output that counts: a tensor, or any nesting of tensors, whose rows are the images'.
        image_CHW, absent_CHW: an image, normalised, and what it shows where nothing of it is shown.

    Raises:
        ValueError: the output depends on the other images of the batch, or differs between two passes; names the
            module.
    """
    half_CHW = absent_CHW.clone()
    half_CHW[..., : half_CHW.shape[-1] // 2] = image_CHW[..., : half_CHW.shape[-1] // 2]
    # At both ends of the batch: what runs along it, such as a recurrent layer, has seen others at one of them.
    mixed = torch.stack([image_CHW, absent_CHW, half_CHW, image_CHW])
    copies = image_CHW.expand_as(mixed).contiguous()
    ends, tolerance = (0, 3), TOLERANCE.get(image_CHW.dtype, 1e-5)
    found = forward(mixed)
    rows = rows_of(found, 4)
    if differ(rows, rows_of(forward(mixed), 4), tolerance):
        where = place_of(model, forward, mixed, mixed, range(4), tolerance)
        raise ValueError(
            f"two passes over the same images give two outputs{where}: what draws at random, or keeps a state, has to "
            "be switched off in evaluation mode"
        )
    if differ(rows_of(found, 4, ends), rows_of(forward(copies), 4, ends), tolerance, rows):
        where = place_of(model, forward, mixed, copies, ends, tolerance)
        raise ValueError(
            f"the output for an image depends on the other images of its batch{where}: a batch normalisation needs its "
            "running statistics, and no layer may mix the images of a batch"
        )
    if differ(rows_of(found, 4, (0,)), rows_of(forward(image_CHW[None]), 1), ALONE, rows):
        raise ValueError(
            "the output for an image depends on how many others are in its batch: no layer may mix the images of a "
            "batch, or count them"
        )


def differ(
    first: Sequence[Tensor], second: Sequence[Tensor], tolerance: float, like: Sequence[Tensor] | None = None
) -> bool:
    """Whether any two tensors differ by more than the tolerance times the scale of the first, or of those that it is
    `like`."""
    pairs = zip(first, second, like or first, strict=False)
    return any(a.shape == b.shape and a.numel() > 0 and not close(a, b, tolerance, scale) for a, b, scale in pairs)


def close(a: Tensor, b: Tensor, tolerance: float, like: Tensor | None = None) -> bool:
    """Whether two tensors are equal up to the tolerance times the largest number of those that differ from row to row:
    a class that a model masks by a constant, −10⁹ or −∞, says nothing of how large the others are."""
    like = a if like is None else like
    varying = (like != like[:1]).any(0).expand_as(like) & like.isfinite()
    told = like[varying] if bool(varying.any()) else like[like.isfinite()]
    same = (a == b) | (a.isnan() & b.isnan())
    return bool((same | ((a - b).abs() <= tolerance * told.abs().max())).all()) if told.numel() else bool(same.all())


def rows_of(output: Any, images: int, which: Sequence[int] | None = None) -> list[Tensor]:
    """The rows of some of the images in every tensor of numbers of an output; windows and heads may follow the image
    in the first dimension."""
    tensors = [x.detach() for x in tree_leaves(output) if isinstance(x, Tensor) and x.is_floating_point() and x.ndim]
    rows = [x.reshape(images, -1) for x in tensors if len(x) and len(x) % images == 0]
    return [x.double() if which is None else x[list(which)].double() for x in rows]


def place_of(
    model: nn.Module, forward: Forward, first: Tensor, second: Tensor, which: Sequence[int], tolerance: float
) -> str:
    """The first module whose inputs are alike in two passes and whose outputs are not, in words; empty where none."""
    passes = [watched(model, forward, x_BCHW, which) for x_BCHW in (first, second)]
    for (name, inputs, outputs), (_, other_inputs, other_outputs) in zip(*passes, strict=False):
        if not differ(inputs, other_inputs, tolerance) and differ(outputs, other_outputs, tolerance):
            kind = type(model.get_submodule(name)).__name__
            return f" (in '{name}', {kind})" if name else f" (in the forward of {kind})"
    return ""


def watched(
    model: nn.Module, forward: Forward, x_BCHW: Tensor, which: Sequence[int]
) -> list[tuple[str, list[Tensor], list[Tensor]]]:
    """The rows of some images in what every module takes and returns in one pass, in the order in which they end."""
    seen: list[tuple[str, list[Tensor], list[Tensor]]] = []

    def see(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, options: Any, output: Any) -> None:
            inputs = rows_of((args, options), len(x_BCHW), which)
            seen.append((name, inputs, rows_of(output, len(x_BCHW), which)))

        return hook

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            hooks.enter_context(module.register_forward_hook(see(name), with_kwargs=True))
        forward(x_BCHW)
    return seen
