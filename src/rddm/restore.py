"""The main job: pixels in, restored pixels out, whatever their size."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rddm.errors import UserError
from rddm.memory import available_bytes, call_bytes, resident_bytes
from rddm.model import Model
from rddm.nn.pooled import Tape, on_tape, pools
from rddm.path import Node
from rddm.photo import Pixels, from_float, to_float
from rddm.preprocess import CONDITIONS, Whole, conditions_of, equalise, whole_of
from rddm.sample import sample
from rddm.solvers import SOLVERS, Ancestral, Solver
from rddm.spec import ModelSpec
from rddm.tiles import Blend, NoiseField, Tile, TileNoise, plan, strips

OVERLAP = 64
TILES = (512, 384, 256, 192, 128)
ATTENDED = 8192  # positions at the bottom of a network with full attention: 724x724 pixels of the published one
HEAP = 1.6  # what a call takes of the process for what its tensors take: 1.5 to 1.7 in float32, less in others
WHOLE_BYTES = 1 << 30  # a photo that takes less than this in one piece is not cut


@dataclass(frozen=True)
class Job:
    """A restoration, decided and ready to run.

    Arguments:
        model: the model.
        height: of the photo, in pixels.
        width: likewise.
        trajectory: the nodes to visit.
        solver: how.
        seed: of the noise.
        rows: the tiles, row by row.
        memory: expected peak of the process, in bytes, if the restored photo takes the place of the photo.
    """

    model: Model
    height: int
    width: int
    trajectory: list[Node]
    solver: Solver
    seed: int
    rows: list[list[Tile]]
    memory: int

    @property
    def tiles(self) -> int:
        """The number of tiles."""
        return sum(map(len, self.rows))


def prepare(
    model: Model,
    height: int,
    width: int,
    steps: int | None = None,
    solver: str | None = None,
    seed: int = 0,
    tile: int | None = None,
    given: Collection[str] = (),
) -> Job:
    """Decide how to restore a photo of a given size.

    Arguments:
        model: the model.
        height: of the photo.
        width: likewise.
        steps: network calls per tile; the model's default if None.
        solver: a name in ``SOLVERS``; the model's own if None.
        seed: of the noise.
        tile: the side of the tiles, 0 for none, None to choose from the memory that is free.
        given: conditions that :func:`run` will be handed, such as "mask".

    Raises:
        UserError: if the model cannot restore photos, wants a mask and is given none or the other way round, or a
            number is out of range.
    """
    method, network = model.spec.method, model.spec.network
    if (network.out_channels, network.dims) != (3, 2):
        found = f"{network.out_channels} channels in {network.dims} dimensions"
        raise UserError(f"{model.spec.name}: restores {found}, expected 3 in 2 as photos have")
    unknown = {*method.inputs, *method.context} - {"x_in", "mask", *CONDITIONS, *given}
    if method.generates or unknown or model.spec.side is not None:
        makes = "generates images from noise" if method.generates else "translates photos"
        needs = f"needs {', '.join(sorted(unknown))}" if unknown else makes
        raise UserError(f"{model.spec.name}: {needs}, expected a model that restores a photo by itself")
    if model.spec.restorer is not None:
        raise UserError(f"{model.spec.name}: is a second stage, expected --model {model.spec.restorer} --realism 1")
    check_mask_use(model.spec, "mask" in given)
    return decide(model, height, width, steps, solver, seed, tile)


def wants_mask(spec: ModelSpec) -> bool:
    """Tell whether a model is shown a mask."""
    return "mask" in spec.method.inputs


def check_mask_use(spec: ModelSpec, given: bool) -> None:
    """Compare what a model wants with what it is given.

    Raises:
        UserError: if it wants a mask and there is none or the other way round, or it fills what a mask hides.
    """
    if spec.prepare == "fill":
        raise UserError(f"{spec.name}: fills the missing parts of a photo, expected rddm inpaint")
    if wants_mask(spec) and not given:
        raise UserError(f"{spec.name}: found no mask, expected one (--mask): the model is shown where to restore")
    if given and not wants_mask(spec):
        raise UserError(f"{spec.name}: found a mask, expected none: the model is shown none")


def check_size(mask: Pixels, height: int, width: int, name: str = "mask") -> None:
    """Compare a mask with its photo.

    Raises:
        UserError: if it is of another size.
    """
    if mask.shape[:2] != (height, width):
        found = f"{mask.shape[1]}x{mask.shape[0]}" if mask.ndim > 1 else f"shape {mask.shape}"
        raise UserError(f"{name}: found {found} pixels, expected {width}x{height}, the size of the photo")


def decide(
    model: Model, height: int, width: int, steps: int | None, solver: str | None, seed: int, tile: int | None
) -> Job:
    """Decide as :func:`prepare` does, for a model that is known to be fit.

    Raises:
        UserError: if a number is out of range.
    """
    method = model.spec.method
    try:
        trajectory = method.path.grid(method.steps if steps is None else steps)
        multiple = model.spec.network.stride
        size = max(height, width) if tile == 0 else tile or choose_tile(model, height, width)
        rows = plan(height, width, size, OVERLAP, multiple)
    except ValueError as error:
        raise UserError(str(error)) from None
    memory = expected_bytes(model, height, width, rows)
    return Job(model, height, width, trajectory, solver_of(model.spec, solver), seed, rows, memory)


def solver_of(spec: ModelSpec, name: str | None) -> Solver:
    """Return the solver of a name; without one the model's, or else its row's own step."""
    chosen = name or spec.solver
    return Ancestral(spec.method.gain, spec.method.anchor) if chosen is None else SOLVERS[chosen]


def tile_bytes(model: Model, height: int, width: int) -> int:
    """Return the expected bytes of sampling one tile: the network's call, and the sampler's own images beside it."""
    pixel = 4 * model.spec.network.out_channels * height * width
    return round(HEAP * call_bytes(model, height, width)) + 8 * pixel


def choose_tile(model: Model, height: int, width: int) -> int:
    """Return a side for the tiles that leaves half of the free memory free; the whole photo if that is small."""
    budget = available_bytes(next(model.parameters()).device) // 2
    if tile_bytes(model, height, width) <= min(budget, WHOLE_BYTES) and attends(model, height, width):
        return max(height, width)
    for size in TILES:
        if tile_bytes(model, size, size) <= budget and attends(model, size, size):
            return size
    raise UserError(f"{model.spec.name}: {budget >> 19} MB are free, too little for a tile of {TILES[-1]} pixels")


def attends(model: Model, height: int, width: int) -> bool:
    """Tell whether the network can attend to a whole tile in reasonable time, quadratic in the pixels at its bottom."""
    bottom = height * width // model.spec.network.stride**2
    return not pools(model.net) or bottom <= ATTENDED


def expected_bytes(model: Model, height: int, width: int, rows: list[list[Tile]]) -> int:
    """Return the expected peak of the process: what it holds, and a strip and one tile's sampling, or the encoder."""
    largest = rows[0][0]
    strip = 28 * width * (largest.bottom - largest.top)  # sums and weights, and what is rounded, in float32
    encoder = 4 * height * width  # Pillow's own copy
    return resident_bytes() + max(strip + tile_bytes(model, largest.bottom, largest.right), encoder)


def run(
    job: Job,
    pixels: Pixels,
    progress: Callable[[], None] = lambda: None,
    whole: Whole | None = None,
    mask: Pixels | None = None,
    restore: "Restore | None" = None,
    out: Pixels | None = None,
    strength: float = 1.0,
) -> Pixels:
    """Return the restored pixels, of the shape and dtype of ``pixels`` (H, W, 1 or 3).

    Rows are read and written from top to bottom, a row of tiles at a time, so photos of any size may lie in files
    (``np.memmap``). Only the first look at the whole holds more, two bytes a pixel, unless ``whole`` tells of it.

    Arguments:
        job: from :func:`prepare`, for a photo of this size.
        pixels: uint8 or uint16.
        progress: called after each tile.
        whole: what to tell of the photograph if ``pixels`` are a piece of it.
        mask: (H, W, 1 or 3), for models that want one.
        restore: what restores a tile; :func:`restore_tile` if None.
        out: where they go; may be ``pixels`` itself, whose rows are not read again. A new array if None.
        strength: share of the restored photo in what is returned, from 0 (``pixels`` exactly, no work) to 1.

    Raises:
        UserError: if the mask is of another size than the photo, or the strength out of range.
    """
    if mask is not None:
        check_size(mask, job.height, job.width)
    check_strength(strength)
    if strength == 0:
        return copied(pixels, out)
    restore = restore or restore_tile
    source = Source(job.model, in_colour(pixels), None if mask is None else in_colour(mask), whole)
    field = NoiseField(job.seed)
    tape = record(job, source) if job.tiles > 1 and pools(job.model.net) else None
    blend = Blend(job.height, job.width, 3, OVERLAP)
    out = np.empty_like(pixels) if out is None else out
    done = 0
    for row, bottom in strips(job.rows, job.height):
        for tile in row:
            blend.add(tile, restore(job, source, tile, field, tape))
            progress()
        ready = blend.take(bottom)
        ready = ready if pixels.shape[2] == 3 else ready.mean(2, keepdims=True)
        if strength < 1:
            ready = strength * ready + (1 - strength) * to_float(pixels[done:bottom])
        out[done:bottom] = from_float(ready, pixels.dtype)
        done = bottom
    return out


def check_strength(strength: float) -> None:
    """Raise UserError unless a strength is from 0 to 1."""
    if not 0 <= strength <= 1:
        raise UserError(f"strength: found {strength:g}, expected a number from 0 to 1")


def mixed(pixels: Pixels, before: Pixels, strength: float) -> Pixels:
    """Return a share of restored pixels and the rest of what they were."""
    return from_float(strength * to_float(pixels) + (1 - strength) * to_float(before), pixels.dtype)


def copied(pixels: Pixels, out: Pixels | None) -> Pixels:
    """Return pixels, put into ``out`` or copied."""
    if out is None:
        return pixels.copy()
    out[:] = pixels
    return out


def in_colour(pixels: Pixels) -> Pixels:
    """Return pixels (H, W, 1 or 3) with three channels."""
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


class Source:
    """A photo as its model sees it: crops of the input and of the conditions, in [-1, 1], a mask's in [0, 1]."""

    def __init__(self, model: Model, pixels: Pixels, mask: Pixels | None = None, whole: Whole | None = None) -> None:
        self.device = next(model.parameters()).device
        self.spec = model.spec
        self.pixels, self.mask = pixels, mask
        self.needs = {*model.spec.method.inputs, *model.spec.method.context} & CONDITIONS
        needed = model.spec.prepare == "equalise" or self.needs
        self.whole = whole_of(pixels) if needed and whole is None else whole

    def crop(self, tile: Tile) -> tuple[Tensor, dict[str, Tensor]]:
        """Return ``x_in`` and the conditions under a tile, (1, 3, height, width) each."""
        window = slice(tile.top, tile.bottom), slice(tile.left, tile.right)
        pixels, conditions = self.pixels[window], dict[str, Tensor]()
        if self.mask is not None:
            conditions["mask"] = (self.tensor(self.mask[window]) + 1) / 2
        if self.whole is None:
            return self.tensor(pixels), conditions
        for name, value in conditions_of(self.needs, pixels, self.whole).items():
            image = value.ndim == 3
            conditions[name] = self.tensor(value) if image else torch.from_numpy(value)[None].to(self.device)
        return self.tensor(self.prepared(pixels, self.whole)), conditions

    def prepared(self, pixels: Pixels, whole: Whole) -> Pixels:
        """Return what stands for the photo in the equations."""
        return equalise(pixels, whole.tables) if self.spec.prepare == "equalise" else pixels

    def tensor(self, pixels: Pixels) -> Tensor:
        """Return pixels as a batch of one image in [-1, 1]."""
        values = torch.from_numpy(np.ascontiguousarray(to_float(pixels))).permute(2, 0, 1)[None]
        return (values * 2 - 1).to(self.device)


def sample_tile(job: Job, x_in: Tensor, conditions: dict[str, Tensor], noise: TileNoise) -> Tensor:
    """Return the restored tile in [-1, 1]; a row that starts from noise alone sees the input as a condition."""
    origin = x_in if job.model.spec.method.origin == "input" else torch.zeros_like(x_in)
    with torch.inference_mode():
        return sample(job.model.denoiser(conditions), origin, job.trajectory, job.solver, noise)


Restore: TypeAlias = Callable[[Job, Source, Tile, NoiseField, "Tape | None"], NDArray[np.float32]]


def restore_tile(job: Job, source: Source, tile: Tile, field: NoiseField, tape: Tape | None) -> NDArray[np.float32]:
    """Return the restored tile, float32 (height, width, 3) in [0, 1]."""
    x_in, conditions = source.crop(tile)
    with on_tape(job.model.net, tape):
        return floats_of(sample_tile(job, x_in, conditions, TileNoise(field, tile)))


def floats_of(images: Tensor) -> NDArray[np.float32]:
    """Return the one image of a batch in [-1, 1] as (height, width, 3) in [0, 1]."""
    return ((images[0] + 1) / 2).clamp(0, 1).permute(1, 2, 0).float().cpu().numpy()


def record(job: Job, source: Source) -> Tape:
    """Walk the sampler over the whole photo, reduced to a tile's size, and write down what the network pools."""
    largest = job.rows[0][0]
    shape = largest.bottom, largest.right
    mask = None if source.mask is None else reduced(source.mask, *shape)
    small = Source(job.model, reduced(source.pixels, *shape), mask, source.whole)
    whole = Tile(0, 0, *small.pixels.shape[:2])
    tape = Tape()
    with on_tape(job.model.net, tape):
        sample_tile(job, *small.crop(whole), TileNoise(NoiseField(job.seed), whole))
    return tape


def reduced(pixels: Pixels, height: int, width: int) -> Pixels:
    """Return a photo scaled down by an integer so as to fit, each pixel the mean of those it stands for."""
    factor = max(-(-pixels.shape[0] // height), -(-pixels.shape[1] // width))
    down, across = min(factor, pixels.shape[0]), min(factor, pixels.shape[1])
    rows, columns = pixels.shape[0] // down, pixels.shape[1] // across
    blocks = pixels[: rows * down, : columns * across].reshape(rows, down, columns, across, -1)
    return np.rint(blocks.mean((1, 3))).astype(pixels.dtype)
