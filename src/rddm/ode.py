"""The probability-flow ODE in earnest: steps chosen by a tolerance, and the exact likelihood that comes with it.

    dx/dt = abar'(t) res + bbar'(t) eps

carries the degraded image's distribution at ``t = 1`` to that of clean images at ``t = 0``, and back: a state encodes
to noise and decodes to itself. The logarithm of its density changes by the divergence of the right side (instantaneous
change of variables; Chen et al., 2018; Song et al., 2021), so that the density of an image is an integral too.

Needs scipy (``pip install 'rddm[ode]'``). The steps are chosen for the batch as a whole: another batch, other steps,
within the tolerance.
"""

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rddm.denoiser import Denoiser
from rddm.errors import UserError
from rddm.path import Node, Noise, Path, TabulatedPath
from rddm.sample import start

NEAR = 1e-3  # time next to the clean image; published for networks, which learn little below
Field: TypeAlias = Callable[[Tensor], Tensor]
Way: TypeAlias = Callable[[float], tuple[Node, tuple[float, float]]]
Divergence: TypeAlias = Callable[[Field, Tensor], tuple[Tensor, Tensor]]
Right: TypeAlias = Callable[[float, NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Tolerance:
    """How exactly an ODE is solved: errors per step below ``absolute + relative |x|``, by a scipy method."""

    relative: float = 1e-5
    absolute: float = 1e-5
    method: str = "RK45"


@dataclass(frozen=True)
class Flowed:
    """Where the ODE led: states shaped as those it began with, and the network calls that took."""

    x: Tensor
    calls: int


@dataclass(frozen=True)
class Likelihood:
    """The density of images under a model.

    Arguments:
        nats: ``log p(x)`` of each image, (B,), float64.
        latent: the states at ``t = 1``.
        calls: of the network; each with as many derivatives as the divergence asks for.
    """

    nats: Tensor
    latent: Tensor
    calls: int

    def bits_per_dim(self, levels: int = 256) -> Tensor:
        """Return ``-log2`` of the probability of a cell of [-1, 1] cut into ``levels``, per number, (B,)."""
        dims = self.latent[0].numel()
        return -self.nats / (dims * math.log(2)) + math.log2(levels / 2)


def way_along(path: Path) -> Way:
    """Return ``t -> (node, (abar', bbar'))``; a table's corners are rounded by a monotone cubic through its nodes.

    Between two nodes the derivative of a table saws up and down, which no choice of steps can follow.

    Raises:
        UserError: if scipy is missing.
    """
    if not isinstance(path, TabulatedPath):
        return lambda t: (path.node(t), pair(path.rate(torch.tensor(t, dtype=torch.float64))))
    nodes = [path.index(i) for i in range(-1, path.length)]
    curve = scipy("interpolate").PchipInterpolator([n.t for n in nodes], [n[:2] for n in nodes])
    slope = curve.derivative()
    return lambda t: (Node(*pair(curve(t)), t), pair(slope(t)))


def pair(values: Any) -> tuple[float, float]:
    """Return two values as plain numbers."""
    return float(values[0]), float(values[1])


def velocity(denoiser: Denoiser, x_in: Tensor, way: Way, t: float) -> Field:
    """Return the right side of the ODE at time ``t``."""
    node, (d_abar, d_bbar) = way(t)

    def field(x: Tensor) -> Tensor:
        prediction = denoiser(x, x_in, node)
        return d_abar * prediction.res + d_bbar * prediction.eps

    return field


def scipy(module: str) -> Any:
    """Return a module of scipy.

    Raises:
        UserError: if it is not installed.
    """
    try:
        return importlib.import_module(f"scipy.{module}")
    except ImportError:
        raise UserError("scipy: not installed, needed for adaptive steps; pip install 'rddm[ode]'") from None


def integrate(right: Right, y: NDArray[np.float64], begin: float, end: float, tolerance: Tolerance) -> Any:
    """Return scipy's solution of ``y' = right(t, y)`` from ``begin`` to ``end``.

    Raises:
        UserError: if scipy is missing or the tolerance cannot be met.
    """
    if not (0 <= begin <= 1 and 0 <= end <= 1):
        raise UserError(f"times: found {begin} and {end}, expected 0 to 1")
    solve, method = scipy("integrate").solve_ivp, tolerance.method
    found = solve(right, (begin, end), y, method, rtol=tolerance.relative, atol=tolerance.absolute)
    if not found.success:
        raise UserError(f"probability flow: {found.message}; expected a larger tolerance, or times away from 0 and 1")
    return found


def flow(
    denoiser: Denoiser,
    x_in: Tensor,
    path: Path,
    x: Tensor,
    begin: float,
    end: float,
    tolerance: Tolerance = Tolerance(),
) -> Flowed:
    """Return where the probability-flow ODE carries states from time ``begin`` to ``end``, up or down.

    Arguments:
        denoiser: asked as often as the tolerance needs.
        x_in: degraded images, (B, ...); zeros for pure generation.
        path: the curve.
        x: states at ``begin``, shaped as ``x_in``.
        begin: time in [0, 1]; not 0 on paths whose noise has an infinite derivative there.
        end: likewise.
        tolerance: of the solution.

    Raises:
        UserError: if scipy is missing, a time is out of range, or the tolerance cannot be met.
    """
    way = way_along(path)

    def right(t: float, y: NDArray[np.float64]) -> NDArray[np.float64]:
        state = torch.from_numpy(y).to(x).view_as(x)
        with torch.no_grad():
            return flat(velocity(denoiser, x_in, way, t)(state))

    found = integrate(right, flat(x), begin, end, tolerance)
    return Flowed(torch.from_numpy(found.y[:, -1]).to(x).view_as(x), found.nfev)


def flat(x: Tensor) -> NDArray[np.float64]:
    """Return the numbers of a tensor as one row."""
    return x.detach().double().flatten().cpu().numpy()


def sample_flow(
    denoiser: Denoiser, x_in: Tensor, path: Path, noise: Noise, near: float = NEAR, tolerance: Tolerance = Tolerance()
) -> Flowed:
    """Return clean images: the flow from ``t = 1`` to ``near``, and the estimate of ``x_0`` there.

    Arguments:
        denoiser: asked as often as the tolerance needs, and once more.
        x_in: degraded images, (B, ...); zeros for pure generation.
        path: the curve; with noise at ``t = 1``, or all samples are one.
        noise: the source of the first state.
        near: time next to the clean image, above 0.
        tolerance: of the solution.

    Raises:
        UserError: see :func:`flow`.
    """
    done = flow(denoiser, x_in, path, start(x_in, path.node(1.0), noise), 1.0, near, tolerance)
    with torch.no_grad():
        return Flowed(denoiser(done.x, x_in, path.node(near)).x_0, done.calls + 1)


def exact_trace(field: Field, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the field and its divergence (B,), one derivative for each number of an image: for small ones."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = field(x)
        columns = value.flatten(1)
        total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for i in range(columns.shape[1]):
            (row,) = torch.autograd.grad(columns[:, i].sum(), x, retain_graph=True)
            total += row.flatten(1)[:, i].double()
    return value.detach(), total


def hutchinson(probes: Tensor) -> Divergence:
    """Return the estimate ``mean of v . J v`` over ``probes`` (N, B, ...), unbiased (Hutchinson, 1990).

    The probes are the same at all times, so that the steps of the solution see a smooth function.
    """

    def divergence(field: Field, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            value = field(x)
            total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
            for v in probes:
                (row,) = torch.autograd.grad((value * v).sum(), x, retain_graph=True)
                total += (row * v).flatten(1).double().sum(1)
        return value.detach(), total / len(probes)

    return divergence


def rademacher(like: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return ``count`` probes (count, *like.shape) of signs, the choice of least variance."""
    signs = torch.randint(0, 2, (count, *like.shape), generator=generator)
    return (2 * signs - 1).to(like)


def log_likelihood(
    denoiser: Denoiser,
    x_in: Tensor,
    path: Path,
    x: Tensor,
    divergence: Divergence = exact_trace,
    near: float = NEAR,
    tolerance: Tolerance = Tolerance(),
) -> Likelihood:
    """Return ``log p(x | x_in)``, with ``x`` a state at time ``near``, as published: an image with that much noise.

    At ``t = 1`` the states are taken to be normal around ``x_in`` with deviation ``bbar_1``; ``abar_1`` should be 1.

    Arguments:
        denoiser: differentiable.
        x_in: degraded images, (B, ...); zeros for pure generation.
        path: the curve, with noise at ``t = 1``.
        x: images in [-1, 1], shaped as ``x_in``.
        divergence: :func:`exact_trace`, or :func:`hutchinson` for images of more than a few dozen numbers.
        near: time next to the clean image, above 0.
        tolerance: of the solution.

    Raises:
        UserError: if the path has no noise at ``t = 1``, or see :func:`flow`.
    """
    spread = float(path.node(1.0).bbar)
    if spread == 0:
        raise UserError("likelihood: the path has no noise at t = 1 and so no density, expected one that has")

    way = way_along(path)

    def right(t: float, y: NDArray[np.float64]) -> NDArray[np.float64]:
        state = torch.from_numpy(y[: x.numel()]).to(x).view_as(x)
        value, trace = divergence(velocity(denoiser, x_in, way, t), state)
        return np.concatenate([flat(value), flat(trace)])

    found = integrate(right, np.concatenate([flat(x), np.zeros(len(x))]), near, 1.0, tolerance)
    latent = torch.from_numpy(found.y[: x.numel(), -1]).to(x).view_as(x)
    z = ((latent - x_in) / spread).flatten(1).double()
    prior = -0.5 * (z**2).sum(1) - z.shape[1] * math.log(spread * math.sqrt(2 * math.pi))
    return Likelihood(prior.cpu() + torch.from_numpy(found.y[x.numel() :, -1]), latent, found.nfev)
