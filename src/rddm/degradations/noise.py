r"""Noise: the mathematicians' and the sensor's.

Denoising papers add Gaussian noise of one standard deviation to the codes of an image. A sensor instead counts
electrons: their number is Poisson distributed, so that the variance equals the mean (shot noise), and reading them out
adds Gaussian noise of a few electrons. At ISO ``s`` a pixel of full well ``w`` (electrons at ISO 100) saturates at
``w 100 / s`` of them. Three steps from the sensor to the file then colour the noise:

* Each pixel sees one colour (Bayer's mosaic). Demosaicing fills in the others from neighbours, which correlates the
  noise over two or three pixels. Bilinear demosaicing is linear, ``D(raw + n) = D(raw) + D(n)``: we add ``D(n)`` to the
  clean light, and so have the correlation without the loss of sharpness.
* White balance multiplies red and blue by gains ``g`` of about 2: with their shot noise they start from fewer photons.
* A matrix ``M`` with rows that sum to one takes the sensor's overlapping colours apart and mixes the noise of channels.

In all, ``L' = L + M g D(n)`` with ``n`` the noise of the raw values ``M^{-1} L / g``; ``L'`` is then encoded as sRGB.
The heteroscedastic model is Foi et al., IEEE TIP 17 (2008) 1737; the pipeline is after Brooks et al., CVPR 2019.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from rddm.degradations.base import Degraded, Limits, Parameter, Parametrised, Range, draw, draw_log, uniform
from rddm.degradations.light import eight_bit, to_linear, to_srgb


@dataclass(frozen=True)
class Noise(Parametrised):
    """Gaussian noise on the codes, clamped to [0, 1] as any image file is: ``clamp(c + sigma/255 n)``.

    Arguments:
        sigma: standard deviation on the scale of 0 to 255.
    """

    name: ClassVar[str] = "noise"
    sigma: Annotated[Parameter, Limits(0, 255)]

    def __call__(self, image: Tensor, generator: torch.Generator) -> Degraded:
        """Return the noisy image, in [0, 1]."""
        return Degraded(with_noise(image, draw(self.sigma, generator), generator).clamp(0, 1))


@dataclass(frozen=True)
class WhiteNoise(Parametrised):
    """Gaussian noise on the codes, **not clamped**: ``c + sigma/255 n``, the one degradation that leaves [0, 1].

    This is the protocol of the published tables (CBSD68, Kodak, McMaster since DnCNN, Zhang et al., IEEE TIP 2017):
    noise is added to floats and handed to the network as it is. It is the easier task, because the mean of
    the noise stays zero next to black and white. Evaluate with ``awgn`` to compare with the tables; train
    with ``noise`` for photographs, whose noise was clamped when they were saved.

    Arguments:
        sigma: standard deviation on the scale of 0 to 255.
    """

    name: ClassVar[str] = "awgn"
    sigma: Annotated[Parameter, Limits(0, 255)]

    def __call__(self, image: Tensor, generator: torch.Generator) -> Degraded:
        """Return the noisy image, not clamped."""
        return Degraded(with_noise(image, draw(self.sigma, generator), generator))


@dataclass(frozen=True)
class Shot(Parametrised):
    """Shot noise alone: ``L' = Poisson(photons L) / photons`` in linear light, of variance ``L / photons``.

    Arguments:
        photons: that white gives a pixel; a range is drawn log-uniformly.
    """

    name: ClassVar[str] = "shot"
    photons: Annotated[Parameter, Limits(1, 1e6)]

    def __call__(self, image: Tensor, generator: torch.Generator) -> Degraded:
        """Return the noisy image."""
        photons = draw_log(self.photons, generator)
        return Degraded(to_srgb(torch.poisson(to_linear(image) * photons, generator) / photons))


@dataclass(frozen=True)
class Camera(Parametrised):
    """The noise of a camera's JPEG before compression: shot and read noise, mosaic, white balance, colour matrix.

    The equation is that of the module. White balance (red 1.4 to 2.4, blue 1.2 to 2.2) and colour matrix are drawn
    for each image, as for light and cameras at random.

    Arguments:
        iso: sensitivity; a range is drawn log-uniformly.
        well: electrons at which a pixel saturates at ISO 100: about 5,000 for phones, 50,000 for full frame.
        read: read noise, electrons (standard deviation).
    """

    name: ClassVar[str] = "camera"
    iso: Annotated[Parameter, Limits(25, 409600)] = Range(200, 6400)
    well: Annotated[Parameter, Limits(500, 200000)] = Range(5000, 30000)
    read: Annotated[Parameter, Limits(0, 50)] = Range(1, 4)

    def __call__(self, image: Tensor, generator: torch.Generator) -> Degraded:
        """Return the noisy image."""
        electrons = draw_log(self.well, generator) * 100 / draw_log(self.iso, generator)
        sensor = random_sensor(electrons, draw(self.read, generator), generator)
        return Degraded(to_srgb(exposed(to_linear(image), sensor, generator)))


@dataclass(frozen=True)
class LowLight(Parametrised):
    """Too short an exposure: ``L' = 2^-stops cast L`` with the noise of ``Camera``, encoded and rounded to 8 bits.

    The rounding matters: what a network has to bring back lies in the lowest codes. The cast is what automatic white
    balance leaves in the dark.

    Arguments:
        stops: of exposure that are missing.
        iso: sensitivity; a range is drawn log-uniformly.
        well: electrons at which a pixel saturates at ISO 100.
        read: read noise, electrons (standard deviation).
        cast: each channel's gain is drawn from 1 - cast to 1 + cast, then all are shifted to have mean 1.
    """

    name: ClassVar[str] = "low_light"
    stops: Annotated[Parameter, Limits(0, 12)] = Range(2, 6)
    iso: Annotated[Parameter, Limits(25, 409600)] = Range(100, 1600)
    well: Annotated[Parameter, Limits(500, 200000)] = Range(5000, 30000)
    read: Annotated[Parameter, Limits(0, 50)] = Range(1, 4)
    cast: Annotated[Parameter, Limits(0, 0.5)] = 0.08

    def __call__(self, image: Tensor, generator: torch.Generator) -> Degraded:
        """Return the dark image, of multiples of 1/255."""
        tint = (torch.rand(3, 1, 1, generator=generator) * 2 - 1) * draw(self.cast, generator)
        gain = 2 ** -draw(self.stops, generator) * (1 + tint - tint.mean())
        electrons = draw_log(self.well, generator) * 100 / draw_log(self.iso, generator)
        sensor = random_sensor(electrons, draw(self.read, generator), generator)
        return Degraded(eight_bit(to_srgb(exposed(to_linear(image) * gain, sensor, generator))))


class Sensor(NamedTuple):
    """A camera's sensor and its processing.

    Arguments:
        electrons: that white gives a pixel of the channel with gain 1.
        read: read noise, electrons.
        gains: of white balance, (3, 1, 1).
        crosstalk: ``a`` of the colour matrix ``M = (1 + 3a) I - a J``, J all ones: its rows sum to one.
    """

    electrons: float
    read: float
    gains: Tensor
    crosstalk: float


def with_noise(image: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Return ``image + sigma/255 n``, ``n`` standard normal."""
    return image + torch.randn(image.shape, generator=generator) * (sigma / 255)


def random_sensor(electrons: float, read: float, generator: torch.Generator) -> Sensor:
    """Return a sensor under light of random colour: gains for red and blue as from lamps to shade."""
    gains = [uniform(1.4, 2.4, generator), 1.0, uniform(1.2, 2.2, generator)]
    return Sensor(electrons, read, torch.tensor(gains)[:, None, None], uniform(0.05, 0.25, generator))


def exposed(light: Tensor, sensor: Sensor, generator: torch.Generator) -> Tensor:
    """Return linear ``light`` (3, H, W) >= 0 as the sensor sees it, not clamped: the equation of the module."""
    strength = 1 + 3 * sensor.crosstalk
    # M's inverse has eigenvalue 1 for grey and 1/strength for colours, and no negative entry: nor has the raw light.
    grey = light.mean(0, keepdim=True)
    raw = (grey + (light - grey) / strength) / sensor.gains
    sites = bayer_sites(light.shape[1], light.shape[2], generator)
    seen = (raw * sites).sum(0)
    counts = torch.poisson(seen * sensor.electrons, generator)
    counts = counts + sensor.read * torch.randn(seen.shape, generator=generator)
    noise = demosaiced((counts / sensor.electrons - seen) * sites) * sensor.gains
    grey = noise.mean(0, keepdim=True)
    return light + grey + (noise - grey) * strength


def bayer_sites(height: int, width: int, generator: torch.Generator) -> Tensor:
    """Return which of red, green and blue each pixel sees, (3, height, width) of 0 and 1: RGGB, its corner random."""
    top, left = torch.randint(2, (2,), generator=generator).tolist()
    odd_row = (torch.arange(height)[:, None] + top) % 2
    odd_column = (torch.arange(width)[None] + left) % 2
    red, blue = (1 - odd_row) * (1 - odd_column), odd_row * odd_column
    return torch.stack([red, 1 - red - blue, blue]).float()


def demosaiced(mosaic: Tensor) -> Tensor:
    """Return the channels (3, H, W), zero where not seen, with the mean of the nearest neighbours there (bilinear)."""
    sparse = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 4
    dense = torch.tensor([[0.0, 1.0, 0.0], [1.0, 4.0, 1.0], [0.0, 1.0, 0.0]]) / 4
    weights = torch.stack([sparse, dense, sparse])[:, None]
    padded = F.pad(mosaic[None], (1, 1, 1, 1), mode="reflect")  # reflection keeps the mosaic's parity
    return F.conv2d(padded, weights, groups=3)[0]
