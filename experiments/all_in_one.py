"""One network for noise, rain, blur and JPEG, told or not told which, against one network for each.

``python experiments/all_in_one.py --data ../shared/data --train .jobdata/bsds500-rain --out runs/told`` trains the told
one with the recipe, seed and number of updates of the bundled ``all-in-one`` (which is not told), then scores all of
them on photographs that none was trained on. A network is told by an image of one colour beside its input, one of
``COLOURS``. Writes ``all-in-one.json`` and ``all-in-one.png`` to ``--out`` and prints a table.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rddm.degradations import Choice, Degradation, Degraded, parse
from rddm.draws import generator_of, synthesised
from rddm.journal import speaker
from rddm.metrics import psnr
from rddm.model import BUNDLED, Model, load, read_model
from rddm.pairs import hold_out, pair_up
from rddm.photos import Files
from rddm.plan import accelerator_of
from rddm.recipe import RECIPE, Recipe, fitted, read_recipe
from rddm.recipes import all_in_one, denoise, derain, jpeg
from rddm.report import Table, show
from rddm.restore import prepare, run
from rddm.train import Setting, conduct, remember

COLOURS = {"denoise": (0, 0, 0), "derain": (255, 0, 0), "deblur": (0, 255, 0), "jpeg": (0, 0, 255)}
BOTH = ("untold", "told")
TESTS = {
    "denoise": ("noise(15)", "noise(25)", "noise(50)", "camera(1600)"),
    "derain": ("rain", "heavy_rain"),
    "deblur": ("motion(11) + noise(1)", "shake(15) + noise(1)", "defocus(2.5) + noise(1)"),
    "jpeg": ("jpeg(10)", "jpeg(20)", "jpeg(40)"),
}
BLUR = "(motion(3..21) | shake(9..25) | defocus(1..4)) + noise(0..4)"
FAMILIES = (denoise().degrade, derain().degrade, BLUR, jpeg().degrade)  # in the order of ``COLOURS``


@dataclass(frozen=True)
class Told:
    """A choice of degradations, in the order of ``COLOURS``, that says by a colour which was drawn."""

    families: tuple[Degradation, ...]

    def __call__(self, image: Tensor, generator: torch.Generator) -> Degraded:
        """Return the degraded image, and the colour as its mask."""
        drawn = int(torch.randint(len(self.families), (), generator=generator))
        colour = torch.tensor(tuple(COLOURS.values())[drawn]) / 255
        return Degraded(self.families[drawn](image, generator).image, colour[:, None, None].expand_as(image))


def told(recipe: Recipe) -> Recipe:
    """Return a recipe for the four families, evenly, whose network is shown the colour."""
    method = replace(recipe.method, inputs=("x_in", "mask"))
    degrade = " | ".join(f"({text})" for text in FAMILIES)
    network = fitted(recipe.network, method)
    return replace(recipe, name=f"{recipe.name}-told", method=method, network=network, degrade=degrade)


def train(folder: Path, out: Path, steps: int) -> Model:
    """Train the told network, or go on with it, and return it."""
    recipe = replace(told(all_in_one()), steps=steps)
    photos = Files(pair_up({"clean": folder}), recipe)
    photos.preload()
    remember(out, recipe, {"clean": folder})
    families = parse(recipe.degrade)
    assert isinstance(families, Choice) and len(families.options) == len(COLOURS)
    degrade = Told(families.options)
    setting = Setting(recipe, photos, *hold_out(len(photos)), degrade, "BSDS500, told")
    conduct(setting, out, accelerator_of(recipe), speaker(True))
    return read_model(out / "model")


def photographs(data: Path, family: str, count: int) -> list[np.ndarray]:
    """Return the first photographs of a family's tests: the 68 of CBSD68, or those held out for rain."""
    listed, split = ("rain_holdout.txt", "train") if family == "derain" else ("cbsd68.txt", "val")
    names = sorted(set((data / "bsds500" / listed).read_text(encoding="utf-8").split()))
    return [np.asarray(Image.open(data / "bsds500" / split / f"{name}.jpg").convert("RGB")) for name in names[:count]]


def scores(data: Path, networks: dict[str, Model], count: int) -> Iterator[dict[str, object]]:
    """Yield one row for each test: RGB PSNR of the input, and of what each network makes of it."""
    for family, degradations in TESTS.items():
        clean = photographs(data, family, count)
        for text in degradations:
            pairs = [(synthesised(parse(text), c, generator_of(0, i))["degraded"], c) for i, c in enumerate(clean)]
            found = {"input": mean([psnr(a, b) for a, b in pairs])}
            for name, model in (("specialist", networks[family]), *((name, networks[name]) for name in BOTH)):
                found[name] = mean([psnr(restored(model, a, family), b) for a, b in pairs])
            yield {"family": family, "test": text, "photographs": len(pairs), **found}


def mean(values: list[float]) -> float:
    """Return the mean, to the digits that are printed."""
    return round(float(np.mean(values)), 4)


def restored(model: Model, pixels: np.ndarray, family: str) -> np.ndarray:
    """Return what a model makes of a photograph, told by a colour if it wants to be."""
    wants = ("mask",) if "mask" in model.spec.method.inputs else ()
    colour = np.broadcast_to(np.array(COLOURS[family], np.uint8), pixels.shape) if wants else None
    return run(prepare(model, *pixels.shape[:2], steps=1, given=wants), pixels, mask=colour)


def plot(rows: list[dict[str, object]], file: Path) -> None:
    """Draw what is gained over the input, test by test."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(10, 4), layout="constrained")
    for i, name in enumerate(("specialist", *BOTH)):
        gains = [float(row[name]) - float(row["input"]) for row in rows]  # pyright: ignore[reportArgumentType]
        axes.bar(np.arange(len(rows)) + 0.27 * (i - 1), gains, 0.25, label=name)
    axes.set_xticks(range(len(rows)), [str(row["test"]) for row in rows], rotation=30, ha="right")
    axes.set_ylabel("dB above the input (RGB PSNR)")
    axes.legend()
    figure.savefig(file, dpi=90)


def main() -> None:
    """Train what is not trained yet, score, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--train", type=Path, default=Path(".jobdata/bsds500-rain"), help="clean photographs")
    parser.add_argument("--out", type=Path, default=Path("runs/told"))
    parser.add_argument("--count", type=int, default=68, help="photographs for each test, at most")
    options = parser.parse_args()
    torch.set_num_threads(1)
    networks = {name: load(name) for name in (*COLOURS, "all-in-one")}
    networks["untold"] = networks.pop("all-in-one")
    networks["told"] = train(options.train, options.out, read_recipe(BUNDLED / "all-in-one" / RECIPE).steps)
    rows = []
    for row in scores(options.data, networks, options.count):
        rows.append(row)
        print(json.dumps(row), flush=True)
    (options.out / "all-in-one.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    plot(rows, options.out / "all-in-one.png")
    show(Table(tuple(rows[0]), [[str(value) for value in row.values()] for row in rows]))


if __name__ == "__main__":
    main()
