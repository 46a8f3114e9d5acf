"""Times on this machine: the published network and ours, restoring and training, by precision and batch.

``python jobs/timing.py --out $OUT``; every figure is the median of rounds taken in turn, so that drift hits all alike.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import torch
from plain import plain
from torch import nn

from rddm.cost import gmacs
from rddm.engines import ENGINES, Cast
from rddm.model import Model
from rddm.nn.unet import UNetConfig
from rddm.recipes import published_low_light, restore
from rddm.spec import ModelSpec

LARGE = replace(restore(), network=replace(restore().network, widths=(48, 96, 128, 160), blocks=(2, 3, 3, 2)))
NETWORKS = {"published": published_low_light(), "restore": restore(), "large": LARGE}
Work = Callable[[], object]
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def timed(work: Work, device: torch.device) -> float:
    """Return the seconds that a piece of work takes."""
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - start


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def works(model: Model, dtype: torch.dtype, batch: int, side: int, device: torch.device) -> dict[str, Work]:
    """Return a call and a training pass of a network on a batch."""
    config = model.spec.network
    net = model.net.to(device).to(memory_format=torch.channels_last)  # pyright: ignore
    x = torch.randn(batch, config.in_channels, side, side, device=device).contiguous(memory_format=torch.channels_last)
    told = torch.zeros(batch, config.told, device=device)

    def call() -> object:
        with torch.no_grad(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return net(x, told)

    def train() -> object:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = torch.stack([image.float().abs().mean() for image in net(x, told)]).sum()
        return loss.backward()

    return {"call": call, "train": train}


def engines(model: Model, batch: int, side: int, device: torch.device) -> dict[str, Work]:
    """Return a call of a published network in the plain way and by every engine, and a plain training pass."""
    config, net = model.spec.network, model.net.to(device)
    slow = plain(deepcopy(net))
    nets = {"plain": slow, "fused": ENGINES["float32"].make(deepcopy(net)), "half": Cast(deepcopy(net), torch.bfloat16)}
    if device.type == "cuda":
        nets["half compiled"] = torch.compile(Cast(deepcopy(net), torch.bfloat16), mode="reduce-overhead")
    x = torch.randn(batch, config.in_channels, side, side, device=device)
    told = torch.zeros(batch, config.told, device=device)

    def call(net: nn.Module) -> object:
        with torch.inference_mode():
            return net(x, told)

    works: dict[str, Work] = {f"{name} call": partial(call, net) for name, net in nets.items()}
    works["plain train"] = lambda: torch.stack([image.abs().mean() for image in slow(x, told)]).sum().backward()
    return works


def main(out: Path, smoke: bool) -> None:
    """Time everything, write ``timing.json``, and print one line."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    side, batches, rounds = (32, (1,), 2) if smoke else (256, (1, 16), 7)
    cases: dict[str, Work] = {}
    for name, recipe in NETWORKS.items():
        config = replace(recipe.network, dim=8) if smoke and isinstance(recipe.network, UNetConfig) else recipe.network
        model = Model(ModelSpec(name, config, recipe.method))
        for precision, dtype in PRECISIONS.items():
            for batch in batches:
                found = works(model, dtype, batch, side, device)
                cases |= {f"{name} {precision} batch {batch} {kind}": work for kind, work in found.items()}
        if name == "published":
            for batch in batches:
                found = engines(Model(ModelSpec(name, config, recipe.method)), batch, side, device)
                cases |= {f"{name} batch {batch} {kind}": work for kind, work in found.items()}
    for work in cases.values():
        timed(work, device)
    rows = [{case: timed(work, device) for case, work in cases.items()} for _ in range(rounds)]
    medians = {case: statistics.median(row[case] for row in rows) for case in cases}
    costs = (
        {name: gmacs(Model(ModelSpec(name, r.network, r.method))) for name, r in NETWORKS.items()} if not smoke else {}
    )
    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    result = {"device": device_name, "side": side, "seconds": medians, "gmacs_256": costs}
    out.mkdir(parents=True, exist_ok=True)
    (out / "timing.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    ratio = medians["published fp32 batch 1 call"] / medians["large bf16 batch 1 call"]
    print(
        f"timing: {device_name}, {len(medians)} cases, published fp32 takes {ratio:.1f} times low-light bf16 per call"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--smoke", action="store_true", help="the same in small")
    arguments = parser.parse_args()
    main(arguments.out, arguments.smoke)
