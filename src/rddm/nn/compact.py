"""A compact backbone: a UNet of plain 3x3 convolutions on 2x2 patches, without statistics pooled over the image.

The published UNet takes 119 GMACs at 256x256, and its group norms and attention mix all pixels, so that a tile and the
whole image disagree. Here normalisation acts on the channels of each pixel; what must be known of the whole image
enters as an input or as context (see ``rddm.preprocess``). The output at a pixel depends on its neighbourhood alone:
tiles agree. Signals and videos have convolutions and patches of one and three dimensions in their place.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rddm.nn.layers import sinusoids
from rddm.nn.spatial import CONV, check_dims, cropped, over, pad_to_multiple, shuffle, unshuffle

WAVES = 64  # sinusoids of the clock


@dataclass(frozen=True)
class CompactConfig:
    """The shape of a :class:`Compact` network.

    Arguments:
        in_channels: channels of ``cat(x_t, conditions)``.
        out_channels: channels of each output image.
        heads: number of output images.
        nets: networks that share nothing: one for all heads, or one for each head, each with a clock of its own.
        widths: channels at each resolution, from 1/2 (1/``patch``) on, halving each time.
        blocks: residual blocks at each resolution, in the encoder and again in the decoder.
        patch: side of the patches folded into channels first.
        features: width of the embedded clock.
        context: numbers after the clock's reading that describe the whole photograph.
        thumbnail: side of a square RGB thumbnail of the photograph whose numbers follow, 0 for none.
        dims: spatial dimensions: 1 for signals, 2 for photographs, 3 for videos and volumes.
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
    nets: int = 1
    dims: int = 2

    def __post_init__(self) -> None:
        """Check the number of networks and of dimensions.

        Raises:
            ValueError: unless there is one network for all heads or one for each, in 1, 2 or 3 dimensions; or for a
                thumbnail in other than 2.
        """
        check_dims(self.dims)
        if self.thumbnail and self.dims != 2:
            raise ValueError(
                f"thumbnail is {self.thumbnail} in {self.dims} dimensions, expected 0: only photographs have one"
            )
        if self.nets not in (1, self.heads):
            raise ValueError(f"nets is {self.nets}, expected 1, or one for each of {self.heads} heads")

    @property
    def stride(self) -> int:
        """Every side is padded to a multiple of this."""
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
        """Normalise x of shape (B, C, *spatial)."""
        return F.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias, 1e-5).movedim(-1, 1)


class Block(nn.Module):
    """``x + conv(silu(scale * conv(norm(x)) + shift))``, scale and shift from the time."""

    def __init__(self, channels: int, features: int, dims: int) -> None:
        super().__init__()
        self.norm = PixelNorm(channels)
        self.conv1 = CONV[dims](channels, channels, 3, padding=1)
        self.film = nn.Linear(features, 2 * channels)
        self.conv2 = CONV[dims](channels, channels, 3, padding=1)
        for layer in (self.film, self.conv2):  # a fresh block is the identity
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Return the block's output for x of shape (B, C, *spatial) and time of shape (B, features)."""
        scale, shift = over(self.film(time), x).chunk(2, dim=1)
        return x + self.conv2(F.silu(torch.addcmul(shift, self.conv1(self.norm(x)), 1 + scale)))


class Stage(nn.Module):
    """Residual blocks at one resolution."""

    def __init__(self, channels: int, features: int, blocks: int, dims: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(channels, features, dims) for _ in range(blocks))

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
        widths, dims = config.widths, config.dims
        conv, area = CONV[dims], config.patch**dims
        seen = config.features if config.thumbnail else 0
        told = WAVES + config.context + seen
        self.glance = Glance(seen) if seen else None
        self.time = nn.Sequential(
            nn.Linear(told, config.features), nn.SiLU(), nn.Linear(config.features, config.features)
        )
        self.enter = conv(config.in_channels * area, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(Stage(w, config.features, n, dims) for w, n in zip(widths, config.blocks))
        self.down = nn.ModuleList(conv(a, b, 2, stride=2) for a, b in zip(widths, widths[1:]))
        self.up = nn.ModuleList(conv(b, 2**dims * a, 1) for a, b in zip(widths, widths[1:]))
        self.decoder = nn.ModuleList(Stage(w, config.features, n, dims) for w, n in zip(widths[:-1], config.blocks))
        self.leave = conv(widths[0], config.heads * config.out_channels * area, 3, padding=1)

    def forward(self, x: Tensor, clock: Tensor) -> tuple[Tensor, ...]:
        """Return one image per head.

        Arguments:
            x: images (B, in_channels, *spatial) of any size.
            clock: (B,), or (B, config.told): the clock's reading, the context, the thumbnail's numbers.
        """
        size = x.shape[2:]
        time = self.time(self.told(clock.reshape(len(x), -1)).to(x.dtype))
        x = self.enter(unshuffle(pad_to_multiple(x, self.config.stride), self.config.patch))
        skips = []
        for stage, down in zip(self.encoder, self.down):
            x = stage(x, time)
            skips.append(x)
            x = down(x)
        x = self.encoder[-1](x, time)
        for stage, up, skip in zip(reversed(self.decoder), reversed(self.up), reversed(skips)):
            x = stage(shuffle(up(x), 2) + skip, time)
        x = cropped(shuffle(self.leave(x), self.config.patch), size)
        return x.chunk(self.config.heads, dim=1)

    def told(self, numbers: Tensor) -> Tensor:
        """Return what the time's layers read: the clock's waves, the context, and what the thumbnail tells."""
        dtype = next(self.parameters()).dtype
        numbers = numbers.to(torch.promote_types(dtype, torch.float32))
        end = 1 + self.config.context
        parts = [sinusoids(numbers[:, 0], WAVES), numbers[:, 1:end]]
        if self.glance is not None:
            side = self.config.thumbnail
            thumbnail = numbers[:, end:].view(-1, 3, side, side).to(dtype)
            parts.append(self.glance(thumbnail).flatten(1).to(numbers.dtype))
        return torch.cat(parts, dim=1)


class Several(nn.Module):
    """Compact networks that share nothing, one for each head, each with a clock of its own (paper, section 3.3)."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.config = config
        single = replace(config, heads=1, nets=1)
        self.nets = nn.ModuleList(Compact(single) for _ in range(config.nets))

    def forward(self, x: Tensor, clock: Tensor) -> tuple[Tensor, ...]:
        """Return one image per network.

        Arguments:
            x: images (B, in_channels, *spatial) of any size.
            clock: (B,), or (B, readings + told - 1): one reading for all networks or one for each, then what all are
                told beside it.
        """
        clock = clock.reshape(len(x), -1)
        readings = clock.shape[1] - (self.config.told - 1)
        shared = clock[:, readings:]
        columns = (clock[:, i % readings, None] for i in range(len(self.nets)))
        return tuple(net(x, torch.cat([own, shared], dim=1))[0] for net, own in zip(self.nets, columns))
