"""What a guidance is: places where a sampler listens to a measurement, whatever its solver and its row.

After the denoiser was asked, ``correct`` may change the estimate; after the solver moved, ``project`` may change the
state. What is known without noise may be pasted before, by ``show``, into whatever the denoiser is asked about. All
leave what they are given unless a guidance says otherwise, so any guidance works with any solver. It needs a row that
starts from noise alone, ``x_in = 0``: then with ``a = 1 - abar`` and ``c = bbar`` a state is

    x_t = a x_0 + c eps,

a DDPM's for ``a = sqrt(acp)``. Measurements are ``y = A(x_0) + sigma z``. Norms are those of each image: the size of a
batch changes nothing.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rddm.errors import UserError
from rddm.operators.base import (
    DecomposableOperator,
    LinearOperator,
    Operator,
    conjugate_gradient,
    inverse,
    sides,
)
from rddm.path import Node, Noise
from rddm.prediction import Prediction, from_x_0
from rddm.transition import Gain, naive

# How a sampler goes back up (see transition.py): what remains of the deviation of the state from the estimate.
additive = Gain("additive", lambda t, s: 1.0)  # a forward step of RDDM (Eq. 6)
forward = Gain("forward", lambda t, s: (1 - s.abar) / (1 - t.abar))  # of a DDPM: no estimate is left in it
renoise = naive  # none: the estimate with new noise


class Guidance:
    """A guidance that changes nothing: the base of all others.

    Attributes:
        needs_grad: whether ``prediction`` must carry the gradient with respect to ``x_t``.
        climb: how the sampler goes back up where a trajectory does.
    """

    needs_grad: ClassVar[bool] = False
    climb: ClassVar[Gain] = additive

    def show(self, x_t: Tensor) -> Tensor:
        """Return the state that the denoiser is asked about, and the solver moves, in place of ``x_t``."""
        return x_t

    def correct(self, prediction: Prediction, x_t: Tensor, node: Node) -> Prediction:
        """Return what the solver is told in place of the denoiser's estimate at ``x_t``."""
        return prediction

    def project(
        self, x_next: Tensor, x_t: Tensor, prediction: Prediction, now: Node, then: Node, noise: Noise
    ) -> Tensor:
        """Return the state at ``then`` in place of the solver's, ``x_next``.

        Arguments:
            x_next: the solver's, or the corrected ``x_0`` where ``then`` is the clean image.
            x_t: the state at ``now``.
            prediction: the denoiser's estimate at ``x_t``, before ``correct``.
            now: the node left.
            then: the node reached.
            noise: the source of fresh noise.
        """
        return x_next


@dataclass(frozen=True)
class Measured(Guidance):
    """A guidance by a measurement.

    Arguments:
        operator: what was done to the image.
        y: the measurement, (B, ...), in the units of images in [-1, 1].

    Raises:
        UserError: if the operator has not what the guidance needs.
    """

    operator: Operator
    y: Tensor

    def __post_init__(self) -> None:
        """Check the operator."""


def linear(operator: Operator, who: str) -> LinearOperator:
    """Return an operator that is linear.

    Raises:
        UserError: if it is not.
    """
    if isinstance(operator, LinearOperator):
        return operator
    raise UserError(f"{who}: needs an operator with A_adjoint and A_dagger, found {named(operator)}; expected dps")


def invertible(operator: Operator, who: str) -> None:
    """Check that an operator has a pseudoinverse, or a stand-in for one.

    Raises:
        UserError: if it has none.
    """
    if not hasattr(operator, "A_dagger"):
        raise UserError(f"{who}: needs an operator with A_dagger, found {named(operator)}; expected dps")


def decomposable(operator: Operator, who: str) -> DecomposableOperator:
    """Return an operator with a singular value decomposition.

    Raises:
        UserError: if it has none.
    """
    if isinstance(operator, DecomposableOperator):
        return operator
    other = "ddnm, diffpir, pigdm, ilvr, mcg or dps" if isinstance(operator, LinearOperator) else "dps"
    raise UserError(f"{who}: needs an operator with an SVD (U, V, mask), found {named(operator)}; expected {other}")


def named(operator: Operator) -> str:
    """Return an operator's name, or its kind."""
    name = getattr(operator, "name", None)
    return name if isinstance(name, str) else type(operator).__name__


def misfit(operator: Operator, x_0: Tensor, y: Tensor) -> Tensor:
    """Return ``y - A(x_0)``.

    Raises:
        UserError: if the measurement has not the operator's shape.
    """
    made = operator.A(x_0)
    if made.shape[1:] != y.shape[1:]:
        expected = f"{sides(tuple(made.shape[1:]))} of {sides(tuple(x_0.shape[1:]))} images"
        raise UserError(f"{named(operator)}: found a measurement of {sides(tuple(y.shape[1:]))}, expected {expected}")
    return y - made


def regularised(operator: LinearOperator, residual: Tensor, weight: float, ridge: float) -> Tensor:
    """Return ``A^T (weight A A^T + ridge)^-1 residual``, by the SVD if there is one, else by conjugate gradients.

    Arguments:
        operator: linear.
        residual: (B, ...), a measurement's.
        weight: at least 0.
        ridge: likewise; 0 gives ``A_dagger residual / weight``, and zero where both are 0.
    """
    if weight == 0 and ridge == 0:
        return 0 * operator.A_adjoint(residual)
    if ridge == 0:
        return operator.A_dagger(residual) / weight
    if isinstance(operator, DecomposableOperator):
        values = operator.mask.to(residual)
        return operator.V(values * inverse(weight * values**2 + ridge) * operator.U_adjoint(residual))

    def apply(u: Tensor) -> Tensor:
        return weight * operator.A(operator.A_adjoint(u)) + ridge * u

    return operator.A_adjoint(conjugate_gradient(apply, residual))


def completed(x_0: Tensor, prediction: Prediction, x_t: Tensor, node: Node) -> Prediction:
    """Return an estimate with another ``x_0``, ``res`` and ``eps`` completed from it and the state."""
    return from_x_0(x_0, x_t, prediction.x_0 + prediction.res, node)
