"""MATLAB's image functions, of which published evaluations are made: imresize, rgb2ycbcr, srgb2lab and ssim.

Resizing is one small matrix per side. Row ``i`` of it reads the input around ``u = (i + 1/2) / s - 1/2`` with Keys'
cubic (``a = -1/2``); when the image shrinks, ``s < 1``, the kernel is widened to ``s k(s x)``, which is the
antialiasing. Rows sum to one, and the image is mirrored at its border with the edge repeated. The side that shrinks
most goes first, and 8 bits are rounded after either side, as the array handed from one to the other keeps its class.

Lab is that of the ICC profile (``makecform('srgb2lab')``): relative to D50, sRGB's primaries adapted to it.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]

# Of rgb2ycbcr for 8 bits, in thousandths of a level: integers leave no doubt about halves.
_YCBCR = np.array([[65481, 128553, 24966], [-37797, -74203, 112000], [112000, -93786, -18214]], np.int64)
# The colorants of the sRGB profile (IEC 61966-2.1), 16.16 fixed point: columns R, G, B; rows X, Y, Z.
_D50 = np.array([[28578, 25241, 9376], [14581, 46981, 3972], [912, 6362, 46799]], np.float64) / 65536
_WHITE = np.array([0.9642, 1.0, 0.8249])


def imresize(image: NDArray, size: tuple[int, int]) -> NDArray:
    """Return an image resized to a height and width, as ``imresize(image, [height width])``.

    Arguments:
        image: (H, W, C) or (H, W), uint8 (rounded and clipped) or float64 (neither).
        size: in pixels.

    Raises:
        ValueError: if a side is less than one pixel, or the dtype is another.
    """
    return _resized(image, size, (size[0] / image.shape[0], size[1] / image.shape[1]))


def imrescale(image: NDArray, scale: float) -> NDArray:
    """Return an image scaled by a factor, as ``imresize(image, scale)``: its sides become ``ceil(scale * side)``.

    The factor itself places the samples, not the ratio of the rounded sides. See :func:`imresize`.
    """
    height, width = (math.ceil(scale * side) for side in image.shape[:2])
    return _resized(image, (height, width), (scale, scale))


def _resized(image: NDArray, size: tuple[int, int], scales: tuple[float, float]) -> NDArray:
    if min(size) < 1 or image.dtype not in (np.uint8, np.float64):
        raise ValueError(f"found {image.dtype} to {size}, expected uint8 or float64 to at least one pixel a side")
    for axis in sorted((0, 1), key=lambda axis: scales[axis]):
        matrix = resize_matrix(image.shape[axis], size[axis], scales[axis])
        values = np.moveaxis(np.tensordot(matrix, image.astype(np.float64), (1, axis)), 0, axis)
        image = np.floor(values.clip(0, 255) + 0.5).astype(np.uint8) if image.dtype == np.uint8 else values
    return image


def resize_matrix(length: int, wanted: int, scale: float) -> Floats:
    """Return the matrix (wanted, length) that resizes one side by the cubic kernel."""
    stretch = min(scale, 1.0)
    width = 4 / stretch
    centres = (np.arange(wanted) + 0.5) / scale - 0.5
    first = np.floor(centres + 1 - width / 2) - 1  # MATLAB counts from one: floor there, shift here
    places = first[:, None] + np.arange(math.ceil(width) + 2)
    weights = stretch * cubic(stretch * (centres[:, None] - places))
    weights /= weights.sum(1, keepdims=True)
    inside = places.astype(np.int64) % (2 * length)
    inside = np.where(inside < length, inside, 2 * length - 1 - inside)
    matrix = np.zeros((wanted, length))
    np.add.at(matrix, (np.arange(wanted)[:, None], inside), weights)
    return matrix


def cubic(x: NDArray[np.floating]) -> Floats:
    """Return Keys' cubic convolution kernel with ``a = -1/2``, of support 4."""
    x = np.abs(x.astype(np.float64))
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def rgb2ycbcr(image: Bytes) -> Bytes:
    """Return YCbCr of Rec. 601 for an RGB image (H, W, 3): Y from 16 to 235, Cb and Cr from 16 to 240, rounded."""
    scaled = image.astype(np.int64) @ _YCBCR.T
    return ((scaled + 127_500) // 255_000 + np.array([16, 128, 128])).astype(np.uint8)


def luma(image: Bytes) -> Bytes:
    """Return Y of :func:`rgb2ycbcr` for an RGB image (H, W, 3), of shape (H, W, 1)."""
    return rgb2ycbcr(image)[..., :1]


def srgb2lab(image: Floats) -> Floats:
    """Return CIE L*a*b* relative to D50 of an sRGB image (H, W, 3) in [0, 1]: L from 0 to 100.

    ``L = 116 f(Y) - 16``, ``a = 500 (f(X) - f(Y))``, ``b = 200 (f(Y) - f(Z))`` of ``X, Y, Z`` over the white, with
    ``f(t) = t^(1/3)`` above ``(6/29)^3`` and its tangent below. The tone curve is sRGB's formula; the profile tabulates
    it in 1024 entries of 16 bits.
    """
    linear = np.where(image <= 0.04045, image / 12.92, ((image.clip(0) + 0.055) / 1.055) ** 2.4)
    t = linear @ _D50.T / _WHITE
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def gaussian_window(size: int = 11, sigma: float = 1.5) -> Tensor:
    """Return a Gaussian of ``size`` samples whose sum is one, float64."""
    line = torch.exp(-((torch.arange(size, dtype=torch.float64) - size // 2) ** 2) / (2 * sigma**2))
    return line / line.sum()


def windowed(x: Tensor) -> Tensor:
    """Return images (..., H, W) blurred by the Gaussian of 11x11 where it fits, (..., H - 10, W - 10), float64.

    As sums of shifted copies, sixteen times as fast as torch's convolution of doubles.
    """
    line = gaussian_window().tolist()
    for axis in (-2, -1):
        length = x.shape[axis] - 10
        total = x.narrow(axis, 0, length) * line[0]
        for shift in range(1, 11):
            total.add_(x.narrow(axis, shift, length), alpha=line[shift])
        x = total
    return x


def ssim(a: NDArray, b: NDArray, peak: float = 255) -> float:
    """Return MATLAB's ``ssim`` of two arrays (H, W, C), which takes the colours for the third side of a volume.

    The Gaussian of 11x11x11, sigma 1.5, runs over the channels too, and the border is replicated in all three
    directions; the mean is over every voxel. So it is neither the mean of the channels' SSIM nor the SSIM of 2004,
    whose window stays inside the image. ``K = (.01, .03)``; float64 (recent versions of MATLAB use single precision
    for 8 bits).

    Arguments:
        a: an image, 8 bits or floats.
        b: another of the same shape.
        peak: the dynamic range, 255 or 1.
    """
    x, y = (torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1) for image in (a, b))
    mix = channel_mix(len(x))

    def blurred(volume: Tensor) -> Tensor:
        padded = F.pad(volume[None], (5, 5, 5, 5), mode="replicate")[0]
        return torch.einsum("dc,chw->dhw", mix, windowed(padded))

    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    mean_x, mean_y = blurred(x), blurred(y)
    var_x, var_y = blurred(x * x) - mean_x**2, blurred(y * y) - mean_y**2
    covariance = blurred(x * y) - mean_x * mean_y
    score = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float((score / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean())


def channel_mix(channels: int) -> Tensor:
    """Return the matrix (channels, channels) of the Gaussian along the channels, their border replicated."""
    mix = torch.zeros(channels, channels, dtype=torch.float64)
    for channel in range(channels):
        for offset, weight in zip(range(-5, 6), gaussian_window(), strict=True):
            mix[channel, min(max(channel + offset, 0), channels - 1)] += weight
    return mix
