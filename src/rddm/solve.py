"""Inverse problems: :func:`solve` and ``rddm solve``, a generator made to fit a measurement.

What does not fit into the model's own size is solved window by window, each with what its neighbours found in it
(mask-shift), on one field of noise: windows agree at their seams to the bit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rddm.batch import bar_of, beside, check_destination, choose_device, destinations, in_one_line, make_folder
from rddm.errors import UserError
from rddm.guidance import GUIDANCES, GuidanceRow, Keep
from rddm.metrics import psnr
from rddm.model import Model, load
from rddm.operators import GaussianNoise, NoiseModel, Operator, Plan, PoissonNoise, parse_operator
from rddm.operators.text import Place, shrunk
from rddm.photo import Photo, Pixels, from_float, read_photo, side_by_side, to_float, write_photo
from rddm.report import fit_for
from rddm.sample import Trajectory, iterate, resampled
from rddm.solvers import SOLVERS, Ancestral, Solver
from rddm.tiles import NoiseField, Tile, TileNoise
from rddm.walk import calls_of, check_pictures

STEPS = 50


@dataclass(frozen=True)
class Options:
    """How to solve: ``steps`` network calls per window without jumps, 50 if None; ``noise`` in levels of 255.

    ``photons`` counted at white, if not None, are the noise instead. ``solver`` None is the step that the guidance was
    published with, and ``jumps`` the length and the number of visits. With ``simulate`` the photo is clean, and is
    measured first.
    """

    steps: int | None = None
    solver: str | None = None
    seed: int = 0
    noise: float = 0.0
    jumps: tuple[int, int] | None = None
    simulate: bool = False
    compare: bool = False
    photons: float | None = None


@dataclass(frozen=True)
class Problem:
    """An inverse problem, decided and checked.

    Arguments:
        model: the generator.
        plan: the operator's text.
        operator: for the whole image.
        shape: of the image, (C, H, W).
        windows: the parts that are solved one after the other.
        row: the guidance.
        trajectory: the nodes to visit.
        solver: how.
        noise: of the measurement, for images in [-1, 1].
        seed: of the noise.
        calls: network calls for each window.
    """

    model: Model
    plan: Plan
    operator: Operator
    shape: tuple[int, int, int]
    windows: list[Place]
    row: GuidanceRow
    trajectory: Trajectory
    solver: Solver
    noise: NoiseModel
    seed: int
    calls: int


def solve(
    model: Model, pixels: Pixels, operator: str, guidance: str = "ddnm", options: Options | None = None
) -> Pixels:
    """Return the image that a degraded photo was measured from, (H, W, 3) of the dtype of ``pixels``.

    Arguments:
        model: a generator.
        pixels: the measurement, (h, w, 1 or 3), uint8 or uint16.
        operator: what was done to the image, as text: "sr(4)".
        guidance: a name in ``GUIDANCES``.
        options: all else.

    Raises:
        UserError: if the model generates nothing, the operator does not fit, or the guidance needs what it has not.
    """
    options, plan = options or Options(), parse_operator(operator)
    problem = prepare(model, plan, guidance, image_sides(plan, pixels, options.simulate), options)
    y = measurement(problem, pixels, options)
    return picture(solution(problem, y), pixels.dtype)


def image_sides(plan: Plan, pixels: Pixels, simulate: bool) -> tuple[int, int]:
    """Return the height and width of the image.

    Raises:
        UserError: if a measurement is no picture and yet a picture was given as one.
    """
    if simulate:
        return pixels.shape[0], pixels.shape[1]
    if not plan.picture:
        raise UserError(f"{plan.text}: measures no picture, expected --simulate with a clean photo")
    return pixels.shape[0] * plan.factor, pixels.shape[1] * plan.factor


def prepare(model: Model, plan: Plan, guidance: str, sides: tuple[int, int], options: Options) -> Problem:
    """Decide how to solve; arguments and errors are those of :func:`solve`, ``sides`` the image's height and width."""
    spec, row = model.spec, GUIDANCES.get(guidance)
    if row is None:
        raise UserError(f"--guidance {guidance}: expected one of {', '.join(GUIDANCES)}")
    check_pictures(spec, 3)
    if not spec.method.generates:
        names = fit_for(lambda other: other.method.generates)
        raise UserError(f"{spec.name}: starts from a photo, expected a model that generates from noise: {names}")
    shape, windows = (3, *sides), windows_of(model, plan, *sides)
    operator = plan(shape)
    steps = STEPS if options.steps is None else options.steps
    solver = Ancestral(row.gain) if options.solver is None else SOLVERS[options.solver]
    noise = noise_of(plan, options)
    try:
        trajectory = row.grid(spec.method.path, steps)
        trajectory = trajectory if options.jumps is None else resampled(trajectory, *options.jumps)
        calls = calls_of(trajectory, solver)
    except ValueError as error:
        raise UserError(str(error)) from None
    row.against(operator, torch.zeros(0), noise, steps)  # complains if the guidance needs what the operator has not
    return Problem(model, plan, operator, shape, windows, row, trajectory, solver, noise, options.seed, calls)


def noise_of(plan: Plan, options: Options) -> NoiseModel:
    """Return the noise of a measurement.

    Raises:
        UserError: if there is less than none, there are two kinds, or what has photons is no picture.
    """
    if options.photons is None:
        return GaussianNoise(options.noise * 2 / 255)
    if options.noise:
        raise UserError(f"--photons: found --noise {options.noise:g} as well, expected one of the two")
    if not plan.picture:
        raise UserError(f"{plan.text}: measures no picture, whose photons are counted; expected --noise")
    return PoissonNoise(options.photons)


def windows_of(model: Model, plan: Plan, height: int, width: int) -> list[Place]:
    """Return the windows of an image, row by row; neighbours overlap by half.

    Raises:
        UserError: if the image is smaller than the model's, or the operator cannot be cut into windows.
    """
    side, stride = model.spec.side, model.spec.network.stride
    if side is None:
        if height % stride or width % stride:
            raise UserError(f"{model.spec.name}: found an image of {height}x{width}, expected multiples of {stride}")
        return [Place(slice(0, height), slice(0, width))]
    if min(height, width) < side:
        raise UserError(f"{model.spec.name}: found an image of {height}x{width}, expected at least {side}x{side}")
    if not plan.local and (height, width) != (side, side):
        whole = f"{plan.text}: measures across windows, found an image of {height}x{width}"
        raise UserError(f"{whole}, expected {side}x{side}, the model's size, or an operator of mask, sr and grey")
    step = max(side // 2 // plan.factor, 1) * plan.factor
    rows, columns = ([*range(0, length - side, step), length - side] for length in (height, width))
    return [Place(slice(top, top + side), slice(left, left + side)) for top in rows for left in columns]


def measurement(problem: Problem, pixels: Pixels, options: Options) -> Tensor:
    """Return the measurement (1, ...) that a photo is, or that is made from it.

    Raises:
        UserError: if the photo has not the operator's size.
    """
    device = next(problem.model.parameters()).device
    photo = (torch.from_numpy(to_float(np.ascontiguousarray(pixels))).permute(2, 0, 1)[None] * 2 - 1).to(device)
    expected = problem.operator.A(torch.zeros(1, *problem.shape, device=device)).shape
    if options.simulate:
        clean = photo.expand(1, *problem.shape)
        return problem.plan.hidden(
            problem.noise(problem.operator.A(clean), torch.Generator().manual_seed(options.seed))
        )
    photo = photo.mean(1, keepdim=True) if expected[1] == 1 else photo.expand(1, 3, -1, -1)
    return problem.plan.hidden(photo)


def solution(problem: Problem, y: Tensor, progress: Callable[[], None] = lambda: None) -> Tensor:
    """Return the image (1, 3, H, W) in [-1, 1], ``progress`` being called after each step of each window."""
    field = NoiseField(problem.seed)
    image = torch.zeros(1, *problem.shape, device=y.device)
    known = torch.zeros(1, 1, *problem.shape[1:], dtype=torch.bool, device=y.device)
    for window in problem.windows:
        place = (..., window.rows, window.columns)
        image[place] = solved_window(problem, y, window, field, image[place], known[place], progress)
        known[place] = True
    return image


def solved_window(
    problem: Problem,
    y: Tensor,
    window: Place,
    field: NoiseField,
    image: Tensor,
    known: Tensor,
    progress: Callable[[], None],
) -> Tensor:
    """Return the image in one window, ``image`` where it is ``known``."""
    alone = len(problem.windows) == 1
    operator = problem.operator if alone else problem.plan((3, *image.shape[2:]), window)
    part = shrunk(window, problem.plan.factor)
    seen = y if alone else y[..., part.rows, part.columns]
    steps = len(problem.trajectory) - 1
    guidance = problem.row.against(operator, seen, problem.noise, steps)
    guidance = Keep(guidance, image.clone(), known.clone()) if bool(known.any()) else guidance
    noise = TileNoise(field, Tile(window.rows.start, window.columns.start, window.rows.stop, window.columns.stop))
    zeros, x_0 = torch.zeros_like(image), image
    with torch.no_grad():
        denoiser = problem.model.denoiser()
        for state in iterate(denoiser, zeros, problem.trajectory, problem.solver, noise, guidance=guidance):
            x_0 = state.x_t
            progress()
    return x_0


def picture(image: Tensor, dtype: np.dtype) -> Pixels:
    """Return an image (1, C, H, W) in [-1, 1] as pixels (H, W, C)."""
    return from_float(((image[0] + 1) / 2).clamp(0, 1).permute(1, 2, 0).float().cpu().numpy(), dtype)


def backprojected(problem: Problem, y: Tensor) -> Tensor | None:
    """Return ``A_dagger y``, None where the operator has no pseudoinverse."""
    a_dagger = getattr(problem.operator, "A_dagger", None)
    return None if a_dagger is None else a_dagger(y)


def solve_file(
    source: Path, out: Path, operator: str, guidance: str, model: str, device: str, options: Options
) -> None:
    """Solve one photo, telling first what it will cost and then how well the result fits.

    Raises:
        UserError: if a file cannot be read or written, or the problem cannot be solved (see :func:`solve`).
    """
    target = destinations([source], out)[0]
    for output in (target, beside(target)) if options.compare else (target,):
        check_destination(source, output, {})
    with in_one_line(str(source), "expected a smaller picture"):
        photo, plan = read_photo(source), parse_operator(operator)
        sides = image_sides(plan, photo.pixels, options.simulate)
        problem = prepare(load(model, choose_device(device)), plan, guidance, sides, options)
        y = measurement(problem, photo.pixels, options)
        print(f"{source}: {described(problem)}", flush=True)
        make_folder(target.parent)
        with bar_of("steps") as bar:
            task = bar.add_task(source.name, total=len(problem.windows) * (len(problem.trajectory) - 1))
            image = solution(problem, y, lambda: bar.advance(task))
        pixels = picture(image, photo.pixels.dtype)
        for note in write_photo(target, Photo(pixels, None, photo.format)):
            print(note)
        print(f"{target}: {fitted(problem, y, pixels, photo.pixels if options.simulate else None)}")
        if options.compare:
            before = backprojected(problem, y)
            left = photo.pixels if before is None else picture(before, photo.pixels.dtype)
            write_photo(beside(target), Photo(side_by_side(left, pixels), None, photo.format))


def described(problem: Problem) -> str:
    """Return what a problem is and costs, in one line."""
    height, width = problem.shape[1:]
    count = len(problem.windows)
    windows = "one window" if count == 1 else f"{count} windows"
    work = f"{count * problem.calls} network calls"
    return (
        f"{width}x{height} from {problem.plan.text}, {problem.model.spec.name}, {problem.row.name}, {windows}, {work}"
    )


def fitted(problem: Problem, y: Tensor, pixels: Pixels, clean: Pixels | None) -> str:
    """Return how well what is written fits the measurement, and the clean photo if that is known, in one line."""
    image = torch.from_numpy(to_float(pixels)).permute(2, 0, 1)[None].to(y.device) * 2 - 1
    rms = float((problem.operator.A(image) - y).square().mean().sqrt()) * 127.5
    told = f"fits the measurement to {rms:.2f} of 255 (rms)"
    if clean is None:
        return told
    full, before = float(np.iinfo(pixels.dtype).max), backprojected(problem, y)
    truth = np.broadcast_to(clean, pixels.shape)
    old = "" if before is None else f", its pseudoinverse {psnr(picture(before, pixels.dtype), truth, full):.2f} dB"
    return f"{told}, PSNR {psnr(pixels, truth, full):.2f} dB{old}"
