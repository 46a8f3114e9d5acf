"""Masks beside photos, for models that are shown where to restore: which file belongs to which photo, what it holds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rddm.errors import UserError
from rddm.photo import SUFFIXES, Photo, read_photo
from rddm.photo_decode import Pixels
from rddm.photo_scale import enlarged
from rddm.restore import check_size

ENDING = "_mask"


def mask_of(photo: Path, masks: Path) -> Path:
    """Return the mask of a photo: the file ``masks``, or in that folder ``NAME_mask`` or ``NAME`` with any suffix.

    Raises:
        UserError: if there is none, or more than one.
    """
    if not masks.is_dir():
        return masks
    names = photo.stem, photo.stem + ENDING
    found = [path for path in images_of(masks) if path.stem in names and path.resolve() != photo.resolve()]
    if len(found) != 1:
        raise UserError(f"{photo}: found {len(found)} masks in {masks}, expected one named {names[1]} or {names[0]}")
    return found[0]


def images_of(folder: Path) -> list[Path]:
    """Return the image files of a folder."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def without_masks(photos: Sequence[Path], masks: Path) -> list[Path]:
    """Return photos less those that are the masks of others, where both lie in one folder."""
    partners = {(photo.parent.resolve(), photo.stem + ENDING) for photo in photos}
    beside = masks.resolve()
    return [photo for photo in photos if photo.parent.resolve() != beside or (beside, photo.stem) not in partners]


def mask_for(source: Path, photo: Photo, masks: Path, scale: int = 1) -> Pixels:
    """Read the mask of a photo, (H, W, 1) uint8, enlarged as the photo was.

    Raises:
        UserError: if there is none, or it cannot be read or is of another size.
    """
    path = mask_of(source, masks)
    mask = mask_values(enlarged(read_photo(path), scale))[..., None]
    check_size(mask, *photo.pixels.shape[:2], name=str(path))
    return mask


def mask_values(photo: Photo) -> Pixels:
    """Return a picture as a mask (H, W) of 8 bits: the mean of its channels, transparent pixels black."""
    full = np.iinfo(photo.pixels.dtype).max
    values = photo.pixels.mean(2) * (255 / full)
    if photo.alpha is not None:
        values *= photo.alpha / full
    return np.rint(values).astype(np.uint8)
