"""Both stages of a restoration: the least error first, then realism (``--realism 0..1``).

A model of one step answers with the mean of all photos that fit, and looks it. Its second stage, which its
specification names, is a flow from that answer with a little noise to a sharp photo (row ``pmrf``: Ohayon et al.,
Posterior-Mean Rectified Flow, ICLR 2025). The dial goes straight from the one to the other: ``(1 - r) mean + r
sample``. If the flow is the optimal transport that it approximates, no other estimate of that realism has less error
(Freirich et al., A Theory of the Distortion-Perception Tradeoff in Wasserstein Space, NeurIPS 2021).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rddm.errors import UserError
from rddm.model import Model, companion_of
from rddm.nn.pooled import Tape
from rddm.photo import Pixels, to_float
from rddm.restore import Job, Source, check_strength, decide, mixed, prepare, restore_tile, run, wants_mask
from rddm.tiles import NoiseField, Tile

if TYPE_CHECKING:
    from PIL.Image import Image

APART = 1 << 40  # added to the seed of the second stage: its noise is not the first's


@dataclass(frozen=True)
class PartWay:
    """Restores a tile and goes a share of the way to it, from what the tile was.

    Arguments:
        share: 0 leaves the tile, 1 is the whole way.
    """

    share: float

    def __call__(
        self, job: Job, source: Source, tile: Tile, field: NoiseField, tape: Tape | None
    ) -> NDArray[np.float32]:
        """Return the tile, float32 (height, width, 3) in [0, 1]."""
        made = restore_tile(job, source, tile, field, tape)
        before = to_float(source.pixels[tile.top : tile.bottom, tile.left : tile.right])
        return made if self.share == 1 else before + np.float32(self.share) * (made - before)


def check_realism(model: Model, realism: float) -> None:
    """Check that a model can be asked for realism.

    Raises:
        UserError: if the number is out of range, or the model has no second stage.
    """
    if not 0 <= realism <= 1:
        raise UserError(f"--realism: found {realism:g}, expected 0 (least error) to 1")
    if realism and model.spec.realism is None:
        raise UserError(f"{model.spec.name}: names no second stage, expected --realism 0, or a model that has one")


def second_job(
    model: Model, height: int, width: int, seed: int = 0, tile: int | None = None, steps: int | None = None
) -> Job:
    """Decide how the second stage of a model goes over a photo; arguments are those of :func:`rddm.restore.prepare`.

    Raises:
        UserError: if there is none, it is unfit, or a number is out of range.
    """
    second = companion_of(model)
    method, network = second.spec.method, second.spec.network
    unknown = {*method.inputs, *method.context} - {"x_in", *(("mask",) if wants_mask(model.spec) else ())}
    if method.origin != "input" or unknown or (network.out_channels, network.dims) != (3, 2):
        found = f"origin {method.origin}, inputs {', '.join((*method.inputs, *method.context)) or 'none'}"
        raise UserError(f"{second.spec.name}: found {found}, expected a second stage, which sees a restored photo")
    return decide(second, height, width, steps, None, seed + APART, tile)


def restored(
    model: Model,
    pixels: Pixels,
    steps: int | None = None,
    seed: int = 0,
    mask: Pixels | None = None,
    realism: float = 0.0,
    strength: float = 1.0,
) -> Pixels:
    """Return restored pixels of the shape and dtype of ``pixels``, by one stage or by two.

    Arguments:
        model: the first stage.
        pixels: (H, W, 1 or 3), uint8 or uint16.
        steps: network calls of the first stage; the model's default if None.
        seed: of the noise.
        mask: (H, W, 1 or 3), for models that are shown one.
        realism: 0 is the first stage alone, 1 the whole second one.
        strength: share of the restored photo, from 0 (``pixels`` exactly) to 1.

    Raises:
        UserError: if the model is not fit, or a number is out of range.
    """
    check_realism(model, realism)
    given = () if mask is None else ("mask",)
    job = prepare(model, *pixels.shape[:2], steps=steps, seed=seed, given=given)
    if realism == 0:
        return run(job, pixels, mask=mask, strength=strength)
    check_strength(strength)
    out, second = run(job, pixels, mask=mask), second_job(model, *pixels.shape[:2], seed=seed)
    made = run(second, out, mask=shown_to(second, mask), restore=PartWay(realism), out=out)
    return made if strength == 1 else mixed(made, pixels, strength)


def shown_to(job: Job, mask: Pixels | None) -> Pixels | None:
    """Return the mask for a stage that is shown one."""
    return mask if wants_mask(job.model.spec) else None


def restore_image(
    model: Model,
    image: "Image",
    steps: int | None = None,
    seed: int = 0,
    mask: "Image | None" = None,
    strength: float = 1.0,
    realism: float = 0.0,
) -> "Image":
    """Return a Pillow image restored, its alpha kept; grey stays grey, everything else becomes RGB of 8 bits."""
    from PIL import Image

    grey = image.mode in ("L", "LA", "1")
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    pixels = np.asarray(image.convert("L" if grey else "RGB"))
    pixels = pixels[..., None] if grey else pixels
    shown = None if mask is None else np.asarray(mask.convert("L"))[..., None]
    out = restored(model, pixels, steps, seed, shown, realism, strength)
    made = Image.fromarray(out[..., 0] if grey else out)
    if alpha is not None:
        made.putalpha(alpha)
    return made
