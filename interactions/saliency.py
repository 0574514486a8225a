"""How salient each cell of an image is to a model: attributions of the model (captum), or its own attention.

Every saliency maps normalised images B×C×H×W, their labels B and their baseline images B×C×H×W to a value for each
pixel, B×H×W; `cell_saliency` adds these up over the cells of a grid. Attention layers are found by what they do when
the model runs (they weigh the tokens that they are given), never by a model's name.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from captum.attr import IntegratedGradients
from captum.attr import Saliency as Gradient
from torch import Tensor, nn

from interactions.full_precision import full_precision
from interactions.grid import PatchGrid
from interactions.outputs import Logits

STEPS = 32
"""Points of the path that integrated gradients follow."""

Saliency = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]


def gradient(model: nn.Module, images_BCHW: Tensor, labels_B: Tensor, absent_BCHW: Tensor) -> Tensor:
    """Size of the gradient of the label's logit, added up over the channels (Simonyan et al. 2014, arXiv 1312.6034)."""
    return Gradient(Logits(model)).attribute(images_BCHW.detach().requires_grad_(), target=labels_B, abs=True).sum(1)


def integrated_gradients(model: nn.Module, images_BCHW: Tensor, labels_B: Tensor, absent_BCHW: Tensor) -> Tensor:
    """Share of each pixel in the difference of the label's logit between the image and the baseline image, with its
    sign: what speaks against the label is not salient (Sundararajan et al. 2017, arXiv 1703.01365, eq. 3)."""
    return (
        IntegratedGradients(Logits(model))
        .attribute(
            images_BCHW,
            absent_BCHW,
            target=labels_B,
            n_steps=STEPS,
            internal_batch_size=max(len(images_BCHW), 2 * STEPS),
        )
        .sum(1)
    )


def class_attention(model: nn.Module, images_BCHW: Tensor, labels_B: Tensor, absent_BCHW: Tensor) -> Tensor:
    """What the class token attends to in the last layer, the mean over heads (as DINO's maps, Caron et al. 2021).

    Raises:
        ValueError: no attention over the whole image, or no class token.
    """
    weights_BQK, extra = last_attention(model, images_BCHW)
    if extra == 0 or getattr(model, "cls_token", True) is None:
        raise ValueError(f"{type(model).__name__} has no class token: take the saliency mean_attention, or gradient")
    return to_pixels(weights_BQK[:, 0, extra:], *images_BCHW.shape[-2:])


def mean_attention(model: nn.Module, images_BCHW: Tensor, labels_B: Tensor, absent_BCHW: Tensor) -> Tensor:
    """How much each patch is attended to in the last layer: the mean over heads and over the patches that attend.

    Raises:
        ValueError: no attention over the whole image.
    """
    weights_BQK, extra = last_attention(model, images_BCHW)
    attending_BQK = weights_BQK[:, extra:] if weights_BQK.shape[1] == weights_BQK.shape[2] else weights_BQK
    return to_pixels(attending_BQK[:, :, extra:].mean(1), *images_BCHW.shape[-2:])


SALIENCIES: dict[str, Saliency] = {
    "gradient": gradient,
    "integrated_gradients": integrated_gradients,
    "class_attention": class_attention,
    "mean_attention": mean_attention,
}


def cell_saliency(
    name: str, model: nn.Module, images_BCHW: Tensor, labels_B: Tensor, absent_BCHW: Tensor, grid: PatchGrid
) -> Tensor:
    """Saliency of every cell of the grid, float32 B×n: the sum over its pixels.

    Raises:
        ValueError: attention is asked for where the model has none; attributions that are NaN or infinite.
    """
    with full_precision():
        map_BHW = SALIENCIES[name](model, images_BCHW, labels_B, absent_BCHW).detach()
        cells_NN = torch.eye(grid.n_players, dtype=torch.bool, device=map_BHW.device)
        pixels_NP = grid.pixels(cells_NN, *map_BHW.shape[-2:]).flatten(1)
        saliency_BN = (map_BHW.flatten(1).float() @ pixels_NP.T.float()).cpu()
    if not bool(saliency_BN.isfinite().all()):
        raise ValueError(f"the saliency {name} is NaN or infinite: check the weights, or take another one")
    return saliency_BN


@torch.inference_mode()
def last_attention(model: nn.Module, images_BCHW: Tensor) -> tuple[Tensor, int]:
    """Attention of the last layer that attends over the whole image, B×queries×tokens (the mean over heads), and how
    many of the tokens stand in front of the patches (class token, registers).

    Raises:
        ValueError: a model that has no such layer.
    """
    with attention_weights(model) as weights:
        model(images_BCHW)
    height, width = images_BCHW.shape[-2:]
    for weights_BhQK in reversed(weights):
        extra = tokens_in_front(model, weights_BhQK.shape[-1], height, width)
        if len(weights_BhQK) == len(images_BCHW) and extra is not None:
            return weights_BhQK.mean(1), extra
    raise ValueError(
        f"{type(model).__name__} has no attention over the patches of the whole image: take the saliency gradient or "
        "integrated_gradients, or that of another run"
    )


@contextmanager
def attention_weights(model: nn.Module) -> Iterator[list[Tensor]]:
    """The attention weights B×heads×queries×tokens that layers compute while the model runs, in their order.

    Two structures are known: layers that pass their weights through a module `attn_drop` (timm's; where they would fuse
    that away, they are told not to), and torch's nn.MultiheadAttention.
    """
    weights: list[Tensor] = []
    handles, fused = [], []
    for layer in model.modules():
        if isinstance(layer, nn.MultiheadAttention):
            handles.append(layer.register_forward_pre_hook(_ask_for_weights, with_kwargs=True))
            handles.append(layer.register_forward_hook(lambda _, given, output: weights.append(output[1])))
        elif isinstance(getattr(layer, "attn_drop", None), nn.Module):
            passed: list[Tensor] = []
            handles.append(layer.attn_drop.register_forward_hook(_keep_in(passed)))  # type: ignore[union-attr]
            handles.append(layer.register_forward_hook(_take_over_tokens(passed, weights)))
            if getattr(layer, "fused_attn", False):
                fused.append(layer)
    for layer in fused:
        layer.fused_attn = False  # type: ignore[assignment]
    try:
        yield weights
    finally:
        for layer in fused:
            layer.fused_attn = True  # type: ignore[assignment]
        for handle in handles:
            handle.remove()


def _ask_for_weights(layer: nn.Module, given: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return given, options | {"need_weights": True, "average_attn_weights": False}


def _keep_in(passed: list[Tensor]) -> Callable[..., None]:
    def keep(_: nn.Module, given: Any, output: Tensor) -> None:
        passed[:] = [output]

    return keep


def _take_over_tokens(passed: list[Tensor], weights: list[Tensor]) -> Callable[..., None]:
    """A hook that takes what was passed as weights, if it weighs the layer's tokens (and not, say, its channels)."""

    def take(_: nn.Module, given: Any, output: Any) -> None:
        tokens = given[0].shape[1] if given and given[0].ndim == 3 else None
        if passed and passed[0].ndim == 4 and passed[0].shape[-1] == tokens:
            weights.append(passed[0])
        passed.clear()

    return take


def tokens_in_front(model: nn.Module, tokens: int, height: int, width: int) -> int | None:
    """How many of the tokens are no patches: what the model says, or else the fewest that leave a grid of the image's
    proportions, none or one. None where nothing does."""
    said = getattr(model, "num_prefix_tokens", None)
    candidates = (said,) if isinstance(said, int) else (0, 1)
    return next((extra for extra in candidates if token_grid(tokens - extra, height, width)), None)


def token_grid(patches: int, height: int, width: int) -> tuple[int, int] | None:
    """Rows and columns of so many patches, in the image's proportions; None where they fill no such grid."""
    rows = round(math.sqrt(patches * height / width)) if patches > 0 else 0
    columns = round(rows * width / height)
    return (rows, columns) if rows and rows * columns == patches else None


def to_pixels(weights_BK: Tensor, height: int, width: int) -> Tensor:
    """Weights of patches, row by row, spread evenly over the pixels that each covers: B×height×width."""
    grid = token_grid(weights_BK.shape[1], height, width)
    assert grid is not None
    rows, columns = grid
    row_H = torch.arange(height, device=weights_BK.device) * rows // height
    column_W = torch.arange(width, device=weights_BK.device) * columns // width
    return weights_BK[:, row_H[:, None] * columns + column_W] * (rows * columns / (height * width))
