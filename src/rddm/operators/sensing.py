"""Compressed sensing: few measurements, each of which sees every pixel of a channel."""

import math

import torch
from torch import Tensor

from rddm.errors import UserError
from rddm.operators.base import Decomposed, Shape, truncated

MOST = 4096  # pixels of a channel for which a matrix is made


class Hadamard(Decomposed):
    """Coefficients of the Walsh-Hadamard transform of each channel, its pixels permuted; all singular values are 1.

    Arguments:
        shape: of an image, (C, H, W), H times W a power of two.
        share: of the coefficients that are measured, in (0, 1].
        seed: of the permutation.

    Raises:
        UserError: if the share or the shape is none.
    """

    def __init__(self, shape: Shape, share: float, seed: int = 0) -> None:
        self.name, pixels = f"cs({share:g})", shape[1] * shape[2]
        count = counted(self.name, share, pixels)
        if pixels & (pixels - 1):
            found = f"{shape[1]}x{shape[2]} = {pixels} pixels"
            raise UserError(f"{self.name}: found {found}, expected a power of two, such as 32x32")
        self.shape, self.measured, self.count = shape, (shape[0], count), count
        self.order = torch.randperm(pixels, generator=torch.Generator().manual_seed(seed))
        self.mask = (torch.arange(pixels) < count).double()[None, None]

    def U(self, x: Tensor) -> Tensor:
        """Return the measurements (B, C, M) of coefficients (B, C, H W)."""
        return x[..., : self.count]

    def U_adjoint(self, x: Tensor) -> Tensor:
        """Return the coefficients of measurements, zero for what is not measured."""
        return torch.nn.functional.pad(x, (0, self.mask.shape[-1] - self.count))

    def V(self, x: Tensor) -> Tensor:
        """Return the images of coefficients."""
        pixels = torch.empty_like(x)
        pixels[..., self.order] = transform(x)
        return pixels.unflatten(-1, self.shape[1:])

    def V_adjoint(self, x: Tensor) -> Tensor:
        """Return the coefficients of images."""
        return transform(x.flatten(2)[..., self.order])


def transform(x: Tensor) -> Tensor:
    """Return the orthonormal Walsh-Hadamard transform along the last axis, its own inverse."""
    length = x.shape[-1]
    half = 1
    while half < length:
        pairs = x.unflatten(-1, (-1, 2, half))
        first, second = pairs.unbind(-2)
        x = torch.stack([first + second, first - second], -2).flatten(-3)
        half *= 2
    return x / math.sqrt(length)


class Dense(Decomposed):
    """A matrix on the pixels of each channel.

    Arguments:
        shape: of an image, (C, H, W).
        matrix: (M, H W), M at most H W.
        name: how complaints call it.

    Raises:
        UserError: if the matrix does not fit, or the image is too large for one.
    """

    def __init__(self, shape: Shape, matrix: Tensor, name: str = "dense") -> None:
        pixels = shape[1] * shape[2]
        if matrix.ndim != 2 or matrix.shape[1] != pixels or len(matrix) > pixels:
            raise UserError(f"{name}: found a matrix of {tuple(matrix.shape)}, expected at most {pixels} x {pixels}")
        self.name, self.shape, self.measured = name, shape, (shape[0], len(matrix))
        self.left, values, self.right = torch.linalg.svd(matrix.double(), full_matrices=True)
        self.mask = torch.nn.functional.pad(truncated(values), (0, pixels - len(values)))[None, None]

    def U(self, x: Tensor) -> Tensor:
        """Return the measurements (B, C, M) of coefficients (B, C, H W)."""
        return x[..., : len(self.left)] @ self.left.T.to(x)

    def U_adjoint(self, x: Tensor) -> Tensor:
        """Return the coefficients of measurements, zero for what is not measured."""
        return torch.nn.functional.pad(x @ self.left.to(x), (0, len(self.right) - len(self.left)))

    def V(self, x: Tensor) -> Tensor:
        """Return the images of coefficients."""
        return (x @ self.right.to(x)).unflatten(-1, self.shape[1:])

    def V_adjoint(self, x: Tensor) -> Tensor:
        """Return the coefficients of images."""
        return x.flatten(2) @ self.right.T.to(x)


def random_projection(shape: Shape, share: float, seed: int = 0) -> Dense:
    """Return measurements that each weigh the pixels of a channel with independent normal numbers.

    Their variance is 1 / M, so that a measurement is on average as long as the image.

    Raises:
        UserError: if the share is none, or the image has more than 64x64 pixels.
    """
    name, pixels = f"random_cs({share:g})", shape[1] * shape[2]
    count = counted(name, share, pixels)
    if pixels > MOST:
        raise UserError(f"{name}: found {shape[1]}x{shape[2]} pixels, expected at most {MOST}, or cs({share:g})")
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(count, pixels, generator=generator, dtype=torch.float64) / math.sqrt(count)
    return Dense(shape, matrix, name)


def counted(name: str, share: float, pixels: int) -> int:
    """Return the number of measurements.

    Raises:
        UserError: unless the share lies in (0, 1].
    """
    if not 0 < share <= 1:
        raise UserError(f"{name}: found a share of {share:g}, expected more than 0 and at most 1")
    return max(1, round(share * pixels))
