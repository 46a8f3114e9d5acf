"""The noise of a measurement."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rddm.errors import UserError


class NoiseModel(Protocol):
    """Draws a noisy measurement, and tells how far off one is."""

    def __call__(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return ``y`` with noise, drawn from ``generator`` (torch's own if None)."""
        ...

    def std(self, y: Tensor) -> Tensor:
        """Return the standard deviation of the noise in a measurement, of the shape of ``y``."""
        ...


@dataclass(frozen=True)
class GaussianNoise:
    """``y + sigma z``.

    Arguments:
        sigma: standard deviation, in the units of ``y``: 2 / 255 is one level of a picture in [-1, 1].

    Raises:
        UserError: if it is negative.
    """

    sigma: float

    def __post_init__(self) -> None:
        """Check the number."""
        if not self.sigma >= 0:
            raise UserError(f"noise: found a standard deviation of {self.sigma:g}, expected 0 or more")

    def __call__(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the noisy measurement."""
        return y + self.sigma * torch.randn(y.shape, generator=generator, dtype=y.dtype).to(y.device)

    def std(self, y: Tensor) -> Tensor:
        """Return ``sigma`` everywhere."""
        return torch.full_like(y, self.sigma)


@dataclass(frozen=True)
class PoissonNoise:
    """Photons counted: ``(y + 1) / 2`` of ``photons`` are expected at each place, and what is counted is scaled back.

    Arguments:
        photons: at white, 1.

    Raises:
        UserError: unless it is positive.
    """

    photons: float

    def __post_init__(self) -> None:
        """Check the number."""
        if not self.photons > 0:
            raise UserError(f"noise: found {self.photons:g} photons, expected more than 0")

    def __call__(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the noisy measurement; what is below black, -1, gives no photons."""
        expected = ((y.cpu() + 1) / 2).clamp_min(0) * self.photons
        return (torch.poisson(expected, generator) / self.photons * 2 - 1).to(y)

    def std(self, y: Tensor) -> Tensor:
        """Return ``2 sqrt(n) / photons`` for ``n`` photons counted, at least one: shot noise, its mean taken as met."""
        counted = (self.photons * (y + 1) / 2).clamp_min(1)
        return 2 * counted.sqrt() / self.photons
