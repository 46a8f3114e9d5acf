"""Low light on LOL's native crops: ours, at no more than the cost that the paper prints (7.73 M, 32.9 GMACs)."""

from dataclasses import replace

import common
import sets

from rddm.recipe import Average, Phase
from rddm.recipes import restore

OURS = restore()
RECIPE = replace(
    OURS,
    name="low-light",
    network=replace(OURS.network, widths=(64, 96, 160, 208), blocks=(4, 4, 2, 2)),
    expected="not measured yet; the goal is lol-256-y 25.39 dB, SSIM .937",
    phases=(Phase(0.7, 128, 64), Phase(0.3, 256, 16)),
    steps=24_000,
    validate_every=2_000,
    average=Average(0.999),
    frequency=0.05,
    precision="bf16",
    compile=True,
)

if __name__ == "__main__":
    common.main(common.Job("low-light", RECIPE, sets.LolCrops, sets.miniature_lol, "LOL-v1 train, 456 of 485 pairs"))
