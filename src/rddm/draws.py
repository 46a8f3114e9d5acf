"""What a network sees in training: sample ``i`` of a run is a pure function of the run's seed and ``i``.

Which photograph, where it is cut, how it is turned and degraded, the time and the noise all come from one generator
seeded by ``(seed, i)``; the order of the photographs is a permutation for each round through them. So a run is resumed
from a count of images alone, any number of loading processes gives the same samples, and so does any number of
training processes that share them out.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from rddm.degradations import Degradation
from rddm.errors import UserError
from rddm.fill import smooth_fill
from rddm.first_stage import names_of, start_noise
from rddm.loss import Batch, draw_times
from rddm.photo import from_float, to_float
from rddm.photos import Photos, scaled
from rddm.preprocess import CONDITIONS, Pixels, Whole, conditions_of, whole_of
from rddm.recipe import Recipe

Pieces = dict[str, Pixels]
HELD_SIDE = 512  # held-out photographs are cut to at most this, from their centre: validations must stay cheap


def generator_of(seed: int, *key: int) -> torch.Generator:
    """Return a generator for one sample: streams of different keys are independent."""
    state = np.random.SeedSequence([seed, *key]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> 1))


def below(n: int, generator: torch.Generator) -> int:
    """Draw an integer from 0 to n - 1."""
    return int(torch.randint(n, (1,), generator=generator))


def share(generator: torch.Generator) -> float:
    """Draw a number in [0, 1)."""
    return float(torch.rand(1, generator=generator))


def dihedral(generator: torch.Generator) -> Callable[[NDArray], NDArray]:
    """Draw one of the eight turns and reflections of the square."""
    turns, mirrored = below(4, generator), below(2, generator)
    return lambda image: np.rot90(image[:, ::-1] if mirrored else image, turns)


def flip(generator: torch.Generator) -> Callable[[NDArray], NDArray]:
    """Draw a reflection left to right, for images with an up and a down."""
    return (lambda image: image[:, ::-1]) if below(2, generator) else (lambda image: image)


AUGMENT: dict[str, Callable[[torch.Generator], Callable[[NDArray], NDArray]]] = {
    "none": lambda generator: lambda image: image,
    "flip": flip,
    "mirror": lambda generator: lambda image: image[:, ::-1],  # as published: every image mirrored, none as it is
    "dihedral": dihedral,
}


class Samples(Protocol):
    """What a run draws its samples from: photographs, :class:`Draws`, or anything else in 1, 2 or 3 dimensions."""

    @property
    def recipe(self) -> Recipe:
        """How."""
        ...

    def __len__(self) -> int:
        """Return how many things there are to draw from."""
        ...

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor] | UserError:
        """Return sample ``i`` of pieces of ``crop`` for ``(i, crop)``, which nothing else may change, or what is wrong.

        A sample has ``x_0`` and ``x_in`` in [-1, 1], (C, *spatial), ``t`` and ``eps`` (see :func:`noised`), and the
        conditions that the recipe's method lists.
        """
        ...


@dataclass(frozen=True)
class Draws(Dataset):
    """The samples of a run: ``draws[i, crop]`` is sample ``i`` with pieces of ``crop`` pixels, as tensors by name.

    Arguments:
        photos: the photographs.
        chosen: positions of those that are used.
        recipe: how.
        degrade: what makes ``x_in`` where there are no degraded photographs.
        stream: 0 for training, others for samples that training never sees.
    """

    photos: Photos
    chosen: Sequence[int]
    recipe: Recipe
    degrade: Degradation | None = None
    stream: int = 0

    def __post_init__(self) -> None:
        """Check that the recipe is for photographs.

        Raises:
            UserError: if its network has other channels or dimensions.
        """
        if not self.recipe.photographic:
            shape = f"{self.recipe.network.out_channels} channels in {self.recipe.network.dims} dimensions"
            raise UserError(f"recipe {self.recipe.name}: a network of {shape}, expected 3 in 2 for photographs")

    def __len__(self) -> int:
        """Return how many photographs are used."""
        return len(self.chosen)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor] | UserError:
        """Return a sample, or what is wrong with the photograph: an error raised in another process loses its line."""
        try:
            return self.sample(*key)
        except UserError as error:
            return error

    def sample(self, i: int, crop: int) -> dict[str, Tensor]:
        """Draw sample ``i``: images (3, crop, crop) in [-1, 1], time, noise and conditions."""
        generator = generator_of(self.recipe.seed, self.stream, i)
        round_, position = divmod(i, len(self.chosen))
        which = self.chosen[order(self.recipe.seed, self.stream, round_, len(self.chosen))[position]]
        pieces = self.cut(which, crop, generator)
        turn = AUGMENT[self.recipe.augment](generator)
        pieces = {kind: np.ascontiguousarray(turn(piece)) for kind, piece in pieces.items()}
        sample = self.degraded(which, pieces, generator)
        for name in self.recipe.method.context:  # in the row's order: that of a set differs from process to process
            sample[name] = sample[name] + self.recipe.jitter * torch.randn(sample[name].shape, generator=generator)
        return noised(sample, self.recipe, generator)

    def cut(self, which: int, crop: int, generator: torch.Generator) -> Pieces:
        """Cut the same window out of the photographs of a pair; unpaired photographs are drawn apart."""
        pieces: Pieces = {}
        zoomed = share(generator) < self.recipe.shrink
        window: tuple[int, int, int] | None = None
        for kind in self.photos.kinds:
            apart = kind != "clean" and self.recipe.pairing == "random"
            pixels = self.photos.pixels(kind, below(1 << 40, generator) if apart else which)
            if window is None or apart:
                window = draw_window(pixels.shape[:2], crop, zoomed, generator)
            top, left, side = window
            piece = pixels[top : top + side, left : left + side]
            pieces[kind] = piece if side == crop else scaled(piece, crop)
        return pieces

    def degraded(self, which: int, pieces: Pieces, generator: torch.Generator) -> dict[str, Tensor]:
        """Return ``x_0``, ``x_in`` and the conditions of cut and turned pieces."""
        method, whole = self.recipe.method, None
        if self.degrade is not None:
            if self.recipe.colour:
                pieces = {kind: recoloured(piece, generator) for kind, piece in pieces.items()}
            pieces = pieces | synthesised(self.degrade, pieces["clean"], generator)
        elif "degraded" in pieces and names_of(self.recipe) & CONDITIONS:
            whole = self.photos.whole(which)
        pieces = filled(self.recipe, pieces)
        sample = {"x_0": to_image(pieces["clean"])}
        degraded = pieces.get("degraded")
        sample["x_in"] = torch.zeros_like(sample["x_0"])
        if degraded is not None and method.origin == "input":
            sample["x_in"] = to_image(degraded)
        if degraded is not None and not method.generates:
            sample |= conditions_for(self.recipe, degraded, whole)
        if "mask" in pieces and "mask" in names_of(self.recipe):
            sample["mask"] = (to_image(pieces["mask"]) + 1) / 2
        return sample


def recoloured(pixels: Pixels, generator: torch.Generator) -> Pixels:
    """Return a clean piece with other colours: half of the pieces with channels permuted, six in ten turned as well.

    Photographs are mostly pale: a network that saw no others smooths strong colours away. See :func:`turned`: the
    saturation is drawn log-uniformly within a factor of 2.2, the hue within 30 degrees.
    """
    image = to_float(pixels)
    if share(generator) < 0.5:
        image = image[..., torch.randperm(3, generator=generator).numpy()]
    if share(generator) < 0.6:
        image = turned(image, 2.2 ** (2 * share(generator) - 1), math.pi / 6 * (2 * share(generator) - 1))
    return from_float(np.clip(image, 0, 1), pixels.dtype)


def turned(image: NDArray, saturation: float, hue: float) -> NDArray:
    """Return an image (H, W, 3) whose colours are scaled and turned about the grey axis, not clipped.

    ``c'_i = sum_j (1/3 + 2/3 s cos(hue - 2 pi (i - j) / 3)) c_j``: the mean of the channels stays, what differs from it
    is scaled by ``s`` and turned by ``hue`` radians. By 2 pi / 3 red becomes green.
    """
    i = np.arange(3)
    matrix = 1 / 3 + 2 / 3 * saturation * np.cos(hue - 2 * math.pi * (i[:, None] - i) / 3)
    return image @ matrix.T.astype(np.float32)


def noised(sample: dict[str, Tensor], recipe: Recipe, generator: torch.Generator) -> dict[str, Tensor]:
    """Return a sample with its time ``t``, in (0, 1], and its noise ``eps``, shaped as ``x_0``."""
    t = draw_times(recipe.method.path, 1, generator, recipe.start_share)[0]
    sample = sample | {"t": t, "eps": torch.randn(sample["x_0"].shape, generator=generator)}
    return sample | start_noise(recipe, sample["x_0"], generator)


def conditions_for(recipe: Recipe, pixels: Pixels, whole: Whole | None) -> dict[str, Tensor]:
    """Return the conditions of a piece as tensors; without ``whole`` it is a photograph of its own."""
    names = names_of(recipe) & CONDITIONS
    if not names:
        return {}
    found = conditions_of(names, pixels, whole_of(pixels) if whole is None else whole)
    return {name: to_image(v) if v.ndim == 3 else torch.from_numpy(v.copy()) for name, v in found.items()}


def synthesised(degrade: Degradation, clean: Pixels, generator: torch.Generator) -> Pieces:
    """Return the degraded copy of a piece, and the mask if there is one, in the piece's depth."""
    made = degrade(torch.from_numpy(to_float(clean)).permute(2, 0, 1), generator)
    pieces = {"degraded": made.image}
    if made.mask is not None:
        pieces["mask"] = made.mask.expand(3, -1, -1)
    return {kind: from_float(image.permute(1, 2, 0).numpy(), clean.dtype) for kind, image in pieces.items()}


def filled(recipe: Recipe, pieces: Pieces) -> Pieces:
    """Return pieces with the holes smoothly filled if the recipe says so."""
    if recipe.prepare != "fill" or "mask" not in pieces or "degraded" not in pieces:
        return pieces
    return pieces | {"degraded": smooth_fill(pieces["degraded"], pieces["mask"][..., 0])}


def draw_window(size: tuple[int, int], crop: int, zoomed: bool, generator: torch.Generator) -> tuple[int, int, int]:
    """Draw top, left and side of a square window; a zoomed one is larger than ``crop``, by a log-uniform factor."""
    side, least = crop, min(size)
    if zoomed and least > crop:
        side = min(round(crop * (least / crop) ** share(generator)), least)
    return below(size[0] - side + 1, generator), below(size[1] - side + 1, generator), side


@lru_cache(maxsize=4)
def order(seed: int, stream: int, round_: int, count: int) -> list[int]:
    """Return the order of the photographs in one round through them."""
    return torch.randperm(count, generator=generator_of(seed, stream, round_, 1)).tolist()


def to_image(pixels: Pixels) -> Tensor:
    """Return pixels (H, W, 3) as an image (3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(to_float(pixels))).permute(2, 0, 1) * 2 - 1


def collate(samples: Sequence[dict[str, Tensor] | UserError]) -> Batch | UserError:
    """Stack samples to a batch, or return the first error that one of them met."""
    whole = []
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
        whole.append(sample)
    parts = {name: torch.stack([sample[name] for sample in whole]) for name in whole[0]}
    x_0, x_in, t, eps = (parts.pop(name) for name in ("x_0", "x_in", "t", "eps"))
    return Batch(x_0, x_in, t, eps, parts)


def centre(draws: Draws, i: int) -> Pieces:
    """Return the pieces of held-out photograph ``i``: its centre, degraded alike in every validation."""
    pieces: Pieces = {}
    for kind in draws.photos.kinds:
        pixels = draws.photos.pixels(kind, draws.chosen[i])
        top, left = (max(0, (side - HELD_SIDE) // 2) for side in pixels.shape[:2])
        pieces[kind] = pixels[top : top + HELD_SIDE, left : left + HELD_SIDE]
    if draws.degrade is not None:
        pieces |= synthesised(draws.degrade, pieces["clean"], generator_of(draws.recipe.seed, draws.stream, i))
    return filled(draws.recipe, pieces)
