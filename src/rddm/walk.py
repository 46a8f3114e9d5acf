"""Walks: images that are drawn together, batch by batch, each from noise of its own.

Image ``i`` is drawn from a generator seeded by ``(seed, i)``: it is the same whether one image is asked for or a
thousand. A network's round-off depends on how many images it is given at once, so it is always given whole batches; of
the last one, what was not asked for is thrown away.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rddm.clocks import plane_clock
from rddm.draws import generator_of
from rddm.errors import UserError
from rddm.memory import resident_bytes
from rddm.model import Model
from rddm.path import Node, Path, mix
from rddm.photo import Pixels, from_float
from rddm.prediction import Prediction
from rddm.restore import solver_of, tile_bytes
from rddm.sample import Trajectory, iterate, noise_first, residual_first, sample
from rddm.solvers import Solver
from rddm.spec import ModelSpec
from rddm.transition import Inadmissible

BATCH = 8  # measured on one CPU core at 64x64: 36 ms for each of 8 images, 33 for each of 16, 56 for one alone


def joint(path: Path, steps: int) -> list[Node]:
    """Return the path's own trajectory, that removes the residual and the noise together."""
    return path.grid(steps)


WAYS: dict[str, Callable[[Path, int], list[Node]]] = {
    "joint": joint,
    "residual-first": residual_first,
    "noise-first": noise_first,
}


@dataclass(frozen=True)
class Walk:
    """How images are drawn, decided and checked.

    Arguments:
        model: the model.
        trajectory: the nodes to visit.
        solver: how.
        seed: of the noise.
        side: of the square images, in pixels.
        batch: images that the network is given at once.
        asked: how often it is asked for each batch.
    """

    model: Model
    trajectory: Trajectory
    solver: Solver
    seed: int
    side: int
    batch: int
    asked: int

    @property
    def memory(self) -> int:
        """The expected peak of the process, in bytes."""
        return resident_bytes() + self.batch * tile_bytes(self.model, self.side, self.side)

    def batches(self, count: int) -> int:
        """Return how many batches ``count`` images take, all of them whole."""
        return -(-count // self.batch)

    def calls(self, count: int) -> int:
        """Return how many network calls ``count`` images take."""
        return self.batches(count) * self.asked

    def steps(self, count: int) -> int:
        """Return how many steps ``count`` images take."""
        return self.batches(count) * (len(self.trajectory) - 1)


def decide(
    model: Model,
    side: int,
    steps: int | None = None,
    solver: str | None = None,
    way: str | None = None,
    seed: int = 0,
    batch: int = BATCH,
) -> Walk:
    """Decide how to draw images.

    Arguments:
        model: the model.
        side: of the images, in pixels.
        steps: network calls, on each leg of a way that has two; the model's default if None.
        solver: a name in ``SOLVERS``; the model's own if None.
        way: a name in ``WAYS``; "joint" if None.
        seed: of the noise.
        batch: images that the network is given at once.

    Raises:
        UserError: if a number is out of range, the model does not admit the solver or the way, or makes no pictures.
    """
    method, name = model.spec.method, model.spec.name
    check_pictures(model.spec, 1, 3)
    if way not in (None, "joint") and method.clock is not plane_clock:
        told = f"{name} is told the time alone"
        raise UserError(f"--path {way}: {told}, expected a model that is told its place in the plane, or --path joint")
    if side < 1 or batch < 1:
        raise UserError(f"side, batch: found {side}, {batch}, expected at least 1")
    chosen = solver_of(model.spec, solver)
    try:
        trajectory = WAYS[way or "joint"](method.path, method.steps if steps is None else steps)
        asked = calls_of(trajectory, chosen)
    except Inadmissible as error:
        raise UserError(f"{name}: {error}; expected another --solver or model") from None
    except ValueError as error:
        raise UserError(str(error)) from None
    return Walk(model, trajectory, chosen, seed, side, batch, asked)


def check_pictures(spec: ModelSpec, *channels: int) -> None:
    """Check that a model makes pictures, with one of these numbers of channels.

    Raises:
        UserError: if it makes signals, volumes, or images of other channels.
    """
    found, dims = spec.network.out_channels, getattr(spec.network, "dims", 2)
    if dims != 2 or found not in channels:
        expected = " or ".join(map(str, channels))
        raise UserError(f"{spec.name}: makes {found} channels in {dims} dimensions, expected {expected} in 2")


def calls_of(trajectory: Trajectory, solver: Solver) -> int:
    """Return how many network calls a trajectory takes, counted on an estimate that costs nothing."""
    seen: list[Node] = []

    def blank(x_t: Tensor, x_in: Tensor, node: Node) -> Prediction:
        seen.append(node)
        return Prediction(x_in, x_in, x_in)

    sample(blank, torch.zeros(1, 1, 1, 1), trajectory, solver)
    return len(seen)


class EachNoise:
    """Noise for a batch of images, each from a generator of its own, seeded by the seed and the image's number."""

    def __init__(self, seed: int, numbers: Iterable[int]) -> None:
        self.generators = [generator_of(seed, number) for number in numbers]

    def __call__(self, like: Tensor) -> Tensor:
        """Return noise shaped as ``like``, (B, C, H, W); drawn on the CPU, so that devices agree."""
        draws = [torch.randn(like.shape[1:], generator=generator) for generator in self.generators]
        return torch.stack(draws).to(like)


def drawn(
    walk: Walk, x_in: Tensor, count: int, progress: Callable[[], None] = lambda: None, guide: Tensor | None = None
) -> Pixels:
    """Return images (count, H, W, C) uint8.

    Arguments:
        walk: from :func:`decide`.
        x_in: where all of them start, (1, C, H, W) in [-1, 1]; zeros for pure generation.
        count: how many.
        progress: called after each step of each batch.
        guide: an image shaped as ``x_in`` that stands for ``x_0`` in the state to start from, where the walk starts
            part of the way (SDEdit).
    """
    images = []
    for first in range(0, count, walk.batch):
        noise = EachNoise(walk.seed, range(first, first + walk.batch))
        x_t = x_in = x_in.expand(walk.batch, -1, -1, -1)
        with torch.inference_mode():
            begun = None if guide is None else mix(guide, x_in - guide, noise(x_in), walk.trajectory[0])
            for state in iterate(walk.model.denoiser(), x_in, walk.trajectory, walk.solver, noise, begun):
                x_t = state.x_t
                progress()
        images.append(from_float(x_t.permute(0, 2, 3, 1).cpu().numpy() / 2 + 0.5, np.uint8))
    return np.concatenate(images)[:count]
