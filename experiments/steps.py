"""How many steps, and which engine, for the low-light model: ``python experiments/steps.py --data .jobdata/low-light``.

On what its training held out (24 crops of LOL's training photographs, as ``jobs/pack.py`` lays them out): PSNR and
SSIM in RGB, and how far apart the texture of outputs and targets is (rms of wavelet features). What comes out chose the
default; the test split is not touched. Writes ``steps.json``.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from rddm.draws import Draws
from rddm.metrics import psnr, ssim
from rddm.model import load
from rddm.pairs import hold_out
from rddm.recipes import restore
from rddm.report import Table, show
from rddm.setdistance import features
from rddm.validate import bytes_of, restored

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "jobs"))
import sets

STEPS, ENGINES = (1, 2, 5, 10), ("float32", "int8")


def figures(draws: Draws, engine: str, steps: int) -> dict[str, float]:
    """Return the means over what was held out."""
    model = load("low-light").optimize(engine)
    model.spec = replace(model.spec, method=replace(model.spec.method, steps=steps))
    pairs = []
    for i in range(len(draws.chosen)):
        pieces, out = restored(model, draws, i)
        pairs.append((bytes_of(out), bytes_of(pieces["clean"])))
    found, target = (
        features(torch.stack([torch.tensor(pair[side]).permute(2, 0, 1) / 127.5 - 1 for pair in pairs]))
        for side in (0, 1)
    )
    return {
        "psnr": float(np.mean([psnr(*pair) for pair in pairs])),
        "ssim": float(np.mean([ssim(*pair) for pair in pairs])),
        "texture": float((found - target).square().mean().sqrt()),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(".jobdata/low-light"))
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--smoke", action="store_true", help="on tiny data of its own, one step")
    options = parser.parse_args()
    if options.smoke:
        options.data = options.out / "miniature"
        sets.miniature_lol(options.data)
    recipe = restore()
    photos = sets.LolCrops(options.data, recipe)
    _, held = hold_out(len(photos))
    draws, results = Draws(photos, held, recipe), {}
    for steps in STEPS[: 1 if options.smoke else None]:
        for engine in ENGINES:
            results[f"{steps} {engine}"] = figures(draws, engine, steps)
    rows = [[*name.split(), *(f"{value:.4f}" for value in row.values())] for name, row in results.items()]
    show(Table(("steps", "engine", "PSNR", "SSIM", "texture apart"), rows))
    (options.out / "steps.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
