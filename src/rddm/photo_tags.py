"""What a photograph carries beside its pixels: EXIF, colour profile, XMP, IPTC, resolution, PNG text.

EXIF is patched in place and copied as bytes, never turned into values and rebuilt: names that are not ASCII,
maker notes and unusual types would not survive that. An EXIF block and a TIFF file have the same structure.
"""

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from PIL.ImageFile import ImageFile

EXIF_POINTER, GPS_POINTER, INTEROP_POINTER = 0x8769, 0x8825, 0xA005
XMP_TAG, IPTC_TAG, ICC_TAG = 700, 33723, 34675
TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
# The tags of a TIFF's main directory that describe the photograph; all others describe how the file stores it.
DESCRIPTIVE = frozenset(
    {269, 270, 271, 272, 274, 282, 283, 285, 296, 305, 306, 315, 316, 18246, 18249, 33432, EXIF_POINTER, GPS_POINTER}
    | {40091, 40092, 40093, 40094, 40095}
)
_INSIDE = {EXIF_POINTER: frozenset({INTEROP_POINTER}), GPS_POINTER: frozenset(), INTEROP_POINTER: frozenset()}
_PNG_COLOUR = (b"gAMA", b"cHRM", b"sRGB", b"cICP")
PNG_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_XMP_KEYWORD = b"XML:com.adobe.xmp\0"
_RAW_EXIF_KEYWORD = b"Raw profile type exif\0"
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:=[\"']|>)\s*)([1-8])")
_IPTC_RESOURCE = 0x0404


@dataclass(frozen=True)
class Metadata:
    """Everything of a photograph that is written back with its pixels; empty means absent."""

    exif: bytes = b""  # the block from its byte-order mark on
    icc: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""
    dpi: tuple[float, float] | None = None
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()  # text and colour chunks that only PNG has


class Tag(NamedTuple):
    """Where a directory entry's value lies in the block."""

    kind: int
    start: int
    size: int


def byte_order(block: bytes | bytearray) -> str:
    """The struct prefix of an EXIF block or TIFF file; ValueError if it is neither."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(block[:4]))
    if order is None:
        raise ValueError("no TIFF byte-order mark")
    return order


def directory(block: bytes | bytearray, at: int) -> dict[int, Tag]:
    """The tags of the directory at offset `at`, without those that point outside the block; struct.error if cut."""
    order = byte_order(block)
    (count,) = struct.unpack_from(order + "H", block, at)
    tags = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, length, value = struct.unpack_from(order + "HHII", block, entry)
        size = length * TYPE_SIZES.get(kind, 0)
        start = entry + 8 if size <= 4 else value
        if 0 < size and start + size <= len(block):
            tags[tag] = Tag(kind, start, size)
    return tags


def main_directory(block: bytes) -> dict[int, Tag]:
    """The tags of the first directory; ValueError or struct.error if the block is damaged."""
    return directory(block, _number(block, 4, 4))


def _number(block: bytes | bytearray, start: int, size: int) -> int:
    return int(struct.unpack_from(byte_order(block) + ("H" if size == 2 else "I"), block, start)[0])


def orientation_of(metadata: Metadata) -> int:
    """Orientation 1 to 8 by EXIF, else by XMP; 1 if neither tells."""
    try:
        found = main_directory(metadata.exif).get(274)
        value = _number(metadata.exif, found.start, found.size) if found and found.size in (2, 4) else 0
    except (ValueError, struct.error):
        value = 0
    if not value and (match := _XMP_ORIENTATION.search(metadata.xmp)):
        value = int(match[2])
    return value if 1 <= value <= 8 else 1


def made_upright(metadata: Metadata, width: int, height: int) -> Metadata:
    """Metadata for pixels that have been turned upright to (width, height); the thumbnail is unlinked.

    The thumbnail goes because it shows the photograph before it was restored.
    """
    xmp = _XMP_ORIENTATION.sub(rb"\g<1>1", metadata.xmp)
    block = bytearray(metadata.exif)
    try:
        at = _number(block, 4, 4)
        tags = directory(block, at)
        _patch(block, tags.get(274), 1)
        struct.pack_into("I", block, at + 2 + 12 * _number(block, at, 2), 0)
        if EXIF_POINTER in tags:
            inner = directory(block, _number(block, tags[EXIF_POINTER].start, 4))
            _patch(block, inner.get(0xA002), width)
            _patch(block, inner.get(0xA003), height)
    except (ValueError, struct.error):
        pass  # a damaged block is carried along as far as it could be read
    return replace(metadata, exif=bytes(block), xmp=xmp)


def _patch(block: bytearray, tag: Tag | None, value: int) -> None:
    if tag is not None and tag.size in (2, 4):
        struct.pack_into(byte_order(block) + ("H" if tag.size == 2 else "I"), block, tag.start, value)


def add_entry(block: bytearray, tag: int, kind: int, payload: bytes) -> bytes:
    """The 12 bytes of a directory entry; a payload of more than 4 bytes goes to the end of the block."""
    order = byte_order(block)
    if len(payload) <= 4:
        value = payload.ljust(4, b"\0")
    else:
        block += bytes(len(block) % 2)
        value = struct.pack(order + "I", len(block))
        block += payload
    return struct.pack(order + "HHI", tag, kind, len(payload) // TYPE_SIZES[kind]) + value


def add_directory(block: bytearray, entries: dict[int, bytes]) -> int:
    """Append a directory of 12-byte entries to the block and return its offset."""
    block += bytes(len(block) % 2)
    at = len(block)
    block += struct.pack(byte_order(block) + "H", len(entries))
    block += b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)
    return at


def copy_entries(source: bytes, at: int, block: bytearray, pointers: frozenset[int]) -> dict[int, bytes]:
    """Entries for `block` of the directory at `at` in source, with the directories that `pointers` lead to."""
    entries = {}
    for tag, found in directory(source, at).items():
        payload = source[found.start : found.start + found.size]
        if tag in pointers:
            inner = copy_entries(source, _number(source, found.start, 4), block, _INSIDE[tag])
            payload = struct.pack(byte_order(block) + "I", add_directory(block, inner))
        entries[tag] = add_entry(block, tag, found.kind, payload)
    return entries


def exif_of_tiff(data: bytes) -> bytes:
    """The descriptive tags of a TIFF file as an EXIF block; empty if the file's directories are damaged."""
    block = bytearray(data[:4] + bytes(4))
    try:
        entries = copy_entries(data, _number(data, 4, 4), block, frozenset({EXIF_POINTER, GPS_POINTER}))
        kept = {tag: entry for tag, entry in entries.items() if tag in DESCRIPTIVE}
        struct.pack_into(byte_order(block) + "I", block, 4, add_directory(block, kept))
    except (ValueError, struct.error):
        return b""
    return bytes(block) if kept else b""


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """Name, body and stored check sum of each chunk of a PNG file, up to where it is cut."""
    at = 8
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        body, check = data[at + 8 : at + 8 + length], data[at + 8 + length : at + 12 + length]
        yield name, body, int.from_bytes(check, "big")
        at += 12 + length


def metadata_of(image: ImageFile, data: bytes) -> Metadata:
    """What the file `data`, opened and decoded by Pillow as `image`, carries; raw, with its orientation."""
    info = image.info
    exif, xmp, iptc, chunks = info.get("exif"), info.get("xmp"), b"", ()
    if image.format == "TIFF":
        exif, xmp, iptc = exif_of_tiff(data), _value(data, XMP_TAG), _value(data, IPTC_TAG)
    elif image.format == "JPEG":
        iptc = info.get("photoshop", {}).get(_IPTC_RESOURCE)
    elif image.format == "PNG":
        exif, chunks = _exif_of_png(image, data), _kept_chunks(data)
    icc, dpi = _bytes(info.get("icc_profile")), _sound_dpi(info.get("dpi"))
    return Metadata(_bytes(exif).removeprefix(b"Exif\0\0"), icc, _bytes(xmp), _bytes(iptc), dpi, chunks)


def _exif_of_png(image: ImageFile, data: bytes) -> bytes:
    """The EXIF chunk, else the hexadecimal text that ImageMagick writes."""
    for name, body, _ in png_chunks(data):
        if name == b"eXIf":
            return body
    try:
        return bytes.fromhex("".join(str(image.info.get("Raw profile type exif", "")).split("\n")[3:]))
    except ValueError:
        return b""


def _kept_chunks(data: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Colour and text chunks, without the texts that are EXIF or XMP."""
    chunks = [(name, body) for name, body, _ in png_chunks(data) if name in _PNG_COLOUR + PNG_TEXT]
    return tuple(chunk for chunk in chunks if not chunk[1].startswith((_XMP_KEYWORD, _RAW_EXIF_KEYWORD)))


def _value(tiff: bytes, tag: int) -> bytes:
    try:
        found = main_directory(tiff).get(tag)
    except (ValueError, struct.error):
        return b""
    return tiff[found.start : found.start + found.size] if found else b""


def _bytes(value: object) -> bytes:
    # PNG text lands in the same dictionary, under whatever name the file gives it.
    return value if isinstance(value, bytes) else b""


def _sound_dpi(dpi: object) -> tuple[float, float] | None:
    if not isinstance(dpi, tuple) or len(dpi) != 2:
        return None
    across, down = (float(value) for value in dpi)
    sound = all(math.isfinite(value) and 0 < value < 60000 for value in (across, down))
    return (across, down) if sound else None
