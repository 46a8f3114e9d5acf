"""Separable operators: a matrix for the channels, one for the rows and one for the columns.

``y = (C x R x K) x`` with Kronecker products, so the singular value decomposition is that of three small matrices.
Averages of blocks, bicubic downscaling, blurs with a separable kernel and grey are such operators, and so is any chain
of them.
"""

from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from rddm.errors import UserError
from rddm.operators.base import Decomposed, Shape, truncated

AXES = (1, 2, 3)


class Kronecker(Decomposed):
    """A matrix on each axis of an image; None leaves the axis as it is.

    Arguments:
        name: how complaints call it.
        shape: of an image, (C, H, W).
        matrices: for channels, rows and columns, each (outputs, inputs) float64 with outputs <= inputs.
    """

    def __init__(self, name: str, shape: Shape, matrices: tuple[Tensor | None, Tensor | None, Tensor | None]) -> None:
        self.name, self.shape, self.matrices = name, shape, matrices
        self.measured = tuple(n if m is None else len(m) for n, m in zip(shape, matrices, strict=True))

    @cached_property
    def factors(self) -> list[tuple[Tensor, Tensor, Tensor] | None]:
        """The decompositions ``(U, s, V^T)`` of the matrices, ``U`` and ``V^T`` square."""
        return [None if m is None else tuple(torch.linalg.svd(m, full_matrices=True)) for m in self.matrices]

    @cached_property
    def mask(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The singular values, (1, C, H, W) float64, zero for what is not measured."""
        product = torch.ones(1, *self.shape, dtype=torch.float64)
        for axis, factor in zip(AXES, self.factors, strict=True):
            if factor is not None:
                values = F.pad(factor[1], (0, self.shape[axis - 1] - len(factor[1])))
                product = product * values.view(*(-1 if i == axis else 1 for i in range(4)))
        return truncated(product)

    def U(self, x: Tensor) -> Tensor:
        """Return the measurements (B, C', H', W') of coefficients (B, C, H, W)."""
        for axis, factor in zip(AXES, self.factors, strict=True):
            if factor is not None:
                x = along(axis, factor[0], x.narrow(axis, 0, len(factor[0])))
        return x

    def U_adjoint(self, x: Tensor) -> Tensor:
        """Return the coefficients of measurements, zero for what is not measured."""
        for axis, factor in zip(AXES, self.factors, strict=True):
            if factor is not None:
                x = along(axis, factor[0].T, x)
                x = F.pad(x, (*(0, 0) * (3 - axis), 0, self.shape[axis - 1] - x.shape[axis]))
        return x

    def V(self, x: Tensor) -> Tensor:
        """Return the images of coefficients."""
        for axis, factor in zip(AXES, self.factors, strict=True):
            x = x if factor is None else along(axis, factor[2].T, x)
        return x

    def V_adjoint(self, x: Tensor) -> Tensor:
        """Return the coefficients of images."""
        for axis, factor in zip(AXES, self.factors, strict=True):
            x = x if factor is None else along(axis, factor[2], x)
        return x


def along(axis: int, matrix: Tensor, x: Tensor) -> Tensor:
    """Return ``x`` with ``matrix`` (outputs, inputs) applied along one axis."""
    return (x.movedim(axis, -1) @ matrix.T.to(x)).movedim(-1, axis)


def product(first: Kronecker, then: Kronecker) -> Kronecker:
    """Return the operator that applies ``first``, then ``then``."""
    matrices = tuple(
        b if a is None else a if b is None else b @ a for a, b in zip(first.matrices, then.matrices, strict=True)
    )
    return Kronecker(f"{first.name} + {then.name}", first.shape, matrices)  # pyright: ignore[reportArgumentType]


def block_average(shape: Shape, factor: int) -> Kronecker:
    """Return the operator that averages blocks of ``factor`` times ``factor`` pixels.

    Raises:
        UserError: if the factor does not divide the sides.
    """
    name = f"sr({factor})"
    height, width = divided(name, shape, factor)
    return Kronecker(name, shape, (None, averages(height, factor), averages(width, factor)))


def bicubic(shape: Shape, factor: int) -> Kronecker:
    """Return bicubic downscaling as Pillow and MATLAB do it: antialiased, a = -1/2.

    Raises:
        UserError: if the factor does not divide the sides.
    """
    name = f"bicubic({factor})"
    height, width = divided(name, shape, factor)
    return Kronecker(name, shape, (None, resizing(height, factor), resizing(width, factor)))


def blur(shape: Shape, sigma: float) -> Kronecker:
    """Return the Gaussian blur of standard deviation ``sigma`` pixels, the border reflected.

    Raises:
        UserError: unless ``sigma`` is positive.
    """
    if not sigma > 0:
        raise UserError(f"blur({sigma:g}): found {sigma:g}, expected a positive number of pixels")
    return Kronecker(f"blur({sigma:g})", shape, (None, blurring(shape[1], sigma), blurring(shape[2], sigma)))


def grey(shape: Shape) -> Kronecker:
    """Return the mean of the channels; its pseudoinverse makes all of them equal."""
    weights = torch.full((1, shape[0]), 1 / shape[0], dtype=torch.float64)
    return Kronecker("grey", shape, (weights, None, None))


def divided(name: str, shape: Shape, factor: int) -> tuple[int, int]:
    """Return height and width.

    Raises:
        UserError: if the factor does not divide them.
    """
    height, width = shape[1:]
    if factor < 1 or height % factor or width % factor:
        expected = f"{max(height // max(factor, 1), 1) * factor}x{max(width // max(factor, 1), 1) * factor}"
        raise UserError(f"{name}: found {height}x{width} pixels, expected multiples of {factor}, such as {expected}")
    return height, width


def averages(side: int, factor: int) -> Tensor:
    """Return the matrix (side / factor, side) of means of neighbours."""
    return torch.eye(side // factor, dtype=torch.float64).repeat_interleave(factor, 1) / factor


def resizing(side: int, factor: int) -> Tensor:
    """Return the matrix (side / factor, side) of bicubic downscaling."""
    unit = torch.eye(side, dtype=torch.float64)[None, None]
    return F.interpolate(unit, (side // factor, side), mode="bicubic", antialias=True)[0, 0]


def blurring(side: int, sigma: float) -> Tensor:
    """Return the matrix (side, side) of a Gaussian blur."""
    from rddm.degradations import kernels  # which brings the image libraries

    profile = kernels.gaussian(sigma).sum(0).double()
    radius = len(profile) // 2
    seen = kernels.reflected(side, radius).unfold(0, side, 1)  # [k, i] is the pixel at i + k - radius
    matrix = torch.zeros(side, side, dtype=torch.float64)
    for weight, pixels in zip(profile, seen, strict=True):
        matrix[torch.arange(side), pixels] += weight
    return matrix
