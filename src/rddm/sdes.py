"""Paths that solve a linear stochastic differential equation: score-SDE's three, EDM's, and IR-SDE's.

Those that generate have ``x_in = 0``. Where the signal is never scaled down (VE, EDM) ``abar`` is 0 throughout: the
path runs up the plane's edge from ``(0, 0)`` to ``(0, sigma_max)``, and sampling starts from ``sigma_max z``, in which
what is left of ``x_0`` drowns. A scale that made it end near ``abar = 1`` would be the same process, but not the same
solvers: only on the edge is a step of Heun EDM's step.

Score-SDE's VE networks and IR-SDE work on images in [0, 1]; ours span twice that, and so does their noise.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rddm.path import CLEAN, Node, Path, TabulatedPath
from rddm.prediction import preconditioning

Theta = Literal["cosine", "linear", "constant"]
SPAN = 2.0  # of our images, where the published ones span 1


@dataclass(frozen=True)
class ScoreVPPath(Path):
    """Score-SDE's variance-preserving path: ``sqrt(acp) = exp(-int beta / 2)``, ``beta`` linear in time.

    Source: Song et al., Score-Based Generative Modeling through SDEs, ICLR 2021, Appendix C.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def log_signal(self, t: Tensor) -> Tensor:
        """Return the logarithm of the coefficient of ``x_0``."""
        return -(t**2) * (self.beta_max - self.beta_min) / 4 - t * self.beta_min / 2

    def curve(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``1 - sqrt(acp)`` and ``sqrt(1 - acp)``."""
        log = self.log_signal(t)
        return -torch.expm1(log), (-torch.expm1(2 * log)).sqrt()


@dataclass(frozen=True)
class ScoreSubVPPath(ScoreVPPath):
    """Score-SDE's sub-VP path: the signal of the VP path with less noise, ``bbar = 1 - acp`` (ibid.)."""

    def curve(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``1 - sqrt(acp)`` and ``1 - acp``."""
        log = self.log_signal(t)
        return -torch.expm1(log), -torch.expm1(2 * log)


@dataclass(frozen=True)
class ScoreVEPath(Path):
    """Score-SDE's variance-exploding path: ``sigma`` geometric in time, in units of [0, 1], twice that in ours.

    The published law jumps at ``t = 0``, from ``sigma_min`` to the clean image (ibid., Appendix C).
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def curve(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return 0 and ``2 sigma(t)``."""
        sigma = self.sigma_min * (self.sigma_max / self.sigma_min) ** t
        return torch.zeros_like(t), SPAN * torch.where(t > 0, sigma, torch.zeros_like(sigma))


def karras(high: float, low: float, steps: int, rho: float) -> list[float]:
    """Return ``steps`` levels of noise from ``high`` to ``low``, even in their ``rho``-th root.

    Source: Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models, NeurIPS 2022, Eq. 5.

    Raises:
        ValueError: for fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"steps: found {steps}, expected at least 1")
    a, b = high ** (1 / rho), low ** (1 / rho)
    return [high if i == 0 else (a + i / (steps - 1) * (b - a)) ** rho for i in range(steps)]


@dataclass(frozen=True)
class EDMPath(Path):
    """EDM's path: ``sigma = sigma_max t``, seen by the network as ``x_t / sqrt(sigma^2 + sigma_data^2)``.

    Sampling visits Karras's levels; training draws ``ln sigma`` from a normal law. Source: ibid., Table 1; its
    ``sigma_data`` is that of the target ``preconditioned``.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    log_mean: float = -1.2
    log_std: float = 1.2

    def curve(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return 0 and ``sigma_max t``."""
        return torch.zeros_like(t), self.sigma_max * t

    def scale(self, t: Tensor) -> Tensor:
        """Return ``c_in``."""
        return torch.as_tensor(preconditioning(Node(*self.curve(t)))[0])

    def times(self, u: Tensor) -> Tensor:
        """Return times at which ``sigma`` is lognormal, kept within the sampler's levels."""
        sigma = (self.log_mean + self.log_std * torch.special.ndtri(1 - u)).exp()
        return sigma.clamp(self.sigma_min, self.sigma_max) / self.sigma_max

    def grid(self, steps: int) -> list[Node]:
        """Return the nodes of Karras's levels, closed by the clean image."""
        levels = karras(self.sigma_max, self.sigma_min, steps, self.rho)
        return [self.node(level / self.sigma_max) for level in levels] + [CLEAN]


def reversion(theta: Theta, steps: int, left: float) -> Tensor:
    """Return the integral of IR-SDE's speed ``theta`` at states 0 to ``steps``; what is ``left`` at last is its exp(-).

    Raises:
        ValueError: for an unknown speed.
    """
    if theta == "cosine":
        x = torch.arange(steps + 3, dtype=torch.float64) / (steps + 2)
        acp = torch.cos((x + 0.008) / 1.008 * math.pi / 2) ** 2
        speed = 1 - (acp / acp[0])[1:-1]
    elif theta == "linear":
        speed = torch.linspace(1e-4, 0.02, steps + 1, dtype=torch.float64)
    elif theta == "constant":
        speed = torch.ones(steps + 1, dtype=torch.float64)
    else:
        raise ValueError(f"theta: no speed {theta!r}, expected cosine, linear or constant")
    total = speed.cumsum(0) - speed[0]  # state 0 is the clean image
    return -math.log(left) * total / total[-1]


@dataclass(frozen=True)
class IRSDEPath(TabulatedPath):
    """IR-SDE's path, a mean-reverting process around ``x_in``: ``abar = 1 - exp(-thbar)``, stationary noise ``lambda``.

    ``bbar = lambda sqrt(1 - exp(-2 thbar))`` with ``lambda`` = ``max_sigma`` of 255 levels; ``thbar`` ends where
    ``left`` is left of ``x_0``. The published networks see ``x_t - x_in`` where ours see ``x_t``, both beside ``x_in``.
    Source: Luo et al., Image Restoration with Mean-Reverting Stochastic Differential Equations, ICML 2023.
    """

    steps: int = 100
    max_sigma: float = 10.0
    left: float = 0.005
    theta: Theta = "cosine"

    @property
    def spread(self) -> float:
        """``lambda``, the noise that the process has when it has forgotten ``x_0``."""
        return SPAN * self.max_sigma / 255

    def tables(self) -> tuple[Tensor, Tensor]:
        """Return ``1 - exp(-thbar)`` and ``lambda^2 (1 - exp(-2 thbar))``."""
        thbar = reversion(self.theta, self.steps, self.left)[1:]
        return -torch.expm1(-thbar), -torch.expm1(-2 * thbar) * self.spread**2

    def euler(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the factors of ``x_t - x_in`` and of ``-eps`` in Euler's step of the reverse SDE, one state down.

        ``dx = (theta (x_in - x) - 2 lambda^2 theta score) dt``, ``score = -eps / bbar``; ``t`` are times of the table.
        """
        thbar, state = self.states(t)
        theta = (thbar[state] - thbar[state - 1]).to(t)
        return 1 + theta * self.pull(t), 2 * self.spread**2 * theta / self.curve(t)[1]

    def states(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``thbar`` at the states 0 to ``steps``, and which of them the times ``t`` are."""
        return reversion(self.theta, self.steps, self.left), (t * self.length).round().long().cpu()

    def pull(self, t: Tensor) -> Tensor:
        """Return how many times ``theta`` the drift is that pulls towards ``x_in``: once."""
        return torch.ones_like(t)
