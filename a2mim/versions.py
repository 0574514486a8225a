"""What the numbers of a run depend on besides its settings: Python and the libraries. Imports nothing heavy."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

LIBRARIES = ("a2mim", "torch", "torchvision", "timm", "numpy", "scipy", "pandas", "pyarrow", "captum")


def versions() -> dict[str, str | None]:
    """Of Python and of each library, None for one that is not installed; a measuring run's record has the same."""
    return {"python": platform.python_version(), **{name: installed(name) for name in LIBRARIES}}


def installed(package: str) -> str | None:
    """The version of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
