"""Raindrops on the window or the lens.

A drop on glass is a small lens: behind it appears nearly the whole scene, upside down and tiny. The camera focuses on
the scene, so the drop's edge is soft. After Qian et al. (CVPR 2018), in linear light,

    L'(p) = (1 - m(p)) L(p) + m(p) s(p) B(c - z (p - c)),

``m`` the soft mask, ``c`` the drop's centre, ``z`` how much it shrinks the scene, ``B`` the blurred scene, continued by
reflection, and ``s`` its shading: the rim refracts light from the side, where the scene is darker.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from rddm.degradations.base import Degraded, Limits, Parameter, Parametrised, Range, draw, draw_whole
from rddm.degradations.kernels import random_points
from rddm.degradations.light import pixel_grid, smooth_field, to_linear, to_srgb

SHRINK = (3.0, 6.0)
COARSE = 6  # the scene that drops show is blurred by averaging squares of this side
BATCH = 32  # drops drawn at once: what bounds the memory


@dataclass(frozen=True)
class Drops(Parametrised):
    """Raindrops on the glass; the mask is where they are.

    Arguments:
        count: of drops in the picture.
        radius: of a drop, pixels, drawn for each one.
        softness: width of a drop's edge, pixels.
    """

    name: ClassVar[str] = "drops"
    count: Annotated[Parameter, Limits(0, 300, whole=True)] = Range(5, 25)
    radius: Annotated[Parameter, Limits(1, 200)] = Range(3, 14)
    softness: Annotated[Parameter, Limits(0.5, 20)] = Range(1, 4)

    def __call__(self, image: Tensor, generator: torch.Generator) -> Degraded:
        """Return the image behind the drops."""
        count = draw_whole(self.count, generator)
        height, width = image.shape[1:]
        drops = random_drops(height, width, self.radius, count, generator)
        softness = draw(self.softness, generator)
        depth, rows, columns = refracted(height, width, drops, generator)
        mask = (depth / softness + 0.5).clamp(0, 1)
        mask = mask * mask * (3 - 2 * mask)
        light = to_linear(image)
        seen = looked_up(light, rows, columns) * (0.6 + 0.4 * (depth / (2 * softness)).clamp(0, 1))
        return Degraded(to_srgb(light + mask * (seen - light)), mask[None])


class DropSet(NamedTuple):
    """Ellipses and what they do, each (count, 1, 1): centre, half axes, how much they shrink the scene."""

    row: Tensor
    column: Tensor
    tall: Tensor
    wide: Tensor
    shrink: Tensor


def random_drops(height: int, width: int, radius: Parameter, count: int, generator: torch.Generator) -> DropSet:
    """Return drops at random places; gravity makes them up to 40 % taller than wide."""
    rows, columns = random_points(height, width, count, generator)
    radii = torch.tensor([draw(radius, generator) for _ in range(count)])
    stretch = 1 + 0.4 * torch.rand(count, generator=generator)
    shrink = SHRINK[0] + (SHRINK[1] - SHRINK[0]) * torch.rand(count, generator=generator)
    tall, wide = radii * stretch.sqrt(), radii / stretch.sqrt()
    return DropSet(*(values[:, None, None] for values in (rows, columns, tall, wide, shrink)))


def refracted(height: int, width: int, drops: DropSet, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return depth inside the nearest drop (pixels, negative outside) and the row and column seen, each (H, W).

    A smooth random displacement of all pixels makes the ellipses irregular.
    """
    y, x = pixel_grid(height, width)
    y = y + 1.5 * smooth_field(height, width, 2 + height // 12, generator)
    x = x + 1.5 * smooth_field(height, width, 2 + width // 12, generator)
    depth = torch.full((height, width), -1e9)
    rows, columns = torch.zeros(height, width), torch.zeros(height, width)
    for start in range(0, drops.row.shape[0], BATCH):
        some = DropSet(*(values[start : start + BATCH] for values in drops))
        down, right = y - some.row, x - some.column
        size = torch.minimum(some.tall, some.wide)
        inside, owner = (size - torch.hypot(down * (size / some.tall), right * (size / some.wide))).max(0, keepdim=True)
        nearer = inside[0] > depth
        depth = torch.where(nearer, inside[0], depth)
        rows = torch.where(nearer, (some.row - some.shrink * down).gather(0, owner)[0], rows)
        columns = torch.where(nearer, (some.column - some.shrink * right).gather(0, owner)[0], columns)
    return depth, rows, columns


def looked_up(light: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the blurred scene (3, H, W) at the given places, continued by reflection."""
    height, width = light.shape[1:]
    coarse = F.interpolate(light[None], (-(-height // COARSE), -(-width // COARSE)), mode="area")
    grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], -1)
    return F.grid_sample(coarse, grid[None], mode="bilinear", padding_mode="reflection", align_corners=False)[0]
