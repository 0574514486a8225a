"""What a model returns, read as one tensor with a row for each image. The one place that knows of dicts and tuples.

A reading is made where there is only one sensible one; everything else is refused with a sentence that says what to
wrap.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

LOGITS = ("logits",)
"""What holds the scores of the classes where a model returns several things (Hugging Face's models, for instance)."""
FEATURES = ("pooler_output", "image_embeds", *LOGITS)
"""What holds one vector of features an image, the first that is there."""
NO_MEMORY = ("can't allocate memory", "out of memory")
"""Words of torch for main memory, and for devices whose errors have no name of their own."""

ONE_OUTPUT = {
    "log_odds": "compares the class with the others",
    "log_prob": "compares the class with the others",
    "probability": "compares the class with the others",
    "correct": "asks which class is on top",
    "cosine": "compares directions, and a single number has none",
}
"""Why a value cannot be read off one number an image."""


def run(model: Callable[[Tensor], Any], x_BCHW: Tensor) -> Any:
    """The model's output.

    Raises:
        ValueError: batch statistics that a single image does not have; a model that fails on these images, or that
            cannot be compiled where it should be.
    """
    try:
        return model(x_BCHW)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        modules = model.named_modules() if isinstance(model, nn.Module) else ()
        names = [name for name, module in modules if getattr(module, "running_mean", 0) is None]
        raise ValueError(
            f"the model takes statistics over its batch ({names[0] if names else 'batch normalisation'}), which one "
            "image does not have: give its batch normalisation running statistics"
        ) from error
    except Exception as error:  # a network may fail in any way at all
        if is_out_of_memory(error):
            raise
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise DoesNotCompile(
                f"torch.compile does not work for this model on this machine ({one_line(error)[:200]}): choose another "
                "speed, or, for a run that was begun compiled, another output folder"
            ) from error
        raise does_not_run("the model", x_BCHW.shape[2:], error) from error


class DoesNotRun(ValueError):
    """A model fails on the images that it is shown."""


class DoesNotCompile(ValueError):
    """A model, or a machine, that torch.compile cannot deal with."""


def does_not_run(name: str, sides: Sequence[int], error: Exception) -> DoesNotRun:
    """The sentence for a model that fails on images of these sides."""
    lines = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return DoesNotRun(
        f"{name} does not run on images of {'×'.join(map(str, sides))} px ({reason}): choose another image size, or "
        "mend its forward"
    )


def device_of(model: nn.Module, otherwise: torch.device | None = None) -> torch.device:
    """Where a model's parameters are; of one without any `otherwise`, or the CPU."""
    return next((p.device for p in model.parameters()), otherwise or torch.device("cpu"))


def one_line(error: BaseException) -> str:
    """What an exception says, on one line; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, on an accelerator or in main memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)


def class_logits(output: Any, images: int) -> Tensor:
    """The scores of the classes, B×K; K may be 1.

    Taken are B×K, B (one score), B×K×1×1, and what holds one of these: `logits` of a dict or an object, or the only
    tensor, or the only one of shape B×K, of a dict, a list or a tuple.

    Args:
        output: what a model returned for a batch.
        images: B.

    Raises:
        ValueError: no output, or several, that could be meant; features; maps; another number of rows than images.
    """
    x = one_tensor(output, LOGITS, rows=True)
    if x.ndim == 4 and x.shape[2:] == (1, 1):
        x = x.flatten(1)
    if x.ndim == 1 and len(x) == images:
        x = x[:, None]
    if x.ndim in (3, 4) and len(x) == images:
        what = "maps" if x.ndim == 4 else "a sequence of vectors"
        raise ValueError(
            f"the model returns {what} {shape(x)}, as segmentation models and backbones without a classifier do, and "
            "not one row of class scores an image: wrap it in a module that returns B×K, or measure the value cosine, "
            "which needs no classifier"
        )
    if x.ndim != 2 or len(x) != images:
        raise ValueError(
            f"the model returns {shape(x)} for {images} {'images' if images > 1 else 'image'}, not one row of class "
            "scores an image: wrap it in a module that returns B×K"
        )
    return x


def features(output: Any, images: int) -> Tensor:
    """One vector of features an image, B×D; maps and sequences are flattened.

    Taken are a tensor, and what holds one: `pooler_output`, `image_embeds` or `logits` of a dict or an object, or the
    only tensor of a dict, a list or a tuple.

    Raises:
        ValueError: no output, or several, that could be meant; another number of rows than images.
    """
    x = one_tensor(output, FEATURES)
    if x.ndim == 0 or len(x) != images:
        raise ValueError(f"the model returns {shape(x)} for {images} images: wrap it so that it returns a row for each")
    return x.reshape(images, -1)


def one_tensor(output: Any, names: tuple[str, ...], rows: bool = False) -> Tensor:
    """The tensor that is meant: the output itself, what stands under one of `names`, the only tensor of numbers that it
    holds, or with `rows` the only one of two dimensions.

    Raises:
        ValueError: none, or several.
    """
    if isinstance(output, Tensor):
        if not output.is_floating_point():
            raise ValueError(f"the model returns numbers of type {output.dtype}: wrap it so that it returns scores")
        return output
    parts = parts_of(output)
    for name in names:
        if isinstance(parts.get(name), Tensor):
            return parts[name]
    tensors = {
        name: part
        for name, part in parts.items()
        if isinstance(part, Tensor) and part.ndim > 0 and part.is_floating_point()
    }
    if rows and len(tensors) > 1:
        tensors = {name: part for name, part in tensors.items() if part.ndim == 2} or tensors
    if rows and len(tensors) == 1 and (name := next(iter(tensors))) in FEATURES:
        raise ValueError(
            f"the model returns features ({name}) and no scores of classes: take the one with a classifier, or measure "
            "the value cosine, which needs none"
        )
    if len(tensors) == 1:
        return next(iter(tensors.values()))
    listed = ", ".join(f"{name}: {shape(part)}" for name, part in tensors.items()) or "no tensor"
    raise ValueError(
        f"the model returns a {type(output).__name__} of {listed}, which can be read in more than one way or in none: "
        "wrap it in a module that returns the one tensor that is meant"
    )


def parts_of(output: Any) -> dict[str, Any]:
    """What an output holds, by name or by place."""
    if isinstance(output, Mapping):
        return {str(name): part for name, part in output.items()}
    if hasattr(output, "_asdict"):
        return output._asdict()
    if isinstance(output, list | tuple):
        return {str(place): part for place, part in enumerate(output)}
    return dict(vars(output)) if hasattr(output, "__dict__") else {}


def refuse_one_output(value: str, outputs: int) -> None:
    """Raises ValueError for a value that one number an image does not have."""
    if outputs == 1 and value in ONE_OUTPUT:
        wrapped = "its features" if value == "cosine" else "the two logits 0 and z, where its output z is a sigmoid's"
        raise ValueError(
            f"the model returns one number an image, and {value} {ONE_OUTPUT[value]}: measure the value logit, or wrap "
            f"the model so that it returns {wrapped}"
        )


def shape(x: Tensor) -> str:
    """A tensor's shape in words."""
    return "×".join(map(str, x.shape)) or "a single number"


class Logits(nn.Module):
    """A model whose output is `class_logits`, for libraries that want a module from images to B×K."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return class_logits(self.model(x_BCHW), len(x_BCHW))
