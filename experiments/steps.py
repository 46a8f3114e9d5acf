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

import torch

from rddm.comparison import Figures, figures
from rddm.draws import Draws
from rddm.engines import ENGINES
from rddm.model import load
from rddm.pairs import hold_out
from rddm.recipes import restore
from rddm.report import Table, show
from rddm.validate import bytes_of, restored

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "jobs"))
import sets

STEPS = (1, 2, 5, 10)


def measured(draws: Draws, engine: str, steps: int) -> Figures:
    """Return the means over what was held out."""
    model = load("low-light").optimize(engine)
    model.spec = replace(model.spec, method=replace(model.spec.method, steps=steps))
    pairs = []
    for i in range(len(draws.chosen)):
        pieces, out = restored(model, draws, i)
        pairs.append([torch.tensor(bytes_of(side)).permute(2, 0, 1) / 127.5 - 1 for side in (out, pieces["clean"])])
    images, targets = map(torch.stack, zip(*pairs, strict=True))
    return figures(images, targets)


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
        for engine in (name for name, engine in ENGINES.items() if engine.runs(torch.device("cpu"))):
            results[f"{steps} {engine}"] = measured(draws, engine, steps)
    rows = [[*name.split(), *(f"{value:.4f}" for value in row.values())] for name, row in results.items()]
    show(Table(("steps", "engine", "PSNR", "SSIM", "texture apart"), rows))
    (options.out / "steps.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
