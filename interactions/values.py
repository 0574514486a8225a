"""What v is: the scalar of a model's output that a coalition of cells is worth.

Class values read the logits z of the target class y; `cosine` needs no classifier and compares features with those of
the whole image. Every value maps outputs B×K and a per-row reference to a float64 vector B.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from interactions.outputs import features

Value = Callable[[Tensor, Tensor], Tensor]


def log_odds(logits_BK: Tensor, target_B: Tensor) -> Tensor:
    """log p_y / (1 − p_y) = z_y − logsumexp over the other classes: the published "modified" reward (paper.md §1)."""
    target_B1 = target_B[:, None]
    others_BK = logits_BK.scatter(1, target_B1, -torch.inf)
    return logits_BK.gather(1, target_B1).squeeze(1) - others_BK.logsumexp(1)


def log_prob(logits_BK: Tensor, target_B: Tensor) -> Tensor:
    """log p_y: the published "normal" reward."""
    return logits_BK.log_softmax(1).gather(1, target_B[:, None]).squeeze(1)


def logit(logits_BK: Tensor, target_B: Tensor) -> Tensor:
    """z_y: the published "yi" reward."""
    return logits_BK.gather(1, target_B[:, None]).squeeze(1)


def probability(logits_BK: Tensor, target_B: Tensor) -> Tensor:
    """p_y."""
    return logits_BK.softmax(1).gather(1, target_B[:, None]).squeeze(1)


def cosine(features_BK: Tensor, whole_BK: Tensor) -> Tensor:
    """Cosine similarity between the features of the coalition and those of the whole image, −1 to 1."""
    return torch.cosine_similarity(features_BK, whole_BK, dim=1)


def correct(logits_BK: Tensor, target_B: Tensor) -> Tensor:
    """1 where the target is the top class, else 0; NaN where a logit is NaN or infinite. Its mean is the accuracy."""
    return (logits_BK.argmax(1) == target_B) + 0 * logits_BK.sum(1)


CLASS_VALUES: dict[str, Value] = {
    "log_odds": log_odds,
    "log_prob": log_prob,
    "logit": logit,
    "probability": probability,
}
VALUES: dict[str, Value] = {**CLASS_VALUES, "cosine": cosine, "correct": correct}


def has_pooled_features(model: nn.Module) -> bool:
    """Whether a model says what it hands to its classifier, as those of timm do; `cosine` compares others' output."""
    return hasattr(model, "forward_head")


class Features(nn.Module):
    """The pooled features in front of a model's classifier, B×K.

    timm's models say how (`forward_features`, then `forward_head(pre_logits=True)`); of any other module the output
    itself is taken, flattened, or what of it `interactions.outputs.features` takes.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, x_BCHW: Tensor, rows: int | None = None) -> Tensor:
        """rows: B where it is not the number of images, as each may stand for several coalitions of its tokens."""
        if has_pooled_features(self.model):
            output = self.model.forward_head(self.model.forward_features(x_BCHW), pre_logits=True)
        else:
            output = self.model(x_BCHW)
        return features(output, len(x_BCHW) if rows is None else rows)
