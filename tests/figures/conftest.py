"""Figures are composed and not rendered, unless a test is marked `rendered`."""

from contextlib import nullcontext

import pytest

from tests.sketches import sketched


@pytest.fixture(autouse=True)
def composed(request):
    """Most tests compare what the axes hold with the tables: to lay out and to draw these takes most of a second."""
    with nullcontext() if request.node.get_closest_marker("rendered") else sketched():
        yield
