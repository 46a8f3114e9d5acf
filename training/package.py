"""Make a bundled model of a finished run of ``rddm train``: half precision weights, card with figures, recipe, log.

``python training/package.py denoise --run runs/denoise --data ../shared/data``

The figures are measured on what was written, by protocol, on images that the model was not trained on. It needs
``.jobdata``, where ``jobs/pack.py`` lays out the data of training and the cameras of PolyU that nothing is trained on.
"""

import argparse
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from rddm.clipping import CLIPS
from rddm.cost import gmacs
from rddm.evaluate import Options, evaluate, prepared
from rddm.journal import clock, read_log
from rddm.matlab import Bytes
from rddm.model import BUNDLED, Model, read_model
from rddm.protocols import Scores, protocol_named
from rddm.recipe import RECIPE, read_recipe
from rddm.sources import Produced
from rddm.spec import with_card

JOBDATA = Path(".jobdata")  # of jobs/pack.py


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
        made: the command that trained it; of ``rddm train --recipe`` if empty.
        before: what went before, and what it cost, for one that began from another model.
        clip: a name in ``rddm.clipping.CLIPS``.
        steps: network calls by default, chosen by ``rddm evaluate --steps``.
        terms: of the data.
    """

    task: str
    data: str
    tests: tuple[Test, ...]
    made: str = ""
    before: str = ""
    clip: str = "x0"
    steps: int = 1
    terms: str = "BSDS500: research use, cite Arbelaez et al. 2011"


BSDS = "BSDS500 train and test, 400 photographs"
DRY = "BSDS500 train and test less those held out for rain"


def of_cbsd68(protocol: str, *degradations: str) -> tuple[Test, ...]:
    """Return tests on the 68 photographs of CBSD68, one for each degradation."""
    return tuple(Test(f"{protocol} CBSD68 {text}", protocol, "cbsd68", degrade=text) for text in degradations)


RAIN = tuple(
    Test(f"rain100h-y {text} on 67 held out", "rain100h-y", "rain", degrade=text) for text in ("heavy_rain", "rain")
)
BLUR = tuple(f"{blur} + noise(1)" for blur in ("motion(11)", "shake(15)", "defocus(2.5)"))
TASKS = {
    "low-light": Task(
        "low-light photos",
        "LOL-v1 train, 456 of 485 pairs; in the end 114 also with bright parts drawn in",
        tuple(Test(name, name, "lol/test/target", "lol/test/input") for name in ("lol-rgb", "lol-256-y")),
        made="jobs/low_light_cpu.py --stage lit; the mean of the weights before and after it (package.py --mean)",
        before="36000 updates: training/low_light.py at 191aaa4, from scratch (44 minutes on cpu, 2 threads), "
        "and jobs/low_light_cpu.py --stage longer (52 minutes, 1 thread)",
        clip="brighter",
        steps=2,
        terms="the data set's page states no terms; research use",
    ),
    "denoise": Task(
        "noisy photos",
        f"{BSDS}; Gaussian noise up to 75 of 255, a third a camera's",
        (
            *(Test(f"denoise-rgb CBSD68 {s}", "denoise-rgb", "cbsd68", degrade=f"noise({s})") for s in (15, 25, 50)),
            Test("real-noise-rgb PolyU", "real-noise-rgb", "polyu/target", "polyu/input"),
        ),
    ),
    "denoise-real": Task(
        "photos with a camera's noise",
        "PolyU, 55 pairs of three Canon cameras, from the denoise model on",
        (Test("real-noise-rgb PolyU, Nikon and Sony", "real-noise-rgb", "polyu-others/target", "polyu-others/input"),),
        made="rddm train --initial denoise --recipe denoise-real",
        before="the denoise model",
        terms="PolyU: non-commercial, cite Xu et al. 2018; BSDS500: research use, cite Arbelaez et al. 2011",
    ),
    "derain": Task("rainy photos", f"{DRY}; streaks drawn", RAIN),
    "deblur": Task(
        "photos blurred by motion, shake or defocus", f"{BSDS}; blur drawn", of_cbsd68("deblur-rgb", *BLUR)
    ),
    "jpeg": Task(
        "photos with JPEG's blocks", f"{BSDS}; quality 5 to 70 drawn",
        of_cbsd68("jpeg-rgb", "jpeg(10)", "jpeg(20)", "jpeg(40)"),
    ),
    "upscale": Task(
        "small photos, to be enlarged with --scale",
        f"{BSDS}; downscaled 2 to 4 times",
        tuple(Test(f"sr4-y {name}", "sr4-y", name.lower(), degrade="downscale(4)") for name in ("Set5", "Set14")),
    ),
    "all-in-one": Task(
        "noise, rain, blur or JPEG, not told which",
        f"{DRY}; degraded by the recipes of denoise, derain, deblur and jpeg, evenly",
        (
            *of_cbsd68("denoise-rgb", "noise(25)"),
            *RAIN[:1],
            *of_cbsd68("deblur-rgb", BLUR[0]),
            *of_cbsd68("jpeg-rgb", "jpeg(10)"),
        ),
    ),
}  # fmt: skip


def targets(data: Path, name: str) -> Path:
    """Return a folder of targets: one of the data folder, or a subset of BSDS500 laid out for the occasion."""
    if name.startswith("polyu-"):
        return JOBDATA / name
    lists = {"cbsd68": ("cbsd68.txt", "val"), "rain": ("rain_holdout.txt", "train")}
    if name not in lists:
        return data / name
    listed, split = lists[name]
    folder = Path(tempfile.mkdtemp())
    for stem in sorted(set((data / "bsds500" / listed).read_text(encoding="utf-8").split())):
        shutil.copy(data / "bsds500" / split / f"{stem}.jpg", folder)
    return folder


def means(folder: Path, test: Test, data: Path) -> dict[str, float]:
    """Return the mean figures of a written model in one test, and the PSNR of what it was given."""
    degraded, inputs = targets(data, test.degraded) if test.degraded else None, []

    def look(name: str, scores: Scores, made: Produced, target: Bytes) -> None:
        assert made.degraded is not None
        inputs.append(protocol_named(test.protocol).score(made.degraded, target)["psnr"])

    clean, degrade = targets(data, test.clean), test.degrade or None
    options = Options(test.protocol, clean, degraded=degraded, degrade=degrade, model=str(folder))
    figures = evaluate(*prepared(options, look)).figures
    found = {name: value.mean for name, value in figures.items()}
    return {name: round(value, 4) for name, value in {**found, "input": sum(inputs) / len(inputs)}.items()}


def card_of(name: str, run: Path, model: Model) -> dict[str, object]:
    """Return what a model's card says beside its figures."""
    task, found = TASKS[name], model.spec.card
    spent = next(line for line in reversed(read_log(run)) if "seconds" in line)
    made, before = task.made or f"rddm train --recipe {name}", f", after {task.before}" if task.before else ""
    return {
        "task": task.task,
        "data": task.data,
        "terms": task.terms,
        "recipe": f"recipe.json, seed {read_recipe(run / RECIPE).seed}, weights of update {found['updates']}; {made}",
        "cost": f"{clock(spent['seconds'])} on {found['device']}{before}",
        "held_out": found["held_out"],
        "parameters": found["parameters"],
        "gmacs_256": round(gmacs(model), 3),
    }


def mean(model: Model, other: Model) -> Model:
    """Return a model with the mean of its and another's weights (Wortsman et al., Model soups, ICML 2022)."""
    theirs = other.net.state_dict()
    model.net.load_state_dict({name: (value + theirs[name]) / 2 for name, value in model.net.state_dict().items()})
    return model


def main(name: str, run: Path, other: Path | None, data: Path) -> None:
    """Write the model, then score what was written."""
    task, model, folder = TASKS[name], read_model(run / "model"), BUNDLED / name
    if other is not None:
        model = mean(model, read_model(other / "model"))
    method = replace(model.spec.method, steps=task.steps, clip=CLIPS[task.clip])
    model.spec = replace(model.spec, name=name, card=card_of(name, run, model), method=method)
    shutil.rmtree(folder, ignore_errors=True)
    model.half().save_pretrained(folder)
    scores = {test.name: means(folder, test, data) for test in task.tests}
    (folder / "README.md").unlink()
    model.spec = with_card(model.spec, {"scores": scores})
    model.save_pretrained(folder)
    for file in ("log.jsonl", RECIPE):
        shutil.copy(run / file, folder / file)
    for test, score in scores.items():
        print(f"{test}: {score['input']:.2f} -> {score['psnr']:.2f} dB, SSIM {score['ssim']:.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=list(TASKS))
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--mean", type=Path, help="another run, for the mean of both runs' weights")
    parser.add_argument("--data", type=Path, required=True, help="the data folder, as ../shared/data")
    args = parser.parse_args()
    main(args.name, args.run, args.mean, args.data)
