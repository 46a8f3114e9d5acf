"""What an operator is: the map from a clean image to a measurement, with its adjoint, pseudoinverse and, maybe, SVD.

A measurement is ``y = A(x) + noise``. Names and meaning are those of ``deepinv.physics``, whose objects fit as is:

    A = U diag(mask) V_adjoint,    A_adjoint = V diag(mask) U_adjoint,    A_dagger = V diag(1 / mask) U_adjoint,

``1 / 0`` being 0. ``V`` is orthogonal (unitary where coefficients are complex) and ``mask``, the singular values,
broadcasts against them; ``U`` takes coefficients to measurements, ``U U_adjoint = 1`` where no measurement is wasted.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from rddm.errors import UserError

Shape: TypeAlias = tuple[int, ...]
STEPS = 200  # of conjugate gradients, at most
NEGLIGIBLE = 1e-3  # of the greatest singular value; what less carries is lost when an image is rounded to 8 bits


@runtime_checkable
class Operator(Protocol):
    """Any differentiable map from images to measurements, linear or not."""

    def A(self, x: Tensor) -> Tensor:
        """Return the measurement of images ``x`` (B, C, H, W), without noise."""
        ...


@runtime_checkable
class LinearOperator(Operator, Protocol):
    """A linear map."""

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Return the images ``A^T y``: ``<A x, y> = <x, A^T y>``."""
        ...

    def A_dagger(self, y: Tensor) -> Tensor:
        """Return the smallest images among those that fit ``y`` best."""
        ...


@runtime_checkable
class DecomposableOperator(LinearOperator, Protocol):
    """A linear map whose singular value decomposition is known."""

    mask: Tensor

    def U(self, x: Tensor) -> Tensor:
        """Return the measurements of coefficients."""
        ...

    def U_adjoint(self, x: Tensor) -> Tensor:
        """Return the coefficients of measurements."""
        ...

    def V(self, x: Tensor) -> Tensor:
        """Return the images of coefficients."""
        ...

    def V_adjoint(self, x: Tensor) -> Tensor:
        """Return the coefficients of images."""
        ...


class Decomposed(ABC):
    """An operator made from its singular value decomposition, for images of one shape.

    Arguments:
        name: how complaints call it.
        shape: of an image, (C, H, W).
        measured: of its measurement.

    Every call raises UserError if what it is given has another shape.
    """

    name: str
    shape: Shape
    measured: Shape
    mask: Tensor

    @abstractmethod
    def U(self, x: Tensor) -> Tensor:
        """Return the measurements of coefficients."""

    @abstractmethod
    def U_adjoint(self, x: Tensor) -> Tensor:
        """Return the coefficients of measurements."""

    @abstractmethod
    def V(self, x: Tensor) -> Tensor:
        """Return the images of coefficients."""

    @abstractmethod
    def V_adjoint(self, x: Tensor) -> Tensor:
        """Return the coefficients of images."""

    def A(self, x: Tensor) -> Tensor:
        """Return the measurement of images (B, C, H, W), without noise."""
        check(self.name, "an image", x, self.shape)
        return self.U(self.mask.to(x) * self.V_adjoint(x))

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Return ``A^T y``, images."""
        check(self.name, "a measurement", y, self.measured)
        return self.V(self.mask.to(y) * self.U_adjoint(y))

    def A_dagger(self, y: Tensor) -> Tensor:
        """Return the smallest images among those that fit ``y`` best."""
        check(self.name, "a measurement", y, self.measured)
        return self.V(inverse(self.mask.to(y)) * self.U_adjoint(y))


def check(name: str, what: str, found: Tensor, expected: Shape) -> None:
    """Compare the shape of each item of a batch with the expected one.

    Raises:
        UserError: if they differ.
    """
    if tuple(found.shape[1:]) != tuple(expected):
        raise UserError(f"{name}: found {what} of {sides(tuple(found.shape[1:]))}, expected {sides(expected)}")


def sides(shape: Shape) -> str:
    """Return a shape for people: ``3x32x32``."""
    return "x".join(map(str, shape)) or "no size"


def inverse(values: Tensor) -> Tensor:
    """Return ``1 / values``, zero where they are zero."""
    zero = values == 0
    return torch.where(zero, torch.zeros_like(values), 1 / values.masked_fill(zero, 1.0))


def truncated(values: Tensor) -> Tensor:
    """Return singular values without the negligible ones, so that the pseudoinverse amplifies no round-off."""
    return torch.where(values < NEGLIGIBLE * values.max(), torch.zeros_like(values), values)


def conjugate_gradient(apply: Callable[[Tensor], Tensor], b: Tensor) -> Tensor:
    """Return the solution of ``apply(x) = b`` from zero, ``apply`` symmetric and not negative, each item by itself.

    Arguments:
        apply: the map.
        b: (B, ...); an item is done when its residual is ``sqrt(eps)`` of it, 3e-4 in single precision.
    """
    tolerance = torch.finfo(b.dtype).eps ** 0.5
    x, r = torch.zeros_like(b), b.clone()
    p, rr = r, inner(r, r)
    goal = tolerance**2 * rr
    for _ in range(STEPS):
        going = rr > goal
        if not going.any():
            break
        q = apply(p)
        length = torch.where(going, rr * inverse(inner(p, q)), torch.zeros_like(rr))
        x, r = x + length * p, r - length * q
        before, rr = rr, torch.where(going, inner(r, r), rr)
        p = r + rr * inverse(before) * p
    return x


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Return ``<a, b>`` of each item, shape (B, 1, ...)."""
    return (a * b).flatten(1).sum(1).view(-1, *(1,) * (a.ndim - 1))
