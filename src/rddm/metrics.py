"""Distances between images of 8 bits, as published evaluations compute them.

``PSNR = 10 log10(peak^2 / mse)`` counts errors alone. SSIM compares, in a window around each pixel, the means, the
spreads and the correlation: ``(2 m_x m_y + c1)(2 s_xy + c2) / ((m_x^2 + m_y^2 + c1)(s_x^2 + s_y^2 + c2))``. MS-SSIM
multiplies its second factor over five scales, each to a power fitted to what people see, and takes the first factor at
the coarsest only.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from rddm.matlab import Bytes, Floats, luma, srgb2lab, windowed

SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, from the finest


def psnr(a: NDArray, b: NDArray, peak: float = 255) -> float:
    """Return the peak signal-to-noise ratio ``10 log10(peak^2 / mse)`` in dB, infinite for equal images.

    Arguments:
        a: an image.
        b: another of the same shape.
        peak: the greatest value, 255 for 8 bits.

    Raises:
        ValueError: if the shapes differ.
    """
    check_shapes(a, b)
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return float(10 * np.log10(peak**2 / error)) if error > 0 else float("inf")


def ssim(a: NDArray, b: NDArray) -> float:
    """Return the structural similarity of two images of 8 bits, the mean over channels and pixels.

    Gaussian window of 11x11, sigma 1.5, where it fits; ``K = (.01, .03)``, ``L = 255``. Source: Wang et al., Image
    Quality Assessment, IEEE TIP 2004, and its authors' program.

    Arguments:
        a: an image (H, W, C), at least 11 pixels on each side.
        b: another of the same shape.

    Raises:
        ValueError: if the shapes differ, or the window does not fit.
    """
    check_shapes(a, b, 11)
    light, structure = similarity(channels(a), channels(b))
    return float((light * structure).mean())


def ms_ssim(a: NDArray, b: NDArray) -> float:
    """Return the multi-scale structural similarity of two images of 8 bits, the mean over channels.

    ``mean(light * structure at scale 5)^w5 prod_j mean(structure at scale j)^w_j``, ``j`` from 1 to 4; between scales
    the mean of 2x2 pixels. A negative mean counts as 0, where the power is not defined. Source: Wang, Simoncelli and
    Bovik, Multiscale structural similarity, Asilomar 2003.

    Arguments:
        a: an image (H, W, C), at least 161 pixels on each side.
        b: another of the same shape.

    Raises:
        ValueError: if the shapes differ, or the window does not fit at the coarsest scale.
    """
    check_shapes(a, b, 161)
    x, y = channels(a), channels(b)
    score = torch.ones(len(x), dtype=torch.float64)
    for scale, weight in enumerate(SCALES):
        light, structure = similarity(x, y)
        last = scale == len(SCALES) - 1
        mean = (light * structure if last else structure).mean((1, 2, 3))
        score = score * mean.clamp(min=0) ** weight
        x, y = halved(x), halved(y)
    return float(score.mean())


def check_shapes(a: NDArray, b: NDArray, side: int = 1) -> None:
    """Raise ValueError unless two images are of one shape, with at least ``side`` pixels on each side."""
    if a.shape != b.shape or min(a.shape[:2]) < side:
        raise ValueError(f"found {a.shape} and {b.shape}, expected one shape of at least {side}x{side} pixels")


def channels(image: NDArray) -> Tensor:
    """Return an image (H, W, C) as float64 of shape (C, 1, H, W)."""
    return torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)[:, None]


def similarity(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return SSIM's two factors, of the means and of the structure, where the window fits, each (C, 1, H-10, W-10)."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_x, mean_y = windowed(x), windowed(y)
    var_x, var_y = windowed(x * x) - mean_x**2, windowed(y * y) - mean_y**2
    covariance = windowed(x * y) - mean_x * mean_y
    light = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return light, (2 * covariance + c2) / (var_x + var_y + c2)


def halved(x: Tensor) -> Tensor:
    """Return the means of 2x2 pixels, an odd side's last pixel repeated."""
    padded = F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2), mode="replicate")
    return F.avg_pool2d(padded, 2)


def lab_error(a: Floats, b: Floats, mask: NDArray[np.bool_] | None = None) -> float:
    """Return the error in Lab: ``sum over the mask of |dL| + |da| + |db|, over the number of its pixels``.

    The three channels are summed, not averaged, as evaluations of shadow removal do, though they call it MAE or RMSE.

    Arguments:
        a: sRGB (H, W, 3) in [0, 1].
        b: another.
        mask: where (H, W); everywhere if None.

    Raises:
        ValueError: if the mask is empty.
    """
    error = np.abs(srgb2lab(a) - srgb2lab(b)).sum(2)
    if mask is not None and not mask.any():
        raise ValueError("found a mask of all or nothing, expected some pixels on either side of it")
    return float(error.mean() if mask is None else error[mask].mean())


def on_luma(metric: Callable[[NDArray, NDArray], float]) -> Callable[[Bytes, Bytes], float]:
    """Return a metric of the Y of two RGB images."""
    return lambda a, b: metric(luma(a), luma(b))


def unit_range(image: Bytes) -> Tensor:
    """Return an image (H, W, 3) of 8 bits in [0, 1], (1, 3, H, W)."""
    return torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None] / 255


METRICS: dict[str, Callable[[Bytes, Bytes], float]] = {
    "psnr-rgb": psnr,
    "psnr-y": on_luma(psnr),
    "ssim-rgb": ssim,
    "ssim-y": on_luma(ssim),
    "ms-ssim-rgb": ms_ssim,
}
"""By name: RGB images (H, W, 3) of 8 bits in; the higher the better."""
