"""Clipping: how an estimate is kept within the range of images, [-1, 1].

``clip_x_0`` is ours: clip the clean estimate and complete ``res`` and ``eps`` from it, so that the three still satisfy
the state's equation. The published RDDM samplers clip without completing, and bound the residual by [-1, 1] although it
spans [-2, 2]; checkpoints trained that way are restored that way, with one rule for each kind of target.
"""

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

from rddm.path import Node
from rddm.prediction import Prediction, from_res, from_x_0

Clip: TypeAlias = Callable[[Prediction, Tensor, Tensor, Node], Prediction]


def clip_none(prediction: Prediction, x_t: Tensor, x_in: Tensor, node: Node) -> Prediction:
    """Return the prediction as it is."""
    return prediction


def clip_x_0(prediction: Prediction, x_t: Tensor, x_in: Tensor, node: Node) -> Prediction:
    """Clip ``x_0`` to [-1, 1] and complete the others from it."""
    return from_x_0(prediction.x_0.clamp(-1, 1), x_t, x_in, node)


def clip_brighter(prediction: Prediction, x_t: Tensor, x_in: Tensor, node: Node) -> Prediction:
    """Clip ``x_0`` to [x_in, 1] and complete the others from it: a longer exposure adds light everywhere.

    A network trained on dark photos has seen few highlights, and may paint a lamp or snow black.
    """
    return from_x_0(prediction.x_0.maximum(x_in).clamp(-1, 1), x_t, x_in, node)


def published_res(prediction: Prediction, x_t: Tensor, x_in: Tensor, node: Node) -> Prediction:
    """Clip as published for networks that output ``res``: the residual, then ``x_0``; ``eps`` from the residual."""
    completed = from_res(prediction.res.clamp(-1, 1), x_t, x_in, node)
    return completed._replace(x_0=completed.x_0.clamp(-1, 1))


def published_x_0(prediction: Prediction, x_t: Tensor, x_in: Tensor, node: Node) -> Prediction:
    """Clip as published for networks that output ``eps``: ``x_0``, then the residual that follows; ``eps`` stays."""
    x_0 = prediction.x_0.clamp(-1, 1)
    return Prediction(x_0, (x_in - x_0).clamp(-1, 1), prediction.eps)


def published_x_0_eps(prediction: Prediction, x_t: Tensor, x_in: Tensor, node: Node) -> Prediction:
    """Clip as published for networks that output ``x_0`` and ``eps``: ``x_0``, and the residual it had before."""
    return Prediction(prediction.x_0.clamp(-1, 1), prediction.res.clamp(-1, 1), prediction.eps)


def published_res_eps(prediction: Prediction, x_t: Tensor, x_in: Tensor, node: Node) -> Prediction:
    """Clip as published for networks that output ``res`` and ``eps``: the residual, then ``x_0`` from the state."""
    res, eps = prediction.res.clamp(-1, 1), prediction.eps
    return Prediction((x_t - node.abar * res - node.bbar * eps).clamp(-1, 1), res, eps)


CLIPS: dict[str, Clip] = {
    "none": clip_none,
    "x0": clip_x_0,
    "brighter": clip_brighter,
    "published_res": published_res,
    "published_x0": published_x_0,
    "published_res+eps": published_res_eps,
    "published_x0+eps": published_x_0_eps,
}
