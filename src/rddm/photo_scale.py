"""A photograph enlarged: what a model that sharpens, such as ``upscale``, starts from."""

from dataclasses import replace

import numpy as np
from PIL import Image

from rddm.errors import UserError
from rddm.photo import MAX_PIXELS, Photo
from rddm.photo_decode import Pixels
from rddm.photo_tags import made_upright


def enlarged(photo: Photo, factor: int) -> Photo:
    """Return a photograph ``factor`` times as high and as wide: bicubic (Keys, a = -1/2), its alpha too.

    Raises:
        UserError: if the factor is less than one, or the photograph would have more than ``MAX_PIXELS``.
    """
    height, width = (factor * side for side in photo.pixels.shape[:2])
    if factor < 1:
        raise UserError(f"--scale {factor}: found less than 1, expected a whole number of times")
    if height * width > MAX_PIXELS:
        raise UserError(f"--scale {factor}: found {width} x {height} pixels, expected at most {MAX_PIXELS}")
    if factor == 1:
        return photo
    pixels = np.stack([bicubic(channel, height, width) for channel in np.moveaxis(photo.pixels, 2, 0)], axis=2)
    alpha = None if photo.alpha is None else bicubic(photo.alpha, height, width)
    return replace(photo, pixels=pixels, alpha=alpha, metadata=made_upright(photo.metadata, width, height))


def bicubic(channel: Pixels, height: int, width: int) -> Pixels:
    """Return a channel (H, W) at another size, rounded to its own depth."""
    values = Image.fromarray(channel.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    return np.rint(np.asarray(values)).clip(0, np.iinfo(channel.dtype).max).astype(channel.dtype)
