"""Small data that are no photographs, drawn as they are needed: heartbeats, bands of a satellite, a film of shapes.

Each function draws one sample from a generator: the clean ``x_0``, the degraded ``x_in`` and conditions, (C, *spatial),
``x_0`` in [-1, 1]. They show that signals, images of many bands and videos are trained as photographs are
(``experiments/other_data.py``); they stand for no instrument.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from rddm.draws import below, generator_of, noised, share
from rddm.recipe import Recipe

Sample: TypeAlias = dict[str, Tensor]
Make: TypeAlias = Callable[[int, torch.Generator], Sample]

RATE = 250  # samples of an ECG a second
WAVES = torch.tensor(  # P, Q, R, S, T: seconds after R, width in seconds, height in mV
    [[-0.16, 0.022, 0.12], [-0.026, 0.008, -0.12], [0.0, 0.010, 1.0], [0.026, 0.009, -0.22], [0.28, 0.045, 0.28]]
)
SPECTRA = torch.tensor(  # reflectances in blue, green, red and near infrared
    [
        [0.06, 0.05, 0.03, 0.01],  # water
        [0.03, 0.06, 0.04, 0.38],  # forest
        [0.04, 0.09, 0.06, 0.45],  # grass
        [0.10, 0.15, 0.20, 0.28],  # soil
        [0.08, 0.13, 0.17, 0.30],  # stubble
        [0.09, 0.10, 0.11, 0.12],  # asphalt
        [0.10, 0.12, 0.28, 0.32],  # tiles
        [0.25, 0.28, 0.30, 0.33],  # concrete
    ]
)
ROAD, ROOFS = 5, (6, 7)
PAN = torch.tensor([0.15, 0.25, 0.30, 0.30])  # what the panchromatic sensor sees of the bands
RATIO = 4  # its resolution over theirs
FULL = 0.7  # the reflectance that both record as 65535
FRAMES = 8


@dataclass(frozen=True)
class Drawn(Dataset):
    """Samples of a run made by a function: ``drawn[i, side]`` is a pure function of seed, stream and ``i``.

    Arguments:
        make: draws a sample of a given side.
        recipe: how.
        count: how many different ones a validation sees; training sees no end of them.
        stream: 0 for training, others for samples that training never sees.
    """

    make: Make
    recipe: Recipe
    count: int
    stream: int = 0

    def __len__(self) -> int:
        """Return ``count``."""
        return self.count

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Draw a sample, its time and its noise."""
        i, side = key
        generator = generator_of(self.recipe.seed, self.stream, i)
        return noised(self.make(side, generator), self.recipe, generator)


def between(low: float, high: float, generator: torch.Generator) -> float:
    """Draw a number, uniform from ``low`` to ``high``."""
    return low + (high - low) * share(generator)


def smooth(cells: int, side: int, generator: torch.Generator) -> Tensor:
    """Draw a smooth field (side, side) around 0 that varies over ``side / cells`` pixels."""
    coarse = torch.randn(1, 1, cells, cells, generator=generator)
    return F.interpolate(coarse, size=(side, side), mode="bicubic")[0, 0]


def plane(side: int) -> Tensor:
    """Return the coordinates of pixels, (2, side, side): down and across, in pixels."""
    line = torch.arange(side) + 0.5
    return torch.stack(torch.meshgrid(line, line, indexing="ij"))


def ecg(length: int, generator: torch.Generator) -> Sample:
    """Draw an electrocardiogram (1, length), 1 for 2 mV, and what is recorded of it."""
    clean = heartbeats(length, generator)
    return {"x_0": clean[None] / 2, "x_in": (clean + disturbance(length, generator))[None] / 2}


def heartbeats(length: int, generator: torch.Generator) -> Tensor:
    """Draw beats of 50 to 120 a minute in mV: each the sum of five Gaussian waves, alike up to some per cent."""
    mean, time = 60 / between(50, 120, generator), torch.arange(length) / RATE
    count = int(length / RATE / mean) + 5
    peaks = (mean * (1 + 0.04 * torch.randn(count, generator=generator))).cumsum(0) - mean * (1 + share(generator))
    lag, width, height = WAVES.T
    lag = torch.where(lag.abs() > 0.1, lag * mean**0.5, lag)  # P and T keep their share of the beat, QRS its length
    height = height * between(0.5, 1.3, generator) * 2 ** (torch.rand(5, generator=generator) - 0.5)
    heights = height * (1 + 0.03 * torch.randn(count, 1, generator=generator))
    away = (time - peaks[:, None, None] - lag[:, None]) / width[:, None]
    return (heights[..., None] * torch.exp(-(away**2) / 2)).sum((0, 1))


def disturbance(length: int, generator: torch.Generator) -> Tensor:
    """Draw what an electrode adds in mV: a wandering baseline, the hum of the mains, and bursts from muscles."""
    time = 2 * math.pi * torch.arange(length) / RATE
    frequency, phase = 0.1 + 0.5 * torch.rand(3, 1, generator=generator), 6.3 * torch.rand(3, 1, generator=generator)
    height = between(0.05, 0.3, generator) * torch.rand(3, 1, generator=generator)
    wander = (height * torch.sin(frequency * time + phase)).sum(0)
    mains, turn = between(49.7, 50.3, generator) * time, 6.3 * share(generator)
    hum = between(0, 0.15, generator) * (torch.sin(mains + turn) + 0.2 * torch.sin(2 * mains))
    white = torch.randn(1, length + 6, generator=generator)
    fast = (white[:, 3:-3] - F.avg_pool1d(white, 7, 1))[0]
    burst = torch.exp(-(((time / time[-1] - share(generator)) / 0.15) ** 2) / 2)
    return wander + hum + 0.03 * 5 ** share(generator) * (0.4 + burst) * fast


def pan(side: int, generator: torch.Generator) -> Sample:
    """Draw four bands (4, side, side) of 16 bits, what is left of them at a quarter of the resolution, and ``pan``.

    ``pan`` is the panchromatic image (1, side, side); ``x_in`` the coarse bands, enlarged (bicubic).
    """
    bands = land(side, generator) / FULL
    grey = torch.tensordot(PAN, bands, 1)[None]
    grey = grey + 0.004 * torch.randn(grey.shape, generator=generator)
    low = coarse(bands)
    low = sixteen(low + 0.002 * torch.randn(low.shape, generator=generator))
    x_in = F.interpolate(low[None], scale_factor=float(RATIO), mode="bicubic")[0]
    return {"x_0": sixteen(bands), "x_in": x_in, "pan": sixteen(grey)}


def sixteen(x: Tensor) -> Tensor:
    """Round values from 0 to 1 to 16 bits, and map them to [-1, 1]."""
    return (65535 * x.clamp(0, 1)).round() / 32767.5 - 1


def coarse(bands: Tensor) -> Tensor:
    """Return bands (C, H, W) as a sensor of ``RATIO`` times coarser pixels sees them, 0.3 left at its Nyquist rate."""
    size = 4 * RATIO
    spread = 2 * RATIO * math.sqrt(-2 * math.log(0.3)) / (2 * math.pi)
    line = torch.exp(-(((torch.arange(size) - (size - 1) / 2) / spread) ** 2) / 2)
    kernel = (line[:, None] * line / line.sum() ** 2)[None, None]
    padded = F.pad(bands[:, None], ((size - RATIO) // 2,) * 4, mode="reflect")
    return F.conv2d(padded, kernel, stride=RATIO)[:, 0]


def land(side: int, generator: torch.Generator) -> Tensor:
    """Draw reflectances (4, side, side): patches of one cover each, roads, roofs, and texture."""
    fine = 2 * side
    grid = plane(fine) / fine
    bent = grid + 0.03 * torch.stack([smooth(6, fine, generator), smooth(6, fine, generator)])
    patches = 12 + below(30, generator)
    centres = torch.rand(patches, 2, generator=generator)
    nearest = torch.cdist(bent.flatten(1).T, centres).argmin(1).view(fine, fine)
    spectra = SPECTRA[torch.randint(len(SPECTRA), (patches,), generator=generator)]
    varied = spectra * torch.exp(0.2 * torch.randn(patches, 1, generator=generator))
    image = (varied * torch.exp(0.07 * torch.randn(patches, 4, generator=generator)))[nearest].permute(2, 0, 1)
    image = built(image, grid, generator)
    shade = 1 + 0.10 * smooth(side // 3, fine, generator) + 0.05 * torch.randn(fine, fine, generator=generator)
    leaves = 1 + 0.06 * smooth(side // 2, fine, generator)
    image = image * shade.clamp_min(0.2) * torch.stack([torch.ones_like(leaves)] * 3 + [leaves])
    return F.avg_pool2d(image, 2)


def built(image: Tensor, grid: Tensor, generator: torch.Generator) -> Tensor:
    """Draw up to two roads and up to ten roofs over reflectances."""
    long = [(ROAD, 2.0, between(0.010, 0.025, generator)) for _ in range(below(3, generator))]
    square = [(ROOFS[below(2, generator)], *(0.02 + 0.04 * torch.rand(2, generator=generator)).tolist())
              for _ in range(below(11, generator))]  # fmt: skip
    for cover, length, width in long + square:
        centre, angle = torch.rand(2, generator=generator), 6.3 * share(generator)
        down, across = grid - centre[:, None, None]
        along = (math.cos(angle) * down + math.sin(angle) * across).abs() < length
        inside = along & ((math.cos(angle) * across - math.sin(angle) * down).abs() < width)
        colour = SPECTRA[cover] * between(0.7, 1.4, generator)
        image = torch.where(inside, colour[:, None, None], image)
    return image


def video(side: int, generator: torch.Generator) -> Sample:
    """Draw eight frames (1, 8, side, side) of striped shapes that move, and the same with noise of 20 to 60 of 255."""
    clean = 2 * shapes(side, generator)[None] - 1
    sigma = between(20, 60, generator) / 127.5
    return {"x_0": clean, "x_in": clean + sigma * torch.randn(clean.shape, generator=generator)}


def frame(side: int, generator: torch.Generator) -> Sample:
    """Draw one frame (1, side, side) of a :func:`video`."""
    which = below(FRAMES, generator)
    return {name: value[:, which] for name, value in video(side, generator).items()}


def shapes(side: int, generator: torch.Generator) -> Tensor:
    """Draw two to four discs and rounded squares in uniform motion, (FRAMES, side, side) in [0, 1]."""
    image = (0.4 + 0.1 * smooth(5, side, generator)).expand(FRAMES, -1, -1)
    grid, time = plane(side)[:, None], torch.arange(FRAMES)[:, None, None]
    for _ in range(2 + below(3, generator)):
        place, speed = side * torch.rand(2, generator=generator), 4 * torch.rand(2, generator=generator) - 2
        down, across = (grid[axis] - place[axis] - speed[axis] * time for axis in (0, 1))
        power, radius = (2, 6)[below(2, generator)], between(0.1, 0.25, generator) * side
        distance = (down.abs() ** power + across.abs() ** power) ** (1 / power)
        angle, pitch = 6.3 * share(generator), between(3, 7, generator)
        stripes = torch.sin((math.cos(angle) * down + math.sin(angle) * across) * 2 * math.pi / pitch)
        colour, cover = between(0.2, 0.8, generator) + 0.15 * stripes, torch.sigmoid(3 * (radius - distance))
        image = image + cover * (colour - image)
    return image.clamp(0, 1)
