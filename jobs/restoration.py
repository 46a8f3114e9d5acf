"""The restorations that are trained on synthetic degradations of BSDS500: one recipe each, one network for all."""

from dataclasses import replace

from rddm.recipe import Phase, Recipe
from rddm.recipes import deblur, denoise, derain


def larger(recipe: Recipe) -> Recipe:
    """Return a recipe with the network and the batches of a GPU."""
    return replace(
        recipe,
        network=replace(recipe.network, widths=(64, 96, 160, 208), blocks=(4, 4, 2, 2)),
        phases=(Phase(0.8, 128, 64), Phase(0.2, 256, 16)),
        steps=24_000,
        validate_every=2_000,
        precision="bf16",
        compile=True,
    )


DENOISE, DERAIN, DEBLUR = larger(denoise()), larger(derain()), larger(deblur())
