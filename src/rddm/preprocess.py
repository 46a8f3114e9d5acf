"""What a network may know of the whole photograph: its equalised copy, its quantiles, a thumbnail.

Histogram equalisation replaces each value by its rank in the whole image, channel by channel. As an input of its own it
tells a network how a pixel relates to the photograph, through a table of 256 entries: made once, applied to any tile,
exact for any size. (The paper replaces the low-light input by it; we show both.) The same table, read backwards, gives
the quantiles of the photograph, a vector that tells its exposure and white balance. A thumbnail of the equalised
photograph tells what it shows.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8 | np.uint16]
ROWS = 256  # looked at together: a copy of a large photograph is large
CONDITIONS = {"degraded", "equalised", "quantiles", "thumbnail"}  # what can be told of any photograph


def equalisation_tables(pixels: Pixels) -> NDArray[np.uint8]:
    """Return the tables that equalise each channel of ``pixels`` (H, W, C), uint8 of shape (C, 256).

    The convention is OpenCV's ``equalizeHist``: ``round(255 (cdf(v) - cdf(v_min)) / (1 - cdf(v_min)))``. Images of
    16 bits are counted in 256 equal bins.
    """
    return np.stack([_table(pixels[..., c]) for c in range(pixels.shape[-1])])


def _table(channel: Pixels) -> NDArray[np.uint8]:
    counts = np.sum([_counts(channel[top : top + ROWS]) for top in range(0, len(channel), ROWS)], axis=0)
    lowest = int(np.flatnonzero(counts)[0])
    above = channel.size - int(counts[lowest])
    if above == 0:  # a constant channel has no ranks: it keeps its value
        return np.full(256, lowest, np.uint8)
    ranks = np.cumsum(counts) - counts[lowest]
    return np.rint(np.clip(ranks, 0, None) * (255 / above)).astype(np.uint8)


def _counts(channel: Pixels) -> NDArray[np.intp]:
    return np.bincount((channel if channel.dtype == np.uint8 else channel >> 8).ravel(), minlength=256)


def equalise(pixels: Pixels, tables: NDArray[np.uint8]) -> Pixels:
    """Return ``pixels`` (H, W, C) with each channel mapped through its table, in the dtype of ``pixels``.

    Values of 16 bits are mapped by linear interpolation between the centres of the table's bins.
    """
    out = np.empty_like(pixels)
    centres = np.arange(256) * 256 + 127.5
    for c, table in enumerate(tables):
        if pixels.dtype == np.uint8:
            out[..., c] = table[pixels[..., c]]
        else:
            curve = np.rint(np.interp(np.arange(65536), centres, table.astype(np.float64) * 257)).astype(np.uint16)
            out[..., c] = curve[pixels[..., c]]
    return out


def quantiles(tables: NDArray[np.uint8], count: int = 16) -> NDArray[np.float32]:
    """Return ``count`` quantiles of each channel, channel by channel, from its equalisation table.

    Quantile ``i`` is the least value whose rank reaches ``(i + 1/2) / count``, in stops:
    ``log2((v + 1) / 256) / 4 + 1``, which is -1 for black and 1 for white.
    """
    ranks = (np.arange(count) + 0.5) / count * 255
    values = np.stack([np.searchsorted(table, ranks) for table in tables]).clip(0, 255)
    return (np.log2((values + 1) / 256) / 4 + 1).astype(np.float32).ravel()


def thumbnail(pixels: Pixels, tables: NDArray[np.uint8], side: int = 32) -> NDArray[np.float32]:
    """Return the equalised photograph (H, W, 3) averaged to ``side`` by ``side``, channels first, flat, in [-1, 1]."""
    small = []
    for c, table in enumerate(tables):  # one channel at a time: a copy of a large photograph is large
        channel = pixels[..., c] if pixels.dtype == np.uint8 else (pixels[..., c] >> 8).astype(np.uint8)
        small.append(np.asarray(Image.fromarray(table[channel]).resize((side, side), Image.Resampling.BOX)))
    return (np.stack(small).astype(np.float32) / 127.5 - 1).ravel()


class Whole(NamedTuple):
    """What is told of a whole photograph.

    Arguments:
        tables: the tables that equalise its channels, uint8 (3, 256).
        thumbnail: from :func:`thumbnail`.
    """

    tables: NDArray[np.uint8]
    thumbnail: NDArray[np.float32]


def whole_of(pixels: Pixels) -> Whole:
    """Return what is told of a photograph (H, W, 3)."""
    tables = equalisation_tables(pixels)
    return Whole(tables, thumbnail(pixels, tables))


def conditions_of(names: Collection[str], pixels: Pixels, whole: Whole) -> dict[str, NDArray]:
    """Return those of ``CONDITIONS`` that are named, for a piece of a photograph; "degraded" is the piece itself.

    Arguments:
        names: a row's ``inputs`` and ``context``.
        pixels: the piece, (H, W, 3).
        whole: what is told of the photograph it belongs to.
    """
    makers = {
        "degraded": lambda: pixels,
        "equalised": lambda: equalise(pixels, whole.tables),
        "quantiles": lambda: quantiles(whole.tables),
        "thumbnail": lambda: whole.thumbnail,
    }
    return {name: make() for name, make in makers.items() if name in names}
