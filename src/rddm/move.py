"""Moves: what a solver is given for one step of a sampler, and what it returns.

Solvers are immutable. What a multistep solver remembers is the state that ``step`` returns.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

from torch import Tensor

from rddm.path import Node, Noise
from rddm.prediction import Prediction

Evaluate: TypeAlias = Callable[[Tensor, Node], Prediction]


class History(NamedTuple):
    """What a multistep solver remembers of its last step: the prediction, and the nodes it went between."""

    prediction: Prediction
    now: Node
    then: Node


class Move(NamedTuple):
    """All that a solver may use for one step.

    Arguments:
        x_t: the state at ``now``.
        prediction: the estimate at ``x_t``.
        now: the node left.
        then: the node reached; never the clean image, where a sampler returns ``x_0`` itself.
        evaluate: asks the denoiser again, for solvers that need more than one call per step.
        noise: the source of fresh noise.
        history: what the last step returned.
    """

    x_t: Tensor
    prediction: Prediction
    now: Node
    then: Node
    evaluate: Evaluate
    noise: Noise
    history: History | None = None


class Solver(Protocol):
    """One step of a sampler."""

    @property
    def order(self) -> int:
        """The exponent of the global error on smooth paths."""
        ...

    def step(self, move: Move) -> tuple[Tensor, History | None]:
        """Return the state at ``move.then`` and what the next step should remember."""
        ...


def increment(x_t: Tensor, res: Tensor, eps: Tensor, now: Node, then: Node) -> Tensor:
    """Return ``x_t + (abar_s - abar_t) res + (bbar_s - bbar_t) eps``."""
    return x_t + (then.abar - now.abar) * res + (then.bbar - now.bbar) * eps
