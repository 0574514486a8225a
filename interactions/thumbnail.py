"""A small picture of an image that was measured, so that a page can show what its pairs lie in."""

import base64
from io import BytesIO

from PIL import Image
from torch import Tensor, tensor

from interactions.baselines import Normalisation

SIDE = 112  # pixels


def thumbnail(image_CHW: Tensor, normalisation: Normalisation) -> str | None:
    """The normalised image as a JPEG of at most 112 pixels a side, in base64; None of more or fewer channels than a
    picture has."""
    if len(image_CHW) not in (1, 3):
        return None
    mean_C11, std_C11 = (tensor(stat)[:, None, None] for stat in (normalisation.mean, normalisation.std))
    pixels_CHW = (image_CHW.cpu().float() * std_C11 + mean_C11).clamp(0, 1) * 255
    pixels_HW3 = pixels_CHW.round().byte().expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
    picture, file = Image.fromarray(pixels_HW3), BytesIO()
    picture.thumbnail((SIDE, SIDE))
    picture.save(file, "JPEG", quality=80)
    return base64.b64encode(file.getvalue()).decode("ascii")
