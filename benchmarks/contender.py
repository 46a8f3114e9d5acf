"""One contender in a process of its own: ``python benchmarks/contender.py NAME SIDE``.

It says ``ready`` on a line, then answers every line on its input with the seconds that one call took, and when there
are no more lines with the bytes that the process held before the first call and at most in it. Any command that does so
can be a column (``--reference`` of ``benchmarks/bench.py``); it gets the side alone.

    plain, fused, training-net         the published network: the plain way, as rddm restores, and as rddm trains
    int8, bfloat16                     as rddm restores by these engines
    train-plain, train-ours            one update of its training, batch 4: forward, backward, Adam, average
    train-bf16                         ours with ``--precision bf16``
    any bundled model, +engine         a call of its network
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import psutil
import torch
from plain import plain
from torch import Tensor, nn

import rddm
from rddm.cost import MemoryWatch
from rddm.engines import DEFAULT, ENGINES
from rddm.heap import give_back_freed
from rddm.model import bundled
from rddm.nn.unet import UNet, UNetConfig

CALLS = {
    "plain": plain,
    "training-net": lambda net: net,
    "fused": ENGINES["float32"].make,
    "int8": ENGINES["int8"].make,
    "bfloat16": ENGINES["bfloat16"].make,
}
BATCH = 4


def published() -> nn.Module:
    """Return the published network with the weights that every contender has."""
    torch.manual_seed(0)
    return UNet(UNetConfig())


def call(name: str, side: int) -> Callable[[], Tensor]:
    """Return one call of a network at side x side."""
    model, _, engine = name.partition("+")
    if model in bundled():
        net = rddm.load(model).optimize(engine or DEFAULT).net
    else:
        net = CALLS[name](published().eval().requires_grad_(False))
    give_back_freed()  # as ``Model.optimize`` does
    config = net.config
    x = torch.randn(1, config.in_channels, side, side, generator=torch.Generator().manual_seed(1))
    x = x if name in ("plain", "training-net") else x.contiguous(memory_format=torch.channels_last)
    clock = torch.full((1, config.told), 500.0)
    return lambda: net(x, clock)[0]


def plain_update(side: int) -> Callable[[], Tensor]:
    """Return one update of the published recipe in a plain loop: L1, Adam at 8e-5, averages every tenth update."""
    net, mean = plain(published()), plain(published())
    optimiser = torch.optim.Adam(net.parameters(), lr=8e-5, betas=(0.9, 0.99))
    draw, count = torch.Generator().manual_seed(1), iter(range(10**6))

    def update() -> Tensor:
        clean, seen = (torch.rand(BATCH, 3, side, side, generator=draw) * 2 - 1 for _ in range(2))
        t = torch.randint(1, 1000, (BATCH,), generator=draw)
        share = (t / 1000)[:, None, None, None]
        x_t = clean + share * (seen - clean) + share * torch.randn(clean.shape, generator=draw)
        loss = (net(torch.cat([x_t, seen], dim=1), t)[0] - (seen - clean)).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        if next(count) % 10 == 0:
            with torch.no_grad():
                for kept, weight in zip(mean.parameters(), net.parameters()):
                    kept.mul_(0.995).add_(weight, alpha=0.005)
        return loss.detach()

    return update


def our_update(side: int, precision: Literal["no", "bf16"] = "no") -> Callable[[], Tensor]:
    """Return one update of the same recipe as ``rddm train`` does it."""
    from dataclasses import replace

    from rddm.heap import keep_freed
    from rddm.loss import Batch
    from rddm.plan import accelerator_of
    from rddm.recipe import Phase
    from rddm.recipes import published_low_light
    from rddm.trainer import Run

    keep_freed()  # as ``rddm train`` does
    recipe = replace(published_low_light(), phases=(Phase(1.0, side, BATCH),), precision=precision)
    run, draw = Run(recipe, accelerator_of(recipe)), torch.Generator().manual_seed(1)

    def update() -> Tensor:
        clean, seen = (torch.rand(BATCH, 3, side, side, generator=draw) * 2 - 1 for _ in range(2))
        t = torch.rand(BATCH, generator=draw, dtype=torch.float64)
        noise = torch.randn(clean.shape, generator=draw)
        return run.update([Batch(clean, seen, t, noise, {}).to(torch.device("cpu"))])[0]

    return update


def main() -> None:
    """Answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("side", type=int)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(options.name.startswith("train-"))
    updates = {
        "train-plain": plain_update,
        "train-ours": our_update,
        "train-bf16": partial(our_update, precision="bf16"),
    }
    once = updates[options.name](options.side) if options.name in updates else call(options.name, options.side)
    before = psutil.Process().memory_info().rss
    with MemoryWatch(torch.device("cpu")) as watch:
        output = once()  # warms up
    if options.save:
        np.save(options.save, output.numpy())
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        once()
        print(time.perf_counter() - began, flush=True)
    print(before, watch.peak, flush=True)


if __name__ == "__main__":
    main()
