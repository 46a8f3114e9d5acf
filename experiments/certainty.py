"""Certainty and diversity: ``python experiments/certainty.py --data ../shared/data/afhq_cat --out runs/certainty``.

What the noise's strength ``bbar_T^2``, eta, and the conditions do to restorations of one image over seeds: their PSNR,
that of their mean, their spread, and the distance to the target in features. Cats at 32x32, enlarged four times or with
holes; a small network and one budget for every variant; photographs held out. Writes ``certainty.json`` after each
variant, ``certainty.png`` and ``certainty.jpg``; ``docs/certainty.md`` tells the rest.
"""

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import small_cats as cats
import torch
from torch import Tensor, nn

from rddm.degradations import parse
from rddm.denoiser import NetworkDenoiser
from rddm.draws import Draws, collate
from rddm.loss import Batch
from rddm.methods import METHODS
from rddm.nn.compact import CompactConfig
from rddm.path import gaussian
from rddm.recipe import Phase, Recipe, fitted
from rddm.recipes import translate
from rddm.sample import sample
from rddm.schedules import PowerPath
from rddm.setdistance import features
from rddm.solvers import Ancestral
from rddm.transition import residual, stochastic

HELD = 64  # images, the last: neighbours show the same cat
SEEDS = 8
ETAS = (0.0, 0.5, 1.0)
STEPS = 10


@dataclass(frozen=True)
class Variant:
    """A training: the task, the row, the noise's strength, and what the network sees."""

    degrade: str
    row: str
    noise: float
    inputs: tuple[str, ...]

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{self.degrade} {self.row} {self.noise:g} {'+'.join(self.inputs) or 'blind'}"

    def recipe(self, updates: int) -> Recipe:
        """Return its training."""
        method = replace(METHODS[self.row], path=PowerPath(noise=self.noise), inputs=self.inputs, steps=STEPS)
        network = fitted(CompactConfig(widths=(32, 64, 128), blocks=(1, 2, 2)), method)
        phases = (Phase(1.0, cats.SIDE, 32),)
        return replace(
            translate(), name=self.name, method=method, network=network, degrade=self.degrade, phases=phases,
            pairing="name", steps=updates, optimiser="adamw", lr=1.5e-3, precision="bf16", metric="loss",
        )  # fmt: skip


VARIANTS = [
    *(Variant("downscale(4)", "rddm-res", noise, seen) for noise in (0, 0.01, 0.1, 1) for seen in ((), ("x_in",))),
    *(Variant(m, "rddm", 1, s) for m in ("centre_mask", "irregular_mask") for s in ((), ("x_in",), ("x_in", "mask"))),
]
SMOKE = [VARIANTS[0], VARIANTS[7], VARIANTS[-1]]  # without noise, with it, and with holes


def restored(net: nn.Module, recipe: Recipe, batch: Batch, eta: float) -> Tensor:
    """Return restorations (SEEDS, B, 3, SIDE, SIDE) in [-1, 1]."""
    method, noise = recipe.method, gaussian(torch.Generator().manual_seed(0))
    denoiser, solver = (
        NetworkDenoiser(net, method, batch.conditions),
        Ancestral(stochastic(residual, eta), method.anchor),
    )
    walks = (sample(denoiser, batch.x_in, method.path.grid(STEPS), solver, noise) for _ in range(SEEDS))
    return torch.stack([*walks]).clamp(-1, 1)


def decibels(error: Tensor, where: Tensor) -> float:
    """Return the mean over images of the PSNR of errors (..., 3, H, W) in [-1, 1] over the pixels that count."""
    mean = (error.square() * where).sum((-3, -2, -1)) / where.sum((-3, -2, -1))
    return float((10 * torch.log10(4 / mean.clamp_min(1e-12))).mean())


def figures(samples: Tensor, batch: Batch) -> dict[str, float]:
    """Return the figures of samples, over the pixels that the degradation changed or, without holes, over all."""
    where = batch.conditions.get("mask", torch.ones_like(batch.x_0))
    spread = (samples.var(0) * where).sum() / where.sum()
    distance = (features(samples[0]) - features(batch.x_0)).square().mean().sqrt()
    found = {
        "psnr": decibels(samples - batch.x_0, where),
        "psnr of the mean": decibels(samples.mean(0) - batch.x_0, where),
        "spread": float(spread.sqrt()) * 127.5,
        "features": float(distance),
    }
    return found | ({"known": decibels(samples - batch.x_0, 1 - where)} if "mask" in batch.conditions else {})


def held_out(photos: cats.Cats, recipe: Recipe, count: int) -> Batch:
    """Return the held-out images, the last ``count``, with their masks, whether the network sees them or not."""
    seen = replace(recipe.method, inputs=("x_in", "mask"))
    every = replace(recipe, method=seen, network=fitted(recipe.network, seen), augment="none")
    kept = range(len(photos) - count, len(photos))
    batch = collate([Draws(photos, kept, every, parse(recipe.degrade), 1)[i, cats.SIDE] for i in range(count)])
    assert isinstance(batch, Batch)
    return batch


def plot(results: dict[str, Any], file: Path) -> None:
    """Draw PSNR and features against spread for the enlargements: a line per condition and eta, a point per noise."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for seen in ("blind", "x_in"):
        for eta in ETAS:
            rows = [
                table.get(f"{eta:g}", table["0"])
                for name, table in results.items()
                if "downscale" in name and name.endswith(f" {seen}")
            ]
            for axis, key in zip(axes, ("psnr", "features"), strict=True):
                axis.plot(
                    [row["spread"] for row in rows], [row[key] for row in rows], ".-", label=f"{seen}, eta {eta:g}"
                )
                axis.set(xlabel="spread over seeds (of 255)", ylabel=key)
    axes[0].legend()
    figure.savefig(file, dpi=90)


def arguments() -> argparse.Namespace:
    """Parse the options; ``--smoke`` makes its own data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/afhq_cat"))
    parser.add_argument("--out", type=Path, default=Path("runs/certainty"))
    parser.add_argument("--updates", type=int, default=500)
    parser.add_argument("--smoke", action="store_true", help="three variants in small, on data of its own, no pictures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    options.variants, options.held = VARIANTS, HELD
    if options.smoke:
        options.data, options.variants, options.held = cats.miniature(options.out), SMOKE, 4
    return options


def main() -> None:
    """Train, restore over seeds, and draw."""
    options = arguments()
    torch.set_num_threads(1)
    results, strips = dict[str, Any](), []
    for variant in options.variants:
        recipe = variant.recipe(options.updates)
        recipe = cats.small(recipe) if options.smoke else recipe
        photos = cats.photographs(options.data, recipe)
        fit = range(len(photos) - options.held)
        net = cats.trained(recipe, Draws(photos, fit, recipe, parse(recipe.degrade)), options.out)
        batch = held_out(photos, recipe, options.held)
        with torch.inference_mode():
            samples = {f"{eta:g}": restored(net, recipe, batch, eta) for eta in ETAS if variant.noise or eta == 0}
        results[variant.name] = {eta: figures(found, batch) for eta, found in samples.items()}
        for eta, row in results[variant.name].items():
            print(f"{variant.name}, eta {eta}: " + ", ".join(f"{k} {v:.3f}" for k, v in row.items()), flush=True)
        pick = slice(0, options.held, options.held // 4)
        strips.append(
            cats.strip(torch.stack([batch.x_in[pick], *samples["0"][:2, pick], batch.x_0[pick]], 1).flatten(0, 1))
        )
        (options.out / "certainty.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if not options.smoke:
        plot(results, options.out / "certainty.png")
        cats.sheet(strips, options.out / "certainty.jpg")


if __name__ == "__main__":
    main()
