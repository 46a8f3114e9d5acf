"""Operators one after the other."""

from collections.abc import Sequence

from torch import Tensor

from rddm.operators.base import LinearOperator, Operator, conjugate_gradient
from rddm.operators.kronecker import Kronecker, product


class Chain:
    """Operators that need not be linear, from first to last.

    Arguments:
        parts: at least one.
    """

    def __init__(self, parts: Sequence[Operator]) -> None:
        self.parts = tuple(parts)
        self.name = " + ".join(getattr(part, "name", type(part).__name__) for part in parts)

    def A(self, x: Tensor) -> Tensor:
        """Return the measurement of images, without noise."""
        for part in self.parts:
            x = part.A(x)
        return x


class LinearChain(Chain):
    """Linear operators from first to last; the pseudoinverse of all is found by conjugate gradients.

    Arguments:
        parts: at least one.
    """

    parts: tuple[LinearOperator, ...]

    def __init__(self, parts: Sequence[LinearOperator]) -> None:
        super().__init__(parts)

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Return ``A^T y``, images."""
        for part in reversed(self.parts):
            y = part.A_adjoint(y)
        return y

    def A_dagger(self, y: Tensor) -> Tensor:
        """Return the smallest images that fit ``y`` best, but for what conjugate gradients leave.

        They solve ``A^T A x = A^T y`` from zero, so that what no measurement sees stays zero.
        """
        return conjugate_gradient(lambda x: self.A_adjoint(self.A(x)), self.A_adjoint(y))


def compose(parts: Sequence[Operator]) -> Operator:
    """Return the operator that applies the parts from first to last; neighbours that are separable become one."""
    merged: list[Operator] = []
    for part in parts:
        last = merged[-1] if merged else None
        if isinstance(part, Kronecker) and isinstance(last, Kronecker):
            merged[-1] = product(last, part)
        else:
            merged.append(part)
    if len(merged) == 1:
        return merged[0]
    linear = [part for part in merged if isinstance(part, LinearOperator)]
    return LinearChain(linear) if len(linear) == len(merged) else Chain(merged)
