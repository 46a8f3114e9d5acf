"""A DDPM of diffusers as a model of ours: ``python experiments/conversion.py --out runs/conversion``.

Trains two small ones on AFHQ's cats (once, in four minutes), one to predict the noise and one ``v``, converts them, and
prints by how much the samples of diffusers' own schedulers differ from ours. Then readjusts ``abar``, and ``bbar`` too,
after training (``readjusting.py``): which readjustments keep the images, and what should the network be told for the
time? Writes ``conversion.json`` and ``conversion.png``; ``docs/conversion.md`` tells the rest.
"""

import argparse
import json
from pathlib import Path

import diffusers_ddpm
import readjusting
import sets
import torch

from rddm.convert_diffusers import convert_diffusers
from rddm.model import load
from rddm.report import Table, show

STEPS = (5, 10, 15, 20, 100, 1000)
UPDATES = {"epsilon": 150, "v_prediction": 1100}  # the second is readjusted: see docs/conversion.md


def arguments() -> argparse.Namespace:
    """Parse the options; ``--smoke`` makes its own data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/afhq_cat"))
    parser.add_argument("--out", type=Path, default=Path("runs/conversion"))
    parser.add_argument("--count", type=int, default=16, help="images for each readjustment")
    parser.add_argument("--steps", type=int, default=50, help="of each readjusted path")
    parser.add_argument("--smoke", action="store_true", help="in small, on data of its own, no picture")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    options.side, options.counts, options.updates = 16, STEPS, UPDATES
    if options.smoke:
        options.side, options.counts, options.updates = 8, STEPS[:2], dict.fromkeys(UPDATES, 2)
        options.data, options.count, options.steps = options.out, 3, 4
        sets.miniature_cats(options.data)
    return options


@torch.inference_mode()
def measured(options: argparse.Namespace, folders: dict[str, Path]) -> None:
    """Convert, compare with diffusers, readjust, print and write."""
    models = {name: load(f"{folder}-converted") for name, folder in folders.items()}
    apart = diffusers_ddpm.differences(folders, models, options.counts)
    rows = [[name, *(f"{value:.1e}" for value in row.values())] for name, row in apart.items()]
    show(Table(("max |difference| in steps:", *map(str, options.counts)), rows))
    eps = torch.randn(options.count, 3, options.side, options.side, generator=torch.Generator().manual_seed(0))
    images = readjusting.images_of(models["v_prediction"], eps, options.steps)
    readjusted = readjusting.compared(images)
    show(readjusting.table(readjusted))
    report = {"updates": options.updates, "differences": apart, "readjusted": readjusted}
    (options.out / "conversion.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if not options.smoke:
        readjusting.picture(images, options.out / "conversion.png")


def main() -> None:
    """Train what is not trained yet, convert it, measure; a folder's name tells how many updates it had."""
    options = arguments()
    torch.set_num_threads(1)
    folders = {name: options.out / f"{name}-{updates}" for name, updates in options.updates.items()}
    for name, folder in folders.items():
        if not folder.exists():
            diffusers_ddpm.train(options.data / sets.CATS, folder, options.side, options.updates[name], name)
        convert_diffusers(folder, Path(f"{folder}-converted"))
    measured(options, folders)


if __name__ == "__main__":
    main()
