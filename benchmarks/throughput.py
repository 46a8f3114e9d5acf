"""One network call at 256x256 on this machine: the published network and the bundled one, in turn; medians."""

import statistics
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

import rddm
from rddm.model import network
from rddm.nn.compact import CompactConfig
from rddm.nn.unet import UNetConfig


def gmacs(config: CompactConfig | UNetConfig) -> float:
    """Return the multiply-accumulates of a call at 256x256, counted in full, on shapes alone."""
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        network(config)(torch.empty(1, config.in_channels, 256, 256), torch.empty(1, config.told))
    return counter.get_total_flops() / 2e9


def main(runs: int = 5) -> None:
    """Measure and print."""
    ours = rddm.load("low-light")
    configs = {"published": UNetConfig(), "low-light": ours.spec.network}
    nets = {"published": network(configs["published"]).eval(), "low-light": ours.net}
    inputs = {
        name: (torch.zeros(1, config.in_channels, 256, 256), torch.zeros(1, config.told))
        for name, config in configs.items()
    }
    times: dict[str, list[float]] = {name: [] for name in nets}
    with torch.inference_mode():
        for run in range(runs + 1):
            for name, net in nets.items():
                began = time.perf_counter()
                net(*inputs[name])
                if run:  # the first warms up
                    times[name].append(time.perf_counter() - began)
    for name, net in nets.items():
        size = sum(p.numel() for p in net.parameters()) / 1e6
        middle = statistics.median(times[name])
        print(f"{name}: {size:.2f} M parameters, {gmacs(configs[name]):.2f} GMACs, {middle:.3f} s a call")
    ratio = statistics.median(a / b for a, b in zip(times["published"], times["low-light"], strict=True))
    print(
        f"published / low-light: {ratio:.1f} times the time (median of {runs} pairs, {torch.get_num_threads()} threads)"
    )


if __name__ == "__main__":
    main()
