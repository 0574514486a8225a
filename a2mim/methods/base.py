"""What the trainer knows of a method."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from a2mim.settings import Augmentation

__all__ = ["Method"]


class Method(nn.Module):
    """A backbone, and a loss that trains it.

    backbone: the timm model that is exported; its state dict has timm's own names and nothing else.
    Settings: the frozen dataclass of the method's settings, the paper's by default; methods are made as
        `METHODS[name](backbone, settings)`.
    """

    Settings: ClassVar[type[Any]]
    backbone: nn.Module
    trained: ClassVar[str] = "backbone"
    """The part whose gradient trains the backbone: itself, or the copy that it follows."""
    compares: ClassVar[bool] = False
    """Whether `forward` compares the images of a batch with each other, so that one alone teaches nothing."""
    recomputable: bool = True
    """Whether blocks of the trained backbone compute the same again in the backward pass, when `forward` is over: not
    where it acts inside of them."""

    def forward(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        """The loss of one batch: {"loss": scalar, and detached scalars to log}.

        batch: "image" (B, C, H, W), normalised, or a list of such views; "target" (B,) classes or (B, K) soft labels
        where there are labels; "index" (B,). All randomness of the method comes from `generator`, on the CPU.
        """
        raise NotImplementedError

    def views(self, given: Augmentation) -> tuple[Augmentation, ...]:
        """How the views of an image are made that `forward` expects: as in the method's paper, but for the settings of
        `given` that are not Augmentation()'s own or that it calls `typed`. Here the one view that is given."""
        return (given,)

    def after_step(self, begun: float, done: float) -> None:
        """Called after every optimizer step; both in [0, 1] are the part of training that was done when the step began
        (0 at the first one), and that is done now (1 at the last one)."""

    def go_on_from(self, done: float) -> None:
        """Called when a saved state was loaded, with the part of training that is done: of what it is now, which may be
        longer than when the state was saved."""

    def pictures(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor] | None:
        """What the method sees and makes of a batch: original, masked, predicted, composite, each (B, 3, H, W) and
        normalised like the batch; None for methods that draw nothing. Leaves the method's state as it was."""
        return None

    def look(self, image_BCHW: Tensor) -> Any:
        """What evaluation does with normalised images, which tells how long it takes."""
        return self.backbone(image_BCHW)

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that take no weight decay: those that the backbone names, and the method's own."""
        named: set[str] = getattr(self.backbone, "no_weight_decay", set)()
        return {f"backbone.{name}" for name, _ in self.backbone.named_parameters() if name in named}

    def lr_scales(self) -> dict[str, float]:
        """Parameter name -> factor on its learning rate, where that is not 1."""
        return {}
