import base64
from io import BytesIO

import numpy as np
import torch
from PIL import Image

from interactions.baselines import Normalisation
from interactions.thumbnail import thumbnail


def test_a_thumbnail_shows_the_image_before_its_normalisation():
    rows, columns = np.mgrid[:224, :112]
    pixels = np.stack([rows, 2 * columns, 255 - rows], axis=-1).astype(np.uint8)
    normalisation = Normalisation((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    normalised = (pixels / 255 - normalisation.mean) / normalisation.std
    kept = thumbnail(torch.tensor(normalised).permute(2, 0, 1).float(), normalisation)
    with Image.open(BytesIO(base64.b64decode(kept))) as picture:
        shown = np.asarray(picture)
    assert shown.shape == (112, 56, 3) and len(kept) < 6000
    expected = pixels.reshape(112, 2, 56, 2, 3).mean((1, 3))
    assert np.abs(shown - expected).mean() < 4


def test_one_channel_is_grey_and_other_numbers_of_channels_have_no_picture():
    kept = thumbnail(torch.linspace(-1, 1, 400).reshape(1, 20, 20), Normalisation((0.5,), (0.5,)))
    with Image.open(BytesIO(base64.b64decode(kept))) as picture:
        assert picture.size == (20, 20) and np.ptp(np.asarray(picture.convert("RGB")), axis=-1).max() <= 2
    assert thumbnail(torch.zeros(4, 8, 8), Normalisation((0.5,) * 4, (0.5,) * 4)) is None
