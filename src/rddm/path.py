"""Nodes and paths: where a diffusion is, and the curve it follows.

Let ``x_0`` be the clean image, ``x_in`` the degraded one (0 for pure generation), ``res = x_in - x_0`` the residual and
``eps`` standard normal noise. Residual denoising diffusion (Liu et al., CVPR 2024, Eq. 7) mixes them with two numbers,

    x_t = x_0 + abar * res + bbar * eps,

so a state of the diffusion is a :class:`Node` ``(abar, bbar)`` in a plane: ``abar`` says how much of the degradation is
present, ``bbar`` how much noise. A :class:`Path` is a curve ``t -> (abar, bbar)`` from the clean image, ``(0, 0)`` at
``t = 0``, to the input of the sampler at ``t = 1``. DDPM, rectified flow, InDI, ResShift and many more differ in this
curve alone. Paths are float64 throughout: the coefficients are cheap and their differences cancel.

A method whose coefficients of ``x_0`` and ``x_in`` do not add up to one is the same path for ``x_t / scale(t)``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

Value: TypeAlias = "float | Tensor"
Noise: TypeAlias = Callable[[Tensor], Tensor]


class Node(NamedTuple):
    """A point of the plane: ``x_t = x_0 + abar res + bbar eps``.

    Arguments:
        abar: share of the residual, 0 clean, 1 degraded; a number, or a tensor that broadcasts against the images.
        bbar: standard deviation of the noise, in the images' units; likewise.
        t: time in [0, 1] that a network's clock may show; a number or a tensor of shape (B,).
    """

    abar: Value
    bbar: Value
    t: Value = 0.0


CLEAN = Node(0.0, 0.0, 0.0)


def gaussian(generator: torch.Generator | None = None) -> Noise:
    """Return a source of standard normal noise ``like -> z`` that draws from ``generator`` (torch's own if None)."""

    def draw(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)

    return draw


@dataclass(frozen=True)
class Path(ABC):
    """A curve ``t -> (abar, bbar)`` with ``t = 0`` clean and ``t = 1`` where sampling starts."""

    @abstractmethod
    def curve(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(abar, bbar)`` at times ``t`` in [0, 1], float64 tensors of the same shape."""

    def scale(self, t: Tensor) -> Tensor:
        """Return the factor ``s`` by which the network sees the state, ``s x_t``; 1 unless a method says otherwise."""
        return torch.ones_like(t)

    def times(self, u: Tensor) -> Tensor:
        """Return the times in (0, 1] that training draws for ``u`` uniform in [0, 1); uniform unless published else."""
        return 1 - u

    def node(self, t: float) -> Node:
        """Return the node at time ``t`` as plain numbers, for samplers."""
        abar, bbar = self.curve(torch.tensor(float(t), dtype=torch.float64))
        return Node(float(abar), float(bbar), float(t))

    def at(self, t: Tensor, like: Tensor) -> Node:
        """Return the nodes at times ``t`` of shape (B,), broadcast against images ``like`` of shape (B, ...)."""
        abar, bbar = self.curve(t.double())
        shape = (-1, *(1,) * (like.ndim - 1))
        return Node(abar.to(like.dtype).view(shape), bbar.to(like.dtype).view(shape), t)

    def rate(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``d(abar, bbar)/dt`` at times ``t``, by forward-mode differentiation."""
        one = torch.ones_like(t, dtype=torch.float64)
        return torch.func.jvp(self.curve, (t.double(),), (one,))[1]

    def perturb(self, x_0: Tensor, x_in: Tensor, t: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Draw ``x_t ~ q(x_t | x_0, x_in)`` (paper, Eq. 7) at times ``t`` of shape (B,); return ``(x_t, eps)``."""
        eps = noise(x_0)
        return mix(x_0, x_in - x_0, eps, self.at(t, x_0)), eps

    def grid(self, steps: int) -> list[Node]:
        """Return the ``steps + 1`` nodes of a sampler, from ``t = 1`` to the clean image, even in time."""
        if steps < 1:
            raise ValueError(f"steps: found {steps}, expected at least 1")
        return [self.node(1.0 - i / steps) for i in range(steps)] + [CLEAN]


def mix(x_0: Tensor, res: Tensor, eps: Tensor, node: Node) -> Tensor:
    """Return ``x_t = x_0 + abar res + bbar eps`` (paper, Eq. 7)."""
    return x_0 + node.abar * res + node.bbar * eps


@dataclass(frozen=True)
class LinearPath(Path):
    """``abar = t``, ``bbar = noise t``: rectified flow, cold diffusion (noise 0), InDI, flow from noise (noise 1)."""

    noise: float = 0.0

    def curve(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(t, noise t)``."""
        return t.clone(), self.noise * t


@dataclass(frozen=True)
class CurvePath(Path):
    """A path from any two functions of time, for trying out a new one; ``scaling`` is the optional factor ``s(t)``."""

    abar: Callable[[Tensor], Tensor]
    bbar: Callable[[Tensor], Tensor]
    scaling: Callable[[Tensor], Tensor] = torch.ones_like

    def curve(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(abar(t), bbar(t))``."""
        return self.abar(t), self.bbar(t)

    def scale(self, t: Tensor) -> Tensor:
        """Return ``scaling(t)``."""
        return self.scaling(t)


@dataclass(frozen=True)
class TabulatedPath(Path, ABC):
    """A path known at T integer times, as published networks were trained: index i is time ``t = (i + 1) / T``.

    Index -1, ``t = 0``, is the clean image. Between the nodes ``abar`` and ``bbar^2``, the sums of the forward steps,
    are interpolated linearly: one forward step of the paper (Eq. 6) cut into smaller equal ones.
    """

    @abstractmethod
    def tables(self) -> tuple[Tensor, Tensor]:
        """Return ``abar`` and ``bbar^2`` at the indices 0 to T - 1, float64 of shape (T,)."""

    @cached_property
    def _sums(self) -> tuple[Tensor, Tensor]:
        zero = torch.zeros(1, dtype=torch.float64)
        abar, bbar2 = self.tables()
        return torch.cat([zero, abar]), torch.cat([zero, bbar2])

    @property
    def length(self) -> int:
        """The number of tabulated times, T."""
        return len(self._sums[0]) - 1

    def times(self, u: Tensor) -> Tensor:
        """Return one of the table's times, each as likely as another."""
        return (torch.floor(u * self.length) + 1) / self.length

    def curve(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the interpolated ``(abar, bbar)``."""
        u = t * self.length
        i = u.detach().floor().long().clamp(0, self.length - 1)
        abar, bbar2 = (lerp(table.to(t.device), i, u - i) for table in self._sums)
        quiet = not self._sums[1].any()  # the root's rate is not defined where there is no noise at all
        return abar, bbar2 if quiet else bbar2.sqrt()

    def index(self, i: int) -> Node:
        """Return the node of table index ``i``, -1 for the clean image, without round-off from interpolation."""
        abar, bbar2 = self._sums
        return Node(float(abar[i + 1]), float(bbar2[i + 1]) ** 0.5, (i + 1) / self.length)

    def grid(self, steps: int) -> list[Node]:
        """Return the nodes ``int(linspace(-1, T - 1, steps + 1))`` in descending order, as published."""
        if not 1 <= steps <= self.length:
            raise ValueError(f"steps: found {steps}, expected 1 to {self.length}, the length of the path's table")
        indices = torch.linspace(-1, self.length - 1, steps + 1, dtype=torch.float32).int().tolist()
        return [self.index(i) for i in reversed(indices)]


def lerp(table: Tensor, i: Tensor, w: Tensor) -> Tensor:
    """Return ``table`` between its entries ``i`` and ``i + 1``: ``(1 - w) table[i] + w table[i + 1]``."""
    return table[i] + w * (table[i + 1] - table[i])


def nodes_from(path: TabulatedPath, indices: Sequence[int]) -> list[Node]:
    """Return the nodes of the table's ``indices`` (descending), closed by the clean image."""
    nodes = [path.index(i) for i in indices if i >= 0]
    return [*nodes, CLEAN]
