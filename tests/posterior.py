"""Linear-Gaussian inverse problems whose posterior is known, and the exact law of what a sampler makes of them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rddm.guidance import Guidance
from rddm.operators import LinearOperator, Mask, block_average
from rddm.path import Node, Noise, gaussian
from rddm.prediction import Prediction, from_x_0
from rddm.sample import Trajectory, sample
from rddm.schedules import DDPMPath
from rddm.solvers import Ancestral, Solver
from rddm.transition import markov

F64 = torch.float64
SHAPE = (1, 4, 4)
PIXELS = 16


def smooth(strength: float = 0.9, var: float = 1.0) -> Tensor:
    """Return the covariance (16, 16) of an image whose pixels resemble their neighbours; 0 is white."""
    place = torch.stack(torch.meshgrid(*(torch.arange(4, dtype=F64),) * 2, indexing="ij"), -1).view(-1, 2)
    return var * strength ** torch.cdist(place, place, p=1) if strength else var * torch.eye(PIXELS, dtype=F64)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Correlated:
    """The exact denoiser of ``x_0 ~ N(mean, cov)``: ``E[x_0 | x_t] = m + a C (a^2 C + c^2)^-1 (x_t - a m)``."""

    mean: Tensor
    cov: Tensor

    def __call__(self, x_t: Tensor, x_in: Tensor, node: Node) -> Prediction:
        a, c = float(1 - node.abar), float(node.bbar)
        gain = a * torch.linalg.solve(a**2 * self.cov + c**2 * torch.eye(PIXELS, dtype=F64), self.cov)
        x_0 = self.mean + (x_t.flatten(1) - a * self.mean) @ gain
        return from_x_0(x_0.view(x_t.shape), x_t, x_in, node)


@dataclass(frozen=True)
class Problem:
    """A measurement of a Gaussian image.

    Arguments:
        operator: what was measured.
        sigma: the noise's standard deviation.
        cov: of the image, white if None.
    """

    operator: LinearOperator
    sigma: float = 0.0
    cov: Tensor | None = None

    @cached_property
    def oracle(self) -> Correlated:
        return Correlated(0.3 * drawn(PIXELS, seed=1), smooth(0) if self.cov is None else self.cov)

    @cached_property
    def matrix(self) -> Tensor:
        unit = torch.eye(PIXELS, dtype=F64).view(PIXELS, *SHAPE)
        return self.operator.A(unit).flatten(1).T

    @cached_property
    def y(self) -> Tensor:
        clean = self.operator.A((self.oracle.mean + drawn(PIXELS, seed=2)).view(1, *SHAPE))
        return clean + self.sigma * drawn(*clean.shape, seed=3)

    @property
    def posterior(self) -> tuple[Tensor, Tensor]:
        """The mean (16,) and the covariance (16, 16) of the image given the measurement."""
        mean, cov, a = self.oracle.mean, self.oracle.cov, self.matrix
        gain = cov @ a.T @ torch.linalg.pinv(a @ cov @ a.T + self.sigma**2 * torch.eye(len(a), dtype=F64), rcond=1e-9)
        return mean + gain @ (self.y.flatten() - a @ mean), cov - gain @ a @ cov


class Units:
    """Noise that is zero for the first image and, for each of the others, one unit in one pixel of one draw."""

    def __init__(self, draws: int) -> None:
        self.count, self.draws = 0, draws

    def __call__(self, like: Tensor) -> Tensor:
        z, first = torch.zeros_like(like), 1 + self.count * PIXELS
        if self.draws:
            z[first : first + PIXELS] = torch.eye(PIXELS, dtype=like.dtype).view(PIXELS, *SHAPE)
        self.count += 1
        return z


def law(run: Callable[[Tensor, Noise], Tensor]) -> tuple[Tensor, Tensor]:
    """Return the mean (16,) and covariance (16, 16) of ``run(x_in, noise)``, affine in its noise, to round-off."""
    counting = Units(0)
    run(torch.zeros(1, *SHAPE, dtype=F64), counting)
    noise = Units(counting.count)
    out = run(torch.zeros(1 + counting.count * PIXELS, *SHAPE, dtype=F64), noise).detach().flatten(1)
    return out[0], (out[1:] - out[0]).T @ (out[1:] - out[0])


def law_of(problem: Problem, guidance: Guidance, nodes: Trajectory, solver: Solver) -> tuple[Tensor, Tensor]:
    """Return the mean and covariance of the images that a guided sampler makes."""
    return law(lambda x_in, noise: sample(problem.oracle, x_in, nodes, solver, noise, guidance=guidance))


def off(problem: Problem, found: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Return the largest error of the mean, and of the covariance, against the posterior."""
    mean, cov = problem.posterior
    return float((found[0] - mean).abs().max()), float((found[1] - cov).abs().max())


PATH = DDPMPath()
DDIM, DDPM = Ancestral(), Ancestral(markov)
KNOWN = (torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.5).double()
AVERAGE, MASK = block_average(SHAPE, 2), Mask(SHAPE, KNOWN)


def images(problem: Problem, guidance: Guidance, nodes: list[Node], solver: Solver, count: int) -> Tensor:
    """Return guided samples, (count, 16)."""
    noise, zeros = gaussian(torch.Generator().manual_seed(0)), torch.zeros(count, *SHAPE, dtype=F64)
    return sample(problem.oracle, zeros, nodes, solver, noise, guidance=guidance).flatten(1)


def unfit(operator: LinearOperator, x: Tensor, y: Tensor) -> float:
    """Return the largest ``|A x - y|``."""
    return float((operator.A(x.view(-1, *SHAPE)) - y).abs().max())


def spread(problem: Problem, found: tuple[Tensor, Tensor]) -> float:
    """Return the total variance of what was found, as a share of the posterior's."""
    return float(found[1].trace() / problem.posterior[1].trace())
