"""Guidance by gradients through the denoiser: DPS and PiGDM.

Both approximate ``grad log p(y | x_t)`` by looking at the estimate of ``x_0``: DPS as if it were certain, PiGDM as a
Gaussian of variance ``r^2`` around it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rddm.errors import UserError
from rddm.guidance.base import Measured, completed, linear, misfit, regularised
from rddm.operators.noise import NoiseModel
from rddm.path import Node, Noise
from rddm.prediction import Prediction


def norms(x: Tensor) -> Tensor:
    """Return the norm of each item, (B,)."""
    return x.flatten(1).norm(dim=1)


@dataclass(frozen=True)
class DPS(Measured):
    """``x_s <- x_s - scale grad_{x_t} |W (y - A(x_0^))|``, the norm not squared; any differentiable operator will do.

    ``W`` is 1, or for noise that is not the same everywhere ``r / std``, ``std`` being told by ``noise`` at ``y`` and
    ``r`` its root mean square over the image: the direction is that of the likelihood, shot noise taken for Gaussian,
    and the norm of the noise alone what it is unweighted, so that ``scale`` means the same.

    Arguments:
        scale: of a step. Published, for the 1000 steps of a DDPM: 0.3 for enlarging and blur, 0.5 for inpainting, 1 for
            phase retrieval. The sum over all steps is what counts: fewer steps want more of it.
        noise: of the measurement; the same everywhere if None.

    Raises:
        UserError: if there is a noise model, and somewhere no noise.

    Source: Chung et al., Diffusion Posterior Sampling, ICLR 2023, Algorithm 1 with zeta = scale / norm, and its misfit
    for Poisson noise.
    """

    needs_grad: ClassVar[bool] = True
    scale: float = 0.3
    noise: NoiseModel | None = None

    def __post_init__(self) -> None:
        """Check the noise."""
        if self.noise is not None and not bool((self.noise.std(self.y) > 0).all()):
            raise UserError("dps: found a standard deviation of 0 in the noise, expected more, or no noise model")

    def whitened(self, residual: Tensor) -> Tensor:
        """Return a misfit with noise of the same strength everywhere."""
        if self.noise is None:
            return residual
        std = self.noise.std(self.y)
        return residual * (norms(std) / std[0].numel() ** 0.5).view(-1, *(1,) * (std.ndim - 1)) / std

    def project(
        self, x_next: Tensor, x_t: Tensor, prediction: Prediction, now: Node, then: Node, noise: Noise
    ) -> Tensor:
        """Return the state, moved down the gradient."""
        with torch.enable_grad():
            total = norms(self.whitened(misfit(self.operator, prediction.x_0, self.y))).sum()
        (gradient,) = torch.autograd.grad(total, x_t)
        return x_next - self.scale * gradient


def tweedie(node: Node) -> float:
    """Return ``c^2 / a``, what turns a score into an estimate of ``x_0``."""
    return float(node.bbar**2 / (1 - node.abar))


def published(node: Node) -> float:
    """Return ``a c^2 / (a^2 + c^2)``, as PiGDM's algorithm has it: on a DDPM's path ``a^2`` of what theory asks for.

    Where there is nearly nothing but noise a network's derivatives are not to be multiplied by ``1 / a``.
    """
    return float((1 - node.abar) * node.bbar**2 / ((1 - node.abar) ** 2 + node.bbar**2))


@dataclass(frozen=True)
class PiGDM(Measured):
    """``x_0 = x_0^ + weight J^T A^T (r^2 A A^T + sigma^2)^-1 (y - A x_0^)``, ``J = d x_0^ / d x_t``.

    With ``r^2 = c^2 / (a^2 + c^2)``, the variance of ``x_0`` given ``x_t`` where images are standard normal: then, and
    only then, it is with ``tweedie`` the exact posterior mean at every node. Where ``a = 0`` the state says nothing and
    neither does this. Conjugate gradients stand in where the operator has no SVD.

    Arguments:
        sigma: standard deviation of the measurement's noise.
        weight: of the gradient at a node, :func:`tweedie` or :func:`published`.

    Source: Song et al., Pseudoinverse-Guided Diffusion Models, ICLR 2023, Eq. 7 and Algorithm 1.
    """

    needs_grad: ClassVar[bool] = True
    sigma: float = 0.0
    weight: Callable[[Node], float] = tweedie

    def __post_init__(self) -> None:
        """Check the operator."""
        linear(self.operator, "pigdm")

    def correct(self, prediction: Prediction, x_t: Tensor, node: Node) -> Prediction:
        """Return the estimate of the posterior mean."""
        a, c = float(1 - node.abar), float(node.bbar)
        if a == 0 or c == 0:
            return prediction
        x_0 = prediction.x_0
        spread = c**2 / (a**2 + c**2)
        with torch.no_grad():
            residual = misfit(self.operator, x_0, self.y)
            pull = regularised(linear(self.operator, "pigdm"), residual, spread, self.sigma**2)
        (gradient,) = torch.autograd.grad((x_0 * pull).sum(), x_t, retain_graph=True)
        return completed(x_0.detach() + self.weight(node) * gradient, prediction, x_t.detach(), node)
