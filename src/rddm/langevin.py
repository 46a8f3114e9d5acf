"""Langevin steps: what moves a state about within one marginal, by itself or after each step of another solver.

At a node, ``x + e score + sqrt(2 e) z`` leaves the marginal as it is for small ``e``; for others its variance ``V``
becomes ``V / (1 - e / (2 V))``, on Gaussians, however many steps are taken.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from rddm.move import Evaluate, Move, Solver
from rddm.path import Node, Noise, Value
from rddm.prediction import divide
from rddm.solvers_sde import ReverseSDE


@dataclass(frozen=True)
class Hold:
    """A predictor that leaves the noise to the corrector: ``x_t + d(abar) res``."""

    order: int = 1

    def step(self, move: Move) -> tuple[Tensor, None]:
        """Return the state, its residual moved along."""
        return move.x_t + (move.then.abar - move.now.abar) * move.prediction.res, None


Size: TypeAlias = Callable[[Tensor, Tensor, Node, float], Value]


def by_norms(eps: Tensor, z: Tensor, node: Node, snr: float) -> Tensor:
    """Return ``2 (snr |z| / |score|)^2`` with the norms of each image by itself, (B, 1, ...) (Song et al., 2021)."""
    shape = (-1, *(1,) * (eps.ndim - 1))
    ratio = divide(z.flatten(1).norm(dim=1), eps.flatten(1).norm(dim=1))
    return (2 * (snr * node.bbar * ratio) ** 2).view(shape)


def by_level(eps: Tensor, z: Tensor, node: Node, snr: float) -> Value:
    """Return ``2 (snr bbar)^2``: annealed Langevin's (Song and Ermon, 2019), and the same in every tile of a photo."""
    return 2 * (snr * node.bbar) ** 2


@dataclass(frozen=True)
class PredictorCorrector:
    """A predictor's step, then Langevin steps at the node reached, ``x + e score + sqrt(2 e) z``; one call for each.

    Source: Song et al., Score-Based Generative Modeling through SDEs, ICLR 2021, Algorithm 1.

    Arguments:
        predictor: any solver.
        snr: signal-to-noise ratio of a Langevin step.
        steps: Langevin steps after each step of the predictor.
        size: the rule for ``e``, :func:`by_norms` or :func:`by_level`.
    """

    predictor: Solver = ReverseSDE()
    snr: float = 0.16
    steps: int = 1
    size: Size = by_norms

    @property
    def order(self) -> int:
        """The predictor's; the corrector's bias does not vanish with the steps."""
        return self.predictor.order

    def step(self, move: Move) -> tuple[Tensor, None]:
        """Return the corrected state; multistep predictors start anew each time."""
        x, _ = self.predictor.step(move)
        for _ in range(self.steps if move.then.bbar > 0 else 0):
            x = langevin(x, move.then, move.evaluate, move.noise, self.snr, self.size)
        return x, None


def langevin(x: Tensor, node: Node, evaluate: Evaluate, noise: Noise, snr: float, size: Size) -> Tensor:
    """Return the state after one Langevin step at ``node``, where ``bbar > 0``."""
    eps, z = evaluate(x, node).eps, noise(x)
    e = size(eps, z, node, snr)
    return x - e / node.bbar * eps + (2 * e) ** 0.5 * z


def annealed_langevin(snr: float = 0.16, steps: int = 5) -> PredictorCorrector:
    """Return annealed Langevin dynamics (Song and Ermon, NeurIPS 2019): no predictor, ``steps`` at each noise level."""
    return PredictorCorrector(Hold(), snr, steps, by_level)
