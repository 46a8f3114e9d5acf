"""A recipe, and photographs, small enough for tests: a second or two of training."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from rddm.methods import METHODS, Method
from rddm.nn.compact import CompactConfig
from rddm.recipe import Phase, Recipe, fitted
from rddm.recipes import SEEN, compact

SIDE = 24


def recipe(method: Method = METHODS["rddm-res"]) -> Recipe:
    """Return a recipe that trains a network of some thousand weights."""
    network = fitted(CompactConfig(widths=(8, 16), blocks=(1, 1), features=16), method)
    phases = (Phase(0.5, 16, 4), Phase(0.5, 24, 2))
    metric = "loss" if method.origin == "zero" else "psnr-rgb"
    return Recipe(
        "tiny", method, network, "nothing", phases=phases, steps=24, validate_every=6, optimiser="adamw", lr=4e-3,
        metric=metric,
    )  # fmt: skip


def told() -> Recipe:
    """Return one that is told the whole photograph."""
    return replace(recipe(), method=SEEN, network=replace(compact(SEEN), widths=(8, 16), blocks=(1, 1)), jitter=0.1)


def masked() -> Recipe:
    """Return one that is shown a mask."""
    return recipe(replace(METHODS["rddm"], inputs=("x_in", "mask")))


def diverging() -> Recipe:
    """Return one whose loss overflows."""
    return replace(recipe(), lr=1e30, warmup=0, clip=1e30)


def undecided() -> Recipe:
    """Return one that begins with the wrong target, and chooses."""
    return replace(recipe(METHODS["rddm-eps"]), choose="certainty")


def photograph(seed: int, height: int = SIDE, width: int = 32) -> np.ndarray:
    """Return smooth random pixels."""
    small = np.random.default_rng(seed).integers(40, 216, (3, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def write_pairs(folder: Path, count: int = 12) -> tuple[Path, Path]:
    """Write pairs whose degraded half is the clean one in negative and half as bright, and return their folders."""
    for kind in ("clean", "degraded"):
        (folder / kind).mkdir(parents=True)
    for i in range(count):
        clean = photograph(i)
        Image.fromarray(clean).save(folder / "clean" / f"{i}.png")
        Image.fromarray((255 - clean) // 2).save(folder / "degraded" / f"{i}.png")
    return folder / "clean", folder / "degraded"
