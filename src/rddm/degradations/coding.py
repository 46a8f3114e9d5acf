"""What files and resizing do to an image: they act on codes, not on light."""

import io
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from rddm.degradations.base import Degraded, Limits, Parameter, Parametrised, draw, draw_whole
from rddm.degradations.light import eight_bit

_SUBSAMPLING = {1: "4:4:4", 2: "4:2:0"}


@dataclass(frozen=True)
class Downscale(Parametrised):
    """Bicubic downscaling, 8-bit rounding, and bicubic upscaling to the size it had.

    Both are antialiased with Keys' kernel of a = -1/2 (IEEE TASSP 29 (1981) 1153), as in Pillow and MATLAB, which is
    how the benchmarks of super-resolution are made. The small image has ``max(1, round(side / factor))`` pixels a side;
    the two scales follow from the sizes, so that nothing shifts where a side is not a multiple of the factor.

    Arguments:
        factor: by which height and width are divided.
    """

    name: ClassVar[str] = "downscale"
    factor: Annotated[Parameter, Limits(1, 32)]

    def __call__(self, image: Tensor, generator: torch.Generator) -> Degraded:
        """Return the image that lost its detail, of the size it had."""
        factor = draw(self.factor, generator)
        height, width = image.shape[1:]
        small = eight_bit(resized(image, max(1, round(height / factor)), max(1, round(width / factor))))
        return Degraded(resized(small, height, width).clamp(0, 1))


def resized(image: Tensor, height: int, width: int) -> Tensor:
    """Return ``image`` (C, H, W) at another size: bicubic, a = -1/2, antialiased when smaller."""
    # antialias chooses a = -1/2 instead of -3/4 and, when enlarging, changes nothing else.
    return F.interpolate(image[None], (height, width), mode="bicubic", antialias=True)[0]


@dataclass(frozen=True)
class Jpeg(Parametrised):
    """JPEG compression by Pillow (libjpeg), after rounding to 8 bits.

    Arguments:
        quality: of libjpeg, 1 to 100.
        chroma: 2 if colours have half the resolution (4:2:0, what cameras and the web use), 1 if all (4:4:4).
    """

    name: ClassVar[str] = "jpeg"
    quality: Annotated[Parameter, Limits(1, 100, whole=True)]
    chroma: Annotated[Parameter, Limits(1, 2, whole=True)] = 2

    def __call__(self, image: Tensor, generator: torch.Generator) -> Degraded:
        """Return the image as it is read back."""
        quality, chroma = draw_whole(self.quality, generator), draw_whole(self.chroma, generator)
        pixels = (eight_bit(image) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=_SUBSAMPLING[chroma])
        decoded = np.array(Image.open(file))
        return Degraded(torch.from_numpy(decoded).permute(2, 0, 1).float().div(255).contiguous())
