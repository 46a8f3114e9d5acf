"""Tiles: a photograph of any size in pieces that fit, blended without seams, on noise that knows no pieces.

Tiles start at multiples of the network's stride, so that its grid is the whole image's. Neighbours overlap; a tile's
outer quarter of the overlap, where the network saw a border that is none, has no weight, and the inner half is a linear
ramp. Results are summed in strips of the height of a tile: memory does not grow with the photograph's.
"""

import hashlib
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Tile(NamedTuple):
    """A rectangle of the photograph, bottom and right exclusive."""

    top: int
    left: int
    bottom: int
    right: int


def spans(length: int, size: int, overlap: int, multiple: int) -> list[tuple[int, int]]:
    """Return the ranges that cover ``length`` pixels, at most ``size`` long, starting at multiples of ``multiple``.

    Raises:
        ValueError: if a tile of ``size`` would not get ahead of the overlap.
    """
    if length <= size:
        return [(0, length)]
    stride = (size - overlap) // multiple * multiple
    if stride <= 0:
        raise ValueError(f"tile: found {size}, expected more than {overlap + multiple - 1} (overlap and stride)")
    count = -(-(length - size) // stride)
    return [(i * stride, min(i * stride + size, length)) for i in range(count + 1)]


def plan(height: int, width: int, size: int, overlap: int, multiple: int) -> list[list[Tile]]:
    """Return the rows of tiles that cover a photograph."""
    rows, columns = spans(height, size, overlap, multiple), spans(width, size, overlap, multiple)
    return [[Tile(top, left, bottom, right) for left, right in columns] for top, bottom in rows]


def ramp(start: int, stop: int, length: int, overlap: int) -> NDArray[np.float32]:
    """Return the weights of a tile's pixels along one side: 0, a linear rise, 1, a linear fall, 0 over the overlaps."""
    weight = np.ones(stop - start, np.float32)
    rise = np.clip((np.arange(overlap, dtype=np.float32) + 0.5 - overlap / 4) / max(overlap / 2, 1), 0, 1)
    if start > 0:
        weight[:overlap] *= rise[: len(weight)]
    if stop < length:
        weight[-overlap:] *= rise[::-1][-len(weight) :]
    return weight


class Blend:
    """Sums weighted tiles, row of tiles by row of tiles, and gives away the rows of pixels that are complete."""

    def __init__(self, height: int, width: int, channels: int, overlap: int) -> None:
        self.height, self.width, self.overlap = height, width, overlap
        self.top = 0
        self.total = np.zeros((0, width, channels), np.float32)
        self.weight = np.zeros((0, width, 1), np.float32)

    def add(self, tile: Tile, pixels: NDArray[np.float32]) -> None:
        """Add a tile's result, (height, width, channels)."""
        missing = tile.bottom - self.top - len(self.total)
        if missing > 0:
            self.total, self.weight = (np.pad(a, ((0, missing), (0, 0), (0, 0))) for a in (self.total, self.weight))
        rows = ramp(tile.top, tile.bottom, self.height, self.overlap)[:, None, None]
        weight = rows * ramp(tile.left, tile.right, self.width, self.overlap)[None, :, None]
        place = slice(tile.top - self.top, tile.bottom - self.top), slice(tile.left, tile.right)
        self.total[place] += weight * pixels
        self.weight[place] += weight

    def take(self, bottom: int) -> NDArray[np.float32]:
        """Return the rows above ``bottom``, which no further tile will touch, and forget them."""
        count = bottom - self.top
        done = self.total[:count]
        done /= self.weight[:count]
        self.total, self.weight, self.top = self.total[count:].copy(), self.weight[count:].copy(), bottom
        return done


class NoiseField:
    """Standard normal noise at every pixel of a plane without end, the same however it is cut into tiles.

    Arguments:
        seed: names the field.
        channels: of each pixel.
    """

    BLOCK = 128

    def __init__(self, seed: int, channels: int = 3) -> None:
        self.seed, self.channels = seed, channels

    def block(self, draw: int, row: int, column: int) -> Tensor:
        """Return one block of the ``draw``-th field, (channels, BLOCK, BLOCK)."""
        key = hashlib.blake2b(struct.pack("<4q", self.seed, draw, row, column), digest_size=7).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(key, "little"))
        return torch.randn(self.channels, self.BLOCK, self.BLOCK, generator=generator)

    def crop(self, draw: int, tile: Tile) -> Tensor:
        """Return the field under a tile, (1, channels, height, width)."""
        size = self.BLOCK
        top, left = tile.top // size, tile.left // size
        rows = [
            torch.cat([self.block(draw, row, column) for column in range(left, -(-tile.right // size))], dim=2)
            for row in range(top, -(-tile.bottom // size))
        ]
        y, x = tile.top - top * size, tile.left - left * size
        return torch.cat(rows, dim=1)[None, :, y : y + tile.bottom - tile.top, x : x + tile.right - tile.left]


class TileNoise:
    """The field's noise under one tile, as a sampler draws it: each call is the next draw."""

    def __init__(self, field: NoiseField, tile: Tile) -> None:
        self.field, self.tile, self.draws = field, tile, 0

    def __call__(self, like: Tensor) -> Tensor:
        """Return noise shaped as ``like``, (1, channels, height, width)."""
        self.draws += 1
        return self.field.crop(self.draws - 1, self.tile).to(like)


def strips(rows: list[list[Tile]], height: int) -> Iterator[tuple[list[Tile], int]]:
    """Yield each row of tiles with the bottom of the pixels that are complete after it."""
    for row, below in zip(rows, [*rows[1:], None], strict=True):
        yield row, below[0].top if below else height
