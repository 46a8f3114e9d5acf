"""Convolutions on whole numbers of eight bits: a quarter of the time on CPUs that multiply them natively (VNNI).

A kernel is rounded once, ``w ~ s_w q_w`` with a scale for each output channel. The image is rounded at every call,
``x ~ s (q - z)``, between its own least and greatest value, so nothing need be calibrated. Products of whole numbers
are summed exactly and scaled back, so only these two roundings are lost: about 1.3 % of a convolution's output. The
first and the last convolution, where images come in and go out, stay as they are.
"""

import torch
from torch import Tensor, nn

from rddm.nn.compact import Compact
from rddm.nn.fused import fuse
from rddm.nn.packed import Packed, packs
from rddm.nn.unet import UNet

NARROW = 16  # channels; convolutions with fewer gain nothing
PIECE = 1 << 18  # values rounded at a time, which stay in the cache
LEAST = 1e-30  # range of an image or a kernel: one of zeros alone has none
STEPS = 254  # of the image's values: one less than fit, so that rounding cannot leave the range


def available() -> bool:
    """Tell whether this machine multiplies whole numbers natively, and this torch has the operations for it."""
    vnni = getattr(torch.cpu, "_is_vnni_supported", lambda: False)
    return bool(vnni()) and packs(torch.zeros(1)) and hasattr(torch.ops.onednn, "qconv2d_pointwise")


def quantise(net: nn.Module) -> nn.Module:
    """Make a network compute on whole numbers, in place; it cannot be trained, saved or moved after that.

    Arguments:
        net: a published network or compact ones, on the CPU, in float32.
    """
    if isinstance(net, UNet):
        return fuse(net, rounded)
    for part in [part for part in net.modules() if isinstance(part, Compact)]:
        for inside in (part.encoder, part.decoder, part.down):
            replace(inside)
    return net


def replace(module: nn.Module) -> None:
    """Put rounded convolutions in place of a module's."""
    for name, part in [*module.named_children()]:
        if isinstance(part, nn.Conv2d):
            setattr(module, name, rounded(part))
        else:
            replace(part)


def rounded(conv: nn.Conv2d) -> nn.Module:
    """Return a convolution on whole numbers, or one as it was where that gains nothing."""
    narrow = min(conv.in_channels, conv.out_channels) < NARROW
    return Packed(conv) if narrow else Rounded(conv)


class Rounded(nn.Module):
    """A convolution on whole numbers."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        weight = conv.weight.detach()
        self.scales = (weight.abs().amax((1, 2, 3)) / 127).clamp_min(LEAST)
        whole = (weight / self.scales.view(-1, 1, 1, 1)).round().to(torch.int8)
        self.place = list(conv.stride), [int(side) for side in conv.padding], [1, 1], 1
        self.kernel = torch.ops.onednn.qconv_prepack(whole, self.scales, 1.0, 0, *self.place)
        self.zeros = torch.zeros(len(weight), dtype=torch.int32)
        self.bias = conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H', W'), channels last."""
        # As the pixels lie in memory: elsewise the bounds take twenty times as long.
        pixels = x.contiguous(memory_format=torch.channels_last).movedim(1, -1)
        low, high = (float(bound) for bound in pixels.flatten().aminmax())
        scale = max(max(high, 0.0) - min(low, 0.0), LEAST) / STEPS
        zero = round(-min(low, 0.0) / scale)
        whole = torch.empty(pixels.shape, dtype=torch.uint8)
        for piece, place in zip(pixels.flatten().split(PIECE), whole.view(-1).split(PIECE)):
            place.copy_(piece.mul(1 / scale).add_(zero + 0.5))
        return torch.ops.onednn.qconv2d_pointwise(
            whole.movedim(-1, 1), scale, zero, self.kernel, self.scales, self.zeros, self.bias, *self.place,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
