"""Predict and refine on a Gaussian problem: draws have the distribution, their mean the least error."""

from dataclasses import replace

import pytest
import torch
from gaussian import F64, MEAN, VAR
from torch import nn
from torch.nn import functional as F

from rddm.denoiser import GaussianOracle
from rddm.errors import UserError
from rddm.methods import METHODS
from rddm.path import gaussian
from rddm.refine import Refiner, refine_losses, told
from rddm.schedules import DDPMPath
from rddm.solvers import Heun

PATH = DDPMPath(steps=200, last=0.1)
ROW = replace(METHODS["ddpm"], name="dvsr-like", path=PATH, inputs=("guide",))
RESIDUALS = GaussianOracle(torch.zeros(3, dtype=F64), VAR)


def mean(y: torch.Tensor) -> torch.Tensor:
    """A perfect predictor of the problem ``x = MEAN + y / 2 + N(0, VAR)``."""
    return MEAN + y / 2


def test_one_draw_has_the_distribution_and_many_the_least_error() -> None:
    """The squared error of the mean of n draws is ``(1 + 1 / n) var``, that of the guess alone ``var``."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(8000, 3, dtype=F64, generator=generator)
    x = mean(y) + VAR.sqrt() * torch.randn(y.shape, dtype=F64, generator=generator)
    refiner = Refiner(mean, lambda guess: RESIDUALS)
    for draws in (1, 4):
        found = refiner.restore(y, PATH.grid(50), gaussian(generator), Heun(), draws)
        error = (found - x).square().mean(0) / VAR
        spread = (found - mean(y)).var(0) / VAR * draws
        assert (error - (1 + 1 / draws)).abs().max() < 0.15  # measured 0.07
        assert (spread - 1).abs().max() < 0.15  # measured 0.07
    with pytest.raises(UserError, match="found 0, expected at least 1"):
        refiner.restore(y, PATH.grid(5), gaussian(generator), draws=0)


class Pixels(nn.Module):
    """A small network over channels: the state, the guess and the clock."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, 48), nn.SiLU(), nn.Linear(48, 48), nn.SiLU(), nn.Linear(48, outputs)
        )

    def forward(self, x: torch.Tensor, clock: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.layers(torch.cat([x, clock / (PATH.steps / 2) - 1], 1)),)


def test_predictor_and_generator_learn_together() -> None:
    """``x = y^2 - 1 + N(0, .3^2)``: the loss falls, the predictor leaves residuals that a diffusion draws cheaply."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    predictor = nn.Sequential(nn.Linear(1, 32), nn.SiLU(), nn.Linear(32, 1))
    net = Pixels(3, 1)
    optimiser = torch.optim.Adam([*predictor.parameters(), *net.parameters()], 4e-3)
    history = []
    for _ in range(400):
        y = torch.rand(256, 1, generator=generator) * 2 - 1
        x_0 = y**2 - 1 + 0.3 * torch.randn(256, 1, generator=generator)
        t = torch.randint(1, PATH.steps + 1, (256,), generator=generator).double() / PATH.steps
        loss = refine_losses(predictor, net, ROW, x_0, y, t, gaussian(generator), F.mse_loss).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        history.append(float(loss.detach()))
    y = torch.full((2000, 1), 0.5)
    with torch.no_grad():
        found = Refiner(predictor, told(net, ROW)).restore(y, PATH.grid(50), gaussian(generator))
    assert sum(history[-20:]) < sum(history[:20]) / 2  # measured 0.13, 0.57
    assert float(found.mean()) == pytest.approx(-0.75, abs=0.15)  # measured -0.705
    assert float(found.std()) == pytest.approx(0.3, abs=0.1)  # measured 0.28
    assert predictor[0].weight.grad is not None


def test_a_row_that_does_not_fit() -> None:
    for row in (METHODS["ddpm"], METHODS["rddm"], replace(ROW, inputs=("guide", "mask"))):
        with pytest.raises(UserError, match="expected a row of origin zero with the input guide"):
            told(Pixels(3, 1), row)
