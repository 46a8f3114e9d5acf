"""The published network, made for inference: the same function with less work and less memory.

Training asks for what inference does not. Here, once and for all,

* standardised kernels are computed and, on CPUs, packed as oneDNN wants them (``rddm.nn.packed``);
* wide 3x3 convolutions take half of the products (``rddm.nn.winograd``);
* nearest enlargement and the 3x3 convolution after it become one transposed 4x4 convolution. Of the nine pixels under
  the kernel at most four differ: with ``w = (w0, w1, w2)`` along an axis its kernel is ``(w2, w1 + w2, w0 + w1, w0)``,
  4/9 of the products;

and at every call

* the clock's scale and shift enter the group norm's own, and results overwrite what is not needed any more;
* linear attention walks over the pixels in pieces that stay in the cache. Keys are summed as ``exp(k - m)`` with a
  running maximum ``m`` and divided at the end. The context and the output's projection are one matrix, ``W_out C``.

Only photographs (two dimensions) have all of it; signals and videos have their kernels computed once.
"""

import math
from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rddm.heap import give_back_freed
from rddm.nn.layers import (
    ATTENTION_HEAD_DIM,
    ATTENTION_HEADS,
    EPS,
    ChannelNorm,
    FullAttention,
    LinearAttention,
    ResBlock,
    WeightStandardized,
    at_least_float32,
)
from rddm.nn.packed import Packed, PackedLinear
from rddm.nn.pooled import GroupNorm, Pooled
from rddm.nn.spatial import over
from rddm.nn.unet import UNet, UpStage
from rddm.nn.winograd import Winograd, pays

Convolution: TypeAlias = Callable[[nn.Conv2d], nn.Module]
PIECE = 8192  # pixels that linear attention looks at together: their keys and values are 8 MB


def fuse(net: UNet, convolution: Convolution | None = None) -> UNet:
    """Make a network fit for inference, in place; it cannot be trained or saved after that, nor moved elsewhere.

    Arguments:
        net: on the device and in the dtype where it will run.
        convolution: what stands for a convolution wider than 1x1; :func:`quickest` if None.

    Returns:
        The network, whose output differs by round-off.
    """
    with torch.no_grad():
        replace(net, (convolution or quickest) if net.config.dims == 2 else None)
    return net.requires_grad_(False).eval()


def replace(module: nn.Module, convolution: Convolution | None) -> None:
    """Put what is fit for inference in place of a module's parts; without a convolution, of their kernels alone."""
    for name, part in [*module.named_children()]:
        if isinstance(part, UpStage) and part.scale == 2 and convolution is quickest:
            part.resize, part.scale = transposed(part.resize), 1
        if isinstance(part, WeightStandardized):
            part.weight.data = part.standardized_weight()
        if convolution is None and isinstance(part, WeightStandardized):
            setattr(module, name, plain(part))
        elif convolution is not None and isinstance(part, nn.Conv2d):
            setattr(module, name, Pointwise(part) if part.kernel_size == (1, 1) else convolution(part))
            give_back_freed()  # what was left behind would add up to as much as the weights
        elif convolution is not None and isinstance(part, LinearAttention):
            setattr(module, name, FusedAttention(part))
        elif not isinstance(part, FullAttention):  # which reads its convolutions' kernels itself
            replace(part, convolution)
            if isinstance(part, ResBlock):
                setattr(module, name, FusedBlock(part))


def quickest(conv: nn.Conv2d) -> nn.Module:
    """Return what computes a convolution in the least time."""
    return Winograd(conv) if pays(conv) else Packed(conv)


def plain(conv: WeightStandardized) -> nn.Module:
    """Return a standardised convolution without the standardisation."""
    kind = {3: nn.Conv1d, 5: nn.Conv3d}[conv.weight.ndim]
    same = kind(conv.in_channels, conv.out_channels, 3, padding=1, device="meta")
    same.weight, same.bias = conv.weight, conv.bias
    return same


class Pointwise(PackedLinear):
    """A 1x1 convolution as a product over the pixels: oneDNN's is slow where they are few."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv.weight.detach().flatten(1), conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H, W), channels last."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def transposed(conv: nn.Module) -> nn.Module:
    """Return the transposed convolution that enlarges by 2 and convolves by 3x3 at once (see the module)."""
    assert isinstance(conv, nn.Conv2d)
    weight = conv.weight.detach().movedim(0, 1)
    for axis in (2, 3):
        w0, w1, w2 = weight.unbind(axis)
        weight = torch.stack([w2, w1 + w2, w0 + w1, w0], axis)
    new = nn.ConvTranspose2d(conv.in_channels, conv.out_channels, 4, 2, 1, device="meta")
    new.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last))
    new.bias = conv.bias
    return new


class FusedBlock(nn.Module):
    """A :class:`rddm.nn.layers.ResBlock` whose parts overwrite each other's results."""

    def __init__(self, block: ResBlock) -> None:
        super().__init__()
        self.modulation, self.shortcut = block.modulation, block.shortcut
        self.conv1, self.norm1, self.conv2, self.norm2 = block.conv1, block.norm1, block.conv2, block.norm2

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map (B, C, *spatial) and the clock's embedding (B, E) to (B, C', *spatial)."""
        scale, shift = self.modulation(F.silu(embedding)).chunk(2, dim=1)
        hidden = F.silu(modulated(self.norm1, self.conv1(x), scale + 1, shift), inplace=True)
        hidden = F.silu(self.norm2(self.conv2(hidden)), inplace=True)
        return hidden.add_(self.shortcut(x))


def modulated(norm: GroupNorm, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return ``scale norm(x) + shift``, scale and shift (B, C); of one image the norm's own scale and shift do it."""
    if norm.tape is None and len(x) == 1:
        weight, bias = norm.weight * scale[0], torch.addcmul(shift[0], norm.bias, scale[0])
        return F.group_norm(x, norm.groups, weight, bias, norm.eps)
    return norm(x).mul_(over(scale, x)).add_(over(shift, x))


class FusedAttention(Pooled):
    """A :class:`rddm.nn.layers.LinearAttention` that adds to its input, piece by piece; its tapes are the same."""

    def __init__(self, attention: LinearAttention) -> None:
        super().__init__()
        inner = ATTENTION_HEADS * ATTENTION_HEAD_DIM
        weight = attention.qkv.weight.detach().flatten(1)
        self.query, self.key_value = PackedLinear(weight[:inner], None), PackedLinear(weight[inner:], None)
        self.out, self.bias = attention.out.weight.detach().flatten(1), attention.out.bias
        self.gain, self.out_gain = flat(attention.norm), flat(attention.out_norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape, in the memory of ``x`` where its channels are last."""
        pixels = x.movedim(1, -1).flatten(1, 2)  # (B, N, C), of the same memory
        (context,) = self.summary(lambda: (torch.stack([self.context(image) for image in pixels]),))
        for image, matrices in zip(pixels, context):
            parts = zip(self.out.chunk(ATTENTION_HEADS, dim=1), matrices)
            mix = torch.cat([out @ matrix for out, matrix in parts], dim=1)  # (C, heads head_dim)
            for piece in image.split(PIECE):
                query = self.query(normalised(piece, self.gain)).unflatten(1, (ATTENTION_HEADS, -1))
                mixed = F.linear(query.softmax(-1).flatten(1), mix, self.bias)
                piece += normalised(mixed, self.out_gain)
        return pixels.unflatten(1, x.shape[2:]).movedim(-1, 1)

    def context(self, pixels: Tensor) -> Tensor:
        """Return what all pixels (N, C) say, a matrix (head_dim, head_dim) for each head."""
        inner = ATTENTION_HEADS * ATTENTION_HEAD_DIM
        most = at_least_float32(pixels.new_full((inner,), -math.inf))
        sums, total = torch.zeros_like(most), most.new_zeros(ATTENTION_HEADS, ATTENTION_HEAD_DIM, ATTENTION_HEAD_DIM)
        for key, value in self.keys_and_values(pixels):
            before, most = most, torch.maximum(most, key.amax(0))
            shrink = (before - most).exp()
            key = key.sub(most).exp_()
            sums = sums * shrink + key.sum(0)
            heads = (part.unflatten(1, (ATTENTION_HEADS, -1)).transpose(0, 1) for part in (value, key))
            total = total * shrink.view(ATTENTION_HEADS, 1, -1) + torch.bmm(next(heads).mT, next(heads))
        context = total / (sums.view(ATTENTION_HEADS, 1, -1) * math.sqrt(ATTENTION_HEAD_DIM) * len(pixels))
        return context.to(pixels.dtype)

    def keys_and_values(self, pixels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the keys and values of each piece of the pixels, (n, heads head_dim) each."""
        for piece in pixels.split(PIECE):
            key, value = self.key_value(normalised(piece, self.gain)).chunk(2, dim=1)
            yield at_least_float32(key), at_least_float32(value)


def flat(norm: ChannelNorm) -> Tensor:
    """Return a norm's gains, (C,)."""
    return norm.gain.detach().flatten()


def normalised(pixels: Tensor, gain: Tensor) -> Tensor:
    """Return pixels (N, C) normalised, each over its channels."""
    return F.layer_norm(pixels, gain.shape, gain, None, EPS)
