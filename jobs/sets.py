"""The data sets of the jobs as photographs, and tiny data of the same layout for ``--smoke``."""

import io
from collections.abc import Collection
from pathlib import Path

import numpy as np
from PIL import Image

from rddm.errors import UserError
from rddm.pairs import Photographs, hold_out, pair_up
from rddm.photo import read_photo
from rddm.photos import Files, Photos, remembered, resized
from rddm.preprocess import Pixels, Whole
from rddm.recipe import Recipe

CATS, DOGS = "afhq_cat_64_q95.npz", "dogs_photos_64_q95.npz"
SHIFTED = {"515", "570", "649", "700", "701"}  # pairs of LOL that do not match by 2 pixels (shared/data/README.md)


class LolCrops(Files):
    """LOL's native crops as ``jobs/pack.py`` laid them out, told of the whole photographs that they were cut from."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        found = pair_up({"clean": folder / "target", "degraded": folder / "input"})
        kept = [i for i, name in enumerate(found.names) if name not in SHIFTED]
        files = {kind: [paths[i] for i in kept] for kind, paths in found.files.items()}
        super().__init__(Photographs([found.names[i] for i in kept], files), recipe)
        told = np.load(folder / "whole.npz")
        position = {str(name): i for i, name in enumerate(told["names"])}
        self.told = [
            Whole(told["tables"][position[name]], told["thumbnails"][position[name]].astype(np.float32) / 127.5 - 1)
            for name in self.photographs.names
        ]
        self.preload()

    def whole(self, i: int) -> Whole:
        """Return what is told of the photograph that a crop was cut from."""
        return self.told[i]


class LitCrops(LolCrops):
    """LOL's crops and, for every fourth that is not held out, a lit copy: parts of another's target as they are.

    LOL's inputs hold 0.02 % of values above 192, so that a network trained on them alone paints lamps and snow black.
    """

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        super().__init__(folder, recipe)
        fit, _ = hold_out(len(self))
        self.lit = {len(self) + i: self.composite(i, fit) for i in fit[::4]}

    def composite(self, i: int, fit: list[int]) -> dict[str, Pixels]:
        """Return crop ``i`` with bright parts, input and target, the same in every run."""
        draw = np.random.default_rng([0, i])
        other = super().pixels("clean", fit[int(draw.integers(len(fit)))])
        bright = (other * draw.uniform(0.7, 1.6)).clip(0, 255)
        height, width = other.shape[:2]
        small = Image.fromarray(draw.random((5, 5), np.float32))
        clouds = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))
        edge = np.quantile(clouds, 1 - min(1.0, draw.uniform(0.0, 1.25)))
        share = ((clouds - edge) / 0.1 + 0.5).clip(0, 1)[..., None]
        kinds = {kind: super(LitCrops, self).pixels(kind, i) for kind in ("clean", "degraded")}
        return {kind: np.rint(pixels + share * (bright - pixels)).astype(np.uint8) for kind, pixels in kinds.items()}

    def pixels(self, kind: str, i: int) -> Pixels:
        """Return a photograph."""
        return self.lit[i][kind] if i in self.lit else super().pixels(kind, i)

    def whole(self, i: int) -> Whole:
        """Return what is told of the photograph that a crop was cut from; a lit copy is one of its own."""
        return remembered(self, i) if i in self.lit else super().whole(i)


def lit(photos: Photos) -> list[int]:
    """Return the positions of the lit copies."""
    assert isinstance(photos, LitCrops)
    return sorted(photos.lit)


class Equalised(Files):
    """Whole photographs that are stored equalised and resized, as the paper trains on them."""

    def read(self, kind: str, path: Path) -> Pixels:
        """Read one file, which is prepared already."""
        return resized(read_photo(path).pixels, self.side or 256)


def lol_whole(folder: Path, recipe: Recipe) -> Files:
    """Return LOL's whole photographs at 256x256."""
    photos = Equalised(pair_up({"clean": folder / "target", "degraded": folder / "input"}), recipe)
    photos.preload()
    return photos


def clean_folder(folder: Path, recipe: Recipe) -> Files:
    """Return the photographs of a folder, to be degraded synthetically."""
    photos = Files(pair_up({"clean": folder}), recipe)
    photos.preload()
    return photos


class Packed:
    """Images of one size in one file: JPEG bytes with their offsets and names.

    Arguments:
        path: the file.
        side: to which they are resized, None for as they are.

    Raises:
        UserError: if the file is missing.
    """

    kinds: Collection[str] = ("clean",)

    def __init__(self, path: Path, side: int | None = None) -> None:
        if not path.exists():
            raise UserError(f"{path}: no such file, expected images packed as jpeg, offsets and names")
        packed = np.load(path)
        ends, data = packed["offsets"], packed["jpeg"].tobytes()
        self.names = packed["names"].tolist()
        jpegs = (io.BytesIO(data[a:b]) for a, b in zip(ends, ends[1:]))
        images = (np.asarray(Image.open(jpeg).convert("RGB")) for jpeg in jpegs)
        self.images = np.stack([image if side is None else resized(image, side) for image in images])

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.images)

    def name(self, i: int) -> str:
        """Return an image's name."""
        return str(self.names[i])

    def pixels(self, kind: str, i: int) -> Pixels:
        """Return an image."""
        return self.images[i % len(self.images)]

    def whole(self, i: int) -> Whole:
        """Images drawn from noise have nothing to be told of."""
        raise NotImplementedError


def cats(folder: Path, recipe: Recipe) -> Packed:
    """Return AFHQ's cats at the side of the recipe's pieces, 64 at most."""
    return Packed(folder / CATS, recipe.phases[0].crop)


class DogsAndCats(Packed):
    """AFHQ's cats, to be reached from photographs of dogs that are drawn at random."""

    kinds: Collection[str] = ("clean", "degraded")

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        side = recipe.phases[0].crop
        super().__init__(folder / CATS, side)
        self.dogs = Packed(folder / DOGS, side)

    def pixels(self, kind: str, i: int) -> Pixels:
        """Return a cat or a dog."""
        return self.dogs.pixels(kind, i) if kind == "degraded" else super().pixels(kind, i)


class PhotosAndCats(Files):
    """A folder's photographs, then AFHQ's cats."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        super().__init__(pair_up({"clean": folder}), recipe)
        self.preload()
        self.cats = Packed(folder / CATS, recipe.phases[0].crop)

    def __len__(self) -> int:
        """Return how many there are."""
        return super().__len__() + len(self.cats)

    def name(self, i: int) -> str:
        """Return the name of a photograph or a cat."""
        beyond = i - super().__len__()
        return super().name(i) if beyond < 0 else self.cats.name(beyond)

    def pixels(self, kind: str, i: int) -> Pixels:
        """Return a photograph or a cat."""
        beyond = i - super().__len__()
        return super().pixels(kind, i) if beyond < 0 else self.cats.pixels(kind, beyond)


def photographs(photos: Photos) -> list[int]:
    """Return the positions of the photographs to train on, often enough to be about as many as the cats."""
    assert isinstance(photos, PhotosAndCats)
    count = len(photos) - len(photos.cats)
    fit, _ = hold_out(len(photos))
    return [i for i in fit if i < count] * (len(photos.cats) // count - 1)


def picture(seed: int, side: int = 48) -> Image.Image:
    """Return a smooth random image."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)


def miniature_folder(folder: Path) -> None:
    """Write some clean images."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(6):
        picture(i).save(folder / f"{i}.png")


def miniature_pairs(folder: Path) -> None:
    """Write some pairs."""
    for kind in ("input", "target"):
        miniature_folder(folder / kind)


def miniature_lol(folder: Path) -> None:
    """Write some pairs with what is told of their wholes."""
    miniature_pairs(folder)
    tables = np.tile(np.arange(256, dtype=np.uint8), (6, 3, 1))
    thumbnails = np.zeros((6, 3 * 32 * 32), np.uint8)
    np.savez(folder / "whole.npz", names=[str(i) for i in range(6)], tables=tables, thumbnails=thumbnails)


def miniature_cats(folder: Path, count: int = 6) -> None:
    """Write some images in one file, and others in a second."""
    jpegs = []
    for i in range(count):
        buffer = io.BytesIO()
        picture(i, 64).save(buffer, format="JPEG")
        jpegs.append(buffer.getvalue())
    offsets = np.cumsum([0, *map(len, jpegs)])
    data = np.frombuffer(b"".join(jpegs), np.uint8)
    for name in (CATS, DOGS):
        np.savez(folder / name, jpeg=data, offsets=offsets, names=[str(i) for i in range(count)])


def miniature_photos_and_cats(folder: Path) -> None:
    """Write some photographs and some images in one file."""
    miniature_folder(folder)
    miniature_cats(folder)


def miniature_zoo(folder: Path) -> None:
    """Write what ``jobs/zoo.py`` reads: clean photographs in four folders, low light, cats, a camera's pairs."""
    for part in ("bsds500", "bsds500-rain-holdout", "imagenet", "desktop"):
        miniature_folder(folder / "photos" / part)
    (folder / "cats").mkdir()
    miniature_lol(folder / "low-light")
    miniature_cats(folder / "cats")
    miniature_pairs(folder / "polyu-canon")
