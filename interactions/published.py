"""The published measuring protocol: what it is, and in what a run differs from it.

As the released code has it for ImageNet (A2MIM ccca6dc, analysis_tools/representation_bottleneck): 500 images of the
training split, of each 50 pairs of cells on a 14×14 grid and for each of these 50 contexts at every order, seed 1;
images by Resize 256 (bilinear) and CenterCrop 224, normalised by ImageNet's mean and deviation. Imports nothing heavy.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from interactions.settings import ProfileSettings, whole

PUBLISHED = "published"
IMAGES, PAIRS, CONTEXTS, SEED = 500, 50, 50, 1
INPUT: Mapping[str, Any] = {
    "size": [224, 224],
    "resize": 256,
    "interpolation": "bilinear",
    "crop_pct": 0.875,
    "crop_mode": "center",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}


def with_published(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a profile by their names; where they ask for the published design, what they do not say is the
    protocol's. With other pairs the budget follows, so that the contexts stay."""
    if given.get("design") != PUBLISHED:
        return dict(given)
    pairs = whole(given.get("published_pairs", PAIRS), "published_pairs")
    usual = {"images": IMAGES, "published_pairs": PAIRS, "budget": 4 * pairs * CONTEXTS, "seed": SEED}
    return usual | dict(given)


def contexts_of(budget: int, pairs: int) -> int:
    """Contexts of each pair."""
    return budget // (4 * pairs)


def check_published(settings: ProfileSettings, pairs: int) -> None:
    """Raises ValueError for a budget of fewer than two contexts a pair, for more pairs than there are, or for players
    or pairs that the released code cannot draw."""
    if isinstance(settings.grid, str) or settings.pairs != "near":
        raise ValueError("the published design draws neighbours on a square grid: choose another for regions or pairs")
    if contexts_of(settings.budget or 0, settings.published_pairs) < 2:
        raise ValueError(
            f"a budget of {settings.budget} passes holds fewer than 2 contexts of {settings.published_pairs} pairs: "
            f"give {8 * settings.published_pairs} or more"
        )
    if settings.published_pairs > pairs:
        raise ValueError(f"{settings.published_pairs} pairs do not fit a grid that has {pairs} of them: give fewer")


def changed_from_published(
    settings: ProfileSettings, images: int | None, mean: Sequence[float], std: Sequence[float], transform: Any = None
) -> list[str]:
    """What a run of the published design does otherwise than published, one phrase each, such as
    "8 images (published: 500)".

    Args:
        images: how many are measured; None for all that there are.
        mean, std: by which the images are normalised.
        transform: how they were made, where that is known, by the names of `INPUT`.
    """
    usual = ProfileSettings()
    made = {"mean": list(mean), "std": list(std)} | dict(transform or {})
    made = {name: list(value) if isinstance(value, tuple) else value for name, value in made.items()}
    pairs_of_numbers = [
        ("images", "all" if images is None else images, IMAGES),
        ("pairs", settings.published_pairs, PAIRS),
        ("contexts", contexts_of(settings.budget or 0, settings.published_pairs), CONTEXTS),
        ("seed", settings.seed, SEED),
        *((name, getattr(settings, name), getattr(usual, name)) for name in ("grid", "radius")),
        ("order ratios", tuple(settings.ratios), usual.ratios),
        *((name, getattr(settings, name), getattr(usual, name)) for name in ("value", "baseline", "target")),
        ("only correct images", settings.only_correct, usual.only_correct),
        ("shuffled images", settings.shuffle, usual.shuffle),
        ("precision", settings.amp or "float32", "float32"),
        *((name, made[name], INPUT[name]) for name in INPUT if name in made and name != "crop_pct"),
    ]
    return [
        f"{name} {in_words(found)} (published: {in_words(wanted)})"
        for name, found, wanted in pairs_of_numbers
        if found != wanted
    ]


def protocol_in_words(changed: Sequence[str]) -> str:
    """One sentence for a caption or the terminal."""
    if not changed:
        return (
            f"Published protocol: {PAIRS} pairs × {CONTEXTS} contexts, {IMAGES} images, seed {SEED}, Resize 256 "
            "bilinear and centre crop 224, ImageNet's mean and deviation."
        )
    return f"Published protocol, changed: {'; '.join(changed)}."


def in_words(value: Any) -> str:
    """A setting in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " ".join(in_words(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value).replace("_", " ")
