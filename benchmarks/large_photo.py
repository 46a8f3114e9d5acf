"""A photo of 4000x3000 pixels on this machine: time, memory expected and used, and what is seen of the tiles."""

import resource
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

import rddm
from rddm.batch import describe
from rddm.restore import OVERLAP, prepare, run

SAMPLE = Path(__file__).resolve().parents[1] / "samples" / "low-light" / "input" / "22.png"


def large_photo(height: int = 3000, width: int = 4000) -> np.ndarray:
    """Return the sample scaled up, with noise of its own, as a camera of that size has."""
    photo = np.array(Image.open(SAMPLE).convert("RGB").resize((width, height), Image.Resampling.BICUBIC))
    random = np.random.default_rng(0)
    for rows in np.array_split(photo, 100):  # strip by strip: the peak of memory is to be the restoration's
        rows[:] = (rows + random.normal(0, 2, rows.shape)).clip(0, 255)
    return photo


def seams(model: rddm.Model, crop: np.ndarray, tile: int) -> float:
    """Return the mean absolute difference to the untiled result along the borders of tiles, in units of 1/255."""
    job = prepare(model, *crop.shape[:2], tile=tile)
    whole = run(prepare(model, *crop.shape[:2], tile=0), crop)
    difference = np.abs(run(job, crop).astype(float) - whole)
    lines = {tile.top + OVERLAP // 2 for row in job.rows[1:] for tile in row}  # square: tops and lefts are alike
    return float(np.mean([difference[y - 2 : y + 2].mean() + difference[:, y - 2 : y + 2].mean() for y in lines]) / 2)


def main() -> None:
    """Measure and print."""
    model, photo = rddm.load("low-light"), large_photo()
    job = prepare(model, *photo.shape[:2])
    print(describe(job))
    began = time.perf_counter()
    run(job, photo)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"{time.perf_counter() - began:.1f} s, {peak / 1e6:.0f} MB at most")
    for side in (256, 512):
        print(
            f"1024x1024 in tiles of {side}: {seams(model, photo[:1024, :1024], side):.3f}/255 from one piece at borders"
        )


if __name__ == "__main__":
    main()
