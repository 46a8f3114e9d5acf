"""What ``experiments/conversion.py`` does with a converted DDPM: other paths after training, other clocks.

Such a network knows the index of its table of times and nothing else. On another path it can be told

* ``published``: t, at index i what it was told at index i. As the authors have it, the estimates are made with the old
  coefficients, and the step, an increment, is taken with the new ones;
* ``t``: the same, but of the estimates ``eps`` alone is kept, and ``x_0`` is what the new coefficients leave;
* ``noise``: likewise, at the index whose ``bbar`` the state has, which is t if ``abar`` alone is readjusted;
* ``ratio``: the index whose ``bbar / (1 - abar)`` the state has. It is then shown the state times a factor, which makes
  it the very state it was trained on: without ``x_in`` all paths lead through the same images, each in its own scale.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rddm.clipping import Clip
from rddm.denoiser import Denoiser, NetworkDenoiser
from rddm.hf import from_scheduler, timesteps
from rddm.methods import Method
from rddm.model import Model
from rddm.path import Node, TabulatedPath, nodes_from
from rddm.path import Path as Curve
from rddm.photo import from_float
from rddm.prediction import Prediction, from_eps
from rddm.report import Table
from rddm.sample import sample
from rddm.schedules import CrossedPath, PowerPath
from rddm.solvers import Ancestral
from rddm.transition import Anchor, anchor_x_t
from rddm.validate import bytes_of, stacked

POWERS = (0.3, 0.5, 0.7, 1.0, 1.3, 1.5)
CLOCKS = ("published", "t", "noise", "ratio")
SHOWN = 6
Row = dict[str, Any]
Images = dict[str, dict[str, Tensor]]  # by path, then by clock


def readjusted(path: TabulatedPath) -> dict[str, TabulatedPath]:
    """Return the paths by name: ``abar`` another one; then ``bbar`` another one as well."""
    alphas = {f"P(1-x, {power:g})": PowerPath(alpha_power=power) for power in POWERS}
    found: dict[str, TabulatedPath] = {name: CrossedPath(alpha, path) for name, alpha in alphas.items()}
    return found | {f"{name}, P(x, 1)": alpha for name, alpha in alphas.items()}


def nodes_of(path: Curve) -> list[Node]:
    """Return the nodes of a table."""
    assert isinstance(path, TabulatedPath)
    return [path.index(i) for i in range(path.length)]


def published(denoiser: NetworkDenoiser) -> Denoiser:
    """Return a denoiser for all paths that estimates as if it were still on its own."""
    table = nodes_of(denoiser.method.path)
    return lambda x_t, x_in, node: denoiser(x_t, x_in, table[round(float(node.t) * len(table)) - 1])


def keeping_eps(ask: Denoiser, clip: Clip) -> Denoiser:
    """Return a denoiser that believes another's ``eps``, and completes it at the node where it is asked."""

    def complete(x_t: Tensor, x_in: Tensor, node: Node) -> Prediction:
        return clip(from_eps(ask(x_t, x_in, node).eps, x_t, x_in, node), x_t, x_in, node)

    return complete


def by_noise(denoiser: NetworkDenoiser) -> Denoiser:
    """Return a denoiser for all paths that estimates as if it were on its own where ``bbar`` is equal."""
    table = nodes_of(denoiser.method.path)
    noise = torch.tensor([node.bbar for node in table])
    return lambda x_t, x_in, node: denoiser(x_t, x_in, table[int((noise - node.bbar).abs().argmin())])


def by_ratio(denoiser: NetworkDenoiser) -> Denoiser:
    """Return a denoiser for all paths, which asks at the node of equal ``bbar / (1 - abar)``, of the state rescaled."""
    table = nodes_of(denoiser.method.path)
    ratios = torch.tensor([node.bbar / (1 - node.abar) for node in table]).log()

    def ask(x_t: Tensor, x_in: Tensor, node: Node) -> Prediction:
        seen = table[int((ratios - math.log(node.bbar / (1 - node.abar))).abs().argmin())]
        return denoiser(x_t * (size(seen) / size(node)), x_in, seen)

    return ask


def size(node: Node) -> float:
    """Return the length of ``(1 - abar, bbar)``: with equal ratios, that of the states."""
    return math.hypot(1 - node.abar, node.bbar)


def deterministic_row(model: Model) -> Method:
    """Return the row of diffusers' DDIMScheduler with the model's configuration."""
    return from_scheduler({**model.spec.card["scheduler"], "_class_name": "DDIMScheduler"})


def walked(model: Model, ask: Denoiser, path: TabulatedPath, steps: int, eps: Tensor, anchor: Anchor) -> Tensor:
    """Return the images at the end of a path, from the same noise whatever the path."""
    nodes = nodes_from(path, timesteps(model.spec.card["scheduler"], steps))
    return sample(ask, torch.zeros_like(eps), nodes, Ancestral(anchor=anchor), lambda _: eps).clamp(-1, 1)


def images_of(model: Model, eps: Tensor, steps: int) -> Images:
    """Return the images of the path that the model was converted with, and of the readjusted ones."""
    row = deterministic_row(model)
    own, known = NetworkDenoiser(model.net.float(), row), row.path
    assert isinstance(known, TabulatedPath)
    counts = {"unadjusted": steps, f"in {steps // 2} steps": steps // 2, f"in {4 * steps} steps": 4 * steps}
    found: Images = {name: {"t": walked(model, own, known, n, eps, row.anchor)} for name, n in counts.items()}
    found["unadjusted"]["published"] = walked(model, own, known, steps, eps, anchor_x_t)
    for name, path in readjusted(known).items():
        clocks = {"t": keeping_eps(published(own), row.clip), "ratio": by_ratio(own)}
        if not isinstance(path, CrossedPath):
            clocks["noise"] = keeping_eps(by_noise(own), row.clip)
        found[name] = {clock: walked(model, ask, path, steps, eps, row.anchor) for clock, ask in clocks.items()}
        found[name]["published"] = walked(model, published(own), path, steps, eps, anchor_x_t)
    return found


def compared(images: Images) -> dict[str, Row]:
    """Return how far images are from the unadjusted ones, and the share of those whose nearest is their own.

    The distance is the rms over pixels, in units of that between unadjusted images of different noise.
    """
    joint, found = images["unadjusted"]["t"], dict[str, Row]()
    unlike = (joint - joint.roll(1, 0)).square().mean().sqrt()
    for name, clock, x in ((name, clock, x) for name, told in images.items() for clock, x in told.items()):
        own = torch.cdist(x.flatten(1), joint.flatten(1)).argmin(1) == torch.arange(len(x))
        apart = float((x - joint).square().mean().sqrt() / unlike)
        found.setdefault(name, {})[clock] = {"apart": round(apart, 4), "own": round(float(own.double().mean()), 4)}
    return found


def table(found: dict[str, Row]) -> Table:
    """Return it as it is printed, a column per clock."""
    rows = []
    for name, told in found.items():
        cells = (told.get(clock) for clock in CLOCKS)
        rows.append([name, *(f"{cell['apart']:.3f}, {cell['own']:.0%}" if cell else "" for cell in cells)])
    return Table(("distance, share of own nearest; told:", *CLOCKS), rows)


def picture(images: Images, file: Path) -> None:
    """Draw a row of images for each path: as published, told t, told by the ratio."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [name for name in images if "steps" not in name]
    parts = [[images[name].get(clock, images[name]["t"]) for clock in ("published", "t", "ratio")] for name in names]
    rows = [[x for part in row for x in part[:SHOWN].permute(0, 2, 3, 1).numpy() / 2 + 0.5] for row in parts]
    sheet = stacked([[bytes_of(from_float(x, np.uint8)).repeat(3, 0).repeat(3, 1) for x in row] for row in rows])
    height, width = sheet.shape[:2]
    figure, axes = pyplot.subplots(figsize=(11, 9.5 * height / width), layout="constrained")
    axes.imshow(sheet, interpolation="nearest")
    axes.set_yticks([(i + 0.5) * height / len(rows) for i in range(len(rows))], names, fontsize=8)
    axes.set_xticks([width * x / 6 for x in (1, 3, 5)], ["as published", "told t", "told by the ratio"])
    axes.tick_params(length=0)
    figure.savefig(file, dpi=90)
