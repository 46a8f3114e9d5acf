"""Collections of photographs as training reads them: where pixels come from, kept in memory or not."""

from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch.nn import functional as F

from rddm.pairs import Photographs
from rddm.photo import from_float, read_photo, to_float
from rddm.preprocess import Pixels, Whole, equalisation_tables, equalise, whole_of
from rddm.recipe import Recipe


class Photos(Protocol):
    """Where photographs come from: pixels (H, W, 3) of the kinds in ``rddm.pairs``, and what is told of each whole."""

    @property
    def kinds(self) -> Collection[str]:
        """Return the kinds, "clean" first."""
        ...

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def name(self, i: int) -> str:
        """Return what one is called."""
        ...

    def pixels(self, kind: str, i: int) -> Pixels:
        """Return one photograph; any ``i``, taken modulo how many there are of the kind."""
        ...

    def whole(self, i: int) -> Whole:
        """Return what is told of a whole degraded photograph."""
        ...


class Files:
    """Photographs on disk, read when asked for, or kept once :meth:`preload` was called.

    Arguments:
        photographs: which.
        recipe: says how they are prepared.
    """

    def __init__(self, photographs: Photographs, recipe: Recipe) -> None:
        self.photographs = photographs
        self.kinds: Collection[str] = photographs.files.keys()
        self.prepare = recipe.prepare
        self.side = recipe.phases[0].crop if recipe.fit == "resize" else None
        self.kept: dict[tuple[str, int], Pixels] = {}

    def __len__(self) -> int:
        """Return how many clean photographs there are."""
        return len(self.photographs.names)

    def name(self, i: int) -> str:
        """Return the name of a clean photograph."""
        return self.photographs.names[i]

    def pixels(self, kind: str, i: int) -> Pixels:
        """Return a photograph, equalised and resized if the recipe says so, in this order.

        Raises:
            UserError: if the file cannot be read.
        """
        files = self.photographs.files[kind]
        position = i % len(files)
        return self.kept[kind, position] if (kind, position) in self.kept else self.read(kind, files[position])

    def read(self, kind: str, path: Path) -> Pixels:
        """Read one file."""
        pixels = read_photo(path).pixels
        pixels = np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
        if kind == "degraded" and self.prepare == "equalise":
            pixels = equalise(pixels, equalisation_tables(pixels))
        return pixels if self.side is None else resized(pixels, self.side)

    def whole(self, i: int) -> Whole:
        """Return what is told of a degraded photograph."""
        return remembered(self, i) if self.kept else whole_of(self.pixels("degraded", i))

    def preload(self) -> None:
        """Keep every photograph in memory.

        Raises:
            UserError: if a file cannot be read.
        """
        every = [(kind, i, path) for kind, files in self.photographs.files.items() for i, path in enumerate(files)]
        console = Console(stderr=True)
        shown = track(every, "reading", console=console, transient=True, disable=not console.is_terminal)
        self.kept = {(kind, i): self.read(kind, path) for kind, i, path in shown}


@lru_cache(maxsize=1 << 14)
def remembered(photos: Files, i: int) -> Whole:
    """Return what is told of a photograph that is kept in memory, worked out once."""
    return whole_of(photos.pixels("degraded", i))


def resized(pixels: Pixels, side: int) -> Pixels:
    """Return pixels resized to a square, bicubic with antialiasing, whatever their shape (as the paper's training)."""
    if pixels.dtype == np.uint8:
        return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))
    return scaled(pixels, side)


def scaled(pixels: Pixels, side: int) -> Pixels:
    """Return pixels of any depth resized to a square, bicubic with antialiasing."""
    image = torch.from_numpy(to_float(pixels)).permute(2, 0, 1)[None]
    image = F.interpolate(image, size=(side, side), mode="bicubic", antialias=True)
    return from_float(image[0].permute(1, 2, 0).numpy(), pixels.dtype)
