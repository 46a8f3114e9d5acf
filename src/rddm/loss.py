"""The training objective: draw a time, perturb the clean image, compare what the network outputs with its target."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from rddm.denoiser import NetworkDenoiser, rate_of
from rddm.path import Noise, Path, TabulatedPath

Distance: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def draw_times(path: Path, batch: int, generator: torch.Generator, start_share: float = 0.0) -> Tensor:
    """Draw times for a batch: uniform over the path's table, or over (0, 1]; a share of them at the sampler's start.

    Arguments:
        path: the path.
        batch: how many.
        generator: the source of randomness.
        start_share: the probability of ``t = 1``, where a sampler of few steps spends much of its work.

    Returns:
        Times in (0, 1], float64 of shape (batch,).
    """
    u = torch.rand(batch, generator=generator, dtype=torch.float64)
    if isinstance(path, TabulatedPath):
        t = (torch.floor(u * path.length) + 1) / path.length
    else:
        t = 1 - u
    at_start = torch.rand(batch, generator=generator, dtype=torch.float64) < start_share
    return torch.where(at_start, torch.ones_like(t), t)


def losses(denoiser: NetworkDenoiser, x_0: Tensor, x_in: Tensor, t: Tensor, noise: Noise, distance: Distance) -> Tensor:
    """Return one loss per head, ``E distance(output, target)`` (paper, Eqs. 14 and 15), of shape (heads,).

    Arguments:
        denoiser: the network with its row and, per batch, its conditions.
        x_0: clean images in [-1, 1], (B, C, H, W).
        x_in: degraded images, zero for pure generation.
        t: times in (0, 1], (B,).
        noise: the source of ``eps``.
        distance: ``(output, truth) -> scalar``, such as ``torch.nn.functional.l1_loss``.
    """
    path = denoiser.method.path
    x_t, eps = path.perturb(x_0, x_in, t, noise)
    node = path.at(t, x_0)
    truth = denoiser.method.target.encode(x_0, x_in, eps, node, rate_of(denoiser.method, node, x_0))
    outputs = denoiser.outputs(x_t, x_in, node)
    return torch.stack([distance(output, target) for output, target in zip(outputs, truth, strict=True)])
