"""Batch normalisations folded into the convolutions before them: one pass over the activations less for each.

In evaluation mode y = γ (Wx + b − μ) / √(σ² + ε) + β is a convolution with other weights. Which normalisation follows
which convolution is seen in a pass, so that any module will do; that the folded copy computes what the model computes
is seen in another one.
"""

import copy
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from interactions.independence import close

FOLDED_TOLERANCE = 1e-4
"""Of a difference of outputs, in units of the largest one: float32 rounds a network of fifty layers by some 1e-6."""


def folded(model: nn.Module, x_BCHW: Tensor, forward: Callable[[nn.Module, Tensor], Tensor]) -> nn.Module | None:
    """A copy of the model with its batch normalisations folded; None where there are none, or where it would differ.

    Args:
        model: in evaluation mode.
        x_BCHW: what it is tried on; two unlike images suffice.
        forward: a module and images -> the output that counts.
    """
    try:
        network = copy.deepcopy(model)
        pairs, expected = follow(network, x_BCHW, forward)
        if not pairs:
            return None
        names = {module: name for name, module in network.named_modules()}
        for convolution, norm in pairs:
            fused = fuse_conv_bn_eval(convolution, norm)
            convolution.weight, convolution.bias = fused.weight, fused.bias
            parent, _, own = names[norm].rpartition(".")
            setattr(network.get_submodule(parent), own, rest_of(norm))
        found = forward(network, x_BCHW)
    except Exception:  # a copy, and a network that looks into its own layers, may fail in any way at all
        return None
    return network if close(expected, found, FOLDED_TOLERANCE) else None


def follow(
    network: nn.Module, x_BCHW: Tensor, forward: Callable[[nn.Module, Tensor], Tensor]
) -> tuple[list[tuple[nn.Conv2d, _BatchNorm]], Tensor]:
    """Each convolution that runs once and whose output a batch normalisation takes untouched, with that one; and the
    output of the pass that told."""
    made: dict[int, tuple[nn.Conv2d, Tensor, int]] = {}
    runs: dict[nn.Module, int] = {}
    found: list[tuple[nn.Conv2d, _BatchNorm]] = []

    def see(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        runs[module] = runs.get(module, 0) + 1
        if isinstance(module, nn.Conv2d):
            made[id(output)] = module, output, output._version  # (held, so that no other tensor gets its number)
        elif can_fold(module) and id(inputs[0]) in made:
            convolution, _, version = made[id(inputs[0])]
            if inputs[0]._version == version:
                found.append((convolution, module))

    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.SyncBatchNorm)
    with ExitStack() as hooks, torch.no_grad():
        for one in network.modules():
            if isinstance(one, kinds):
                hooks.enter_context(one.register_forward_hook(see))
        expected = forward(network, x_BCHW)
    return [(first, second) for first, second in found if runs[first] == runs[second] == 1], expected


def can_fold(module: nn.Module) -> TypeGuard[_BatchNorm]:
    """Whether it is a batch normalisation with running statistics, and what it does besides is known."""
    known = type(module) in (nn.BatchNorm2d, nn.SyncBatchNorm) or hasattr(module, "act")
    return isinstance(module, _BatchNorm) and known and module.running_mean is not None


def rest_of(norm: nn.Module) -> nn.Module:
    """What a batch normalisation does besides: timm's have dropout and the activation in them."""
    parts = [getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)]
    return nn.Sequential(*parts) if parts else nn.Identity()
