"""DPS where the noise is not the same everywhere: its direction, its length, and what it gains by the weights."""

from dataclasses import dataclass

import pytest
import torch
from posterior import (
    AVERAGE,
    DDPM,
    F64,
    PATH,
    PIXELS,
    SHAPE,
    Problem,
    drawn,
    images,
    smooth,
)
from torch import Tensor

from rddm.errors import UserError
from rddm.guidance import DPS, GUIDANCES
from rddm.operators import GaussianNoise, Mask, NoiseModel, PoissonNoise
from rddm.path import gaussian


@dataclass(frozen=True)
class Uneven:
    """Gaussian noise of a standard deviation for each place."""

    sigma: Tensor

    def __call__(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return y + self.sigma * torch.randn(y.shape, generator=generator, dtype=y.dtype)

    def std(self, y: Tensor) -> Tensor:
        return self.sigma.expand_as(y)


UNEVEN = Uneven(torch.tensor([[[[0.2, 0.5], [1.0, 2.0]]]], dtype=F64))


def moved(problem: Problem, noise: NoiseModel | None, y: Tensor, x_t: Tensor) -> Tensor:
    """Return how far DPS of scale 1 moves a state at ``t = 0.5``, (B, 16)."""
    now, then = PATH.node(0.5), PATH.node(0.4)
    x_t = x_t.clone().requires_grad_()
    prediction = problem.oracle(x_t, torch.zeros_like(x_t), now)
    guidance = DPS(problem.operator, y, 1.0, noise)
    return guidance.project(torch.zeros_like(x_t), x_t, prediction, now, then, gaussian()).flatten(1)


def log_likelihood_gradient(problem: Problem, sigma: Tensor, y: Tensor, x_t: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of ``log N(y; A x_0^, sigma^2)`` by ``x_t``, (B, 16), by matrices, and the misfit (B, 4)."""
    node, a = PATH.node(0.5), problem.matrix
    share, cov = float(1 - node.abar), problem.oracle.cov
    jacobian = share * cov @ torch.linalg.inv(share**2 * cov + float(node.bbar) ** 2 * torch.eye(PIXELS, dtype=F64))
    x_0 = problem.oracle.mean + (x_t.flatten(1) - share * problem.oracle.mean) @ jacobian.T
    residual = y.flatten(1) - x_0 @ a.T
    return (residual / sigma.flatten() ** 2) @ a @ jacobian, residual


def test_the_direction_is_that_of_the_likelihood() -> None:
    problem, x_t = Problem(AVERAGE, cov=smooth(0.5)), drawn(3, *SHAPE, seed=4)
    y = problem.y + UNEVEN.sigma * drawn(3, 1, 2, 2, seed=5)
    wanted, residual = log_likelihood_gradient(problem, UNEVEN.sigma, y, x_t)
    cosine = torch.nn.functional.cosine_similarity
    assert (cosine(moved(problem, UNEVEN, y, x_t), wanted) > 1 - 1e-12).all()  # measured 1 - 2e-16
    for wrong in (None, Uneven(1 / UNEVEN.sigma), Uneven(UNEVEN.sigma**2), Uneven(UNEVEN.sigma.sqrt())):
        assert (cosine(moved(problem, wrong, y, x_t), wanted) < 0.998).all()  # measured at most 0.9969
    size = UNEVEN.sigma.square().mean().sqrt() / (residual / UNEVEN.sigma.flatten()).norm(dim=1, keepdim=True)
    assert (moved(problem, UNEVEN, y, x_t) - size * wanted).abs().max() < 1e-12  # measured 6e-16


def test_noise_that_is_the_same_everywhere_changes_nothing() -> None:
    problem, x_t = Problem(AVERAGE, cov=smooth()), drawn(2, *SHAPE, seed=4)
    y, plain = problem.y.expand(2, -1, -1, -1), moved(problem, None, problem.y, x_t)
    for sigma in (0.01, 3.0):
        assert (moved(problem, GaussianNoise(sigma), y, x_t) - plain).abs().max() < 1e-14  # measured 3e-17


def test_weights_bring_the_mean_to_the_posterior_s() -> None:
    """Half of the pixels measured well, half badly; error of the mean in 300 steps: measured 0.34 and 0.08."""
    fine = torch.arange(4) % 2 == 0
    noise = Uneven(torch.where(fine, 0.05, 1.0).to(F64).expand(1, *SHAPE))
    problem = Problem(Mask(SHAPE, torch.ones(1, 4, 4, dtype=F64)), cov=smooth())
    mean, cov = problem.oracle.mean, problem.oracle.cov
    clean = mean + torch.linalg.cholesky(cov) @ drawn(PIXELS, seed=2)
    y = clean.view(1, *SHAPE) + noise.sigma * drawn(1, *SHAPE, seed=3)
    posterior = mean + cov @ torch.linalg.solve(cov + noise.sigma.flatten().square().diag(), y.flatten() - mean)
    plain, weighed = (
        float((images(problem, DPS(problem.operator, y, 0.1, n), PATH.grid(300), DDPM, 64).mean(0) - posterior).norm())
        for n in (None, noise)
    )
    assert weighed / 4 < 0.12 and weighed < plain / 3


def test_the_batch_changes_nothing() -> None:
    problem, x_t = Problem(AVERAGE, cov=smooth()), drawn(3, *SHAPE, seed=4)
    y = torch.tensor([-0.9, 0.0, 0.9], dtype=F64).view(3, 1, 1, 1) + 0.05 * drawn(3, 1, 2, 2, seed=6)
    together = moved(problem, PoissonNoise(20), y, x_t)
    for i in range(3):
        alone = moved(problem, PoissonNoise(20), y[i : i + 1], x_t[i : i + 1])
        assert (alone - together[i : i + 1]).abs().max() < 1e-14  # measured 0


@pytest.mark.parametrize("name", GUIDANCES)
def test_which_guidances_count_photons(name: str) -> None:
    row, y = GUIDANCES[name], torch.zeros(1, 1, 2, 2, dtype=F64)
    assert type(row.against(AVERAGE, y, GaussianNoise(0.1), 3)) is type(row.make(AVERAGE, y, 0.1, 3))
    if name == "dps":
        guidance = row.against(AVERAGE, y, PoissonNoise(20), 3)
        assert isinstance(guidance, DPS) and guidance.noise == PoissonNoise(20)
        return
    with pytest.raises(UserError, match="counts with the same noise everywhere, found photons; expected dps$"):
        row.against(AVERAGE, y, PoissonNoise(20), 3)


def test_no_noise_cannot_be_weighed() -> None:
    with pytest.raises(
        UserError, match="^dps: found a standard deviation of 0 in the noise, expected more, or no noise"
    ):
        DPS(AVERAGE, torch.zeros(1, 1, 2, 2), noise=GaussianNoise(0))
