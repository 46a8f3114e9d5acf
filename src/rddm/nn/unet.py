"""The published restoration UNet, with one or two outputs.

Liu et al., "Residual Denoising Diffusion Models" (CVPR 2024), predict the residual, the noise or both with a U-Net of
the denoising-diffusion family. Its input is the noisy image x_t, followed on the channels by the degraded image and,
for shadows, by the mask. The four ways to get the outputs differ in what they share:

* ``one``: one network with one output, residual or noise as the objective has it;
* ``two_nets``: a residual network and a noise network that share nothing; each can have its own clock;
* ``shared_encoder``: one encoder, a residual decoder without skip connections and a noise decoder with them;
* ``two_heads``: one network whose last 1x1 convolution emits both.

The paper's 7.73 M parameters and 32.9 GMACs at 256x256 leave out the weight-standardised convolutions. Counted in
full one network of dim 64 has 36.26 M parameters and 119.17 GMACs.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rddm.nn.layers import GROUPS, ClockEmbedding, FullAttention, LinearAttention, ResBlock
from rddm.nn.spatial import CONV, LAYOUT, check_dims, cropped, pad_to_multiple

HEADS = ("one", "two_nets", "shared_encoder", "two_heads")


@dataclass(frozen=True)
class UNetConfig:
    """Architecture of a published UNet.

    Args:
        in_channels: channels of x_t, degraded image and mask together: 3 (generation), 6 (restoration), 9 (with mask).
        out_channels: channels of each output.
        dim: width of the first level.
        mults: width of each level after its resampling, as a multiple of dim; as many entries as levels.
        heads: "one", "two_nets", "shared_encoder" or "two_heads".
        dims: spatial dimensions: 1 for signals, 2 for photographs, 3 for videos and volumes.
    """

    in_channels: int = 6
    out_channels: int = 3
    dim: int = 64
    mults: tuple[int, ...] = (1, 2, 4, 8)
    heads: str = "one"
    dims: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "mults", tuple(self.mults))
        if self.heads not in HEADS:
            raise ValueError(f"heads is {self.heads!r}, expected one of {', '.join(HEADS)}")
        if self.in_channels < 1 or self.out_channels < 1:
            raise ValueError(f"channels are {self.in_channels} in, {self.out_channels} out, expected at least 1 each")
        if self.dim < GROUPS or self.dim % GROUPS:
            raise ValueError(f"dim is {self.dim}, expected a positive multiple of {GROUPS} (groups of GroupNorm)")
        if not self.mults or min(self.mults) < 1:
            raise ValueError(f"mults is {self.mults}, expected one or more positive integers")
        check_dims(self.dims)

    @property
    def outputs(self) -> int:
        """Number of tensors the network returns."""
        return 1 if self.heads == "one" else 2

    @property
    def told(self) -> int:
        """How many numbers the network is told beside images: one clock (two networks may be told one each)."""
        return 1

    @property
    def stride(self) -> int:
        """Every side is padded to a multiple of this."""
        return 2 ** (len(self.mults) - 1)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels before the first level, then after each level."""
        return (self.dim, *(self.dim * mult for mult in self.mults))


class Features(NamedTuple):
    """What the encoder hands to a decoder."""

    stem: Tensor
    skips: list[Tensor]
    bottom: Tensor
    embedding: Tensor


class Stage(nn.Module):
    """One resolution: two residual blocks, linear attention, and a convolution that may change the resolution."""

    def __init__(self, width: int, skip: int, resize: nn.Module, embedding: int, dims: int) -> None:
        super().__init__()
        self.first = ResBlock(width + skip, width, embedding, dims)
        self.second = ResBlock(width + skip, width, embedding, dims)
        self.attention = LinearAttention(width, dims)
        self.resize = resize


class DownStage(Stage):
    """Encoder stage: keeps an image for each of the decoder's two blocks, then halves the resolution."""

    def __init__(self, width: int, width_out: int, last: bool, embedding: int, dims: int) -> None:
        conv = CONV[dims]
        resize = conv(width, width_out, 3, padding=1) if last else conv(width, width_out, 4, 2, 1)
        super().__init__(width, 0, resize, embedding, dims)

    def forward(self, x: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map (B, C, *spatial) to two skips of that shape and (B, C', *spatial/2), full size at the last level."""
        early = self.first(x, embedding)
        late = self.attention(self.second(early, embedding))
        return early, late, self.resize(late)


class UpStage(Stage):
    """Decoder stage: takes two skips if it was built for them, then doubles the resolution."""

    def __init__(self, width: int, width_out: int, skip: int, last: bool, embedding: int, dims: int) -> None:
        super().__init__(width, skip, CONV[dims](width, width_out, 3, padding=1), embedding, dims)
        self.has_skips = skip > 0
        self.scale = 1 if last else 2

    def forward(self, x: Tensor, early: Tensor, late: Tensor, embedding: Tensor) -> Tensor:
        """Map (B, C, *spatial) to (B, C', *(2 spatial)), or to (B, C', *spatial) at the last level."""
        x = self.first(torch.cat((x, late), dim=1) if self.has_skips else x, embedding)
        x = self.second(torch.cat((x, early), dim=1) if self.has_skips else x, embedding)
        x = self.attention(x)
        return self.resize(x if self.scale == 1 else F.interpolate(x, scale_factor=float(self.scale), mode="nearest"))


class Middle(nn.Module):
    """The bottom of the U: residual block, full attention, residual block."""

    def __init__(self, width: int, embedding: int, dims: int) -> None:
        super().__init__()
        self.first = ResBlock(width, width, embedding, dims)
        self.attention = FullAttention(width, dims)
        self.second = ResBlock(width, width, embedding, dims)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map (B, C, *spatial) to the same shape."""
        return self.second(self.attention(self.first(x, embedding)), embedding)


class Encoder(nn.Module):
    """From the input to the bottom of the U, keeping what decoders may want."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        widths, embedding, dims = config.widths, 4 * config.dim, config.dims
        last = len(config.mults) - 1
        self.stem = CONV[dims](config.in_channels, config.dim, 7, padding=3)
        self.clock = ClockEmbedding(config.dim)
        self.stages = nn.ModuleList(
            DownStage(widths[i], widths[i + 1], i == last, embedding, dims) for i in range(last + 1)
        )
        self.middle = Middle(widths[-1], embedding, dims)

    def forward(self, x: Tensor, clock: Tensor) -> Features:
        """Map (B, in_channels, *spatial) and (B,) to features whose bottom is (B, widths[-1], *spatial/stride)."""
        embedding = self.clock(clock)
        stem = x = self.stem(x)
        skips: list[Tensor] = []
        for stage in self.stages:
            early, late, x = stage(x, embedding)
            skips += [early, late]
        return Features(stem, skips, self.middle(x, embedding), embedding)


class Decoder(nn.Module):
    """From the bottom of the U to an image."""

    def __init__(self, config: UNetConfig, out_channels: int, has_skips: bool) -> None:
        super().__init__()
        widths, embedding, dims = config.widths, 4 * config.dim, config.dims
        self.has_skips = has_skips
        self.stages = nn.ModuleList(
            UpStage(widths[i + 1], widths[i], widths[i] if has_skips else 0, i == 0, embedding, dims)
            for i in reversed(range(len(config.mults)))
        )
        self.last = ResBlock(config.dim * (1 + has_skips), config.dim, embedding, dims)
        self.head = CONV[dims](config.dim, out_channels, 1)

    def forward(self, features: Features) -> Tensor:
        """Map the encoder's features to (B, out_channels, *spatial)."""
        x = features.bottom
        for index, stage in enumerate(self.stages):
            early, late = features.skips[-2 * index - 2], features.skips[-2 * index - 1]
            x = stage(x, early, late, features.embedding)
        if self.has_skips:
            x = torch.cat((x, features.stem), dim=1)
        return self.head(self.last(x, features.embedding))


class UNet(nn.Module):
    """The published network: ``UNet(UNetConfig())(x, clock)`` returns the residual and, where it has one, the noise."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        two_nets, shared = config.heads == "two_nets", config.heads == "shared_encoder"
        emitted = config.out_channels * (2 if config.heads == "two_heads" else 1)
        # The residual decoder of the shared encoder is the only one without skip connections.
        skips = (False, True) if shared else (True, True) if two_nets else (True,)
        self.encoders = nn.ModuleList(Encoder(config) for _ in range(2 if two_nets else 1))
        self.decoders = nn.ModuleList(Decoder(config, emitted, has_skips) for has_skips in skips)
        self.to(memory_format=LAYOUT[config.dims])  # pyright: ignore[reportCallIssue]  # as kernels are standardised

    def forward(self, x: Tensor, clock: Tensor) -> tuple[Tensor, ...]:
        """Predict residual and noise from images of any size.

        Args:
            x: (B, in_channels, *spatial), sides of at least 1; padded inside to a multiple of ``config.stride``.
            clock: (B,), integer or float, or (B, outputs): net i reads column i, a single encoder column 0.

        Returns:
            One (B, out_channels, *spatial) tensor per output, the residual first.
        """
        padded = pad_to_multiple(x, self.config.stride)
        clocks = self._columns(clock, x.shape[0])
        features = [encoder(padded, clocks[i % len(clocks)]) for i, encoder in enumerate(self.encoders)]
        images = [decoder(features[i % len(features)]) for i, decoder in enumerate(self.decoders)]
        if self.config.heads == "two_heads":
            images = list(images[0].chunk(2, dim=1))
        return tuple(cropped(image, x.shape[2:]) for image in images)

    def _columns(self, clock: Tensor, batch: int) -> tuple[Tensor, ...]:
        if clock.shape not in ((batch,), (batch, 1), (batch, self.config.outputs)):
            expected = f"({batch},) or ({batch}, {self.config.outputs})"
            raise ValueError(f"clock has shape {tuple(clock.shape)}, expected {expected}")
        return (clock,) if clock.dim() == 1 else clock.unbind(1)
