"""Bridges: paths that end at the degraded image, without noise or nearly so.

At such an end a state is ``x_in`` whatever ``x_0`` is, and rules that divide by ``bbar`` are not defined. Samplers
start just before it, as the published tables and grids do, and :func:`rddm.sample.start` draws the little noise that
the path has there: from then on every solver runs. The published samplers leave that noise out; to do as they do, pass
``x_start=x_in``.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rddm.path import CLEAN, Node, Path, TabulatedPath, nodes_from
from rddm.prediction import preconditioning
from rddm.sdes import IRSDEPath, karras, reversion

Shape = Literal["linear", "sin", "sine"]


@dataclass(frozen=True)
class BrownianPath(Path):
    """InDI's path with Brownian noise, ``eps_t = noise / sqrt(t)``: ``abar = t``, ``bbar = noise sqrt(t)``.

    Source: Delbracio and Milanfar, Inversion by Direct Iteration, TMLR 2023, section 6.3.
    """

    noise: float = 0.01

    def curve(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(t, noise sqrt(t))``."""
        return t.clone(), self.noise * t.sqrt()


@dataclass(frozen=True)
class I2SBPath(TabulatedPath):
    """I2SB's bridge, as its networks are trained: variance ``s`` from the clean end, ``s'`` from the degraded one.

    ``abar = s / (s + s')`` and ``bbar^2 = s s' / (s + s')``, ``beta`` half a ramp and its mirror image. Both sums
    hold the step's own ``beta``, so that their total is not constant, and the published posterior, ``s_s / s_t`` for
    our ``abar_s / abar_t``, differs from the path's by 5e-5. Its OT-ODE is the bridge without noise.
    Source: Liu et al., I2SB: Image-to-Image Schroedinger Bridge, ICML 2023.

    Arguments:
        steps: the length of the table, even.
        beta_max: ``steps`` times the ``beta`` that the whole ramp would reach; published .3 (JPEG, enlarging) and 1
            (OT-ODE: blur, gaps).
        first: the smallest ``beta``; the ramp is linear in the root.
        noise: share of the bridge's noise; 0 is OT-ODE.
    """

    steps: int = 1000
    beta_max: float = 0.3
    first: float = 1e-4
    noise: float = 1.0

    def tables(self) -> tuple[Tensor, Tensor]:
        """Return ``abar`` and ``bbar^2``."""
        low, high = self.first**0.5, (self.beta_max / self.steps) ** 0.5
        half = torch.linspace(low, high, self.steps, dtype=torch.float64)[: self.steps // 2] ** 2
        beta = torch.cat([half, half.flip(0)])
        near, far = beta.cumsum(0), beta.flip(0).cumsum(0).flip(0)
        return near / (near + far), self.noise**2 * near * far / (near + far)


@dataclass(frozen=True)
class BBDMPath(TabulatedPath):
    """BBDM's Brownian bridge: ``abar = m``, ``bbar^2 = 2 max_var (m - m^2)``.

    With its ``eta`` below one the published sampler scales the fresh noise alone and keeps the mean of ``eta`` 1, so
    that the state has less noise than its network was trained on (at one half, a variance of .219 for .5). Ours follows
    the path for every ``eta`` (:func:`rddm.transition.stochastic`). Source: Li et al., BBDM, CVPR 2023.

    Arguments:
        steps: the length of the table.
        max_var: twice the largest variance, that at ``m = 1/2``.
        shape: ``m`` linear from .001 to .999; "sin", an exponential in fact, as the repository has it; or "sine", half
            a wave, as it had it once.
    """

    steps: int = 1000
    max_var: float = 1.0
    shape: Shape = "linear"

    def tables(self) -> tuple[Tensor, Tensor]:
        """Return ``m`` and ``2 max_var (m - m^2)``."""
        m = self.shares()
        return m, 2 * self.max_var * (m - m**2)

    def shares(self) -> Tensor:
        """Return ``m``.

        Raises:
            ValueError: for an unknown shape.
        """
        if self.shape == "linear":
            return torch.linspace(0.001, 0.999, self.steps, dtype=torch.float64)
        if self.shape == "sin":
            m = 1.0075 ** (torch.linspace(0, 1000, self.steps, dtype=torch.float64) - 1000)
            return m.clamp(max=0.999)
        if self.shape == "sine":
            t = torch.arange(self.steps, dtype=torch.float64) / self.steps
            t[0] = 0.5 / self.steps
            return 0.5 + 0.5 * torch.sin(torch.pi * (t - 0.5))
        raise ValueError(f"shape: found {self.shape!r}, expected linear, sin or sine")

    def grid(self, steps: int) -> list[Node]:
        """Return the published nodes: indices from T - 1 down in strides of ``(T - 1) / (steps - 2)``, then 1 and 0.

        Where that has no such stride, for fewer than three steps or more than half the table, the nodes are even.
        """
        if not 3 <= steps <= self.length / 2:
            return super().grid(steps)
        stride = (self.length - 1) / (steps - 2)
        return nodes_from(self, [*(int(self.length - 1 - i * stride) for i in range(steps - 2)), 1, 0])


@dataclass(frozen=True)
class GOUBPath(IRSDEPath):
    """GOUB's path, IR-SDE's process made to end at ``x_in``; the table holds states 1 to ``steps`` - 1.

    With ``v(s, t) = 1 - exp(-2 (thbar_t - thbar_s))``: ``1 - abar = exp(-thbar_t) v(t, T) / v(0, T)`` and
    ``bbar^2 = lambda^2 v(0, t) v(t, T) / v(0, T)``. At state T, ``x_in`` itself, the published samplers do not ask the
    network either. The published configurations call ``lambda``, here ``max_sigma`` of 255 levels, ``lambda_square``.
    Source: Yue et al., Image Restoration Through Generalized Ornstein-Uhlenbeck Bridge, ICML 2024.
    """

    max_sigma: float = 30.0

    def tables(self) -> tuple[Tensor, Tensor]:
        """Return ``abar`` and ``bbar^2`` of states 1 to T - 1."""
        thbar = reversion(self.theta, self.steps, self.left)
        before, after = -torch.expm1(-2 * thbar), -torch.expm1(-2 * (thbar[-1] - thbar))
        abar = 1 - (-thbar).exp() * after / before[-1]
        return abar[1:-1], (self.spread**2 * before * after / before[-1])[1:-1]

    def pull(self, t: Tensor) -> Tensor:
        """Return how many times ``theta`` the drift is, ``coth(thbar_T - thbar_t)``: the end draws near (Doob's h)."""
        thbar, state = self.states(t)
        return (1 / torch.tanh(thbar[-1] - thbar[state])).to(t)


@dataclass(frozen=True)
class DDBMPath(Path):
    """What DDBM's two bridges share: ``t`` is the time over its ``end``, the grid is Karras's, the input is scaled.

    A diffusion ``alpha x_0 + sigma eps`` is made to end at ``x_in``: with ``r = SNR(end) / SNR(t)`` the coefficients of
    ``x_0``, ``x_in`` and ``eps`` are ``alpha (1 - r)``, ``r alpha / alpha(end)`` and ``sigma sqrt(1 - r)``. Of VP those
    of ``x_0`` and ``x_in`` do not add up to one, and the path is that of ``x_t`` divided by their sum. The network sees
    ``x_t`` divided by its expected size, so that it and its output are the published ones, whatever the sum.
    Source: Zhou et al., Denoising Diffusion Bridge Models, ICLR 2024.
    """

    end: float = 1.0
    sigma_min: float = 1e-4
    rho: float = 7.0

    @abstractmethod
    def base(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``alpha`` and ``sigma`` of the diffusion at time ``end t``."""

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the coefficients of ``x_0``, ``x_in`` and ``eps`` as published."""
        (alpha, sigma), (alpha_1, sigma_1) = self.base(t), self.base(torch.ones_like(t))
        r = (alpha_1 * sigma / (sigma_1 * alpha)) ** 2
        return alpha * (1 - r), r * alpha / alpha_1, sigma * (1 - r).clamp_min(0).sqrt()

    def curve(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the coefficients of ``x_in`` and ``eps`` over the sum of those of ``x_0`` and ``x_in``."""
        a, b, c = self.coefficients(t)
        return b / (a + b), c / (a + b)

    def scale(self, t: Tensor) -> Tensor:
        """Return ``c_in``."""
        return torch.as_tensor(preconditioning(Node(*self.curve(t)))[0])

    def times(self, u: Tensor) -> Tensor:
        """Return times even between ``sigma_min`` and the end."""
        low = self.sigma_min / self.end
        return 1 - u * (1 - low)

    def grid(self, steps: int) -> list[Node]:
        """Return the nodes of Karras's levels, from 1e-4 before the end, closed by the clean image."""
        levels = karras(self.end - 1e-4, self.sigma_min, steps, self.rho)
        return [self.node(level / self.end) for level in levels] + [CLEAN]


@dataclass(frozen=True)
class DDBMVPPath(DDBMPath):
    """DDBM's variance-preserving bridge: ``ln alpha = -beta_d t^2 / 4 - beta_min t / 2``."""

    beta_d: float = 2.0
    beta_min: float = 0.1

    def base(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``alpha`` and ``sqrt(1 - alpha^2)``."""
        time = self.end * t
        log = -self.beta_d * time**2 / 4 - self.beta_min * time / 2
        return log.exp(), (-torch.expm1(2 * log)).sqrt()


@dataclass(frozen=True)
class DDBMVEPath(DDBMPath):
    """DDBM's variance-exploding bridge: ``alpha = 1``, ``sigma = t``, so that ``abar = (t / end)^2``."""

    end: float = 80.0
    sigma_min: float = 0.002

    def base(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return 1 and the time."""
        return torch.ones_like(t), self.end * t
