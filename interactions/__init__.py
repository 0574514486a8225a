"""Measure multi-order patch interactions of any torch image model.

    from interactions import PatchGame, PatchGrid, estimate_interactions, profile_model

What stands here is the face of the package. A name is imported when it is asked for, so that `import interactions`
(and `a2mim --help`) costs nothing.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interactions.baselines import Normalisation
    from interactions.estimators import Interactions, estimate_interactions
    from interactions.game import PatchGame
    from interactions.grid import PatchGrid
    from interactions.hierarchy import seeded_differences, seeded_masses
    from interactions.masses import middle_mass, paired_mass
    from interactions.occlusion import load_occlusion, measure_occlusion
    from interactions.pair import profile_pair
    from interactions.profile import Profile, load_profile, profile_model
    from interactions.segments import Segments
    from interactions.settings import PAPER_RATIOS
    from interactions.spectrum import load_spectrum, measure_spectrum
    from interactions.strength import image_row, strength_table

__all__ = [
    "PAPER_RATIOS",
    "Interactions",
    "Normalisation",
    "PatchGame",
    "PatchGrid",
    "Profile",
    "Segments",
    "__version__",
    "estimate_interactions",
    "image_row",
    "load_occlusion",
    "load_profile",
    "load_spectrum",
    "measure_occlusion",
    "measure_spectrum",
    "middle_mass",
    "paired_mass",
    "profile_model",
    "profile_pair",
    "seeded_differences",
    "seeded_masses",
    "strength_table",
]

_HOMES = {
    "baselines": ("Normalisation",),
    "estimators": ("Interactions", "estimate_interactions"),
    "game": ("PatchGame",),
    "grid": ("PatchGrid",),
    "hierarchy": ("seeded_differences", "seeded_masses"),
    "occlusion": ("load_occlusion", "measure_occlusion"),
    "pair": ("profile_pair",),
    "masses": ("middle_mass", "paired_mass"),
    "profile": ("Profile", "load_profile", "profile_model"),
    "segments": ("Segments",),
    "settings": ("PAPER_RATIOS",),
    "spectrum": ("load_spectrum", "measure_spectrum"),
    "strength": ("image_row", "strength_table"),
}

try:
    __version__ = version("a2mim")
except PackageNotFoundError:  # run from its source tree
    __version__ = "unknown"


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"interactions.{home}"), name)
    raise AttributeError(f"module 'interactions' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
