"""Schedules: the tables behind the published paths, in float64.

RDDM's forward process (paper, Eq. 6) adds ``alpha_t`` of the residual and ``beta_t^2`` of noise variance at each of T
steps; its path is their running sums. The paper's family is the normalised power ``P(x, a) = x^a / int_0^1 x^a dx``
(Eq. 18): ``P(x, 0)`` is "mean", ``P(x, a)`` increasing, ``P(1 - x, a)`` decreasing. Two grids of x were published:
the integers 1..T, and ``linspace(0, 1, T)``, whose first increasing entry is zero. A DDPM's path follows from its
``acp_t = prod (1 - beta_i)`` by ``abar = 1 - sqrt(acp)``, ``bbar^2 = 1 - acp`` (Eq. 17).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rddm.path import Node, TabulatedPath, lerp

Direction = Literal["mean", "increasing", "decreasing"]
Grid = Literal["integer", "linspace"]
Betas = Literal["linear", "scaled_linear", "squared_cosine"]
Level = Literal["root_acp", "acp"]


def power_weights(direction: Direction, power: float, steps: int, grid: Grid = "integer") -> Tensor:
    """Return ``P(x, power)`` or ``P(1 - x, power)`` on a grid of ``steps`` points, summing to one (paper, Eq. 18).

    Raises:
        ValueError: for an unknown direction or grid, or fewer than one step.
    """
    if direction not in ("mean", "increasing", "decreasing") or grid not in ("integer", "linspace") or steps < 1:
        raise ValueError(f"power_weights: no schedule {direction!r} on grid {grid!r} with {steps} steps")
    start, stop = (1, steps) if grid == "integer" else (0, 1)
    x = torch.linspace(start, stop, steps, dtype=torch.float64)
    weights = torch.ones_like(x) if direction == "mean" else x**power
    if direction == "decreasing":
        weights = weights.flip(0)
    return weights / weights.sum()


def ddpm_betas(kind: Betas, steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Return the variances ``beta_t`` of a DDPM: linear, linear in the root, or from a squared cosine (capped at .999).

    Sources: Ho et al. 2020 (linear), Rombach et al. 2022 (scaled linear), Nichol and Dhariwal 2021 (cosine).
    """
    if kind == "linear":
        return torch.linspace(first, last, steps, dtype=torch.float64)
    if kind == "scaled_linear":
        return torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64) ** 2
    if kind == "squared_cosine":
        t = torch.arange(steps + 1, dtype=torch.float64) / steps
        acp = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
        return (1 - acp[1:] / acp[:-1]).clamp(max=0.999)
    raise ValueError(f"ddpm_betas: no schedule {kind!r}; expected linear, scaled_linear or squared_cosine")


@dataclass(frozen=True)
class PowerPath(TabulatedPath):
    """RDDM's path: ``alpha`` and ``beta^2`` are power schedules, ``noise = bbar_T^2`` (paper, Eq. 18 and section 4)."""

    alpha: Direction = "decreasing"
    alpha_power: float = 1.0
    beta2: Direction = "increasing"
    beta2_power: float = 1.0
    noise: float = 1.0
    steps: int = 1000
    spacing: Grid = "integer"

    def tables(self) -> tuple[Tensor, Tensor]:
        """Return ``abar = sum alpha`` (clipped to 1) and ``bbar^2 = sum beta^2``."""
        abar = power_weights(self.alpha, self.alpha_power, self.steps, self.spacing).cumsum(0).clamp(max=1.0)
        bbar2 = power_weights(self.beta2, self.beta2_power, self.steps, self.spacing).cumsum(0).clamp(max=1.0)
        abar[-1] = bbar2[-1] = 1.0  # the sums' round-off must not leave a trace of x_0 at the start of the sampler
        return abar, self.noise * bbar2


@dataclass(frozen=True)
class DDPMPath(TabulatedPath):
    """A DDPM's path in the plane: ``abar = 1 - sqrt(acp)``, ``bbar^2 = 1 - acp`` (paper, Eq. 17)."""

    betas: Betas = "linear"
    steps: int = 1000
    first: float = 1e-4
    last: float = 0.02

    def tables(self) -> tuple[Tensor, Tensor]:
        """Return the converted tables."""
        return convert_ddpm((1 - ddpm_betas(self.betas, self.steps, self.first, self.last)).cumprod(0))


def convert_ddpm(acp: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``abar`` and ``bbar^2`` of a DDPM with cumulative products ``acp`` of shape (T,) (paper, Eq. 17)."""
    acp = acp.double()
    return 1 - acp.sqrt(), 1 - acp


@dataclass(frozen=True)
class NoiseLevelPath(DDPMPath):
    """A DDPM's path trained at every level of noise between its tabulated ones, so that steps are free at test time.

    Between two entries of the table ``level`` is linear in time: ``sqrt(acp)`` in SR3, ``acp`` in Palette. Samplers
    visit a table of their own. Sources: Saharia et al., SR3, TPAMI 2022, and Palette, SIGGRAPH 2022.

    Arguments:
        betas, steps, first, last: the table of the training.
        level: what is linear between its entries.
        sampler_steps, sampler_first, sampler_last: the sampler's table.
    """

    steps: int = 2000
    first: float = 1e-6
    last: float = 0.01
    level: Level = "root_acp"
    sampler_steps: int = 2000
    sampler_first: float = 1e-6
    sampler_last: float = 0.01

    def times(self, u: Tensor) -> Tensor:
        """Return times uniform over (0, 1], on the table and between its entries."""
        return 1 - u

    def curve(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``1 - sqrt(acp)`` and ``sqrt(1 - acp)``."""
        u = t * self.length
        i = u.detach().floor().long().clamp(0, self.length - 1)
        abar, bbar2 = (table.to(t.device) for table in self._sums)
        if self.level == "acp":
            variance = lerp(bbar2, i, u - i)
            return 1 - (1 - variance).sqrt(), variance.sqrt()
        forgotten = lerp(abar, i, u - i)
        return forgotten, (forgotten * (2 - forgotten)).sqrt()

    def grid(self, steps: int) -> list[Node]:
        """Return the nodes of the sampler's table."""
        return DDPMPath(self.betas, self.sampler_steps, self.sampler_first, self.sampler_last).grid(steps)


@dataclass(frozen=True)
class ResfusionPath(TabulatedPath):
    """Resfusion's path: a DDPM of ``x_0 - res`` around ``res``, cut off where the state holds nothing of ``x_0``.

    With ``q = sqrt(acp)`` its state is ``(2q - 1) x_0 + (1 - q) x_in + sqrt(1 - acp) eps``: divided by the sum ``q`` of
    the first two coefficients, ``abar = (1 - q) / q`` reaches 1 at ``q = 1/2``. The table ends with the ``q`` nearest
    to that, and where the first one below is more than .01 below, at one half itself: of 12 steps 5 are left. Source:
    Shi et al., Resfusion, NeurIPS 2024.

    Arguments:
        steps: of the DDPM that is cut off; its linear ``beta`` is scaled by 1000 / steps.
    """

    steps: int = 12
    first: float = 1e-4
    last: float = 0.02

    def root_acp(self) -> Tensor:
        """Return ``q`` of the steps that are left."""
        unit = 1000 / self.steps
        beta = torch.linspace(unit * self.first, unit * self.last, self.steps, dtype=torch.float64).clamp(max=0.999)
        q = (1 - beta).cumprod(0).sqrt()
        q = q[: int((q > 0.5).sum()) + 1]
        q[-1] = q[-1] if q[-1] >= 0.49 else 0.5
        return q[: int((q - 0.5).abs().argmin()) + 1]

    def tables(self) -> tuple[Tensor, Tensor]:
        """Return ``(1 - q) / q`` and ``(1 - q^2) / q^2``."""
        q = self.root_acp()
        return (1 - q) / q, (1 - q**2) / q**2

    def scale(self, t: Tensor) -> Tensor:
        """Return ``q``."""
        return 1 / (1 + self.curve(t)[0])


@dataclass(frozen=True)
class DiffUIRPath(TabulatedPath):
    """DiffUIR's path: a DDPM towards the degraded image, which fades by ``dbar`` as well.

    With ``q = sqrt(acp)`` its state is ``q x_0 + (1 - q - dbar) x_in + sqrt(1 - acp) eps``, here divided by the sum
    ``1 - dbar`` of the first two coefficients. Its published sampler starts with a tenth of the path's noise and never
    removes it: the deterministic step along nodes with ``bbar = .1 / (1 - dbar)`` in place of the path's. Source: Zheng
    et al., Selective Hourglass Mapping for Universal Image Restoration (DiffUIR), CVPR 2024.

    Arguments:
        steps: the length of the table.
        first, last: ``beta``, linear.
        fade_first, fade_last: the increments of ``dbar``, linear.
    """

    steps: int = 1000
    first: float = 1e-4
    last: float = 0.02
    fade_first: float = 1e-6
    fade_last: float = 1.8e-3

    def tables(self) -> tuple[Tensor, Tensor]:
        """Return ``(forgotten - dbar) / (1 - dbar)`` and ``(1 - acp) / (1 - dbar)^2``."""
        acp = (1 - ddpm_betas("linear", self.steps, self.first, self.last)).cumprod(0)
        kept = 1 - torch.linspace(self.fade_first, self.fade_last, self.steps, dtype=torch.float64).cumsum(0)
        return 1 - acp.sqrt() / kept, (1 - acp) / kept**2

    def scale(self, t: Tensor) -> Tensor:
        """Return ``1 - dbar``, by which the coefficients of a DDPM get their unit length back."""
        abar, bbar = self.curve(t)
        return 1 / torch.hypot(1 - abar, bbar)


@dataclass(frozen=True)
class CrossedPath(TabulatedPath):
    """A path with ``abar`` of one table and ``bbar`` of another: a schedule readjusted after training (paper, 3.3).

    Arguments:
        residual: gives ``abar``.
        noise: gives ``bbar``; of the same length.
    """

    residual: TabulatedPath
    noise: TabulatedPath

    def __post_init__(self) -> None:
        """Check the lengths.

        Raises:
            ValueError: if they differ.
        """
        if self.residual.length != self.noise.length:
            raise ValueError(f"CrossedPath: found {self.residual.length} and {self.noise.length} times, expected equal")

    def tables(self) -> tuple[Tensor, Tensor]:
        """Return ``abar`` of the one and ``bbar^2`` of the other."""
        return self.residual.tables()[0], self.noise.tables()[1]


@dataclass(frozen=True)
class ResShiftPath(TabulatedPath):
    """ResShift's path: ``abar = eta``, ``bbar = kappa sqrt(eta)``, ``sqrt(eta)`` geometric in a warped time.

    ``sqrt(eta_i) = start (end / start)^((i / (T - 1))^power)`` with ``end`` = .99 and ``start = min(min_noise / kappa,
    min_noise)``. Source: Yue et al., ResShift, NeurIPS 2023, Eqs. 5 and 12.
    """

    steps: int = 15
    kappa: float = 2.0
    min_noise: float = 0.04
    power: float = 0.3

    def tables(self) -> tuple[Tensor, Tensor]:
        """Return ``eta`` and ``kappa^2 eta``."""
        start = min(self.min_noise / self.kappa, self.min_noise)
        warp = torch.linspace(0, 1, self.steps, dtype=torch.float64) ** self.power
        eta = (start * (0.99 / start) ** warp) ** 2
        return eta, self.kappa**2 * eta


@dataclass(frozen=True)
class TablePath(TabulatedPath):
    """A path from two explicit tables, such as those found in a published checkpoint: ``abar`` and ``bbar^2``."""

    abar: tuple[float, ...]
    bbar2: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the tables.

        Raises:
            ValueError: if they are empty, differ in length, are negative or decrease.
        """
        if not self.abar or len(self.abar) != len(self.bbar2):
            raise ValueError(f"TablePath: found {len(self.abar)} and {len(self.bbar2)} entries, expected as many > 0")
        for name, table in (("abar", self.abar), ("bbar2", self.bbar2)):
            if not all(a <= b for a, b in zip((0.0, *table), table)):  # "not all", so that nan raises too
                raise ValueError(f"TablePath: {name} must not be negative or decrease")

    def tables(self) -> tuple[Tensor, Tensor]:
        """Return the two tables."""
        return torch.tensor(self.abar, dtype=torch.float64), torch.tensor(self.bbar2, dtype=torch.float64)
