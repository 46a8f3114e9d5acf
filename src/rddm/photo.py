"""Photographs in and out, with every property a photographer cares about.

Depth (8 or 16 bits), transparency, colour profile, EXIF, XMP, IPTC, resolution and PNG text survive; colours are not
converted. Every failure that is the user's to mend is one UserError line that begins with the file's name.
"""

import contextlib
import glob
import os
import secrets
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rddm import photo_decode, photo_encode, photo_tags
from rddm.errors import UserError
from rddm.photo_decode import Pixels
from rddm.photo_tags import Metadata

MAX_PIXELS = 500_000_000
QUALITY = 95
SUFFIXES = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
_EXPECTED = "JPEG, PNG, WebP, TIFF or BMP"
_MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
_MAGIC |= {b"GIF8": "GIF", b"BM": "BMP"}
_FOREIGN = {b"ftyphei": "HEIC", b"ftyphev": "HEIC", b"ftypmif1": "HEIC", b"ftypmsf1": "HEIC", b"ftypavi": "AVIF"}
_FOREIGN |= {b"8BPS": "Photoshop", b"\xff\x0a": "JPEG XL", b"JXL ": "JPEG XL", b"jP  ": "JPEG 2000", b"%PDF": "PDF"}
# Most camera raw files are built like TIFF, and what could be read from them is a small preview.
_RAW_SUFFIXES = {".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".iiq", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw"}
_RAW_SUFFIXES |= {".rw2", ".srw"}
_LONGEST_SIDE = {"JPEG": 65500, "WEBP": 16383}

_TURNS: dict[int, Callable[[NDArray], NDArray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


@dataclass(frozen=True, eq=False)
class Photo:
    """A photograph, upright: pixels (H, W, 1 or 3) uint8 or uint16, alpha (H, W) of that dtype or None.

    `format` is that of the file: "JPEG", "PNG", "WEBP", "TIFF" or "BMP". ValueError if the arrays do not fit.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    format: str = "PNG"
    metadata: Metadata = field(default_factory=Metadata)

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if len(shape) != 3 or shape[2] not in (1, 3) or 0 in shape or dtype not in (np.uint8, np.uint16):
            raise ValueError(f"pixels: found {dtype} {shape}, expected uint8 or uint16 (H, W, 1 or 3)")
        if self.alpha is not None and (self.alpha.shape != shape[:2] or self.alpha.dtype != dtype):
            raise ValueError(f"alpha: found {self.alpha.dtype} {self.alpha.shape}, expected {dtype} {shape[:2]}")


def read_photo(path: str | Path, max_pixels: int = MAX_PIXELS) -> Photo:
    """The photograph in a file; UserError unless it is one whole picture of at most max_pixels."""
    path = Path(path)
    format, data = _read_bytes(path)
    try:
        image = photo_decode.opened(format, data, max_pixels)
        pixels, alpha = photo_decode.decoded(image, format, data)
    except photo_decode.Unsupported as error:
        raise UserError(f"{path}: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # what a decoder raises on damaged files is not limited to any list
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: truncated, damaged or unusual {format} file ({reason})") from error
    metadata = photo_tags.metadata_of(image, data)
    if format != "TIFF":
        turn = _TURNS[photo_tags.orientation_of(metadata)]
        pixels = np.ascontiguousarray(turn(pixels))
        alpha = None if alpha is None else np.ascontiguousarray(turn(alpha))
    metadata = photo_tags.made_upright(metadata, pixels.shape[1], pixels.shape[0])
    return Photo(pixels, alpha, "PNG" if format == "GIF" else format, metadata)


def _read_bytes(path: Path) -> tuple[str, bytes]:
    """Format and content of the file."""
    if path.suffix.lower() in _RAW_SUFFIXES:
        raise UserError(f"{path}: camera raw file, expected {_EXPECTED}: develop it to a 16-bit TIFF first")
    try:
        with path.open("rb") as file:
            start = file.read(32)
            format = _format_of(path, start)
            return format, start + file.read()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


def _format_of(path: Path, start: bytes) -> str:
    if not start:
        raise UserError(f"{path}: empty file (0 bytes), expected {_EXPECTED}")
    for magic, format in _MAGIC.items():
        if start.startswith(magic):
            return format
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WEBP"
    for magic, name in _FOREIGN.items():
        if start.startswith(magic) or start[4:].startswith(magic):
            raise UserError(f"{path}: {name} file, which is not supported: convert it to {_EXPECTED} first")
    raise UserError(f"{path}: not an image, expected {_EXPECTED}")


def output_format(path: str | Path) -> str:
    """The format that a file of this name is written in; UserError if its suffix names none."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path}: suffix {suffix!r}, expected one of {' '.join(SUFFIXES)}")
    return SUFFIXES[suffix]


def write_photo(path: str | Path, photo: Photo, quality: int = QUALITY) -> list[str]:
    """Write a photograph in the format of the suffix, and return one line for each thing that format cannot hold.

    The file appears whole or not at all. PNG and TIFF are lossless; quality (1 to 100) is that of JPEG, which keeps
    full colour resolution, and of WebP. UserError if the picture cannot be held or the file cannot be written.
    """
    path = Path(path)
    format = output_format(path)
    height, width = photo.pixels.shape[:2]
    if max(height, width) > _LONGEST_SIDE.get(format, 1 << 31):
        limit = _LONGEST_SIDE[format]
        raise UserError(f"{path}: {width} x {height} pixels, expected at most {limit} on a side in {format}")
    samples, pixel_notes = photo_encode.fitted_samples(photo.pixels, photo.alpha, format)
    metadata, metadata_notes = photo_encode.fitted_metadata(photo.metadata, format, grey=samples.shape[2] <= 2)
    try:
        data = photo_encode.encode(format, samples, metadata, quality)
    except (ValueError, OSError, struct.error) as error:
        raise UserError(f"{path}: cannot be written as {format} ({' '.join(str(error).split())})") from error
    _replace_file(path, data)
    return [f"{path}: {note}" for note in pixel_notes + metadata_notes]


def copy_photo(source: str | Path, target: str | Path) -> bool:
    """Copy the file of a photograph, whole or not at all, if it has the format that the target's suffix names.

    Whether it had, and so was copied, is returned. UserError if a file cannot be read or written.
    """
    format, data = _read_bytes(Path(source))
    if format != output_format(target):
        return False
    _replace_file(Path(target), data)
    return True


def _replace_file(path: Path, data: bytes) -> None:
    """Put data at path, whole or not at all; UserError if that fails."""
    target = Path(os.path.realpath(path))  # a link is followed, not replaced
    if os.path.isdir(target):
        raise UserError(f"{path}: is a folder, expected the name of a file to write")
    if not os.path.isdir(target.parent):
        raise UserError(f"{path}: cannot be written: there is no folder {target.parent}")
    if os.path.exists(target) and not os.access(target, os.W_OK):
        raise UserError(f"{path}: cannot be written: the file is read-only")
    temporary = target.with_name(f".rddm-{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
        os.replace(temporary, target)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def find_photos(inputs: Sequence[str]) -> list[Path]:
    """The files that inputs (files, folders, glob patterns) name, in order and without repetitions.

    Folders and patterns give the files with a photograph's suffix, sorted by name and without hidden ones. UserError
    if a file is missing or a folder or pattern gives none.
    """
    found: dict[str, Path] = {}
    for text in inputs:
        for path in _matches(text):
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def _matches(text: str) -> list[Path]:
    try:
        if os.path.isdir(text):
            photos, failure = _photos_among(Path(text).iterdir()), "folder without photographs"
        elif os.path.exists(text):
            return [Path(text)]
        elif glob.has_magic(text):
            photos, failure = _photos_among(map(Path, glob.glob(text, recursive=True))), "pattern without photographs"
        else:
            raise UserError(f"{text}: no such file or folder")
    except OSError as error:
        raise UserError(f"{text}: cannot be read: {error.strerror}") from error
    if not photos:
        raise UserError(f"{text}: {failure}, expected {_EXPECTED} files")
    return photos


def _photos_among(paths: Iterable[Path]) -> list[Path]:
    photos = [path for path in paths if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    return sorted(path for path in photos if path.is_file())


def to_float(pixels: Pixels) -> NDArray[np.float32]:
    """uint8 or uint16 pixels as float32 in [0, 1]."""
    return np.divide(pixels, np.iinfo(pixels.dtype).max, dtype=np.float32)


def from_float(array: NDArray, dtype: DTypeLike) -> Pixels:
    """Floats as uint8 or uint16: [0, 1] fills the range, values outside are clipped, halves are rounded up.

    UserError if there is a NaN.
    """
    if np.isnan(array).any():
        raise UserError("restored pixels: found NaN, expected numbers from 0 to 1")
    scaled = np.clip(array, 0, 1).astype(np.promote_types(array.dtype, np.float32), copy=False)
    scaled *= np.iinfo(dtype).max
    scaled += 0.5
    return scaled.astype(dtype)


def side_by_side(left: Pixels, right: Pixels) -> Pixels:
    """Two pictures (H, W, C) of the same height and dtype with a thin white gap between; grey beside RGB becomes RGB.

    ValueError if heights or dtypes differ.
    """
    if len(left) != len(right) or left.dtype != right.dtype:
        raise ValueError(f"found {left.dtype} {left.shape} and {right.dtype} {right.shape}, expected the same height")
    bands = max(left.shape[2], right.shape[2])
    gap = np.full((len(left), max(2, len(left) // 100), bands), np.iinfo(left.dtype).max, left.dtype)
    parts = [np.broadcast_to(part, (*part.shape[:2], bands)) for part in (left, gap, right)]
    return np.concatenate(parts, axis=1)
