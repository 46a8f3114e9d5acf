"""Input, output and target of every bundled restoration on photographs it was not trained on: ``make pictures``.

Not picked for looks: the models in the order of their names are given the sample photographs in the order of theirs,
round and round; the degradation is one that the model's card was scored with, by seed 0 (for ``denoise-real``, which is
scored on real pairs, a camera at ISO 3200); what is shown is the middle of the photograph, pixel by pixel. Writes
docs/models.jpg and prints PSNR of input and output over the whole photograph.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import rddm
from rddm.degradations import parse
from rddm.draws import generator_of, synthesised
from rddm.metrics import psnr

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "samples" / "low-light"
WIDTH, HEIGHT, BAND = 400, 260, 22


def shown() -> dict[str, tuple[str, str]]:
    """Return the degradation of each model's picture, empty for a real pair, and the name of its sample."""
    samples = sorted((path.stem for path in (SAMPLES / "target").glob("*.png")), key=int)
    degradations = {
        "all-in-one": "noise(25)", "deblur": "motion(11) + noise(1)", "denoise": "noise(25)",
        "denoise-real": "camera(3200)", "derain": "heavy_rain", "jpeg": "jpeg(10)", "low-light": "",
        "upscale": "downscale(4)",
    }  # fmt: skip
    return {name: (degradations[name], samples[i % len(samples)]) for i, name in enumerate(sorted(degradations))}


def row(name: str, text: str, sample: str) -> Image.Image:
    """Return input, output and target of a model side by side, with a line above."""
    target = np.asarray(Image.open(SAMPLES / "target" / f"{sample}.png").convert("RGB"))
    real = np.asarray(Image.open(SAMPLES / "input" / f"{sample}.png").convert("RGB"))
    degraded = synthesised(parse(text), target, generator_of(0))["degraded"] if text else real
    restored = np.asarray(rddm.load(name).restore(Image.fromarray(degraded)))
    before, after = psnr(degraded, target), psnr(restored, target)
    words = f"{name}: sample {sample}, {text or 'short exposure'}: {before:.2f} -> {after:.2f} dB (RGB)"
    print(words)
    top, left = (target.shape[0] - HEIGHT) // 2, (target.shape[1] - WIDTH) // 2
    middle = [image[top : top + HEIGHT, left : left + WIDTH] for image in (degraded, restored, target)]
    out = Image.new("RGB", (3 * WIDTH, HEIGHT + BAND), "white")
    ImageDraw.Draw(out).text((6, 3), words, "black", ImageFont.load_default(15))
    out.paste(Image.fromarray(np.concatenate(middle, axis=1)), (0, BAND))
    return out


def main() -> None:
    """Write the picture."""
    rows = [row(name, *how) for name, how in shown().items()]
    sheet = Image.new("RGB", (3 * WIDTH, len(rows) * (HEIGHT + BAND)))
    for i, part in enumerate(rows):
        sheet.paste(part, (0, i * (HEIGHT + BAND)))
    sheet.save(ROOT / "docs" / "models.jpg", quality=85)


if __name__ == "__main__":
    main()
