"""What the bundled generator, inpainter and translator make: ``python examples/generators.py --data ../shared/data``.

Not picked for looks: the first 24 images of seed 0; the first of the sample photographs by name, with holes drawn by
seed 0; dogs spread evenly over the data set, each with three translations by the generator, then by the translator.
Writes docs/generators.jpg.
"""

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "jobs"))

import numpy as np
import sets
from PIL import Image

from rddm import load
from rddm.degradations import parse
from rddm.draws import generator_of, synthesised
from rddm.generate import generate, larger, sheet
from rddm.inpaint import inpaint
from rddm.photo import Pixels
from rddm.translate import centre_square, translate

ROOT = Path(__file__).resolve().parents[1]
COLUMNS, WIDTH = 12, 1200


def cats() -> Pixels:
    """Return images from noise."""
    return larger(sheet(generate(load("cats"), 2 * COLUMNS), COLUMNS), 3)


def filled() -> Pixels:
    """Return a photograph with holes, filled, and as it was."""
    clean = np.asarray(Image.open(sorted((ROOT / "samples/low-light/target").glob("*.png"))[0]).convert("RGB"))
    made = synthesised(parse("irregular_mask(0.08)"), clean, generator_of(0))
    out = inpaint(load("inpaint"), clean, np.ascontiguousarray(made["mask"][..., 0]))
    return sheet(np.stack([made["degraded"], out, clean]), 3)


def cats_of_dogs(data: Path, name: str) -> Pixels:
    """Return dogs, each with three translations."""
    model, dogs = load(name), sets.Packed(data / "cats_dogs" / sets.DOGS).images
    found = []
    for dog in dogs[:: len(dogs) // 6][:6]:
        found += [centre_square(dog, model.spec.side or 64), *translate(model, dog, 3)]
    return larger(sheet(np.stack(found), COLUMNS), 3)


def pictures(data: Path) -> list[Pixels]:
    """Return the parts of the picture."""
    return [cats(), filled(), *(cats_of_dogs(data, name) for name in ("cats", "translate"))]


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    options = parser.parse_args()
    parts = [Image.fromarray(part) for part in pictures(options.data)]
    parts = [part.resize((WIDTH, round(part.height * WIDTH / part.width)), Image.Resampling.LANCZOS) for part in parts]
    picture = Image.new("RGB", (WIDTH, sum(part.height + 10 for part in parts)), "white")
    top = 0
    for part in parts:
        picture.paste(part, (0, top))
        top += part.height + 10
    picture.save(ROOT / "docs" / "generators.jpg", quality=85)


if __name__ == "__main__":
    main()
