"""What the experiments on AFHQ's cats share: the images, small trainings cut to one budget, strips of pictures."""

import sys
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "jobs"))

import common
import numpy as np
import sets
import torch
from PIL import Image
from torch import Tensor, nn

from rddm import comparison
from rddm.draws import Draws
from rddm.matlab import Bytes
from rddm.recipe import Recipe
from rddm.validate import bytes_of, stacked

SIDE = 32


Cats = sets.Packed
photographs = sets.cats
small = common.small


def real(folder: Path) -> Tensor:
    """Return all cats, (N, 3, SIDE, SIDE) in [-1, 1]."""
    images = sets.Packed(folder / sets.CATS, SIDE).images
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous() / 127.5 - 1


def miniature(folder: Path) -> Path:
    """Write 24 smooth random images where the cats would lie, for ``--smoke``, and return the folder."""
    sets.miniature_cats(folder, 24)
    return folder


def trained(recipe: Recipe, draws: Draws, out: Path) -> nn.Module:
    """Return the averaged weights after the recipe's last update; they are read from ``out`` if they lie there."""
    return comparison.trained(recipe, draws, out / recipe.name, partial(print, flush=True))


def pixels(images: Tensor) -> list[Bytes]:
    """Return images (N, 3, H, W) in [-1, 1] as bytes (H, W, 3)."""
    return [*((images.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()]


def strip(images: Tensor) -> list[Bytes]:
    """Return a row of pictures, twice as large."""
    return [image.repeat(2, 0).repeat(2, 1) for image in pixels(images)]


def sheet(rows: list[list[Bytes]], file: Path) -> None:
    """Write rows of pictures as one."""
    Image.fromarray(stacked([[bytes_of(np.ascontiguousarray(image)) for image in row] for row in rows])).save(
        file, quality=85
    )
