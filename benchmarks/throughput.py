"""One network call at 256x256 on this machine: the published network and the bundled one, in turn; medians."""

import statistics
import time

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import rddm
from rddm.model import network
from rddm.nn.unet import UNetConfig


def gmacs(net: nn.Module, x: torch.Tensor, clock: torch.Tensor) -> float:
    """Return the multiply-accumulates of a call, counted in full."""
    with FlopCounterMode(display=False) as counter:
        net(x, clock)
    return counter.get_total_flops() / 2e9


def main(runs: int = 5) -> None:
    """Measure and print."""
    ours = rddm.load("low-light")
    nets = {"published": network(UNetConfig()).eval(), "low-light": ours.net}
    channels = {"published": 6, "low-light": ours.spec.network.in_channels}
    told = {"published": 1, "low-light": ours.spec.network.told}
    times: dict[str, list[float]] = {name: [] for name in nets}
    with torch.inference_mode():
        for run in range(runs + 1):
            for name, net in nets.items():
                x, clock = torch.zeros(1, channels[name], 256, 256), torch.zeros(1, told[name])
                began = time.perf_counter()
                net(x, clock)
                if run:  # the first warms up
                    times[name].append(time.perf_counter() - began)
        for name, net in nets.items():
            x, clock = torch.zeros(1, channels[name], 256, 256), torch.zeros(1, told[name])
            size = sum(p.numel() for p in net.parameters())
            middle = statistics.median(times[name])
            print(f"{name}: {size / 1e6:.2f} M parameters, {gmacs(net, x, clock):.2f} GMACs, {middle:.3f} s a call")
    ratio = statistics.median(a / b for a, b in zip(times["published"], times["low-light"], strict=True))
    print(
        f"published / low-light: {ratio:.1f} times the time (median of {runs} pairs, {torch.get_num_threads()} threads)"
    )


if __name__ == "__main__":
    main()
