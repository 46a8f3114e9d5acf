"""Kernels laid out once as oneDNN wants them, on CPUs that have it.

PyTorch's own convolutions and products lay their kernels out anew at every call. These use the operations that its
compiler (TorchInductor) packs kernels with; where they are missing, PyTorch's own stand in.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NATIVE: Any = getattr(torch._C, "_nn")  # noqa: B009  # not in the stubs
REORDER = "mkldnn_reorder_conv2d_weight"
OPERATIONS = "_convolution_pointwise", "_linear_pointwise", "_reorder_linear_weight"
ONES = [1, 1]


def packs(weight: Tensor) -> bool:
    """Tell whether this torch can pack a kernel: it has oneDNN and the operations, the kernel a dtype they know."""
    known = weight.dtype == torch.float32 or (weight.dtype == torch.bfloat16 and has_bfloat16())
    found = all(hasattr(torch.ops.mkldnn, name) for name in OPERATIONS) and hasattr(NATIVE, REORDER)
    return weight.device.type == "cpu" and known and torch.backends.mkldnn.is_available() and found


def has_bfloat16() -> bool:
    """Tell whether this machine's CPU computes in bfloat16, and torch has oneDNN for it."""
    units = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    onednn = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    return bool(units()) and bool(onednn())


class Packed(nn.Module):
    """A convolution whose kernel is packed; its images have their channels last."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.stride, self.padding, self.groups = list(conv.stride), [int(side) for side in conv.padding], conv.groups
        weight = conv.weight.detach()
        self.packs = packs(weight)
        # An attribute: nothing that walks over parameters could make use of what is packed.
        self.kernel = weight.contiguous(memory_format=torch.channels_last)
        if self.packs:
            place = self.padding, self.stride, ONES, self.groups
            self.kernel = NATIVE.mkldnn_reorder_conv2d_weight(weight.contiguous().to_mkldnn(), *place)
        self.bias = conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H', W')."""
        x = x.contiguous(memory_format=torch.channels_last)  # whatever it is given, all after it has channels last
        if not self.packs:
            return F.conv2d(x, self.kernel, self.bias, self.stride, self.padding, 1, self.groups)
        return torch.ops.mkldnn._convolution_pointwise(
            x, self.kernel, self.bias, self.padding, self.stride, ONES, self.groups, "none", [], ""
        )


class PackedLinear(nn.Module):
    """A product over the last axis whose matrix is packed.

    Arguments:
        weight: (C', C).
        bias: (C',), or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.packs = packs(weight)
        self.kernel, self.bias = weight.contiguous(), bias
        if self.packs:
            self.kernel = torch.ops.mkldnn._reorder_linear_weight(self.kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., C')."""
        if not self.packs:
            return F.linear(x, self.kernel, self.bias)
        return torch.ops.mkldnn._linear_pointwise(x, self.kernel, self.bias, "none", [], "")
