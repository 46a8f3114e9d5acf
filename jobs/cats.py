"""Generation of AFHQ's cats at 64x64: SM-N, as the paper's generation."""

from dataclasses import replace

import common
import sets

from rddm.recipe import Average, Phase
from rddm.recipes import generate

OURS = generate()
RECIPE = replace(
    OURS,
    name="cats",
    network=replace(OURS.network, widths=(96, 160, 224), blocks=(2, 2, 2)),
    phases=(Phase(1.0, 64, 128),),
    steps=60_000,
    validate_every=5_000,
    lr=4e-4,
    average=Average(0.9995),
    precision="bf16",
    compile=True,
)

if __name__ == "__main__":
    common.main(common.Job("cats", RECIPE, sets.cats, sets.miniature_cats, "AFHQ cats 64x64, CC BY-NC 4.0"))
