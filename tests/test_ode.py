"""The probability-flow ODE and its likelihood on the exact oracle, where both are known in closed form."""

import importlib
import math

import pytest
import torch
from gaussian import DEGRADED, F64, MEAN, ORACLE, VAR

from rddm.denoiser import GaussianOracle
from rddm.errors import UserError
from rddm.ode import (
    Likelihood,
    Tolerance,
    exact_trace,
    flow,
    hutchinson,
    log_likelihood,
    rademacher,
    sample_flow,
)
from rddm.path import CurvePath, LinearPath, gaussian
from rddm.schedules import PowerPath

FINE = Tolerance(1e-9, 1e-9)
SMOOTH = CurvePath(torch.clone, lambda t: 0.5 * t * (2 - t))
ROOT = CurvePath(torch.clone, lambda t: 0.5 * t.sqrt())  # its noise has an infinite derivative at the clean image


def drawn(count: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Return states at t = 1 and their ``x_in``."""
    x_in = DEGRADED.expand(count, 3)
    return x_in + 0.5 * torch.randn(count, 3, dtype=F64, generator=torch.Generator().manual_seed(0)), x_in


def density(x: torch.Tensor, mean: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of a normal density of independent numbers."""
    return (-0.5 * ((x - mean) / spread) ** 2 - (spread * math.sqrt(2 * math.pi)).log()).sum(1)


@pytest.mark.parametrize(("tolerance", "bound"), [(Tolerance(), 1e-3), (FINE, 1e-7)])
@pytest.mark.parametrize("path", [SMOOTH, ROOT, LinearPath(0.5)], ids=["smooth", "root", "linear"])
def test_the_flow_is_that_of_the_oracle(path: CurvePath, tolerance: Tolerance, bound: float) -> None:
    x, x_in = drawn()
    found = flow(ORACLE, x_in, path, x, 1.0, 0.01, tolerance)
    error = (found.x - ORACLE.flow(x, x_in, path.node(1.0), path.node(0.01))).abs().max()
    assert error < bound  # measured 8e-5 in 26 to 38 calls, 3e-9 in 146 to 164


def test_the_corners_of_a_table_do_no_harm() -> None:
    x, x_in = drawn()
    path = PowerPath(noise=0.25, steps=100)
    found = flow(ORACLE, x_in, path, x, 1.0, 0.05)
    error = (found.x - ORACLE.flow(x, x_in, path.node(1.0), path.node(0.05))).abs().max()
    assert error < 1e-3  # measured 3e-4; 2e-2 along the corners
    assert found.calls < 60  # measured 38


@pytest.mark.parametrize("path", [SMOOTH, ROOT], ids=["smooth", "root"])
def test_what_is_encoded_is_decoded(path: CurvePath) -> None:
    x, x_in = MEAN + VAR.sqrt() * torch.randn(64, 3, dtype=F64, generator=torch.Generator().manual_seed(1)), drawn()[1]
    there = flow(ORACLE, x_in, path, x, 1e-3, 1.0, FINE)
    back = flow(ORACLE, x_in, path, there.x, 1.0, 1e-3, FINE)
    assert (back.x - x).abs().max() < 1e-6  # measured 6e-9
    assert (there.x - x).abs().max() > 0.1


def test_samples_have_the_distribution_of_clean_images() -> None:
    x_in = DEGRADED.expand(4096, 3)
    found = sample_flow(ORACLE, x_in, SMOOTH, gaussian(torch.Generator().manual_seed(2)))
    # measured .018 and .020
    assert ((found.x.mean(0) - MEAN).abs() < 0.06).all() and ((found.x.std(0) / VAR.sqrt() - 1).abs() < 0.05).all()
    calls: list[float] = []

    def counted(x_t: torch.Tensor, x: torch.Tensor, node: object) -> object:
        calls.append(0)
        return ORACLE(x_t, x, node)

    assert sample_flow(counted, x_in, SMOOTH, gaussian()).calls == len(calls)


@pytest.mark.parametrize("path", [SMOOTH, ROOT], ids=["smooth", "root"])
def test_the_likelihood_is_the_density(path: CurvePath) -> None:
    """Of the state at ``near``, and, as that goes to zero, of the clean image."""
    x, x_in = MEAN + VAR.sqrt() * torch.randn(64, 3, dtype=F64, generator=torch.Generator().manual_seed(1)), drawn()[1]
    found = log_likelihood(ORACLE, x_in, path, x, near=1e-3, tolerance=FINE)
    exact = density(x, *ORACLE.marginal(x_in, path.node(1e-3)))
    assert (found.nats - exact).abs().max() < 1e-6  # measured 1e-8
    nearer = log_likelihood(ORACLE, x_in, path, x, near=1e-8, tolerance=FINE)
    assert (nearer.nats - density(x, MEAN, VAR.sqrt())).abs().max() < 1e-5  # measured 3e-7
    assert (found.latent - flow(ORACLE, x_in, path, x, 1e-3, 1.0, FINE).x).abs().max() < 1e-6


def coupled(x: torch.Tensor) -> torch.Tensor:
    """A field that mixes neighbours, of divergence ``sum (cos x_i + x_i / 20)``."""
    return x.sin() + x**2 / 40 + 0.7 * x.roll(1, 1)


def test_hutchinson_is_unbiased_and_exact_for_diagonal_fields() -> None:
    x = torch.randn(4, 6, dtype=F64, generator=torch.Generator().manual_seed(0))
    value, trace = exact_trace(coupled, x)
    assert torch.equal(value, coupled(x))
    assert (trace - (x.cos() + 0.05 * x).sum(1)).abs().max() < 1e-12
    probes = rademacher(x, 4096, torch.Generator().manual_seed(0))
    estimate = hutchinson(probes)(coupled, x)[1]
    spread = 0.7 * math.sqrt(6 / 4096)  # of a mean of sums of six independent signs
    assert (estimate - trace).abs().max() < 4 * spread  # measured 2
    diagonal = hutchinson(probes[:1])(torch.sin, x)[1]
    assert (diagonal - x.cos().sum(1)).abs().max() < 1e-12
    assert set(probes.unique().tolist()) == {-1, 1}


def test_hutchinson_gives_the_likelihood_of_images() -> None:
    """The oracle's Jacobian is diagonal, so that one probe is exact; an image of 192 numbers in few derivatives."""
    generator = torch.Generator().manual_seed(0)
    oracle = GaussianOracle(torch.tensor(0.2, dtype=F64), torch.tensor(0.09, dtype=F64))
    x_in = torch.zeros(2, 3, 8, 8, dtype=F64)
    x = 0.2 + 0.3 * torch.randn(2, 3, 8, 8, dtype=F64, generator=generator)
    found = log_likelihood(oracle, x_in, SMOOTH, x, hutchinson(rademacher(x, 1, generator)), tolerance=FINE)
    mean, spread = oracle.marginal(x_in, SMOOTH.node(1e-3))
    exact = density(x.flatten(1), mean.flatten(1), spread.expand(2, 192))
    assert (found.nats - exact).abs().max() < 1e-5  # measured 4e-8


def test_bits_per_dim_are_those_of_a_uniform_image() -> None:
    """A uniform density on [-1, 1]^d has ``d log 1/2`` nats and needs 8 bits for each of 256 levels."""
    latent = torch.zeros(1, 3, 4, 4)
    uniform = Likelihood(torch.tensor([48 * math.log(0.5)], dtype=F64), latent, 0)
    assert float(uniform.bits_per_dim()) == pytest.approx(8, abs=1e-12)
    assert float(uniform.bits_per_dim(2)) == pytest.approx(1, abs=1e-12)


def test_mistakes_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    x, x_in = drawn(2)
    with pytest.raises(UserError, match="no noise at t = 1"):
        log_likelihood(ORACLE, x_in, LinearPath(), x)
    with pytest.raises(UserError, match="found 1.0 and -0.1, expected 0 to 1"):
        flow(ORACLE, x_in, SMOOTH, x, 1.0, -0.1)

    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UserError, match=r"pip install 'rddm\[ode\]'"):
        flow(ORACLE, x_in, SMOOTH, x, 1.0, 0.5)
