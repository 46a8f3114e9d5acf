"""The rows of the table on equal terms: one network, one budget, one set of pairs; quality against network calls.

Every row is trained on the same pieces with the same network, the same times and noise, loss and number of updates, and
is taken as it is after the last: nothing is selected. It restores what was held out with its own step, at every number
of calls that its path allows. What differs is what a row is: its path, its target, its clock, and whether it sees the
degraded image.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from rddm.checkpoint import save_model
from rddm.degradations import parse
from rddm.denoiser import NetworkDenoiser
from rddm.draws import Draws, Samples
from rddm.errors import UserError
from rddm.fitting import fitted
from rddm.journal import Say, clock
from rddm.loss import Batch
from rddm.methods import METHODS, Method
from rddm.metrics import Bytes, psnr, ssim
from rddm.model import read_model, write_aside
from rddm.nn.compact import CompactConfig
from rddm.options import check_kinds
from rddm.pairs import hold_out
from rddm.path import gaussian
from rddm.photo import from_float
from rddm.plan import accelerator_of, seconds_per_update
from rddm.recipe import RECIPE, Phase, Recipe, difference, read_recipe, to_json
from rddm.report import Table, show
from rddm.sample import sample
from rddm.setdistance import features
from rddm.solvers import Ancestral
from rddm.train import gathered
from rddm.trainer import Run, loader, schedule
from rddm.transition import Inadmissible
from rddm.validate import batches, spec_of, stacked

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CALLS = (1, 2, 5, 10, 20, 50, 100)
NETWORK = CompactConfig(widths=(32, 64, 96), blocks=(1, 1, 1))
SHOWN = 4  # held-out pieces in the picture
Figures = dict[str, float]


@dataclass(frozen=True)
class Terms:
    """What all rows have in common.

    Arguments:
        updates: of each training.
        side: of the pieces, in pixels.
        batch: pieces in an update.
        fit: pieces cut out of the photographs, or these resized.
        degrade: the degradation, empty for pairs.
        seed: of weights, pieces, times and noise.
        loss: a name in ``rddm.loss.DISTANCES``.
    """

    updates: int = 600
    side: int = 64
    batch: int = 8
    fit: Literal["crop", "resize"] = "crop"
    degrade: str = ""
    seed: int = 0
    loss: str = "l1"

    def recipe(self, row: Method) -> Recipe:
        """Return the training of a row."""
        return Recipe(
            row.name, row, fitted(NETWORK, row), "a comparison on equal terms", degrade=self.degrade,
            fit=self.fit, phases=(Phase(1.0, self.side, self.batch),), steps=self.updates, lr=1.2e-3,
            warmup=min(500, self.updates // 10), start_share=0.0, metric="psnr", seed=self.seed,
            loss=self.loss,
        )  # fmt: skip


def supervised() -> dict[str, Method]:
    """Return the rows that restore: those that start from the degraded image, or are shown it."""
    return {name: row for name, row in METHODS.items() if not row.generates}


def trained(recipe: Recipe, draws: Samples, folder: Path, say: Say = lambda _: None) -> nn.Module:
    """Return the averaged weights after the recipe's last update; read from ``folder`` if the same run made it.

    Raises:
        UserError: if a photograph cannot be read, or the folder holds another run.
    """
    if (folder / RECIPE).exists():
        if found := difference(recipe, read_recipe(folder / RECIPE)):
            raise UserError(f"{folder}: holds a run of another recipe ({found}), expected another --out")
        return read_model(folder).net
    run = Run(recipe, accelerator_of(recipe))
    for batch in loader(draws, schedule(recipe, 0, 0, 1), 0, False):
        heads, _ = run.update([batch])
        if run.place.update % 500 == 0:
            say(f"{recipe.name}: update {run.place.update}/{recipe.steps}, loss {float(heads.sum()):.4f}")
    save_model(folder, spec_of(recipe, {"updates": run.place.update}), run.ema.state_dict())
    text = json.dumps(to_json(recipe), indent=2) + "\n"
    write_aside(folder / RECIPE, lambda part: part.write_text(text, encoding="utf-8"))  # last: the mark of a whole run
    return read_model(folder).net


def restored(net: nn.Module, recipe: Recipe, held: Sequence[Batch], calls: int) -> Tensor:
    """Return what was held out, restored in ``calls`` steps of the row's own, (N, 3, side, side) in [-1, 1].

    Raises:
        ValueError: if the row's path has no such grid.
        Inadmissible: if its step cannot be taken on it.
    """
    method, noise = recipe.method, gaussian(torch.Generator().manual_seed(recipe.seed))
    grid, solver, found = method.path.grid(calls), Ancestral(method.gain, method.anchor), []
    for batch in held:
        denoiser = NetworkDenoiser(net, method, batch.conditions)
        found.append(sample(denoiser, batch.x_in, grid, solver, noise).clamp(-1, 1))
    return torch.cat(found)


def pixels(images: Tensor) -> list[Bytes]:
    """Return images (N, 3, H, W) in [-1, 1] as bytes (H, W, 3)."""
    return [from_float(image.permute(1, 2, 0).numpy() / 2 + 0.5, np.uint8).astype(np.uint8) for image in images]


def figures(images: Tensor, targets: Tensor) -> Figures:
    """Return means over the images: PSNR and SSIM of bytes in RGB, and the rms distance of wavelet features."""
    pairs = [*zip(pixels(images), pixels(targets), strict=True)]
    apart = (features(images) - features(targets)).square().mean().sqrt()
    means = {name: float(np.mean([metric(*pair) for pair in pairs])) for name, metric in METRICS.items()}
    return means | {"features": float(apart)}


METRICS = {"psnr": psnr, "ssim": ssim}


@torch.inference_mode()
def measured(net: nn.Module, recipe: Recipe, held: Samples, targets: Tensor) -> tuple[dict[str, Figures], Tensor]:
    """Return a row's figures by number of calls, and its images at the number with the best PSNR."""
    table, best = dict[str, Figures](), targets
    drawn = [*batches(held, len(held), torch.device("cpu"))]
    for calls in CALLS:
        try:
            images = restored(net, recipe, drawn, calls)
        except (Inadmissible, ValueError):
            continue  # a path of T nodes has no longer grid, and some steps are too wide for a gain
        table[str(calls)] = figures(images, targets)
        if table[str(calls)]["psnr"] == max(row["psnr"] for row in table.values()):
            best = images
    return table, best


@dataclass
class Comparison:
    """A comparison under way.

    Arguments:
        terms: what the rows share.
        draws: the pieces to train on, for a row's recipe.
        held: those held out, likewise.
        out: where everything is written.
        say: tells how far it is.
    """

    terms: Terms
    draws: Callable[[Recipe], Draws]
    held: Callable[[Recipe], Draws]
    out: Path
    say: Say = print

    def run(self, rows: Mapping[str, Method]) -> dict[str, dict[str, Figures]]:
        """Train and measure the rows, one after the other, and write ``comparison.json`` after each.

        Raises:
            UserError: if a photograph cannot be read, or the folder holds a comparison on other terms.
        """
        first, began = self.terms.recipe(next(iter(rows.values()))), time.monotonic()
        x_in, targets = both(self.held(first))
        results, shown = {"input": {"0": figures(x_in, targets)}}, [x_in[:SHOWN]]
        self.announce(first, len(rows))
        for done, (name, row) in enumerate(rows.items(), 1):
            recipe = self.terms.recipe(row)
            net = trained(recipe, self.draws(recipe), self.out / name)
            results[name], images = measured(net, recipe, self.held(recipe), targets)
            shown.append(images[:SHOWN])
            left = (time.monotonic() - began) / done * (len(rows) - done)
            self.say(f"{name}: {words(results[name])}; {done} of {len(rows)}, {clock(left)} left")
            self.write(results)
        self.draw(results, [*shown, targets[:SHOWN]])
        return results

    def announce(self, recipe: Recipe, count: int) -> None:
        """Say what it will cost."""
        update = seconds_per_update(recipe, self.draws(recipe), accelerator_of(recipe), 0)
        whole = clock(1.3 * count * update * recipe.steps)
        self.say(f"{count} rows, {recipe.steps} updates of {update:.3f} s each, and their sampling: about {whole}")

    def write(self, results: Mapping[str, object]) -> None:
        """Write the figures."""
        text = json.dumps(results, indent=1) + "\n"
        write_aside(self.out / "comparison.json", lambda part: part.write_text(text, encoding="utf-8"))

    def draw(self, results: Mapping[str, dict[str, Figures]], shown: Sequence[Tensor]) -> None:
        """Write the plot, and the picture: a column per held-out piece, a row for the input, each method and target."""
        image = Image.fromarray(stacked([pixels(images) for images in shown]))
        write_aside(self.out / "comparison.png", lambda part: image.save(part, format="PNG"))
        plot(results, self.out / "calls.png")


def compared(
    terms: Terms, sources: dict[str, Path], names: Sequence[str], out: Path, say: Say = print
) -> dict[str, dict[str, Figures]]:
    """Compare rows on photographs, and write ``comparison.json``, ``calls.png`` and ``comparison.png``.

    Arguments:
        terms: what the rows share.
        sources: where the photographs are: "clean", and "degraded" unless the terms degrade.
        names: of the rows; all that restore if empty.
        out: a folder; a comparison that was stopped goes on in it.
        say: tells how far it is.

    Raises:
        UserError: for an unknown row or one that restores nothing, and everything that is wrong with the photographs.
    """
    every = supervised()
    if unknown := set(names) - every.keys():
        raise UserError(f"--methods: found {', '.join(sorted(unknown))}, expected some of {', '.join(every)}")
    rows = {name: every[name] for name in names or every}
    recipe = terms.recipe(next(iter(rows.values())))
    check_kinds(replace(recipe, method=METHODS["rddm-res"], network=fitted(NETWORK, METHODS["rddm-res"])), sources)
    recipe, photos = gathered(recipe, sources, say)
    terms = replace(terms, side=recipe.phases[0].crop)
    degrade, (fit, kept) = parse(terms.degrade) if terms.degrade else None, hold_out(len(photos))
    comparison = Comparison(
        terms, lambda row: Draws(photos, fit, row, degrade), lambda row: Draws(photos, kept, row, degrade, 1), out, say
    )
    out.mkdir(parents=True, exist_ok=True)
    results = comparison.run(rows)
    show(table_of(results))
    return results


def both(held: Draws) -> tuple[Tensor, Tensor]:
    """Return the degraded and the clean pieces held out, (N, 3, side, side) in [-1, 1]."""
    method = replace(held.recipe.method, origin="input")  # of rows from noise, x_in is zero
    shown = replace(held, recipe=replace(held.recipe, method=method))
    found = [*batches(shown, len(held), torch.device("cpu"))]
    return torch.cat([batch.x_in for batch in found]), torch.cat([batch.x_0 for batch in found])


def words(table: Mapping[str, Figures]) -> str:
    """Return a row's PSNR by number of calls in a few words."""
    return ", ".join(f"{calls} {row['psnr']:.2f}" for calls, row in table.items()) + " dB"


def table_of(results: Mapping[str, Mapping[str, Figures]], measure: str = "psnr") -> Table:
    """Return a measure by row and number of calls, the best rows first."""
    best = {name: max(row[measure] for row in table.values()) for name, table in results.items()}
    rows = [
        [name, *(f"{table[str(n)][measure]:.2f}" if str(n) in table else "" for n in CALLS)]
        for name, table in sorted(results.items(), key=lambda item: -best[item[0]])
        if name != "input"
    ]
    return Table((f"{measure} in calls:", *map(str, CALLS)), rows)


def plot(results: Mapping[str, Mapping[str, Figures]], file: Path) -> None:
    """Draw PSNR and the distance of features against the number of calls, a line per row."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(13, 5.5), layout="constrained")
    for axis, measure in zip(axes, ("psnr", "features"), strict=True):
        lines(axis, results, measure)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize="small")
    write_aside(file, lambda part: figure.savefig(part, format="png", dpi=90))
    pyplot.close(figure)


def lines(axis: "Axes", results: Mapping[str, Mapping[str, Figures]], measure: str) -> None:
    """Draw one measure."""
    styles = ("-", "--", ":")
    for i, (name, table) in enumerate((n, t) for n, t in results.items() if n != "input"):
        values = [row[measure] for row in table.values()]
        axis.plot([int(n) for n in table], values, "." + styles[i // 10 % 3], color=f"C{i % 10}", label=name)
    axis.axhline(results["input"]["0"][measure], color="grey", linewidth=0.8)
    axis.set(xscale="log", xlabel="network calls (grey: the input)", ylabel=measure)
