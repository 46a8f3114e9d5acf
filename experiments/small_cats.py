"""What the experiments on AFHQ's cats share: the images, small trainings cut to one budget, strips of pictures."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "jobs"))

import common
import numpy as np
import sets
import torch
from PIL import Image
from torch import Tensor, nn

from rddm.checkpoint import save_model
from rddm.draws import Draws
from rddm.matlab import Bytes
from rddm.model import read_model
from rddm.plan import accelerator_of
from rddm.recipe import Recipe
from rddm.trainer import Run, loader, schedule
from rddm.validate import bytes_of, spec_of, stacked

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
    folder = out / recipe.name
    if not (folder / "config.json").exists():
        run = Run(recipe, accelerator_of(recipe))
        for batch in loader(draws, schedule(recipe, 0, 0, 1), 0, False):
            heads, _ = run.update([batch])
            if run.place.update % 500 == 0:
                print(
                    f"{recipe.name}: update {run.place.update}/{recipe.steps}, loss {float(heads.sum()):.4f}",
                    flush=True,
                )
        save_model(folder, spec_of(recipe, {"updates": run.place.update}), run.ema.state_dict())
    return read_model(folder).net


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
