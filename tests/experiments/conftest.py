"""What commands draw is composed and not rendered, unless a module is marked `rendered`."""

from contextlib import nullcontext

import numpy as np
import pytest
from PIL import Image

from tests.a2mim.tiny import write_images
from tests.interactions.tiny import CLASSES, SIZE
from tests.sketches import sketched


@pytest.fixture(scope="module", autouse=True)
def sketches(request):
    """Tests of commands look at the files beside a figure: tests/figures looks at figures."""
    with nullcontext() if request.node.get_closest_marker("rendered") else sketched():
        yield


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of images in class folders: 24 to train on, 8 to validate."""
    folder = tmp_path_factory.mktemp("images")
    write_images(folder / "train", per_class=6, size=32)
    write_images(folder / "val", per_class=2, size=32)
    return folder


@pytest.fixture
def photos(tmp_path):
    """Noise of the tiny networks' size, one folder for each class, two pictures in each."""
    generator = np.random.default_rng(0)
    for label in range(CLASSES):
        for k in range(2):
            path = tmp_path / "photos" / f"class-{label}" / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (SIZE + 4, SIZE + 4, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"
