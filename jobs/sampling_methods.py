"""The paper's sampling methods on LOL under one budget: ``python jobs/sampling_methods.py --variant sm-n ...``.

SM-Res, SM-N and SM-Res-N (one network, two heads) with bbar_T^2 of 0.01 and 1, on the network and crops of ``restore``.
"""

from dataclasses import replace

import common
import sets

from rddm.methods import METHODS
from rddm.recipe import Phase, Recipe, with_method
from rddm.recipes import restore
from rddm.schedules import PowerPath

ROWS = {"sm-res": "rddm-res", "sm-n": "rddm-eps", "sm-res-n": "rddm"}
VARIANTS = [f"{row}-{noise}" for row in ROWS for noise in ("0.01", "1")]


def recipe_of(variant: str) -> Recipe:
    """Return the recipe of a variant."""
    row, _, noise = variant.rpartition("-")
    method = replace(METHODS[ROWS[row]], path=PowerPath(noise=float(noise)))
    ours = with_method(restore(), method)
    phases = (Phase(0.8, 128, 32), Phase(0.2, 256, 8))
    return replace(ours, name=variant, phases=phases, steps=8_000, precision="bf16", compile=True)


if __name__ == "__main__":
    variant = common.taken("--variant", VARIANTS)
    data = "LOL-v1 train, 456 of 485 pairs"
    common.main(common.Job(variant, recipe_of(variant), sets.LolCrops, sets.miniature_lol, data))
