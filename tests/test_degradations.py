"""Each degradation does what its equation says, for any size, to the bit again, and its text form is exact."""

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from rddm.degradations import DEGRADATIONS, Chain, Choice, Range, base, describe, parse
from rddm.degradations.kernels import convolve, disc, gaussian, line, reflected, shaken
from rddm.degradations.light import to_linear, to_srgb
from rddm.degradations.noise import Sensor, bayer_sites, demosaiced, exposed
from rddm.degradations.rain import DISTANCES, Streaks, trace
from rddm.errors import UserError

FIRST = {"noise": "25", "awgn": "25", "shot": "50", "blur": "0..3", "defocus": "0..9", "motion": "0..40"}
FIRST |= {"shake": "0..40", "downscale": "1..5", "jpeg": "5..95"}
TEXTS = [f"{name}({FIRST.get(name, '')})" for name in DEGRADATIONS]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scene(height: int = 64, width: int = 80, seed: int = 0) -> Tensor:
    """Return random smooth colours with an edge and a little texture, reaching 0 and 1."""
    coarse = torch.rand(1, 3, 6, 6, generator=seeded(seed))
    image = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    image[:, :, width // 2 :] *= 0.5
    image += 0.1 * torch.rand(3, height, width, generator=seeded(seed + 1))
    return ((image - image.min()) / (image.max() - image.min())).contiguous()


def flat(level: float, side: int = 128) -> Tensor:
    return torch.full((3, side, side), level)


def degraded(text: str, image: Tensor, seed: int = 0) -> Tensor:
    return parse(text)(image, seeded(seed)).image


# Every degradation


@pytest.mark.parametrize("text", TEXTS)
@settings(max_examples=12, deadline=None)
@given(height=st.integers(16, 70), width=st.integers(16, 70), seed=st.integers(0, 99))
def test_any_size_gives_a_picture_of_that_size_again_and_again(text: str, height: int, width: int, seed: int) -> None:
    image = scene(height, width, seed)
    before = image.clone()
    first, second = (parse(text)(image, seeded(seed)) for _ in range(2))
    assert torch.equal(image, before) and first.image.data_ptr() != image.data_ptr()
    assert first.image.shape == image.shape and first.image.dtype == torch.float32 and first.image.is_contiguous()
    assert torch.equal(first.image, second.image)
    assert first.image.isfinite().all()
    assert text.startswith("awgn") or (first.image.min() >= 0 and first.image.max() <= 1)
    assert (first.mask is None) == (text.split("(")[0] not in {"drops", "shadow", "centre_mask", "irregular_mask"})
    if first.mask is not None and second.mask is not None:
        assert first.mask.shape == (1, height, width) and first.mask.dtype == torch.float32
        assert torch.equal(first.mask, second.mask) and first.mask.min() >= 0 and first.mask.max() <= 1


@pytest.mark.parametrize("text", [text for text in TEXTS if not text.startswith("centre")])
def test_ranges_draw_from_the_generator_given_and_from_no_other(text: str) -> None:
    state = torch.get_rng_state()
    results = [degraded(text, scene(), seed) for seed in range(3)]
    assert not torch.equal(results[0], results[1]) and not torch.equal(results[1], results[2])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "text",
    ["blur(0)", "defocus(0)", "motion(0)", "shake(0)", "haze(0)", "shadow(0)", "drops(0)", "rain(0, veil=0)"]
    + ["heavy_rain(0)", "centre_mask(0)", "irregular_mask(0)", "noise(0)", "awgn(0)"],
)
def test_strength_zero_is_the_identity(text: str) -> None:
    image = scene()
    assert (degraded(text, image) - image).abs().max() < 1e-5  # measured 3e-6, of light to code and back


def test_strength_zero_of_8_bit_degradations_is_rounding() -> None:
    image = scene()
    assert (degraded("downscale(1)", image) - image).abs().max() < 0.51 / 255
    dark = degraded("low_light(0, iso=25, well=2e5, read=0, cast=0)", image) - image
    assert dark.square().mean().sqrt() < 0.003  # what remains is shot noise: measured 0.0015


def test_light_and_code_are_inverse_and_known() -> None:
    code = torch.linspace(0, 1, 1001)
    assert (to_srgb(to_linear(code)) - code).abs().max() < 1e-6  # measured 9e-8
    assert float(to_linear(torch.tensor(0.5))) == pytest.approx(0.21404, abs=1e-5)
    assert float(to_srgb(torch.tensor(0.5))) == pytest.approx(0.73536, abs=1e-5)


# Noise


def test_noise_has_the_asked_deviation() -> None:
    for sigma in (5, 25):
        noise = degraded(f"noise({sigma})", flat(0.5)) - 0.5
        assert float(noise.std()) * 255 == pytest.approx(sigma, rel=0.01)  # 49,152 samples: 0.3 % is one deviation
        assert abs(float(noise.mean())) * 255 < sigma * 0.02
        assert abs(float((noise[0] * noise[1]).mean())) < 0.02 * (sigma / 255) ** 2 + 1e-6  # channels do not agree


def test_noise_is_clamped_and_awgn_is_not() -> None:
    dark = flat(0.0)
    assert degraded("noise(25)", dark).min() == 0
    unclamped = degraded("awgn(25)", dark)
    assert float(unclamped.std()) * 255 == pytest.approx(25, rel=0.01) and abs(float(unclamped.mean())) * 255 < 0.5
    assert torch.equal(unclamped.clamp(0, 1), degraded("noise(25)", dark))


def test_shot_noise_has_variance_light_over_photons() -> None:
    for level in (0.02, 0.1, 0.4):
        light = to_linear(degraded("shot(400)", to_srgb(flat(level))))
        assert float(light.mean()) == pytest.approx(level, rel=0.01)
        assert float(light.var()) * 400 == pytest.approx(level, rel=0.03)


def test_camera_noise_grows_with_iso_and_is_correlated() -> None:
    """Noise of neighbours correlates by demosaicing; log-log slope of variance over ISO is 1 where shot noise rules."""
    light = [to_linear(degraded(f"camera({iso}, 20000, 0)", to_srgb(flat(0.3)))) for iso in (100, 800)]
    assert float(light[1].var() / light[0].var()) == pytest.approx(8, rel=0.05)
    noise = light[0] - light[0].mean((1, 2), keepdim=True)
    assert abs(float(noise.mean())) < 1e-3
    correlation = (noise[:, :, 1:] * noise[:, :, :-1]).mean((1, 2)) / noise.square().mean((1, 2))
    assert (correlation > 0.3).all()  # measured 0.39 in green, 0.67 in red and blue; white noise has 0 +- 0.01


def test_demosaicing_keeps_what_is_flat() -> None:
    colour = torch.tensor([0.2, 0.5, 0.9])[:, None, None].expand(3, 20, 23)
    for seed in range(4):
        sites = bayer_sites(20, 23, seeded(seed))
        assert torch.equal(sites.sum(0), torch.ones(20, 23))
        assert (demosaiced(colour * sites) - colour).abs().max() < 1e-6  # measured 0
    assert float(bayer_sites(20, 20, seeded())[1].mean()) == 0.5


def test_white_balance_gains_amplify_shot_noise() -> None:
    """A channel of gain g has variance ``g L / electrons``, times 9/16 (red, blue) or 5/8 (green) by demosaicing."""
    sensor = Sensor(1000, 0, torch.tensor([3.0, 1.0, 2.0])[:, None, None], 0)
    variance = exposed(flat(0.3), sensor, seeded()).var((1, 2)) * 1000 / 0.3
    assert variance.tolist() == pytest.approx([3 * 9 / 16, 5 / 8, 2 * 9 / 16], rel=0.05)  # measured 4 % off


def test_low_light_is_the_asked_stops_darker() -> None:
    for stops in (1, 3):
        light = to_linear(degraded(f"low_light({stops}, iso=100, read=1)", flat(0.9)))
        share = float(light.mean() / to_linear(flat(0.9)).mean())
        assert share == pytest.approx(2.0**-stops, rel=0.002)  # measured 0.02 %
    codes = degraded("low_light(4)", scene()) * 255
    assert (codes - codes.round()).abs().max() < 1e-4


# Blur


@pytest.mark.parametrize("size", [0, 0.3, 1, 2.5, 7, 20])
def test_kernels_are_shares_of_light(size: float) -> None:
    for kernel in (disc(size), gaussian(size), line(size, 33), shaken(size, seeded())):
        assert kernel.min() >= 0 and float(kernel.sum()) == pytest.approx(1, abs=1e-5)
        assert kernel.shape[0] == kernel.shape[1] and kernel.shape[0] % 2 == 1
        rows, columns = centroid(kernel)
        assert abs(rows) < 1e-4 and abs(columns) < 1e-4  # the picture does not move; measured 2e-7


def centroid(kernel: Tensor) -> tuple[float, float]:
    side = torch.arange(kernel.shape[0]) - kernel.shape[0] // 2
    return float((kernel.sum(1) * side).sum()), float((kernel.sum(0) * side).sum())


def moments(kernel: Tensor) -> tuple[float, float, float]:
    """Return variances along and across the long axis, and its angle in degrees anticlockwise from +x, in [0, 180)."""
    side = torch.arange(kernel.shape[0], dtype=torch.float32) - kernel.shape[0] // 2
    up, right = -side[:, None], side[None]
    yy, xx, xy = (float((kernel * m).sum()) for m in (up * up, right * right, up * right))
    values = np.linalg.eigvalsh(np.array([[xx, xy], [xy, yy]]))
    return values[1], values[0], math.degrees(0.5 * math.atan2(2 * xy, xx - yy)) % 180


@pytest.mark.parametrize(("length", "angle"), [(5, 0), (9.5, 30), (16, 90), (24.25, 135), (40, 172)])
def test_motion_has_the_asked_length_and_angle(length: float, angle: float) -> None:
    """A segment's variance is length^2/12 along it; antialiasing adds at most 1/6 along and across."""
    image = torch.zeros(3, 101, 101)
    image[:, 50, 50] = 1
    spot = to_linear(degraded(f"motion({length}, {angle})", image))[0]
    assert float(spot.sum()) == pytest.approx(1, rel=1e-3)
    along, across, found = moments(spot)
    assert -2.1 < 12 * (along - across) - length**2 < 2.1 and across < 0.18
    assert (found - angle + 90) % 180 - 90 == pytest.approx(0, abs=0.5)


def test_discs_and_gaussians_have_their_size() -> None:
    for size in (2.5, 6):
        assert moments(disc(size))[0] == pytest.approx(size**2 / 4 + 1 / 12, rel=0.02)
        assert moments(gaussian(size))[0] == pytest.approx(size**2 + 1 / 12, rel=0.01)
    assert shaken(20, seeded()).shape[0] <= 2 * 21 + 3


def test_convolution_is_the_sum_of_its_definition() -> None:
    light, kernel = scene(17, 23), line(9, 20)
    radius = kernel.shape[0] // 2
    padded = np.pad(light.numpy(), ((0, 0), (radius, radius), (radius, radius)), mode="reflect")
    expected = torch.nn.functional.conv2d(torch.from_numpy(padded)[:, None], kernel.flip(0, 1)[None, None])[:, 0]
    assert (convolve(light, kernel) - expected).abs().max() < 1e-6  # measured 2e-7
    assert reflected(4, 9).tolist() == np.pad(np.arange(4), 9, mode="reflect").tolist()


@pytest.mark.parametrize("text", ["blur(2)", "defocus(5)", "motion(13)", "shake(20)"])
def test_blur_keeps_what_is_flat_and_the_light_of_a_lamp(text: str) -> None:
    assert (degraded(text, flat(0.4, 40)) - 0.4).abs().max() < 1e-6  # measured 6e-8
    lamp = torch.zeros(3, 80, 80)
    lamp[:, 38:42, 38:42] = 1
    assert float(to_linear(degraded(text, lamp)).sum()) == pytest.approx(48, rel=1e-5)  # measured 4e-7


# Files and resizing


def test_downscaling_leaves_nothing_above_nyquist() -> None:
    """Factor 4 keeps periods above 8 pixels: one of 16 survives, one of 3 does not fold to a lower frequency."""
    x = torch.arange(96)
    for period, kept in ((16, 0.8), (3, 0.0)):
        wave = 0.5 + 0.25 * torch.sin(2 * math.pi * x / period).expand(3, 96, 96)
        share = float(degraded("downscale(4)", wave)[:, 20:-20, 20:-20].std() / wave.std())
        assert share > kept if kept else share < 0.02  # measured 0.88 and 0.01


def test_downscaling_is_pillows_in_floating_point() -> None:
    image = scene(61, 83)
    for channel, found in zip(image, degraded("downscale(3)", image), strict=True):
        small = Image.fromarray(channel.numpy()).resize((28, 20), Image.Resampling.BICUBIC)
        rounded = np.rint(np.clip(np.asarray(small), 0, 1) * 255).astype(np.float32) / 255
        whole = np.asarray(Image.fromarray(rounded).resize((83, 61), Image.Resampling.BICUBIC))
        assert np.abs(found.numpy() - whole.clip(0, 1)).max() < 1e-5  # measured 5e-7


@pytest.mark.parametrize(("quality", "chroma", "sampling"), [(10, 2, "4:2:0"), (75, 2, "4:2:0"), (90, 1, "4:4:4")])
def test_jpeg_is_pillows(quality: int, chroma: int, sampling: str) -> None:
    image = scene()
    file = io.BytesIO()
    pixels = np.floor(image.numpy().transpose(1, 2, 0) * 255 + 0.5).astype(np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=sampling)
    expected = np.asarray(Image.open(file)).transpose(2, 0, 1)
    found = degraded(f"jpeg({quality}, {chroma})", image).numpy() * 255
    assert np.array_equal(np.rint(found), expected)


# Weather and shadow


def test_haze_follows_the_equation_to_the_airlight() -> None:
    """``(L' - A) / (L - A) = exp(-beta d)``: its logarithms at two thicknesses are as these; far above, near below."""
    image = scene(64, 64) * 0.4
    assert (to_linear(degraded("haze(1000, 0.7)", image)) - 0.7).abs().max() < 1e-6  # measured 6e-8
    thin, thick = (
        torch.log((to_linear(degraded(f"haze({beta}, 0.7)", image)) - 0.7) / (to_linear(image) - 0.7))
        for beta in (0.5, 2)
    )
    assert (thick - 4 * thin).abs().max() < 1e-5  # measured 2e-6
    assert -2.001 < thick[:, :16].mean() < 2 * thick[:, 48:].mean() < -0.2


def test_a_veil_is_light_added_in_linear_light() -> None:
    light = to_linear(degraded("rain(0, veil=0.1)", flat(0.5, 32)))
    assert float(light.mean()) == pytest.approx(0.9 * 0.21404 + 0.1, abs=1e-5)


@pytest.mark.parametrize("text", ["rain", "rain(300, 40, -30, 3, 1, 0.1)", "heavy_rain", "heavy_rain(layers=5)"])
def test_rain_only_adds_light(text: str) -> None:
    image = scene() * 0.6
    for seed in range(3):
        added = degraded(text, image, seed) - image
        assert added.min() > -1e-6 and added.mean() > 0.01  # measured 0 and 0.024 at least


def test_rain_falls_as_dense_and_in_the_direction_asked() -> None:
    dark = torch.zeros(3, 128, 128)
    sparse, dense = (degraded(f"heavy_rain({n}, 20, 0, 1, 1, 0.2, 0.25, 0.3)", dark).mean() for n in (20, 80))
    assert float(dense / sparse) == pytest.approx(4, rel=0.35)  # counts of 50 and 200 are random: measured 4.11
    for angle, steps in ((0, (1, 0)), (45, (1, 1)), (-45, (1, -1))):
        drops = degraded(f"heavy_rain(40, 25, {angle}, 1, 1, 0.5, 0.25, 0.3)", dark)[0]
        moved = torch.roll(drops, (5 * steps[0], 5 * steps[1]), (0, 1))
        crossed = torch.roll(drops, (5 * steps[1], -5 * steps[0]), (0, 1))
        assert (drops * moved).mean() > 2 * (drops * crossed).mean()  # measured 4.7 at least


def test_a_trace_has_its_angle_and_area() -> None:
    """Its ends fade over a quarter of the length and half a pixel: the area is ``width (3/4 length + 1/2)``."""
    for width in (0.5, 1, 3):
        cover = trace(20, Streaks(1, 24, width, 30))
        assert float(cover.sum()) == pytest.approx(width * (0.75 * 24 + 0.5), rel=0.02)
        assert moments(cover / cover.sum())[2] == pytest.approx(120, abs=0.5)  # the lower end is to the right
        assert cover.max() <= min(width, 1)


def test_rain_covers_what_its_traces_add_up_to_evenly() -> None:
    """Mean cover: the sum over layers of density x mean strength (0.65) x area."""
    dark = torch.zeros(3, 160, 160)
    one, five = (degraded(f"heavy_rain(200, 20, 10, 1, {n}, 0.1, 0.25, 0.3)", dark) for n in (1, 5))
    expected = 200 / 1e4 * 0.65 * 15.5 * 0.1
    assert [float(one.mean()), float(five.mean())] == pytest.approx(
        [expected] * 2, rel=0.15
    )  # measured -1.7 and +5.4 %
    assert float(one[:, :12].mean()) == pytest.approx(float(one.mean()), rel=0.35)
    squares = [d * d for d in DISTANCES]
    cover = sum(100 * s / sum(squares) / 1e4 * 0.65 * 2 / d * (15 / d + 0.5) for s, d in zip(squares, DISTANCES))
    light = to_linear(degraded("rain(100, 20, 0, 2, 0.1, 0)", dark))
    assert float(light.mean()) == pytest.approx(0.1 * cover, rel=0.15)  # measured -6 %


def test_a_layer_of_heavy_rain_adds_no_more_than_its_brightness_and_the_same_to_all_colours() -> None:
    dark = torch.zeros(3, 96, 96)
    one, three = (degraded(f"heavy_rain(600, 40, 10, 2, {n}, 0.2, 0, 1)", dark) for n in (1, 3))
    assert float(one.max()) == pytest.approx(0.2, abs=1e-6) and (one > 0.1999).float().mean() > 0.99  # measured 0.998
    assert float(three.max()) == pytest.approx(0.6, abs=1e-6) and torch.equal(three[0], three[2])


def test_heavy_rain_is_as_heavy_as_rain100h() -> None:
    """Ten of Rain100H's pairs: PSNR 7.1 to 20.6 dB, mean 13.2; in the dark 0.06 to 0.53 is added, mean 0.22.

    There 21 to 94 % of the pixels, mean 66 %, are raised by more than 0.1, and a tenth by at least 0.16 to 0.84, mean
    0.43. Drawn rain is to have such means, and to come near the ends or go beyond them.
    """
    figures = torch.tensor([heaviness(seed) for seed in range(60)])
    difference = figures.mean(0) - torch.tensor([13.2, 0.22, 0.66, 0.43])
    assert (difference.abs() < torch.tensor([1.5, 0.05, 0.1, 0.08])).all()  # measured -0.9, 0.02, 0.06, 0.00
    low, high = figures.quantile(0.03, 0), figures.quantile(0.97, 0)
    assert (low < torch.tensor([7.5, 0.09, 0.35, 0.2])).all()  # measured 6.4, 0.06, 0.30, 0.14
    assert (high > torch.tensor([19, 0.4, 0.9, 0.7])).all()  # measured 22.2, 0.47, 0.98, 0.75


def heaviness(seed: int) -> tuple[float, float, float, float]:
    """Return PSNR; and on black the mean, the share above 0.1 and the quantile of 0.9, of one draw of heavy rain."""
    image = scene(128, 128, seed) * 0.8
    error = (degraded("heavy_rain", image, seed) - image).square().mean()
    added = degraded("heavy_rain", torch.zeros(3, 128, 128), seed)[0]
    return (
        -10 * math.log10(error),
        float(added.mean()),
        float((added > 0.1).float().mean()),
        float(added.quantile(0.9)),
    )


def test_drops_change_what_their_mask_covers_and_nothing_else() -> None:
    image = scene(96, 96)
    found = parse("drops(8, 6..12)")(image, seeded())
    assert found.mask is not None
    change = (found.image - image).abs().amax(0, keepdim=True)
    assert change[found.mask == 0].max() < 1e-6 and change[found.mask == 1].mean() > 0.1  # measured 9e-8, 0.34
    assert 0.1 < float(found.mask.mean()) < 0.4  # measured 0.24


def test_a_drop_shows_the_scene_upside_down() -> None:
    ramp = torch.linspace(0.2, 0.8, 200)[:, None].expand(3, 200, 200)
    found = parse("drops(1, 16, 1)")(ramp, seeded(4))
    assert found.mask is not None
    place = torch.nonzero(found.mask[0] == 1).float()
    near = ((place - place.mean(0)).abs() < torch.tensor([5.0, 3.0])).all(1)
    codes, rows = found.image[0][found.mask[0] == 1][near], place[near, 0]
    slope = float(torch.cov(torch.stack([rows, codes]))[0, 1] / rows.var()) / (0.6 / 199)
    assert -7 < slope < -2  # the scene is shrunk 3 to 6 times: measured -3.5


def test_shadow_takes_the_asked_share_of_light() -> None:
    for seed in range(4):
        image = flat(0.8, 64)
        found = parse("shadow(0.6)")(image, seeded(seed))
        assert found.mask is not None
        ratio = (to_linear(found.image) / to_linear(image))[:, found.mask[0] == 1].mean(1)
        assert float(ratio.mean()) == pytest.approx(0.4, abs=1e-3)
        assert ratio[2] > ratio[1] > ratio[0]  # the sky is blue
        assert torch.allclose(found.image[:, found.mask[0] == 0], torch.tensor(0.8), atol=1e-5)
        assert 0.02 < float(found.mask.mean()) < 0.9


def test_softness_is_the_width_of_the_penumbra() -> None:
    for seed in range(4):
        masks = [parse(f"shadow(0.5, {softness})")(flat(0.5), seeded(seed)).mask for softness in (2, 8)]
        areas = [int(((mask > 0) & (mask < 1)).sum()) for mask in masks if mask is not None]
        assert 2.5 < areas[1] / areas[0] < 5  # measured 4.0 to 4.1


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.8])
def test_masks_have_the_asked_share(share: float) -> None:
    image = scene(100, 128)
    for text, more in ((f"centre_mask({share})", 0.01), (f"irregular_mask({share})", 0.015)):
        found = parse(text)(image, seeded(int(share * 100)))
        assert found.mask is not None
        assert share - 0.01 <= float(found.mask.mean()) <= share + more  # measured -0.007 to +0.005
        hidden = found.mask.expand_as(image) == 1
        assert (found.image[hidden] == 0.5).all() and torch.equal(found.image[~hidden], image[~hidden])


# Composition and text


def test_a_chain_runs_from_left_to_right_and_joins_masks() -> None:
    image = scene()
    chain = parse("centre_mask(0.1) + blur(2) + irregular_mask(0.2)")(image, seeded())
    generator = seeded()
    first = parse("centre_mask(0.1)")(image, generator)
    last = parse("irregular_mask(0.2)")(parse("blur(2)")(first.image, generator).image, generator)
    assert torch.equal(chain.image, last.image)
    assert chain.mask is not None and first.mask is not None and last.mask is not None
    assert torch.equal(chain.mask, torch.maximum(first.mask, last.mask))


def test_a_choice_draws_each_option_as_often() -> None:
    image, either = scene(16, 16), parse("centre_mask | blur(1) + jpeg(50) | noise(5)")
    assert isinstance(either, Choice) and isinstance(either.options[1], Chain)
    generator = seeded()
    masked = sum(either(image, generator).mask is not None for _ in range(300))
    assert 70 < masked < 130  # a third of 300 within 3.7 deviations


def test_ranges_are_uniform_and_photons_log_uniform() -> None:
    generator = seeded()
    even = [base.draw(Range(2, 4), generator) for _ in range(500)]
    assert 2 <= min(even) < 2.02 and 3.98 < max(even) < 4 and np.mean(even) == pytest.approx(3, abs=0.1)
    stops = [math.log2(base.draw_log(Range(1, 256), generator)) for _ in range(500)]
    assert 0 <= min(stops) < 0.1 and 7.9 < max(stops) <= 8 and np.mean(stops) == pytest.approx(4, abs=0.4)
    assert {base.draw_whole(Range(1, 3), generator) for _ in range(50)} == {1, 2, 3}


def parameters(limits: base.Limits) -> st.SearchStrategy:
    value = st.floats(limits.low, limits.high)
    value = st.integers(int(limits.low), int(limits.high)).map(float) if limits.whole else value
    return value | st.tuples(value, value).map(lambda pair: Range(min(pair), max(pair)))


LEAVES = st.one_of(
    [st.builds(kind, **{n: parameters(v) for n, v in base.limits_of(kind).items()}) for kind in DEGRADATIONS.values()]
)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, min_size=2, max_size=3).map(tuple).map(Chain)
        | st.lists(inner, min_size=2, max_size=3).map(tuple).map(Choice)
    ),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(TREES)
def test_describe_is_the_inverse_of_parse(degradation: base.Degradation) -> None:
    assert parse(describe(degradation)) == degradation


@settings(max_examples=300, deadline=None)
@given(st.text("()|+,.=0123 noisejpg-_\n", max_size=30) | st.text(max_size=20))
def test_any_text_parses_or_is_refused_in_one_line(text: str) -> None:
    try:
        found = parse(text)
    except UserError as error:
        line = str(error)
    else:
        assert parse(describe(found)) == found
        return
    assert "\n" not in line and line.startswith("degradation ") and "found" in line and "expected" in line


def test_texts_may_be_written_in_several_ways() -> None:
    assert parse("noise(sigma=25)") == parse(" noise ( 25.0 ) ") == parse("(noise(2.5e1))")
    assert parse("motion(1..3, angle=-5 .. 5)") == parse("motion(length=1..3,angle=-5..5)")
    assert parse("gaussian_blur(2)") == parse("blur(2)") and parse("rain") == parse("rain()")
    assert describe(parse("blur(1..3)+noise(0..50) + jpeg(30..90)|haze(airlight=.5)")) == (
        "blur(1..3) + noise(0..50) + jpeg(30..90) | haze(airlight=0.5)"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "degradation '': found nothing, expected name(parameters), the name one of noise awgn shot camera"),
        (
            "nois(25)",
            "'nois(25)': found the name 'nois' (did you mean noise?), expected name(parameters), the name one",
        ),
        ("noise(", "degradation 'noise(': found a ( without its ), expected name(parameters)"),
        ("noise(25))", "found a ) without its (, expected"),
        ("noise(a)", "'noise(a)': found 'a', expected a number or a range a..b; it is written noise(sigma)"),
        ("noise(-3)", "sigma: found -3, expected a number from 0 to 255, or a range a..b of them"),
        ("noise(0..300)", "sigma: found 0..300, expected a number from 0 to 255"),
        ("noise(9..3)", "found 9..3, expected a range from low to high"),
        ("noise(1e999)", "sigma: found inf, expected a number from 0 to 255"),
        ("noise()", "sigma: found nothing, expected a number or a range a..b"),
        ("noise(1, 2)", "found '2', expected at most 1 parameters"),
        ("noise(sgima=3)", "found 'sgima=3', no parameter of this name, expected sigma"),
        ("motion(3, length=4)", "found 'length=4', a second time, expected length angle"),
        ("motion(length=4, 3)", "found '3' after a parameter with its name, expected name=value"),
        ("jpeg(300)", "quality: found 300, expected a whole number from 1 to 100"),
        ("jpeg(30.5)", "quality: found 30.5, expected a whole number from 1 to 100"),
        ("jpeg(30) +", "degradation '': found nothing, expected name(parameters)"),
        ("jpeg(30) noise(3)", "found 'jpeg(30) noise(3)', expected name(parameters)"),
        ("blur(1) / jpeg(3)", "found 'blur(1) / jpeg(3)', expected name(parameters)"),
        ("(" * 30 + "rain" + ")" * 30, "found more than 20 parentheses within one another"),
    ],
)
def test_bad_texts_are_refused_in_one_line(text: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(text)
    assert words in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 400
