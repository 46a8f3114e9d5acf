"""Cold diffusion: degradations without noise that are no straight line from the clean image to the degraded one.

A restorer estimates ``x_0`` from any level of a fading ``D``. Two samplers undo it level by level (Bansal et al., Cold
Diffusion, NeurIPS 2023):

    naive   x_s = D(x_0^, s)                               Algorithm 1
    TACoS   x_s = x_t - D(x_0^, t) + D(x_0^, s)            Algorithm 2

Where ``D(x_0, t) = x_0 + t e``, TACoS walks the exact states whatever the restorer says: its errors cancel. Lines
between two images are rows of the table (``cold``, ``cold-naive``); the fadings here are outside the plane.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rddm.fadings import Fading

Restorer: TypeAlias = Callable[[Tensor, int], Tensor]


def naive(restorer: Restorer, fading: Fading, x: Tensor, level: int | None = None) -> Tensor:
    """Return the restored images, each level degraded anew from the estimate before (Algorithm 1).

    Arguments:
        restorer: ``(x_t, level) -> x_0``.
        fading: the degradation.
        x: images at ``level``, (B, C, H, W).
        level: where to start; the highest if None.
    """
    for at in range(fading.levels if level is None else level, 0, -1):
        x = fading(restorer(x, at), at - 1)
    return x


def tacos(restorer: Restorer, fading: Fading, x: Tensor, level: int | None = None) -> Tensor:
    """Return the restored images, each level improved by what the estimate says of one step (Algorithm 2).

    The last step too, as published: ``x_0 = x_1 - D(x_0^, 1) + x_0^``. A row of the table returns ``x_0^`` itself.
    The arguments are those of :func:`naive`.
    """
    for at in range(fading.levels if level is None else level, 0, -1):
        x_0 = restorer(x, at)
        x = x - fading(x_0, at) + fading(x_0, at - 1)
    return x


@dataclass(frozen=True)
class NetworkRestorer:
    """A network ``net(x, clock) -> (x_0,)`` as a restorer; its clock shows 1000 at the highest level."""

    net: nn.Module
    levels: int

    def __call__(self, x: Tensor, level: int) -> Tensor:
        """Return the estimate."""
        return self.net(x, x.new_full((len(x), 1), 1000 * level / self.levels))[0]


def cold_loss(net: nn.Module, fading: Fading, x_0: Tensor, generator: torch.Generator) -> Tensor:
    """Return the published objective, ``E |net(D(x_0, level)) - x_0|`` over levels drawn uniformly from 1 on.

    Arguments:
        net: ``net(x, clock) -> (x_0,)``.
        fading: the degradation.
        x_0: clean images in [-1, 1], (B, C, H, W).
        generator: of the levels, one for each image.
    """
    levels = torch.randint(1, fading.levels + 1, (len(x_0),), generator=generator)
    x = torch.cat([fading(image[None], int(level)) for image, level in zip(x_0, levels, strict=True)])
    clock = (1000 * levels / fading.levels).to(x)[:, None]
    return F.l1_loss(net(x, clock)[0], x_0)
