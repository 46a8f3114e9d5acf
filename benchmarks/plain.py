"""The published network the plain way: what ``rddm.nn`` is compared with.

The same weights and the same function as :class:`rddm.nn.unet.UNet`, computed as diffusion U-Nets commonly are: kernels
standardised at every call by a mean and a variance of their own, layer norms likewise, heads taken apart by copies,
attention by sums over indices, every result in memory of its own, channels first.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rddm.nn.layers import ATTENTION_HEADS, EPS, ChannelNorm, FullAttention, LinearAttention, ResBlock
from rddm.nn.layers import WeightStandardizedConv2d as Standardised
from rddm.nn.unet import UNet, UNetConfig


class PlainConv(nn.Module):
    """A convolution that standardises its kernel at every call."""

    def __init__(self, conv: Standardised) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H, W)."""
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        variance = self.weight.var((1, 2, 3), keepdim=True, unbiased=False)
        return F.conv2d(x, (self.weight - mean) * (variance + EPS).rsqrt(), self.bias, padding=1)


class PlainNorm(nn.Module):
    """A layer norm over channels."""

    def __init__(self, norm: ChannelNorm) -> None:
        super().__init__()
        self.gain = norm.gain

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        variance = x.var(1, keepdim=True, unbiased=False)
        mean = x.mean(1, keepdim=True)
        return (x - mean) * (variance + EPS).rsqrt() * self.gain


class PlainBlock(nn.Module):
    """A residual block."""

    def __init__(self, block: ResBlock) -> None:
        super().__init__()
        self.modulation, self.shortcut = block.modulation, block.shortcut
        self.conv1, self.norm1, self.conv2, self.norm2 = block.conv1, block.norm1, block.conv2, block.norm2

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map (B, C, H, W) and the clock's embedding to (B, C', H, W)."""
        scale, shift = self.modulation(F.silu(embedding))[:, :, None, None].chunk(2, dim=1)
        hidden = F.silu(self.norm1(self.conv1(x)) * (scale + 1) + shift)
        return F.silu(self.norm2(self.conv2(hidden))) + self.shortcut(x)


class PlainAttention(nn.Module):
    """What both attentions share."""

    def __init__(self, attention: LinearAttention | FullAttention) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = PlainNorm(attention.norm), attention.qkv, attention.out

    def heads(self, x: Tensor) -> list[Tensor]:
        """Return queries, keys and values, (B, heads, head_dim, N) each."""
        parts = self.qkv(self.norm(x)).chunk(3, dim=1)
        return [part.reshape(len(x), ATTENTION_HEADS, -1, x.shape[2] * x.shape[3]) for part in parts]


class PlainLinear(PlainAttention):
    """Linear attention."""

    def __init__(self, attention: LinearAttention) -> None:
        super().__init__(attention)
        self.out_norm = PlainNorm(attention.out_norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        query, key, value = self.heads(x)
        query = query.softmax(dim=-2) / math.sqrt(query.shape[-2])
        context = torch.einsum("bhdn,bhen->bhde", key.softmax(dim=-1), value / value.shape[-1])
        mixed = torch.einsum("bhde,bhdn->bhen", context, query)
        return self.out_norm(self.out(mixed.reshape(len(x), -1, *x.shape[2:]))) + x


class PlainFull(PlainAttention):
    """Softmax attention."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        query, key, value = self.heads(x)
        weights = torch.einsum("bhdi,bhdj->bhij", query / math.sqrt(query.shape[-2]), key).softmax(dim=-1)
        mixed = torch.einsum("bhij,bhdj->bhdi", weights, value)
        return self.out(mixed.reshape(len(x), -1, *x.shape[2:])) + x


PLAIN: dict[type[nn.Module], type[nn.Module]] = {
    Standardised: PlainConv, ResBlock: PlainBlock, LinearAttention: PlainLinear, FullAttention: PlainFull,
}  # fmt: skip


def plain(net: nn.Module) -> nn.Module:
    """Put the plain layers in place of a network's, in place; kernels and with them images have channels first."""
    net.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    for name, part in [*net.named_children()]:
        plain(part)
        if type(part) in PLAIN:
            setattr(net, name, PLAIN[type(part)](part))
    return net


def plain_unet(config: UNetConfig) -> nn.Module:
    """Return a published network of plain layers, with fresh weights."""
    return plain(UNet(config))
