"""What commands draw is composed and not rendered, unless a module is marked `rendered`."""

from contextlib import nullcontext

import pytest

from tests.sketches import sketched


@pytest.fixture(scope="module", autouse=True)
def sketches(request):
    """Tests of commands look at the files beside a figure: tests/figures looks at figures."""
    with nullcontext() if request.node.get_closest_marker("rendered") else sketched():
        yield
