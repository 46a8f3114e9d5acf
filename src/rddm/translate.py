"""One kind of picture turned into another, such as dogs into cats: :func:`translate` and ``rddm translate``.

A translator was trained on unpaired squares of one size. A photo's centre square is resized to it; what comes out is of
that size too. Where the model is told its place in the plane, the residual is undone first: from the dog to a noisy
cat; then the noise, which draws its details.

A generator translates too, untrained for it: noise hides the dog part of the way, and the generator brings a cat back
(SDEdit, Meng et al., ICLR 2022). What noise does not hide, colours and light, stays.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rddm.batch import bar_of, beside, choose_device, for_each, in_one_line, make_folder, megabytes
from rddm.errors import UserError
from rddm.generate import checked, sheet
from rddm.methods import plane_clock
from rddm.model import Model, load
from rddm.path import CLEAN
from rddm.photo import Photo, Pixels, from_float, read_photo, to_float, write_photo
from rddm.photos import resized
from rddm.report import fit_for
from rddm.spec import ModelSpec
from rddm.walk import Walk, decide, drawn

STRENGTH = 0.8


def translate(
    model: Model,
    pixels: Pixels,
    count: int = 1,
    steps: int | None = None,
    seed: int = 0,
    way: str | None = None,
    strength: float | None = None,
) -> Pixels:
    """Return translations of a photo's centre square, (count, side, side, 3) uint8.

    Arguments:
        model: a translator or a generator.
        pixels: (H, W, 1 or 3), uint8 or uint16.
        count: how many; translation ``i`` is the same whatever the count.
        steps: network calls, on each leg of a way that has two; the model's default if None.
        seed: of the noise; translation ``i`` is drawn from ``(seed, i)``.
        way: through the plane, a name in ``rddm.walk.WAYS``; the model's best if None, see the module.
        strength: for generators, the time in (0, 1] that the photo is noised to; 0.8 if None.

    Raises:
        UserError: if the model is neither, or a number is out of range.
    """
    walk = prepare(model, steps, seed, way, strength)
    return translated(walk, centre_square(pixels, walk.side), checked(count))


def prepare(
    model: Model, steps: int | None = None, seed: int = 0, way: str | None = None, strength: float | None = None
) -> Walk:
    """Decide how to translate; arguments and errors are those of :func:`translate`."""
    spec = model.spec
    side = spec.side
    if side is not None and spec.method.origin == "zero":
        if way is not None:
            raise UserError(f"--path {way}: {spec.name} is a generator, expected a model trained to translate")
        return part_way(
            decide(model, side, steps, None, None, seed, batch=1), STRENGTH if strength is None else strength
        )
    if strength is not None:
        raise UserError(f"--strength: {spec.name} was trained to translate, expected a generator")
    if side is None or not translates(spec):
        names = fit_for(lambda other: other.side is not None)
        raise UserError(f"{spec.name}: keeps to no size of its own, expected a model that translates: {names}")
    if way is None and spec.method.clock is plane_clock:
        way = "residual-first"
    return decide(model, side, steps, None, way, seed, batch=1)  # most often a photo is translated once


def translates(spec: ModelSpec) -> bool:
    """Tell whether a model starts from a photo and was trained on unpaired ones: those alone keep to one size."""
    return spec.method.origin == "input" and spec.side is not None


def part_way(walk: Walk, strength: float) -> Walk:
    """Return a walk of as many steps that begins at time ``strength``.

    Raises:
        UserError: unless it lies in (0, 1].
    """
    if not 0 < strength <= 1:
        raise UserError(f"--strength: found {strength:g}, expected more than 0 and at most 1")
    steps, path = len(walk.trajectory) - 1, walk.model.spec.method.path
    return replace(walk, trajectory=[*(path.node(strength * i / steps) for i in range(steps, 0, -1)), CLEAN])


def translated(walk: Walk, square: Pixels, count: int, progress: Callable[[], None] = lambda: None) -> Pixels:
    """Return translations of a square, (count, side, side, 3) uint8."""
    image = start_of(walk, square)
    if walk.model.spec.method.origin == "zero":
        return drawn(walk, torch.zeros_like(image), count, progress, guide=image)
    return drawn(walk, image, count, progress)


def centre_square(pixels: Pixels, side: int) -> Pixels:
    """Return the largest square in the middle of a photo (H, W, 1 or 3), (side, side, 3) uint8."""
    height, width = pixels.shape[:2]
    least = min(height, width)
    top, left = (height - least) // 2, (width - least) // 2
    square = pixels[top : top + least, left : left + least]
    eight = square if square.dtype == np.uint8 else from_float(to_float(square), np.uint8)
    return resized(np.ascontiguousarray(np.broadcast_to(eight, (least, least, 3))), side)


def start_of(walk: Walk, square: Pixels) -> Tensor:
    """Return a square as an image, (1, 3, side, side) in [-1, 1]."""
    image = torch.from_numpy(to_float(square)).permute(2, 0, 1)[None] * 2 - 1
    return image.to(next(walk.model.parameters()).device)


@dataclass(frozen=True)
class Options:
    """How to translate (see :func:`translate`), and whether to write a comparison too."""

    count: int = 1
    steps: int | None = None
    seed: int = 0
    way: str | None = None
    strength: float | None = None
    compare: bool = False


def translate_files(inputs: Sequence[str], out: Path, model_name: str, device: str, options: Options) -> int:
    """Translate photos and return how many failed, each with one line on the error stream.

    Several translations of a photo are written as one sheet.

    Raises:
        UserError: if the model is no translator, a number is out of range, or several photos would go to one file.
    """
    checked(options.count)
    model = load(model_name, choose_device(device))
    walk = prepare(model, options.steps, options.seed, options.way, options.strength)
    return for_each(inputs, out, partial(translate_file, walk, options=options), "translated", options.compare)


def translate_file(walk: Walk, source: Path, target: Path, options: Options) -> None:
    """Translate one photo, telling first what it will cost.

    Raises:
        UserError: if it cannot be read or written, or the memory does not suffice.
    """
    with in_one_line(str(source), "close other programs"):
        pixels = read_photo(source).pixels
        square = centre_square(pixels, walk.side)
        print(f"{source}: {described(walk, pixels, options.count)}", flush=True)
        make_folder(target.parent)
        with bar_of("steps") as bar:
            task = bar.add_task(source.name, total=walk.steps(options.count))
            images = translated(walk, square, options.count, partial(bar.advance, task))
    write_photo(target, Photo(sheet(images)))
    if options.compare:
        row = np.concatenate([square[None], images])
        write_photo(beside(target), Photo(sheet(row, columns=len(row))))


def described(walk: Walk, pixels: Pixels, count: int) -> str:
    """Return what is done to a photo and what it will cost, in one line."""
    height, width = pixels.shape[:2]
    least, side = min(height, width), walk.side
    part = "" if height == width else f"the middle {least}x{least} of "
    size = f"{part}{width}x{height}, resized to {side}x{side}"
    return f"{size}, {walk.model.spec.name}, {walk.calls(count)} network calls, about {megabytes(walk.memory)}"
