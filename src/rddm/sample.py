"""Sampling: a trajectory of nodes, a solver that moves along it, and a denoiser that it asks.

A trajectory is a list of nodes in the (abar, bbar) plane that ends at the clean image: the path's own grid, or any
polyline. With :func:`residual_first` and :func:`noise_first` the two processes are undone one after the other (paper,
section 3.3); :func:`with_jumps` and :func:`resampled` go back up to try again (RePaint, DDNM). Every solver accepts
them all, and so does every guidance (``rddm.guidance``), which makes the result fit a measurement.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from rddm.denoiser import Denoiser
from rddm.errors import UserError
from rddm.guidance.base import Guidance
from rddm.path import CLEAN, Node, Noise, Path, gaussian
from rddm.prediction import Prediction
from rddm.solvers import Ancestral, Move, Solver
from rddm.transition import transition

Trajectory: TypeAlias = Sequence[Node]


class State(NamedTuple):
    """What a sampler holds after a step: the state, the estimate it came from, the node reached, and how far it is."""

    x_t: Tensor
    prediction: Prediction
    node: Node
    step: int
    steps: int


def residual_first(path: Path, steps: int) -> list[Node]:
    """Return the trajectory that removes the residual in ``steps`` steps, then the noise in as many."""
    grid = path.grid(steps)
    return [Node(n.abar, grid[0].bbar, n.t) for n in grid] + [Node(0.0, n.bbar, n.t) for n in grid[1:]]


def noise_first(path: Path, steps: int) -> list[Node]:
    """Return the trajectory that removes the noise in ``steps`` steps, then the residual in as many."""
    grid = path.grid(steps)
    return [Node(grid[0].abar, n.bbar, n.t) for n in grid] + [Node(n.abar, 0.0, n.t) for n in grid[1:]]


def staircase(path: Path, steps: int) -> list[Node]:
    """Return the trajectory that, in each of ``steps`` steps, removes a part of the residual, then one of the noise."""
    grid = path.grid(steps)
    nodes = [grid[0]]
    for now, then in zip(grid, grid[1:]):
        nodes += [Node(then.abar, now.bbar, now.t), then]
    return nodes


def with_jumps(trajectory: Trajectory, length: int, repeats: int) -> list[Node]:
    """Return the trajectory that, after every ``length`` steps, goes back up ``length`` nodes, ``repeats`` times.

    Sources: Lugmayr et al., RePaint, CVPR 2022; Wang et al., DDNM, ICLR 2023 ("time travel").
    """
    if length < 1 or repeats < 0:
        raise ValueError(f"with_jumps: found length {length}, repeats {repeats}; expected at least 1 and 0")
    nodes = [trajectory[0]]
    for low in range(0, len(trajectory) - 1, length):
        leg = list(trajectory[low : low + length + 1])
        nodes += leg[1:]
        for _ in range(repeats):
            nodes += leg
    return nodes


def resampled(trajectory: Trajectory, length: int, visits: int) -> list[Node]:
    """Return the trajectory that visits each stretch of ``length`` steps ``visits`` times, as RePaint and DDNM do.

    From the last node before the clean image, and from every ``length``-th above it, it climbs node by node; the
    ``length`` nodes at the top, and what lies above the last whole stretch, are passed once. 250 steps with (10, 10)
    take 2410 calls.
    """
    if length < 1 or visits < 1:
        raise ValueError(f"resampled: found length {length}, visits {visits}; expected at least 1 each")
    steps = len(trajectory) - 1
    nodes = [trajectory[0]]
    for i in range(1, steps):
        nodes.append(trajectory[i])
        left = steps - 1 - i  # nodes between this one and the last before the clean image
        if left % length == 0 and left < steps - length:
            stretch = list(trajectory[i - length : i + 1])
            for _ in range(visits - 1):
                nodes += [*reversed(stretch[:-1]), *stretch[1:]]
    return [*nodes, trajectory[-1]]


def climbs(now: Node, then: Node) -> bool:
    """Tell whether the step from ``now`` goes up, towards the degraded image: the share of ``x_0`` to noise falls.

    ``abar`` alone does not tell: a path that is divided by the sum of its coefficients may turn back in it (DiffUIR's).
    """
    before, after = (1 - now.abar) * then.bbar, (1 - then.abar) * now.bbar
    return bool(after < before if after != before else (then.abar, then.bbar) > (now.abar, now.bbar))


def start(x_in: Tensor, node: Node, noise: Noise) -> Tensor:
    """Return ``x_T = x_in + bbar_T z``, the state that sampling starts from (``x_in`` is zero for pure generation)."""
    return x_in + node.bbar * noise(x_in) if node.bbar else x_in.clone()


def estimate(
    denoiser: Denoiser, guidance: Guidance, x_t: Tensor, x_in: Tensor, node: Node
) -> tuple[Tensor, Prediction, Prediction]:
    """Return the state shown, the denoiser's estimate (with gradients where they are needed), and the corrected one."""
    x_t = guidance.show(x_t)
    if not guidance.needs_grad:
        prediction = denoiser(x_t, x_in, node)
        return x_t, prediction, guidance.correct(prediction, x_t, node)
    with torch.inference_mode(False), torch.enable_grad():
        x_t = x_t.detach().clone().requires_grad_()
        prediction = denoiser(x_t, x_in.clone(), node)
        corrected = guidance.correct(prediction, x_t, node)
    return x_t, prediction, Prediction(*(part.detach() for part in corrected))


def iterate(
    denoiser: Denoiser,
    x_in: Tensor,
    trajectory: Trajectory,
    solver: Solver | None = None,
    noise: Noise | None = None,
    x_start: Tensor | None = None,
    guidance: Guidance | None = None,
) -> Iterator[State]:
    """Sample step by step, a :class:`State` after each; the arguments are those of :func:`sample`."""
    if len(trajectory) < 2 or trajectory[-1][:2] != CLEAN[:2]:
        raise ValueError("trajectory: expected at least two nodes, the last of them the clean image (0, 0)")
    if guidance is not None and bool(x_in.any()):
        raise UserError("guidance: found a degraded x_in, expected a row that starts from noise alone (origin zero)")
    solver, noise, guidance = solver or Ancestral(), noise or gaussian(), guidance or Guidance()
    x_t = start(x_in, trajectory[0], noise) if x_start is None else x_start
    prediction = history = None
    for step, (now, then) in enumerate(zip(trajectory, trajectory[1:]), 1):
        if prediction is not None and climbs(now, then):  # a forward step, no call needed
            x_t = transition(x_t, prediction, now, then, guidance.climb(now, then), noise(x_t))
            x_t, history = guidance.show(x_t), None
            corrected = prediction
        else:
            seen, asked, corrected = estimate(denoiser, guidance, x_t, x_in, now)
            x_t = seen.detach()
            if then[:2] == CLEAN[:2]:
                x_next, history = corrected.x_0, None
            else:
                again = partial(evaluated, denoiser, guidance, x_in)
                x_next, history = solver.step(Move(x_t, corrected, now, then, again, noise, history))
            x_t = guidance.project(x_next, seen, asked, now, then, noise)
            prediction = Prediction(*(part.detach() for part in asked))
        yield State(x_t, corrected, then, step, len(trajectory) - 1)


def evaluated(denoiser: Denoiser, guidance: Guidance, x_in: Tensor, x_t: Tensor, node: Node) -> Prediction:
    """Return the corrected estimate, which solvers ask for."""
    return estimate(denoiser, guidance, x_t, x_in, node)[2]


def sample(
    denoiser: Denoiser,
    x_in: Tensor,
    trajectory: Trajectory,
    solver: Solver | None = None,
    noise: Noise | None = None,
    x_start: Tensor | None = None,
    guidance: Guidance | None = None,
) -> Tensor:
    """Return the clean image that the trajectory leads to.

    Arguments:
        denoiser: asked once per step (Heun: twice).
        x_in: degraded images in [-1, 1], shape (B, C, H, W); zeros for pure generation.
        trajectory: nodes from the start to the clean image, as ``path.grid(steps)``; the last step returns ``x_0``.
        solver: how to move; a deterministic transition if None.
        noise: the source of randomness, ``gaussian(generator)``.
        x_start: the state to start from instead of :func:`start`'s.
        guidance: makes the result fit a measurement, for rows of origin zero; nothing if None.

    Raises:
        ValueError: if the trajectory does not end at the clean image, or the solver does not admit it.
        UserError: if there is a guidance, and ``x_in`` is not zero or the operator does not fit the images.
    """
    x_0 = x_in
    for state in iterate(denoiser, x_in, trajectory, solver, noise, x_start, guidance):
        x_0 = state.x_t
    return x_0
