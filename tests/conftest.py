"""How the suite is shared out among workers, and what they do not do again and again."""

import gc
import importlib.metadata
import os
from collections import Counter
from functools import cache

import pytest

# What is imported stays until a worker ends: looking through all of it for garbage took a twentieth of its time.
gc.disable()

# No test loses power: waiting for the disk took a fiftieth of its time. (tests/kill_everything.py looks at the order.)
os.fsync = lambda file: None

# What is installed stays as it is: looking it up took a hundredth of a second of every run.
importlib.metadata.version = cache(importlib.metadata.version)


@pytest.hookimpl(tryfirst=True)  # xdist looks at the groups
def pytest_collection_modifyitems(items):
    """A file's tests stay together, as do those of files in one xdist_group: they share what takes long to make. What
    has most slow tests begins, what has fewest tests at all ends, so that no worker waits long for the other."""
    slow, many = Counter(), Counter()
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(f"{item.path.parent.name}/{item.path.stem}"))
        slow[group_of(item)] += bool(item.get_closest_marker("slow"))
        many[group_of(item)] += 1
    items.sort(key=lambda item: (-slow[group_of(item)], -many[group_of(item)]))


def group_of(item):
    return item.get_closest_marker("xdist_group").args[0]


def pytest_collection_finish(session):
    if session.config.getoption("loadgroup", False) and not all("@" in item.nodeid for item in session.items):
        raise pytest.UsageError(
            "this pytest-xdist does not group tests under this pytest: install those of pyproject.toml"
        )
    quicken()
    gc.freeze()
    gc.enable()


def quicken():
    """What is imported here takes seconds, and the process that shares out the tests needs none of it."""
    from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

    # A loader looks every five seconds whether its processes still live; here it need not be waited for.
    _MultiProcessingDataLoaderIter._try_get_data.__defaults__ = (0.2,)
    try:
        from tyro._parsers import ParserSpecification
    except ImportError:  # another tyro, with which the suite takes a minute more
        return

    # How a line is read follows from its command's settings and their defaults alone. To work it out takes up to a
    # tenth of a second, to read a line with it a thousandth; the suite reads well over a thousand lines.
    work_out, readers = ParserSpecification.from_callable_or_type, {}

    def reader(kind, **asked):
        if asked["parent_classes"]:  # a group of options, which belongs to its command
            return work_out(kind, **asked)
        key = kind, repr(asked)
        if key not in readers:
            readers[key] = work_out(kind, **asked)
        return readers[key]

    ParserSpecification.from_callable_or_type = staticmethod(reader)
