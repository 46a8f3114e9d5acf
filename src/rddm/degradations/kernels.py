"""Blur kernels, and the convolution with them.

A blurred image is ``(k * L)(p) = sum_q k(q) L(p - q)`` of the light ``L``. ``k >= 0`` because light is, and
``sum k = 1`` because a blur moves light without making any. Kernels have odd sides with the origin in the middle, and
are antialiased: a pixel holds the share of light that falls on its area, so that lengths and radii need not be whole
and grow without jumps from the point at 0.
"""

import math

import torch
from torch import Tensor


def disc(radius: float) -> Tensor:
    """Return the image of a point out of focus: a disc of ``radius`` pixels, uniform, its edge one pixel soft."""
    y, x = _offsets(math.ceil(radius))
    kernel = (radius + 0.5 - torch.hypot(y, x)).clamp(0, 1)
    return kernel / kernel.sum()


def gaussian(sigma: float) -> Tensor:
    """Return the Gaussian of standard deviation ``sigma`` pixels, integrated over each pixel, cut at 4 sigma."""
    _, x = _offsets(math.ceil(4 * sigma))
    scale = max(sigma, 1e-6) * math.sqrt(2)
    profile = torch.erf((x[0] + 0.5) / scale) - torch.erf((x[0] - 0.5) / scale)
    profile = profile / profile.sum()
    return profile[:, None] * profile


def line(length: float, angle: float) -> Tensor:
    """Return the trace of a point that moves evenly over ``length`` pixels, ``angle`` degrees anticlockwise from +x."""
    count = 8 * math.ceil(length) + 1
    along = ((torch.arange(count) + 0.5) / count - 0.5) * length
    turn = math.radians(angle)
    return trace(-along * math.sin(turn), along * math.cos(turn))


def shaken(size: float, generator: torch.Generator) -> Tensor:
    """Return the trace of a hand that shakes during the exposure, ``size`` pixels across at its widest.

    Each coordinate is a random Fourier series ``sum_k a_k cos(pi k t + f_k) / k^2``, t from 0 to 1: the muscles' force
    is white over the few lowest frequencies and position is its second integral. The hand dwells where it turns.
    """
    k = torch.arange(1, 7)
    amplitudes = torch.randn(2, 6, 1, generator=generator) / k[:, None] ** 2
    phases = torch.rand(2, 6, 1, generator=generator) * 2 * math.pi
    times = torch.linspace(0, 1, 16 * math.ceil(size) + 1)
    path = (amplitudes * torch.cos(math.pi * k[:, None] * times + phases)).sum(1)
    path = path - path.mean(1, keepdim=True)
    turns = torch.linspace(0, math.pi, 19)[:-1, None]
    extents = turns.cos() * path[0] + turns.sin() * path[1]
    widest = float((extents.amax(1) - extents.amin(1)).max())
    rows, columns = path * (size / max(widest, 1e-6))
    return trace(rows, columns)


def trace(rows: Tensor, columns: Tensor) -> Tensor:
    """Return the kernel of a path given by points (N,) at equal times, in pixels from the origin, split bilinearly."""
    radius = math.ceil(float(torch.stack([rows, columns]).abs().max())) + 1
    kernel = torch.zeros(2 * radius + 1, 2 * radius + 1)
    splat(kernel, rows + radius, columns + radius, torch.full_like(rows, 1 / len(rows)))
    return kernel


def splat(canvas: Tensor, rows: Tensor, columns: Tensor, weights: Tensor) -> None:
    """Add ``weights`` (N,) to ``canvas`` (H, W) at points between pixels, split bilinearly; outside they are lost."""
    height, width = canvas.shape
    top, left = rows.floor(), columns.floor()
    for i in (0, 1):
        for j in (0, 1):
            share = (1 - (rows - top - i).abs()) * (1 - (columns - left - j).abs()) * weights
            y, x = (top + i).long(), (left + j).long()
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            canvas.view(-1).index_add_(0, (y * width + x)[inside], share[inside])


def random_points(height: float, width: float, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return rows and columns (count,) of points spread evenly over an area."""
    return torch.rand(count, generator=generator) * height, torch.rand(count, generator=generator) * width


def convolve(light: Tensor, kernel: Tensor) -> Tensor:
    """Return ``light`` (C, H, W) blurred by ``kernel`` (2r+1, 2r+1), the border reflected, through the FFT.

    The reflection goes back and forth as often as it must, so that a kernel may be larger than the image.
    """
    height, width = light.shape[-2:]
    radius = kernel.shape[-1] // 2
    padded = light[..., reflected(height, radius), :][..., reflected(width, radius)]
    # What wraps round falls on the first 2r rows and columns, which are cut; 16 because the FFT is slow at odd sizes.
    shape = [-(-side // 16) * 16 for side in padded.shape[-2:]]
    product = torch.fft.rfft2(padded, s=shape) * torch.fft.rfft2(kernel, s=shape)
    whole = torch.fft.irfft2(product, s=shape)
    return whole[..., 2 * radius : 2 * radius + height, 2 * radius : 2 * radius + width]


def reflected(length: int, pad: int) -> Tensor:
    """Return the indices (length + 2 pad,) that continue ``0 .. length-1`` by reflection, without repeating an end."""
    period = max(2 * (length - 1), 1)
    index = torch.arange(-pad, length + pad).abs() % period
    return torch.minimum(index, period - index)


def _offsets(radius: int) -> tuple[Tensor, Tensor]:
    """Return rows and columns, each (2 radius + 1, 2 radius + 1), of a kernel's pixels from its origin."""
    side = torch.arange(-radius, radius + 1, dtype=torch.float32)
    y, x = torch.meshgrid(side, side, indexing="ij")
    return y, x
