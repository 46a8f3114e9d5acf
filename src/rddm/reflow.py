"""Reflow: a flow is retrained on the pairs that it makes itself, and its paths become straight.

A flow carries a start ``z`` to an image ``x``. Trained on such pairs in place of independent ones, a second flow has
the same images for the same starts, and crosses fewer of its own paths: one Euler step goes far. Source: Liu et al.,
Flow Straight and Fast: Rectified Flow, ICLR 2023.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from rddm.denoiser import Denoiser, NetworkDenoiser
from rddm.errors import UserError
from rddm.loss import Distance, losses
from rddm.move import Solver
from rddm.path import Noise, Path
from rddm.sample import iterate, sample, start
from rddm.solvers import Euler


class Pairs(NamedTuple):
    """Starts of a sampler with the images that they became, (B, ...) each, and the ``x_in`` of both."""

    z: Tensor
    x_0: Tensor
    x_in: Tensor


def draw_pairs(
    denoiser: Denoiser, path: Path, x_in: Tensor, steps: int, noise: Noise, solver: Solver | None = None
) -> Pairs:
    """Return pairs by simulating a trained flow.

    Arguments:
        denoiser: the flow.
        path: its path, with noise at ``t = 1``.
        x_in: degraded images, (B, ...); zeros for pure generation.
        steps: of the simulation; the published ones are of an adaptive solver, see ``rddm.ode``.
        noise: the source of the starts.
        solver: deterministic; Euler's if None.
    """
    nodes = path.grid(steps)
    z = start(x_in, nodes[0], noise)
    return Pairs(z, sample(denoiser, x_in, nodes, solver or Euler(), noise, z), x_in)


def reflow_losses(denoiser: NetworkDenoiser, pairs: Pairs, t: Tensor, distance: Distance) -> Tensor:
    """Return one loss per head, (heads,), of the objective with the pairs' own noise in place of fresh noise.

    Arguments:
        denoiser: the flow that learns.
        pairs: of :func:`draw_pairs`.
        t: times in (0, 1], (B,).
        distance: between outputs and targets, published L2.

    Raises:
        UserError: if the path ends without noise, so that all pairs of an image are one.
    """
    bbar = denoiser.method.path.node(1.0).bbar
    if bbar == 0:
        raise UserError(f"reflow: {denoiser.method.name} ends without noise, expected a row whose starts are drawn")
    eps = (pairs.z - pairs.x_in) / bbar
    return losses(denoiser, pairs.x_0, pairs.x_in, t, lambda like: eps, distance)


def crookedness(denoiser: Denoiser, path: Path, x_in: Tensor, steps: int, noise: Noise) -> float:
    """Return ``E integral |(z - x_0) - dx_t/dt|^2 dt`` per number, 0 for straight paths (the paper's ``S``).

    Arguments:
        denoiser: the flow.
        path: its path, with derivatives at the times of its grid.
        x_in: degraded images, (B, ...).
        steps: of the simulation, by Euler's method.
        noise: the source of the starts.
    """
    nodes = path.grid(steps)
    z = start(x_in, nodes[0], noise)
    states = list(iterate(denoiser, x_in, nodes, Euler(), noise, z))
    chord, total = z - states[-1].x_t, 0.0
    for now, state in zip(nodes, states):
        d_abar, d_bbar = (float(d) for d in path.rate(torch.tensor(now.t, dtype=torch.float64)))
        velocity = d_abar * state.prediction.res + d_bbar * state.prediction.eps
        total += float((chord - velocity).square().mean()) / steps
    return total
