"""How cost grows: seconds and memory of the low-light model against size, batch, steps and threads, as a plot."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rddm.memory import PeakMemory
from rddm.model import Model, load
from rddm.report import Table
from rddm.restore import prepare, run

SIDES, BATCHES, STEPS = (128, 256, 512, 1024), (1, 2, 4, 8), (1, 2, 5, 10)


def best(once: Callable[[], object], runs: int = 7) -> float:
    """Return the least seconds of several calls: what the machine can do; one more warms up."""
    taken = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        once()
        taken.append(time.perf_counter() - began)
    return min(taken[1:])


def cost(once: Callable[[], object]) -> tuple[float, int]:
    """Return the least seconds of a call, and the bytes of the tensors alive in one at most."""
    seconds = best(once, 3)
    with PeakMemory() as counter:
        once()
    return seconds, counter.peak


def network_call(model: Model, side: int, batch: int = 1) -> Callable[[], object]:
    """Return a call of the model's network."""
    network = model.spec.network
    x = torch.zeros(batch, network.in_channels, side, side).contiguous(memory_format=torch.channels_last)
    clock = torch.zeros(batch, network.told)
    return lambda: model.net(x, clock)


def restoration(model: Model, steps: int) -> Callable[[], object]:
    """Return a restoration of 512x512 in one piece."""
    pixels = np.zeros((512, 512, 3), np.uint8)
    job = prepare(model, 512, 512, steps=steps, tile=0)
    return lambda: run(job, pixels)


@torch.inference_mode()
def growth(file: Path) -> tuple[Table, dict[str, Any]]:
    """Measure, draw to a file, and return the power with which each cost grows: 1 is linear, 0 constant."""
    model, threads = load("low-light").optimize(), torch.get_num_threads()
    costs: dict[str, tuple[Sequence[int], list[tuple[float, int]]]] = {
        "pixels": ([side**2 for side in SIDES], [cost(network_call(model, side)) for side in SIDES]),
        "batch": (BATCHES, [cost(network_call(model, 256, batch)) for batch in BATCHES]),
        "steps": (STEPS, [cost(restoration(model, steps)) for steps in STEPS]),
    }
    counts = range(1, threads + 1)
    found = []
    for count in counts:
        torch.set_num_threads(count)
        found.append(cost(network_call(model, 512)))
    costs["threads"] = (counts, found)
    draw(costs, file)
    powers = {name: [power(xs, column) for column in zip(*ys)] for name, (xs, ys) in costs.items() if len(xs) > 1}
    facts = {
        name: {"at": [*xs], "seconds": [s for s, _ in ys], "bytes": [b for _, b in ys]}
        for name, (xs, ys) in costs.items()
    }
    rows = [[name, *(f"{value:.2f}" for value in values)] for name, values in powers.items()]
    return Table(("grows with", "time, to the power of", "memory, to the power of"), rows), facts


def power(xs: Sequence[int], ys: Sequence[float]) -> float:
    """Return the exponent between the first and the last."""
    return float(np.log(ys[-1] / ys[0]) / np.log(xs[-1] / xs[0]))


def draw(costs: dict[str, tuple[Sequence[int], list[tuple[float, int]]]], file: Path) -> None:
    """Draw time above, memory below."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(costs), figsize=(3.2 * len(costs), 5.5), layout="constrained")
    for column, (name, (xs, ys)) in enumerate(costs.items()):
        for row, (label, unit) in enumerate((("seconds", 1.0), ("MB", 1e-6))):
            axes[row][column].loglog(xs, [y[row] * unit for y in ys], "o-")
            axes[row][column].set(xlabel=name, ylabel=label)
            axes[row][column].set_xticks(xs, [f"{x:,}" for x in xs], minor=False)
            axes[row][column].minorticks_off()
    figure.savefig(file, dpi=90)
    pyplot.close(figure)
