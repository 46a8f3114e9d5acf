"""Light and its encoding.

A lens, a shutter, haze and shadows act on light, which adds; an image file holds an encoding of it that does not. The
sRGB encoding (IEC 61966-2-1) is close to a power 1/2.2, so that the mean of black and white, 0.5 of the light, is 0.735
of the code: blurring codes instead of light makes lamps dim and edges dark. Degradations of light therefore decode,
act and encode. Those that act on files (JPEG, the bicubic downscaling of benchmarks) act on codes.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def to_linear(code: Tensor) -> Tensor:
    """Return the light of sRGB codes, both in [0, 1], after clamping them: ``c/12.92`` or ``((c+.055)/1.055)^2.4``."""
    code = code.clamp(0, 1)
    return torch.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


def to_srgb(light: Tensor) -> Tensor:
    """Return the sRGB codes of light, both in [0, 1], after clamping it (a sensor and a file saturate)."""
    light = light.clamp(0, 1)
    return torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def eight_bit(code: Tensor) -> Tensor:
    """Return the codes as a file of 8 bits holds them: clamped to [0, 1] and rounded to multiples of 1/255."""
    return (code.clamp(0, 1) * 255).round() / 255


def smooth_field(height: int, width: int, cells: int, generator: torch.Generator) -> Tensor:
    """Return a random smooth surface (height, width) of about unit variance and zero mean.

    ``cells`` is the number of bumps along a side: normal numbers on a coarse grid, joined by bicubic interpolation.
    """
    coarse = torch.randn(1, 1, cells + 1, cells + 1, generator=generator)
    return F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)[0, 0]


def pixel_grid(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the row and column of each pixel's centre, shaped (height, 1) and (1, width), to broadcast."""
    return torch.arange(height, dtype=torch.float32)[:, None], torch.arange(width, dtype=torch.float32)[None]
