"""What commands draw, composed and not rendered."""

import pytest

from tests.sketches import sketched


@pytest.fixture(scope="module")
def sketches():
    """For tests of commands that look at the files beside a figure: tests/figures looks at figures."""
    with sketched():
        yield
