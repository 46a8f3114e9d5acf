"""A DDPM of diffusers as a model of ours: ``python experiments/conversion.py --out runs/conversion``.

Trains two small ones on AFHQ's cats (once, in four minutes), one to predict the noise and one ``v``, converts them, and
prints by how much the samples of diffusers' own schedulers differ from ours. Then readjusts ``abar``, and ``bbar`` too,
after training: which readjustments keep the images, and what should the network be told for the time? Writes
``conversion.json`` and ``conversion.png``; docs/conversion.md tells the rest.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path

import diffusers_ddpm
import readjusting
import sets
import torch
from torch import Tensor

from rddm.convert_diffusers import convert_diffusers
from rddm.denoiser import NetworkDenoiser
from rddm.hf import from_scheduler, trajectory
from rddm.methods import Method
from rddm.model import Model, load
from rddm.path import gaussian
from rddm.report import Table, show
from rddm.sample import sample
from rddm.solvers import Ancestral
from rddm.transition import anchor_x_t, deterministic

KINDS = {"DDIMScheduler": "DDIM", "DDPMScheduler": "DDPM"}
STEPS = (5, 10, 15, 20, 100, 1000)
UPDATES = {"epsilon": 400, "v_prediction": 1100}  # the second is readjusted: see docs/conversion.md


def ours(model: Model, row: Method, steps: int, x: Tensor, generator: torch.Generator) -> Tensor:
    """Return what the converted model makes of noise."""
    denoiser, solver = NetworkDenoiser(model.net.to(x.dtype), row), Ancestral(row.gain, row.anchor)
    nodes = trajectory(model.spec.card["scheduler"], steps)
    return sample(denoiser, torch.zeros_like(x), nodes, solver, gaussian(generator), x)


def rows_of(model: Model, kind: str) -> dict[str, Method]:
    """Return the row of one of diffusers' schedulers; for DDIM, also with its step as the paper has it."""
    row = from_scheduler({**model.spec.card["scheduler"], "_class_name": kind})
    published = {f"{KINDS[kind]} as increments": replace(row, anchor=anchor_x_t)}
    return {KINDS[kind]: row} | (published if row.gain is deterministic else {})


def differences(out: Path, models: dict[str, Model], counts: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """Return max |theirs - ours| over two images, by network, row and precision, for each number of steps."""
    found: dict[str, dict[str, float]] = {}
    cases = product((torch.float64, torch.float32), models.items(), KINDS, counts)
    for dtype, (name, model), kind, steps in cases:
        start, each = (torch.Generator().manual_seed(seed) for seed in (0, 1))
        side, state = model.spec.side or 0, each.get_state()
        x = torch.randn(2, 3, side, side, dtype=dtype, generator=start)
        expected = diffusers_ddpm.sample(out / name, kind, steps, x, each)
        for label, row in rows_of(model, kind).items():
            apart = float((expected - ours(model, row, steps, x, each.set_state(state))).abs().max())
            found.setdefault(f"{name}, {label}, {str(dtype).removeprefix('torch.')}", {})[str(steps)] = apart
    return found


def tables(report: dict[str, dict]) -> list[Table]:
    """Return the two tables that are printed."""
    first = [[name, *(f"{value:.1e}" for value in row.values())] for name, row in report["differences"].items()]
    counts = next(iter(report["differences"].values()))
    second = []
    for name, told in report["readjusted"].items():
        cells = (told.get(clock) for clock in readjusting.CLOCKS)
        second.append([name, *(f"{cell['apart']:.3f}, {cell['own']:.0%}" if cell else "" for cell in cells)])
    heading = ("distance, share of own nearest; told:", *readjusting.CLOCKS)
    return [Table(("max |difference| in steps:", *counts), first), Table(heading, second)]


def arguments() -> argparse.Namespace:
    """Parse the options; ``--smoke`` makes its own data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(".jobdata/cats") / sets.CATS)
    parser.add_argument("--out", type=Path, default=Path("runs/conversion"))
    parser.add_argument("--count", type=int, default=32, help="images for each readjustment")
    parser.add_argument("--steps", type=int, default=50, help="of each readjusted path")
    parser.add_argument("--smoke", action="store_true", help="in small, on data of its own, no picture")
    options = parser.parse_args()
    options.side, options.counts, options.updates = 16, STEPS, UPDATES
    if options.smoke:
        options.data, options.updates, options.count = (
            Path(tempfile.mkdtemp()) / sets.CATS,
            dict.fromkeys(UPDATES, 2),
            3,
        )
        options.side, options.counts, options.steps = 8, STEPS[:2], 4
        sets.miniature_cats(options.data.parent)
    return options


@torch.inference_mode()
def measured(options: argparse.Namespace, models: dict[str, Model]) -> None:
    """Compare with diffusers, readjust, print and write."""
    report: dict[str, dict] = {"differences": differences(options.out, models, options.counts)}
    seed = torch.Generator().manual_seed(0)
    eps = torch.randn(options.count, 3, options.side, options.side, generator=seed)
    images = readjusting.images_of(models["v_prediction"], eps, options.steps)
    report["readjusted"] = readjusting.compared(images)
    for table in tables(report):
        show(table)
    (options.out / "conversion.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if not options.smoke:
        readjusting.picture(images, options.out / "conversion.png")


def main() -> None:
    """Train what is not trained yet, convert it, measure."""
    options = arguments()
    torch.set_num_threads(1)
    models = {}
    for name, updates in options.updates.items():
        if not (options.out / name).exists():
            diffusers_ddpm.train(options.data, options.out / name, options.side, updates, name)
        convert_diffusers(options.out / name, options.out / f"{name}-converted")
        models[name] = load(options.out / f"{name}-converted")
    measured(options, models)


if __name__ == "__main__":
    main()
