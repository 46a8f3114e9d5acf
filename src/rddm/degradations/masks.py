"""Inpainting: parts of the image are missing.

Missing pixels become mid grey, ``c' = (1 - m) c + m / 2``: zero where networks see images in [-1, 1], so that the
degraded image holds nothing about them but that they are missing. The mask ``m`` is 0 or 1; 1 is missing.
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from rddm.degradations.base import Degraded, Limits, Parameter, Parametrised, Range, draw, uniform

GREY = 0.5
STEPS = 24  # of one stroke


def masked(image: Tensor, mask: Tensor) -> Degraded:
    """Return ``image`` with grey where ``mask`` (1, H, W) is 1, and the mask."""
    return Degraded(image + mask * (GREY - image), mask)


@dataclass(frozen=True)
class CentreMask(Parametrised):
    """A missing rectangle in the middle, of the image's proportions.

    Arguments:
        share: of the area that is missing; a quarter is the usual centre mask.
    """

    name: ClassVar[str] = "centre_mask"
    share: Annotated[Parameter, Limits(0, 1)] = 0.25

    def __call__(self, image: Tensor, generator: torch.Generator) -> Degraded:
        """Return the image without its middle, and where that is."""
        scale = math.sqrt(draw(self.share, generator))
        height, width = image.shape[1:]
        tall, wide = round(height * scale), round(width * scale)
        top, left = (height - tall) // 2, (width - wide) // 2
        mask = torch.zeros(1, height, width)
        mask[:, top : top + tall, left : left + wide] = 1
        return masked(image, mask)


@dataclass(frozen=True)
class IrregularMask(Parametrised):
    """Missing brush strokes: random walks of random width, until their share of the area is reached.

    The share is exceeded by less than one step of the brush, about 1 % of the area.

    Arguments:
        share: of the area that is missing.
    """

    name: ClassVar[str] = "irregular_mask"
    share: Annotated[Parameter, Limits(0, 0.9)] = Range(0.1, 0.5)

    def __call__(self, image: Tensor, generator: torch.Generator) -> Degraded:
        """Return the image without the strokes, and where they are."""
        strokes = painted(image.shape[1], image.shape[2], draw(self.share, generator), generator)
        return masked(image, strokes)


def painted(height: int, width: int, share: float, generator: torch.Generator) -> Tensor:
    """Return strokes (1, height, width) of 0 and 1 that cover at least ``share`` of the area."""
    canvas = Image.new("L", (width, height))
    brush = ImageDraw.Draw(canvas)
    missing = share * height * width
    while missing > 0:
        y, x = uniform(0, height, generator), uniform(0, width, generator)
        radius = min(height, width) * uniform(0.015, 0.06, generator)
        turns = torch.randn(STEPS, generator=generator).mul(0.3).cumsum(0) + uniform(0, 2 * math.pi, generator)
        for turn in turns.tolist():
            ahead = y + radius * math.sin(turn), x + radius * math.cos(turn)
            brush.line((x, y, ahead[1], ahead[0]), fill=1, width=max(1, round(2 * radius)))
            y, x = ahead
            brush.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
            if np.count_nonzero(np.asarray(canvas)) >= missing:
                return torch.from_numpy(np.array(canvas, np.float32))[None]
    return torch.zeros(1, height, width)
