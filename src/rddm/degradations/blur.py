"""Blurs: of focus, of the subject's motion, of the hand, and the Gaussian that stands for all lenses' small faults.

Each is a convolution of linear light with a kernel that is the same over the whole image (``kernels.py``). What moves
or lies at other depths than the rest is not modelled.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from rddm.degradations import kernels
from rddm.degradations.base import Degraded, Limits, Parameter, Parametrised, Range, draw
from rddm.degradations.light import to_linear, to_srgb


def blurred(image: Tensor, kernel: Tensor) -> Degraded:
    """Return ``image``, sRGB, blurred in linear light."""
    return Degraded(to_srgb(kernels.convolve(to_linear(image), kernel)))


@dataclass(frozen=True)
class Defocus(Parametrised):
    """Blur of a lens out of focus: the kernel is the image of its aperture, a disc.

    Arguments:
        radius: of the disc, pixels.
    """

    name: ClassVar[str] = "defocus"
    radius: Annotated[Parameter, Limits(0, 50)]

    def __call__(self, image: Tensor, generator: torch.Generator) -> Degraded:
        """Return the blurred image."""
        return blurred(image, kernels.disc(draw(self.radius, generator)))


@dataclass(frozen=True)
class GaussianBlur(Parametrised):
    """Gaussian blur.

    Arguments:
        sigma: standard deviation, pixels.
    """

    name: ClassVar[str] = "blur"
    sigma: Annotated[Parameter, Limits(0, 20)]

    def __call__(self, image: Tensor, generator: torch.Generator) -> Degraded:
        """Return the blurred image."""
        return blurred(image, kernels.gaussian(draw(self.sigma, generator)))


@dataclass(frozen=True)
class Motion(Parametrised):
    """Blur of an even motion along a straight line during the exposure.

    Arguments:
        length: of the path, pixels.
        angle: of the path, degrees anticlockwise from the image's +x axis.
    """

    name: ClassVar[str] = "motion"
    length: Annotated[Parameter, Limits(0, 100)]
    angle: Annotated[Parameter, Limits(-360, 360)] = Range(0, 180)

    def __call__(self, image: Tensor, generator: torch.Generator) -> Degraded:
        """Return the blurred image."""
        length = draw(self.length, generator)
        return blurred(image, kernels.line(length, draw(self.angle, generator)))


@dataclass(frozen=True)
class Shake(Parametrised):
    """Blur of a camera held by hand: a random curve, see ``kernels.shaken``.

    Arguments:
        size: of the curve at its widest, pixels.
    """

    name: ClassVar[str] = "shake"
    size: Annotated[Parameter, Limits(0, 100)]

    def __call__(self, image: Tensor, generator: torch.Generator) -> Degraded:
        """Return the blurred image."""
        return blurred(image, kernels.shaken(draw(self.size, generator), generator))
