"""`a2mim version`: what is installed, for a bug report."""

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("a2mim", "torch", "torchvision", "timm", "numpy", "scipy", "pandas", "pyarrow", "captum")


@dataclass(frozen=True)
class Settings:
    """Print the versions of this toolkit, of Python and of the libraries that decide a result.

    For example:
        a2mim version
    """


def run(settings: Settings) -> None:
    """Print one `name version` line for each package, installed or not."""
    for name in PACKAGES:
        print(f"{name:12} {installed(name)}")
    print(f"{'python':12} {platform.python_version()} on {platform.system()} {platform.machine()}")


def installed(package: str) -> str:
    """The installed version of a package, or `not installed`."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
