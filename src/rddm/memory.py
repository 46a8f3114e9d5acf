"""Memory: how much a network will take, found without running it, and how much there is."""

import ctypes
import platform
import sys
import weakref
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rddm.model import network
from rddm.nn.compact import CompactConfig
from rddm.nn.unet import UNetConfig


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of the tensors alive inside it, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0
        self.views: dict[int, int] = {}

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


@lru_cache(maxsize=256)  # the photos of a batch are often of one size
def call_bytes(config: CompactConfig | UNetConfig, *size: int, make: Callable[[Any], nn.Module] = network) -> int:
    """Return the peak bytes of one call of a network on an image, its input included, found on shapes alone.

    ``size`` is a side for each of the network's dimensions, ``make`` what makes a network of the configuration.
    """
    with torch.device("meta"), torch.inference_mode():
        copy = make(config)
        x, clock = torch.empty(1, config.in_channels, *size), torch.empty(1, config.told)
        with PeakMemory() as counter:
            copy(x, clock)
    return counter.peak + x.numel() * 4


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


def keep_freed() -> None:
    """Have the C library keep what is freed for the next request, where it is glibc; elsewhere do nothing.

    Training asks for the same sizes at every update. As it comes, glibc gives large pieces back to the system, which
    hands them out again page by page, cleared.
    """
    threshold, trim = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(threshold, 1 << 30)
        library.mallopt(trim, (1 << 31) - 1)
