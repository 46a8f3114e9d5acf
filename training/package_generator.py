"""Make a bundled model of a finished run of ``jobs/generation_cpu.py``: what generates, translates or inpaints.

``python training/package_generator.py cats --run runs/cats-cpu --data ../shared/data``

As ``training/package.py``; the figures of sets of images are distances to real ones (``rddm.setdistance``), not FID.
"""

import argparse
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "jobs"))

import numpy as np
import sets
import torch
from package import targets
from torch import Tensor

from rddm.cost import gmacs
from rddm.degradations import parse
from rddm.draws import generator_of, synthesised
from rddm.fill import smooth_fill
from rddm.generate import generate
from rddm.inpaint import inpaint
from rddm.journal import clock, read_log
from rddm.model import BUNDLED, Model, read_model
from rddm.photo import Pixels, read_photo, to_float
from rddm.recipe import RECIPE, read_recipe
from rddm.setdistance import Reference
from rddm.spec import with_card
from rddm.translate import translate

AFHQ = "AFHQ: CC BY-NC 4.0, cite Choi et al. 2020"
IMAGES = 1000
Scores = dict[str, dict[str, float]]


def tensor(images: Pixels) -> Tensor:
    """Return images (N, H, W, 3) as (N, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(to_float(images)).permute(0, 3, 1, 2) * 2 - 1


def real(data: Path, model: Model) -> Reference:
    """Return AFHQ's cats at the model's side."""
    return Reference(tensor(sets.Packed(data / "afhq_cat" / sets.CATS, model.spec.side).images))


def far(reference: Reference, images: Pixels, before: Pixels | None = None) -> Scores:
    """Return the distances of images to the real ones, and those of what they were made of."""
    found = reference.compare(tensor(images))
    start = {} if before is None else reference.compare(tensor(before))
    return {
        f"{name}, {len(images)} images": {"value": round(figure.value, 4), "floor": round(figure.floor, 4)}
        | ({"input": round(start[name].value, 4)} if start else {})
        for name, figure in found.items()
    }


def generated(model: Model, data: Path) -> Scores:
    """Score images from noise."""
    return far(real(data, model), generate(model, IMAGES))


def translated(model: Model, data: Path) -> Scores:
    """Score dogs turned into cats; those held out are too few, and none was ever shown with its translation."""
    dogs = sets.Packed(data / "cats_dogs" / sets.DOGS, model.spec.side).images[:: 2000 // 500]
    return far(real(data, model), np.concatenate([translate(model, dog) for dog in dogs]), dogs)


def inpainted(model: Model, data: Path) -> Scores:
    """Return the PSNR within holes, in RGB, of a smooth filling and of the model's; on photographs not trained on."""
    files, scores = sorted(targets(data, "cbsd68").glob("*.jpg")), Scores()
    for text in ("irregular_mask(0.1)", "centre_mask(0.02)"):
        errors = []
        for i, file in enumerate(files):
            clean = read_photo(file).pixels
            made = synthesised(parse(text), clean, generator_of(0, i))
            mask = np.ascontiguousarray(made["mask"][..., 0])
            hole = mask > 0
            pairs = (smooth_fill(made["degraded"], mask), inpaint(model, clean, mask))
            errors.append([np.square(to_float(a)[hole] - to_float(clean)[hole]).mean() for a in pairs])
        before, after = (-10 * np.log10(np.array(errors))).mean(0).tolist()
        scores[f"holes CBSD68 {text}"] = {"psnr": round(after, 4), "input": round(before, 4)}
    return scores


@dataclass(frozen=True)
class Task:
    """What a model's card says beside its figures, and how these are measured."""

    task: str
    data: str
    terms: str
    scores: Callable[[Model, Path], Scores]
    note: str = ""
    solver: str | None = None


TWO = "two networks told their places in the plane"
TASKS = {
    "cats": Task(
        "cats at 32x32 from noise", "AFHQ cats, 5,129 of 5,153", AFHQ, generated,
        "; updates 1 to 4000 at the rate of a run of 30,000, to 8000 of 20,000", "ab2",
    ),
    "cats-plane": Task(f"cats at 32x32 from noise along any path, {TWO}", "AFHQ cats, 5,129 of 5,153", AFHQ, generated),
    "cats-time": Task(
        "cats at 32x32 from noise, two networks told the time: what cats-plane is compared with",
        "AFHQ cats, 5,129 of 5,153", AFHQ, generated,
    ),
    "translate": Task(
        f"dogs to cats at 32x32, unpaired, {TWO}", "AFHQ cats; 2,000 photographs of dogs",
        f"{AFHQ}; Dogs vs. Cats: the competition's terms, research", translated, "; begun from cats-plane", "ab2",
    ),
    "inpaint": Task(
        "holes in photos", "BSDS500 train and test; AFHQ cats; holes drawn",
        f"BSDS500: research use, cite Arbelaez et al. 2011; {AFHQ}", inpainted,
    ),
}  # fmt: skip


def card_of(name: str, run: Path, model: Model) -> dict[str, object]:
    """Return what a model's card says beside its figures."""
    task, found = TASKS[name], model.spec.card
    spent = next(line for line in reversed(read_log(run)) if "seconds" in line)
    seed = read_recipe(run / RECIPE).seed
    made = f"jobs/generation_cpu.py --model {name}"
    return {
        "task": task.task,
        "data": task.data,
        "terms": task.terms,
        "recipe": f"recipe.json, seed {seed}, weights of update {found['updates']}; {made}{task.note}",
        "cost": f"{clock(spent['seconds'])} on {found['device']}",
        "held_out": found["held_out"],
        "parameters": found["parameters"],
        "gmacs_256": round(gmacs(model), 3),
    }


def main(name: str, run: Path, data: Path) -> None:
    """Write the model, then score what was written."""
    model, folder, recipe = read_model(run / "model"), BUNDLED / name, read_recipe(run / RECIPE)
    side = recipe.phases[-1].crop if name != "inpaint" else None
    spec = replace(model.spec, solver=TASKS[name].solver)
    model.spec = replace(spec, name=name, card=card_of(name, run, model), side=side)
    shutil.rmtree(folder, ignore_errors=True)
    model.half().save_pretrained(folder)
    scores = TASKS[name].scores(read_model(folder), data)
    (folder / "README.md").unlink()
    model.spec = with_card(model.spec, {"scores": scores})
    model.save_pretrained(folder)
    for file in ("log.jsonl", RECIPE):
        shutil.copy(run / file, folder / file)
    print("\n".join(f"{test}: {score}" for test, score in scores.items()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=list(TASKS))
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="the data folder, as ../shared/data")
    args = parser.parse_args()
    main(args.name, args.run, args.data)
