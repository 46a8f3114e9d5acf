"""Low light on LOL's native crops with the bundled small network, from the bundled weights on, on one CPU core.

``--stage longer`` is an hour; ``--stage lit``, ten minutes, adds crops with bright parts, which LOL has none of.
Today's bundled weights are what both made of those bundled at 191aaa4 (docs/low-light.md).
"""

from dataclasses import replace

import common
import sets

from rddm.model import BUNDLED, CONFIG
from rddm.recipe import Phase, continued
from rddm.recipes import restore
from rddm.spec import read_spec

LONGER = replace(
    continued(restore(), read_spec(BUNDLED / "low-light" / CONFIG), "low-light"),
    name="low-light",
    expected="lol-256-y 25.11 dB, from 24.88",
    steps=20_000,
    phases=(Phase(0.7, 128, 4), Phase(0.3, 256, 1)),
    lr=4e-4,
    precision="bf16",
    metric="ssim-rgb",  # PSNR on the held-out crops wavers with exposure, by half a dB
)
LIT = replace(LONGER, steps=4_000, lr=2e-4, expected="highlights that stay")
DATA = "LOL-v1 train, 456 of 485 pairs"
STAGES = {
    "longer": common.Job("low-light-longer", LONGER, sets.LolCrops, sets.miniature_lol, DATA),
    "lit": common.Job("low-light-lit", LIT, sets.LitCrops, sets.miniature_lol, f"{DATA}, 114 also lit", sets.lit),
}

if __name__ == "__main__":
    common.main(STAGES[common.taken("--stage", STAGES)])
