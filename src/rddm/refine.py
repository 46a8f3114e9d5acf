"""Predict and refine: any predictor's answer, and a generator of what is still missing.

A deterministic network ``g`` answers with the mean of all images that fit; a small diffusion, told ``g(y)``, draws the
residual ``x - g(y)`` that makes it one of them. Averaging draws goes back to the mean. Source: Whang et al., Deblurring
via Stochastic Refinement (DvSR), CVPR 2022.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from rddm.denoiser import Denoiser, NetworkDenoiser
from rddm.errors import UserError
from rddm.loss import Distance, losses
from rddm.methods import Method
from rddm.move import Solver
from rddm.path import Noise
from rddm.sample import Trajectory, sample

Predictor: TypeAlias = Callable[[Tensor], Tensor]
Generator: TypeAlias = Callable[[Tensor], Denoiser]
GUIDE = "guide"  # the condition under which a row's network sees g(y)


@dataclass(frozen=True)
class Refiner:
    """A restorer of two parts.

    Arguments:
        predictor: ``y -> g(y)``, deterministic: a network, another restorer, or nothing at all (``y`` itself).
        generator: ``g(y) -> denoiser`` of residuals, such as :func:`told` returns.
    """

    predictor: Predictor
    generator: Generator

    def restore(
        self,
        y: Tensor,
        trajectory: Trajectory,
        noise: Noise,
        solver: Solver | None = None,
        draws: int = 1,
    ) -> Tensor:
        """Return ``g(y)`` with a residual drawn from noise, or with the mean of several.

        Arguments:
            y: degraded images in [-1, 1], (B, C, H, W).
            trajectory: of the residual, as ``path.grid(steps)``.
            noise: the source of randomness.
            solver: how to step; a deterministic transition if None.
            draws: how many to average: one looks best, many measure best.

        Raises:
            UserError: for less than one draw.
        """
        if draws < 1:
            raise UserError(f"draws: found {draws}, expected at least 1")
        guess = self.predictor(y)
        denoiser, zero = self.generator(guess), torch.zeros_like(guess)
        residuals = [sample(denoiser, zero, trajectory, solver, noise) for _ in range(draws)]
        return guess + torch.stack(residuals).mean(0)


def told(net: nn.Module, method: Method) -> Callable[[Tensor], NetworkDenoiser]:
    """Return the generator of a network with its row, which is told the guess.

    Raises:
        UserError: unless the row starts from noise alone and lists "guide" among its inputs.
    """
    if method.origin != "zero" or method.inputs != (GUIDE,):
        found = f"origin {method.origin}, inputs {', '.join(method.inputs) or 'none'}"
        raise UserError(f"{method.name}: found {found}, expected a row of origin zero with the input {GUIDE}")
    return lambda guess: NetworkDenoiser(net, method, {GUIDE: guess})


def refine_losses(
    predictor: Predictor,
    net: nn.Module,
    method: Method,
    x_0: Tensor,
    y: Tensor,
    t: Tensor,
    noise: Noise,
    distance: Distance,
) -> Tensor:
    """Return the generator's losses on the residuals, (heads,); the predictor learns with it, from these alone.

    Arguments:
        predictor: ``y -> g(y)``, differentiable.
        net: the generator's network.
        method: its row, see :func:`told`.
        x_0: clean images in [-1, 1], (B, C, H, W).
        y: degraded ones.
        t: times in (0, 1], (B,).
        noise: the source of ``eps``.
        distance: between outputs and targets.

    Raises:
        UserError: if the row does not fit, see :func:`told`.
    """
    guess = predictor(y)
    return losses(told(net, method)(guess), x_0 - guess, torch.zeros_like(x_0), t, noise, distance)
