"""Solvers that draw noise on the way: the reverse SDE, its mean alone, and Heun's step with churn.

The marginals of a path belong to a whole family of SDEs, one for each diffusion ``g(t)^2 >= 0`` (Song et al., 2021). In
the plane of a path, from a node ``t`` down to ``s``, with ``G`` the integral of ``g^2`` over the step and the score
``-eps / bbar``, the family reads

    x_s = x_t + d(abar) res + (d(bbar) - G / (2 bbar)) eps + sqrt(G) z.

``G = 0`` is the probability-flow ODE. Nothing here is a row's own: what is published as the reverse SDE of VP, IR-SDE,
GOUB or DDBM is this step with the diffusion ``markov`` and the derivatives that the authors took (:data:`Slopes`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from rddm.move import Move
from rddm.path import Node, Path
from rddm.prediction import Prediction
from rddm.solvers_flow import Heun
from rddm.transition import Inadmissible, added


class Slope(NamedTuple):
    """What a step changes, to first order: ``abar``, ``bbar`` and ``bbar^2``; towards the clean image, mostly down."""

    abar: float
    bbar: float
    variance: float


Slopes: TypeAlias = Callable[[Node, Node], Slope]


def chord(now: Node, then: Node) -> Slope:
    """Return the differences of the two nodes: exact for the path, whatever its derivatives."""
    a, b, a_s, b_s = *floats(now), *floats(then)
    return Slope(a_s - a, b_s - b, b_s**2 - b**2)


def tangent(path: Path) -> Slopes:
    """Return the derivatives of ``path`` at the node left, times the step in time: Euler-Maruyama as in textbooks.

    Raises:
        Inadmissible: at a node where the path has no derivative, when called.
    """

    def slope(now: Node, then: Node) -> Slope:
        d_abar, d_bbar = (float(d) for d in path.rate(torch.tensor(float(now.t), dtype=torch.float64)))
        if not math.isfinite(d_abar + d_bbar):
            raise Inadmissible(f"tangent: the path has no derivative at {now}; start below it or use the chord")
        dt = float(then.t) - float(now.t)
        return Slope(d_abar * dt, d_bbar * dt, 2 * float(now.bbar) * d_bbar * dt)

    return slope


def ornstein_uhlenbeck(now: Node, then: Node) -> Slope:
    """Return the derivatives of an Ornstein-Uhlenbeck process through ``now``: those of VP and IR-SDE, on any table.

    There ``bbar^2 = lambda^2 (1 - (1 - abar)^2)``, and ``theta dt`` is the step in ``log(1 - abar)``. Source: Luo et
    al., Image Restoration with Mean-Reverting SDEs, ICML 2023.

    Raises:
        Inadmissible: unless both nodes are those of one such process.
    """
    a, b, a_s, b_s = *floats(now), *floats(then)
    if not (0 < a < 1 and b > 0 and a_s < 1):
        raise Inadmissible(f"ornstein_uhlenbeck: needs 0 < abar < 1 and noise, found {now}")
    clean, theta = 1 - a, math.log((1 - a_s) / (1 - a))
    lambda2 = b**2 / (1 - clean**2)
    if abs(b_s**2 - lambda2 * (1 - (1 - a_s) ** 2)) > 1e-6 * b**2:
        raise Inadmissible(f"ornstein_uhlenbeck: {now} and {then} are not of one such process; expected VP or IR-SDE")
    variance = -2 * theta * clean**2 * lambda2
    return Slope(-clean * theta, variance / (2 * b), variance)


def floats(node: Node) -> tuple[float, float]:
    """Return ``(abar, bbar)`` as plain numbers."""
    return float(node.abar), float(node.bbar)


@dataclass(frozen=True)
class Diffusion:
    """A rule for ``G``, the variance of the noise that a step of the reverse SDE draws.

    Arguments:
        name: how messages call it.
        rule: ``(now, slope) -> G``.

    A call raises Inadmissible where the rule divides by zero or asks for less than no noise.
    """

    name: str
    rule: Callable[[Node, Slope], float]

    def __call__(self, now: Node, slope: Slope) -> float:
        """Return ``G``."""
        try:
            variance = self.rule(now, slope)
        except ZeroDivisionError:
            raise Inadmissible(f"diffusion {self.name}: not defined at {now}; expected balanced") from None
        if variance < -1e-9 * (float(now.bbar) ** 2 + abs(slope.variance)):
            raise Inadmissible(f"diffusion {self.name}: the path has less noise than none at {now}; expected balanced")
        return max(variance, 0.0)


# The limits of the gains of these names for small steps; where noise falls, balanced is the limit of "residual".
balanced = Diffusion("balanced", lambda now, slope: abs(slope.variance))
markov = Diffusion("markov", lambda now, s: -s.variance - 2 * float(now.bbar) ** 2 * s.abar / (1 - float(now.abar)))
bridge = Diffusion("bridge", lambda now, s: s.variance - 2 * float(now.bbar) ** 2 * s.abar / float(now.abar))

DIFFUSIONS = {d.name: d for d in (balanced, markov, bridge)}


def drifted(x_t: Tensor, prediction: Prediction, now: Node, slope: Slope, variance: float) -> Tensor:
    """Return the mean of a reverse SDE's step; where ``bbar = 0`` there is no score."""
    b = float(now.bbar)
    d_eps = slope.bbar - variance / (2 * b) if b else 0.0
    return x_t + slope.abar * prediction.res + d_eps * prediction.eps


@dataclass(frozen=True)
class ReverseSDE:
    """Euler-Maruyama of a reverse SDE; one call per step, and many steps: its noise is that of the node left.

    Arguments:
        diffusion: how much noise; ``balanced`` is defined on every path.
        slopes: how the path's derivatives are taken.
    """

    diffusion: Diffusion = balanced
    slopes: Slopes = chord
    order: int = 1

    def step(self, move: Move) -> tuple[Tensor, None]:
        """Return the mean and, where the diffusion asks for it, fresh noise."""
        slope = self.slopes(move.now, move.then)
        variance = self.diffusion(move.now, slope)
        mean = drifted(move.x_t, move.prediction, move.now, slope, variance)
        return (mean + variance**0.5 * move.noise(move.x_t) if variance > 0 else mean), None


@dataclass(frozen=True)
class MeanODE:
    """A reverse SDE's step without its noise: the full score where the probability flow has half of it.

    It does not keep the marginals: samples gather at the mean, which is what PSNR rewards. Source: Yue et al., GOUB,
    ICML 2024 ("mean-ODE").
    """

    diffusion: Diffusion = balanced
    slopes: Slopes = chord
    order: int = 1

    def step(self, move: Move) -> tuple[Tensor, None]:
        """Return the mean."""
        slope = self.slopes(move.now, move.then)
        return drifted(move.x_t, move.prediction, move.now, slope, self.diffusion(move.now, slope)), None


def between(now: Node, then: Node, share: float, path: Path | None) -> Node:
    """Return the node a ``share`` of the way: of the path at that time, or of the line through both if None."""
    a, b, t = (float(p) + share * (float(q) - float(p)) for p, q in zip(now, then))
    return Node(a, b, t) if path is None else path.node(t)


Reach: TypeAlias = Callable[[Node, Node], float]


def beyond(share: float) -> Reach:
    """Return the rule that goes a ``share`` of each step beyond its end."""
    return lambda now, then: share


def karras(gamma: float, low: float = 0.0, high: float = math.inf) -> Reach:
    """Return EDM's rule: so far that the noise that is lacking is ``1 - 1 / (1 + gamma)`` of that of the node reached.

    Arguments:
        gamma: S_churn / N, at most sqrt(2) - 1.
        low: S_min, the noise level below which nothing is renewed.
        high: S_max, the level above which nothing is.
    """

    def reach(now: Node, then: Node) -> float:
        (_, b), (_, b_s) = floats(now), floats(then)
        target = b_s / (1 + gamma)
        return (b_s - target) / (b - b_s) if b > b_s and low <= target <= high else 0.0

    return reach


@dataclass(frozen=True)
class StochasticHeun:
    """Heun's step to a node beyond the one asked for, and noise back up to it; two calls per step.

    The nodes of the trajectory are where the network is asked first, EDM's ``t-hat``, whose ``t_i`` lie below: with
    ``abar = 0`` and :func:`karras` this is Algorithm 2 of Karras et al., NeurIPS 2022. Elsewhere the way up is the
    forward process, exact for every path. Where the noise does not fall it is Heun's step.

    Arguments:
        reach: how far beyond, as a share of the step.
        inflation: factor on the fresh noise (EDM: S_noise).
        path: gives the nodes beyond; the line through the two nodes if None.
    """

    reach: Reach = beyond(0.3)
    inflation: float = 1.0
    path: Path | None = None
    order: int = 2

    def low(self, now: Node, then: Node) -> Node:
        """Return the node that Heun's step goes to, on this side of the clean image."""
        if now.bbar <= then.bbar:
            return then
        nearest = min(float(q) / (float(p) - float(q)) for p, q in zip(now, then) if p > q)
        excess = min(self.reach(now, then), nearest)
        return between(now, then, 1 + excess, self.path) if excess > 0 else then

    def step(self, move: Move) -> tuple[Tensor, None]:
        """Return the state, its noise partly renewed."""
        low, then = self.low(move.now, move.then), move.then
        x = Heun().step(move._replace(then=low))[0]
        if low is then:
            return x, None
        x_in = move.prediction.x_0 + move.prediction.res
        keep = 1.0 if low.abar == then.abar else (1 - then.abar) / (1 - low.abar)
        return x_in + keep * (x - x_in) + self.inflation * added(low, then, keep) * move.noise(x), None


@dataclass(frozen=True)
class HybridHeun:
    """A reverse SDE's step over a share of the way, Heun's over the rest; three calls per step.

    Source: Zhou et al., Denoising Diffusion Bridge Models, ICLR 2024, Algorithm 1.

    Arguments:
        share: of the step, DDBM's ``churn_step_ratio``.
        sde: the first part.
        path: gives the node between; the line through the two nodes if None.
    """

    share: float = 0.33
    sde: ReverseSDE = ReverseSDE()
    path: Path | None = None
    order: int = 1

    def step(self, move: Move) -> tuple[Tensor, None]:
        """Return the state."""
        middle = between(move.now, move.then, self.share, self.path)
        x, _ = self.sde.step(move._replace(then=middle))
        return Heun().step(move._replace(x_t=x, prediction=move.evaluate(x, middle), now=middle))
