"""Protocols: what exactly is compared, under a name that every figure carries.

A published figure is a metric of two images after a resize, a colour conversion, a rounding and a mask, and each of
these moves it by more than methods differ: the raw inputs of LOL have 7.77 dB by ``lol-rgb`` and 18.78 by
``lol-rgb-gtmean``. So a protocol is an object: what is done to the photo before it is restored (``photo``), what of
output and target is compared (``align``), and which figures are computed (``measure``). ``docs/protocols.md`` tells
them one by one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from PIL import Image

from rddm import matlab
from rddm.errors import UserError
from rddm.fill import smooth_fill
from rddm.matlab import Bytes, imresize, luma
from rddm.metrics import check_shapes, lab_error, psnr, ssim
from rddm.testsets import ALL, Choice, Picture, chosen, pictures, pixels_of

Scores: TypeAlias = "dict[str, float]"


@dataclass(frozen=True)
class Protocol:
    """A way to compare.

    Arguments:
        name: what figures are called by.
        words: what is computed, in one sentence.
        photo: what is done to the degraded photo, RGB (H, W, 3) uint8, before it is restored.
        align: what of output and target is compared, from both as they are on disk; ValueError if they do not fit.
        measure: the figures of one aligned pair, and of a mask (H, W) of 8 bits where there is one.
        pooled: figures of all pixels of the set, each the mean of a figure weighted by another.
        masks: whether it looks at regions that masks mark.
        start: what the output is compared with as its input, from the degraded photo where there is one, the target
            and the mask; None if there is nothing.
    """

    name: str
    words: str
    photo: Callable[[Bytes], Bytes]
    align: Callable[[Bytes, Bytes], tuple[Bytes, Bytes]]
    measure: Callable[[Bytes, Bytes, Bytes | None], Scores]
    pooled: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    masks: Literal["none", "may", "must"] = "none"
    start: Callable[[Bytes | None, Bytes, Bytes | None], Bytes | None] = lambda degraded, target, mask: degraded

    def score(self, output: Bytes, target: Bytes, mask: Bytes | None = None) -> Scores:
        """Return the figures of one restored image against its target, "psnr" and "ssim" among them.

        Raises:
            ValueError: if the images do not fit each other or the protocol.
        """
        return self.measure(*self.align(output, target), mask)

    def seen(self, output: Bytes, target: Bytes) -> tuple[Bytes, Bytes]:
        """Return what learned metrics see: output and target as they are compared, but resized as ``photo`` does it."""
        ours, theirs = self.align(output, target)
        return (ours, theirs) if self.photo is unchanged else (self.photo(ours), self.photo(target))


def unchanged(image: Bytes) -> Bytes:
    """Return the image."""
    return image


def pillow_256(image: Bytes) -> Bytes:
    """Return an image at 256x256 by Pillow's bicubic, as the authors' loader makes what their network sees."""
    if image.shape[:2] == (256, 256):
        return image
    return np.asarray(Image.fromarray(image).resize((256, 256), Image.Resampling.BICUBIC))


def same_size(output: Bytes, target: Bytes) -> tuple[Bytes, Bytes]:
    """Return both as they are; ValueError unless of one size."""
    check_shapes(output, target)
    return output, target


def at_256(output: Bytes, target: Bytes) -> tuple[Bytes, Bytes]:
    """Return the output, and the target resized to it by ``imresize``; ValueError unless the output is 256x256."""
    if output.shape[:2] != (256, 256):
        raise ValueError(f"found an output of {output.shape[0]}x{output.shape[1]}, expected 256x256 (height x width)")
    return output, imresize(target, (256, 256))


def without_border(output: Bytes, target: Bytes) -> tuple[Bytes, Bytes]:
    """Return both less four pixels at each border; ValueError unless of one size, more than eight pixels a side."""
    check_shapes(output, target, 9)
    return output[4:-4, 4:-4], target[4:-4, 4:-4]


def either(output: Bytes, target: Bytes) -> tuple[Bytes, Bytes]:
    """Return both as they are, of whatever sizes."""
    return output, target


def to_target_mean(output: Bytes, target: Bytes) -> tuple[Bytes, Bytes]:
    """Return the output times ``mean(grey target) / mean(grey output)``, clipped and rounded, and the target.

    Grey is ``.299 R + .587 G + .114 B``, not rounded. A black output stays black.
    """
    check_shapes(output, target)
    grey = np.array([0.299, 0.587, 0.114])
    mean = float((output @ grey).mean())
    gain = float((target @ grey).mean()) / mean if mean > 0 else 1.0
    return np.floor((output * gain).clip(0, 255) + 0.5).astype(np.uint8), target


def on_rgb(output: Bytes, target: Bytes, mask: Bytes | None) -> Scores:
    """Return PSNR over all values of RGB, and the mean of the channels' SSIM of 2004."""
    return {"psnr": psnr(output, target), "ssim": ssim(output, target)}


def on_luma(output: Bytes, target: Bytes, mask: Bytes | None) -> Scores:
    """Return PSNR and SSIM of 2004 on the Y of ``rgb2ycbcr``, of 8 bits."""
    return on_rgb(luma(output), luma(target), mask)


def on_volume(output: Bytes, target: Bytes, mask: Bytes | None) -> Scores:
    """Return MATLAB's ``psnr`` and ``ssim`` of RGB arrays, the latter that of a volume."""
    return {"psnr": psnr(output, target), "ssim": matlab.ssim(output, target)}


def in_holes(output: Bytes, target: Bytes, mask: Bytes | None) -> Scores:
    """Return the PSNR over the values of RGB where the mask is not 0, and PSNR and SSIM of the whole photo.

    Raises:
        ValueError: if there is no mask, or it is of another size or marks nothing.
    """
    if mask is None:
        raise ValueError("found no mask, expected a --mask FOLDER or a degradation that draws one: irregular_mask(0.1)")
    if mask.shape != target.shape[:2] or not mask.any():
        found = "nothing marked" if mask.shape == target.shape[:2] else f"{mask.shape[1]}x{mask.shape[0]}"
        raise ValueError(f"mask: found {found}, expected {target.shape[1]}x{target.shape[0]}, white in the holes")
    whole = on_rgb(output, target, None)
    return {"psnr": psnr(output[mask > 0], target[mask > 0]), "ssim": whole["ssim"], "psnr-whole": whole["psnr"]}


def smoothly_filled(degraded: Bytes | None, target: Bytes, mask: Bytes | None) -> Bytes | None:
    """Return a photo with its holes filled smoothly from their rims; None without a mask or of another size."""
    photo = target if degraded is None else degraded
    return None if mask is None or mask.shape != photo.shape[:2] else smooth_fill(photo, mask).astype(np.uint8)


def of_shadows(output: Bytes, target: Bytes, mask: Bytes | None) -> Scores:
    """Return the error in Lab, PSNR and SSIM of the whole image, of the shadow and of the rest, all at 256x256.

    PSNR and SSIM are MATLAB's of doubles in [0, 1], resized without rounding, with zeros in both images outside the
    region and the mean over the whole image all the same. The error in Lab is of images resized in 8 bits, over the
    pixels of the region. The mask is resized in 8 bits too; what is not zero then is shadow.
    """
    size = (256, 256)
    a, b = (imresize(image / 255.0, size) for image in (output, target))
    lab_a, lab_b = (imresize(image, size) / 255.0 for image in (output, target))
    regions = {"": np.ones(size, bool)}
    if mask is not None:
        shadow = imresize(mask, size) != 0
        regions |= {"-shadow": shadow, "-rest": ~shadow}
    scores = {}
    for name, region in regions.items():
        x, y = a * region[..., None], b * region[..., None]
        scores |= {f"psnr{name}": psnr(x, y, 1), f"ssim{name}": matlab.ssim(x, y, 1)}
        scores |= {f"lab{name}": lab_error(lab_a, lab_b, region), f"pixels{name}": float(region.sum())}
    return scores


_SHADOW_POOLED = {f"lab{region}-by-pixel": (f"lab{region}", f"pixels{region}") for region in ("", "-shadow", "-rest")}
_ROWS = (
    Protocol("lol-rgb", "full size; PSNR and SSIM on RGB", unchanged, same_size, on_rgb),
    Protocol("lol-rgb-gtmean", "as lol-rgb, output scaled to the target's mean", unchanged, to_target_mean, on_rgb),
    Protocol("lol-256-y", "256x256, target by imresize; PSNR and SSIM on Y", pillow_256, at_256, on_luma),
    Protocol("raindrop-256-y", "256x256, target by imresize; PSNR and SSIM on Y", pillow_256, at_256, on_luma),
    Protocol("gopro-256-rgb", "256x256, target by imresize; MATLAB's psnr and ssim", pillow_256, at_256, on_volume),
    Protocol(
        "istd-256", "256x256; PSNR, SSIM and Lab, by region", pillow_256, either, of_shadows, _SHADOW_POOLED, "may"
    ),
    Protocol("rain100h-y", "full size; PSNR and SSIM on Y", unchanged, same_size, on_luma),
    Protocol("denoise-rgb", "full size; PSNR and SSIM on RGB", unchanged, same_size, on_rgb),
    Protocol("deblur-rgb", "full size; PSNR and SSIM on RGB", unchanged, same_size, on_rgb),
    Protocol("jpeg-rgb", "full size; PSNR and SSIM on RGB", unchanged, same_size, on_rgb),
    Protocol("sr4-y", "full size less 4 pixels at each border; PSNR and SSIM on Y", unchanged, without_border, on_luma),
    Protocol("real-noise-rgb", "full size; PSNR and SSIM on RGB", unchanged, same_size, on_rgb),
    Protocol(
        "holes", "full size; PSNR on RGB within the holes, SSIM of the whole; the input is the smooth filling",
        unchanged, same_size, in_holes, masks="must", start=smoothly_filled,
    ),
)  # fmt: skip
PROTOCOLS = {row.name: row for row in _ROWS}
OF_SETS = ("generation", "translation")  # compare sets of images, not pairs: rddm.setevaluate


def protocol_named(name: str) -> Protocol:
    """Return a protocol.

    Raises:
        UserError: if there is none of that name.
    """
    if name not in PROTOCOLS:
        raise UserError(f"--protocol: found {name!r}, expected one of {', '.join((*PROTOCOLS, *OF_SETS))}")
    return PROTOCOLS[name]


class Case(NamedTuple):
    """The files of one image: its name, its target, the degraded photo or the output, and a mask where there is one."""

    name: str
    target: Picture
    other: Picture | None = None
    mask: Picture | None = None


def read_pairs(clean: Path, other: Path | None, mask: Path | None = None, choice: Choice = ALL) -> list[Case]:
    """Return the images that belong together by their names without suffix, in the order of the names.

    Arguments:
        clean: targets, as ``rddm.testsets`` reads them.
        other: degraded photos or outputs; none if None.
        mask: masks; none if None.
        choice: which of them. Where a file names them, what is beside them does not matter; else all must pair.

    Raises:
        UserError: if a set holds no photo or one name twice, or an image has no partner.
    """
    targets = pictures(clean)
    others, masks = ({} if source is None else pictures(source) for source in (other, mask))
    wanted = chosen(targets, clean, Choice(choice.names))
    for source, files in ((other, others), (mask, masks)):
        beside = files.keys() if choice.names is None else files.keys() & wanted.keys()
        lonely = sorted(wanted.keys() ^ beside) if source is not None else []
        if lonely:
            here = clean if lonely[0] in targets else source
            counts = f"{len(wanted)} and {len(files)} photos"
            raise UserError(f"{clean}, {source}: {lonely[0]} is only in {here}, expected pairs by name ({counts})")
    kept = chosen(wanted, clean, Choice(images=choice.images))
    return [Case(name, target, others.get(name), masks.get(name)) for name, target in kept.items()]


def read_rgb(picture: Picture) -> Bytes:
    """Return a photo as RGB of 8 bits (``rddm.testsets.pixels_of``)."""
    return pixels_of(picture)


def read_mask(picture: Picture) -> Bytes:
    """Return a mask of 8 bits (H, W): the first channel of a photo.

    Raises:
        UserError: if it cannot be read.
    """
    return read_rgb(picture)[..., 0]
