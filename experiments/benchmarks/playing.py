"""The game that a benchmark plays: a network on photographs or on noise, each image with the class that it gets; and
what one measurement of it gives."""

from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import torch

    from experiments.datasets import ImageData
    from interactions.estimators import Plan
    from interactions.game import PatchGame
    from interactions.grid import PatchGrid


def play(
    model: str,
    weights: str,
    data: str | None,
    images: int,
    grid: "PatchGrid",
    device: "torch.device",
    *,
    image_size: int | None = None,
    baseline: str = "mean",
    seed: int = 0,
    batch_size: int | None = None,
) -> "PatchGame":
    """The game of one baseline on the network's own classes of the images.

    Args:
        data: a folder or a .tar; without it the images are noise. Images, and random weights, come from `seed`.
        image_size: side in pixels; without it, the network's own.

    Raises:
        ValueError: fewer images than that can be read.
    """
    import torch

    from experiments.datasets import evaluation_transform, open_images, size_arguments
    from experiments.models import create_model
    from interactions.game import PatchGame
    from interactions.selection import logits_of

    sizes: dict[str, Any] = size_arguments(model, image_size)
    network, config = create_model(model, weights, seed=seed, **sizes)
    generator = torch.Generator().manual_seed(seed)
    if data is None:
        side = (image_size, image_size) if image_size else config["input_size"][1:]
        images_ICHW = torch.randn(images, config["input_size"][0], *side, generator=generator)
    else:
        photographs = open_images(data, evaluation_transform(config, image_size), labels_needed=False)
        order = torch.randperm(len(photographs), generator=generator).tolist()
        found = [image for image, _ in islice(readable(photographs, order), images)]
        if len(found) < images:
            raise ValueError(
                f"only {len(found)} of the {images} images asked for can be read in {photographs.images.name}: give "
                "more, or fewer --images"
            )
        images_ICHW = torch.stack(found)
    network = network.to(device).eval()
    targets = [int(logits_of(network, image, f"image {k}").argmax()) for k, image in enumerate(images_ICHW)]
    return PatchGame(network, images_ICHW, targets, grid, baseline=baseline, batch_size=batch_size)


def readable(data: "ImageData", order: "Iterable[int]") -> "Iterator[tuple[torch.Tensor, int | None]]":
    """The images, with their labels, in this order; what cannot be read is told and left out."""
    from a2mim.decoding import Damaged

    for number in order:
        try:
            found = data[number]
        except Damaged as error:
            data.images.reports.add("damaged", number, str(error))
            continue
        yield found


def mean_square(
    game: "PatchGame", image: int, plan: "Plan", order: int, pairs_P2: "torch.Tensor", budget: int, seed: int
) -> float:
    """One unbiased estimate of an image's mean square, its coalitions drawn by the seed.

    Raises:
        ValueError: a budget too small for the design.
    """
    import torch

    from interactions.estimators import draw
    from interactions.strength import image_row

    sample = draw(plan, order, pairs_P2, game.n_players, budget, torch.Generator().manual_seed(seed))
    return image_row(sample.estimate(game(sample.coalitions_BN, image).cpu()))["mean_square"]


def seed_of(*numbers: int) -> int:
    """Of a random stream of its own, by what it is of: a pilot must not choose a design by what is measured."""
    import numpy as np

    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
