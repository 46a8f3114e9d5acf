"""Partially path-independent generation: ``python experiments/path_independence.py --model cats-plane``.

One training, many ways to sample: other schedules, and residual and noise removed one after the other. The images of
each are compared with those of the joint path from the same noise; ``--beside`` is a model that differs in its clock
alone. 0 is the same image, 1 as far apart as two seeds. The derivatives of Eq. 21 tell why. Writes
``path_independence.json``, ``.jpg`` (the images) and the plane of each model; docs/path-independence.md tells the rest.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import small_cats as cats
import torch
from torch import Tensor

from rddm.model import Model, load
from rddm.path import Node, TabulatedPath, gaussian, mix
from rddm.sample import Trajectory, iterate, noise_first, residual_first, sample, staircase
from rddm.schedules import CrossedPath, DDPMPath, PowerPath
from rddm.setdistance import Reference, diversity, features
from rddm.solvers import Ancestral

ALPHAS = {
    "P(x,0)": PowerPath(alpha="mean"),
    "P(1-x,1)": PowerPath(),
    "P(1-x,1.5)": PowerPath(alpha_power=1.5),
    "P(x,5)": PowerPath(alpha="increasing", alpha_power=5),
}
TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)
NEAR = 0.05  # of a coordinate, for finite differences
Row = dict[str, Any]


def trajectories(path: TabulatedPath, steps: int) -> dict[str, Trajectory]:
    """Return the ways to sample by name, the joint one first."""
    found: dict[str, Trajectory] = {"joint": path.grid(steps)}
    found |= {f"alpha {name}": CrossedPath(alpha, path).grid(steps) for name, alpha in ALPHAS.items()}
    found |= {"scaled linear": DDPMPath("scaled_linear").grid(steps), "cosine": DDPMPath("squared_cosine").grid(steps)}
    decoupled = {"residual first": residual_first, "noise first": noise_first, "staircase": staircase}
    return found | {name: walk(path, steps) for name, walk in decoupled.items()}


def drawn(model: Model, trajectory: Trajectory, eps: Tensor) -> Tensor:
    """Return the images that a way leads to, from one noise each."""
    method = model.spec.method
    return sample(
        model.denoiser(), torch.zeros_like(eps), trajectory, Ancestral(method.gain, method.anchor), x_start=eps
    ).clamp(-1, 1)


def apart(a: Tensor, b: Tensor) -> float:
    """Return the rms distance of images or features, in units of that of images of different seeds."""
    return float((a - b).square().mean().sqrt() / (b - b.roll(1, 0)).square().mean().sqrt())


def derivatives(model: Model, x_0: Tensor) -> Row:
    """Return the rms of ``d res^ / d bbar`` and ``d eps^ / d abar`` (Eq. 21), in units of res and eps, by time."""
    denoiser, zeros, found = model.denoiser(), torch.zeros_like(x_0), Row()
    eps = gaussian(torch.Generator().manual_seed(1))(x_0)
    for t in TIMES:
        now = model.spec.method.path.node(t)
        here = denoiser(mix(x_0, -x_0, eps, now), zeros, now)
        noisier, greyer = Node(now.abar, now.bbar + NEAR, t), Node(now.abar + NEAR, now.bbar, t)
        by_bbar = denoiser(mix(x_0, -x_0, eps, noisier), zeros, noisier).res - here.res
        by_abar = denoiser(mix(x_0, -x_0, eps, greyer), zeros, greyer).eps - here.eps
        found[f"{t:g}"] = [
            float(d.square().mean().sqrt()) / NEAR / size for d, size in ((by_bbar, scale(x_0)), (by_abar, 1))
        ]
    return found


def scale(x: Tensor) -> float:
    """Return the rms of a tensor."""
    return float(x.square().mean().sqrt())


def measured(model: Model, real: Tensor, count: int, steps: int) -> tuple[Row, dict[str, Tensor]]:
    """Return the table of a model, and the images by way."""
    eps = gaussian(torch.Generator().manual_seed(0))(real[:1].expand(count, -1, -1, -1))
    path, reference = model.spec.method.path, Reference(real)
    assert isinstance(path, TabulatedPath)
    images = {name: drawn(model, way, eps) for name, way in trajectories(path, steps).items()}
    joint, table = images["joint"], Row()
    for name, found in images.items():
        row = {"pixels": apart(found, joint), "features": apart(features(found), features(joint))}
        row |= {"diversity": diversity(found) / diversity(joint)}
        row |= {key: list(value) for key, value in reference.compare(found).items()}
        table[name] = row
        numbers = ", ".join(f"{k} {v if isinstance(v, float) else v[0]:.3f}" for k, v in row.items())
        print(f"{model.spec.name:12} {name:16} {numbers}", flush=True)
    return {"ways": table, "derivatives": derivatives(model, real[: min(count, 64)])}, images


def plot(model: Model, steps: int, file: Path) -> None:
    """Draw the ways in the plane with the estimates of one image along them."""
    from matplotlib import pyplot
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    ways = trajectories(model.spec.method.path, steps)  # pyright: ignore[reportArgumentType]
    figure, axes = pyplot.subplots(2, 5, figsize=(20, 8), layout="constrained")
    eps = gaussian(torch.Generator().manual_seed(0))(torch.zeros(1, 3, cats.SIDE, cats.SIDE))
    method = model.spec.method
    for axis, (name, way) in zip(axes.flat, ways.items(), strict=True):
        nodes = np.array([node[:2] for node in way], float)
        axis.plot(*nodes.T, ".-", color="0.6")
        walk = iterate(model.denoiser(), torch.zeros_like(eps), way, Ancestral(method.gain, method.anchor), None, eps)
        for state, node in zip(walk, nodes[:-1]):
            if state.step % max(1, state.steps // 5) == 1 or state.step == state.steps:
                image = OffsetImage(cats.pixels(state.prediction.x_0)[0], zoom=1.5)
                axis.add_artist(AnnotationBbox(image, (node[0], node[1]), frameon=False))
        axis.set(title=name, xlim=(-0.1, 1.1), ylim=(-0.1, 1.12), xlabel="abar", ylabel="bbar")
    figure.savefig(file, dpi=60)


def arguments() -> argparse.Namespace:
    """Parse the options; ``--smoke`` makes its own data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="cats-plane", help="generator with two networks and two clocks")
    parser.add_argument("--beside", default="cats-time", help="the same with the time as clock; empty for none")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/afhq_cat"))
    parser.add_argument("--out", type=Path, default=Path("runs/path-independence"))
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--smoke", action="store_true", help="few images, compared with data of its own, no pictures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.smoke:
        options.data, options.images, options.steps = cats.miniature(options.out), 10, 3
    return options


def main() -> None:
    """Sample every way with each model, print and write."""
    options = arguments()
    torch.set_num_threads(1)
    real = cats.real(options.data)
    results, strips = Row(), []
    for name in filter(None, (options.model, options.beside)):
        model = load(name)
        with torch.inference_mode():
            results[name], images = measured(model, real, options.images, options.steps)
            if not options.smoke:
                plot(model, options.steps, options.out / f"{name}.png")
        strips += [cats.strip(found[:8]) for found in images.values()]
        for t, (by_bbar, by_abar) in results[name]["derivatives"].items():
            print(f"{name:12} t = {t}: |d res / d bbar| {by_bbar:.3f}, |d eps / d abar| {by_abar:.3f}")
    (options.out / "path_independence.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if not options.smoke:
        cats.sheet(strips, options.out / "path_independence.jpg")


if __name__ == "__main__":
    main()
