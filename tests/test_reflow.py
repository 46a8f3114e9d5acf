"""Reflow: straightness against its closed form, and a small flow that becomes straight."""

from dataclasses import replace

import pytest
import torch
from gaussian import DEGRADED, F64, ORACLE, VAR
from torch import nn
from torch.nn import functional as F

from rddm.denoiser import NetworkDenoiser
from rddm.errors import UserError
from rddm.loss import losses
from rddm.methods import METHODS
from rddm.path import CLEAN, LinearPath, gaussian
from rddm.reflow import Pairs, crookedness, draw_pairs, reflow_losses
from rddm.sample import sample
from rddm.solvers import Euler, Heun

FLOW = METHODS["flow"]


class Points(nn.Module):
    """A small network for points of the plane."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))

    def forward(self, x: torch.Tensor, clock: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.layers(torch.cat([x, clock[:, :1] / 500 - 1], 1)),)


def test_crookedness_is_that_of_the_oracle() -> None:
    """``integral (S' - (1 - sd))^2 dt`` with ``S^2 = (1 - t)^2 var + t^2``, the mean over three pixels."""
    t = (torch.arange(20_000, dtype=F64) + 0.5)[:, None] / 20_000
    spread = ((1 - t) ** 2 * VAR + t**2).sqrt()
    exact = float((((t - (1 - t) * VAR) / spread - (1 - VAR.sqrt())) ** 2).mean())
    x_in = torch.zeros(4000, 3, dtype=F64)
    found = crookedness(ORACLE, FLOW.path, x_in, 100, gaussian(torch.Generator().manual_seed(0)))
    assert found == pytest.approx(exact, rel=0.03)  # measured 0.2425, exact 0.2432
    straight = crookedness(ORACLE, LinearPath(), DEGRADED, 8, gaussian())
    assert straight < 1e-24  # without noise the oracle's paths are lines


def test_pairs_are_those_of_the_flow() -> None:
    x_in = torch.zeros(64, 3, dtype=F64)
    pairs = draw_pairs(ORACLE, FLOW.path, x_in, 200, gaussian(torch.Generator().manual_seed(0)), Heun())
    exact = ORACLE.flow(pairs.z, x_in, FLOW.path.node(1.0), CLEAN)
    assert (pairs.x_0 - exact).abs().max() < 1e-3  # measured 1e-4


def trained(pairs: Pairs | None, updates: int, initial: nn.Module | None = None) -> Points:
    """Train on two clusters, or on pairs."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    net = Points()
    if initial is not None:
        net.load_state_dict(initial.state_dict())
    denoiser, optimiser = NetworkDenoiser(net, FLOW), torch.optim.Adam(net.parameters(), 4e-3)
    for _ in range(updates):
        t = 1 - torch.rand(128, generator=generator, dtype=F64)
        if pairs is None:
            side = torch.randint(0, 2, (128, 1), generator=generator) * 4.0 - 2
            x_0 = torch.cat([side, torch.zeros(128, 1)], 1) + 0.3 * torch.randn(128, 2, generator=generator)
            loss = losses(denoiser, x_0, torch.zeros_like(x_0), t, gaussian(generator), F.mse_loss)
        else:
            chosen = torch.randint(0, len(pairs.z), (128,), generator=generator)
            loss = reflow_losses(denoiser, Pairs(*(part[chosen] for part in pairs)), t, F.mse_loss)
        optimiser.zero_grad()
        loss.sum().backward()
        optimiser.step()
    return net


def test_reflow_makes_a_flow_straight() -> None:
    """Two clusters from one: after one reflow a single step does what the first flow needs many for."""
    first = NetworkDenoiser(trained(None, 250), FLOW)
    zero, noise = torch.zeros(2048, 2), gaussian(torch.Generator().manual_seed(2))
    with torch.no_grad():
        pairs = draw_pairs(first, FLOW.path, zero, 40, noise)
    second = NetworkDenoiser(trained(pairs, 250, first.net), FLOW)
    with torch.no_grad():
        before, after = (crookedness(d, FLOW.path, zero[:1024], 20, noise) for d in (first, second))
        off = [
            float((sample(d, zero, FLOW.path.grid(1), Euler(), x_start=pairs.z) - pairs.x_0).square().mean())
            for d in (first, second)
        ]
    assert after < before / 4  # measured 0.009, 0.528
    assert off[1] < off[0] / 4  # measured 0.07, 1.81


def test_pairs_need_noise() -> None:
    denoiser = NetworkDenoiser(Points(), replace(METHODS["flow-paired"]))
    pairs = Pairs(*(torch.zeros(2, 2) for _ in range(3)))
    with pytest.raises(UserError, match="flow-paired ends without noise"):
        reflow_losses(denoiser, pairs, torch.ones(2), F.mse_loss)
