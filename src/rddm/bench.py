"""``rddm bench``: how fast this machine restores, which engine is best on it, and what is remembered of that.

Every engine that runs here restores the same tile, in turn; what is compared is the median. An engine other than
float32 is best only where it saves a fifth of the time or more. The result is kept for each device in ``bench.json``
in ``$RDDM_CACHE``, or else ``~/.cache/rddm``, until the machine or torch changes; ``rddm restore`` goes by it.
"""

import copy
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from rddm.engines import DEFAULT, ENGINES
from rddm.errors import UserError
from rddm.model import Model, load, write_aside
from rddm.photo import Pixels
from rddm.report import Table, show
from rddm.restore import OVERLAP, prepare, run

ROUNDS = 5
WORTH = 0.8  # of float32's time, at most, that another engine may take
MEGAPIXELS = 12


class Timing(NamedTuple):
    """What an engine took: seconds for the tile, each round, and how far its picture is off float32's, of 255."""

    seconds: list[float]
    apart: float

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.seconds)


def cache_file() -> Path:
    """Return where results are kept."""
    return Path(os.environ.get("RDDM_CACHE") or Path.home() / ".cache" / "rddm") / "bench.json"


def machine(device: str) -> str:
    """Return what a result holds for: the device, the processor, the threads and the version of torch."""
    name = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()} {platform.processor()}".strip()
    return f"{device}: {name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def known() -> dict[str, Any]:
    """Return what is kept, by machine; nothing if it cannot be read."""
    try:
        found = json.loads(cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def remembered(device: str) -> str:
    """Return the engine that was best on this machine; float32 if nothing is known of it."""
    try:
        name = known()[machine(device)]["best"]
    except (LookupError, TypeError):
        return DEFAULT
    return name if name in ENGINES and ENGINES[name].runs(torch.device(device)) else DEFAULT


def remember(device: str, best: str, seconds: dict[str, float]) -> Path:
    """Write down which engine was best, beside what is known of other devices.

    Raises:
        UserError: if the file cannot be written.
    """
    file = cache_file()
    kept = known() | {machine(device): {"best": best, "seconds": seconds}}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_aside(file, lambda part: part.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{file}: cannot be written ({error.strerror}), expected another folder in RDDM_CACHE"
        ) from None
    return file


def best_of(timings: dict[str, Timing]) -> str:
    """Return the fastest engine, float32 unless another saves enough."""
    fastest = min(timings, key=lambda name: timings[name].median)
    return fastest if timings[fastest].median <= WORTH * timings[DEFAULT].median else DEFAULT


def measured_engines(model: Model, device: str, pixels: Pixels) -> dict[str, Timing]:
    """Return what every engine that runs on a device takes to restore a photo in one piece, in turn.

    Arguments:
        model: as loaded; it is left as it is.
        device: where it lies.
        pixels: the photo.
    """
    names = [name for name, engine in ENGINES.items() if engine.runs(torch.device(device))]
    models = {name: copy.deepcopy(model).optimize(name) for name in names}
    jobs = {name: prepare(one, *pixels.shape[:2], tile=0) for name, one in models.items()}
    pictures = {name: run(job, pixels).astype(float) for name, job in jobs.items()}  # the first call warms up
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name, job in jobs.items():
            began = time.perf_counter()
            run(job, pixels)
            seconds[name].append(time.perf_counter() - began)
    apart = {name: float(np.sqrt(np.mean((picture - pictures[DEFAULT]) ** 2))) for name, picture in pictures.items()}
    return {name: Timing(seconds[name], apart[name]) for name in names}


def bench(model_name: str, device: str, side: int) -> str:
    """Measure the engines with a model, print what they take, remember the best, and return its name.

    Raises:
        UserError: if there is no such model, it restores no photos, or the result cannot be kept.
    """
    if side < 64:
        raise UserError(f"--side: found {side}, expected at least 64 pixels")
    model = load(model_name, device)
    print(
        f"{machine(device)}: {model.spec.name}, tiles of {side}x{side}, {ROUNDS} rounds after one to warm up",
        flush=True,
    )
    smooth = np.add.outer(np.arange(side), np.arange(side))[..., None] * (40 / side)  # dark, as photos for it are
    grain = np.random.default_rng(0).normal(0, 4, (side, side, 3))
    timings = measured_engines(model, device, (smooth + grain).clip(0, 255).astype(np.uint8))
    show(table_of(timings, side))
    best = best_of(timings)
    file = remember(device, best, {name: timing.median for name, timing in timings.items()})
    print(f"best: {best}; rddm restore goes by it from now on (--engine overrules; kept in {file})")
    return best


def table_of(timings: dict[str, Timing], side: int) -> Table:
    """Return the timings for people."""
    fresh = max(side - OVERLAP, 1)  # of a tile, what is not shared with the next
    rows = [
        [
            name,
            f"{timing.median:.3f} s",
            f"{timings[DEFAULT].median / timing.median:.2f}",
            f"{timing.apart:.2f}",
            f"{timing.median * MEGAPIXELS * 1e6 / fresh**2:.0f} s",
        ]
        for name, timing in timings.items()
    ]
    return Table(("engine", "a tile", "times as fast", "off by (rms of 255)", f"{MEGAPIXELS} megapixels"), rows)
