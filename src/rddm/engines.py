"""Engines: how a network is computed. What it computes stays the same, up to the engine's round-off.

    float32     a published network fused (``rddm.nn.fused``), a compact one as it is
    int8        convolutions on whole numbers (``rddm.nn.int8``), on CPUs with VNNI
    bfloat16    everything in half of the bits, on GPUs and CPUs that compute in it

OpenVINO takes as long as the first in float32, and a tenth less than the second in int8 (docs/speed.md): no engine.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rddm.errors import UserError
from rddm.nn.fused import fuse
from rddm.nn.int8 import available, quantise
from rddm.nn.packed import has_bfloat16
from rddm.nn.unet import UNet

DEFAULT = "float32"


@dataclass(frozen=True)
class Engine:
    """A way to compute a network.

    Arguments:
        name: how commands call it.
        make: ``net -> net``, which may change the network in place.
        runs: whether it runs on a device.
        needs: where it runs, in words.
        shapes: what makes a network whose tensors have the same shapes, on no device.
    """

    name: str
    make: Callable[[nn.Module], nn.Module]
    runs: Callable[[torch.device], bool]
    needs: str
    shapes: Callable[[nn.Module], nn.Module]


class Cast(nn.Module):
    """A network in another dtype for images of any."""

    def __init__(self, net: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.net, self.dtype, self.config = prepared(net.to(dtype)), dtype, net.config

    def forward(self, x: Tensor, clock: Tensor) -> tuple[Tensor, ...]:
        """Return the network's images in the dtype of ``x``; the clock keeps its own."""
        return tuple(image.to(x.dtype) for image in self.net(x.to(self.dtype), clock))


def prepared(net: nn.Module) -> nn.Module:
    """Return a network fused, if it is a published one; channels last if not.

    Packed kernels gain nothing in compact networks, and lose where the image is small.
    """
    if isinstance(net, UNet):
        return fuse(net)
    pictures = any(weight.ndim == 4 for weight in net.parameters())
    return net.to(memory_format=torch.channels_last) if pictures else net  # pyright: ignore[reportCallIssue]


def halves(device: torch.device) -> bool:
    """Tell whether a device computes in bfloat16 faster than in float32."""
    if device.type == "cpu":
        return has_bfloat16()
    return device.type == "cuda" and torch.cuda.is_bf16_supported()


def half(net: nn.Module) -> nn.Module:
    """Return a network that computes in bfloat16."""
    return Cast(net, torch.bfloat16)


def whole(device: torch.device) -> bool:
    """Tell whether a device computes on whole numbers faster than in float32."""
    return device.type == "cpu" and available()


ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine(DEFAULT, prepared, lambda device: True, "anywhere", prepared),
        Engine("int8", quantise, whole, "on an x86 CPU with VNNI", prepared),
        Engine("bfloat16", half, halves, "where processors compute in it", half),
    )
}


def engine_for(name: str, device: torch.device) -> Engine:
    """Return an engine that runs on a device.

    Raises:
        UserError: if there is no such engine, or it does not run there.
    """
    if name not in ENGINES:
        raise UserError(f"--engine {name}: expected one of {', '.join(ENGINES)}")
    if not ENGINES[name].runs(device):
        fit = ", ".join(other.name for other in ENGINES.values() if other.runs(device))
        raise UserError(f"--engine {name}: runs {ENGINES[name].needs}, found {device.type}; expected {fit}")
    return ENGINES[name]
