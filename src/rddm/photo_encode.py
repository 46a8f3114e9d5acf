"""A photograph's pixels and metadata as the bytes of a JPEG, PNG, WebP, TIFF or BMP file.

Pillow writes what it can. The 16-bit PNG and all TIFF files are laid out here: Pillow has no 16-bit colour, and it
rewrites EXIF values when it puts them into a TIFF.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from rddm import photo_tags
from rddm.photo_decode import Pixels
from rddm.photo_tags import Metadata

_BYTE, _SHORT, _LONG, _RATIONAL, _UNDEFINED = 1, 3, 4, 5, 7
_BLOCK_BYTES = 1 << 20
_SEGMENT_BYTES = 65533  # what a JPEG segment holds beside its marker


def encode(format: str, samples: np.ndarray, metadata: Metadata, quality: int) -> bytes:
    """The file's bytes for samples (H, W, 1 to 4: grey, grey and alpha, RGB, RGBA), uint8 or uint16.

    ValueError or OSError if the format cannot hold the picture; uint16 is for PNG and TIFF only.
    """
    if format == "TIFF":
        return _tiff(samples, metadata)
    if format == "PNG" and samples.dtype == np.uint16:
        return _png16(samples, metadata)
    image = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    return _saved(image, format, _options(format, metadata, quality))


def fitted_samples(pixels: Pixels, alpha: Pixels | None, format: str) -> tuple[Pixels, list[str]]:
    """Samples (H, W, 1 to 4) that the format holds, and what that costs."""
    notes = []
    if alpha is not None and format in ("JPEG", "BMP"):
        notes.append(f"{format} has no transparency: laid on white")
        pixels, alpha = _on_white(pixels, alpha), None
    if pixels.dtype == np.uint16 and format not in ("PNG", "TIFF"):
        notes.append(f"{format} has 8 bits per channel: rounded from 16")
        pixels, alpha = _rounded(pixels), None if alpha is None else _rounded(alpha)
    if format == "TIFF" and alpha is not None and pixels.dtype == np.uint16:
        pixels = np.broadcast_to(pixels, (*alpha.shape, 3))  # hardly a program, Pillow included, reads grey with alpha
    samples = pixels if alpha is None else np.concatenate([pixels, alpha[..., None]], axis=2)
    return np.ascontiguousarray(samples), notes


def _on_white(pixels: Pixels, alpha: Pixels) -> Pixels:
    top = np.uint32(np.iinfo(pixels.dtype).max)
    share = alpha[..., None].astype(np.uint32)
    return ((pixels * share + top * (top - share) + top // 2) // top).astype(pixels.dtype)


def _rounded(samples: Pixels) -> NDArray[np.uint8]:
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)


def fitted_metadata(metadata: Metadata, format: str, grey: bool) -> tuple[Metadata, list[str]]:
    """The metadata that the format holds beside grey or RGB pixels, and what is left out."""
    notes = []
    if metadata.icc[16:20] in ((b"RGB ", b"CMYK") if grey else (b"GRAY", b"CMYK")):
        metadata = replace(metadata, icc=b"")
        notes.append(f"colour profile left out: it is not one for {'grey' if grey else 'RGB'} pixels")
    unknown = {"PNG": ["iptc"], "WEBP": ["iptc"], "BMP": ["exif", "icc", "xmp", "iptc"]}.get(format, [])
    lost = [name for name in unknown if getattr(metadata, name)]
    lost += _too_long_for_jpeg(metadata) if format == "JPEG" else []
    metadata = replace(metadata, **{name: b"" for name in lost})
    if format != "PNG" and any(name in photo_tags.PNG_TEXT for name, _ in metadata.png_chunks):
        lost.append("PNG text")
    if lost:
        notes.append(f"left out, because {format} has no room for it: {', '.join(lost)}")
    return metadata, notes


def _too_long_for_jpeg(metadata: Metadata) -> list[str]:
    limits = {"exif": _SEGMENT_BYTES - 6, "xmp": _SEGMENT_BYTES - 29, "iptc": _SEGMENT_BYTES - 28}
    return [name for name, limit in limits.items() if len(getattr(metadata, name)) > limit]


def _saved(image: Image.Image, format: str, options: dict[str, Any]) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _options(format: str, metadata: Metadata, quality: int) -> dict[str, Any]:
    """Arguments of Pillow's save."""
    options: dict[str, Any] = {}
    if metadata.dpi and format != "WEBP":
        options["dpi"] = metadata.dpi
    if format == "BMP":
        return options
    options |= {"icc_profile": metadata.icc or None, "exif": b"Exif\0\0" + metadata.exif if metadata.exif else b""}
    if format == "PNG":
        return options | {"pnginfo": _png_info(metadata)}
    options |= {"quality": quality, "xmp": metadata.xmp}
    if format == "WEBP":
        return options | {"exact": True}
    return options | {"subsampling": 0, "extra": _iptc_segment(metadata.iptc)}


def _iptc_segment(iptc: bytes) -> bytes:
    if not iptc:
        return b""
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(iptc)) + iptc + bytes(len(iptc) % 2)
    payload = b"Photoshop 3.0\0" + resource
    return b"\xff\xed" + struct.pack(">H", 2 + len(payload)) + payload


def _png_info(metadata: Metadata) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    for name, body in metadata.png_chunks:
        info.add(name, body)
    if metadata.xmp:
        info.add(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp)
    return info


def _png16(samples: np.ndarray, metadata: Metadata) -> bytes:
    """A 16-bit PNG; its metadata chunks are those that Pillow writes for a picture of one pixel."""
    height, width, bands = samples.shape
    dummy = Image.new("L" if bands <= 2 else "RGB", (1, 1))
    others = photo_tags.png_chunks(_saved(dummy, "PNG", _options("PNG", metadata, 0)))
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[bands]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))]
    chunks += [(name, body) for name, body, _ in others if name not in (b"IHDR", b"IDAT", b"IEND")]
    chunks += [(b"IDAT", body) for body in _deflated(_filtered(samples))] + [(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def _filtered(samples: np.ndarray) -> Iterator[bytes]:
    """Blocks of big-endian rows, each behind the number of its filter: 1, the difference to the pixel on the left."""
    pixel_bytes = 2 * samples.shape[2]
    for block in _row_blocks(samples):
        rows = block.astype(">u2").view(np.uint8).reshape(len(block), -1)
        filtered = np.ones((rows.shape[0], rows.shape[1] + 1), np.uint8)
        filtered[:, 1:] = rows
        filtered[:, 1 + pixel_bytes :] -= rows[:, :-pixel_bytes]
        yield filtered.tobytes()


def _row_blocks(samples: np.ndarray) -> list[np.ndarray]:
    rows = max(1, _BLOCK_BYTES // samples[0].nbytes)
    return [samples[top : top + rows] for top in range(0, len(samples), rows)]


def _deflated(blocks: Iterator[bytes]) -> Iterator[bytes]:
    compressor = zlib.compressobj()
    for block in blocks:
        if part := compressor.compress(block):
            yield part
    yield compressor.flush()


def _tiff(samples: np.ndarray, metadata: Metadata) -> bytes:
    """A TIFF with deflated strips, whose beginning is the EXIF block, so that all offsets in it stay valid."""
    block, entries = _tiff_start(metadata.exif)
    order = photo_tags.byte_order(block)
    blocks = _row_blocks(samples)
    strips = [zlib.compress(_differences(rows, order)) for rows in blocks]
    if sum(map(len, strips)) + len(metadata.icc) + len(metadata.xmp) > 0xFFFFFFFF - len(block) - (1 << 20):
        raise ValueError("a TIFF file holds at most 4 GiB")
    offsets = []
    for strip in strips:
        offsets.append(len(block))
        block += strip
    for tag, kind, values in _structure(samples, len(blocks[0]), offsets, [len(strip) for strip in strips]):
        payload = struct.pack(f"{order}{len(values)}{'H' if kind == _SHORT else 'I'}", *values)
        entries[tag] = photo_tags.add_entry(block, tag, kind, payload)
    for tag, kind, payload in _profiles(metadata, order):
        entries[tag] = photo_tags.add_entry(block, tag, kind, payload)
    struct.pack_into(order + "I", block, 4, photo_tags.add_directory(block, entries))
    return bytes(block)


def _tiff_start(exif: bytes) -> tuple[bytearray, dict[int, bytes]]:
    """The block that a TIFF begins with, and the entries of its main directory that describe the photograph."""
    try:
        tags = photo_tags.main_directory(exif)
    except (ValueError, struct.error):
        return bytearray(b"II*\0" + bytes(4)), {}
    order, entries = photo_tags.byte_order(exif), {}
    for tag, found in tags.items():
        if tag in photo_tags.DESCRIPTIVE:
            value = exif[found.start : found.start + 4] if found.size <= 4 else struct.pack(order + "I", found.start)
            count = found.size // photo_tags.TYPE_SIZES[found.kind]
            entries[tag] = struct.pack(order + "HHI", tag, found.kind, count) + value
    return bytearray(exif), entries


def _differences(rows: np.ndarray, order: str) -> bytes:
    """Rows with each sample but the first of a row replaced by its difference to the left, TIFF's predictor 2."""
    differences = rows.copy()
    differences[:, 1:] -= rows[:, :-1]
    return differences.astype(f"{order}u{rows.itemsize}").tobytes()


def _structure(
    samples: np.ndarray, strip_rows: int, offsets: list[int], sizes: list[int]
) -> list[tuple[int, int, list[int]]]:
    """Tag, type and values of what a TIFF reader needs to find and decode the pixels."""
    height, width, bands = samples.shape
    tags = [
        (256, _LONG, [width]),
        (257, _LONG, [height]),
        (258, _SHORT, [samples.dtype.itemsize * 8] * bands),
        (259, _SHORT, [8]),  # deflate
        (262, _SHORT, [1 if bands <= 2 else 2]),  # grey or RGB
        (273, _LONG, offsets),
        (277, _SHORT, [bands]),
        (278, _LONG, [strip_rows]),
        (279, _LONG, sizes),
        (284, _SHORT, [1]),  # interleaved
        (317, _SHORT, [2]),  # horizontal differences
    ]
    return tags + ([(338, _SHORT, [2])] if bands in (2, 4) else [])  # alpha, not multiplied in


def _profiles(metadata: Metadata, order: str) -> list[tuple[int, int, bytes]]:
    fields = [
        (photo_tags.XMP_TAG, _BYTE, metadata.xmp),
        (photo_tags.IPTC_TAG, _UNDEFINED, metadata.iptc),
        (photo_tags.ICC_TAG, _UNDEFINED, metadata.icc),
    ]
    if metadata.dpi:
        for tag, value in zip((282, 283), metadata.dpi, strict=True):
            fields.append((tag, _RATIONAL, struct.pack(order + "II", round(value * 10000), 10000)))
        fields.append((296, _SHORT, struct.pack(order + "H", 2)))  # per inch
    return [field for field in fields if field[2]]
