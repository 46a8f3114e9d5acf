"""How far a set of small images is from real ones, without trained weights: a Fréchet and a kernel distance.

Both compare features, by default those of the space "wavelet" (``rddm.wavelet``), and their names say so:

* "frechet-wavelet": ``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))`` of means and covariances; biased upwards, the more
  the fewer images;
* "kernel-wavelet": the unbiased squared distance of means in the space of the kernel ``(x.y / d + 1)^3``, with the
  mean of the real features as origin; it may be below 0.

Neither is FID or KID, nor comparable with them. Those, and the Inception score, are added where Inception's weights are
on disk (``rddm.weights``). docs/set-distance.md tells what the distances see, and from which amount on.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rddm.errors import UserError
from rddm.inception import INCEPTION, INCEPTION_FID, Classes, FidKid
from rddm.learned import extra_metrics
from rddm.wavelet import check, features
from rddm.weights import weights_file

DRAWS = 200  # of real images against real ones, for the floor of the kernel distance: with 40 it was off by a third
FEWER = 40  # for that of Fréchet, which differ by 3 % from one to the next
GROUPS = 20  # of images, left out one after the other for the interval
BLOCK = 512  # images or rows at a time
FEWEST = 10


class Figure(NamedTuple):
    """A distance to the real images, its 95 % interval, and the floor: what 1 in 20 sets of real images exceeds."""

    value: float
    low: float
    high: float
    floor: float


class Space(NamedTuple):
    """A name and what turns images (N, 3, H, W) in [-1, 1] into features (N, D)."""

    name: str
    features: Callable[[Tensor], Tensor]


WAVELET = Space("wavelet", features)


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian of mean (D) and covariance (D, D), float64."""

    mean: Tensor
    covariance: Tensor

    @cached_property
    def root(self) -> Tensor:
        """The symmetric root of the covariance."""
        values, vectors = torch.linalg.eigh(self.covariance)
        return (vectors * values.clamp_min(0).sqrt()) @ vectors.T


def fitted(x: Tensor) -> Gaussian:
    """Return the Gaussian of features (N, D), float64."""
    centred = x - x.mean(0)
    return Gaussian(x.mean(0), centred.T @ centred / (len(x) - 1))


def frechet(a: Gaussian, b: Gaussian) -> float:
    """Return ``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))``; the root's trace is that of ``(R1 S2 R1)^(1/2)``."""
    between = torch.linalg.eigvalsh(a.root @ b.covariance @ a.root).clamp_min(0).sqrt().sum()
    apart = (a.mean - b.mean).square().sum()
    return float(apart + a.covariance.trace() + b.covariance.trace() - 2 * between)


def kernel_means(x: Tensor, y: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return the means of the cubic kernel over pairs of one image of a set and one of another, (R).

    Arguments:
        x: features (N, D), float64.
        y: features (M, D).
        first: 1 where an image of ``x`` is in each of R sets, else 0, (N, R).
        second: the same for images of ``y`` and R other sets, (M, R).
    """
    total = torch.zeros(first.shape[1], dtype=x.dtype)
    for rows in torch.arange(len(x)).split(BLOCK):
        total += (first[rows] * (kernel(x[rows], y) @ second)).sum(0)
    return total / (first.sum(0) * second.sum(0))


def inner_means(x: Tensor, members: Tensor) -> Tensor:
    """Return the means of the kernel over pairs of two images of a set, (R), for features (N, D), members (N, R)."""
    all_pairs, size = kernel_means(x, x, members, members), members.sum(0)
    itself = ((x.square().sum(1) / x.shape[1] + 1) ** 3) @ members
    return (all_pairs * size**2 - itself) / (size * (size - 1))


def kernel(x: Tensor, y: Tensor) -> Tensor:
    """Return ``(x.y / d + 1)^3`` of all pairs, (N, M)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def left_out(count: int) -> Tensor:
    """Return which of ``count`` images are left when each group is left out, 1 or 0, (count, groups)."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return (order[:, None] % min(GROUPS, count) != torch.arange(min(GROUPS, count))).double()


def figure(values: Tensor, floor: float) -> Figure:
    """Return the figure of all images, with the interval of the jackknife, from those without each group as well.

    Not the bootstrap's: the same image twice looks like too little diversity, which made intervals twice as wide.
    """
    value, others = float(values[0]), values[1:]
    deviation = float(others.std(correction=0)) * math.sqrt(len(others) - 1)
    margin = 2.09 * deviation  # Student's 97.5 % for 20 groups
    return Figure(value, value - margin, value + margin, floor)


class Reference:
    """Real images, to which sets of others are compared.

    Half of them, chosen once, stands for reality. The floor is what real images reach against such a half: as many as
    are compared, drawn from the rest, again and again. So at most half as many images are compared as there are real
    ones, the first of them. The interval is of the images alone; the reference is the same for all that is compared.

    Arguments:
        real: (N, 3, H, W) in [-1, 1], 20 at least.
        space: of features.

    Raises:
        UserError: for another shape or range, or too few.
    """

    def __init__(self, real: Tensor, space: Space = WAVELET) -> None:
        check(real, 2 * FEWEST)
        self.space, self.shape = space, real.shape[1:]
        order = torch.randperm(len(real), generator=torch.Generator().manual_seed(0))
        found = space.features(real[order]).double().cpu()
        self.half, self.centre = len(real) // 2, found.mean(0)
        self.real = found - self.centre
        self.known, self.once = self.real[: self.half], torch.ones(self.half, 1, dtype=torch.float64)
        self.gaussian, self.inner = fitted(self.known), inner_means(self.known, self.once)
        self.floors: dict[int, tuple[float, float]] = {}
        self.pixels = eight_bit(real[order]) if judges_on_disk() else None

    def compare(self, images: Tensor) -> dict[str, Figure]:
        """Return the distances "frechet-..." and "kernel-..."; "fid", "kid" and "is" too where weights are on disk.

        Arguments:
            images: (M, 3, H, W) in [-1, 1], 10 at least, of the size of the real ones.

        Raises:
            UserError: for another shape or range, or too few.
        """
        check(images, FEWEST)
        if images.shape[1:] != self.shape:
            raise UserError(f"images: found {tuple(images.shape[1:])}, expected {tuple(self.shape)} as the real ones")
        images = images[: self.half]
        floors = self.floor(len(images))
        values = self.distances(self.space.features(images).double().cpu() - self.centre)
        names = (f"{kind}-{self.space.name}" for kind in ("frechet", "kernel"))
        own = {name: figure(of, floor) for name, of, floor in zip(names, values, floors, strict=True)}
        return own if self.pixels is None else own | by_inception(eight_bit(images), self.pixels, self.half)

    def distances(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return both distances of features (M, D): of all, then without each group."""
        members = torch.cat([torch.ones(len(x), 1, dtype=torch.float64), left_out(len(x))], dim=1)
        frechets = [frechet(self.gaussian, fitted(x[column > 0])) for column in members.T]
        between = kernel_means(x, self.known, members, self.once.expand(-1, members.shape[1]))
        return torch.tensor(frechets, dtype=torch.float64), inner_means(x, members) + self.inner - 2 * between

    def floor(self, count: int) -> tuple[float, float]:
        """Return both distances that 1 in 20 sets of ``count`` real images exceeds."""
        if count not in self.floors:
            first, second = torch.zeros(2, len(self.real), DRAWS, dtype=torch.float64)
            generator = torch.Generator().manual_seed(1)
            for draw in range(DRAWS):
                order = torch.randperm(len(self.real), generator=generator)
                first[order[: self.half], draw] = 1
                second[order[self.half : self.half + count], draw] = 1
            pairs = zip(first.T[:FEWER], second.T[:FEWER])
            frechets = [frechet(fitted(self.real[a > 0]), fitted(self.real[b > 0])) for a, b in pairs]
            inner = inner_means(self.real, torch.cat([first, second], dim=1)).view(2, DRAWS).sum(0)
            kernels = inner - 2 * kernel_means(self.real, self.real, first, second)
            draws = torch.tensor(frechets, dtype=torch.float64), kernels
            self.floors[count] = (float(draws[0].quantile(0.95)), float(draws[1].quantile(0.95)))
        return self.floors[count]


def diversity(images: Tensor) -> float:
    """Return the mean over pairs of images of the root mean squared difference of features."""
    return apart(features(images))


def pixel_diversity(images: Tensor) -> float:
    """Return the mean over pairs of images of the root mean squared difference of pixels, 2 from black to white."""
    check(images)
    return apart(images)


def apart(x: Tensor) -> float:
    """Return the mean distance of pairs of rows, per root of their length."""
    if len(x) < 2:
        raise UserError(f"images: found {len(x)}, expected at least 2")
    rows, pairs = x.flatten(1).double(), len(x) * (len(x) - 1) / 2
    distances = torch.cdist(rows, rows, compute_mode="use_mm_for_euclid_dist")
    return float(distances.triu(1).sum()) / pairs / math.sqrt(rows.shape[1])


def judges_on_disk() -> list[str]:
    """Return which of Inception's scores have their weights on disk."""
    found = []
    for name, file in (("fid", INCEPTION_FID), ("is", INCEPTION)):
        try:
            weights_file(file)
        except UserError:
            continue
        found.append(name)
    return found


def eight_bit(images: Tensor) -> np.ndarray:
    """Return images in [-1, 1] as they would be saved, (N, H, W, 3)."""
    return ((images + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


def by_inception(images: np.ndarray, real: np.ndarray, half: int) -> dict[str, Figure]:
    """Return "fid" and "kid" against as many real images, and "is"; the floors are what other real images reach."""
    figures = {}
    for name in judges_on_disk():
        judge, floor = (extra_metrics([name]).sets[0] for _ in range(2))
        for image, true, other in zip(images, real[:half], real[half:]):
            judge.add(image, true)
            floor.add(other, true)
        assert isinstance(judge, FidKid | Classes)
        left = [chosen(judge, members).result() for members in left_out(len(images)).T]
        for key, value in judge.result().items():
            figures[key] = figure(torch.tensor([value, *(one[key] for one in left)]), floor.result()[key])
    return figures


def chosen(judge: FidKid | Classes, members: Tensor) -> FidKid | Classes:
    """Return a judge that has taken in some of the outputs, and the same targets."""
    rows = members.nonzero()[:, 0].tolist()
    if isinstance(judge, Classes):
        return replace(judge, logits=[judge.logits[i] for i in rows])
    return replace(judge, outputs=[judge.outputs[i] for i in rows])
