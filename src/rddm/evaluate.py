"""Evaluation: a model on pairs of photos, or anyone's outputs against targets, by a named protocol.

A figure alone says little. So every mean comes with the interval in which it would lie, in 95 of 100 cases, had the
test set been another sample of its like (bootstrap over images), with the spread over seeds where a sampler is
random, and with what the restoration cost. Beside it stands the input's own figure, how many images got worse than
they were given, and by how much at worst: a model that does harm shows.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from rddm import protocols
from rddm.batch import choose_device
from rddm.engines import DEFAULT as ENGINE
from rddm.errors import UserError
from rddm.learned import LEAST, Extras, extra_metrics, has_lpips
from rddm.matlab import Bytes
from rddm.model import DEFAULT, load
from rddm.protocols import Case, Scores, protocol_named, read_mask, read_pairs, read_rgb
from rddm.restore import wants_mask
from rddm.sources import Cost, Degrade, Outputs, Produced, Restorer, Source, hide_target, made_degraded, read_degraded
from rddm.stages import check_realism
from rddm.testsets import Choice, size_of

RESAMPLES = 10_000
LOWER = ("lpips", "lab")  # figures that are the better the lower; in all others more is better


@dataclass(frozen=True)
class Options:
    """What a person asked for; of ``outputs``, ``degraded`` and ``degrade`` one, or the first two, are given.

    Arguments:
        protocol: its name.
        clean: targets: a folder, a list of paths, or a packed file (``rddm.testsets``), as all that follow.
        outputs: outputs.
        degraded: degraded photos, for the model or to be shown beside the outputs.
        degrade: how to make them from the targets.
        mask: masks, for protocols that look at regions and for models that are shown them.
        model: a model's name.
        device: as ``rddm restore`` takes it.
        steps: network calls; the model's own number if None.
        seed: of the first run.
        runs: how many seeds.
        also: names of further metrics; LPIPS is computed unasked where its weights are at hand.
        engine: how the network is computed.
        realism: how far a second stage goes, 0 to 1.
        names: a file with the names of the targets that are meant; all if None.
        images: how many of these, evenly spread; all if None.
    """

    protocol: str
    clean: Path
    outputs: Path | None = None
    degraded: Path | None = None
    degrade: str | None = None
    mask: Path | None = None
    model: str = DEFAULT
    device: str = "cpu"
    steps: int | None = None
    seed: int = 0
    runs: int = 1
    also: Sequence[str] = ()
    engine: str = ENGINE
    realism: float = 0.0
    names: Path | None = None
    images: int | None = None


def prepared(options: Options, look: "Look" = lambda *_: None) -> "tuple[Evaluation, list[Case]]":
    """Return an evaluation ready to run, and its images; what can be refused is refused here.

    Raises:
        UserError: if an option or a combination of options does not make sense, or something is not there.
    """
    protocol = protocol_named(options.protocol)
    check_given(options, protocol)
    source = source_of(options, protocol)
    choice = Choice(options.names, options.images)
    cases = read_pairs(options.clean, options.outputs or options.degraded, options.mask, choice)
    extras = extra_metrics(with_lpips(options.also, cases))
    seeds = range(options.seed, options.seed + options.runs)
    return Evaluation(source, protocol, extras, seeds, look), cases


def check_given(options: Options, protocol: protocols.Protocol) -> None:
    """Check that there are outputs, or something to make them from, and how often.

    Raises:
        UserError: if not, or if there is too much of it.
    """
    given = [name for name in ("outputs", "degraded", "degrade") if getattr(options, name) is not None]
    hides = not given and protocol.masks == "must" and options.mask is not None  # the targets, behind their masks
    if len(given) != 1 and given != ["outputs", "degraded"] and not hides:
        found = " and ".join(f"--{name}" for name in given) or "none"
        raise UserError(f"evaluate: found {found} of --outputs, --degraded and --degrade, expected one of them")
    if options.runs < 1 or (options.runs > 1 and options.outputs is not None):
        raise UserError(
            f"--runs: found {options.runs}, expected at least 1, and 1 with --outputs, which are made already"
        )


def with_lpips(names: Sequence[str], cases: Sequence[Case]) -> list[str]:
    """Return the names of metrics with LPIPS among them, if its weights are at hand and every photo is large enough."""
    borders = 8  # that a protocol may cut off
    if "lpips" in names or not has_lpips():
        return [*names]
    fits = all(min(size_of(case.target)) >= LEAST + borders for case in cases)
    return [*names, "lpips"] if fits else [*names]


def source_of(options: Options, protocol: protocols.Protocol) -> Source:
    """Return where the outputs come from; UserError if it cannot be had."""
    if options.outputs is not None:
        check_masks(options, protocol, False)
        choice = Choice(options.names, options.images)
        pairs = [] if options.degraded is None else read_pairs(options.clean, options.degraded, choice=choice)
        return Outputs(str(options.outputs), {case.name: case.other for case in pairs if case.other is not None})
    label = options.model if options.degrade is None else f"{options.model} on {options.degrade}"
    model = load(options.model, choose_device(options.device)).optimize(options.engine)
    check_masks(options, protocol, wants_mask(model.spec))
    check_realism(model, options.realism)
    label += f" at realism {options.realism:g}" if options.realism else ""
    return Restorer(model, label, protocol, degrade_of(options), options.steps, options.realism)


def degrade_of(options: Options) -> Degrade:
    """Return where a model's degraded photos come from; UserError if what makes them is not understood."""
    if options.degrade is not None:
        return made_degraded(options.degrade, options.seed)
    return hide_target if options.degraded is None else read_degraded


def check_masks(options: Options, protocol: protocols.Protocol, shown: bool) -> None:
    """Check that masks are given where a protocol or a model (``shown``) has use for them.

    Raises:
        UserError: if they are given in vain, or missing; a degradation may draw its own.
    """
    if options.mask is not None and protocol.masks == "none" and not shown:
        who = "only istd-256 and holes look at regions"
        who += "" if options.outputs else f", and {options.model} is shown none"
        raise UserError(f"--mask: found one with {protocol.name}, expected none: {who}")
    if options.mask is None and options.degrade is None and protocol.masks == "must":
        raise UserError(f"{protocol.name}: found no mask, expected --mask, or --degrade with one: irregular_mask(0.1)")
    if options.mask is None and shown and options.degrade is None:
        raise UserError(f"{options.model}: found no mask, expected --mask FOLDER: the model is shown where to restore")


@dataclass(frozen=True)
class ImageResult:
    """The figures of one image: of each seed, with its cost; the size of its target (height, width).

    ``given`` are the figures of what it was made from, compared with the target likewise; empty where not known.
    """

    name: str
    size: tuple[int, int]
    runs: list[Scores]
    costs: list[Cost]
    given: Scores = field(default_factory=dict)

    @property
    def mean(self) -> Scores:
        """The means over the seeds."""
        return {key: float(np.mean([scores[key] for scores in self.runs])) for key in self.runs[0]}


class Interval(NamedTuple):
    """A mean over images, the 95 % interval of it, and its standard deviation over seeds; None where not defined."""

    mean: float
    low: float | None
    high: float | None
    over_runs: float | None


class Change(NamedTuple):
    """What a restoration did to a figure: the input's mean, the mean and the worst change, whose, and how many lost.

    The worst change is that of the image ``worst_name``, below 0 (above, where less is better) if it lost.
    """

    given: float
    mean: float
    worst: float
    worst_name: str
    worse: int


@dataclass(frozen=True)
class Report:
    """What an evaluation found.

    Arguments:
        protocol: by which.
        label: of what.
        settings: seed, runs, versions and the like.
        images: one by one.
        figures: the means, by name.
        sets: figures that only the whole set has.
        costs: what is known of the cost.
        changes: from the inputs to the outputs, by the figures' names; empty where the inputs are not known.
    """

    protocol: protocols.Protocol
    label: str
    settings: dict[str, str | int | None]
    images: list[ImageResult]
    figures: dict[str, Interval]
    sets: dict[str, float]
    costs: dict[str, float]
    changes: dict[str, Change] = field(default_factory=dict)


Look = Callable[[str, Scores, Produced, Bytes], None]


@dataclass(frozen=True)
class Evaluation:
    """What is to be evaluated, and how.

    Arguments:
        source: outputs on disk, or a model.
        protocol: what is compared.
        extras: further metrics; those of sets see the outputs of the first seed.
        seeds: of the runs.
        look: is shown the name, figures, output and target of each image, of the first seed.
    """

    source: Source
    protocol: protocols.Protocol
    extras: Extras = field(default_factory=lambda: Extras({}, []))
    seeds: Sequence[int] = (0,)
    look: Look = lambda *_: None


def evaluate(task: Evaluation, cases: Sequence[Case]) -> Report:
    """Return the figures of the images, with a progress bar on the error stream if that is a terminal.

    Raises:
        UserError: at the first image that cannot be read, restored or compared.
    """
    with progress(task.protocol.name, len(cases) * len(task.seeds)) as done:
        images = [evaluate_image(task, case, done) for case in cases]
    try:
        sets = {key: value for metric in task.extras.sets for key, value in metric.result().items()}
    except ValueError as error:
        raise UserError(f"{task.source.label}: {error}") from None
    figures = summarise(images, task.protocol)
    settings = {"seed": task.seeds[0], "runs": len(task.seeds), "rddm": version("rddm"), "torch": torch.__version__}
    costs = {**task.source.facts, **summarise_costs(images)}
    changes = summarise_changes(images, task.protocol)
    return Report(task.protocol, task.source.label, settings, images, figures, sets, costs, changes)


def evaluate_image(task: Evaluation, case: Case, done: Callable[[], None]) -> ImageResult:
    """Return the figures of one image; UserError, with the files' names, if there are none."""
    target, mask = read_rgb(case.target), None if case.mask is None else read_mask(case.mask)
    runs, costs, given = [], [], dict[str, float]()
    try:
        for seed in task.seeds:
            produced = task.source(case, target, seed)
            seen = produced.mask if mask is None and task.protocol.masks == "must" else mask
            runs.append(scores_of(task, produced.output, target, seen))
            costs += [produced.cost] if produced.cost else []
            if seed == task.seeds[0]:
                produced = begun(task.protocol, produced, target, seen)
                given = scores_of_input(task, produced.degraded, target, seen)
                task.look(case.name, runs[0], produced, target)
                for metric in task.extras.sets:
                    metric.add(*task.protocol.seen(produced.output, target))
            done()
    except ValueError as error:
        files = f"{case.target}" if case.other is None else f"{case.other}, target {case.target}"
        raise UserError(f"{files}: {error}") from None
    return ImageResult(case.name, (target.shape[0], target.shape[1]), runs, costs, given)


def scores_of(task: Evaluation, output: Bytes, target: Bytes, mask: Bytes | None) -> Scores:
    """Return the figures of an image: the protocol's, and those of a trained judge; ValueError if it does not fit."""
    scores, seen = task.protocol.score(output, target, mask), task.protocol.seen(output, target)
    return scores | {name: metric(*seen) for name, metric in task.extras.pairs.items()}


def begun(protocol: protocols.Protocol, produced: Produced, target: Bytes, mask: Bytes | None) -> Produced:
    """Return what was produced, with that in the place of the degraded photo which the protocol takes for the input."""
    return produced._replace(degraded=protocol.start(produced.degraded, target, mask))


def scores_of_input(task: Evaluation, degraded: Bytes | None, target: Bytes, mask: Bytes | None) -> Scores:
    """Return the figures of what an output was made from; none where that is not known or of another size."""
    if degraded is None:
        return {}
    try:
        return scores_of(task, task.protocol.photo(degraded), target, mask)
    except ValueError:  # shown beside somebody's outputs, it need not fit the target
        return {}


@contextmanager
def progress(name: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar with the time left, and hand over what moves it on by one."""
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("images"),
               TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=total)
        yield lambda: bar.advance(task)


def summarise(images: Sequence[ImageResult], protocol: protocols.Protocol) -> dict[str, Interval]:
    """Return the mean of each figure over the images and seeds, and the figures pooled over all pixels."""
    weights = {weight for _, weight in protocol.pooled.values()}
    names = [name for name in images[0].runs[0] if name not in weights]
    figures = {name: interval(np.array([[run[name] for run in image.runs] for image in images])) for name in names}
    for name, (figure, weight) in protocol.pooled.items():
        if figure in images[0].runs[0]:
            values, counts = (np.array([image.mean[key] for image in images]) for key in (figure, weight))
            figures[name] = Interval(float((values * counts).sum() / counts.sum()), None, None, None)
    return figures


def summarise_changes(images: Sequence[ImageResult], protocol: protocols.Protocol) -> dict[str, Change]:
    """Return what became of each figure from input to output; nothing unless every image's input has it."""
    weights = {weight for _, weight in protocol.pooled.values()}
    names = [name for name in images[0].given if name not in weights and all(name in i.given for i in images)]
    return {name: change_of(name, images) for name in names}


def change_of(name: str, images: Sequence[ImageResult]) -> Change:
    """Return the change of a figure: output less input, 0 where both are infinite, as of a clean photo left alone."""
    pairs = [(image.given[name], image.mean[name]) for image in images]
    given, changes = [a for a, _ in pairs], [0.0 if a == b else b - a for a, b in pairs]
    signs = [-change if name.startswith(LOWER) else change for change in changes]
    worst = int(np.argmin(signs))
    if not np.isfinite(given).all():  # of clean photos: how near their outputs are says which is worst
        worst = int(np.argmin([b if sign < 0 else np.inf for (_, b), sign in zip(pairs, signs)]))
    lost = sum(sign < 0 for sign in signs)
    return Change(float(np.mean(given)), float(np.mean(changes)), changes[worst], images[worst].name, lost)


def interval(values: np.ndarray, seed: int = 0) -> Interval:
    """Return mean, percentile bootstrap interval over the rows and standard deviation over the columns.

    Arguments:
        values: (images, runs). Runs of one image are averaged first: they are no new images.
        seed: of the resampling.
    """
    by_image, by_run = values.mean(1), values.mean(0)
    spread = float(by_run.std(ddof=1)) if values.shape[1] > 1 and np.isfinite(values).all() else None
    if len(values) < 2 or not np.isfinite(values).all():  # equal images have an infinite PSNR
        return Interval(float(by_image.mean()), None, None, spread)
    random = np.random.default_rng(seed)
    means = [by_image[random.integers(0, len(by_image), len(by_image))].mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(by_image.mean()), float(low), float(high), spread)


def summarise_costs(images: Sequence[ImageResult]) -> dict[str, float]:
    """Return the medians over images and seeds of what an image took, and the greatest memory."""
    costs = [cost for image in images for cost in image.costs]
    if not costs:
        return {}
    return {
        "gmacs-per-image": float(np.median([cost.gmacs for cost in costs])),
        "seconds-per-image": float(np.median([cost.seconds for cost in costs])),
        "memory-median": float(np.median([cost.memory for cost in costs])),
        "memory-greatest": float(max(cost.memory for cost in costs)),
    }
