"""A compact backbone: a UNet of plain 3x3 convolutions on 2x2 patches, without statistics pooled over the image.

The published UNet takes 119 GMACs at 256x256, and its group norms and attention mix all pixels, so that a tile and the
whole image disagree. Here normalisation acts on the channels of each pixel; what must be known of the whole image
enters as an input or as context (see ``rddm.preprocess``). The output at a
pixel depends on its neighbourhood alone: tiles agree.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rddm.nn.layers import pad_to_multiple, sinusoids

WAVES = 64  # sinusoids of the clock


@dataclass(frozen=True)
class CompactConfig:
    """The shape of a :class:`Compact` network.

    Arguments:
        in_channels: channels of ``cat(x_t, conditions)``.
        out_channels: channels of each output image.
        heads: number of output images.
        widths: channels at each resolution, from 1/2 (1/``patch``) on, halving each time.
        blocks: residual blocks at each resolution, in the encoder and again in the decoder.
        patch: side of the patches folded into channels first.
        features: width of the embedded clock.
        context: numbers after the clock's reading that describe the whole photograph.
        thumbnail: side of a square RGB thumbnail of the photograph whose numbers follow, 0 for none.
    """

    in_channels: int = 6
    out_channels: int = 3
    heads: int = 1
    widths: tuple[int, ...] = (32, 64, 96, 128)
    blocks: tuple[int, ...] = (1, 1, 2, 2)
    patch: int = 2
    features: int = 128
    context: int = 0
    thumbnail: int = 0

    @property
    def stride(self) -> int:
        """Height and width are padded to a multiple of this."""
        return self.patch * 2 ** (len(self.widths) - 1)

    @property
    def told(self) -> int:
        """How many numbers the network is told beside images: one clock, the context, the thumbnail."""
        return 1 + self.context + 3 * self.thumbnail**2


class PixelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x of shape (B, C, H, W)."""
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, 1e-5)
        return x.permute(0, 3, 1, 2)


class Block(nn.Module):
    """``x + conv(silu(scale * conv(norm(x)) + shift))``, scale and shift from the time."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.norm = PixelNorm(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = nn.Linear(features, 2 * channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        for layer in (self.film, self.conv2):  # a fresh block is the identity
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Return the block's output for x of shape (B, C, H, W) and time of shape (B, features)."""
        scale, shift = self.film(time)[:, :, None, None].chunk(2, dim=1)
        return x + self.conv2(F.silu(torch.addcmul(shift, self.conv1(self.norm(x)), 1 + scale)))


class Stage(nn.Module):
    """Residual blocks at one resolution."""

    def __init__(self, channels: int, features: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(channels, features) for _ in range(blocks))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Return the output of the last block."""
        for block in self.blocks:
            x = block(x, time)
        return x


class Glance(nn.Sequential):
    """What a thumbnail of the whole photograph tells: three strided convolutions, one more, and their mean."""

    def __init__(self, features: int) -> None:
        widths, layers = (3, 32, 64, features), []
        for a, b in zip(widths, widths[1:]):
            layers += [nn.Conv2d(a, b, 3, stride=2, padding=1), nn.SiLU()]
        super().__init__(*layers, nn.Conv2d(features, features, 3, padding=1), nn.SiLU(), nn.AdaptiveAvgPool2d(1))


class Compact(nn.Module):
    """The network: encoder, decoder with added skips, one 3x3 convolution for all heads."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.config = config
        widths, area = config.widths, config.patch**2
        seen = config.features if config.thumbnail else 0
        told = WAVES + config.context + seen
        self.glance = Glance(seen) if seen else None
        self.time = nn.Sequential(
            nn.Linear(told, config.features), nn.SiLU(), nn.Linear(config.features, config.features)
        )
        self.enter = nn.Conv2d(config.in_channels * area, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(Stage(w, config.features, n) for w, n in zip(widths, config.blocks))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in zip(widths, widths[1:]))
        self.up = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in zip(widths, widths[1:]))
        self.decoder = nn.ModuleList(Stage(w, config.features, n) for w, n in zip(widths[:-1], config.blocks))
        self.leave = nn.Conv2d(widths[0], config.heads * config.out_channels * area, 3, padding=1)

    def forward(self, x: Tensor, clock: Tensor) -> tuple[Tensor, ...]:
        """Return one image per head.

        Arguments:
            x: images (B, in_channels, H, W) of any size.
            clock: (B,), or (B, config.told): the clock's reading, the context, the thumbnail's numbers.
        """
        height, width = x.shape[-2:]
        time = self.time(self.told(clock.reshape(len(x), -1)).to(x.dtype))
        x = self.enter(F.pixel_unshuffle(pad_to_multiple(x, self.config.stride), self.config.patch))
        skips = []
        for stage, down in zip(self.encoder, self.down):
            x = stage(x, time)
            skips.append(x)
            x = down(x)
        x = self.encoder[-1](x, time)
        for stage, up, skip in zip(reversed(self.decoder), reversed(self.up), reversed(skips)):
            x = stage(F.pixel_shuffle(up(x), 2) + skip, time)
        x = F.pixel_shuffle(self.leave(x), self.config.patch)[..., :height, :width]
        return x.chunk(self.config.heads, dim=1)

    def told(self, numbers: Tensor) -> Tensor:
        """Return what the time's layers read: the clock's waves, the context, and what the thumbnail tells."""
        numbers = numbers.to(torch.promote_types(self.enter.weight.dtype, torch.float32))
        end = 1 + self.config.context
        parts = [sinusoids(numbers[:, 0], WAVES), numbers[:, 1:end]]
        if self.glance is not None:
            side = self.config.thumbnail
            thumbnail = numbers[:, end:].view(-1, 3, side, side).to(self.enter.weight.dtype)
            parts.append(self.glance(thumbnail).flatten(1).to(numbers.dtype))
        return torch.cat(parts, dim=1)
