"""Protocols that compare sets of small images: what a generator draws, or what a translator makes of another set.

No image has a target here, so the figure is the distance of the whole set to real ones (``rddm.setdistance``), beside
what real ones have among themselves and, of a translation, beside the distance of the images it started from.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from rddm.batch import choose_device, make_folder
from rddm.errors import UserError
from rddm.evaluate import Options, progress
from rddm.generate import generate, sheet, walk_of
from rddm.model import Model, load
from rddm.page import finite, write_file
from rddm.photo import Photo, Pixels, to_float, write_photo
from rddm.report import Table, markdown
from rddm.setdistance import Figure, Reference
from rddm.testsets import Choice, chosen, pictures, pixels_of
from rddm.translate import centre_square, prepare, translated
from rddm.walk import BATCH, Walk

COUNT = 1000  # images of a generator
SHOWN = 64  # images on the sheet


@dataclass(frozen=True)
class SetReport:
    """What a comparison of sets found.

    Arguments:
        protocol: "generation" or "translation".
        label: of what.
        settings: numbers of images, seed, steps, side and the like.
        figures: distances to the real images, by name.
        given: those of the images that were translated; empty if none were.
        images: what was compared, (N, side, side, 3).
    """

    protocol: str
    label: str
    settings: Mapping[str, str | int | float | None]
    figures: Mapping[str, Figure]
    given: Mapping[str, Figure]
    images: Pixels


def evaluate_sets(options: Options, out: Path, short: Path | None = None) -> list[str]:
    """Compare sets, write what was found to a folder, and return the lines to print.

    Arguments:
        options: those of ``rddm evaluate``.
        out: the folder.
        short: a file for the figures alone.

    Raises:
        UserError: if options do not make sense, or something is not there.
    """
    report = compared(options)
    make_folder(out)
    write_file(out / "scores.json", as_json(report).encode())
    write_file(out / "table.md", ("\n\n".join([*lines(report), markdown(table(report))]) + "\n").encode())
    write_photo(out / "images.png", Photo(sheet(report.images[:SHOWN])))
    if short is not None:
        write_file(short, as_json(report).encode())
    return [*lines(report), f"{out}: scores.json, table.md, images.png"]


def compared(options: Options) -> SetReport:
    """Return the distances of a set to a real one; UserError as :func:`evaluate_sets`."""
    check(options)
    began = perf_counter()
    if options.outputs is not None:
        made, begun, facts = read_outputs(options), None, {}
    else:
        model = load(options.model, choose_device(options.device)).optimize(options.engine)
        made, begun, facts = drawn(model, options) if options.protocol == "generation" else turned(model, options)
        facts |= {"seconds": round(perf_counter() - began, 1)}
    real = Reference(tensor(squares(options.clean, made.shape[1], Choice(options.names))))
    figures = real.compare(tensor(made))
    given = {} if begun is None else real.compare(tensor(begun))
    used = min(len(made), real.half)
    settings = {"images": used, "real": len(real.real), "side": made.shape[1], "seed": options.seed, **facts}
    label = str(options.outputs) if options.outputs is not None else options.model
    settings |= {"rddm": version("rddm"), "torch": torch.__version__}
    return SetReport(options.protocol, label, settings, figures, given, made)


def check(options: Options) -> None:
    """Raise UserError unless the options make sense for sets."""
    for name in ("degrade", "mask"):
        if getattr(options, name) is not None:
            raise UserError(f"--{name}: found one with {options.protocol}, expected none: sets of images are compared")
    if options.runs != 1 or options.also:
        raise UserError(f"--runs, --also: found some with {options.protocol}, expected none: docs/set-distance.md")
    wants, found = options.protocol == "translation", options.degraded is not None
    if wants and not found and options.outputs is None:
        raise UserError("translation: found no --degraded, expected the images that are translated, or --outputs")
    if found and (not wants or options.outputs is not None):
        raise UserError(f"--degraded: found one with {options.protocol}, expected none beside --outputs or a generator")


def drawn(model: Model, options: Options) -> tuple[Pixels, None, dict[str, int]]:
    """Return images that a generator draws, and in how many steps."""
    walk = walk_of(model, None, options.steps, None, None, options.seed, BATCH)
    count = COUNT if options.images is None else options.images
    return generate(model, count, options.steps, seed=options.seed), None, facts_of(walk)


def turned(model: Model, options: Options) -> tuple[Pixels, Pixels, dict[str, int]]:
    """Return the images of a set translated, and untouched, at the model's side, and in how many steps."""
    assert options.degraded is not None
    walk = prepare(model, options.steps, options.seed)
    before = squares(options.degraded, walk.side, Choice(images=options.images))
    with progress("translation", len(before)) as done:
        after = [translated(walk, image, 1, done) for image in before]
    return np.concatenate(after), before, facts_of(walk)


def facts_of(walk: Walk) -> dict[str, int]:
    """Return the number of steps."""
    return {"steps": len(walk.trajectory) - 1}


def read_outputs(options: Options) -> Pixels:
    """Return anyone's images, as wide as the narrowest side of the first."""
    assert options.outputs is not None
    found = chosen(pictures(options.outputs), options.outputs, Choice(images=options.images))
    first = pixels_of(next(iter(found.values())))
    return np.stack([centre_square(pixels_of(image), min(first.shape[:2])) for image in found.values()])


def squares(source: Path, side: int, choice: Choice) -> Pixels:
    """Return the middle squares of a set of photos at one side, (N, side, side, 3)."""
    found = chosen(pictures(source), source, choice)
    return np.stack([centre_square(pixels_of(image), side) for image in found.values()])


def tensor(images: Pixels) -> Tensor:
    """Return images (N, H, W, 3) as (N, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(to_float(images)).permute(0, 3, 1, 2) * 2 - 1


def lines(report: SetReport) -> Sequence[str]:
    """Return the result in a line or two: the distances, the floor that real images have, and those of the start."""
    count, steps = report.settings["images"], report.settings.get("steps")
    about = f"{count} images of {report.settings['side']} pixels, {report.label}"
    about += "" if steps is None else f", {steps} steps, seed {report.settings['seed']}"
    told = ", ".join(f"{n} {f.value:.4g} (real ones {f.floor:.2g})" for n, f in report.figures.items())
    given = ", ".join(f"{name} {figure.value:.4g}" for name, figure in report.given.items())
    return [f"{report.protocol}: {told} ({about})", *([f"  input: {given}, untouched"] if given else [])]


def table(report: SetReport) -> Table:
    """Return the distances with their intervals, one row per figure."""
    rows = [
        (name, f"{f.value:.4f}", f"{f.low:.4f} to {f.high:.4f}", f"{f.floor:.4f}",
         f"{report.given[name].value:.4f}" if report.given else "")
        for name, f in report.figures.items()
    ]  # fmt: skip
    return Table((report.protocol, "distance", "95 % interval", "1 in 20 real sets exceeds", "input"), rows)


def as_json(report: SetReport) -> str:
    """Return everything but the images as JSON."""
    figures, given = ({n: f._asdict() for n, f in found.items()} for found in (report.figures, report.given))
    data = {"protocol": report.protocol, "label": report.label, **report.settings, "distances": figures, "input": given}
    return json.dumps(finite(data), indent=2, allow_nan=False) + "\n"
