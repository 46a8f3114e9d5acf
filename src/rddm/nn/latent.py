"""A latent in which a row of the table may run: a U-Net autoencoder whose skips stay behind (Refusion).

An image becomes a small latent ``z`` and the features of its encoder. The decoder is given the clean image's latent
with the features of the *degraded* one and must return the clean image ("latent replacing"): what distinguishes the two
then lies in ``z``, and a diffusion may move ``z`` alone, while what they share is carried around it. Source: Luo et
al., Refusion, CVPR workshops 2023.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rddm.denoiser import Denoiser
from rddm.move import Solver
from rddm.nn.spatial import cropped, pad_to_multiple
from rddm.path import Noise
from rddm.sample import Trajectory, sample

PULL = 0.001  # of the statistics of the latent towards those of the image, as published


@dataclass(frozen=True)
class LatentConfig:
    """The shape of an autoencoder.

    Arguments:
        channels: of the images.
        embed: channels of the latent; published 4 and 8.
        widths: channels at each resolution, halving each time; the latent is ``2^(len(widths) - 1)`` times smaller.
    """

    channels: int = 3
    embed: int = 8
    widths: tuple[int, ...] = (32, 64, 128)


class Encoded(NamedTuple):
    """What an image became.

    Arguments:
        z: the latent, (B, embed, h, w).
        features: of the encoder at each resolution, the finest first.
        size: height and width of the image.
    """

    z: Tensor
    features: tuple[Tensor, ...]
    size: tuple[int, int]


class Block(nn.Module):
    """Two convolutions around a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        return x + self.second(F.silu(self.first(F.silu(x))))


class LatentUNet(nn.Module):
    """The autoencoder."""

    def __init__(self, config: LatentConfig) -> None:
        super().__init__()
        widths = config.widths
        steps = list(zip(widths, widths[1:]))
        self.config = config
        self.enter = nn.Conv2d(config.channels, widths[0], 3, padding=1)
        self.encoders = nn.ModuleList(Block(width) for width in widths)
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in steps)
        self.narrow = nn.Conv2d(widths[-1], config.embed, 1)
        self.widen = nn.Conv2d(config.embed, widths[-1], 1)
        self.decoders = nn.ModuleList(Block(width) for width in reversed(widths))
        self.joins = nn.ModuleList(nn.Conv2d(2 * width, width, 1) for width in reversed(widths))
        self.ups = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in reversed(steps))
        self.leave = nn.Conv2d(widths[0], config.channels, 3, padding=1)

    def encode(self, x: Tensor) -> Encoded:
        """Return latent and features of images (B, C, H, W) in [-1, 1], of any size."""
        height, width = x.shape[2:]
        x = self.enter(pad_to_multiple(x, 2 ** len(self.downs)))
        features = []
        for i, encoder in enumerate(self.encoders):
            x = encoder(self.downs[i - 1](x) if i else x)
            features.append(x)
        return Encoded(self.narrow(x), tuple(features), (height, width))

    def decode(self, encoded: Encoded) -> Tensor:
        """Return images (B, C, H, W); the latent may be another's of the same size."""
        x = self.widen(encoded.z)
        for i, (join, decoder) in enumerate(zip(self.joins, self.decoders, strict=True)):
            x = self.ups[i - 1](x) if i else x
            x = decoder(join(torch.cat([x, encoded.features[-1 - i]], 1)))
        return cropped(self.leave(x), encoded.size)


def likeness(z: Tensor, x: Tensor) -> Tensor:
    """Return ``|mean(z) - mean(x)| + |sd(z) - sd(x) / 2|``, the mean over images: what a diffusion's range asks for."""
    (sd_z, mean_z), (sd_x, mean_x) = (torch.std_mean(v.flatten(1), dim=1) for v in (z, x))
    return ((mean_z - mean_x).abs() + (sd_z - sd_x / 2).abs()).mean()


def replacing_loss(net: LatentUNet, x_0: Tensor, x_in: Tensor) -> Tensor:
    """Return the loss of latent replacing.

    Both images are decoded with the features of the degraded one, from the latent of each (L1), and the latents are
    pulled to the images' statistics.

    Arguments:
        net: the autoencoder.
        x_0: clean images in [-1, 1], (B, C, H, W).
        x_in: degraded ones.
    """
    clean, degraded = net.encode(x_0), net.encode(x_in)
    kept = F.l1_loss(net.decode(degraded), x_in)
    replaced = F.l1_loss(net.decode(degraded._replace(z=clean.z)), x_0)
    return kept + replaced + PULL * (likeness(clean.z, x_0) + likeness(degraded.z, x_in))


def train_latent(net: LatentUNet, pairs: Iterable[tuple[Tensor, Tensor]], lr: float = 3e-4) -> list[float]:
    """Train an autoencoder, one update for each batch of ``(x_0, x_in)``, and return the losses.

    Arguments:
        net: the autoencoder; its weights are changed.
        pairs: batches of clean and degraded images in [-1, 1], (B, C, H, W).
        lr: Adam's rate.
    """
    optimiser = torch.optim.Adam(net.parameters(), lr)
    history = []
    for x_0, x_in in pairs:
        loss = replacing_loss(net, x_0, x_in)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        history.append(float(loss.detach()))
    return history


def latents(net: LatentUNet, x_0: Tensor, x_in: Tensor) -> tuple[Tensor, Tensor]:
    """Return the latents of clean and degraded images without gradients: a pair for the row's own training."""
    with torch.no_grad():
        return net.encode(x_0).z, net.encode(x_in).z


def restore_in_latent(
    net: LatentUNet,
    denoiser: Denoiser,
    x_in: Tensor,
    trajectory: Trajectory,
    noise: Noise,
    solver: Solver | None = None,
) -> Tensor:
    """Return restored images: the degraded latent restored by a row, decoded with the degraded image's features.

    Arguments:
        net: the autoencoder.
        denoiser: of latents, (B, embed, h, w).
        x_in: degraded images in [-1, 1], (B, C, H, W).
        trajectory: of the latent, as ``path.grid(steps)``.
        noise: the source of randomness.
        solver: how to step; a deterministic transition if None.
    """
    with torch.no_grad():
        degraded = net.encode(x_in)
        return net.decode(degraded._replace(z=sample(denoiser, degraded.z, trajectory, solver, noise)))
