"""Missing parts of a photo, filled: :func:`inpaint`, and known pixels kept at every step for models that see no mask.

A mask is (H, W) uint8: 0 is known, 255 is missing, and what lies between is missing too, but blended with the photo in
the end. Missing pixels are made grey before anything else happens: nothing that they hid can show. A model may ask for
a smooth first guess there (``rddm.fill``).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rddm.degradations.masks import GREY
from rddm.denoiser import Denoiser
from rddm.errors import UserError
from rddm.fill import smooth_fill
from rddm.model import Model
from rddm.nn.pooled import Tape, pools
from rddm.path import Node
from rddm.photo import Pixels, from_float, to_float
from rddm.prediction import Prediction, from_x_0
from rddm.preprocess import CONDITIONS
from rddm.report import fit_for
from rddm.restore import Job, Restore, Source, check_size, decide, floats_of, restore_tile, run
from rddm.sample import sample
from rddm.spec import ModelSpec
from rddm.tiles import NoiseField, Tile, TileNoise
from rddm.walk import check_pictures

# Pixels around the holes that are looked at. Of three bundled restorers in 2 and 10 steps, 1 of 21,600 values in a hole
# differed from what the whole photo gives, by one level of 255; with 64 pixels it was 14.
MARGIN = 128


@dataclass(frozen=True)
class Known:
    """A denoiser for a photo of which parts are known: its estimate of ``x_0`` is overwritten there.

    ``res`` and ``eps`` are completed from it and the state, so that a step carries the known part of the state along
    with the noise it began with: at every node it is the known part of the photo, diffused.

    Arguments:
        denoiser: estimates the rest.
        x_0: the photo in [-1, 1], broadcast against the state (B, C, H, W); anything where it is missing.
        mask: likewise, 1 is missing, 0 known.
    """

    denoiser: Denoiser
    x_0: Tensor
    mask: Tensor

    def __call__(self, x_t: Tensor, x_in: Tensor, node: Node) -> Prediction:
        """Return the estimate at ``x_t``."""
        x_0 = torch.where(self.mask > 0, self.denoiser(x_t, x_in, node).x_0, self.x_0)
        return from_x_0(x_0, x_t, x_in, node)


@dataclass(frozen=True)
class Filling:
    """An inpainting, decided and ready to run.

    Arguments:
        job: for the part of the photo that is looked at.
        window: that part.
        restore: what fills a tile of it.
    """

    job: Job
    window: Tile
    restore: Restore


def inpaint(
    model: Model, pixels: Pixels, mask: Pixels, steps: int | None = None, seed: int = 0, keep: bool = True
) -> Pixels:
    """Return a photo with its missing parts filled, of the shape and dtype of ``pixels``.

    Arguments:
        model: one that is shown a mask, or a generator of photos of this size.
        pixels: (H, W, 1 or 3), uint8 or uint16.
        mask: (H, W) uint8, 0 known to 255 missing.
        steps: network calls per tile; the model's default if None.
        seed: of the noise.
        keep: whether known pixels come from the photo, to the bit, rather than from the model.

    Raises:
        UserError: if the model fills no holes, the mask does not fit or leaves nothing to do, or a number is out of
            range.
    """
    check_mask(mask, *pixels.shape[:2])
    return fill(prepare(model, mask, steps, seed, keep), pixels, mask, keep)


def check_mask(mask: Pixels, height: int, width: int, name: str = "mask") -> None:
    """Compare a mask with its photo.

    Raises:
        UserError: if it is of another size, or marks nothing or all as missing.
    """
    check_size(mask, height, width, name)
    if mask.ndim != 2:
        raise UserError(f"{name}: found shape {mask.shape}, expected ({height}, {width})")
    if not mask.any():
        raise UserError(f"{name}: found no white pixel, expected white where the photo is to be filled")
    if mask.all():
        raise UserError(f"{name}: found no black pixel, expected black where the photo is known")


def prepare(model: Model, mask: Pixels, steps: int | None = None, seed: int = 0, keep: bool = True) -> Filling:
    """Decide how to fill the holes of a photo; arguments and errors are those of :func:`inpaint`."""
    spec, (height, width) = model.spec, mask.shape
    whole = Tile(0, 0, height, width)
    check_pictures(spec, 3)
    if spec.method.generates:
        if spec.side not in (None, height) or spec.side not in (None, width):
            raise UserError(f"{spec.name}: found a photo of {width}x{height}, expected {spec.side}x{spec.side}")
        return Filling(decide(model, height, width, steps, None, seed, 0), whole, imagine_tile)
    if "mask" not in spec.method.inputs:
        raise UserError(f"{spec.name}: is shown no mask, expected a model that inpaints: {fit_for(fills)}")
    window = around(mask, spec.network.stride) if keep and looks_near(model) else whole
    job = decide(model, window.bottom - window.top, window.right - window.left, steps, None, seed, None)
    return Filling(job, window, MissingTiles(window) if keep else restore_tile)


def fills(spec: ModelSpec) -> bool:
    """Tell whether a model fills holes: it is shown a mask, or generates and can be told what is known."""
    return "mask" in spec.method.inputs or spec.method.generates


def looks_near(model: Model) -> bool:
    """Tell whether what a model makes of a pixel depends on its neighbourhood alone."""
    method = model.spec.method
    told = {*method.inputs, *method.context} & CONDITIONS
    return not (pools(model.net) or told or model.spec.prepare == "equalise")


def around(mask: Pixels, multiple: int) -> Tile:
    """Return the rectangle of the holes and a margin, its borders at multiples as those of tiles are."""
    spans = []
    for axis in (1, 0):
        found, length = np.flatnonzero(mask.any(axis=axis)), mask.shape[1 - axis]
        low, high = int(found[0]) - MARGIN, int(found[-1]) + 1 + MARGIN
        spans.append((max(0, low // multiple * multiple), min(length, -(-high // multiple) * multiple)))
    (top, bottom), (left, right) = spans
    return Tile(top, left, bottom, right)


def fill(
    filling: Filling, pixels: Pixels, mask: Pixels, keep: bool = True, progress: Callable[[], None] = lambda: None
) -> Pixels:
    """Return a photo with its missing parts filled.

    Arguments:
        filling: from :func:`prepare`.
        pixels: (H, W, 1 or 3), uint8 or uint16.
        mask: (H, W) uint8.
        keep: whether known pixels come from the photo.
        progress: called after each tile.
    """
    top, left, bottom, right = filling.window
    place = slice(top, bottom), slice(left, right)
    missing = np.where(mask[place] > 0, np.uint8(255), np.uint8(0))[..., None]
    shown = hidden(pixels[place], mask[place])
    if filling.job.model.spec.prepare == "fill":
        shown = smooth_fill(shown, mask[place])
    filled = run(filling.job, shown, progress, None, missing, filling.restore)
    if not keep:
        return filled
    out = pixels.copy()
    out[place] = blended(pixels[place], filled, mask[place])
    return out


def hidden(pixels: Pixels, mask: Pixels) -> Pixels:
    """Return a photo with grey where ``mask`` is not 0, as in training (``rddm.degradations.masks.masked``)."""
    grey = from_float(np.full(1, GREY, np.float32), pixels.dtype)
    return np.where(mask[..., None] > 0, grey, pixels)


def blended(pixels: Pixels, filled: Pixels, mask: Pixels) -> Pixels:
    """Return ``pixels + mask / 255 (filled - pixels)``: either of them, to the bit, where the mask is 0 or 255."""
    out, hole = pixels.copy(), mask > 0
    known, weight = pixels[hole].astype(np.float32), mask[hole, None].astype(np.float32) / 255
    out[hole] = np.rint(known + weight * (filled[hole].astype(np.float32) - known)).astype(pixels.dtype)
    return out


def tile_of(pixels: Pixels, tile: Tile) -> Pixels:
    """Return the pixels under a tile."""
    return pixels[tile.top : tile.bottom, tile.left : tile.right]


@dataclass(frozen=True)
class MissingTiles:
    """Restores the tiles in which something is missing, on the whole photo's noise.

    Arguments:
        window: where the pixels lie in the photo.
    """

    window: Tile

    def __call__(
        self, job: Job, source: Source, tile: Tile, field: NoiseField, tape: Tape | None
    ) -> NDArray[np.float32]:
        """Return the tile, float32 (height, width, 3) in [0, 1]: restored, or as it is where all of it is known."""
        assert source.mask is not None
        if not tile_of(source.mask, tile).any():
            return to_float(tile_of(source.pixels, tile))
        return restore_tile(job, source, tile, MovedField(field, self.window), tape)


class MovedField(NoiseField):
    """A field of noise as it is seen from a part of the plane.

    Arguments:
        field: the field.
        window: the part.
    """

    def __init__(self, field: NoiseField, window: Tile) -> None:
        super().__init__(field.seed, field.channels)
        self.top, self.left = window.top, window.left

    def crop(self, draw: int, tile: Tile) -> Tensor:
        """Return the field under a tile of the part, (1, channels, height, width)."""
        top, left, bottom, right = tile
        return super().crop(draw, Tile(top + self.top, left + self.left, bottom + self.top, right + self.left))


def imagine_tile(job: Job, source: Source, tile: Tile, field: NoiseField, tape: Tape | None) -> NDArray[np.float32]:
    """Return the tile as a generator completes it, told the known pixels, float32 (height, width, 3) in [0, 1]."""
    x_0, conditions = source.crop(tile)
    with torch.inference_mode():
        denoiser = Known(job.model.denoiser(), x_0, conditions["mask"])
        return floats_of(sample(denoiser, torch.zeros_like(x_0), job.trajectory, job.solver, TileNoise(field, tile)))
