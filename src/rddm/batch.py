"""A batch of photos: where each goes, what it will cost, a progress bar, and what went wrong, without stopping."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from rddm.bench import remembered
from rddm.engines import DEFAULT
from rddm.errors import UserError
from rddm.model import Model, bundled, load
from rddm.photo import SUFFIXES, Photo, copy_photo, find_photos, output_format, read_photo, side_by_side, write_photo
from rddm.photo_mask import mask_for, without_masks
from rddm.photo_scale import enlarged
from rddm.preprocess import Pixels
from rddm.restore import Job, Restore, check_mask_use, check_strength, mixed, prepare, run
from rddm.stages import PartWay, check_realism, second_job, shown_to
from rddm.transition import Inadmissible
from rddm.triage import choose, judge

ENLARGER = "upscale"  # the bundled model for photos that were enlarged
LEFT = "left as it is"  # a photo that no model gets


@dataclass(frozen=True)
class Options:
    """How to restore; None leaves the choice to the model or the machine (see ``rddm.restore.prepare``).

    The photo is enlarged ``scale`` times first. ``mask`` is a file, or a folder of a mask for each photo. The engine
    "auto" is what ``rddm bench`` found best, or float32. What is written is the restored photo to the share
    ``strength``, from 0 to 1, and the photo to the rest.
    """

    steps: int | None = None
    solver: str | None = None
    seed: int = 0
    tile: int | None = None
    compare: bool = False
    scale: int = 1
    engine: str = "auto"
    mask: Path | None = None
    strength: float = 1.0
    realism: float = 0.0


class Models:
    """The models of a batch, each loaded once.

    Arguments:
        name: the one for every photo, loaded at once; None chooses a bundled one for each, and says which and why.
        device: where they run.
        engine: how; "auto" asks :func:`rddm.bench.remembered`.

    Raises:
        UserError: if the one that is named cannot be loaded, or the engine does not run there.
    """

    def __init__(self, name: str | None, device: str, engine: str = "auto") -> None:
        self.device = device
        self.engine = remembered(device) if engine == "auto" else engine
        self.loaded: dict[str, Model] = {}
        self.named = None if name is None else self.load(name)

    def load(self, name: str) -> Model:
        """Return a model, from memory if it was asked for before."""
        if name not in self.loaded:
            self.loaded[name] = load(name, self.device).optimize(self.engine)
        return self.loaded[name]

    def for_photo(self, source: Path, pixels: Pixels) -> Model | None:
        """Return the model for a photo, None if it is to be left as it is.

        Raises:
            UserError: if the one that is fit cannot be loaded.
        """
        if self.named is not None:
            return self.named
        choice = choose(judge(pixels), bundled())
        print(f"{source.name}: {choice.model or LEFT}, because {choice.why} (--model overrules)", flush=True)
        return None if choice.model is None else self.load(choice.model)


def choose_device(name: str) -> str:
    """Return the device for ``auto``, ``cpu`` or ``cuda``.

    Raises:
        UserError: if CUDA was asked for and is not there.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: found no CUDA device, expected one; leave it out to run on the CPU")
    return name


def destinations(sources: Sequence[Path], out: Path) -> list[Path]:
    """Return where each photo is written: the file ``out`` for one photo if it has a suffix, else inside the folder.

    Raises:
        UserError: if several photos would go to one file.
    """
    if len(sources) == 1 and out.suffix.lower() in SUFFIXES and not out.is_dir():
        return [out]
    if len(sources) > 1 and out.suffix.lower() in SUFFIXES and not out.is_dir():
        raise UserError(f"{out}: found {len(sources)} photos for one file, expected the name of a folder")
    if len(sources) == 1 and out.suffix and not out.is_dir():
        output_format(out)
    return [out / (source.name if source.suffix.lower() in SUFFIXES else f"{source.name}.png") for source in sources]


def check_destination(source: Path, target: Path, taken: dict[Path, Path]) -> None:
    """Refuse to write over the input or over another output of this batch.

    Raises:
        UserError: if it would.
    """
    output_format(target)
    place = Path(os.path.realpath(target))
    if place == Path(os.path.realpath(source)):
        raise UserError(f"{source}: the output is the input itself, expected another file or folder")
    if place in taken:
        raise UserError(f"{source}: would overwrite the output of {taken[place]}, expected files of different names")
    taken[place] = source


def beside(target: Path) -> Path:
    """Return where the comparison goes."""
    return target.with_name(f"{target.stem}_compare{target.suffix}")


def restore_files(inputs: Sequence[str], out: Path, model_name: str | None, device: str, options: Options) -> int:
    """Restore photos and return how many failed, each with one line on the error stream.

    Without ``model_name`` each photo gets the bundled model that it needs (``rddm.triage``), or the one that sharpens
    what was enlarged. One that needs none is copied.

    Raises:
        UserError: if several photos would go to one file, the model cannot be loaded, or a number is out of range.
    """
    check_strength(options.strength)
    enlarging = ENLARGER if options.scale > 1 else None
    models = Models(model_name or enlarging, choose_device(device), options.engine)
    if models.named is not None:
        check_mask_use(models.named.spec, options.mask is not None)
        check_realism(models.named, options.realism)
    elif options.mask is not None:
        raise UserError("--mask: found no --model, expected the name of a model that is shown a mask")
    if options.mask is not None:
        inputs = photos_beside_masks(inputs, options.mask)
    work = partial(restore_file, models, options=options)
    done = "restored or left as they are" if models.named is None else "restored"
    return for_each(inputs, out, work, done, options.compare)


def for_each(inputs: Sequence[str], out: Path, work: Callable[[Path, Path], None], done: str, compare: bool) -> int:
    """Do something with photos and return how many failed, each with one line on the error stream.

    Arguments:
        inputs: files, folders and patterns.
        out: file for one photo, folder for several.
        work: ``(source, target)``, what is done with a photo.
        done: what became of a photo, in a word.
        compare: whether a comparison is written :func:`beside` each target too.

    Raises:
        UserError: if several photos would go to one file.
    """
    sources = find_inputs(inputs)
    targets = destinations([path for path, _ in sources], out)
    taken: dict[Path, Path] = {}
    failures = 0
    for (source, missing), target in zip(sources, targets, strict=True):
        try:
            if missing:
                raise UserError(missing)
            for output in (target, beside(target)) if compare else (target,):
                check_destination(source, output, taken)
            work(source, target)
        except UserError as error:
            failures += 1
            print(f"rddm: {error}", file=sys.stderr)
    if len(sources) > 1:
        print(f"{len(sources) - failures} of {len(sources)} photos {done}")
    return failures


def photos_beside_masks(inputs: Sequence[str], mask: Path) -> list[str]:
    """Return the photos that the inputs name, less their masks.

    Raises:
        UserError: if there is no mask at that place.
    """
    if not mask.exists():
        raise UserError(f"--mask {mask}: no such file or folder")
    found = find_inputs(inputs)
    kept = without_masks([path for path, _ in found], mask)
    return [str(path) for path, complaint in found if complaint or path in kept]


def find_inputs(inputs: Sequence[str]) -> list[tuple[Path, str]]:
    """Return the photos that the inputs name, each with the complaint about it, so that one bad name stops no other."""
    found: dict[Path, str] = {}
    for text in inputs:
        try:
            for path in find_photos([text]):
                found.setdefault(path, "")
        except UserError as error:
            found[Path(text)] = str(error)
    return list(found.items())


def restore_file(models: Models, source: Path, target: Path, options: Options) -> None:
    """Restore one photo, telling first what it will cost.

    Raises:
        UserError: if it cannot be read, restored or written, or the memory does not suffice.
    """
    with in_one_line(str(source), "try --tile 128"):
        photo = enlarged(read_photo(source), options.scale)
        model = models.for_photo(source, photo.pixels)
        if model is None or options.strength == 0:
            leave(source, target, photo, options)
            return
        height, width = photo.pixels.shape[:2]
        mask = None if options.mask is None else mask_for(source, photo, options.mask, options.scale)
        given = () if mask is None else ("mask",)
        job = prepare(model, height, width, options.steps, options.solver, options.seed, options.tile, given)
        check_realism(model, options.realism)
        second = second_job(model, height, width, options.seed, options.tile) if options.realism else None
        before_and_after = 13 * height * width if options.compare else 0  # both, side by side, and Pillow's copy
        then = "" if second is None else f", then {describe(second, before_and_after)}"
        print(f"{source}: {describe(job, before_and_after)}{then}", flush=True)
        make_folder(target.parent)
        apart = options.compare or (second is not None and options.strength < 1)  # the photo itself is needed again
        first = options.strength if second is None else 1.0
        pixels = run_with_bar(job, photo.pixels, source.name, None if apart else photo.pixels, mask, strength=first)
        if second is not None:
            shown = shown_to(second, mask)
            pixels = run_with_bar(second, pixels, source.name, pixels, shown, PartWay(options.realism))
            pixels = mixed(pixels, photo.pixels, options.strength) if apart else pixels
        notes = write_photo(target, Photo(pixels, photo.alpha, photo.format, photo.metadata))
        if options.compare:
            write_photo(beside(target), Photo(side_by_side(photo.pixels, pixels), None, photo.format))
    for note in notes:
        print(note)


def leave(source: Path, target: Path, photo: Photo, options: Options) -> None:
    """Write a photo as it is: its file, byte for byte, if the output has the same format, so that nothing is lost.

    Raises:
        UserError: if it cannot be written.
    """
    make_folder(target.parent)
    copied = options.scale == 1 and copy_photo(source, target)
    notes = [] if copied else write_photo(target, photo)
    if options.compare:
        write_photo(beside(target), Photo(side_by_side(photo.pixels, photo.pixels), None, photo.format))
    for note in notes:
        print(note)


@contextmanager
def in_one_line(name: str, advice: str) -> Iterator[None]:
    """Turn what a sampler may fail with into one line about ``name``; ``advice`` helps if the memory did not suffice.

    Raises:
        UserError: if the path does not admit the solver, or there is too little memory.
    """
    try:
        yield
    except Inadmissible as error:
        raise UserError(f"{name}: {error}; expected another --solver or model") from None
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):  # torch's CPU allocator has no type for it
            raise
        raise UserError(f"{name}: out of memory; {advice}") from None


def make_folder(folder: Path) -> None:
    """Make the output's folder.

    Raises:
        UserError: if that fails.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror}), expected a folder to write to") from None


def describe(job: Job, more: int = 0) -> str:
    """Return what a job will cost, in one line; ``more`` bytes are held beside it."""
    tiles = "one piece" if job.tiles == 1 else f"{job.tiles} tiles of {job.rows[0][0].bottom}x{job.rows[0][0].right}"
    steps = len(job.trajectory) - 1
    engine = "" if job.model.engine in (None, DEFAULT) else f", {job.model.engine}"
    what = f"{job.width}x{job.height}, {job.model.spec.name}, {steps} steps, {tiles}{engine}"
    return f"{what}, about {megabytes(job.memory + more)}"


def megabytes(count: int) -> str:
    """Return a number of bytes for people."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def run_with_bar(
    job: Job,
    pixels: Pixels,
    name: str,
    out: Pixels | None,
    mask: Pixels | None = None,
    way: Restore | None = None,
    strength: float = 1.0,
) -> Pixels:
    """Run a job with a progress bar."""
    with bar_of("tiles") as bar:
        task = bar.add_task(name, total=job.tiles)
        return run(job, pixels, lambda: bar.advance(task), mask=mask, restore=way, out=out, strength=strength)


def bar_of(unit: str) -> Progress:
    """Return a progress bar that counts something, on the error stream, if that is a terminal."""
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit),
               TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]  # fmt: skip
    return Progress(*columns, console=Console(stderr=True), transient=True)
