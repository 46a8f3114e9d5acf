"""Solvers: how a sampler moves from node to node.

An ancestral step is one :func:`~rddm.transition.transition`. The others integrate the probability-flow ODE, which in
the plane of a path reads ``dx = res d(abar) + eps d(bbar)``: no derivative of the schedule appears, increments do.
DPM-Solver++ (Lu et al. 2022) wants a state ``alpha x + sigma eps``. With ``u = x - x_in``, a residual diffusion is one:

    u_t = (1 - abar) (x_0 - x_in) + bbar eps = (1 - abar) (-res) + bbar eps,

whose data is ``-res``, whose ``alpha`` is ``1 - abar`` and whose ``sigma`` is ``bbar``.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from rddm.move import History, Move, increment
from rddm.path import Node
from rddm.transition import Anchor, Gain, Inadmissible, added, anchor_x_0, deterministic, transition


@dataclass(frozen=True)
class Ancestral:
    """A transition with a gain; noise is drawn only where the gain leaves room for it."""

    gain: Gain = deterministic
    anchor: Anchor = anchor_x_0
    order: int = 1

    def step(self, move: Move) -> tuple[Tensor, None]:
        """Return ``transition(x_t, ...)``; nothing to remember."""
        x_t, prediction, now, then = move[:4]
        k = self.gain(now, then)
        z = self.gain.fresh * move.noise(x_t) if added(now, then, k) * self.gain.fresh > 0 else 0.0
        return transition(x_t, prediction, now, then, k, z, self.anchor), None


@dataclass(frozen=True)
class Euler:
    """``x_s = x_t + d(abar) res + d(bbar) eps``."""

    order: int = 1

    def step(self, move: Move) -> tuple[Tensor, None]:
        """Return the increment with the estimates at ``now``."""
        x_t, prediction, now, then = move[:4]
        return increment(x_t, prediction.res, prediction.eps, now, then), None


@dataclass(frozen=True)
class Heun:
    """An increment with the mean of the estimates at both ends; two calls per step."""

    order: int = 2

    def step(self, move: Move) -> tuple[Tensor, None]:
        """Return the corrected increment."""
        x_t, prediction, now, then = move[:4]
        end = move.evaluate(increment(x_t, prediction.res, prediction.eps, now, then), then)
        res, eps = (prediction.res + end.res) / 2, (prediction.eps + end.eps) / 2
        return increment(x_t, res, eps, now, then), None


def same_leg(history: History | None, now: Node, then: Node) -> bool:
    """Tell whether a step goes on in the direction of the last one, so that its estimates may be extrapolated."""
    if history is None or history.then[:2] != now[:2] or history.now.t <= now.t or now.t <= then.t:
        return False
    moved = [(a.abar != b.abar, a.bbar != b.bbar) for a, b in ((history.now, history.then), (now, then))]
    return moved[0] == moved[1]


@dataclass(frozen=True)
class AB2:
    """Adams-Bashforth: an increment with estimates extrapolated from the last step; Heun starts each leg."""

    order: int = 2

    def step(self, move: Move) -> tuple[Tensor, History]:
        """Return the extrapolated increment."""
        (x_t, prediction, now, then), history = move[:4], move.history
        remembered = History(prediction, now, then)
        if history is None or not same_leg(history, now, then):
            return Heun().step(move)[0], remembered
        w = 0.5 * (now.t - then.t) / (history.now.t - now.t)
        res = prediction.res + w * (prediction.res - history.prediction.res)
        eps = prediction.eps + w * (prediction.eps - history.prediction.eps)
        return increment(x_t, res, eps, now, then), remembered


def snr(node: Node) -> float:
    """Return ``(1 - abar) / bbar``, the exponential of DPM-Solver's half log-SNR.

    Raises:
        Inadmissible: on a node without noise.
    """
    if node.bbar == 0:
        raise Inadmissible(f"DPM-Solver++: needs noise on the path, found bbar = 0 at {node}")
    return float((1 - node.abar) / node.bbar)


@dataclass(frozen=True)
class DPMSolver2M:
    """DPM-Solver++(2M) on ``u = x - x_in``; one call per step, first order from a node with ``abar = 1``.

    ``u_s = (bbar_s / bbar_t) u_t + alpha_s (1 - e^-h) d``, ``d`` being the data ``-res`` extrapolated by
    ``h / (2 h_last)`` in the half log-SNR. At ``abar = 1`` the log-SNR is minus infinity, but ``alpha_s e^-h = alpha_t
    bbar_s / bbar_t`` is zero and the step is regular. Source: Lu et al., DPM-Solver++, 2022, Algorithm 2.
    """

    order: int = 2

    def step(self, move: Move) -> tuple[Tensor, History]:
        """Return the state at ``then``."""
        (x_t, prediction, now, then), history = move[:4], move.history
        x_in = prediction.x_0 + prediction.res
        ratio = then.bbar / now.bbar if now.bbar else snr(now)
        data = -prediction.res
        if history is not None and same_leg(history, now, then):
            w = log_step(now, then) / (2 * log_step(history.now, now))
            data = data + w * (data + history.prediction.res)
        u = ratio * (x_t - x_in) + ((1 - then.abar) - (1 - now.abar) * ratio) * data
        return x_in + u, History(prediction, now, then)


def log_step(now: Node, then: Node) -> float:
    """Return the step in half log-SNR, infinite from a node with ``abar = 1``."""
    before = snr(now)
    return math.log(snr(then) / before) if before > 0 else math.inf
