"""Layers of the published restoration UNet, each taking and returning channels-first images (B, C, *spatial).

The network of Liu et al., "Residual Denoising Diffusion Models" (CVPR 2024), is the usual diffusion U-Net with two
peculiarities. Its residual blocks standardise the weights of their 3x3 convolutions on every forward pass, which is
what lets GroupNorm train at batch size one. And it attends at every resolution: with a cost linear in the number of
pixels on the way down and up, with full softmax attention only at the bottom.

The released code uses epsilon 1e-5 in float32 but 1e-3 in every other dtype. Here it is 1e-5 in all of them, and
half-precision statistics are computed in float32, so that a model means the same in every dtype.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from rddm.nn.pooled import GroupNorm, Pooled, Summary
from rddm.nn.spatial import CONV, over

EPS = 1e-5
GROUPS = 8
ATTENTION_HEADS = 4
ATTENTION_HEAD_DIM = 32
HEADS = ATTENTION_HEADS, ATTENTION_HEAD_DIM


def at_least_float32(x: Tensor) -> Tensor:
    """Raise half precision to float32 and leave float32 and float64 alone."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class WeightStandardized(_ConvNd):
    """Convolution with weight (w - mean(w)) / sqrt(var(w) + eps), statistics per output channel (biased variance).

    Qiao et al., "Micro-Batch Training with Batch-Channel Normalization and Weight Standardization" (2019).
    """

    def standardized_weight(self) -> Tensor:
        """The kernel that is in fact applied, in the dtype and layout of the stored one, channels last."""
        kernel = at_least_float32(self.weight).movedim(1, -1)
        rows = kernel.flatten(1)  # a layer norm is just that, in one pass
        same = F.layer_norm(rows, rows.shape[1:], eps=EPS).unflatten(1, kernel.shape[1:])
        return same.movedim(-1, 1).to(self.weight.dtype)

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, C, *spatial) to (B, C', *spatial')."""
        return self._conv_forward(input, self.standardized_weight(), self.bias)


class WeightStandardizedConv1d(WeightStandardized, nn.Conv1d):
    """Of signals."""


class WeightStandardizedConv2d(WeightStandardized, nn.Conv2d):
    """Of photographs."""


class WeightStandardizedConv3d(WeightStandardized, nn.Conv3d):
    """Of videos and volumes."""


STANDARDIZED = {1: WeightStandardizedConv1d, 2: WeightStandardizedConv2d, 3: WeightStandardizedConv3d}


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel, gain * (x - mean) / sqrt(var + eps), without a bias."""

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1, channels, *(1,) * dims))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, *spatial) to the same shape and dtype."""
        gain = at_least_float32(self.gain.flatten())
        return F.layer_norm(at_least_float32(x).movedim(1, -1), gain.shape, gain, None, EPS).to(x.dtype).movedim(-1, 1)


def sinusoids(clock: Tensor, dim: int) -> Tensor:
    """Map a floating clock c (B,) to (B, dim): all sin(c f_i), then all cos(c f_i), f_i = 10000^(-i / (dim/2 - 1))."""
    half = dim // 2
    exponents = torch.arange(half, device=clock.device, dtype=clock.dtype) / (half - 1)
    angles = clock[:, None] * torch.exp(-math.log(10000.0) * exponents)
    return torch.cat((angles.sin(), angles.cos()), dim=1)


class ClockEmbedding(nn.Module):
    """Sinusoids of the clock through a two-layer MLP."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.expand = nn.Linear(dim, 4 * dim)
        self.project = nn.Linear(4 * dim, 4 * dim)

    def forward(self, clock: Tensor) -> Tensor:
        """Map a clock (B,), integer or float, to (B, 4 dim)."""
        dtype = self.expand.weight.dtype
        waves = sinusoids(clock.to(torch.promote_types(dtype, torch.float32)), self.dim)
        return self.project(F.gelu(self.expand(waves.to(dtype))))


class ResBlock(nn.Module):
    """shortcut(x) + f2(f1(x)), f = SiLU(GroupNorm(conv)); the clock scales and shifts f1's normalised values."""

    def __init__(self, channels_in: int, channels_out: int, embedding: int, dims: int) -> None:
        super().__init__()
        conv = STANDARDIZED[dims]
        self.modulation = nn.Linear(embedding, 2 * channels_out)
        self.conv1 = conv(channels_in, channels_out, 3, padding=1)
        self.norm1 = GroupNorm(GROUPS, channels_out, eps=EPS)
        self.conv2 = conv(channels_out, channels_out, 3, padding=1)
        self.norm2 = GroupNorm(GROUPS, channels_out, eps=EPS)
        same = channels_in == channels_out
        self.shortcut = nn.Identity() if same else CONV[dims](channels_in, channels_out, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map (B, C, *spatial) and the clock's embedding (B, E) to (B, C', *spatial)."""
        scale, shift = over(self.modulation(F.silu(embedding)), x).chunk(2, dim=1)
        hidden = F.silu(self.norm1(self.conv1(x)) * (scale + 1) + shift)
        hidden = F.silu(self.norm2(self.conv2(hidden)))
        return hidden + self.shortcut(x)


class Attention(Pooled):
    """What both attentions share: x + mix(norm(x)) with a joint 1x1 projection to queries, keys and values."""

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        inner = ATTENTION_HEADS * ATTENTION_HEAD_DIM
        self.norm = ChannelNorm(channels, dims)
        self.qkv = CONV[dims](channels, 3 * inner, 1, bias=False)
        self.out = CONV[dims](inner, channels, 1)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the normalised image, each (B, N, heads head_dim).

        Three products, not one: elsewise their gradients would be put together into one, three times as large.
        """
        pixels = self.norm(x).movedim(1, -1).flatten(1, -2)
        query, key, value = (F.linear(pixels, weight) for weight in self.qkv.weight.flatten(1).chunk(3))
        return query, key, value

    def summarise(self, key: Tensor, value: Tensor) -> Summary:
        """Return what queries may read of the whole image's keys and values (B, N, heads head_dim)."""
        raise NotImplementedError

    def mix(self, query: Tensor, summary: Summary) -> Tensor:
        """Return what each query reads, (B, N, heads head_dim)."""
        raise NotImplementedError

    def leave(self, mixed: Tensor, x: Tensor) -> Tensor:
        """Project (B, N, heads head_dim) back to the image's channels and shape."""
        return self.out(mixed.unflatten(1, x.shape[2:]).movedim(-1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, *spatial) to the same shape."""
        query, key, value = self.project(x)
        mixed = self.mix(query, self.summary(lambda: self.summarise(key, value)))
        return x + self.leave(mixed, x)


class LinearAttention(Attention):
    """Attention in O(N) of N pixels: out = (softmax_pixels(k) v^T)^T softmax_channels(q) / (sqrt(head_dim) N), normed.

    The summary is the context softmax_pixels(k) v^T, one matrix (head_dim, head_dim) per head, over N.
    Shen et al., "Efficient Attention: Attention with Linear Complexities" (WACV 2021).
    """

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__(channels, dims)
        self.out_norm = ChannelNorm(channels, dims)

    def summarise(self, key: Tensor, value: Tensor) -> Summary:
        """Return the context of keys and values (B, N, heads head_dim)."""
        images = zip(value, key.softmax(dim=1))  # one by one: of a batch their heads would be moved in memory
        context = torch.stack([by_head(values).transpose(-2, -1) @ by_head(keys) for values, keys in images])
        return (context / (math.sqrt(ATTENTION_HEAD_DIM) * key.shape[1]),)

    def mix(self, query: Tensor, summary: Summary) -> Tensor:
        """Return what each query reads from the context, (B, N, heads head_dim)."""
        images = zip(query.unflatten(-1, HEADS).softmax(dim=-1).flatten(2), summary[0])
        return torch.stack(
            [(by_head(queries) @ context.transpose(-2, -1)).transpose(0, 1) for queries, context in images]
        ).flatten(2)

    def leave(self, mixed: Tensor, x: Tensor) -> Tensor:
        """Project back to the image's channels and normalise."""
        return self.out_norm(super().leave(mixed, x))


class FullAttention(Attention):
    """Softmax attention between all pixels, out = softmax(q^T k / sqrt(head_dim)) v^T, in O(N^2).

    The summary is the keys and values themselves.
    """

    def summarise(self, key: Tensor, value: Tensor) -> Summary:
        """Return keys and values, (B, heads, N, head_dim)."""
        return by_head(key).contiguous(), by_head(value).contiguous()  # or torch falls back to a quadratic kernel

    def mix(self, query: Tensor, summary: Summary) -> Tensor:
        """Return what each query reads from the values, (B, N, heads head_dim)."""
        key, value = summary
        return F.scaled_dot_product_attention(by_head(query).contiguous(), key, value).transpose(1, 2).flatten(2)


def by_head(tokens: Tensor) -> Tensor:
    """Map (..., N, heads head_dim) to (..., heads, N, head_dim), in the same memory."""
    return tokens.unflatten(-1, HEADS).transpose(-3, -2)
