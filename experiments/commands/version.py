"""`a2mim version`: what is installed, for a bug report."""

import platform
from dataclasses import dataclass

from a2mim.versions import LIBRARIES, versions


@dataclass(frozen=True)
class Settings:
    """Print the versions of this toolkit, of Python and of the libraries that decide a result.

    For example:
        a2mim version
    """


def run(settings: Settings) -> None:
    """Print one `name version` line for each package, installed or not."""
    found = versions()
    for name in LIBRARIES:
        print(f"{name:12} {found[name] or 'not installed'}")
    print(f"{'python':12} {found['python']} on {platform.system()} {platform.machine()}")
