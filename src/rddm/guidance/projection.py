"""Guidance without gradients, from the range of the operator: DDNM, DiffPIR, DDRM and DDNM+."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rddm.guidance.base import (
    Measured,
    completed,
    decomposable,
    invertible,
    linear,
    misfit,
    regularised,
    renoise,
)
from rddm.operators.base import inverse
from rddm.path import Node, Noise
from rddm.prediction import Prediction
from rddm.transition import Gain


@dataclass(frozen=True)
class DDNM(Measured):
    """``x_0 = x_0^ + A_dagger (y - A x_0^)``: what was measured is taken as it is, the rest is the denoiser's.

    Nothing is left of the misfit, ``A x_0 = y``, whatever the solver: for measurements without noise. On a trajectory
    with jumps (time travel) the sampler goes up from the denoiser's own estimate with new noise.

    Source: Wang et al., Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model, ICLR 2023, Algorithms 1
    and 2, whose gain is ``markov``; the program's is ``stochastic(naive, 0.85^2)``.
    """

    climb: ClassVar[Gain] = renoise

    def __post_init__(self) -> None:
        """Check the operator."""
        invertible(self.operator, "ddnm")

    def correct(self, prediction: Prediction, x_t: Tensor, node: Node) -> Prediction:
        """Return the estimate that fits the measurement."""
        residual = misfit(self.operator, prediction.x_0, self.y)
        if hasattr(self.operator, "A_adjoint"):
            x_0 = prediction.x_0 + self.operator.A_dagger(residual)  # pyright: ignore[reportAttributeAccessIssue]
        else:  # a stand-in of a pseudoinverse, not linear
            a_dagger = self.operator.A_dagger  # pyright: ignore[reportAttributeAccessIssue]
            x_0 = prediction.x_0 + a_dagger(self.y) - a_dagger(self.operator.A(prediction.x_0))
        return completed(x_0, prediction, x_t, node)


@dataclass(frozen=True)
class DiffPIR(Measured):
    """``x_0 = argmin |y - A x|^2 + rho |x - x_0^|^2``, ``rho = weight sigma^2 a^2 / c^2``.

    ``x_0^ + A^T (A A^T + rho)^-1 (y - A x_0^)``: the best of what the measurement and the estimate say, the estimate's
    error being taken for noise of variance ``c^2 / (a^2 weight)``. Published with the gain ``stochastic(naive, zeta)``.

    Arguments:
        sigma: standard deviation of the measurement's noise; 0 is DDNM.
        weight: of the estimate, 7 in deepinv.

    Source: Zhu et al., Denoising Diffusion Models for Plug-and-Play Image Restoration, CVPR workshops 2023.
    """

    sigma: float = 0.0
    weight: float = 7.0

    def __post_init__(self) -> None:
        """Check the operator."""
        linear(self.operator, "diffpir")

    def correct(self, prediction: Prediction, x_t: Tensor, node: Node) -> Prediction:
        """Return the estimate nearer to the measurement."""
        if node.bbar == 0:
            return prediction
        ridge = self.weight * (self.sigma * float((1 - node.abar) / node.bbar)) ** 2
        residual = misfit(self.operator, prediction.x_0, self.y)
        pull = regularised(linear(self.operator, "diffpir"), residual, 1.0, ridge)
        return completed(prediction.x_0 + pull, prediction, x_t, node)


@dataclass(frozen=True)
class DDRM(Measured):
    """Each coefficient of the operator's SVD walks for itself, from what was measured or from what is estimated.

    With singular values ``s``, ``x' = V^T x_0^`` and ``y' = U^T y / s``, the coefficients at the next node are

        a x' + sqrt(1 - eta^2) c eps^ + eta c z                                   where s = 0,
        a ((1 - eta_b) x' + eta_b y') + sqrt(c^2 - (eta_b a sigma / s)^2) z       where c >= a sigma / s,
        a x' + sqrt(1 - eta^2) c s / sigma (y' - x') + eta c z                    elsewhere.

    A step of its own: of the solver it takes the nodes and the extra calls, not the result.

    Arguments:
        sigma: standard deviation of the measurement's noise.
        eta: share of new noise where nothing, or less than noise, was measured.
        eta_b: share of the measurement where it knows more than the state.

    Source: Kawar et al., Denoising Diffusion Restoration Models, NeurIPS 2022, Eqs. 7 and 8. Unlike there, the first
    state is pure noise: with the ``a`` of a start it hardly holds anything else.
    """

    sigma: float = 0.0
    eta: float = 0.85
    eta_b: float = 1.0
    who: ClassVar[str] = "ddrm"

    def __post_init__(self) -> None:
        """Check the operator."""
        decomposable(self.operator, self.who)

    def project(
        self, x_next: Tensor, x_t: Tensor, prediction: Prediction, now: Node, then: Node, noise: Noise
    ) -> Tensor:
        """Return the next state."""
        operator, (x_0, _, eps) = decomposable(self.operator, self.who), prediction
        misfit(operator, x_0, self.y)  # complains if it does not fit
        a, c = float(1 - then.abar), float(then.bbar)
        z = noise(x_t) if c > 0 else torch.zeros_like(x_t)
        kept = math.sqrt(1 - self.eta**2)
        free = a * x_0 + c * (kept * eps + self.eta * z)  # as if nothing had been measured
        s = operator.mask.to(x_t)
        guess, seen, fresh = operator.V_adjoint(x_0), inverse(s) * operator.U_adjoint(self.y), operator.V_adjoint(z)
        known = (c**2 - (self.eta_b * a * self.sigma * inverse(s)) ** 2).clamp_min(0).sqrt()
        sure = a * ((1 - self.eta_b) * guess + self.eta_b * seen) + known * fresh
        pull = kept * c * s / self.sigma if self.sigma else s
        unsure = a * guess + pull * (seen - guess) + self.eta * c * fresh
        told = torch.where(c * s >= a * self.sigma, sure, unsure)
        change = told - operator.V_adjoint(free)
        return free + operator.V(torch.where(s > 0, change, torch.zeros_like(change)))


@dataclass(frozen=True)
class DDNMPlus(DDRM):
    """DDNM for measurements with noise: DDRM's step with ``eta_b = 1``, and time travel on trajectories with jumps.

    Written out, its correction by ``lambda = 1`` or ``s c sqrt(1 - eta^2) / (a sigma)`` and the noise that is left to
    add are DDRM's; what is new is to go back up, from the estimate with new noise.

    Source: Wang et al., DDNM, ICLR 2023, section 3.3 and appendix I.
    """

    climb: ClassVar[Gain] = renoise
    who: ClassVar[str] = "ddnm+"
