"""Metrics equal the published evaluation, other implementations, and values worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load_file

from rddm import matlab
from rddm.matlab import imrescale, imresize, luma, rgb2ycbcr, srgb2lab
from rddm.metrics import METRICS, lab_error, ms_ssim, psnr, ssim


def noisy_pair(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return a smooth image of 8 bits and a noisy copy of it."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
    image = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))
    return image, np.rint(image + random.normal(0, 20, image.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("file", ["eval/psnr_ssim_y.safetensors"])
def test_golden_psnr_and_ssim_on_luma(golden: Path, file: str) -> None:
    arrays = load_file(golden / file)
    for case in "012":
        a, b = arrays[f"{case}/result"], arrays[f"{case}/gt"]
        found = np.array([METRICS["psnr-y"](a, b), METRICS["ssim-y"](a, b)])
        assert np.abs(found - arrays[f"{case}/psnr_ssim"]).max() < 1e-9  # measured 7e-15


def test_equal_images_are_equal() -> None:
    image, other = noisy_pair(170, 180)
    for name, metric in METRICS.items():
        best = float("inf") if name.startswith("psnr") else 1.0
        assert metric(image, image) == pytest.approx(best, abs=1e-12)
        assert metric(image, other) == pytest.approx(metric(other, image)) and metric(image, other) < 40


def test_psnr_by_hand() -> None:
    black, one = np.zeros((4, 4, 3), np.uint8), np.ones((4, 4, 3), np.uint8)
    assert psnr(black, one) == pytest.approx(20 * np.log10(255))
    assert psnr(black / 255.0, one / 255.0, 1) == pytest.approx(20 * np.log10(255))
    with pytest.raises(ValueError, match=r"\(4, 4, 3\) and \(4, 5, 3\)"):
        psnr(black, np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(ValueError, match="at least 11x11"):
        ssim(black, one)


def test_ssim_of_constant_images_is_the_light_factor_alone() -> None:
    a, b = np.full((20, 20, 3), 100, np.uint8), np.full((20, 20, 3), 120, np.uint8)
    c1 = 2.55**2
    expected = (2 * 100 * 120 + c1) / (100**2 + 120**2 + c1)
    assert ssim(a, b) == pytest.approx(expected) and matlab.ssim(a, b) == pytest.approx(expected)


def test_ms_ssim_equals_torchmetrics() -> None:
    functional = pytest.importorskip("torchmetrics.functional.image")
    a, b = noisy_pair(176, 192)
    x, y = (torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)[None] for image in (a, b))
    expected = functional.multiscale_structural_similarity_index_measure(x, y, data_range=255.0)
    one = functional.multiscale_structural_similarity_index_measure(x[:, :1], y[:, :1], data_range=255.0)
    # torchmetrics keeps the padded border in the light factor of the last scale: measured 6e-6 apart; and it averages
    # over the channels before it multiplies
    assert ms_ssim(a[..., :1], b[..., :1]) == pytest.approx(float(one), abs=3e-5)
    assert ms_ssim(a, b) == pytest.approx(float(expected), abs=1e-3)
    assert ms_ssim(a, b) == pytest.approx(np.mean([ms_ssim(a[..., c : c + 1], b[..., c : c + 1]) for c in range(3)]))
    with pytest.raises(ValueError, match="161x161"):
        ms_ssim(a[:160], b[:160])


def test_volume_ssim_equals_the_definition() -> None:
    """A Gaussian over rows, columns and channels, borders replicated, by scipy."""
    ndimage = pytest.importorskip("scipy.ndimage")
    a, b = (image.astype(float) for image in noisy_pair(40, 50))

    def blurred(volume: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(volume, 1.5, mode="nearest", radius=5)

    m, n, c1, c2 = blurred(a), blurred(b), 2.55**2, 7.65**2
    above = (2 * m * n + c1) * (2 * (blurred(a * b) - m * n) + c2)
    below = (m**2 + n**2 + c1) * (blurred(a * a) - m**2 + blurred(b * b) - n**2 + c2)
    assert matlab.ssim(a, b) == pytest.approx((above / below).mean(), abs=1e-12)  # measured 1e-16
    assert abs(matlab.ssim(a, b) - ssim(a, b)) > 1e-3  # it is not the mean of the channels
    assert matlab.ssim(a / 255, b / 255, 1) == pytest.approx(matlab.ssim(a, b))


def test_ycbcr_of_the_colour_bars() -> None:
    """Rec. 601's own table of the eight bars."""
    colours = [(255, 255, 255), (255, 255, 0), (0, 255, 255), (0, 255, 0), (255, 0, 255), (255, 0, 0), (0, 0, 255)]
    bars = [(235, 128, 128), (210, 16, 146), (170, 166, 16), (145, 54, 34), (106, 202, 222), (81, 90, 240)]
    image = np.array([[*colours, (0, 0, 0)]], np.uint8)
    expected = np.array([[*bars, (41, 240, 110), (16, 128, 128)]], np.uint8)
    assert np.array_equal(rgb2ycbcr(image), expected) and np.array_equal(luma(image), expected[..., :1])


def test_lab_is_relative_to_d50() -> None:
    """Red, green, blue and white as profiles of sRGB have them; with D65 red is 53.24, 80.09, 67.20."""
    colours = np.array([[(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (0, 0, 0)]], float)
    expected = [(54.29, 80.82, 69.90), (87.82, -79.26, 80.99), (29.57, 68.30, -112.05), (100, 0, 0), (0, 0, 0)]
    assert np.abs(srgb2lab(colours)[0] - expected).max() < 0.03  # the white of the profile is off by .02


def test_lab_equals_scikit_image_after_adaptation() -> None:
    """By another way: XYZ of D65 by scikit-image, Bradford's adaptation to D50, Lab by scikit-image."""
    color = pytest.importorskip("skimage.color")
    image = np.random.default_rng(0).random((20, 20, 3))
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    whites = np.array([[0.95047, 1, 1.08883], [0.9642, 1, 0.8249]]) @ bradford.T
    adapt = np.linalg.inv(bradford) @ np.diag(whites[1] / whites[0]) @ bradford
    expected = color.xyz2lab(color.rgb2xyz(image) @ adapt.T, illuminant="D50")
    assert np.abs(srgb2lab(image) - expected).max() < 0.06  # measured 0.045: scikit-image rounds D50 otherwise


def test_lab_error_sums_channels_and_divides_by_the_mask() -> None:
    a, b = np.zeros((4, 4, 3)), np.zeros((4, 4, 3))
    b[0, :2] = 1
    mask = np.zeros((4, 4), bool)
    mask[0] = True
    difference = np.abs(srgb2lab(b[:1, :1])).sum()  # L is 100
    assert lab_error(a, b, mask) == pytest.approx(difference * 2 / 4) and difference == pytest.approx(100, abs=0.05)
    assert lab_error(a, b) == pytest.approx(difference * 2 / 16) and lab_error(a, b, ~mask) == 0
    with pytest.raises(ValueError, match="mask"):
        lab_error(a, b, np.zeros((4, 4), bool))


def test_halving_has_the_weights_of_the_widened_kernel() -> None:
    """Cubic at .25, .75, 1.25, 1.75 over two: worked out by hand, as is the mirror at the border."""
    half = [-0.01171875, -0.03515625, 0.11328125, 0.43359375]
    matrix = matlab.resize_matrix(10, 5, 0.5)
    assert np.array_equal(matrix[2, 1:9], [*half, *half[::-1]])
    assert np.array_equal(matrix[0, :5], [half[3] + half[2], half[3] + half[1], half[2] + half[0], half[1], half[0]])
    ramp = np.arange(1.0, 11)[:, None]
    assert np.array_equal(imrescale(ramp, 0.5).ravel(), [1.44921875, 3.48828125, 5.5, 7.51171875, 9.55078125])


def test_doubling_has_the_weights_of_the_plain_kernel() -> None:
    """Cubic at .25 and .75 from either side."""
    weights = np.array([-0.0703125, 0.8671875, 0.2265625, -0.0234375])
    matrix = matlab.resize_matrix(6, 12, 2)
    assert np.array_equal(matrix[5, 1:5], weights) and np.array_equal(matrix[6, 1:5], weights[::-1])


def test_eight_bits_are_rounded_after_either_side() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    rows_first = imresize(imresize(image, (10, 60)), (10, 30))
    assert np.array_equal(imresize(image, (10, 30)), rows_first)  # the rows shrink more
    columns_first = imresize(imresize(image, (40, 15)), (20, 15))
    assert np.array_equal(imresize(image, (20, 15)), columns_first)
    exact = imresize(image.astype(float), (10, 30))
    assert 0.5 < np.abs(exact - rows_first).max() < 1.2 and imresize(image, (10, 30)).dtype == np.uint8
    overshoot = imresize(np.array([[0, 0, 255, 255]], float), (1, 8))
    assert overshoot.min() < 0 and overshoot.max() > 255  # floats are not clipped
    with pytest.raises(ValueError, match="float32"):
        imresize(image.astype(np.float32), (10, 30))


def test_scale_places_samples_and_size_rounds_up() -> None:
    ramp = np.arange(7.0)[:, None] * np.ones((1, 3))
    assert imrescale(ramp, 0.5).shape == (4, 2)
    assert not np.allclose(imrescale(ramp, 0.5), imresize(ramp, (4, 2)))
    even = np.arange(8.0)[:, None] * np.ones((1, 4))
    assert np.array_equal(imrescale(even, 0.5), imresize(even, (4, 2)))


@pytest.mark.parametrize("size", [(37, 64), (100, 90), (11, 200)])
def test_inside_it_is_the_antialiased_bicubic_of_torch_and_pillow(size: tuple[int, int]) -> None:
    """They cut the kernel at the border, where MATLAB mirrors; inside all three are one."""
    image = noisy_pair(90, 120)[1]
    found = imresize(image.astype(float), size)
    tensor = torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)[None]
    torchs = torch.nn.functional.interpolate(tensor, size, mode="bicubic", antialias=size[0] < 90)
    if size[0] < 90 and size[1] < 120:
        inside = np.s_[3:-3, 3:-3]
        assert np.abs(found - torchs[0].permute(1, 2, 0).numpy())[inside].max() < 1e-9  # measured 3e-13
    pillows = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC)).astype(float)
    assert np.abs(imresize(image, size) - pillows)[3:-3, 6:-6].max() <= 1


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 50), st.integers(1, 50), st.integers(0, 255))
def test_resizing_keeps_constants_and_sizes(h: int, w: int, height: int, width: int, value: int) -> None:
    image = np.full((h, w, 3), value, np.uint8)
    assert np.array_equal(imresize(image, (height, width)), np.full((height, width, 3), value, np.uint8))
    random = np.random.default_rng(h).integers(0, 256, (h, w, 3), np.uint8)
    assert np.array_equal(imresize(random, (h, w)), random)
    turned = imresize(random.swapaxes(0, 1).astype(float), (width, height)).swapaxes(0, 1)
    assert np.allclose(imresize(random.astype(float), (height, width)), turned)
