"""Guidance to a class: by a classifier's gradient, or by the difference of two estimates."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rddm.denoiser import Denoiser
from rddm.errors import UserError
from rddm.guidance.base import Guidance, completed
from rddm.path import Node
from rddm.prediction import Prediction


@dataclass(frozen=True)
class Classifier(Guidance):
    """``x_0 = x_0^ + scale (c^2 / a) grad log p(label | x_t)``, that is ``eps = eps^ - scale c grad``.

    With ``scale`` 1 and a perfect classifier of noisy images it is the exact estimate given the label; more is bolder.
    Where ``a = 0`` there is nothing to classify.

    Arguments:
        logits: ``(x_t, node) -> (B, classes)``, of noisy images.
        label: (B,) whole numbers, or (1,) for all.
        scale: of the gradient.

    Raises:
        UserError: where the logits have no such class.

    Source: Dhariwal and Nichol, Diffusion Models Beat GANs on Image Synthesis, NeurIPS 2021, Algorithm 2.
    """

    logits: Callable[[Tensor, Node], Tensor]
    label: Tensor
    scale: float = 1.0

    def correct(self, prediction: Prediction, x_t: Tensor, node: Node) -> Prediction:
        """Return the estimate, moved towards the label."""
        a, c = float(1 - node.abar), float(node.bbar)
        if a == 0 or c == 0:
            return prediction
        with torch.inference_mode(False), torch.enable_grad():
            seen = x_t.detach().clone().requires_grad_()
            chances = self.logits(seen, node).log_softmax(1)
            if int(self.label.min()) < 0 or int(self.label.max()) >= chances.shape[1]:
                found, last = sorted(set(self.label.tolist())), chances.shape[1] - 1
                raise UserError(f"classifier: found labels {found}, expected 0 to {last}")
            wanted = self.label.clone().to(chances.device).expand(len(chances))[:, None]
            (gradient,) = torch.autograd.grad(chances.gather(1, wanted).sum(), seen)
        return completed(prediction.x_0 + self.scale * c**2 / a * gradient, prediction, x_t, node)


@dataclass(frozen=True)
class ClassifierFree(Guidance):
    """``u + scale (p - u)`` of the sampler's estimate ``p``, which is told a condition, and another's that is not.

    Arguments:
        unconditional: the denoiser that is not told.
        scale: 1 is the told one's estimate, 0 the other's, more is bolder.

    Source: Ho and Salimans, Classifier-Free Diffusion Guidance, 2022, Eq. 6 with ``scale = 1 + w``.
    """

    unconditional: Denoiser
    scale: float = 1.0

    def correct(self, prediction: Prediction, x_t: Tensor, node: Node) -> Prediction:
        """Return the estimate beyond the told one."""
        other = self.unconditional(x_t, prediction.x_0 + prediction.res, node)
        return Prediction(*(u + self.scale * (p - u) for p, u in zip(prediction, other, strict=True)))
