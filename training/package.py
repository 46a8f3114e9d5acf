"""Make a bundled model of a finished run of ``rddm train``: half precision weights, card with figures, recipe, log.

``python training/package.py denoise --run runs/denoise --data ../shared/data``

The figures are measured on what was written, by protocol, on images that no run of ours trains on: the 68 images of
CBSD68, the photographs held out for rain, PolyU.
"""

import argparse
import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from rddm.cost import gmacs
from rddm.evaluate import Options, evaluate, prepared
from rddm.journal import clock, read_log
from rddm.model import BUNDLED, read_model
from rddm.spec import with_card


@dataclass(frozen=True)
class Test:
    """A figure of a card.

    Arguments:
        name: what the card calls it: the protocol, and what it is measured on.
        protocol: the protocol.
        clean: targets, in the data folder; a name of ``SETS`` or a folder.
        degraded: inputs, likewise a folder, or empty.
        degrade: what makes the inputs otherwise.
    """

    name: str
    protocol: str
    clean: str
    degraded: str = ""
    degrade: str = ""


@dataclass(frozen=True)
class Task:
    """What a model's card says beside its figures.

    Arguments:
        task: what the model is for.
        data: what it was trained on.
        tests: its figures.
        steps: network calls by default, chosen by ``rddm evaluate --steps``.
        terms: of the data.
    """

    task: str
    data: str
    tests: tuple[Test, ...]
    steps: int = 1
    terms: str = "BSDS500: research use, cite Arbelaez et al. 2011"


TASKS = {
    "denoise": Task(
        "noisy photos",
        "BSDS500 train and test, 400 photographs; Gaussian noise up to 75 of 255, a third a camera's",
        (
            *(Test(f"denoise-rgb CBSD68 {s}", "denoise-rgb", "cbsd68", degrade=f"noise({s})") for s in (15, 25, 50)),
            Test("real-noise-rgb PolyU", "real-noise-rgb", "polyu/target", "polyu/input"),
        ),
    ),
    "derain": Task(
        "rainy photos",
        "BSDS500 train and test less those held out for rain; streaks drawn",
        (
            Test("rain100h-y heavy_rain on 67 held out", "rain100h-y", "rain", degrade="heavy_rain"),
            Test("rain100h-y rain on 67 held out", "rain100h-y", "rain", degrade="rain"),
        ),
    ),
    "deblur": Task(
        "photos blurred by motion, shake or defocus",
        "BSDS500 train and test, 400 photographs; blur drawn",
        tuple(
            Test(f"denoise-rgb CBSD68 {text}", "denoise-rgb", "cbsd68", degrade=f"{text} + noise(1)")
            for text in ("motion(11)", "shake(15)", "defocus(2.5)")
        ),
    ),
}


def targets(data: Path, name: str) -> Path:
    """Return a folder of targets: one of the data folder, or a subset of BSDS500 laid out for the occasion."""
    lists = {"cbsd68": ("cbsd68.txt", "val"), "rain": ("rain_holdout.txt", "train")}
    if name not in lists:
        return data / name
    listed, split = lists[name]
    folder = Path(tempfile.mkdtemp())
    for stem in sorted(set((data / "bsds500" / listed).read_text(encoding="utf-8").split())):
        shutil.copy(data / "bsds500" / split / f"{stem}.jpg", folder)
    return folder


def means(folder: Path, test: Test, data: Path) -> dict[str, float]:
    """Return the mean figures of a written model in one test."""
    degraded = data / test.degraded if test.degraded else None
    options = Options(test.protocol, targets(data, test.clean), degraded=degraded, degrade=test.degrade or None)
    figures = evaluate(*prepared(replace(options, model=str(folder)))).figures
    return {name: round(value.mean, 4) for name, value in figures.items()}


def main(name: str, run: Path, data: Path) -> None:
    """Write the model, then score what was written."""
    task, log = TASKS[name], read_log(run)
    model = read_model(run / "model")
    spent = next(line for line in reversed(log) if "seconds" in line)
    card = {
        "task": task.task,
        "data": task.data,
        "terms": task.terms,
        "recipe": f"recipe.json, seed {json.loads((run / 'recipe.json').read_text())['seed']}, "
        f"weights of update {model.spec.card['updates']}; rddm train --recipe {name}",
        "cost": f"{clock(spent['seconds'])} on {model.spec.card['device']}",
        "held_out": model.spec.card["held_out"],
        "parameters": model.spec.card["parameters"],
        "gmacs_256": round(gmacs(model), 3),
    }
    folder = BUNDLED / name
    shutil.rmtree(folder, ignore_errors=True)
    model.spec = replace(model.spec, name=name, card=card, method=replace(model.spec.method, steps=task.steps))
    model.half().save_pretrained(folder)
    scores = {test.name: means(folder, test, data) for test in task.tests}
    (folder / "README.md").unlink()
    model.spec = with_card(model.spec, {"scores": scores})
    model.save_pretrained(folder)
    for file in ("log.jsonl", "recipe.json"):
        shutil.copy(run / file, folder / file)
    for test, score in scores.items():
        print(f"{test}: {score['psnr']:.2f} dB, SSIM {score['ssim']:.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=list(TASKS))
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="the data folder, as ../shared/data")
    args = parser.parse_args()
    main(args.name, args.run, args.data)
