"""The training objective: draw a time, perturb the clean image, compare what the network outputs with its target."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from rddm.denoiser import NetworkDenoiser, rate_of
from rddm.errors import UserError
from rddm.methods import Method
from rddm.nn.spatial import LAYOUT
from rddm.path import Node, Noise, Path
from rddm.prediction import EPS, Outputs
from rddm.sdes import IRSDEPath
from rddm.transition import anchor_x_0, markov

Distance: TypeAlias = Callable[[Tensor, Tensor], Tensor]


class Batch(NamedTuple):
    """What one update sees: images in [-1, 1], (B, C, *spatial), with everything that was drawn for them.

    Arguments:
        x_0: clean images.
        x_in: degraded images, zero for pure generation.
        t: times in (0, 1], (B,), float64.
        eps: standard normal noise, shaped as ``x_0``.
        conditions: what a row's ``inputs`` and ``context`` list beside "x_in".
    """

    x_0: Tensor
    x_in: Tensor
    t: Tensor
    eps: Tensor
    conditions: Mapping[str, Tensor]

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device, its images channels last: convolutions on CPUs and tensor cores want that."""

        def moved(x: Tensor) -> Tensor:
            x = x.to(device, non_blocking=True)
            return x.contiguous(memory_format=LAYOUT.get(x.ndim - 2, torch.contiguous_format))

        conditions = {name: moved(value) for name, value in self.conditions.items()}
        return Batch(moved(self.x_0), moved(self.x_in), self.t.to(device), moved(self.eps), conditions)


def draw_times(path: Path, batch: int, generator: torch.Generator, start_share: float = 0.0) -> Tensor:
    """Draw times for a batch as the path says (:meth:`rddm.path.Path.times`); a share of them at the sampler's start.

    Arguments:
        path: the path.
        batch: how many.
        generator: the source of randomness.
        start_share: the probability of ``t = 1``, where a sampler of few steps spends much of its work.

    Returns:
        Times in (0, 1], float64 of shape (batch,).
    """
    u = torch.rand(batch, generator=generator, dtype=torch.float64)
    t = path.times(u)
    at_start = torch.rand(batch, generator=generator, dtype=torch.float64) < start_share
    return torch.where(at_start, torch.ones_like(t), t)


class Compared(NamedTuple):
    """What a network said of a state and what it should have said, one image per head; the state, its node, its row."""

    outputs: Outputs
    truth: Outputs
    x_t: Tensor
    node: Node
    x_in: Tensor
    method: Method


def compare(denoiser: NetworkDenoiser, x_0: Tensor, x_in: Tensor, t: Tensor, noise: Noise) -> Compared:
    """Perturb clean images to times ``t``, show the network the states, and put the truth beside its outputs.

    Arguments:
        denoiser: the network with its row and, per batch, its conditions.
        x_0: clean images in [-1, 1], (B, C, *spatial).
        x_in: degraded images, zero for pure generation.
        t: times in (0, 1], (B,).
        noise: the source of ``eps``.
    """
    path = denoiser.method.path
    x_t, eps = path.perturb(x_0, x_in, t, noise)
    node = path.at(t, x_0)
    truth = denoiser.method.target.encode(x_0, x_in, eps, node, rate_of(denoiser.method, node, x_0))
    return Compared(denoiser.outputs(x_t, x_in, node), truth, x_t, node, x_in, denoiser.method)


def distances(compared: Compared, distance: Distance) -> Tensor:
    """Return one loss per head, ``E distance(output, truth)`` (paper, Eqs. 14 and 15), of shape (heads,)."""
    if isinstance(distance, StepDistance):
        return distance.plain(*distance.means(compared))[None]
    pairs = zip(compared.outputs, compared.truth, strict=True)
    return torch.stack([distance(output, truth) for output, truth in pairs])


def losses(denoiser: NetworkDenoiser, x_0: Tensor, x_in: Tensor, t: Tensor, noise: Noise, distance: Distance) -> Tensor:
    """Return :func:`distances` of :func:`compare`: one loss per head, of shape (heads,)."""
    return distances(compare(denoiser, x_0, x_in, t, noise), distance)


def charbonnier(output: Tensor, truth: Tensor) -> Tensor:
    """Return ``E sqrt(d^2 + 1e-6)``: L1 with a round bottom (Charbonnier et al., 1994)."""
    return ((output - truth) ** 2 + 1e-6).sqrt().mean()


def frequency(output: Tensor, truth: Tensor) -> Tensor:
    """Return ``E |F(output) - F(truth)|`` over the frequencies of the orthonormal Fourier transform in space."""
    difference = (output - truth).float()
    return torch.fft.rfftn(difference, dim=tuple(range(2, difference.ndim)), norm="ortho").abs().mean()


@dataclass(frozen=True)
class StepDistance:
    """The maximum-likelihood loss of IR-SDE and GOUB: where their sampler's step leads, against where it had better.

    The sampler is Euler's of the reverse SDE with the network's noise; the aim is the mean of the posterior, given
    ``x_0``, one state of the table further down. For small steps that is a weighted distance of the noise. Source: Luo
    et al., Image Restoration with Mean-Reverting SDEs, ICML 2023.

    Arguments:
        plain: the distance of the two means.
    """

    plain: Distance = F.l1_loss

    def __call__(self, output: Tensor, truth: Tensor) -> Tensor:
        """Refuse to compare outputs.

        Raises:
            UserError: always.
        """
        raise UserError("loss likelihood: compares steps of the sampler, expected frequency 0")

    def means(self, compared: Compared) -> tuple[Tensor, Tensor]:
        """Return the means of the sampler's step and of the posterior.

        Raises:
            UserError: on another path than theirs, or for a network that does not output noise.
        """
        path, now, x_t, x_in = compared.method.path, compared.node, compared.x_t, compared.x_in
        if not isinstance(path, IRSDEPath) or compared.method.target is not EPS:
            raise UserError(f"loss likelihood: found row {compared.method.name}, expected ir-sde, refusion or goub")
        t = torch.as_tensor(now.t, dtype=torch.float64)
        away, pull = (factor.to(x_t).view(-1, *(1,) * (x_t.ndim - 1)) for factor in path.euler(t))
        euler = x_in + away * (x_t - x_in) - pull * compared.outputs[0]
        then = path.at((t - 1 / path.length).clamp_min(0), x_t)
        truth = EPS.decode(compared.truth, x_t, x_in, now, None)
        return euler, anchor_x_0(x_t, truth, now, then, markov.rule(now, then))


DISTANCES: dict[str, Distance] = {
    "l1": F.l1_loss,
    "l2": F.mse_loss,
    "charbonnier": charbonnier,
    "likelihood": StepDistance(),
}
