"""SDEdit: a generator turns a sketch into a picture. Noise the sketch part of the way, and denoise it.

The time ``t0`` chooses between faithful (near 0) and real (near 1); repeats make it more real at the same noise.
Source: Meng et al., SDEdit, ICLR 2022.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from rddm.denoiser import Denoiser
from rddm.errors import UserError
from rddm.move import History, Move, Solver
from rddm.path import CLEAN, Node, Noise, Path, TabulatedPath, mix, nodes_from
from rddm.sample import sample


def grid_from(path: Path, t0: float, steps: int) -> list[Node]:
    """Return ``steps + 1`` nodes from time ``t0`` to the clean image; a table's own where the path is one.

    Raises:
        UserError: unless ``0 < t0 <= 1`` and the path has so many steps below ``t0``.
    """
    top = round(t0 * path.length) if isinstance(path, TabulatedPath) else steps
    if not 0 < t0 <= 1 or not 1 <= steps <= top:
        expected = f"more than 0 and at most 1, and 1 to {max(top, 1)} steps"
        raise UserError(f"strength: found {t0:g} and {steps} steps, expected {expected}")
    if isinstance(path, TabulatedPath):
        return nodes_from(path, [(top * i) // steps - 1 for i in range(steps, 0, -1)])
    return [*(path.node(t0 * i / steps) for i in range(steps, 0, -1)), CLEAN]


@dataclass(frozen=True)
class Keeping:
    """A solver that puts known pixels back after each step, with the noise of the node reached, always the same.

    Arguments:
        solver: any.
        keep: 1 where pixels are known, 0 elsewhere; broadcast against the images.
        guide: the images that hold them.
        x_in: degraded images, as the sampler's.
        eps: the noise, shaped as the guide.
    """

    solver: Solver
    keep: Tensor
    guide: Tensor
    x_in: Tensor
    eps: Tensor

    @property
    def order(self) -> int:
        """The solver's."""
        return self.solver.order

    def step(self, move: Move) -> tuple[Tensor, History | None]:
        """Return the solver's step where pixels are free."""
        x, history = self.solver.step(move)
        known = mix(self.guide, self.x_in - self.guide, self.eps, move.then)
        return x + self.keep * (known - x), history


def edit(
    denoiser: Denoiser,
    path: Path,
    guide: Tensor,
    solver: Solver,
    noise: Noise,
    t0: float = 0.4,
    steps: int = 50,
    repeats: int = 3,
    keep: Tensor | None = None,
    x_in: Tensor | None = None,
) -> Tensor:
    """Return the guide redrawn.

    Arguments:
        denoiser: a generator; asked ``steps * repeats`` times by solvers of one call.
        path: its path.
        guide: sketches in [-1, 1], (B, C, H, W).
        solver: how to step; published: ancestral with the gain ``markov``.
        noise: the source of randomness.
        t0: how far to noise.
        steps: of each repeat; published: all of the table below ``t0``.
        repeats: how often, each from the result before.
        keep: 1 where the guide is to stay as it is, 0 elsewhere; nowhere if None.
        x_in: degraded images; zeros if None.

    Raises:
        UserError: if ``t0``, ``steps`` or ``repeats`` is out of range.
    """
    if repeats < 1:
        raise UserError(f"edit: found {repeats} repeats, expected at least 1")
    nodes = grid_from(path, t0, steps)
    x_in = torch.zeros_like(guide) if x_in is None else x_in
    keep = torch.zeros_like(guide[:1, :1]) if keep is None else keep
    x_0 = guide
    for _ in range(repeats):
        eps = noise(guide)
        keeping = Keeping(solver, keep, guide, x_in, eps)
        drawn = sample(denoiser, x_in, nodes, keeping, noise, mix(x_0, x_in - x_0, eps, nodes[0]))
        x_0 = torch.where(keep == 1, guide, drawn + keep * (guide - drawn))
    return x_0
