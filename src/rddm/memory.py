"""Memory: how much a network will take, found on shapes alone or from one small call, and how much there is."""

import math
import weakref
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import psutil
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rddm.model import Model, inference_network, network
from rddm.nn.compact import CompactConfig
from rddm.nn.unet import UNetConfig
from rddm.spec import Shape

SMALL = 4  # a small image's sides, times the network's stride
PIXEL_BYTES: "WeakKeyDictionary[Model, dict[str | None, float]]" = WeakKeyDictionary()


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of the tensors alive inside it, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0
        self.views: dict[int, int] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Tell torch that its compiler never meets this class: elsewise it is imported, 1 s."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count what it returned."""
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self.see(tensor)
        return result

    def see(self, tensor: Tensor) -> None:
        """Count a tensor's storage while any tensor that shows it is alive."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self.views:
            self.views[key] = 0
            self.alive += size
            self.peak = max(self.peak, self.alive)
        self.views[key] += 1
        weakref.finalize(tensor, self.drop, key, size)

    def drop(self, key: int, size: int) -> None:
        """Forget one of the tensors that show a storage."""
        self.views[key] -= 1
        if self.views[key] == 0:
            del self.views[key]
            self.alive -= size


def call_bytes(model: Model, *size: int) -> int:
    """Return the peak bytes of one call of a model's network on an image, its input included.

    What a compact network holds is in proportion to the pixels, padded, so one small call tells. Others are asked on
    shapes alone, for which torch imports its compiler (1 s, as long as a small photo takes).

    Arguments:
        model: as it will be asked, made fit for inference or not.
        size: a side for each of the network's dimensions.
    """
    config = model.spec.network
    if not isinstance(config, CompactConfig):
        return shape_bytes(config, *size, engine=model.engine)
    return round(pixel_bytes(model, config) * padded(config, *size)) + 4 * config.in_channels * math.prod(size)


def pixel_bytes(model: Model, config: CompactConfig) -> float:
    """Return the peak bytes of a call of a compact network, for every pixel."""
    known = PIXEL_BYTES.setdefault(model, {})
    if model.engine not in known:
        device, size = next(model.parameters()).device, (SMALL * config.stride,) * config.dims
        x, clock = torch.zeros(1, config.in_channels, *size), torch.zeros(1, config.told)
        known[model.engine] = peak_bytes(model.net, x.to(device), clock.to(device)) / math.prod(size)
    return known[model.engine]


def padded(config: CompactConfig, *size: int) -> int:
    """Return the number of an image's pixels after it is padded as the network does."""
    return math.prod(-(-side // config.stride) * config.stride for side in size)


@lru_cache(maxsize=256)  # the photos of a batch are often of one size
def shape_bytes(config: Shape, *size: int, engine: str | None = None) -> int:
    """Return what :func:`call_bytes` does, of a network of a configuration, on shapes alone.

    What int8 holds beside float32 is not seen.
    """
    with torch.device("meta"):
        copy = network(config) if engine is None else inference_network(config, engine)
        x, clock = torch.empty(1, config.in_channels, *size), torch.empty(1, config.told)
        return peak_bytes(copy, x, clock) + x.numel() * 4


def peak_bytes(net: nn.Module, x: Tensor, clock: Tensor) -> int:
    """Return the peak bytes of what one call makes."""
    with torch.inference_mode(), PeakMemory() as counter:
        net.forward(x, clock)  # without the hooks of those who count the calls that restore
    return counter.peak


@lru_cache(maxsize=8)
def training_bytes(config: CompactConfig | UNetConfig, batch: int, side: int) -> int:
    """Return the peak bytes of training: weights, average, gradients and two moments, and what a pass keeps.

    Found on shapes alone, for ``batch`` pieces in float32 whose sides are all ``side``.
    """
    with torch.device("meta"):
        copy = network(config)
        size = (side,) * config.dims
        x, clock = torch.empty(batch, config.in_channels, *size), torch.empty(batch, config.told)
        with PeakMemory() as counter:
            torch.stack([image.abs().mean() for image in copy(x, clock)]).sum().backward()
    return counter.peak + x.numel() * 4 + 4 * 4 * sum(weight.numel() for weight in copy.parameters())


def available_bytes(device: torch.device) -> int:
    """Return how much memory is free on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def resident_bytes() -> int:
    """Return how much this process holds now."""
    return psutil.Process().memory_info().rss
