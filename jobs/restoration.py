"""Restorations trained on synthetic degradations of BSDS500: ``python jobs/restoration.py --task deblur ...``.

One network and one length for all, those of a GPU.
"""

from dataclasses import replace

import common
import sets

from rddm.recipe import Phase, Recipe
from rddm.recipes import RECIPES

TASKS = ("denoise", "derain", "deblur", "jpeg", "upscale", "all-in-one")


def recipe_of(task: str) -> Recipe:
    """Return a task's recipe with the network and the batches of a GPU."""
    recipe = RECIPES[task]()
    return replace(
        recipe,
        network=replace(recipe.network, widths=(64, 96, 160, 208), blocks=(4, 4, 2, 2)),
        phases=(Phase(0.8, 128, 64), Phase(0.2, 256, 16)),
        steps=24_000,
        validate_every=2_000,
        precision="bf16",
        compile=True,
    )


if __name__ == "__main__":
    task = common.taken("--task", TASKS)
    data = "BSDS500 train and test; without those held out for rain where the folder says so"
    common.main(common.Job(task, recipe_of(task), sets.clean_folder, sets.miniature_folder, data))
