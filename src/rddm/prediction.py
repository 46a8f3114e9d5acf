"""Predictions and targets: what a network outputs, and how it becomes ``x_0``, ``res`` and ``eps``.

A state satisfies two linear equations (paper, Eqs. 7 and 16),

    x_t = x_0 + abar res + bbar eps        and        x_in = x_0 + res,

so any one of ``x_0``, ``res``, ``eps``, or a combination of them, gives the others. A :class:`Target` is the pair of
maps: ``encode`` from the truth to what the network should output, ``decode`` back to a :class:`Prediction`. Samplers
see predictions only and never ask what the network was trained on.

Two nodes are singular. Where ``bbar = 0`` the state holds no noise and says nothing of ``eps``: it decodes to its mean,
zero. Where ``abar = 1`` the state says nothing of ``x_0`` to a network that knows only ``eps``: decoding raises, or
divides by a stated floor as the published code does (1e-6; one cause of SM-N's collapse on restoration).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from rddm.path import Node, Value

Outputs: TypeAlias = "tuple[Tensor, ...]"
Rate: TypeAlias = "tuple[Value, Value] | None"


class Prediction(NamedTuple):
    """An estimate of the three parts of a state: ``x_0``, ``res = x_in - x_0`` and ``eps``, each shaped as ``x_t``."""

    x_0: Tensor
    res: Tensor
    eps: Tensor


def divide(numerator: Tensor, denominator: Value) -> Tensor:
    """Return the quotient, zero where the denominator is zero."""
    if not isinstance(denominator, Tensor):
        return numerator / denominator if denominator != 0 else torch.zeros_like(numerator)
    zero = denominator == 0
    return torch.where(zero, torch.zeros_like(numerator), numerator / denominator.masked_fill(zero, 1.0))


def is_zero(value: Value) -> bool:
    """Tell whether any entry of ``value`` is zero."""
    return bool((value == 0).any()) if isinstance(value, Tensor) else value == 0


def eps_from_res(res: Tensor, x_t: Tensor, x_in: Tensor, node: Node) -> Tensor:
    """Return ``eps = (x_t - x_in + (1 - abar) res) / bbar`` (paper, Eq. 16), zero where ``bbar = 0``."""
    return divide(x_t - x_in + (1 - node.abar) * res, node.bbar)


def x_0_from_eps(eps: Tensor, x_t: Tensor, x_in: Tensor, node: Node, floor: float) -> Tensor:
    """Return ``x_0 = (x_t - abar x_in - bbar eps) / (1 - abar)``.

    A ``floor`` above zero stands for the divisor where that is zero and, as published, at ``t = 1`` whatever it is.

    Raises:
        ZeroDivisionError: at ``abar = 1`` when ``floor`` is 0.
    """
    clean_share = 1 - node.abar
    if floor > 0:
        clean_share = floored(clean_share, node.t, floor)
    elif is_zero(clean_share):
        raise ZeroDivisionError("target eps: x_0 is not determined at abar = 1; start below t = 1 or set a floor")
    return (x_t - node.abar * x_in - node.bbar * eps) / clean_share


def floored(share: Value, t: Value, floor: float) -> Value:
    """Return ``share`` with ``floor`` where it is zero or ``t`` is 1."""
    if not isinstance(share, Tensor):
        return floor if share == 0 or t == 1 else share
    started = torch.as_tensor(t, device=share.device).view(-1, *(1,) * (share.ndim - 1)) == 1
    return share.masked_fill((share == 0) | started, floor)


def from_x_0(x_0: Tensor, x_t: Tensor, x_in: Tensor, node: Node) -> Prediction:
    """Complete ``x_0``: ``res = x_in - x_0``, ``eps`` from the state."""
    res = x_in - x_0
    return Prediction(x_0, res, eps_from_res(res, x_t, x_in, node))


def from_res(res: Tensor, x_t: Tensor, x_in: Tensor, node: Node) -> Prediction:
    """Complete ``res``: ``x_0 = x_in - res``, ``eps`` from the state."""
    return Prediction(x_in - res, res, eps_from_res(res, x_t, x_in, node))


def from_eps(eps: Tensor, x_t: Tensor, x_in: Tensor, node: Node, floor: float = 0.0) -> Prediction:
    """Complete ``eps``: ``x_0`` from the state, ``res = x_in - x_0``."""
    x_0 = x_0_from_eps(eps, x_t, x_in, node, floor)
    return Prediction(x_0, x_in - x_0, eps)


def from_res_eps(res: Tensor, eps: Tensor, x_t: Tensor, node: Node) -> Prediction:
    """Complete ``res`` and ``eps``: ``x_0 = x_t - abar res - bbar eps``."""
    return Prediction(x_t - node.abar * res - node.bbar * eps, res, eps)


def from_velocity(velocity: Tensor, x_t: Tensor, x_in: Tensor, node: Node, rate: Rate) -> Prediction:
    """Complete ``v = abar' res + bbar' eps``, the path's ``dx_t/dt``, by solving it with the state's equation.

    Raises:
        ZeroDivisionError: where neither equation determines the residual.
    """
    d_abar, d_bbar = rates(rate)
    det = (1 - node.abar) * d_bbar + node.bbar * d_abar
    if not is_zero(det):
        res = (node.bbar * velocity - d_bbar * (x_t - x_in)) / det
        eps = ((1 - node.abar) * velocity + d_abar * (x_t - x_in)) / det
        return Prediction(x_in - res, res, eps)
    if not is_zero(node.bbar) or is_zero(d_abar):
        raise ZeroDivisionError("target velocity: the residual is not determined at this node")
    return from_res(velocity / d_abar, x_t, x_in, node)


def rates(rate: Rate) -> tuple[Value, Value]:
    """Return the rate of a velocity target.

    Raises:
        ValueError: if none was given.
    """
    if rate is None:
        raise ValueError("target velocity: found no rate, expected d(abar, bbar)/dt from Path.rate")
    return rate


@dataclass(frozen=True)
class Target:
    """What a network learns to output.

    Arguments:
        name: how configurations and the table call it.
        heads: the number of output images.
        encode: ``(x_0, x_in, eps, node, rate) -> outputs``, the truth that the loss compares with.
        decode: ``(outputs, x_t, x_in, node, rate) -> Prediction``.
        singular: the node at which ``decode`` raises, in words.
    """

    name: str
    heads: int
    encode: Callable[[Tensor, Tensor, Tensor, Node, Rate], Outputs]
    decode: Callable[[Outputs, Tensor, Tensor, Node, Rate], Prediction]
    singular: str = "none"


X0 = Target(
    "x0", 1,
    lambda x_0, x_in, eps, n, r: (x_0,),
    lambda out, x_t, x_in, n, r: from_x_0(out[0], x_t, x_in, n),
)  # fmt: skip
RES = Target(
    "res", 1,
    lambda x_0, x_in, eps, n, r: (x_in - x_0,),
    lambda out, x_t, x_in, n, r: from_res(out[0], x_t, x_in, n),
)  # fmt: skip
EPS = Target(
    "eps", 1,
    lambda x_0, x_in, eps, n, r: (eps,),
    lambda out, x_t, x_in, n, r: from_eps(out[0], x_t, x_in, n),
    "abar = 1",
)  # fmt: skip
EPS_FLOORED = Target(
    "eps_floored", 1,
    EPS.encode,
    lambda out, x_t, x_in, n, r: from_eps(out[0], x_t, x_in, n, floor=1e-6),
)  # fmt: skip
RES_EPS = Target(
    "res+eps", 2,
    lambda x_0, x_in, eps, n, r: (x_in - x_0, eps),
    lambda out, x_t, x_in, n, r: from_res_eps(out[0], out[1], x_t, n),
)  # fmt: skip
X0_EPS = Target(
    "x0+eps", 2,
    lambda x_0, x_in, eps, n, r: (x_0, eps),
    lambda out, x_t, x_in, n, r: Prediction(out[0], x_in - out[0], out[1]),
)  # fmt: skip
RES_SUM = Target(
    "res+(res+eps)", 2,
    lambda x_0, x_in, eps, n, r: (x_in - x_0, x_in - x_0 + eps),
    lambda out, x_t, x_in, n, r: from_res_eps(out[0], out[1] - out[0], x_t, n),
)  # fmt: skip
X0_SUM = Target(
    "x0+(x0+eps)", 2,
    lambda x_0, x_in, eps, n, r: (x_0, x_0 + eps),
    lambda out, x_t, x_in, n, r: Prediction(out[0], x_in - out[0], out[1] - out[0]),
)  # fmt: skip
VELOCITY = Target(
    "velocity", 1,
    lambda x_0, x_in, eps, n, r: (rates(r)[0] * (x_in - x_0) + rates(r)[1] * eps,),
    lambda out, x_t, x_in, n, r: from_velocity(out[0], x_t, x_in, n, r),
    "abar' = 0 = bbar, or (1 - abar) bbar' + bbar abar' = 0 < bbar",
)  # fmt: skip
V = Target(  # the velocity of a path whose rate is (bbar, 1 - abar): a DDPM's, travelled at unit speed
    "v", 1,
    lambda x_0, x_in, eps, n, r: VELOCITY.encode(x_0, x_in, eps, n, (n.bbar, 1 - n.abar)),
    lambda out, x_t, x_in, n, r: VELOCITY.decode(out, x_t, x_in, n, (n.bbar, 1 - n.abar)),
    "abar = 1 and bbar = 0",
)  # fmt: skip
DISPLACEMENT = Target(
    "displacement", 1,
    lambda x_0, x_in, eps, n, r: (n.abar * (x_in - x_0) + n.bbar * eps,),
    lambda out, x_t, x_in, n, r: from_x_0(x_t - out[0], x_t, x_in, n),
)  # fmt: skip

TARGETS = {t.name: t for t in (X0, RES, EPS, EPS_FLOORED, RES_EPS, X0_EPS, RES_SUM, X0_SUM, VELOCITY, V, DISPLACEMENT)}
