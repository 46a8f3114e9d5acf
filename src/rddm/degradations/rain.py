"""Rain that falls through the picture.

A drop images nearly the whole sky, so it is about as bright as the sky whatever lies behind (Garg and Nayar, IJCV 75
(2007) 3). It falls some centimetres in an exposure and covers each pixel of its trace for a share ``alpha`` of that
time, thus in linear light

    L' = (1 - alpha) L + alpha E,    E = 1 (the sky),

which only adds light. Drops twice as far away are half as long and wide and, as the view widens, four times as many;
traces thinner than a pixel become fainter instead. Drops too far to be told apart are a veil, the same equation with
one ``alpha`` everywhere. The traces of one distance are convolutions: points at random places, of random strength,
with the trace of one drop.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor

from rddm.degradations.base import Degraded, Limits, Parameter, Parametrised, Range, draw, draw_whole, uniform
from rddm.degradations.kernels import random_points, splat
from rddm.degradations.light import to_linear, to_srgb

DISTANCES = (1.0, 1.6, 2.5, 4.0)


class Streaks(NamedTuple):
    """Traces that share a shape.

    Arguments:
        density: in 100 x 100 pixels, on average.
        length: pixels.
        width: pixels; below one, the trace is one pixel wide and fainter.
        angle: from the vertical, degrees, positive if the lower end is to the right.
        fade: share of the length over which each end fades.
        faintest: strength of the faintest traces; the strongest have 1.
    """

    density: float
    length: float
    width: float
    angle: float
    fade: float = 0.25
    faintest: float = 0.3


@dataclass(frozen=True)
class Rain(Parametrised):
    """Rain in a photograph: traces at four distances and a veil, composited in linear light.

    Arguments:
        density: traces in 100 x 100 pixels.
        length: of the nearest traces, pixels.
        angle: from the vertical, degrees, positive if the lower end is to the right.
        width: of the nearest traces, pixels.
        opacity: ``alpha`` of the strongest traces.
        veil: ``alpha`` of the drops too far to be seen.
    """

    name: ClassVar[str] = "rain"
    density: Annotated[Parameter, Limits(0, 500)] = Range(30, 200)
    length: Annotated[Parameter, Limits(1, 100)] = Range(15, 40)
    angle: Annotated[Parameter, Limits(-80, 80)] = Range(-20, 20)
    width: Annotated[Parameter, Limits(0.5, 10)] = Range(1, 3)
    opacity: Annotated[Parameter, Limits(0, 1)] = Range(0.15, 0.5)
    veil: Annotated[Parameter, Limits(0, 1)] = Range(0, 0.03)

    def __call__(self, image: Tensor, generator: torch.Generator) -> Degraded:
        """Return the image in the rain."""
        density, length, angle, width = (
            draw(value, generator) for value in (self.density, self.length, self.angle, self.width)
        )
        squares = [distance**2 for distance in DISTANCES]
        layers = [
            # gusts turn the drops of each distance a little
            Streaks(density * s / sum(squares), length / d, width / d, angle + uniform(-3, 3, generator))
            for s, d in zip(squares, DISTANCES, strict=True)
        ]
        cover = traces(image.shape[1], image.shape[2], layers, generator).clamp(max=1) * draw(self.opacity, generator)
        alpha = 1 - (1 - cover) * (1 - draw(self.veil, generator))
        light = to_linear(image)
        return Degraded(to_srgb(light + alpha * (1 - light)))


@dataclass(frozen=True)
class HeavyRain(Parametrised):
    """Rain as the benchmark Rain100H has it: several directions of streaks, added to the codes.

    ``c' = clamp(c + sum_i b_i min(S_i, 1))``, the same in all colours, with ``i`` over the layers, each of its own
    parallel streaks (Yang et al., CVPR 2017). It is no model of light: codes are added, as the benchmark's pictures
    were made, and no layer adds more than its ``b``, so that streaks side by side merge into broad flat ones.

    The defaults were chosen by looking at ten of the benchmark's pairs, until PSNR, coverage, brightness, widths,
    lengths and directions were like theirs; they reach beyond the ten, to milder and to heavier rain.

    Arguments:
        density: streaks in 100 x 100 pixels, over all layers.
        length: of streaks, pixels.
        angle: from the vertical, degrees, positive if the lower end is to the right.
        width: of streaks, pixels.
        layers: number of directions; what is drawn from the other ranges is drawn for each.
        brightness: the most that the streaks of a layer add to the codes.
        fade: share of the length over which each end fades: 0 cuts them off, at 0.5 only the middle is full.
        faintest: strength of a layer's faintest streaks, of the strongest: at 1 all are alike.
    """

    name: ClassVar[str] = "heavy_rain"
    density: Annotated[Parameter, Limits(0, 1000)] = Range(40, 340)
    length: Annotated[Parameter, Limits(1, 100)] = Range(25, 90)
    angle: Annotated[Parameter, Limits(-80, 80)] = Range(-35, 35)
    width: Annotated[Parameter, Limits(0.5, 10)] = Range(0.8, 2.3)
    layers: Annotated[Parameter, Limits(1, 10, whole=True)] = Range(1, 4)
    brightness: Annotated[Parameter, Limits(0, 1)] = Range(0.1, 0.5)
    fade: Annotated[Parameter, Limits(0, 0.5)] = Range(0, 0.5)
    faintest: Annotated[Parameter, Limits(0, 1)] = Range(0, 1)

    def __call__(self, image: Tensor, generator: torch.Generator) -> Degraded:
        """Return the image under the streaks."""
        count = draw_whole(self.layers, generator)
        rain = torch.zeros_like(image[0])
        for _ in range(count):
            density, *shape = (
                draw(value, generator)
                for value in (self.density, self.length, self.width, self.angle, self.fade, self.faintest)
            )
            layer = traces(image.shape[1], image.shape[2], [Streaks(density / count, *shape)], generator)
            rain += draw(self.brightness, generator) * layer.clamp(max=1)
        return Degraded((image + rain).clamp(0, 1))


def traces(height: int, width: int, layers: Sequence[Streaks], generator: torch.Generator) -> Tensor:
    """Return the cover (height, width) >= 0 of all layers' traces: 1 where the strongest passes, more where they cross.

    Points fall also outside the picture, as far as a trace reaches in. One inverse FFT serves all layers.
    """
    reach = math.ceil(max(max(s.length, s.width) for s in layers) / 2) + 2
    shape = [-(-(side + 2 * reach) // 16) * 16 for side in (height, width)]
    total = torch.zeros(shape[0], shape[1] // 2 + 1, dtype=torch.complex64)
    for streaks in layers:
        points = torch.zeros(shape)
        mean = streaks.density * (height + 2 * reach) * (width + 2 * reach) / 1e4
        count = int(torch.poisson(torch.tensor(mean), generator))
        strength = streaks.faintest + (1 - streaks.faintest) * torch.rand(count, generator=generator)
        rows, columns = random_points(height + 2 * reach - 1, width + 2 * reach - 1, count, generator)
        splat(points, rows, columns, strength)
        total += torch.fft.rfft2(points) * torch.fft.rfft2(trace(reach, streaks), s=shape)
    whole = torch.fft.irfft2(total, s=shape).clamp(min=0)
    return whole[2 * reach : 2 * reach + height, 2 * reach : 2 * reach + width]


def trace(reach: int, streaks: Streaks) -> Tensor:
    """Return the cover (2 reach + 1, 2 reach + 1) of one drop's trace, at most 1, its ends fading."""
    side = torch.arange(-reach, reach + 1, dtype=torch.float32)
    turn = math.radians(streaks.angle)
    along = (side[:, None] * math.cos(turn) + side * math.sin(turn)).abs()
    across = (side * math.cos(turn) - side[:, None] * math.sin(turn)).abs()
    fade = ((streaks.length / 2 + 0.5 - along) / (streaks.length * streaks.fade + 0.5)).clamp(0, 1)
    return fade * (streaks.width / 2 + 0.5 - across).clamp(min=0).clamp(max=min(1.0, streaks.width))
