"""Images from noise alone: :func:`generate` and ``rddm generate``."""

import math
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rddm.batch import bar_of, choose_device, in_one_line, make_folder, megabytes
from rddm.cost import gmacs
from rddm.errors import UserError
from rddm.model import Model, load
from rddm.photo import Photo, Pixels, output_format, write_photo
from rddm.report import fit_for
from rddm.walk import BATCH, Walk, decide, drawn

GAP = 2  # pixels of white between the images of a sheet


def zeros(walk: Walk) -> Tensor:
    """Return what stands for ``x_in`` where images come from noise alone, (1, C, side, side)."""
    device = next(walk.model.parameters()).device
    return torch.zeros(1, walk.model.spec.network.out_channels, walk.side, walk.side, device=device)


def generate(
    model: Model,
    count: int,
    steps: int | None = None,
    solver: str | None = None,
    seed: int = 0,
    batch: int = BATCH,
    side: int | None = None,
    way: str | None = None,
) -> Pixels:
    """Return images drawn from noise, (count, side, side, C) uint8.

    Arguments:
        model: a generator.
        count: how many; image ``i`` is the same whatever the count.
        steps: network calls; the model's default if None.
        solver: a name in ``SOLVERS``; the model's own if None.
        seed: of the noise; image ``i`` is drawn from ``(seed, i)``.
        batch: images that the network is given at once; another number may change a pixel by one level.
        side: of the images, in pixels; what the model was trained on if None.
        way: through the plane, a name in ``WAYS``, for models that are told where they are in it.

    Raises:
        UserError: if the model is no generator, or a number is out of range.
    """
    walk = walk_of(model, side, steps, solver, way, seed, batch)
    return drawn(walk, zeros(walk), checked(count))


def walk_of(
    model: Model, side: int | None, steps: int | None, solver: str | None, way: str | None, seed: int, batch: int
) -> Walk:
    """Return how to generate: :func:`decide` at the model's own side, for generators alone.

    Raises:
        UserError: if the model is no generator, or no side is known.
    """
    spec = model.spec
    if not spec.method.generates:
        names = fit_for(lambda other: other.method.generates)
        raise UserError(f"{spec.name}: starts from a photo, expected a model that generates from noise: {names}")
    if side is None and spec.side is None:
        raise UserError(f"{spec.name}: made for no size of its own, expected --side")
    return decide(model, spec.side or 0 if side is None else side, steps, solver, way, seed, batch)


def checked(count: int) -> int:
    """Return the number of images.

    Raises:
        UserError: if it is less than one.
    """
    if count < 1:
        raise UserError(f"-n {count}: found less than 1, expected a number of images")
    return count


@dataclass(frozen=True)
class Options:
    """What to generate (see :func:`generate`); what is written is enlarged ``scale`` times, pixel by pixel."""

    count: int
    steps: int | None = None
    solver: str | None = None
    seed: int = 0
    side: int | None = None
    way: str | None = None
    scale: int = 1


def generate_files(out: Path, model_name: str, device: str, options: Options) -> None:
    """Generate images into one sheet, if ``out`` has an image's suffix, else into a folder, one file each.

    Raises:
        UserError: if the model is no generator, a number is out of range, or a file cannot be written.
    """
    count = checked(options.count)
    if options.scale < 1:
        raise UserError(f"--scale {options.scale}: found less than 1, expected a whole number of times")
    if one_file(out):
        output_format(out)
    model = load(model_name, choose_device(device))
    walk = walk_of(model, options.side, options.steps, options.solver, options.way, options.seed, BATCH)
    with in_one_line(model.spec.name, "expected a smaller --side"):
        print(described(walk, count), flush=True)
        make_folder(out.parent if one_file(out) else out)
        with bar_of("steps") as bar:
            task = bar.add_task(model.spec.name, total=walk.steps(count))
            images = drawn(walk, zeros(walk), count, partial(bar.advance, task))
    write_images(out, images, options.scale)


def one_file(out: Path) -> bool:
    """Tell whether all images go to one file: a name with a suffix that is no folder."""
    return bool(out.suffix) and not out.is_dir()


def described(walk: Walk, count: int) -> str:
    """Return what drawing images will cost, in one line; the seconds are those of one call, measured now."""
    side, calls = walk.side, walk.calls(count)
    size = f"{count} of {side}x{side}, {walk.model.spec.name}, {len(walk.trajectory) - 1} steps"
    work = f"{calls} network calls of {walk.batch * gmacs(walk.model, side, side):.2f} GMACs ({walk.batch} images)"
    return f"{size}, {work}, about {calls * seconds_of_call(walk):.0f} s, about {megabytes(walk.memory)}"


def seconds_of_call(walk: Walk) -> float:
    """Return how long one network call on a batch takes, the shorter of two: the first one sets things up."""
    denoiser = walk.model.denoiser()
    x_in = zeros(walk).expand(walk.batch, -1, -1, -1)
    taken = []
    for _ in range(2):
        began = time.perf_counter()
        with torch.inference_mode():
            denoiser(x_in, x_in, walk.trajectory[0]).x_0.sum().item()  # the device must have finished
        taken.append(time.perf_counter() - began)
    return min(taken)


def write_images(out: Path, images: Pixels, scale: int) -> None:
    """Write images (N, H, W, C) as one sheet or as ``0000.png``, ``0001.png``, ... in a folder.

    Raises:
        UserError: if a file cannot be written.
    """
    if one_file(out):
        write_photo(out, Photo(larger(sheet(images), scale)))
        return
    digits = max(4, len(str(len(images) - 1)))
    for i, image in enumerate(images):
        write_photo(out / f"{i:0{digits}}.png", Photo(larger(image, scale)))


def sheet(images: Pixels, columns: int | None = None) -> Pixels:
    """Return images (N, H, W, C) as one (H', W', C) on white, in rows, as square as possible if not told otherwise."""
    count = len(images)
    columns = columns or math.isqrt(count - 1) + 1
    rows = -(-count // columns)
    framed = np.pad(images, ((0, rows * columns - count), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
    height, width, channels = framed.shape[1:]
    grid = framed.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return grid.reshape(rows * height, columns * width, channels)[:-GAP, :-GAP]


def larger(image: Pixels, scale: int) -> Pixels:
    """Return an image (H, W, C) with every pixel ``scale`` times as high and as wide."""
    return image.repeat(scale, axis=0).repeat(scale, axis=1)
