"""The photos of an evaluation: a folder, a list of paths, or one packed file, less those that nobody asked for.

A list (``.txt``, ``.flist``, ``.lst``) holds one path per line. A packed file (``.npz``) holds ``jpeg``, the bytes of
all images one after the other, ``offsets``, where each begins and the last ends, and ``names``. A file of names tells
which of a set are meant: names without suffix, between white space, as ``cbsd68.txt`` does.
"""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np
from PIL import Image

from rddm.errors import UserError
from rddm.matlab import Bytes
from rddm.pairs import LISTS, listed, stated_size
from rddm.photo import find_photos, read_photo

T = TypeVar("T")


class Inside(NamedTuple):
    """An image within a packed file: the file, the image's name, and its bytes."""

    file: Path
    name: str
    data: bytes

    def __str__(self) -> str:
        """Return the file and the name, for complaints."""
        return f"{self.file}, {self.name}"


Picture: TypeAlias = Path | Inside


class Choice(NamedTuple):
    """Which of a set are meant: those of a file of names, and so many of these, evenly spread; all if None."""

    names: Path | None = None
    images: int | None = None


ALL = Choice()


def pictures(source: Path) -> dict[str, Picture]:
    """Return the photos of a folder, a list or a packed file, by their names without suffix.

    Raises:
        UserError: if there are none, two of one name, or what is there is none of the three.
    """
    if source.suffix.lower() == ".npz" and not source.is_dir():
        return dict(packed(source))
    if source.is_file() and source.suffix.lower() not in LISTS:
        raise UserError(
            f"{source}: is a file, expected a folder of photos, a list of paths (.txt) or images in one .npz"
        )
    found: dict[str, Picture] = {}
    for path in listed(source) if source.is_file() else find_photos([str(source)]):
        if path.stem in found:
            raise UserError(
                f"{path}: found {Path(str(found[path.stem])).name} beside it, expected one photo of each name"
            )
        found[path.stem] = path
    return found


def packed(file: Path) -> dict[str, Inside]:
    """Return the images of a packed file by their names.

    Raises:
        UserError: if it cannot be read, or holds no such images.
    """
    try:
        with np.load(file) as arrays:
            data, ends = arrays["jpeg"].tobytes(), arrays["offsets"].tolist()
            names = [str(name) for name in arrays["names"].tolist()]
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error}), expected images in one .npz") from None
    except (KeyError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(f"{file}: {error}, expected an .npz of jpeg, offsets and names") from None
    if not names or len(ends) != len(names) + 1:
        raise UserError(
            f"{file}: found {len(names)} names and {len(ends)} offsets, expected one more offset than names"
        )
    return {name: Inside(file, name, data[a:b]) for name, a, b in zip(names, ends, ends[1:])}


def chosen(found: Mapping[str, T], source: Path, choice: Choice) -> dict[str, T]:
    """Return those that are meant, in the order of their names.

    Raises:
        UserError: if a name is not there, or the number is less than one.
    """
    names = sorted(found)
    if choice.names is not None:
        wanted = listed_names(choice.names)
        missing = sorted(wanted - found.keys())
        if missing:
            raise UserError(
                f"{choice.names}: {missing[0]}: found no photo of that name in {source} ({len(found)} photos)"
            )
        names = sorted(wanted)
    if choice.images is not None:
        if choice.images < 1:
            raise UserError(f"--images: found {choice.images}, expected at least 1")
        count = min(choice.images, len(names))
        names = [names[i * len(names) // count] for i in range(count)]
    return {name: found[name] for name in names}


def listed_names(file: Path) -> set[str]:
    """Return the names in a file, between white space; suffixes of photographs are left out.

    Raises:
        UserError: if it cannot be read or is empty.
    """
    try:
        words = file.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read ({error}), expected names between white space") from None
    if not words:
        raise UserError(f"{file}: empty, expected names between white space")
    return {Path(word).stem if Path(word).suffix.lower() in (".jpg", ".jpeg", ".png") else word for word in words}


def pixels_of(picture: Picture) -> Bytes:
    """Return a photo as RGB of 8 bits, upright: 16 bits are rounded, grey is repeated, transparency is left out.

    Raises:
        UserError: if it cannot be read.
    """
    if isinstance(picture, Path):
        pixels = read_photo(picture).pixels
    else:
        pixels = decoded(picture)
    small = pixels if pixels.dtype == np.uint8 else (pixels.astype(np.uint32) + 128) // 257
    return np.ascontiguousarray(np.broadcast_to(small.astype(np.uint8), (*pixels.shape[:2], 3)))


def decoded(picture: Inside) -> Bytes:
    """Return an image of a packed file; UserError if it is damaged."""
    try:
        return np.asarray(Image.open(io.BytesIO(picture.data)).convert("RGB"))
    except Exception as error:  # what a decoder raises on damaged files is not limited to any list
        raise UserError(f"{picture}: truncated or damaged ({error})") from None


def size_of(picture: Picture) -> tuple[int, int]:
    """Return height and width of a photo; UserError if it cannot be read."""
    if isinstance(picture, Path):
        return stated_size(picture)
    height, width = decoded(picture).shape[:2]
    return height, width
