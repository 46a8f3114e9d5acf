"""A space of features of small images that is a formula: brightness and colour in cells, and amplitudes of wavelets.

An image is cut into 4x4 cells. Of each, the features are the mean of its luma and of both chromas, and at each octave,
from full size down to 16 pixels, the mean of ``log(|x * psi| + 0.02)`` for complex Gabor wavelets ``psi`` of four
orientations on luma. Chroma has the same over the whole image, from half its size on. Nothing is learned: the space
knows texture, colour and layout, and nothing of cats. A scattering transform of one layer, in logarithms (Bruna and
Mallat, Invariant scattering convolution networks, TPAMI 2013, have two).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from rddm.errors import UserError

CELLS = 4  # the grid, on which layout is judged
SMALLEST = 16  # pixels on the coarsest octave's side: below, a cell has less than a wavelet
QUIET = 0.02  # amplitudes below 2.5 of 255 are silence
BRIGHTNESS, COLOUR, AMPLITUDE = 2.0, 8.0, 2.0  # give each a standard deviation of about .5 to 1 over cats
BATCH = 256


def gabor(orientations: int = 4, size: int = 7) -> Tensor:
    """Return complex Gabor wavelets without mean, 0.3 cycles per pixel, sigma 1.2: real parts, then imaginary ones.

    Returns:
        (2 * orientations, 1, size, size); a wave of its frequency and amplitude 1 has a response of modulus 1.
    """
    offset = torch.arange(size, dtype=torch.float64) - size // 2
    angle = torch.arange(orientations, dtype=torch.float64)[:, None, None] * math.pi / orientations
    wave = torch.polar(
        torch.ones(1, dtype=torch.float64),
        0.6 * math.pi * (offset * torch.cos(angle) + offset[:, None] * torch.sin(angle)),
    )
    window = torch.exp(-(offset**2 + offset[:, None] ** 2) / (2 * 1.2**2))
    wavelet = window * (wave - (window * wave).sum((1, 2), keepdim=True) / window.sum())
    wavelet = wavelet / (wavelet * wave.conj()).sum((1, 2), keepdim=True).abs()
    return torch.cat([wavelet.real, wavelet.imag])[:, None].float()


def loudness(plane: Tensor, wavelets: Tensor, cells: int) -> Tensor:
    """Return the mean logarithm of amplitudes in cells, (N, C * orientations * cells^2), for planes (N, C, H, W)."""
    count, around = len(plane), wavelets.shape[-1] // 2
    padded = F.pad(plane.flatten(0, 1)[:, None], (around,) * 4, mode="reflect")
    real, imaginary = F.conv2d(padded, wavelets).chunk(2, dim=1)
    heard = torch.log(torch.hypot(real, imaginary) + QUIET)
    return AMPLITUDE * F.adaptive_avg_pool2d(heard, cells).reshape(count, -1)


def octaves(plane: Tensor, wavelets: Tensor, cells: int) -> list[Tensor]:
    """Return the loudness of planes (N, C, H, W) and of all their halvings down to the smallest."""
    found = []
    while min(plane.shape[-2:]) >= SMALLEST:
        found.append(loudness(plane, wavelets, cells))
        plane = F.avg_pool2d(plane, 2)
    return found


def described(images: Tensor) -> Tensor:
    """Return the features of a batch."""
    red, green, blue = images.unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    chroma = torch.stack([0.564 * (blue - luma), 0.713 * (red - luma)], dim=1)
    wavelets = gabor().to(images)
    parts = [BRIGHTNESS * F.adaptive_avg_pool2d(luma, CELLS), COLOUR * F.adaptive_avg_pool2d(chroma, CELLS)]
    parts += octaves(luma[:, None], wavelets, CELLS)
    parts += octaves(F.avg_pool2d(chroma, 2), wavelets, 1)  # nobody sees the finest octave of colour, and JPEG drops it
    return torch.cat([part.flatten(1) for part in parts], dim=1)


def features(images: Tensor) -> Tensor:
    """Return the features of images in the space "wavelet": 184 numbers at 32x32, 256 at 64x64.

    Arguments:
        images: (N, 3, H, W) in [-1, 1], 16 pixels or more on each side.

    Raises:
        UserError: for another shape or range.
    """
    check(images)
    with torch.no_grad():
        return torch.cat([described(part.float()) for part in images.split(BATCH)])


def check(images: Tensor, fewest: int = 1) -> None:
    """Raise UserError unless these are enough RGB images in [-1, 1]."""
    if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < SMALLEST:
        raise UserError(
            f"images: found shape {tuple(images.shape)}, expected (N, 3, H, W) of {SMALLEST} pixels or more"
        )
    if len(images) < fewest:
        raise UserError(f"images: found {len(images)}, expected at least {fewest}")
    low, high = float(images.min()), float(images.max())
    if not (images.is_floating_point() and low >= -1.001 and high <= 1.001):  # also false for nan
        raise UserError(f"images: found {images.dtype} values from {low:g} to {high:g}, expected floats in [-1, 1]")
