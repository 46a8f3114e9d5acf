"""What the scene's light goes through: haze, and the shadow of things out of the picture."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from rddm.degradations.base import Degraded, Limits, Parameter, Parametrised, Range, draw, draw_log, uniform
from rddm.degradations.light import pixel_grid, smooth_field, to_linear, to_srgb

NEAREST = 0.1
# A shadow keeps the light of the sky, which is bluer than the sun: of the light lost, red is most and blue least.
SUN = (1.07, 1.01, 0.92)


@dataclass(frozen=True)
class Haze(Parametrised):
    """Haze by atmospheric scattering: ``L' = t L + (1 - t) A``, ``t = exp(-beta d)``, in linear light.

    The depth ``d`` is made up, from 0.1 (near) to 1 (the farthest): it grows towards the top as on a plain, with smooth
    random relief (Koschmieder 1924; Narasimhan and Nayar, IJCV 48 (2002) 233).

    Arguments:
        beta: optical thickness from the camera to the farthest point.
        airlight: ``A``, linear, 1 is white.
    """

    name: ClassVar[str] = "haze"
    beta: Annotated[Parameter, Limits(0, 1000)] = Range(0.5, 2.5)
    airlight: Annotated[Parameter, Limits(0, 1)] = Range(0.4, 0.8)

    def __call__(self, image: Tensor, generator: torch.Generator) -> Degraded:
        """Return the image in the haze."""
        beta, airlight = draw(self.beta, generator), draw(self.airlight, generator)
        through = torch.exp(-beta * random_depth(image.shape[1], image.shape[2], generator))
        light = to_linear(image)
        return Degraded(to_srgb(airlight + through * (light - airlight)))


def random_depth(height: int, width: int, generator: torch.Generator) -> Tensor:
    """Return distances (height, width) from 0.1 to 1: a plain up to a horizon, tilted a little, and relief on it."""
    y, x = pixel_grid(height, width)
    horizon = uniform(0, 0.4, generator)
    tilt = uniform(-0.15, 0.15, generator)
    below = (y / height - horizon + tilt * (x / width - 0.5)).clamp(min=0) / (1 - horizon)
    plain = NEAREST / (
        NEAREST + (1 - NEAREST) * below.clamp(max=1)
    )  # on a plain, distance is the inverse of the angle below
    relief = smooth_field(height, width, 3, generator) + 0.5 * smooth_field(height, width, 6, generator)
    return (plain + 0.12 * relief).clamp(NEAREST, 1)


@dataclass(frozen=True)
class Shadow(Parametrised):
    """A cast shadow with a soft edge: ``L'_c = (1 - strength w_c m) L_c`` in linear light; the mask is ``m``.

    ``w`` = 1.07, 1.01, 0.92 for red, green and blue has mean 1: the sky's light that remains is bluish. The shadow is
    that of a straight-edged thing (a convex polygon) or of foliage (a random outline), each as often. It falls on
    everything in the picture as if that were one flat surface.

    Arguments:
        strength: share of the light that is lost.
        softness: width of the penumbra, pixels; a range is drawn log-uniformly.
    """

    name: ClassVar[str] = "shadow"
    strength: Annotated[Parameter, Limits(0, 0.93)] = Range(0.4, 0.85)
    softness: Annotated[Parameter, Limits(0.5, 100)] = Range(1, 12)

    def __call__(self, image: Tensor, generator: torch.Generator) -> Degraded:
        """Return the image in the shadow."""
        strength, softness = draw(self.strength, generator), draw_log(self.softness, generator)
        shapes = (polygon_depth, foliage_depth)
        shape = shapes[int(torch.randint(2, (), generator=generator))]
        mask = (shape(image.shape[1], image.shape[2], generator) / softness + 0.5).clamp(0, 1)
        mask = (mask * mask * (3 - 2 * mask))[None]
        lost = strength * torch.tensor(SUN)[:, None, None]
        return Degraded(to_srgb(to_linear(image) * (1 - lost * mask)), mask)


def polygon_depth(height: int, width: int, generator: torch.Generator) -> Tensor:
    """Return how far inside a random convex polygon each pixel lies (height, width), pixels, negative outside.

    The polygon is the intersection of three to six half planes around a point of the picture.
    """
    y, x = pixel_grid(height, width)
    y, x = y - height * uniform(0.15, 0.85, generator), x - width * uniform(0.15, 0.85, generator)
    sides = 3 + int(torch.randint(4, (), generator=generator))
    start = uniform(0, 2 * math.pi, generator)
    depth = torch.full((height, width), math.inf)
    for side in range(sides):
        turn = start + (side + uniform(-0.25, 0.25, generator)) * 2 * math.pi / sides
        reach = min(height, width) * uniform(0.15, 0.5, generator)
        depth = torch.minimum(depth, reach - y * math.sin(turn) - x * math.cos(turn))
    return depth


def foliage_depth(height: int, width: int, generator: torch.Generator) -> Tensor:
    """Return about how far inside a random outline each pixel lies (height, width), pixels, negative outside.

    The outline is a level of a rough surface. Its quantile, the share in shadow, is drawn from 0.2 to 0.6.
    """
    cells = (2, 5, 11, 23)
    surface = sum((smooth_field(height, width, n, generator) / n for n in cells), torch.zeros(height, width))
    share = uniform(0.2, 0.6, generator)
    level = surface.flatten().kthvalue(max(1, round((1 - share) * surface.numel()))).values
    rows, columns = torch.gradient(surface)
    slope = torch.hypot(rows, columns).mean()
    return (surface - level) / slope.clamp(min=1e-6)
