"""The paper's sampling methods on LOL, one budget for all: ``python experiments/sampling_methods.py``.

Every variant has the same pieces, times, noise, network and number of updates, and is taken as it is after the last:
nothing is selected. ``sampling.json`` grows by a variant at a time, and the same command goes on where it stopped;
``sampling.png`` and ``sampling.jpg`` are drawn at the end. ``docs/sampling.md`` tells the rest.

SM-Res-N with two networks is not trained: it is the network of SM-Res beside that of SM-N. Its loss is a sum, of which
either network moves one term, and Adam, decay and average work weight by weight. Only a gradient clipped over both
would let one network shorten the other's step; two optimisers, as the paper has them, clip apart.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "jobs"))

import common
import numpy as np
import sets
import torch
from PIL import Image
from torch import Tensor, nn

from rddm import comparison
from rddm.clipping import published_res, published_res_eps, published_x_0
from rddm.denoiser import NetworkDenoiser
from rddm.draws import Draws, collate
from rddm.evaluate import Evaluation, Look, evaluate
from rddm.loss import Batch, compare
from rddm.matlab import Bytes
from rddm.methods import METHODS, Method
from rddm.model import Model, read_model
from rddm.nn.compact import CompactConfig
from rddm.nn.unet import UNetConfig
from rddm.pairs import hold_out
from rddm.protocols import PROTOCOLS, Case, Scores, read_pairs, read_rgb
from rddm.recipe import Phase, Recipe, fitted, with_method
from rddm.recipes import restore
from rddm.restore import prepare, run
from rddm.schedules import PowerPath
from rddm.solvers import FLOWS, Ancestral, Solver
from rddm.sources import Produced
from rddm.transition import residual
from rddm.validate import as_model, stacked

Steps = dict[str, tuple[int, ...]]  # by sampler
PROTOCOL = PROTOCOLS["lol-256-y"]
SMALL = CompactConfig(widths=(24, 48, 72), blocks=(1, 1, 1))
ROWS = {"SM-Res": "rddm-res", "SM-N": "rddm-eps", "SM-Res-N": "rddm"}
UNETS = {"one": "rddm-res", "two_nets": "rddm", "shared_encoder": "rddm", "two_heads": "rddm"}
PUBLISHED = {"res": published_res, "eps_floored": published_x_0, "res+eps": published_res_eps}
FEW = {"own": (1, 2, 5, 10), "published clip": (1, 2, 5, 10)}
FULL = FEW | {
    "own": (1, 2, 5, 10, 100),
    "stochastic": (5, 10),
    "euler": (5,),
    "heun": (5,),
    "ab2": (5,),
    "dpm++": (5, 10),
}
TIMES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)  # where the estimates' errors are measured
SMOKE = ("SM-Res 1", "SM-N 1", "SM-Res-N 1", "SM-Res-N 1 two nets")
SHOWN = "79"  # the photograph of the picture, one of samples/


def recipe_of(row: str, noise: float, updates: int) -> Recipe:
    """Return ``restore`` in small, with another row of the table."""
    ours = with_method(restore(), replace(METHODS[row], path=PowerPath(noise=noise)))
    network, phases = fitted(SMALL, ours.method), (Phase(1.0, 64, 8),)
    return replace(ours, network=network, phases=phases, steps=updates, metric="loss")


def unet_of(heads: str, updates: int) -> Recipe:
    """Return the same with a small UNet: it is told nothing of the whole photograph, but sees it equalised."""
    ours = recipe_of(UNETS[heads], 1.0, updates)
    method = replace(ours.method, context=())
    network = fitted(UNetConfig(dim=16, mults=(1, 2, 4), heads=heads), method)
    return replace(ours, method=method, network=network, phases=(Phase(1.0, 32, 4),))


def recipes(updates: int, unet_updates: int) -> dict[str, Recipe]:
    """Return the variants by name; "uniform" leaves out that half of the draws is at t = 1, as the paper does."""
    table = {f"{name} {noise:g}": recipe_of(row, noise, updates) for noise in (1, 0.01) for name, row in ROWS.items()}
    table |= {f"SM-Res-N {noise:g} two nets": table[f"SM-Res-N {noise:g}"] for noise in (1, 0.01)}
    table["SM-N 1 uniform"] = replace(table["SM-N 1"], start_share=0.0)
    table |= {f"UNet {heads}": unet_of(heads, unet_updates) for heads in UNETS}
    return {name: replace(recipe, name=name) for name, recipe in table.items()}


class Pair(nn.Module):
    """Two networks side by side."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.nets = nn.ModuleList([first, second])

    def forward(self, x: Tensor, clock: Tensor) -> tuple[Tensor, ...]:
        """Return the first one's output, then the second one's."""
        return tuple(net(x, clock)[0] for net in self.nets)


def trained(recipe: Recipe, draws: Draws, out: Path) -> nn.Module:
    """Return the averaged weights after the recipe's last update; they are read from ``out`` if they lie there."""
    if recipe.name.endswith("two nets"):
        noise = recipe.name.split()[1]
        return Pair(*(read_model(out / f"{name} {noise}").net for name in ("SM-Res", "SM-N")))
    return comparison.trained(recipe, draws, out / recipe.name)


def samplers(method: Method) -> dict[str, tuple[Method, Solver]]:
    """Return the ways to sample a row: its own step, the same clipped as published or with noise, every solver."""
    own = Ancestral(method.gain, method.anchor)
    clipped = replace(method, clip=PUBLISHED[method.target.name])
    ways = {"own": (method, own), "published clip": (clipped, own)}
    noisy = (method, Ancestral(residual, method.anchor))
    return ways | {"stochastic": noisy} | {name: (method, solver) for name, solver in FLOWS.items()}


@dataclass(frozen=True)
class Sampled:
    """A model with a solver of its own, as a source of outputs."""

    model: Model
    solver: Solver
    steps: int
    label: str

    @property
    def facts(self) -> dict[str, float]:
        """Nothing."""
        return {}

    def __call__(self, case: Case, target: Bytes, seed: int) -> Produced:
        """Restore the photo as the protocol hands it over."""
        assert case.other is not None
        photo = PROTOCOL.photo(read_rgb(case.other))
        job = prepare(self.model, *photo.shape[:2], steps=self.steps, seed=seed)
        return Produced(run(replace(job, solver=self.solver), photo).astype(np.uint8), photo)


def sources(net: nn.Module, recipe: Recipe, steps: Steps) -> Iterator[tuple[str, Sampled]]:
    """Yield a source for each sampler and number of steps, with the sampler's name."""
    for name, counts in steps.items():
        method, solver = samplers(recipe.method)[name]
        with as_model(net, replace(recipe, method=method)) as model:
            yield from ((name, Sampled(model, solver, count, f"{recipe.name} {count}")) for count in counts)


def keeper(file: Path) -> Look:
    """Return what writes input, output and target of one photograph side by side."""

    def keep(name: str, scores: Scores, produced: Produced, target: Bytes) -> None:
        if name == SHOWN and produced.degraded is not None:
            Image.fromarray(np.hstack([produced.degraded, produced.output, PROTOCOL.photo(target)])).save(file)

    return keep


def scored(net: nn.Module, recipe: Recipe, steps: Steps, cases: list[Case], out: Path) -> dict[str, Any]:
    """Return mean and interval of each figure, by sampler and steps; keep the outputs that the picture shows."""
    found: dict[str, dict[str, Any]] = {}
    for name, source in sources(net, recipe, steps):
        look: Look = keeper(out / f"{source.label}.png") if name == "own" else lambda *_: None
        figures = evaluate(Evaluation(source, PROTOCOL, look=look), cases).figures
        found.setdefault(name, {})[str(source.steps)] = {key: [*value[:3]] for key, value in figures.items()}
        print(f"{source.label}, {name}: {figures['psnr'].mean:.2f} dB, SSIM {figures['ssim'].mean:.3f}", flush=True)
    return found


@torch.no_grad()
def errors(net: nn.Module, held: Draws) -> list[float]:
    """Return the RMS error of the unclipped estimate of ``x_0`` at ``TIMES``, on true states of held-out pieces."""
    method, crop, found = held.recipe.method, held.recipe.phases[0].crop, []
    batch = collate([held[i, crop] for i in range(24)])
    assert isinstance(batch, Batch)
    for t in TIMES:
        denoiser, times = NetworkDenoiser(net, method, batch.conditions), torch.full_like(batch.t, t)
        seen = compare(denoiser, batch.x_0, batch.x_in, times, lambda _: batch.eps)
        estimate = method.target.decode(seen.outputs, seen.x_t, batch.x_in, seen.node, None).x_0
        found.append(float((estimate - batch.x_0).square().mean().sqrt()))
    return found


def plot(results: dict[str, Any], file: Path) -> None:
    """Draw PSNR against steps, and the estimates' errors against time."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for name, found in results.items():
        row, noise, *more = name.split()
        if row != "UNet":
            colour = f"C{[*ROWS].index(row) + 3 * len(more)}"
            look = {"color": colour, "linestyle": "-" if noise == "1" else "--", "marker": ".", "label": name}
            own = found["own"]
            axes[0].plot([*map(int, own)], [value["psnr"][0] for value in own.values()], **look)
            axes[1].plot(TIMES, found["errors"], **look)
    axes[0].set(xscale="log", xlabel="steps", ylabel="PSNR (dB), lol-256-y", title="each row's own step")
    axes[1].set(yscale="log", xlabel="t", title="RMS error of the unclipped x_0^, held-out pieces")
    axes[1].legend(fontsize=8)
    figure.savefig(file, dpi=90)


def picture(out: Path, names: list[str], steps: tuple[int, ...]) -> None:
    """Put the outputs for one photograph into one picture: a row per variant; input, steps, target."""
    rows = []
    for name in names:
        triples = [Image.open(out / f"{name} {count}.png").reduce(2) for count in steps]
        parts = [np.split(np.asarray(triple), 3, axis=1) for triple in triples]
        rows.append([parts[0][0], *(part[1] for part in parts), parts[0][2]])
    Image.fromarray(stacked(rows)).save(out / "sampling.jpg", quality=80)


def arguments() -> argparse.Namespace:
    """Parse the options; ``--smoke`` makes its own data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(".jobdata/low-light"), help="as jobs/pack.py lays it out")
    parser.add_argument("--lol", type=Path, default=Path("../shared/data/lol/test"), help="input and target")
    parser.add_argument("--out", type=Path, default=Path("runs/sampling"))
    parser.add_argument("--updates", type=int, default=1500)
    parser.add_argument("--unet-updates", type=int, default=250)
    parser.add_argument("--smoke", action="store_true", help="in small, on data of its own, no plot")
    options = parser.parse_args()
    if options.smoke:
        options.data = options.lol = Path(tempfile.mkdtemp())
        sets.miniature_lol(options.data)
    options.out.mkdir(parents=True, exist_ok=True)
    return options


def steps_of(name: str, smoke: bool) -> Steps:
    """Return how a variant is sampled."""
    steps = {"own": (2,)} if name.startswith("UNet") else FEW if len(name.split()) > 2 else FULL
    return {key: (2,) for key in steps} if smoke else steps


def main() -> None:
    """Train, score and draw."""
    options = arguments()
    torch.set_num_threads(1)
    table = recipes(options.updates, options.unet_updates)
    if options.smoke:
        table = {name: common.small(table[name]) for name in SMOKE}
    photos = sets.LolCrops(options.data, table["SM-Res 1"])
    cases = read_pairs(options.lol / "target", options.lol / "input")[: 1 if options.smoke else None]
    fit, kept = hold_out(len(photos))
    file = options.out / "sampling.json"
    results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for name, recipe in table.items():
        net = trained(recipe, Draws(photos, fit, recipe), options.out)
        if name not in results:
            results[name] = scored(net, recipe, steps_of(name, options.smoke), cases, options.out)
            results[name]["errors"] = errors(net, Draws(photos, kept, recipe, stream=1))
            file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if not options.smoke:
        plot(results, options.out / "sampling.png")
        picture(options.out, [name for name in results if not name.startswith("UNet")], FEW["own"])


if __name__ == "__main__":
    main()
