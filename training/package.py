"""Make a bundled model of a training: half precision weights, card with figures, recipe, log.

    python training/package.py denoise --run STATE/denoise --data ../shared/data --more FOLDER

STATE is where ``jobs/zoo.py`` leaves its trainings (``NAME/model``, ``NAME/log.jsonl``, ``NAME/recipe.json``); the
folder of a finished run of ``rddm train`` or ``jobs/generation_cpu.py`` does as well. The figures are the rows of the
model in ``training/goals_table.py``, measured on what was written; a set that is not there is skipped with a line.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from goals import DOCS, record
from goals_measure import Place, Row, measured
from goals_page import best, texts
from goals_table import GOALS

from rddm.clipping import CLIPS
from rddm.cost import gmacs
from rddm.errors import UserError
from rddm.journal import clock, read_log
from rddm.model import BUNDLED, CONFIG, Model, read_model
from rddm.recipe import RECIPE, read_recipe, to_json
from rddm.spec import read_spec, with_card


@dataclass(frozen=True)
class Pack:
    """What a model was trained on: the words for ``rddm train`` and the older jobs, for ``jobs/zoo.py``, and terms."""

    by_hand: str
    by_zoo: str
    terms: str


BSDS_TERMS = "BSDS500: research use, cite Arbelaez et al. 2011"
ZOO_TERMS = f"{BSDS_TERMS}; imagenet-sample-images: ImageNet's, research; desktop photographs: free licences"
ZOO_PHOTOS = "BSDS500 train and test, imagenet-sample-images, Debian's desktop photographs"
AFHQ = "AFHQ: CC BY-NC 4.0, cite Choi et al. 2020"
PHOTOS = Pack("BSDS500 train and test, 400 photographs", ZOO_PHOTOS, ZOO_TERMS)
DRY = Pack(
    "BSDS500 train and test less those held out for rain", f"{ZOO_PHOTOS}, less those held out for rain", ZOO_TERMS
)
CANON = Pack(
    *2 * ("PolyU, 55 pairs of three Canon cameras",), f"PolyU: non-commercial, cite Xu et al. 2018; {ZOO_TERMS}"
)
LOL = Pack(*2 * ("LOL-v1 train, some with bright parts drawn in",), "the data set's page states no terms; research use")
CATS = Pack(*2 * ("AFHQ cats, 5,129 of 5,153",), AFHQ)
DOGS = Pack(*2 * ("AFHQ cats; 2,000 photographs of dogs",), f"{AFHQ}; Dogs vs. Cats: the competition's terms, research")


@dataclass(frozen=True)
class Task:
    """What a model's card says beside its figures.

    Arguments:
        task: what the model is for.
        pack: what it was trained on.
        drawn: what was drawn on it.
        clip: a name in ``rddm.clipping.CLIPS``; the recipe's own if empty.
        steps: network calls by default, of a run of ``rddm train``; the recipe's own if None.
        solver: of a run of ``jobs/generation_cpu.py``; the row's own if None.
        before: what went before a run of ``rddm train``, and what that cost.
    """

    task: str
    pack: Pack
    drawn: str = ""
    clip: str = "x0"
    steps: int | None = 1
    solver: str | None = None
    before: str = ""


def generator(task: str, pack: Pack, solver: str | None = None) -> Task:
    """Return the task of a model that starts from noise, or keeps to one size."""
    return Task(task, pack, "", "", None, solver)


PLANE = "two networks told their places in the plane"
TASKS = {
    "all-in-one": Task("noise, rain, blur or JPEG, not told which", DRY, "degraded by the recipes of all four, evenly"),
    "denoise": Task("noisy photos", PHOTOS, "Gaussian noise up to 75 of 255, and a camera's"),
    "denoise-real": Task("photos with a camera's noise", CANON, before="the denoise model"),
    "derain": Task("rainy photos", DRY, "streaks drawn"),
    "derain-rddm": Task("rainy photos, by the paper's row for rain", DRY, "streaks drawn", steps=None),
    "deblur": Task("photos blurred by motion, shake or defocus", PHOTOS, "blur drawn"),
    "jpeg": Task("photos with JPEG's blocks", PHOTOS, "quality 5 to 70 drawn"),
    "upscale": Task("small photos, to be enlarged with --scale", PHOTOS, "downscaled 2 to 4 times"),
    "low-light": Task("low-light photos", LOL, clip="brighter", steps=2),
    "inpaint": Task("holes in photos", PHOTOS, "holes drawn", "", None),
    "shadow": Task("shadows, shown where they are", PHOTOS, "shadows drawn"),
    "drops": Task("drops on the lens", PHOTOS, "drops drawn"),
    "denoise-realism": Task("the second stage of denoise, for the look", PHOTOS, "Gaussian noise", steps=None),
    "upscale-realism": Task("the second stage of upscale, for the look", PHOTOS, "downscaled", steps=None),
    "low-light-realism": Task("the second stage of low-light, for the look", LOL, steps=None),
    "cats": generator("cats from noise", CATS, "ab2"),
    "cats-plane": generator(f"cats from noise along any path, {PLANE}", CATS),
    "cats-time": generator("cats from noise, two networks told the time: what cats-plane is compared with", CATS),
    "translate": generator(f"dogs to cats, unpaired, {PLANE}", DOGS, "ab2"),
}


def by_zoo(card: Mapping[str, Any]) -> bool:
    """Tell whether a card is of ``jobs/zoo.py``."""
    return "photographs" in card


def short(initial: str) -> str:
    """Return what people call the model that a training began in: a folder by its name."""
    path = Path(initial)
    return path.parent.name if path.name == "model" else path.name


def went_before(card: Mapping[str, Any], run: Path, depth: int = 4) -> str:
    """Return from which trainings a training of ``jobs/zoo.py`` came, and what each cost, the last one first."""
    initial = str(card.get("initial", ""))
    if not initial or not depth:
        return ""
    places = [run.parent / initial / "model", Path(initial)]
    found = next((place for place in places if (place / CONFIG).is_file()), None)
    if found is None:
        return f", after {short(initial)}"
    theirs = read_spec(found / CONFIG).card
    cost = f" ({clock(theirs['seconds'])} on {theirs['device']})" if "seconds" in theirs else ""
    return f", after {short(initial)}{cost}" + went_before(theirs, run, depth - 1)


def card_of(name: str, run: Path, model: Model) -> dict[str, object]:
    """Return what a model's card says beside its figures."""
    task, found = TASKS[name], model.spec.card
    zoo, updates, seed = by_zoo(found), found["updates"], read_recipe(run / RECIPE).seed
    data = f"{found['photographs']} pictures: {task.pack.by_zoo}" if zoo else task.pack.by_hand
    made = (
        f"jobs/zoo.py train {name}" if zoo else f"rddm train --recipe {name}, or jobs/generation_cpu.py --model {name}"
    )
    return {
        "task": task.task,
        "data": "; ".join(filter(None, (data, task.drawn))),
        "terms": task.pack.terms,
        "recipe": f"recipe.json, seed {seed}, weights of update {updates}; {made}",
        "cost": cost_of(task, run, found),
        "held_out": found.get("held_out", "the test sets of the scores"),
        "parameters": sum(value.numel() for value in model.net.parameters()),
        "gmacs_256": round(gmacs(model), 3),
    }


def cost_of(task: Task, run: Path, card: Mapping[str, Any]) -> str:
    """Return how long the training took, on what, and after which others."""
    if by_zoo(card):
        second = f", on what {card['restorer']} restores" if card.get("restorer") else ""
        spent = f"{clock(card['seconds'])} on {card['device']}, {card['images']:,} pieces"
        return spent + second + went_before(card, run)
    seconds = next(line["seconds"] for line in reversed(read_log(run)) if "seconds" in line)
    return f"{clock(seconds)} on {card['device']}" + (f", after {task.before}" if task.before else "")


def scores_of(name: str, rows: Mapping[str, Row]) -> dict[str, dict[str, Any]]:
    """Return the figures of a model, each with its goal and what others reach, by the names of their rows."""
    return {key.removeprefix(f"{name} "): score(key, row) for key, row in rows.items()}


def score(name: str, row: Row) -> dict[str, Any]:
    """Return a row as a card has it."""
    goal, found = GOALS[name], dict[str, Any](images=row["images"])
    if "output" in row:
        found |= row["output"] | {"worse": row["worse"]}
        clean = row["input"]["psnr"] == "inf"
        found |= {"worst": row["now"]["worst"]} if clean and "worst" in row["now"] else {"input": row["input"]["psnr"]}
    else:
        found |= {"value": row["now"]["frechet"], "floor": row["floor"]}
        found |= {"input": row["input"]["frechet-wavelet"]} if row["input"] else {}
    wanted = texts(goal.aims, lambda aim: aim.goal)
    return found | ({"goal": wanted} if wanted else {}) | ({"others": best(goal, {})} if best(goal, {}) else {})


def mean(model: Model, other: Model) -> Model:
    """Return a model with the mean of its and another's weights (Wortsman et al., Model soups, ICML 2022)."""
    theirs = other.net.state_dict()
    model.net.load_state_dict({name: (value + theirs[name]) / 2 for name, value in model.net.state_dict().items()})
    return model


def write(name: str, args: argparse.Namespace) -> Path:
    """Write a model without its figures, and return its folder."""
    task, model, folder = TASKS[name], read_model(args.run / "model"), args.out / name
    if args.mean is not None:
        model = mean(model, read_model(args.mean / "model"))
    method, own = model.spec.method, by_zoo(model.spec.card)
    method = replace(method, clip=CLIPS[task.clip]) if task.clip else method
    steps = args.steps or (None if own else task.steps)
    method = method if steps is None else replace(method, steps=steps)
    solver = args.solver or (model.spec.solver if own or task.solver is None else task.solver)
    card = card_of(name, args.run, model)
    model.spec = replace(model.spec, name=name, card=card, method=method, solver=solver)
    shutil.rmtree(folder, ignore_errors=True)
    model.half().save_pretrained(folder)
    shutil.copy(args.run / "log.jsonl", folder)
    recipe = read_recipe(args.run / RECIPE)
    recipe = replace(recipe, initial=short(recipe.initial)) if recipe.initial else recipe
    (folder / RECIPE).write_text(json.dumps(to_json(recipe), indent=2) + "\n", encoding="utf-8")
    return folder


def package(args: argparse.Namespace) -> None:
    """Write the model, then score what was written; the goals' page learns of it if it is a bundled one."""
    for path in (args.run / "model", args.run / "log.jsonl", args.run / RECIPE, args.data):
        if not path.exists():
            raise UserError(
                f"{path}: not there, expected model, log.jsonl and {RECIPE} of a training, and the data folder"
            )
    folder = write(args.name, args)
    place = Place(args.data, args.more, models={args.name: str(folder)})
    rows = measured([goal for goal in GOALS.values() if goal.model == args.name], place, args.limit)
    scores = scores_of(args.name, rows)
    (folder / "README.md").unlink()
    model = read_model(folder).half()
    model.spec = with_card(model.spec, {"scores": scores})
    model.save_pretrained(folder)
    if args.out == BUNDLED and args.limit is None:
        record(rows, DOCS)
    for test, found in scores.items():
        print(f"{test}: {found}")
    print(f"{folder}: {model.spec.card['cost']}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; a user's mistake is one line and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(TASKS))
    parser.add_argument("--run", type=Path, required=True, help="the training: model, log.jsonl, recipe.json")
    parser.add_argument("--mean", type=Path, help="another run, for the mean of both runs' weights")
    parser.add_argument("--data", type=Path, required=True, help="the data folder, as ../shared/data")
    parser.add_argument("--more", type=Path, help="folder of further test sets, as training/goals.py takes it")
    parser.add_argument("--limit", type=int, help="so many images of each set, to try it out")
    parser.add_argument("--steps", type=int, help="network calls by default; chosen by rddm evaluate --steps")
    parser.add_argument("--solver", help="of the model, as rddm restore takes it")
    parser.add_argument("--out", type=Path, default=BUNDLED, help="folder of models; the bundled ones if not given")
    try:
        package(parser.parse_args(argv))
    except UserError as error:
        print(f"package: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
