"""Fadings: degradations without noise in levels, which cold diffusion undoes (``rddm.cold``).

A fading ``D(x_0, level)`` degrades a clean image more at each level, 0 being the image itself. Sources: Bansal et al.,
Cold Diffusion, NeurIPS 2023, whose settings are given where they are known. The snow is our own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from rddm.path import Path, TabulatedPath, mix

Widths: TypeAlias = Callable[[int], float]


class Fading(Protocol):
    """A degradation in levels."""

    @property
    def levels(self) -> int:
        """The highest level, where sampling starts."""
        ...

    def __call__(self, x_0: Tensor, level: int) -> Tensor:
        """Return images (B, C, H, W) degraded to a level from 0, the images themselves, to ``levels``."""
        ...


@dataclass(frozen=True)
class Mixed:
    """A path of the plane with an ``eps`` that is the same at all levels; the row ``cold`` without noise.

    With another ``eps`` for each image this is the paper's "hot" diffusion; with that which the restorer's estimate
    leaves, TACoS is DDIM.

    Arguments:
        path: the path; a table's levels are its own.
        x_in: degraded images.
        eps: noise, shaped as they are.
        levels: the length of the path's table, or any number on a path without one.
    """

    path: Path
    x_in: Tensor
    eps: Tensor
    levels: int

    def __post_init__(self) -> None:
        """Check the number of levels.

        Raises:
            ValueError: if it is not that of the path's table.
        """
        if isinstance(self.path, TabulatedPath) and self.levels != self.path.length:
            raise ValueError(
                f"levels: found {self.levels}, expected {self.path.length}, the length of the path's table"
            )

    def __call__(self, x_0: Tensor, level: int) -> Tensor:
        """Return ``x_0 + abar (x_in - x_0) + bbar eps``."""
        path = self.path
        node = path.index(level - 1) if isinstance(path, TabulatedPath) else path.node(level / self.levels)
        return mix(x_0, self.x_in - x_0, self.eps, node)


def exponential(rate: float) -> Widths:
    """Return the widths ``exp(rate i)`` of kernels i = 0, 1, ..."""
    return lambda i: float(torch.tensor(rate * i, dtype=torch.float64).exp())


def linear(first: float, rate: float) -> Widths:
    """Return the widths ``first + rate i``; all alike for a rate of 0."""
    return lambda i: first + rate * i


@dataclass(frozen=True)
class Blur:
    """Kernels one after the other: level ``i`` is blurred by the kernels 0 to ``i - 1``.

    Arguments:
        levels: how many.
        size: side of the square Gaussian kernels, odd.
        widths: standard deviation of kernel ``i``, in pixels.
        edge: what lies beyond the image, "reflect" or "circular".
    """

    levels: int
    size: int
    widths: Widths
    edge: str = "reflect"

    def __call__(self, x_0: Tensor, level: int) -> Tensor:
        """Return the blurred images, sides at least half a kernel."""
        for i in range(level):
            x_0 = blurred(x_0, kernel(self.size, self.widths(i)), self.edge)
        return x_0


CELEBA_BLUR = Blur(200, 15, exponential(0.01))
CIFAR_BLUR = Blur(50, 11, linear(0.35, 0.01))
MNIST_BLUR = Blur(20, 11, linear(7.0, 0.0))


def kernel(size: int, width: float) -> Tensor:
    """Return Gaussian weights (size,) that sum to one, float64."""
    x = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    weights = torch.exp(-0.5 * (x / width) ** 2)
    return weights / weights.sum()


def blurred(x: Tensor, weights: Tensor, edge: str) -> Tensor:
    """Return images (B, C, H, W) blurred along both axes."""
    half, channels = len(weights) // 2, x.shape[1]
    line = weights.to(x).view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    x = F.pad(x, (half, half, half, half), mode=edge)
    return F.conv2d(F.conv2d(x, line, groups=channels), line.mT, groups=channels)


@dataclass(frozen=True)
class Emptied:
    """A fading whose last level is replaced by the mean of each channel: what generation from colours starts at.

    Published with ``Blur(300, 27, exponential(0.01), "circular")``.
    """

    fading: Fading

    @property
    def levels(self) -> int:
        """As many as the fading has."""
        return self.fading.levels

    def __call__(self, x_0: Tensor, level: int) -> Tensor:
        """Return the degraded images."""
        if level < self.levels:
            return self.fading(x_0, level)
        return x_0.mean((2, 3), keepdim=True).expand_as(x_0)


@dataclass(frozen=True)
class Masked:
    """A hole that grows: level ``i`` is multiplied by ``1 - g`` for the Gaussian bumps ``g`` of widths 0 to ``i - 1``.

    Arguments:
        levels: how many.
        rate: bump ``i`` is ``rate (i + first)`` pixels wide (published: .2 for CelebA, 100 levels; .1 for CIFAR, 50).
        first: see ``rate``.
        centre: of the hole, as shares of height and width.
    """

    levels: int
    rate: float
    first: float = 1.0
    centre: tuple[float, float] = (0.5, 0.5)

    def __call__(self, x_0: Tensor, level: int) -> Tensor:
        """Return the images (-1 is black) with the hole."""
        height, width = x_0.shape[2:]
        return x_0 - (1 - self.mask(height, width, level)).to(x_0) * (x_0 + 1)

    def mask(self, height: int, width: int, level: int) -> Tensor:
        """Return what is left of the light, (height, width) float64 in [0, 1]."""
        y, x = (
            (torch.arange(n, dtype=torch.float64) - share * (n - 1)) ** 2
            for n, share in zip((height, width), self.centre, strict=True)
        )
        distance = y[:, None] + x
        left = torch.ones(height, width, dtype=torch.float64)
        for i in range(level):
            left = left * -torch.expm1(-distance / (2 * (self.rate * (i + self.first)) ** 2))
        return left


@dataclass(frozen=True)
class Pixelated:
    """Blocks: at level ``i`` each block of side ``2^i`` has its mean colour. Sides must be multiples of the largest."""

    levels: int

    def __call__(self, x_0: Tensor, level: int) -> Tensor:
        """Return the images in blocks.

        Raises:
            ValueError: if the blocks do not fit.
        """
        side = 2**level
        if any(n % side for n in x_0.shape[2:]):
            raise ValueError(f"Pixelated: found {tuple(x_0.shape[2:])} pixels, expected multiples of {side}")
        return F.interpolate(F.avg_pool2d(x_0, side), scale_factor=side, mode="nearest")


@dataclass(frozen=True)
class Snow:
    """Falling snow: at each level more and larger flakes, white, each in its place from the level where it appears.

    Arguments:
        levels: how many.
        cover: share of the pixels that are white at the last level.
        seed: of the flakes.
    """

    levels: int
    cover: float = 0.3
    seed: int = 0

    def __call__(self, x_0: Tensor, level: int) -> Tensor:
        """Return the images (1 is white) behind the flakes."""
        height, width = x_0.shape[2:]
        return x_0 + self.flakes(height, width, level).to(x_0) * (1 - x_0)

    def flakes(self, height: int, width: int, level: int) -> Tensor:
        """Return how much of each pixel a flake hides, (height, width) float64 in [0, 1]."""
        generator = torch.Generator().manual_seed(self.seed)
        field = torch.randn(1, 1, height, width, dtype=torch.float64, generator=generator)
        field = blurred(field, kernel(5, 0.8), "circular")[0, 0]
        ranks = field.flatten().argsort(descending=True).argsort().view(height, width) / (height * width)
        return (1 - ranks / (self.cover * level / self.levels)).clamp(0, 1).sqrt() if level else torch.zeros_like(field)


@dataclass(frozen=True)
class Colours:
    """Mean colours of images as one normal distribution: where generation by deblurring starts.

    Published with a mixture of normals; one is its simplest.

    Arguments:
        mean: (C,).
        factor: (C, C), a root of the covariance.
    """

    mean: Tensor
    factor: Tensor

    @classmethod
    def of(cls, images: Tensor) -> "Colours":
        """Return the distribution of images (N, C, H, W), N > C."""
        means = images.mean((2, 3)).double()
        covariance = torch.cov(means.T) + 1e-8 * torch.eye(means.shape[1], dtype=torch.float64)
        return cls(means.mean(0), torch.linalg.cholesky(covariance))

    def draw(self, like: Tensor, generator: torch.Generator, noise: float = 0.002) -> Tensor:
        """Return images of one colour each, shaped as ``like``, with a little noise to break the symmetry."""
        z = torch.randn(len(like), len(self.mean), dtype=torch.float64, generator=generator)
        colours = (self.mean + z @ self.factor.T).to(like)[:, :, None, None]
        return colours + noise * torch.randn(like.shape, generator=generator).to(like)
