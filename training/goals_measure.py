"""Measure one goal: the call of ``rddm evaluate`` that does it, and what is kept of what that finds."""

import hashlib
import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from goals_table import TEST_SETS, Goal, TestSet

from rddm.cli import main as rddm
from rddm.model import BUNDLED, WEIGHTS, bundled
from rddm.photo import find_photos

RUNS = Path("runs/goals")
Found: TypeAlias = Mapping[str, Any]  # scores.json of rddm evaluate
Row: TypeAlias = dict[str, Any]


def mean_of(name: str) -> Callable[[Found], float]:
    """Return what reads the mean of a figure."""
    return lambda found: float(found["figures"][name]["mean"])


def gain(found: Found) -> float:
    """Return the PSNR gained over the input."""
    return float(found["changes"]["psnr"]["mean"])


def worst(found: Found) -> float:
    """Return the PSNR of the worst image."""
    return min(float(image["runs"][0]["psnr"]) for image in found["by_image"].values())


def frechet(found: Found) -> float:
    """Return the Frechet distance of wavelet features."""
    return float(found["distances"]["frechet-wavelet"]["value"])


def beyond(found: Found) -> float:
    """Return how much further the images are than those they were made of."""
    return frechet(found) - float(found["input"]["frechet-wavelet"]["value"])


@dataclass(frozen=True)
class Measure:
    """A figure of an evaluation: its name in the table, how it is read and written, and whether less is better."""

    label: str
    read: Callable[[Found], float]
    form: str = "{:.2f}"
    lower: bool = False

    def text(self, value: float | None) -> str:
        """Return a value in as many digits as it deserves."""
        return "" if value is None else f"{self.label} {self.form.format(value)}".strip()


MEASURES = {
    "psnr": Measure("", mean_of("psnr")),
    "gain": Measure("", gain, "{:+.2f}"),
    "worst": Measure("worst", worst),
    "ssim": Measure("SSIM", mean_of("ssim"), "{:.3f}"),
    "lpips": Measure("LPIPS", mean_of("lpips"), "{:.3f}", lower=True),
    "frechet": Measure("distance", frechet, "{:.1f}", lower=True),
    "beyond": Measure("beyond untouched", beyond, "{:+.1f}", lower=True),
}


@dataclass(frozen=True)
class Place:
    """Where things are: our data, further sets (None if not at hand), models in training, and where results go.

    ``models`` are the folders of some models by name, before those in training and the bundled ones.
    """

    data: Path
    more: Path | None = None
    state: Path | None = None
    out: Path = RUNS
    models: Mapping[str, str] = field(default_factory=dict)

    def model(self, name: str) -> str:
        """Return the model of a name: that in training if there is one, else the bundled one."""
        if name in self.models:
            return self.models[name]
        folder = None if self.state is None else self.state / name / "model"
        return name if folder is None or not folder.is_dir() else str(folder)

    def root(self, test: TestSet) -> Path | None:
        """Return the folder that a set lies below."""
        return self.more if test.more else self.data


def missing(goal: Goal, place: Place) -> str:
    """Return why a row cannot be measured; empty if it can."""
    test, model = TEST_SETS[goal.test], place.model(goal.model)
    root = place.root(test)
    if model == goal.model and model not in bundled():
        return f"no model {goal.model} yet"
    if root is None:
        return f"no {goal.test} without --more ({test.where})"
    wanted = [root / part for part in (*test.clean, test.degraded, test.names) if part]
    absent = [str(path) for path in wanted if not path.exists()]
    return f"no {absent[0]} ({test.where})" if absent else ""


def set_arguments(name: str, place: Place, write: bool = True) -> list[str]:
    """Return the options that name a test set; a list of several folders, or of some of one, is written to the runs."""
    test, root = TEST_SETS[name], place.root(TEST_SETS[name])
    assert root is not None
    files, clean = [root / part for part in test.clean], str(root / test.clean[0])
    if len(files) > 1:
        clean = listed(
            place.out / f"{name.replace(' ', '-')}.txt",
            lambda: map(str, find_photos([str(f.resolve()) for f in files])),
            write,
        )
    arguments = ["--clean", clean]
    if test.less:
        kept = lambda: (f.stem for f in find_photos([clean]) if not f.name.startswith(test.less))  # noqa: E731
        arguments += ["--names", listed(place.out / f"{name.replace(' ', '-')}.txt", kept, write)]
    arguments += ["--names", str(root / test.names)] if test.names else []
    return arguments + (["--degraded", str(root / test.degraded)] if test.degraded else [])


def listed(file: Path, lines: Callable[[], Iterable[str]], write: bool) -> str:
    """Return the name of a list, written if it is to be used."""
    if write:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines()) + "\n", encoding="utf-8")
    return str(file)


def arguments_of(goal: Goal, place: Place, limit: int | None = None, write: bool = True) -> list[str]:
    """Return the call of ``rddm`` that measures a row; of sets of images ten times the limit."""
    arguments = ["evaluate", "--protocol", goal.protocol, *set_arguments(goal.test, place, write)]
    arguments += ["--degrade", goal.degrade] if goal.degrade else []
    of_sets = goal.images is not None
    images = goal.images if limit is None else 10 * limit if of_sets else limit
    arguments += [] if images is None else ["--images", str(images)]
    return [*arguments, "--model", place.model(goal.model), *goal.options]


def evaluated(goal: Goal, place: Place, limit: int | None = None) -> Found | None:
    """Run ``rddm evaluate`` for a row, and return its scores.json; None, after a line of its own, if it fails."""
    folder = place.out / "".join(c if c.isalnum() or c in "-." else "-" for c in goal.name)
    arguments = [*arguments_of(goal, place, limit), "--device", "cpu", "--out", str(folder)]
    print("rddm " + shlex.join(arguments), flush=True)
    if rddm(arguments) != 0:
        return None
    return json.loads((folder / "scores.json").read_text(encoding="utf-8"))


def row_of(goal: Goal, found: Found, model: str) -> Row:
    """Return what is kept of an evaluation."""
    images = found["images"]
    row: Row = {"now": {aim.measure: MEASURES[aim.measure].read(found) for aim in goal.aims}, "images": images}
    if "changes" in found:
        psnr, changes = found["figures"]["psnr"]["mean"], found["changes"]
        names = [name for name in ("ssim", "lpips") if name in found["figures"]]
        row["output"] = {"psnr": psnr, **{name: found["figures"][name]["mean"] for name in names}}
        row["input"] = {name: changes[name]["given"] for name in row["output"]}
        row["worse"] = changes["psnr"]["worse"]
        row["worst"] = [changes["psnr"]["worst"], changes["psnr"]["worst_name"]]
    else:
        row["floor"] = found["distances"]["frechet-wavelet"]["floor"]
        row["input"] = {name: figure["value"] for name, figure in found["input"].items()}
    return rounded(row | {"weights": fingerprint(model)})


def fingerprint(model: str) -> str:
    """Return the first letters of the checksum of a model's weights: which ones were measured; empty without any."""
    file = (BUNDLED / model if model in bundled() else Path(model)) / WEIGHTS
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12] if file.exists() else ""


def rounded(value: Any) -> Any:
    """Return numbers with four digits after the point, within whatever holds them."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        return round(value, 4) if abs(value) < float("inf") else str(value)
    return value


def measured(goals: Sequence[Goal], place: Place, limit: int | None) -> dict[str, Row]:
    """Return the rows that can be measured, by their names; a line says of each other why not."""
    rows = {}
    for goal in goals:
        reason = missing(goal, place)
        if reason:
            print(f"{goal.name}: skipped, {reason}", flush=True)
            continue
        found = evaluated(goal, place, limit)
        if found is not None:
            rows[goal.name] = row_of(goal, found, place.model(goal.model))
    return rows
