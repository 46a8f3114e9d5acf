"""One transition and its gains: the step from a node ``t`` to a node ``s`` that every sampler takes.

Given an estimate of ``x_0``, ``res`` and ``eps``, the deviation of the state from its mean, ``x_t - x_0 - abar_t res =
bbar_t eps``, is kept by a *gain* ``k`` and topped up with fresh noise ``z`` to the variance that the path asks for:

    x_s = x_0 + abar_s res + k (x_t - x_0 - abar_t res) + sqrt(bbar_s^2 - k^2 bbar_t^2) z,      0 <= k bbar_t <= bbar_s.

A path fixes the marginals, not their joint law: ``k`` is what remains to choose, and published samplers differ by it:

    deterministic   bbar_s / bbar_t                                      DDIM eta 0, RDDM Eq. 13, InDI
    residual        bbar_s^2 / bbar_t^2                                  RDDM Eq. 12 with eta 1, ResShift
    markov          (1 - abar_t) / (1 - abar_s) * bbar_s^2 / bbar_t^2    DDPM, IR-SDE, BBDM
    bridge          abar_s / abar_t                                      I2SB
    naive           0                                                    cold diffusion's first sampler
    mean            as markov, without its fresh noise                   GOUB's mean-ODE

On a path without noise there is no deviation of the truth, and every gain but ``naive`` is 1 (cold diffusion's TACoS).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from rddm.path import Node, Value
from rddm.prediction import Prediction

Anchor: TypeAlias = Callable[[Tensor, Prediction, Node, Node, Value], Tensor]
SLACK = 1e-9  # relative; round-off of an admissible gain may exceed its bound by this much
ROUND_OFF = 1e-12  # relative; a variance below this is the round-off of none


class Inadmissible(ValueError):
    """A gain or a solver was asked for a step that it cannot take on this path."""


def root(value: Value) -> Value:
    """Return the square root, zero for the negative round-off of a vanishing variance."""
    return value.clamp_min(0).sqrt() if isinstance(value, Tensor) else max(value, 0.0) ** 0.5


def anchor_x_0(x_t: Tensor, prediction: Prediction, now: Node, then: Node, k: Value) -> Tensor:
    """Return the step's mean built up from the clean estimate: ``x_0 + abar_s res + k (x_t - x_0 - abar_t res)``."""
    x_0, res, _ = prediction
    return x_0 + then.abar * res + k * (x_t - x_0 - now.abar * res)


def anchor_x_t(x_t: Tensor, prediction: Prediction, now: Node, then: Node, k: Value) -> Tensor:
    """Return the step's mean as an increment: ``x_t - (abar_t - abar_s) res - (1 - k) bbar_t eps`` (paper, Eq. 12).

    Equal to :func:`anchor_x_0` when the three estimates satisfy the state's equation, which clipping them breaks.
    """
    return x_t - (now.abar - then.abar) * prediction.res - (now.bbar - k * now.bbar) * prediction.eps


def anchor_eps(x_t: Tensor, prediction: Prediction, now: Node, then: Node, k: Value) -> Tensor:
    """Return the step's mean from the estimates alone, ``x_0 + abar_s res + k bbar_t eps`` (Song et al. 2021, Eq. 12).

    Equal to :func:`anchor_x_0` likewise. Where ``x_0`` was clipped and ``eps`` was not, the noise stays as estimated.
    """
    x_0, res, eps = prediction
    return x_0 + then.abar * res + k * now.bbar * eps


ANCHORS: dict[str, Anchor] = {"x_0": anchor_x_0, "x_t": anchor_x_t, "eps": anchor_eps}


@dataclass(frozen=True)
class Gain:
    """A rule for ``k``, the share of the deviation that a step from ``now`` to ``then`` keeps.

    Arguments:
        name: how configurations and the table call it.
        rule: ``(now, then) -> k``.
        fresh: share of the fresh noise that a sampler draws; below 1 the path's mean is kept, not its spread.

    A call raises Inadmissible at a step where the rule is not admissible: ``k bbar_t > bbar_s``, or a division by zero.
    """

    name: str
    rule: Callable[[Node, Node], Value]
    fresh: float = 1.0

    def __call__(self, now: Node, then: Node) -> float:
        """Return ``k``."""
        before, after = float(now.bbar), float(then.bbar)
        if before == 0 and after == 0 and self.name != "naive":
            return 1.0
        try:
            k = float(self.rule(now, then))
        except ZeroDivisionError:
            raise Inadmissible(f"gain {self.name}: not defined from {now} to {then}; start where bbar > 0") from None
        if not 0 <= k * before <= after * (1 + SLACK):
            raise Inadmissible(f"gain {self.name}: keeps more noise than the path has, from {now} to {then}")
        return k


deterministic = Gain("deterministic", lambda t, s: s.bbar / t.bbar)
residual = Gain("residual", lambda t, s: (s.bbar / t.bbar) ** 2)
markov = Gain("markov", lambda t, s: (1 - t.abar) / (1 - s.abar) * (s.bbar / t.bbar) ** 2)
bridge = Gain("bridge", lambda t, s: s.abar / t.abar)
naive = Gain("naive", lambda t, s: 0.0)
mean = Gain("mean", markov.rule, fresh=0.0)

GAINS = {g.name: g for g in (deterministic, residual, markov, bridge, naive, mean)}


def stochastic(gain: Gain, eta: float) -> Gain:
    """Return the gain between deterministic (``eta`` 0) and ``gain`` (``eta`` 1): ``eta`` times its variance.

    The gain is computed anew from that variance, ``k = sqrt(bbar_s^2 - v) / bbar_t`` (paper, Eqs. 11 and 12), so that
    the marginal is kept for every ``eta``; ``bbar_s^2 - v`` is written as a mean of squares, which does not cancel.
    DDIM's eta is the standard deviation's factor: pass its square.

    Raises:
        ValueError: unless ``0 <= eta <= 1``.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta: found {eta}, expected 0 to 1")

    def rule(now: Node, then: Node) -> Value:
        return root((1 - eta) * then.bbar**2 + eta * (gain(now, then) * now.bbar) ** 2) / now.bbar

    return Gain(f"{gain.name}*{eta:g}", rule)


def added(now: Node, then: Node, k: Value) -> Value:
    """Return the standard deviation of the fresh noise of a step, ``sqrt(bbar_s^2 - k^2 bbar_t^2)``."""
    variance = then.bbar**2 - (k * now.bbar) ** 2
    return root(variance * (variance > ROUND_OFF * then.bbar**2))


def transition(
    x_t: Tensor,
    prediction: Prediction,
    now: Node,
    then: Node,
    k: Value,
    z: Tensor | float = 0.0,
    anchor: Anchor = anchor_x_0,
) -> Tensor:
    """Return ``x_s``, the state at node ``then``, from ``x_t`` at node ``now`` (see the module).

    Arguments:
        x_t: the state, shape (B, ...).
        prediction: the estimate at ``x_t``.
        now: the node ``t``.
        then: the node ``s``.
        k: the gain, at most ``bbar_s / bbar_t``.
        z: standard normal noise shaped as ``x_t``; not needed where the gain is deterministic.
        anchor: how the mean is formed, one of :data:`ANCHORS`.
    """
    return anchor(x_t, prediction, now, then, k) + added(now, then, k) * z
