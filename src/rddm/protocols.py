"""Protocols: what exactly is compared, under a name that every figure carries.

* ``lol-rgb``: the photo restored at its own size; PSNR and SSIM on RGB.
* ``lol-256-y``: as the paper's evaluation of LOL: input and target resized to 256x256 (bicubic with antialiasing), the
  output compared with the target on the Y of MATLAB's ``rgb2ycbcr``.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from rddm.errors import UserError
from rddm.metrics import Bytes, luma, psnr, ssim
from rddm.model import Model
from rddm.photo import find_photos
from rddm.restore import prepare, run

Pair: TypeAlias = "tuple[Bytes, Bytes]"


@dataclass(frozen=True)
class Score:
    """The figures of one image, or their means."""

    psnr: float
    ssim: float


@dataclass(frozen=True)
class Protocol:
    """A way to compare.

    Arguments:
        name: what figures are called by.
        resize: what is done to the photo and to its target, RGB (H, W, 3), before the photo is restored.
        view: what of an image is compared.
    """

    name: str
    resize: Callable[[Bytes], Bytes]
    view: Callable[[Bytes], Bytes]

    def score(self, output: Bytes, target: Bytes) -> Score:
        """Return the figures of one restored image against its target."""
        a, b = self.view(output), self.view(target)
        return Score(psnr(a, b), ssim(a, b))


def to_256(image: Bytes) -> Bytes:
    """Return an image resized to 256x256, bicubic with antialiasing."""
    return np.asarray(Image.fromarray(image).resize((256, 256), Image.Resampling.BICUBIC))


def unchanged(image: Bytes) -> Bytes:
    """Return the image."""
    return image


PROTOCOLS = {
    "lol-rgb": Protocol("lol-rgb", unchanged, unchanged),
    "lol-256-y": Protocol("lol-256-y", to_256, luma),
}


def read_pairs(clean: Path, degraded: Path) -> list[tuple[str, Path, Path]]:
    """Return name, clean and degraded file of the photos that both folders hold, in the order of their names.

    Raises:
        UserError: if a photo has no partner.
    """
    sides = [{path.stem: path for path in find_photos([str(folder)])} for folder in (clean, degraded)]
    lonely = sorted(sides[0].keys() ^ sides[1].keys())
    if lonely:
        raise UserError(f"{clean}, {degraded}: {lonely[0]} is in one folder only, expected pairs of the same name")
    return [(name, sides[0][name], sides[1][name]) for name in sorted(sides[0])]


def evaluate(
    model: Model, protocol: Protocol, clean: Path, degraded: Path, steps: int | None = None, seed: int = 0
) -> dict[str, Score]:
    """Return the figures of each pair of two folders, and their means under "mean".

    Raises:
        UserError: if the folders do not pair, or two images differ in size.
    """
    scores: dict[str, Score] = {}
    for name, target_file, input_file in read_pairs(clean, degraded):
        target, photo = (protocol.resize(np.asarray(Image.open(f).convert("RGB"))) for f in (target_file, input_file))
        if target.shape != photo.shape:
            raise UserError(f"{input_file}: found {photo.shape[:2]}, expected the {target.shape[:2]} of {target_file}")
        job = prepare(model, *photo.shape[:2], steps=steps, seed=seed)
        scores[name] = protocol.score(np.asarray(run(job, photo), np.uint8), target)
    mean = [float(np.mean([getattr(score, field) for score in scores.values()])) for field in ("psnr", "ssim")]
    return {**scores, "mean": Score(*mean)}


def to_json(scores: dict[str, Score]) -> str:
    """Return figures as JSON."""
    return json.dumps({name: asdict(score) for name, score in scores.items()}, indent=2)
