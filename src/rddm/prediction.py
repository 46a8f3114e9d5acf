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

from rddm.path import Node, Path, TabulatedPath, Value, mix

Outputs: TypeAlias = "tuple[Tensor, ...]"
Rate: TypeAlias = "tuple[Value, Value] | None"
Pace: TypeAlias = Callable[[Path, Tensor], tuple[Tensor, Tensor]]
SIZE = 0.5  # standard deviation of images in [-1, 1], as EDM and DDBM assume of both ends


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


def forward_std(node: Node) -> Value:
    """Return ``bbar / sqrt(1 - abar)``, the deviation of the forward process of a bridge that forgets its end (I2SB).

    Raises:
        ZeroDivisionError: where it is zero or not determined.
    """
    if is_zero(1 - node.abar) or is_zero(node.bbar):
        raise ZeroDivisionError("target displacement/std: not determined where bbar = 0 or abar = 1")
    return node.bbar / (1 - node.abar) ** 0.5


def root_abar(node: Node) -> Value:
    """Return ``sqrt(abar)``.

    Raises:
        ZeroDivisionError: where it is zero.
    """
    if is_zero(node.abar):
        raise ZeroDivisionError("target displacement/root: not determined where abar = 0")
    return node.abar**0.5


def resnoise_pace(path: Path, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``(sqrt(1 - acp) / (1 + sqrt(alpha)), 1)``, the shares of residual and noise in Resfusion's target.

    Its ``sqrt(acp)`` is ``1 / (1 + abar)``, and ``sqrt(alpha)`` the ratio of that to the one before in the table, 1 on
    a path without a table: ``(1 - sqrt(alpha)) sqrt(1 - acp) / beta`` without the division. Source: Shi et al.,
    Resfusion, NeurIPS 2024.
    """
    root_acp = 1 / (1 + path.curve(t)[0])
    before = t - 1 / path.length if isinstance(path, TabulatedPath) else t
    ratio = root_acp * (1 + path.curve(before.clamp_min(0))[0])
    return (1 - root_acp**2).sqrt() / (1 + ratio), torch.ones_like(root_acp)


def preconditioning(node: Node) -> tuple[Value, Value, Value]:
    """Return ``(c_in, c_skip, c_out)``: the network sees ``c_in x_t`` and ``x_0 = c_skip x_t + c_out output``.

    ``c_in x_t`` and the output have unit variance if ``x_0`` and ``x_in`` are independent and of deviation ``SIZE``,
    as DDBM assumes; at ``abar = 0`` it is EDM's. At the clean image ``c_out`` is 0. Sources: Karras et al. 2022, Table
    1; Zhou et al., DDBM, ICLR 2024.
    """
    clean, rest = 1 - node.abar, (SIZE * node.abar) ** 2 + node.bbar**2
    size2 = rest + (SIZE * clean) ** 2
    return size2**-0.5, clean * SIZE**2 / size2, SIZE * (rest / size2) ** 0.5


def precondition(x_0: Tensor, x_t: Tensor, node: Node) -> Tensor:
    """Return the output that decodes to ``x_0``, zero at the clean image, where any does."""
    _, c_skip, c_out = preconditioning(node)
    return divide(x_0 - c_skip * x_t, c_out)


@dataclass(frozen=True)
class Target:
    """What a network learns to output.

    Arguments:
        name: how configurations and the table call it.
        heads: the number of output images.
        encode: ``(x_0, x_in, eps, node, rate) -> outputs``, the truth that the loss compares with.
        decode: ``(outputs, x_t, x_in, node, rate) -> Prediction``.
        singular: the node at which ``decode`` raises, in words.
        pace: ``(path, t) -> rate``, for targets that need two numbers of the path beside the node.
    """

    name: str
    heads: int
    encode: Callable[[Tensor, Tensor, Tensor, Node, Rate], Outputs]
    decode: Callable[[Outputs, Tensor, Tensor, Node, Rate], Prediction]
    singular: str = "none"
    pace: Pace | None = None


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
    lambda path, t: path.rate(t),
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
DISPLACEMENT_STD = Target(  # I2SB: the deviation of its forward process, without an end, is bbar / sqrt(1 - abar)
    "displacement/std", 1,
    lambda x_0, x_in, eps, n, r: (DISPLACEMENT.encode(x_0, x_in, eps, n, r)[0] / forward_std(n),),
    lambda out, x_t, x_in, n, r: from_x_0(x_t - forward_std(n) * out[0], x_t, x_in, n),
    "bbar = 0 or abar = 1",
)  # fmt: skip
DISPLACEMENT_ROOT = Target(  # I2SB without noise (OT-ODE): the same deviation is proportional to sqrt(abar)
    "displacement/root", 1,
    lambda x_0, x_in, eps, n, r: (DISPLACEMENT.encode(x_0, x_in, eps, n, r)[0] / root_abar(n),),
    lambda out, x_t, x_in, n, r: from_x_0(x_t - root_abar(n) * out[0], x_t, x_in, n),
    "abar = 0",
)  # fmt: skip
RESNOISE = Target(  # Resfusion: a velocity whose rate makes each reverse step that of a DDPM that predicts noise
    "resnoise", 1, VELOCITY.encode, VELOCITY.decode, pace=resnoise_pace,
)  # fmt: skip
PRECONDITIONED = Target(
    "preconditioned", 1,
    lambda x_0, x_in, eps, n, r: (precondition(x_0, mix(x_0, x_in - x_0, eps, n), n),),
    lambda out, x_t, x_in, n, r: from_x_0(preconditioning(n)[1] * x_t + preconditioning(n)[2] * out[0], x_t, x_in, n),
)  # fmt: skip

TARGETS = {
    target.name: target
    for target in (
        X0, RES, EPS, EPS_FLOORED, RES_EPS, X0_EPS, RES_SUM, X0_SUM, VELOCITY, V, DISPLACEMENT, DISPLACEMENT_STD,
        DISPLACEMENT_ROOT, RESNOISE, PRECONDITIONED,
    )
}  # fmt: skip
