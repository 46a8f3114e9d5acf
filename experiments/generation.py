"""Cats at 32x32 by schedule and by sampling method: ``python experiments/generation.py``.

The paper's seven schedules with SM-N, SM-Res and SM-Res-N on the best, and ``v``, to which no node is singular: one
network, one budget, the same images, times and noise, ten steps, nothing selected. Scores are distances of sets in a
feature space of our own (``rddm.setdistance``), with their floor; never FID. SM-Res-N is the network of SM-Res beside
that of SM-N (``experiments/sampling_methods.py`` says why it may be). Writes ``generation.json`` after each variant,
``generation.png`` and ``generation.jpg``; ``docs/generation.md`` tells the rest.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path as File
from typing import Any

import small_cats as cats
import torch
from sampling_methods import PUBLISHED, Pair
from torch import Tensor, nn

from rddm.clipping import clip_x_0
from rddm.denoiser import NetworkDenoiser
from rddm.draws import Draws
from rddm.methods import METHODS, Method
from rddm.nn.compact import CompactConfig
from rddm.pairs import hold_out
from rddm.path import LinearPath, Path, TabulatedPath, gaussian
from rddm.prediction import EPS_FLOORED, RES, RES_EPS, VELOCITY, Target, V
from rddm.recipe import Phase, Recipe
from rddm.recipes import generate
from rddm.sample import sample
from rddm.schedules import DDPMPath, PowerPath
from rddm.setdistance import Reference, diversity
from rddm.solvers import SOLVERS, Ancestral, Solver

BEST = "alpha decreasing, beta2 increasing"
SCHEDULES: dict[str, TabulatedPath] = {
    "linear (DDIM)": DDPMPath(),
    "scaled linear": DDPMPath("scaled_linear"),
    "squared cosine": DDPMPath("squared_cosine"),
    "alpha mean, beta2 mean": PowerPath(alpha="mean", beta2="mean"),
    "both increasing": PowerPath(alpha="increasing"),
    "both decreasing": PowerPath(beta2="decreasing"),
    BEST: PowerPath(),
}
SMOKE = (f"SM-N, {BEST}", f"SM-Res, {BEST}", "velocity, straight")
STEPS = (5, 10, 20)
BATCH = 32


def recipe_of(name: str, path: Path, target: Target, updates: int) -> Recipe:
    """Return a small generator's training."""
    ours = generate()
    method = replace(ours.method, path=path, target=target, clip=clip_x_0)
    network = CompactConfig(in_channels=3, widths=(32, 64, 128), blocks=(1, 2, 2))
    phases = (Phase(1.0, cats.SIDE, BATCH),)
    return replace(
        ours, name=name, method=method, network=network, phases=phases, steps=updates, lr=1.5e-3, precision="bf16"
    )


def recipes(updates: int) -> dict[str, Recipe]:
    """Return the variants by name, those to be trained."""
    table: dict[str, tuple[Path, Target]] = {f"SM-N, {name}": (path, EPS_FLOORED) for name, path in SCHEDULES.items()}
    table[f"SM-Res, {BEST}"] = SCHEDULES[BEST], RES
    table["v, squared cosine"] = SCHEDULES["squared cosine"], V
    table["velocity, straight"] = LinearPath(noise=1.0), VELOCITY
    return {name: recipe_of(name, *parts, updates) for name, parts in table.items()}


def drawn(net: nn.Module, method: Method, solver: Solver, count: int, steps: int) -> Tensor:
    """Return images from noise, (count, 3, SIDE, SIDE) in [-1, 1]."""
    noise, found = gaussian(torch.Generator().manual_seed(0)), []
    for first in range(0, count, 250):
        zeros = torch.zeros(min(250, count - first), 3, cats.SIDE, cats.SIDE)
        found.append(sample(NetworkDenoiser(net, method), zeros, method.path.grid(steps), solver, noise))
    return torch.cat(found).clamp(-1, 1)


def scored(name: str, net: nn.Module, method: Method, reference: Reference, count: int, out: File) -> dict[str, Any]:
    """Return the distances by way and steps; keep some images."""
    own, published = Ancestral(method.gain, method.anchor), PUBLISHED.get(method.target.name, method.clip)
    ways: dict[str, tuple[Method, Solver, int]] = {f"own {steps}": (method, own, steps) for steps in STEPS}
    ways |= {"published 10": (replace(method, clip=published), own, 10), "ab2 10": (method, SOLVERS["ab2"], 10)}
    table: dict[str, Any] = {}
    for way, (row, solver, steps) in ways.items():
        images = drawn(net, row, solver, count, steps)
        found = {measure: list(value) for measure, value in reference.compare(images).items()}
        table[way] = found | {"diversity": diversity(images[:500])}
        if way == "ab2 10":
            torch.save(images[:12], out / f"{name}.pt")
        print(f"{name}, {way}: " + ", ".join(f"{k} {v[0]:.4f}" for k, v in found.items()), flush=True)
    return table


def plot(results: dict[str, Any], file: File) -> None:
    """Draw each variant's distances in ten steps, of its own and of AB2, with their intervals, and the floor."""
    from matplotlib import pyplot

    measures = [key for key in next(iter(results.values()))["own 10"] if key != "diversity"]
    figure, axes = pyplot.subplots(
        1, len(measures), figsize=(12, 4.2), sharey=True, layout="constrained", squeeze=False
    )
    for axis, measure in zip(axes[0], measures, strict=True):
        for way, colour in (("own 10", "tab:blue"), ("ab2 10", "tab:orange")):
            for y, table in enumerate(reversed(results.values())):
                value, low, high, floor = table[way][measure]
                axis.plot([low, high], [y, y], color=colour)
                axis.plot(value, y, "o", color=colour, label="" if y else way)
        axis.axvline(floor, color="grey", linestyle=":")
        names = [*results][::-1]
        axis.set(xlabel=f"{measure} (dotted: real against real)", yticks=range(len(names)), yticklabels=names)
    axes[0, 0].legend()
    figure.savefig(file, dpi=90)


def arguments() -> argparse.Namespace:
    """Parse the options; ``--smoke`` makes its own data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=File, default=File("../shared/data/afhq_cat"))
    parser.add_argument("--out", type=File, default=File("runs/generation"))
    parser.add_argument("--updates", type=int, default=2000)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--train", action="store_true", help="train only")
    parser.add_argument("--smoke", action="store_true", help="in small, on data of its own, no pictures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.smoke:
        options.data, options.images = cats.miniature(options.out), 12
    return options


def main() -> None:
    """Train, score and draw."""
    options = arguments()
    torch.set_num_threads(1)
    table = recipes(options.updates)
    if options.smoke:
        table = {name: cats.small(table[name]) for name in SMOKE}
    fit, _ = hold_out(len(photos := cats.photographs(options.data, table[f"SM-N, {BEST}"])))
    nets = {name: cats.trained(recipe, Draws(photos, fit, recipe), options.out) for name, recipe in table.items()}
    if options.train:
        return
    methods = {name: recipe.method for name, recipe in table.items()}
    both = f"SM-Res-N, {BEST}"
    nets[both] = Pair(nets[f"SM-Res, {BEST}"], nets[f"SM-N, {BEST}"])
    methods[both] = replace(methods[f"SM-N, {BEST}"], target=RES_EPS, anchor=METHODS["rddm"].anchor)
    reference, results = Reference(cats.real(options.data)), dict[str, Any]()
    with torch.inference_mode():
        for name, net in nets.items():
            results[name] = scored(name, net, methods[name], reference, options.images, options.out)
            (options.out / "generation.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if not options.smoke:
        plot(results, options.out / "generation.png")
        strips = [cats.strip(torch.load(options.out / f"{name}.pt", weights_only=True)) for name in nets]
        cats.sheet(strips, options.out / "generation.jpg")


if __name__ == "__main__":
    main()
