"""Generators small enough for one CPU core: ``python jobs/generation_cpu.py --model cats --data .jobdata/cats``.

``cats`` draws AFHQ's cats at 32x32, along the straight path from noise: 64x64 takes longer than one waits for a CPU.
``cats-plane`` has two networks on a DDPM's path, each told its own place instead of the time (paper, section 3.3): the
path may be changed after training. ``cats-time`` is told the time, all else being equal: its path may not
(docs/path-independence.md). ``translate`` has the same two networks and leads from photographs of dogs to cats.
``inpaint`` fills what a mask hides, in cats and in pieces of photographs.
"""

from dataclasses import replace

import common
import sets

from rddm.clipping import clip_none, published_res_eps
from rddm.clocks import Clock, index_clock, plane_clock
from rddm.methods import METHODS
from rddm.recipe import Phase, Recipe
from rddm.recipes import generate
from rddm.schedules import DDPMPath, PowerPath

CATS = "AFHQ cats 64x64, CC BY-NC 4.0"
DOGS = "2,000 photographs of dogs at 64x64, competition terms"


def cats() -> Recipe:
    """Return the recipe of the bundled generator."""
    ours = generate()
    return replace(
        ours,
        name="cats",
        method=replace(METHODS["flow"], steps=10),
        network=replace(ours.network, widths=(64, 128, 256), blocks=(1, 2, 3)),
        phases=(Phase(1.0, 32, 32),),
        steps=14_000,
        lr=1.5e-3,
        average=replace(ours.average, decay=0.9995),
        precision="bf16",
    )


def two_clocks(name: str, clock: Clock) -> Recipe:
    """Return the recipe of a residual and a noise network at 32x32, told the time by ``clock``."""
    ours, row = cats(), METHODS["rddm-generation"]
    return replace(
        ours,
        name=name,
        method=replace(row, path=DDPMPath(), clock=clock, clip=published_res_eps),
        network=replace(ours.network, widths=(32, 64, 128), blocks=(1, 2, 2), heads=2, nets=2),
        steps=5_000,
    )


def translate() -> Recipe:
    """Return the recipe that turns dogs into cats, begun from networks that know cats; pairs are drawn at random."""
    ours = two_clocks("translate", plane_clock)
    method = replace(ours.method, name="rddm-translation", path=PowerPath(noise=4.0), origin="input", clip=clip_none)
    return replace(ours, method=method, pairing="random", initial="cats-plane", steps=5_000, lr=1e-3)


def inpaint() -> Recipe:
    """Return the recipe that fills holes; the network sees them smoothly filled, and where they are."""
    ours = cats()
    method = replace(METHODS["rddm-res"], path=PowerPath(noise=0.1), inputs=("x_in", "mask"), steps=5)
    network = replace(ours.network, in_channels=9, widths=(32, 64, 128), blocks=(1, 1, 2))
    degrade = "centre_mask | irregular_mask | irregular_mask"
    return replace(
        ours, name="inpaint", method=method, network=network, degrade=degrade, prepare="fill", fit="crop", shrink=0.5,
        loss="l1", phases=(Phase(1.0, 64, 8),), steps=12_000, lr=1.2e-3, start_share=0.3,
    )  # fmt: skip


def cats_job(recipe: Recipe) -> common.Job:
    """Return the job of a recipe that draws cats."""
    return common.Job(f"{recipe.name}-cpu", recipe, sets.cats, sets.miniature_cats, CATS)


RECIPES = (cats(), two_clocks("cats-plane", plane_clock), two_clocks("cats-time", index_clock))
JOBS = {recipe.name: cats_job(recipe) for recipe in RECIPES}
JOBS["translate"] = common.Job(
    "translate-cpu", translate(), sets.DogsAndCats, sets.miniature_cats, f"{DOGS}; {CATS}"
)  # fmt: skip
JOBS["inpaint"] = common.Job(
    "inpaint-cpu", inpaint(), sets.PhotosAndCats, sets.miniature_photos_and_cats,
    f"BSDS500 train and test; {CATS}", sets.photographs,
)  # fmt: skip

if __name__ == "__main__":
    common.main(JOBS[common.taken("--model", JOBS)])
