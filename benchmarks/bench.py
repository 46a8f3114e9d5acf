"""Everything that README says of speed, measured side by side on this machine: ``make bench``, eight minutes.

Writes ``bench.json``, ``bench.md`` and ``growth.png`` to ``--out``. With ``--reference COMMAND`` someone else's network
is a column beside ours (see ``benchmarks/contender.py`` for what it is asked).
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from contender import BATCH
from growth import best, growth
from photo import photo
from side_by_side import Result, apart, ratio, side_by_side

from rddm.bench import machine
from rddm.cost import network_gmacs
from rddm.engines import DEFAULT, ENGINES
from rddm.model import load
from rddm.nn.unet import UNetConfig
from rddm.report import Table, markdown, show

SIDES = (64, 128, 256)
Facts = dict[str, Any]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--reference", metavar="COMMAND", help="another implementation, called with the image's side")
    parser.add_argument("--quick", action="store_true", help="one round, and neither photo nor plots")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rounds, began = (1 if options.quick else 5), time.monotonic()
    parts: dict[str, Callable[[], tuple[Table, Facts]]] = {
        "ceiling": ceiling,
        "published": lambda: published(rounds, options.reference),
        "bundled": lambda: bundled(rounds),
        "training": lambda: training(rounds),
    }
    if not options.quick:
        parts |= {"photo": photo, "growth": lambda: growth(options.out / "growth.png")}
    facts: Facts = {"machine": machine("cpu")}
    text = [facts["machine"]]
    for name, measure in parts.items():
        table, facts[name] = measure()
        print(f"\n{name} ({time.monotonic() - began:.0f} s so far)", flush=True)
        show(table)
        text.append(markdown(table))
        (options.out / "bench.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (options.out / "bench.md").write_text("\n\n".join(text) + "\n", encoding="utf-8")


@torch.inference_mode()
def ceiling() -> tuple[Table, Facts]:
    """Return what this machine computes at best: a product of matrices, and a 3x3 convolution."""
    side, channels = 2048, 128
    a, kernel = torch.randn(side, side), torch.randn(channels, channels, 3, 3)
    x, kernel = (
        part.contiguous(memory_format=torch.channels_last) for part in (torch.randn(1, channels, 128, 128), kernel)
    )
    facts = {
        "gemm": 2e-9 * side**3 / best(lambda: a @ a),
        "conv3x3": 2e-9 * 9 * channels**2 * 128**2 / best(lambda: torch.conv2d(x, kernel, padding=1)),
    }
    return Table(("at best", "GFLOP/s"), [[name, f"{value:.0f}"] for name, value in facts.items()]), facts


def engines() -> list[str]:
    """Return the engines that run on this CPU beside the default."""
    return [name for name, engine in ENGINES.items() if name != DEFAULT and engine.runs(torch.device("cpu"))]


def shares(result: Result, side: int, most: float) -> Facts:
    """Return what a contender took, and its share of the ceiling, counting the published network's products."""
    reached = 2 * network_gmacs(UNetConfig(), side, side) / result.median
    return {"seconds": result.median, "share": reached / most, "peak": result.peak, "grown": result.grown}


def published(rounds: int, reference: str | None) -> tuple[Table, Facts]:
    """Return the published network, computed in the plain way, as rddm trains it, fused, and by other engines."""
    names = ["plain", "training-net", "fused", *engines(), *([reference] if reference else [])]
    most = max(ceiling()[1].values())
    rows, facts = [], {}
    for side in SIDES:
        results = side_by_side(names, side, rounds)
        for name, result in results.items():
            found = shares(result, side, most) | {
                "times": ratio(results, "plain", name),
                "off": apart(results, "plain", name),
            }
            facts[f"{name}-{side}"] = found
            rows.append([
                f"{name} {side}x{side}", f"{found['seconds']:.3f}", f"{found['times']:.2f}", f"{found['share']:.0%}",
                f"{result.peak >> 20}", f"{result.grown >> 20}", f"{found['off']:.1e}",
            ])  # fmt: skip
    head = ("published network", "s", "times as fast", "of the ceiling", "MiB at most", "MiB of the calls", "off by")
    return Table(head, rows), facts


def bundled(rounds: int) -> tuple[Table, Facts]:
    """Return a call of the low-light model at 256x256, by every engine, beside the published network's."""
    ours = ["low-light", *(f"low-light+{engine}" for engine in engines())]
    results = side_by_side(["plain", "fused", *ours], 256, 3 * rounds)
    network = load("low-light").spec.network
    facts = {
        name: {"seconds": result.median, "times": ratio(results, "plain", name)} for name, result in results.items()
    }
    facts["gmacs"] = {"published": network_gmacs(UNetConfig(), 256, 256), "low-light": network_gmacs(network, 256, 256)}
    rows = [[name, f"{facts[name]['seconds']:.3f}", f"{facts[name]['times']:.1f}"] for name in results]
    return Table(("a call at 256x256", "s", "times as fast"), rows), facts


def training(rounds: int) -> tuple[Table, Facts]:
    """Return images per second of training the published network: a plain loop and ours."""
    names, rows, facts = ["train-plain", "train-ours", "train-bf16"], [], {}
    for side in SIDES[:2]:
        results = side_by_side(names, side, rounds)
        for name in names:
            found = {"images per second": BATCH / results[name].median, "times": ratio(results, "train-plain", name)}
            facts[f"{name}-{side}"] = found
            rows.append([f"{name} {side}x{side}", f"{found['images per second']:.2f}", f"{found['times']:.2f}"])
    return Table((f"training, batch {BATCH}", "images/s", "times as fast"), rows), facts


if __name__ == "__main__":
    main()
