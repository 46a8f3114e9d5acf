"""``rddm inpaint``: a photo and a mask in files."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rddm.batch import (
    bar_of,
    beside,
    check_destination,
    choose_device,
    describe,
    destinations,
    in_one_line,
    make_folder,
)
from rddm.errors import UserError
from rddm.inpaint import check_mask, fill, hidden, prepare
from rddm.model import load
from rddm.photo import Photo, Pixels, read_photo, side_by_side, write_photo
from rddm.photo_mask import mask_values

NEARLY = 32  # of 255: as far from black and white as JPEG moves the pixels of a mask


@dataclass(frozen=True)
class Options:
    """How to inpaint: None leaves the number of steps to the model, and a grey mask to the user.

    A ``threshold`` makes what is at least as bright white, and the rest black; ``soft`` blends along grey edges.
    """

    steps: int | None = None
    seed: int = 0
    compare: bool = False
    threshold: int | None = None
    soft: bool = False


def inpaint_file(source: Path, mask_file: Path, out: Path, model_name: str, device: str, options: Options) -> None:
    """Fill the holes of one photo, telling first what it will cost.

    Raises:
        UserError: if a file cannot be read or written, the mask does not fit, or the model fills no holes.
    """
    target = destinations([source], out)[0]
    for output in (target, beside(target)) if options.compare else (target,):
        for given in (source, mask_file):
            check_destination(given, output, {})
    with in_one_line(str(source), "expected smaller holes, or fewer of them"):
        photo = read_photo(source)
        mask = read_mask(mask_file, photo, options.threshold, options.soft)
        filling = prepare(load(model_name, choose_device(device)), mask, options.steps, options.seed)
        holes = f"{np.count_nonzero(mask):,} of {mask.size:,} pixels are missing"
        print(f"{source}: {holes}; {describe(filling.job, photo.pixels.nbytes)}", flush=True)
        make_folder(target.parent)
        with bar_of("tiles") as bar:
            task = bar.add_task(source.name, total=filling.job.tiles)
            pixels = fill(filling, photo.pixels, mask, progress=lambda: bar.advance(task))
        notes = write_photo(target, replace(photo, pixels=pixels))
        if options.compare:
            before = hidden(photo.pixels, mask)
            write_photo(beside(target), Photo(side_by_side(before, pixels), None, photo.format))
    for note in notes:
        print(note)


def read_mask(path: Path, photo: Photo, threshold: int | None = None, soft: bool = False) -> Pixels:
    """Read the mask of a photo, (H, W) uint8, white where pixels are missing; transparent pixels are black.

    Raises:
        UserError: if it cannot be read, does not fit the photo, or is grey somewhere and nothing says what that means.
    """
    if threshold is not None and not 1 <= threshold <= 255:
        raise UserError(f"--threshold {threshold}: found a number out of range, expected 1 to 255")
    mask = mask_values(read_photo(path))
    if threshold is not None:
        mask = np.where(mask >= threshold, np.uint8(255), np.uint8(0))
    check_mask(mask, *photo.pixels.shape[:2], name=str(path))
    check_grey(mask, soft, path)
    return mask


def check_grey(mask: Pixels, soft: bool, path: Path) -> None:
    """Look for pixels that are neither black nor white; those of a JPEG file mean nothing, soft edges or not.

    Raises:
        UserError: if there are any, and they are not soft edges that are allowed.
    """
    grey = mask[(mask > 0) & (mask < 255)]
    found = f"{path}: found {len(grey):,} of {mask.size:,} pixels neither black nor white"
    if len(grey) and ((grey < NEARLY) | (grey > 255 - NEARLY)).all():
        raise UserError(f"{found} but nearly so, as JPEG leaves them, expected 0 or 255; try --threshold 128")
    if len(grey) and not soft:
        raise UserError(f"{found}, expected 0 or 255; try --threshold 128, or --soft to blend along grey edges")
