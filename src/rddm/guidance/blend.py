"""Guidance that pastes what was measured into the state: noised to its level (ILVR, RePaint, MCG), and known pixels."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rddm.guidance.base import Guidance, Measured, completed, forward, linear, misfit
from rddm.guidance.gradient import DPS
from rddm.operators.base import LinearOperator
from rddm.path import Node, Noise
from rddm.prediction import Prediction, eps_from_res
from rddm.transition import Gain


def pasted(operator: LinearOperator, y: Tensor, x: Tensor, node: Node, noise: Noise) -> Tensor:
    """Return ``x + A_dagger (a y + c A z - A x)``: the measured part of a noised image in place of that of ``x``.

    At the clean image ``A x = y`` is left.
    """
    misfit(operator, x, y)  # complains if it does not fit
    a, c = float(1 - node.abar), float(node.bbar)
    level = a * y + c * operator.A(noise(x)) if c > 0 else a * y
    return x + operator.A_dagger(level - operator.A(x))


@dataclass(frozen=True)
class ILVR(Measured):
    """After each step the measured part of the state becomes that of the reference, noised to the same level.

    Published for downscaling by N: the colours and shapes of a reference, the details of the model.

    Arguments:
        until: the time, in [0, 1], below which nothing is pasted any more; above 0 the result need not fit.

    Source: Choi et al., ILVR, ICCV 2021, Algorithm 1, with ``A_dagger A`` for its low-pass filter.
    """

    until: float = 0.0
    who: ClassVar[str] = "ilvr"

    def __post_init__(self) -> None:
        """Check the operator."""
        linear(self.operator, self.who)

    def project(
        self, x_next: Tensor, x_t: Tensor, prediction: Prediction, now: Node, then: Node, noise: Noise
    ) -> Tensor:
        """Return the state with the measured part in it."""
        if float(now.t) <= self.until:
            return x_next
        return pasted(linear(self.operator, self.who), self.y, x_next, then, noise)


@dataclass(frozen=True)
class RePaint(ILVR):
    """Known pixels are pasted at every level; on a trajectory with jumps the rest gets to agree with them.

    Published for masks, with the gain ``markov`` and jumps of 10 of 250 steps, each 9 times over; the way up is a
    forward step of the diffusion.

    Source: Lugmayr et al., RePaint, CVPR 2022, Algorithm 1.
    """

    climb: ClassVar[Gain] = forward
    who: ClassVar[str] = "repaint"


@dataclass(frozen=True)
class MCG(DPS):
    """A step of DPS, then the measured part pasted: the gradient moves what was not measured.

    Source: Chung et al., Improving Diffusion Models for Inverse Problems using Manifold Constraints, NeurIPS 2022.
    """

    def __post_init__(self) -> None:
        """Check the operator and the noise."""
        super().__post_init__()
        linear(self.operator, "mcg")

    def project(
        self, x_next: Tensor, x_t: Tensor, prediction: Prediction, now: Node, then: Node, noise: Noise
    ) -> Tensor:
        """Return the state, moved down the gradient and pasted."""
        moved = super().project(x_next, x_t, prediction, now, then, noise)
        return pasted(linear(self.operator, "mcg"), self.y, moved, then, noise)


class Keep(Guidance):
    """Another guidance where some pixels are solved already: there the state is the solved image, diffused.

    Mask-shift, how windows of a large image agree at their seams (Wang et al., DDNM, ICLR 2023, section 3.4).

    Arguments:
        guidance: for the window.
        x_0: the window's image, anything where it is not solved, broadcast against the state.
        known: likewise, true where it is solved.
    """

    def __init__(self, guidance: Guidance, x_0: Tensor, known: Tensor) -> None:
        self.guidance, self.x_0, self.known = guidance, x_0, known
        self.needs_grad, self.climb = guidance.needs_grad, guidance.climb  # pyright: ignore[reportAttributeAccessIssue]

    def show(self, x_t: Tensor) -> Tensor:
        """Return what the other guidance shows."""
        return self.guidance.show(x_t)

    def correct(self, prediction: Prediction, x_t: Tensor, node: Node) -> Prediction:
        """Return the other guidance's estimate, with the solved pixels in it."""
        corrected = self.guidance.correct(prediction, x_t, node)
        return completed(torch.where(self.known, self.x_0, corrected.x_0), prediction, x_t, node)

    def project(
        self, x_next: Tensor, x_t: Tensor, prediction: Prediction, now: Node, then: Node, noise: Noise
    ) -> Tensor:
        """Return the other guidance's state, with the solved pixels at its level of noise in it."""
        x_next = self.guidance.project(x_next, x_t, prediction, now, then, noise)
        x_in = (prediction.x_0 + prediction.res).detach()
        eps = eps_from_res(x_in - self.x_0, x_t.detach(), x_in, now)
        kept = self.x_0 + then.abar * (x_in - self.x_0) + then.bbar * eps
        return torch.where(self.known, kept, x_next)


@dataclass(frozen=True)
class Paste(Guidance):
    """Known pixels without noise: the denoiser is shown the clean image there at every call, the first one too.

    There the state is the clean image at any node, so that ``res`` and ``eps`` are zero and no flow moves it; what a
    solver draws there is pasted over. For networks that were trained so; others expect noise there (RePaint).

    Arguments:
        x_0: the image in [-1, 1], anything where it is not known, broadcast against the state.
        known: likewise, true where it is known.

    Source: Saharia et al., Palette, SIGGRAPH 2022, inpainting and uncropping.
    """

    x_0: Tensor
    known: Tensor

    def show(self, x_t: Tensor) -> Tensor:
        """Return the state with the known pixels in it."""
        return torch.where(self.known, self.x_0, x_t)

    def correct(self, prediction: Prediction, x_t: Tensor, node: Node) -> Prediction:
        """Return the estimate with the known pixels in it."""
        none = torch.zeros_like(x_t)
        return Prediction(*(torch.where(self.known, k, p) for k, p in zip((self.x_0, none, none), prediction)))

    def project(
        self, x_next: Tensor, x_t: Tensor, prediction: Prediction, now: Node, then: Node, noise: Noise
    ) -> Tensor:
        """Return the state with the known pixels in it."""
        return self.show(x_next)
