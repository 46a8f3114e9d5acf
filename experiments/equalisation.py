"""What a low-light network should see: ``python experiments/equalisation.py``.

The raw photograph; its equalised copy, as in the paper; the raw one with quantiles and thumbnail of the whole; all of
these (``restore``). One network and one budget for these four, and beside them the bundled model, which is ``restore``
trained longer. Each has a folder, and the same command goes on with it; ``low-light.json``, ``low-light.png`` and
``low-light.jpg`` lie beside. ``--darkest FOLDER`` prints the three darkest photographs of a folder instead.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "jobs"))

import common
import numpy as np
import sets
import torch
from PIL import Image

from rddm.evaluate import Evaluation, evaluate
from rddm.journal import read_log
from rddm.matlab import Bytes, luma
from rddm.model import Model, load, read_model
from rddm.nn.compact import CompactConfig
from rddm.pairs import listed
from rddm.plan import accelerator_of
from rddm.preprocess import equalise
from rddm.protocols import PROTOCOLS, Case, Scores, read_pairs, read_rgb
from rddm.recipe import Recipe, fitted
from rddm.recipes import restore
from rddm.sources import Produced, Restorer, read_degraded
from rddm.spec import Prepare
from rddm.train import Setting, conduct
from rddm.validate import score, stacked

DATA = "LOL-v1 train, 456 of 485 pairs"
WHOLE = ("quantiles", "thumbnail")
ARMS: dict[str, tuple[tuple[str, ...], tuple[str, ...], Prepare]] = {  # what is seen, what is told, what x_in is
    "raw": (("x_in",), (), "none"),
    "equalised": (("x_in",), (), "equalise"),
    "raw, told": (("x_in",), WHOLE, "none"),
    "restore": (("x_in", "equalised"), WHOLE, "none"),
}
NAMES = ("lol-rgb", "lol-256-y")
UNSEEN = "179"  # the test photograph without a near neighbour among the training's
SHOWN = ("22", "79", "748")  # those in samples/
Outputs = dict[str, dict[str, Bytes]]  # by photograph: input, outputs, target


class EqualisedCrops(sets.LolCrops):
    """LOL's crops, equalised by the tables of the whole photographs: a crop's own would tell it another exposure."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        super().__init__(folder, replace(recipe, prepare="none"))
        for (kind, i), pixels in self.kept.items():
            if kind == "degraded":
                self.kept[kind, i] = equalise(pixels, self.told[i].tables)


def recipe_of(arm: str, updates: int) -> Recipe:
    """Return ``restore`` with what an arm sees, in bf16: some CPUs make half as many updates again with it."""
    seen, told, prepare = ARMS[arm]
    base = restore()
    method = replace(base.method, inputs=seen, context=told)
    network = fitted(CompactConfig(), method)
    return replace(base, name=arm, method=method, network=network, prepare=prepare, steps=updates, precision="bf16")


def setting_of(recipe: Recipe, data: Path, state: Path) -> Setting:
    """Return what an arm works on; UserError if ``state`` holds a run of another recipe."""
    photos = EqualisedCrops if recipe.prepare == "equalise" else sets.LolCrops
    return common.setting_of(common.Job(recipe.name, recipe, photos, sets.miniature_lol, DATA), data, recipe, state)


def scored(model: Model, arm: str, cases: list[Case], outputs: Outputs) -> dict[str, Any]:
    """Return by protocol the means with their intervals, and the figures of each photograph; keep some outputs."""

    def keep(name: str, scores: Scores, produced: Produced, target: Bytes) -> None:
        if name in SHOWN and len(produced.output) == len(target):  # those at full size
            assert produced.degraded is not None
            outputs.setdefault(name, {"input": produced.degraded})[arm] = produced.output

    found: dict[str, Any] = {}
    for name in NAMES:
        source = Restorer(model, arm, PROTOCOLS[name], read_degraded)
        report = evaluate(Evaluation(source, source.protocol, look=keep), cases)
        found[name] = {key: [*value[:3]] for key, value in report.figures.items()}
        found[name]["images"] = {image.name: image.mean for image in report.images}
        print(f"{arm}, {name}: {report.figures['psnr'].mean:.2f} dB", flush=True)
    return found


def plot(results: dict[str, Any], file: Path) -> None:
    """Draw the held-out score against updates, and the PSNR of every test photograph."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for i, (arm, found) in enumerate(results.items()):
        images = found["lol-rgb"]["images"]
        if found["curve"]:
            axes[0].plot(*zip(*found["curve"], strict=True), marker=".", color=f"C{i}", label=arm)
        axes[1].plot([*images], [scores["psnr"] for scores in images.values()], ".", color=f"C{i}", label=arm)
    axes[0].set(xlabel="updates", title="PSNR (dB) on 24 crops held out")
    axes[1].set(xlabel="test photograph", title="PSNR (dB), lol-rgb")
    axes[1].tick_params(axis="x", labelsize=7)
    axes[1].legend(fontsize=8)
    figure.savefig(file, dpi=90)


def picture(outputs: Outputs, cases: list[Case], file: Path) -> None:
    """Put input, outputs and target of some photographs side by side, at a third of their size."""
    targets = {case.name: read_rgb(case.target) for case in cases}
    rows = [[*images.values(), targets[name]] for name, images in outputs.items()]
    small = [[np.asarray(Image.fromarray(image).reduce(3)) for image in row] for row in rows]
    Image.fromarray(stacked(small)).save(file, quality=85)


def darkest(folder: Path, count: int = 3) -> list[Path]:
    """Return the photographs with the least median luma, the darkest first."""
    return sorted(listed(folder), key=lambda file: float(np.median(luma(read_rgb(file)))))[:count]


def arguments() -> argparse.Namespace:
    """Parse the options; ``--smoke`` makes its own data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(".jobdata/low-light"), help="as jobs/pack.py lays it out")
    parser.add_argument("--lol", type=Path, default=Path("../shared/data/lol/test"), help="input and target")
    parser.add_argument("--out", type=Path, default=Path("runs/equalisation"))
    parser.add_argument("--updates", type=int, default=1500)
    parser.add_argument("--darkest", type=Path, help="print the three darkest photographs of a folder, and no more")
    parser.add_argument("--smoke", action="store_true", help="in small, on data of its own, no plot")
    options = parser.parse_args()
    if options.smoke:
        options.data = options.lol = Path(tempfile.mkdtemp())
        sets.miniature_lol(options.data)
    return options


def arm_of(arm: str, options: argparse.Namespace) -> tuple[Model, Setting, Path]:
    """Return an arm's model, trained now if it is not yet, with what it was trained on and its folder."""
    recipe = recipe_of("restore" if arm == "bundled" else arm, options.updates)
    recipe = common.small(recipe) if options.smoke else recipe
    state = options.out / recipe.name
    setting = setting_of(recipe, options.data, state)
    if arm == "bundled":
        return load("low-light"), setting, options.out / arm
    conduct(setting, state, accelerator_of(recipe), print)
    return read_model(state / "model"), setting, state


def main() -> None:
    """Train, score and draw."""
    options = arguments()
    torch.set_num_threads(1)
    if options.darkest is not None:
        return print(*darkest(options.darkest))
    cases = read_pairs(options.lol / "target", options.lol / "input")[: 1 if options.smoke else None]
    results, outputs = dict[str, Any](), Outputs()
    options.out.mkdir(parents=True, exist_ok=True)
    for arm in (*ARMS, "bundled"):
        model, setting, state = arm_of(arm, options)
        results[arm] = scored(model, arm, cases, outputs) | {
            "held out": score(model.net, setting.held),
            "curve": [(line["update"], line["score"]) for line in read_log(state) if "score" in line],
        }
        (options.out / "low-light.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if not options.smoke:
        plot(results, options.out / "low-light.png")
        picture(outputs, cases, options.out / "low-light.jpg")


if __name__ == "__main__":
    main()
