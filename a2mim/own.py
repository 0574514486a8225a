"""A backbone of one's own: any module from images to a map of features, with timm's verbs around it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from a2mim.layouts import Layout, attached, intercept, own_image_size, read_layouts, to_map


class OwnBackbone(nn.Module):
    """An encoder with the verbs of timm's models that this code needs: to be trained, probed, fine-tuned and measured,
    and to be given a decoder or a detector on its maps (`a2mim segment`, `detect`).

    Its weights are `encoder.…` and, where there are classes, the linear classifier `head.…` on pooled features.

    Args:
        encoder: images B×C×H×W to a map B×D×h×w, or to tokens B×L×D: prefix tokens, then patches in raster order.
        num_features: D.
        num_classes: outputs of the classifier; 0: none.
        stages: names of modules of the encoder that each give a map, in their order: a mask token can be put behind
            each but the last (A²MIM), SparK decodes them, and decoders of several scales see them. Left out: the
            children of a Sequential.
        num_prefix_tokens: class and register tokens, which are not pooled.
        image_size, channels, mean, std: of the images that it is made for, and how these are normalised (ImageNet's).
    """

    def __init__(
        self,
        encoder: nn.Module,
        num_features: int,
        num_classes: int = 0,
        *,
        stages: Sequence[str] = (),
        num_prefix_tokens: int = 0,
        image_size: int = 224,
        channels: int = 3,
        mean: Sequence[float] = IMAGENET_DEFAULT_MEAN,
        std: Sequence[float] = IMAGENET_DEFAULT_STD,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.num_features = self.head_hidden_size = num_features
        self.num_prefix_tokens = num_prefix_tokens
        self.stages, self._layouts = list(stages), dict[str, Layout]()
        self.feature_info = [{"module": f"encoder.{stage}", "exact": True} for stage in stages]
        self.pretrained_cfg = {
            "input_size": (channels, image_size, image_size),
            "mean": tuple(mean),
            "std": tuple(std),
            "classifier": "head",
        }
        self.reset_classifier(num_classes)

    def forward_features(self, x_BCHW: Tensor) -> Tensor:
        return self.encoder(x_BCHW)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits B×K of a map or of tokens; with pre_logits their mean over the image, B×D."""
        pooled_BD = features.mean((2, 3)) if features.ndim == 4 else features[:, self.num_prefix_tokens :].mean(1)
        return pooled_BD if pre_logits else self.head(pooled_BD)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x_BCHW))

    def map_layouts(self) -> dict[str, Layout]:
        """How each map of its features is held, by the name of the module that gives it, read off a pass: those of the
        stages, the finest first, and what the encoder gives, in place of a last stage on the same grid.

        Raises:
            ValueError: an encoder that gives no map.
        """
        chain = self.encoder.named_children() if isinstance(self.encoder, nn.Sequential) else ()
        stages = self.stages or [name for name, _ in chain]
        names = [*(f"encoder.{stage}" for stage in stages), "encoder"]
        layouts = read_layouts(self, own_image_size(self), names)
        found = {name: layout for name in names if (layout := layouts.get(name)) is not None}
        if "encoder" not in found:
            raise ValueError("what the encoder of this OwnBackbone gives is no map of the image, which a decoder needs")
        *_, last, _ = ("", *found)
        if last and found[last].grid == found["encoder"].grid:
            del found[last]
        return found

    def forward_intermediates(self, x_BCHW: Tensor, indices: Sequence[int] | None = None, **_: Any) -> list[Tensor]:
        """timm's verb for maps of features, B×D×h×w each: those of `map_layouts`, or the ones of these indices."""
        self._layouts = self._layouts or self.map_layouts()
        found: dict[str, Tensor] = {}
        handles = [intercept(self, name, "output", partial(found.__setitem__, name)) for name in self._layouts]
        with attached(*handles):
            self.forward_features(x_BCHW)
        aspect = x_BCHW.shape[2] / x_BCHW.shape[3]
        maps = [to_map(found[name], layout, aspect) for name, layout in self._layouts.items()]
        return maps if indices is None else [maps[index] for index in indices]

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int, **_: Any) -> None:
        self.num_classes = num_classes
        self.head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
