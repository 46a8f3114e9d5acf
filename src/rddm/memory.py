"""Memory: how much a network will take, found without running it, and how much there is."""

import weakref
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


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


def call_bytes(net: nn.Module, channels: int, height: int, width: int) -> int:
    """Return the peak bytes of one network call on (1, channels, height, width), found on shapes alone."""
    shadow = type(net)
    with torch.device("meta"), torch.inference_mode():
        copy = shadow(net.config)  # type: ignore[call-arg, arg-type]  # every network is built from its config
        x, clock = torch.empty(1, channels, height, width), torch.empty(1)
        with PeakMemory() as counter:
            copy(x, clock)
    return counter.peak + 4 * channels * height * width


def available_bytes(device: torch.device) -> int:
    """Return how much memory is free on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def resident_bytes() -> int:
    """Return how much this process holds now."""
    return psutil.Process().memory_info().rss
