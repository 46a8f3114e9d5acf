"""Denoisers: what a sampler asks for an estimate, a network with its row of the table or the exact Gaussian oracle."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from rddm.methods import Method
from rddm.path import Node, Path
from rddm.prediction import Outputs, Prediction, Rate, divide


class Denoiser(Protocol):
    """Anything that estimates the parts of a state."""

    def __call__(self, x_t: Tensor, x_in: Tensor, node: Node) -> Prediction:
        """Return the estimate at state ``x_t`` of shape (B, C, H, W), a point at ``node`` on the way to ``x_in``."""
        ...


@dataclass(frozen=True)
class NetworkDenoiser:
    """A network read as its row of the table says: conditions concatenated, clock shown, target decoded, clipped.

    Arguments:
        net: ``net(x, clock) -> outputs``: x of shape (B, C, H, W), clock (B, readings + context), one image per head.
        method: the row.
        conditions: what ``method.inputs`` lists beside "x_in", images (B, C', H, W), and ``method.context``, (B, N).
    """

    net: nn.Module
    method: Method
    conditions: Mapping[str, Tensor] = field(default_factory=dict)

    def outputs(self, x_t: Tensor, x_in: Tensor, node: Node) -> Outputs:
        """Return what the network outputs, before decoding.

        Raises:
            KeyError: if a condition that the row lists was not given.
        """
        seen = {"x_in": x_in, **self.conditions}
        scaled = x_t * scale_of(self.method.path, node, x_t)
        images = torch.cat([scaled, *(seen[name] for name in self.method.inputs)], dim=1)
        told = torch.cat([self.method.show(node, x_t), *(seen[name] for name in self.method.context)], dim=1)
        return self.net(images, told)

    def __call__(self, x_t: Tensor, x_in: Tensor, node: Node) -> Prediction:
        """Return the estimate at ``x_t``."""
        method = self.method
        decoded = method.target.decode(self.outputs(x_t, x_in, node), x_t, x_in, node, rate_of(method, node, x_t))
        return method.clip(decoded, x_t, x_in, node)


def scale_of(path: Path, node: Node, like: Tensor) -> Tensor:
    """Return the path's ``scale`` at ``node``, broadcast against ``like``."""
    t = torch.as_tensor(node.t, dtype=torch.float64)
    return path.scale(t).to(like).view(-1, *(1,) * (like.ndim - 1))


def rate_of(method: Method, node: Node, like: Tensor) -> Rate:
    """Return what the target asks of the path at ``node``, ``d(abar, bbar)/dt`` for a velocity; None for most."""
    if method.target.pace is None:
        return None
    t = torch.as_tensor(node.t, dtype=torch.float64)
    d_abar, d_bbar = method.target.pace(method.path, t)
    if t.ndim == 0:
        return float(d_abar), float(d_bbar)
    shape = (-1, *(1,) * (like.ndim - 1))
    return d_abar.to(like).view(shape), d_bbar.to(like).view(shape)


@dataclass(frozen=True)
class GaussianOracle:
    """The exact denoiser of ``x_0 | x_in ~ N(mean, var)``, independently per pixel, on every path.

    ``E[x_0 | x_t] = m + (1 - abar) var / V (x_t - (1 - abar) m - abar x_in)`` with ``V = (1 - abar)^2 var + bbar^2``,
    and ``E[eps | x_t] = bbar / V (...)``. The test of every sampler: its orders, marginals and posteriors are known.

    Arguments:
        mean: ``m``, broadcast against the state.
        var: ``var > 0``, likewise.
    """

    mean: Tensor
    var: Tensor

    def __call__(self, x_t: Tensor, x_in: Tensor, node: Node) -> Prediction:
        """Return the conditional means of ``x_0``, ``res`` and ``eps``."""
        centre, spread = self.marginal(x_in, node)
        deviation = divide(x_t - centre, spread**2)
        x_0 = self.mean + (1 - node.abar) * self.var * deviation
        return Prediction(x_0, x_in - x_0, node.bbar * deviation)

    def marginal(self, x_in: Tensor, node: Node) -> tuple[Tensor, Tensor]:
        """Return the mean and the standard deviation of ``x_t`` at ``node``."""
        clean = 1 - node.abar
        return clean * self.mean + node.abar * x_in, (clean**2 * self.var + node.bbar**2).sqrt()

    def flow(self, x_t: Tensor, x_in: Tensor, now: Node, then: Node) -> Tensor:
        """Return where the probability-flow ODE carries ``x_t`` from ``now`` to ``then``, along any path."""
        (centre, spread), (centre_s, spread_s) = self.marginal(x_in, now), self.marginal(x_in, then)
        return centre_s + spread_s / spread * (x_t - centre)
