"""Distances between images of 8 bits, as published evaluations compute them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

Bytes = NDArray[np.uint8]


def psnr(a: Bytes, b: Bytes) -> float:
    """Return the peak signal-to-noise ratio ``10 log10(255^2 / mse)`` in dB, infinite for equal images."""
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return float(10 * np.log10(255**2 / error)) if error > 0 else float("inf")


def ssim(a: Bytes, b: Bytes) -> float:
    """Return the structural similarity, the mean over channels and pixels.

    Gaussian window of 11x11, sigma 1.5, where it fits; ``K = (.01, .03)``, ``L = 255``. Source: Wang et al., Image
    Quality Assessment, IEEE TIP 2004, and its authors' program.

    Arguments:
        a: an image (H, W, C), at least 11 pixels on each side.
        b: another of the same shape.
    """
    x, y = (torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)[:, None] for image in (a, b))
    line = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
    line = line / line.sum()

    def blurred(image: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.conv2d(image, line.view(1, 1, 11, 1)), line.view(1, 1, 1, 11))

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_x, mean_y = blurred(x), blurred(y)
    var_x, var_y = blurred(x * x) - mean_x**2, blurred(y * y) - mean_y**2
    covariance = blurred(x * y) - mean_x * mean_y
    score = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float((score / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean())


def luma(image: Bytes) -> Bytes:
    """Return Y of MATLAB's ``rgb2ycbcr`` for an RGB image (H, W, 3): 16 to 235, rounded, of shape (H, W, 1)."""
    y = 16 + image.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255
    return np.floor(y + 0.5).astype(np.uint8)[..., None]
