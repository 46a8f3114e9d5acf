"""What clipping noise to 8 bits costs: ``python experiments/unclipped.py --data ../shared/data --out runs/unclipped``.

Published tables of denoising add noise to floats and leave it there; ``rddm evaluate`` makes files of it, rounded and
clipped to 0..255. The bundled denoiser on CBSD68 with one draw of noise, three ways: as published, rounded alone, as
files. Outputs are clipped and rounded in all three; PSNR on RGB, the mean over images. Writes ``unclipped.json``.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rddm import load, sample
from rddm.matlab import Bytes
from rddm.metrics import psnr, unit_range
from rddm.model import Model
from rddm.path import gaussian
from rddm.protocols import read_rgb

SAMPLES = Path(__file__).resolve().parents[1] / "samples/low-light/target"


def noisy(target: Bytes, sigma: float, seed: int) -> dict[str, Tensor]:
    """Return a target with the same noise kept three ways, each (1, 3, H, W) in 255ths."""
    clean = unit_range(target) * 255
    unclipped = clean + sigma * gaussian(torch.Generator().manual_seed(seed))(clean)
    return {"unclipped": unclipped, "rounded": unclipped.round(), "clipped": unclipped.round().clamp(0, 255)}


def restored(model: Model, photo: Tensor) -> Bytes:
    """Return what the model makes of a photo in 255ths, in its own number of calls, as it would be saved."""
    method, noise = model.spec.method, gaussian(torch.Generator().manual_seed(0))
    x_0 = sample(model.denoiser({}), photo / 127.5 - 1, method.path.grid(method.steps), noise=noise)
    return ((x_0[0] + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/unclipped"))
    parser.add_argument("--quick", action="store_true", help="corners of the repository's own samples, one level")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.quick:
        targets, sigmas = [read_rgb(file)[:64, :64] for file in sorted(SAMPLES.glob("*.png"))], (50,)
    else:
        names = sorted((options.data / "bsds500/cbsd68.txt").read_text(encoding="utf-8").split())
        targets = [read_rgb(options.data / "bsds500/val" / f"{name}.jpg") for name in names]
        sigmas = (15, 25, 50)
    model, table = load("denoise"), {}
    with torch.inference_mode():
        for sigma in sigmas:
            rows = []
            for seed, target in enumerate(targets):
                photos = noisy(target, sigma, seed)
                rows.append({key: psnr(restored(model, photo), target) for key, photo in photos.items()})
            table[str(sigma)] = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
            print(
                f"{sigma}: " + ", ".join(f"{key} {value:.4f} dB" for key, value in table[str(sigma)].items()),
                flush=True,
            )
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "unclipped.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
