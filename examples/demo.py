"""Restore three real night photos, print PSNR before and after, and write a picture to look at: ``make demo``."""

from pathlib import Path

import numpy as np
from PIL import Image

import rddm

SAMPLES = Path(__file__).resolve().parents[1] / "samples" / "low-light"
OUT = Path("out")


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of two images of 8 bits: RGB at full size (protocol lol-rgb), in dB."""
    return float(10 * np.log10(255**2 / np.mean((a.astype(np.float64) - b) ** 2)))


def main() -> None:
    """Restore and compare."""
    model = rddm.load("low-light")
    rows = []
    for file in sorted((SAMPLES / "input").glob("*.png"), key=lambda path: int(path.stem)):
        dark, target = Image.open(file).convert("RGB"), Image.open(SAMPLES / "target" / file.name).convert("RGB")
        restored = model.restore(dark)
        before, after = (psnr(np.asarray(image), np.asarray(target)) for image in (dark, restored))
        print(f"{file.name}: PSNR {before:.2f} -> {after:.2f} dB (lol-rgb)")
        rows.append(np.concatenate([np.asarray(image) for image in (dark, restored, target)], axis=1))
    OUT.mkdir(exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(OUT / "demo.png")
    print(f"{OUT / 'demo.png'}: dark | restored | long exposure")


if __name__ == "__main__":
    main()
