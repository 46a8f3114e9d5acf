"""Sampling: a trajectory of nodes, a solver that moves along it, and a denoiser that it asks.

A trajectory is a list of nodes in the (abar, bbar) plane that ends at the clean image: the path's own grid, or any
polyline. With :func:`residual_first` and :func:`noise_first` the two processes are undone one after the other (paper,
section 3.3); :func:`with_jumps` goes back up to try again (RePaint, DDNM). Every solver accepts them all.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

from torch import Tensor

from rddm.denoiser import Denoiser
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


def climbs(now: Node, then: Node) -> bool:
    """Tell whether the step from ``now`` goes up, towards the degraded image."""
    return bool(then.abar > now.abar or (then.abar == now.abar and then.bbar > now.bbar))


def start(x_in: Tensor, node: Node, noise: Noise) -> Tensor:
    """Return ``x_T = x_in + bbar_T z``, the state that sampling starts from (``x_in`` is zero for pure generation)."""
    return x_in + node.bbar * noise(x_in) if node.bbar else x_in.clone()


def iterate(
    denoiser: Denoiser,
    x_in: Tensor,
    trajectory: Trajectory,
    solver: Solver | None = None,
    noise: Noise | None = None,
    x_start: Tensor | None = None,
) -> Iterator[State]:
    """Sample step by step, a :class:`State` after each; the arguments are those of :func:`sample`."""
    if len(trajectory) < 2 or trajectory[-1][:2] != CLEAN[:2]:
        raise ValueError("trajectory: expected at least two nodes, the last of them the clean image (0, 0)")
    solver, noise = solver or Ancestral(), noise or gaussian()
    x_t = start(x_in, trajectory[0], noise) if x_start is None else x_start
    prediction = history = None
    for step, (now, then) in enumerate(zip(trajectory, trajectory[1:]), 1):
        if prediction is not None and climbs(now, then):  # a forward step of the paper (Eq. 6), no call needed
            x_t, history = transition(x_t, prediction, now, then, 1.0, noise(x_t)), None
        else:
            prediction = denoiser(x_t, x_in, now)
            if then[:2] == CLEAN[:2]:
                x_t, history = prediction.x_0, None
            else:
                move = Move(x_t, prediction, now, then, lambda x, node: denoiser(x, x_in, node), noise, history)
                x_t, history = solver.step(move)
        yield State(x_t, prediction, then, step, len(trajectory) - 1)


def sample(
    denoiser: Denoiser,
    x_in: Tensor,
    trajectory: Trajectory,
    solver: Solver | None = None,
    noise: Noise | None = None,
    x_start: Tensor | None = None,
) -> Tensor:
    """Return the clean image that the trajectory leads to.

    Arguments:
        denoiser: asked once per step (Heun: twice).
        x_in: degraded images in [-1, 1], shape (B, C, H, W); zeros for pure generation.
        trajectory: nodes from the start to the clean image, as ``path.grid(steps)``; the last step returns ``x_0``.
        solver: how to move; a deterministic transition if None.
        noise: the source of randomness, ``gaussian(generator)``.
        x_start: the state to start from instead of :func:`start`'s.

    Raises:
        ValueError: if the trajectory does not end at the clean image, or the solver does not admit it.
    """
    x_0 = x_in
    for state in iterate(denoiser, x_in, trajectory, solver, noise, x_start):
        x_0 = state.x_t
    return x_0
