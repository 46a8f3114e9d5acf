"""Write a labelled contact sheet of all degradations of a photograph, and print how long each takes.

Usage: ``python examples/degradations.py PHOTO [OUT]``; OUT is out/degradations.png unless given.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from rddm.degradations import parse
from rddm.photo import read_photo, to_float

SIDE, COLUMNS, LABEL, GAP = 176, 5, 16, 3
TEXTS = (
    "noise(25)", "shot(50)", "camera(3200, well=10000)", "low_light(4, iso=800)", "blur(2)", "defocus(4)",
    "motion(15, 30)", "shake(20)", "downscale(4)", "jpeg(10)", "rain", "rain(150, 30, 12)", "heavy_rain", "drops",
    "drops(8, radius=12..20)", "haze(2)", "shadow", "shadow(0.8, softness=12)", "centre_mask",
    "irregular_mask(0.3)", "shake(8) + camera + jpeg(60)", "haze(1) + rain",
    "low_light(3) + downscale(2)", "shadow + blur(1) + jpeg(20)",
)  # fmt: skip


def clean(path: Path) -> torch.Tensor:
    """Return the middle of a photograph, (3, SIDE, SIDE) in [0, 1]."""
    pixels = read_photo(path).pixels
    top, left = (pixels.shape[0] - SIDE) // 2, (pixels.shape[1] - SIDE) // 2
    crop = np.ascontiguousarray(pixels[top : top + SIDE, left : left + SIDE].transpose(2, 0, 1))
    return torch.from_numpy(to_float(crop)).expand(3, -1, -1)


def milliseconds(text: str, image: torch.Tensor, runs: int = 20) -> float:
    """Return the median time of one call, in ms."""
    degrade, generator, times = parse(text), torch.Generator().manual_seed(0), []
    for _ in range(runs):
        start = time.perf_counter()
        degrade(image, generator)
        times.append(1e3 * (time.perf_counter() - start))
    return sorted(times)[runs // 2]


def sheet(panels: dict[str, torch.Tensor]) -> Image.Image:
    """Return the labelled pictures in rows."""
    rows = -(-len(panels) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * (SIDE + GAP) - GAP, rows * (SIDE + LABEL + GAP) - GAP), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(11)
    for place, (text, image) in enumerate(panels.items()):
        x, y = place % COLUMNS * (SIDE + GAP), place // COLUMNS * (SIDE + LABEL + GAP)
        pixels = image.clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        page.paste(Image.fromarray(pixels), (x, y + LABEL))
        pen.text((x + 2, y + 2), text, "black", font)
    return page


def main() -> None:
    """Degrade, time and draw."""
    if len(sys.argv) < 2:
        sys.exit("usage: degradations.py PHOTO [OUT.png or OUT.jpg]")
    torch.set_num_threads(1)
    image, out = clean(Path(sys.argv[1])), Path(sys.argv[2] if len(sys.argv) > 2 else "out/degradations.png")
    panels = {"clean": image}
    for seed, text in enumerate(TEXTS):
        panels[text] = parse(text)(image, torch.Generator().manual_seed(seed)).image
        small = image[:, :128, :128].contiguous()
        print(f"{text:40} {milliseconds(text, small):6.2f} ms at 128 x 128, one thread")
    out.parent.mkdir(exist_ok=True)
    sheet(panels).save(out, quality=78)
    print(f"{out}: {len(panels)} pictures")


if __name__ == "__main__":
    main()
