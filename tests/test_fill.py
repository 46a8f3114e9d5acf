"""The first guess in a hole: known pixels to the bit, what was hidden does not show, and it is as smooth as its rim."""

import numpy as np
import pytest

from rddm.fill import smooth_fill
from rddm.photo import Pixels

SIZES = ((64, 64), (61, 47), (33, 50))


def ramp(height: int, width: int, dtype: type, bands: int = 3) -> Pixels:
    """Return a photo that rises to the right, downwards, and both, over the whole range."""
    y, x = np.mgrid[:height, :width]
    planes = np.stack([x / (width - 1), y / (height - 1), (x + y) / (height + width - 2)], axis=2)
    return np.rint(np.iinfo(dtype).max * planes[..., :bands]).astype(dtype)


def hole(kind: str, height: int, width: int) -> Pixels:
    mask = np.zeros((height, width), np.uint8)
    rows = slice(0, height // 4) if kind == "corner" else slice(height // 3, height // 2)
    columns = {
        "inside": slice(width // 3, width // 2),
        "border": slice(width - 8, width),
        "corner": slice(0, width // 4),
    }
    mask[rows, columns[kind]] = 255
    return mask


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("kind", "near"), [("inside", 0.025), ("border", 0.12), ("corner", 0.3)]
)  # measured: 0.016, 0.079, 0.255; beyond the border nothing is known, so a ramp becomes flat
@pytest.mark.parametrize("bands", [1, 3])
def test_a_ramp_is_filled_near_the_ramp(bands: int, kind: str, near: float, size: tuple[int, int], dtype: type) -> None:
    pixels, mask = ramp(*size, dtype, bands), hole(kind, *size)
    kept, top = pixels.copy(), float(np.iinfo(dtype).max)
    out = smooth_fill(pixels, mask)
    assert out.shape == pixels.shape and out.dtype == dtype and np.array_equal(pixels, kept)
    assert np.array_equal(out[mask == 0], pixels[mask == 0])
    assert np.abs(out.astype(float) - pixels).max() < near * top
    lost = np.where(mask[..., None] > 0, np.iinfo(dtype).max - pixels, pixels)
    assert np.array_equal(smooth_fill(lost, mask), out)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_noise_stays_to_the_bit_and_nothing_leaves_its_range(dtype: type) -> None:
    """Averages of what is known: a value outside of it comes from elsewhere."""
    random = np.random.default_rng(0)
    low, high = np.iinfo(dtype).max // 4, np.iinfo(dtype).max // 2
    pixels = random.integers(low, high, (45, 37, 3), dtype, endpoint=True)
    mask = (random.random((45, 37)) < 0.7).astype(np.uint8)  # not 0 is missing, whatever it is
    out = smooth_fill(np.where(mask[..., None] > 0, np.zeros_like(pixels), pixels), mask)
    assert np.array_equal(out[mask == 0], pixels[mask == 0])
    assert low <= out.min() and out.max() <= high
    filled = out[mask > 0].astype(float) / np.iinfo(dtype).max
    assert filled.std() < 0.5 * (pixels / np.iinfo(dtype).max).std()  # and it is smooth; measured: 0.41, 0.42


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (40, 40)])
def test_one_known_pixel_colours_all(shape: tuple[int, int]) -> None:
    colour = np.array([3, 200, 77], np.uint8)
    mask = np.full(shape, 255, np.uint8)
    mask[-1, 0] = 0
    pixels = np.where(mask[..., None] > 0, np.uint8(0), colour)
    assert (smooth_fill(pixels, mask) == colour).all()


def test_without_a_hole_nothing_happens() -> None:
    pixels = ramp(7, 5, np.uint16)
    assert np.array_equal(smooth_fill(pixels, np.zeros((7, 5), np.uint8)), pixels)
