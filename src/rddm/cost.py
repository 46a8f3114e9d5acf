"""What a restoration costs: parameters, multiply-accumulates, seconds, memory.

Multiply-accumulates are counted in full, on shapes alone: convolutions, linear layers and every matrix product of
attention. Counters that look at known kinds of layers miss custom ones: they gave the published network 7.73 M
parameters and 32.9 GMACs in place of its 36.26 M and 119.17. Counting on the ``meta`` device also sees what fused
kernels hide.
"""

import threading
from collections import Counter
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import psutil
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rddm.model import Model, network
from rddm.nn.compact import CompactConfig
from rddm.nn.unet import UNetConfig

if TYPE_CHECKING:
    from collections.abc import Iterator


def parameters(model: Model) -> int:
    """Return the number of a model's parameters, whatever its engine has made of them."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in network(model.spec.network).parameters())


def gmacs(model: Model, height: int = 256, width: int = 256) -> float:
    """Return the multiply-accumulates of one network call on an image, in units of 10^9.

    Arguments:
        model: the model; its weights are not used.
        height: of the image, in pixels.
        width: likewise.
    """
    return network_gmacs(model.spec.network, height, width)


@lru_cache(maxsize=256)  # the photos of a test set are often of one size
def network_gmacs(config: CompactConfig | UNetConfig, *size: int) -> float:
    """Return :func:`gmacs` of a network of the given shape, a side for each of its dimensions."""
    with torch.device("meta"), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        net = network(config)
        net(torch.empty(1, config.in_channels, *size), torch.empty(1, config.told))
    return counter.get_total_flops() / 2e9


@contextmanager
def counted_calls(net: nn.Module) -> "Iterator[Counter[tuple[int, int, int]]]":
    """Count the calls of a network inside the context, by batch, height and width."""
    calls: Counter[tuple[int, int, int]] = Counter()

    def see(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        calls[len(inputs[0]), int(inputs[0].shape[-2]), int(inputs[0].shape[-1])] += 1

    handle = net.register_forward_pre_hook(see)
    try:
        yield calls
    finally:
        handle.remove()


def total_gmacs(model: Model, calls: "Counter[tuple[int, int, int]]") -> float:
    """Return the multiply-accumulates of all calls that were counted, tiles and steps included, in units of 10^9."""
    return sum(times * batch * gmacs(model, height, width) for (batch, height, width), times in calls.items())


class MemoryWatch:
    """The most memory that this process holds while the context is open, in bytes: ``peak``.

    On the CPU what the process has resident, looked at every few milliseconds, so that a shorter burst may be missed;
    on CUDA what the allocator held on the device, exactly.
    """

    def __init__(self, device: torch.device, interval: float = 0.005) -> None:
        self.device, self.interval = device, interval
        self.peak = 0
        self.process = psutil.Process()
        self.done = threading.Event()
        self.watcher = threading.Thread(target=self.watch, daemon=True)

    def __enter__(self) -> "MemoryWatch":
        """Begin to look."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self.look()
            self.watcher.start()
        return self

    def __exit__(self, *_: Any) -> None:
        """Look once more and end."""
        if self.device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated(self.device)
        else:
            self.done.set()
            self.watcher.join()
            self.look()

    def look(self) -> None:
        """Compare with what is resident now."""
        self.peak = max(self.peak, self.process.memory_info().rss)

    def watch(self) -> None:
        """Look until done."""
        while not self.done.wait(self.interval):
            self.look()
