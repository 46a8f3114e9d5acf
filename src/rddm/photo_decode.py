"""The bytes of a JPEG, PNG, WebP, TIFF, BMP or GIF file as pixels and alpha, at the depth that the file has.

Each format's reader is called by name, so that nothing else that Pillow knows (Ghostscript, say) can be reached by a
file with a misleading suffix. Pillow keeps only the high byte of 16-bit colour; a second pass gives the low byte.
"""

import sys
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.ImageFile import ImageFile

from rddm.photo_tags import png_chunks
from rddm.preprocess import Pixels

READERS: dict[str, type[ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
}
_guard = threading.RLock()
_ROWS = 128


class Unsupported(Exception):
    """The file is sound, but holds something that is not restored; the text completes "FILE: "."""


@contextmanager
def _pillow(pixels: int) -> Iterator[None]:
    """Pillow without warnings on stderr and with its size guard raised to `pixels` if it is lower; then as before."""
    with _guard, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = Image.MAX_IMAGE_PIXELS
        if before is not None and before < pixels:
            Image.MAX_IMAGE_PIXELS = pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def opened(format: str, data: bytes, max_pixels: int) -> ImageFile:
    """The picture with its header read; Unsupported if it has several frames or more than max_pixels.

    Anything Pillow raises passes through.
    """
    with _pillow(max_pixels):
        image = READERS[format](BytesIO(data))
        if image.width * image.height > max_pixels:
            raise Unsupported(f"{image.width} x {image.height} pixels, expected at most {max_pixels} pixels in all")
        if _pages(image) > 1:
            raise Unsupported(f"{format} with more than one frame or page, expected a single picture")
    _check_samples(image)
    return image


def _pages(image: ImageFile) -> int:
    """Frames that are pictures of their own; a TIFF's reduced copies (previews) do not count."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return 2 if getattr(image, "is_animated", False) else 1
    pages = 0
    for frame in range(image.n_frames):
        image.seek(frame)
        pages += frame == 0 or not int(image.tag_v2.get(254, 0)) & 1
    image.seek(0)
    return pages


def _check_samples(image: ImageFile) -> None:
    if image.mode not in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I;16", "I;16B"):
        raise Unsupported(f"pixels of kind {image.mode}, expected grey or RGB of 8 or 16 bits")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = max(image.tag_v2.get(258, (1,)))
        if bits not in (1, 2, 4, 8, 16) or (bits == 16 and image.mode == "CMYK"):
            raise Unsupported(f"{image.mode} pixels of {bits} bits, expected grey or RGB of 8 or 16 bits")
        if bits == 16 and image.mode in ("RGB", "RGBA") and image.tag_v2.get(284, 1) == 2:
            raise Unsupported("16-bit TIFF with one plane per colour, expected interleaved colours")


def decoded(image: ImageFile, format: str, data: bytes) -> tuple[Pixels, Pixels | None]:
    """Pixels (H, W, 1 or 3) and alpha (H, W) or None, as stored, but TIFF already upright (Pillow does that).

    OSError if the picture is not whole; anything else Pillow raises passes through.
    """
    _check_whole(image, data)
    with _pillow(image.width * image.height):
        if image.mode.startswith("I;16"):
            return _grey16(image)
        rawmode = _rawmode(image)
        if ";16" in rawmode:
            return _colour16(image, READERS[format](BytesIO(data)), rawmode)
        image.load()
        return _split(_plain(image))


def _check_whole(image: ImageFile, data: bytes) -> None:
    """Find the damage that Pillow lets pass: a JPEG filled up with zeros, PNG data that fail their check sum."""
    if image.format == "JPEG" and image.fp is not None and data.find(b"\xff\xd9", image.fp.tell()) < 0:
        raise OSError("the end of the picture is missing")
    if image.format == "PNG":
        for name, body, check in png_chunks(data):
            if name == b"IDAT" and zlib.crc32(body, zlib.crc32(name)) != check:
                raise OSError("picture data fail their check sum")


def _rawmode(image: ImageFile) -> str:
    """The layout of the stored samples, as Pillow's decoders call it; empty for formats that have only one."""
    args = image.tile[0].args if image.tile else ""
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _grey16(image: ImageFile) -> tuple[Pixels, Pixels | None]:
    pixels: Pixels = np.asarray(image).astype(np.uint16)
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(262) == 0:
        pixels = np.invert(pixels)  # stored with white as 0
    clear = image.info.get("transparency")
    return pixels[..., None], None if clear is None else np.where(pixels == clear, 0, 65535).astype(np.uint16)


def _colour16(image: ImageFile, again: ImageFile, rawmode: str) -> tuple[Pixels, Pixels | None]:
    """Both bytes of each sample: `image` is decoded as stored, `again` with the byte order reversed."""
    if rawmode == "LA;16B":
        whole = np.asarray(_loaded_as(image, "RGBA")).view(">u2").astype(np.uint16)
        return _split(whole)
    rawmode = rawmode.replace("a", "A")  # multiplied-in alpha is taken out below, from all 16 bits
    high = np.asarray(_loaded_as(image, rawmode)).astype(np.uint16)
    whole: Pixels = high * np.uint16(256) + np.asarray(_loaded_as(again, _reversed(rawmode)))
    clear = image.info.get("transparency")
    if clear is not None and whole.shape[2] == 3:
        return whole, np.where((whole == clear).all(axis=2), 0, 65535).astype(np.uint16)
    pixels, alpha = _split(whole)
    if alpha is not None and isinstance(image, TiffImagePlugin.TiffImageFile) and 1 in image.tag_v2.get(338, ()):
        pixels = _unmultiplied(pixels, alpha)
    return pixels, alpha


def _reversed(rawmode: str) -> str:
    native = "L" if sys.byteorder == "little" else "B"
    order = native if rawmode[-1] == "N" else rawmode[-1]
    return rawmode[:-1] + ("B" if order == "L" else "L")


def _loaded_as(image: ImageFile, rawmode: str) -> ImageFile:
    tiles = []
    for tile in image.tile:
        args = (rawmode, *tile.args[1:]) if isinstance(tile.args, tuple) else rawmode
        tiles.append(tile._replace(args=args))
    image.tile = tiles
    image.load()
    return image


def _unmultiplied(pixels: Pixels, alpha: Pixels) -> Pixels:
    wide = pixels.astype(np.uint64) * 65535 + alpha[..., None] // 2
    return np.minimum(wide // np.maximum(alpha[..., None], 1), 65535).astype(np.uint16)


def _plain(image: Image.Image) -> Image.Image:
    """The picture in mode L, LA, RGB or RGBA."""
    if image.mode == "CMYK":
        return _from_cmyk(image)
    grey = image.mode in ("1", "L", "LA", "La")
    mode = ("LA" if grey else "RGBA") if image.has_transparency_data else "L" if grey else "RGB"
    return image if image.mode == mode else image.convert(mode)  # which copies, even to the mode it has


def _from_cmyk(image: Image.Image) -> Image.Image:
    """RGB through the embedded profile, then with an sRGB profile; without a usable profile by Pillow's formula."""
    profile = image.info.pop("icc_profile", None)
    if not profile:
        return image.convert("RGB")
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    try:
        converted = ImageCms.profileToProfile(image, BytesIO(profile), srgb, outputMode="RGB")
    except ImageCms.PyCMSError:
        return image.convert("RGB")
    assert converted is not None
    image.info["icc_profile"] = srgb.tobytes()
    return converted


def _split(samples: Image.Image | Pixels) -> tuple[Pixels, Pixels | None]:
    array = _array(samples) if isinstance(samples, Image.Image) else samples
    array = array[..., None] if array.ndim == 2 else array
    if array.shape[2] in (1, 3):
        return array, None
    return np.ascontiguousarray(array[..., :-1]), np.ascontiguousarray(array[..., -1])


def _array(image: Image.Image) -> NDArray[np.uint8]:
    """Samples (H, W) or (H, W, bands), copied in bands of rows: Pillow would hand over another copy of all."""
    bands = len(image.getbands())
    array = np.empty((image.height, image.width, bands)[: 2 + (bands > 1)], np.uint8)
    for top in range(0, image.height, _ROWS):
        bottom = min(top + _ROWS, image.height)
        array[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return array
