"""All rows that restore, on equal terms: ``python experiments/compare_methods.py --data ../shared/data``.

Low light (LOL as the paper prepares it, equalised, the whole photograph at 64x64) and noise (BSDS500 pieces, sigma 50
of 255). One network and one budget; what is held out is contiguous by name, and no test split is touched. Writes what
``rddm compare-methods`` writes, in a folder for each task; docs/comparison.md tells the rest.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from rddm.comparison import Terms, compared

TASKS = {
    "low-light": (
        Terms(fit="resize", batch=16),
        {"clean": "lol/train_256/target", "degraded": "lol/train_256/input_equalised"},
    ),
    "noise": (Terms(degrade="noise(50)", batch=16), {"clean": "bsds500/train"}),
}
QUICK, FULL = 200, 1500  # updates


def miniature(folder: Path) -> None:
    """Write data of the same layout, but tiny."""
    draw = np.random.default_rng(0)
    for name in {path for _, sources in TASKS.values() for path in sources.values()}:
        (folder / name).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(draw.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / name / f"{i}.png")


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/compare"))
    parser.add_argument("--task", choices=list(TASKS), action="append", help="both if not given")
    parser.add_argument("--methods", default="", metavar="A,B", help="all that restore if empty")
    parser.add_argument("--updates", type=int, default=FULL, help="of each training (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (%(default)s)")
    parser.add_argument("--loss", default="l1", help="of all rows (%(default)s)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} updates, low light alone")
    parser.add_argument("--smoke", action="store_true", help="in small, on data of its own")
    options = parser.parse_args()
    torch.set_num_threads(1)
    updates, tasks = (
        (QUICK if options.quick else options.updates),
        options.task or list(TASKS)[: 1 if options.quick else None],
    )
    if options.smoke:
        options.data, updates, options.methods = Path(tempfile.mkdtemp()), 2, "rddm-res,sr3"
        miniature(options.data)
    for task in tasks:
        terms, sources = TASKS[task]
        terms = replace(
            terms,
            updates=updates,
            loss=options.loss,
            seed=options.seed,
            **({"side": 16, "batch": 2} if options.smoke else {}),
        )
        found = {kind: options.data / path for kind, path in sources.items()}
        compared(terms, found, [name for name in options.methods.split(",") if name], options.out / task)


if __name__ == "__main__":
    main()
