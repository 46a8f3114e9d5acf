"""Distances of sets: the formulas against known answers, the floor, the interval, what the space sees, mistakes."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from rddm import inception
from rddm.errors import UserError
from rddm.inception import INCEPTION, INCEPTION_FID, Inception
from rddm.setdistance import (
    Gaussian,
    Reference,
    Space,
    diversity,
    features,
    figure,
    fitted,
    frechet,
    inner_means,
    kernel_means,
    left_out,
    pixel_diversity,
)
from rddm.wavelet import gabor


@pytest.fixture(autouse=True)
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inception's weights are not looked for where this machine may have them."""
    monkeypatch.setenv("RDDM_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))


def blobs(count: int, seed: int, side: int = 32) -> Tensor:
    """Return smooth random images with some grain."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 5, 5, generator=generator) * 1.6 - 0.8
    grain = 0.05 * torch.randn(count, 3, side, side, generator=generator)
    return (F.interpolate(coarse, size=(side, side), mode="bilinear") + grain).clamp(-1, 1)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference(blobs(400, 0))


def squared_mmd(x: Tensor, y: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return inner_means(x, first) + inner_means(y, second) - 2 * kernel_means(x, y, first, second)


def test_frechet_of_two_gaussians() -> None:
    """Commuting covariances: the sum over axes of squared differences of means and of deviations, turned at will."""
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    deviations = torch.tensor([[1, 2, 0.5, 3, 0, 1], [2, 2, 0.1, 1, 1, 0]], dtype=torch.float64)
    means = torch.tensor([[0, 1, 0, 0, 2, 0], [1, 1, 0, 0, 0, 0.5]], dtype=torch.float64)
    a, b = (Gaussian(turn @ m, turn @ torch.diag(d**2) @ turn.T) for m, d in zip(means, deviations))
    expected = float((means[0] - means[1]).square().sum() + (deviations[0] - deviations[1]).square().sum())
    assert frechet(a, b) == pytest.approx(expected, abs=1e-6)  # measured 3e-8: the root of a zero that is 1e-16
    assert frechet(b, a) == pytest.approx(expected, abs=1e-6) and frechet(a, a) == pytest.approx(0, abs=1e-6)


def test_frechet_that_does_not_commute() -> None:
    """Against the closed form for 2x2: tr (AB)^(1/2) = sqrt(tr AB + 2 sqrt(det AB))."""
    a, b = (torch.tensor(m, dtype=torch.float64) for m in ([[2, 0.9], [0.9, 1]], [[1, -0.4], [-0.4, 3]]))
    zero = torch.zeros(2, dtype=torch.float64)
    root = math.sqrt(float((a @ b).trace()) + 2 * math.sqrt(float(torch.det(a @ b))))
    assert frechet(Gaussian(zero, a), Gaussian(zero, b)) == pytest.approx(3 + 4 - 2 * root, abs=1e-12)


def test_both_distances_are_those_of_the_library() -> None:
    """FID's and KID's own functions give the same of the same features."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, 9, generator=generator, dtype=torch.float64) + shift for n, shift in ((30, 0), (40, 0.3)))
    found = frechet(fitted(x), fitted(y))
    assert found == pytest.approx(inception.frechet(x.numpy(), y.numpy()), abs=1e-10)
    found = squared_mmd(x, y, *(torch.ones(len(z), 1, dtype=torch.float64) for z in (x, y)))
    assert found.item() == pytest.approx(inception.squared_mmd(x.numpy(), y.numpy()), abs=1e-12)


def test_the_kernel_distance_has_no_bias() -> None:
    """Over many pairs of sets of one distribution the mean is 0, and many are below."""
    x = torch.randn(600, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    orders = torch.rand(600, 200, generator=torch.Generator().manual_seed(2)).argsort(0)
    first, second = (orders < 20).double(), ((orders >= 20) & (orders < 40)).double()
    found = squared_mmd(x, x, first, second)
    error = float(found.std()) / math.sqrt(200)
    assert abs(float(found.mean())) < 3 * error and found.min() < 0 < found.max()  # measured 1.1 errors


def test_the_interval_of_a_mean_is_students() -> None:
    """With a group for each image the jackknife's deviation is a mean's; each image is in one group."""
    x = torch.randn(20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    means = torch.stack([x.mean(), *((column @ x) / column.sum() for column in left_out(20).T)])
    found = figure(means, 0.0)
    assert found.high - found.value == pytest.approx(2.09 * float(x.std()) / math.sqrt(20), rel=1e-9)
    assert (left_out(50) == 0).sum(1).eq(1).all() and set((left_out(50) == 0).sum(0).tolist()) == {2, 3}


def test_a_wave_has_the_response_one() -> None:
    """At its own frequency and orientation; none to a flat image, and little across."""
    k = 0.6 * math.pi
    wave = torch.cos(k * torch.arange(32.0)).expand(1, 1, 32, 32)
    real, imaginary = F.conv2d(wave, gabor()).chunk(2, dim=1)
    heard = torch.hypot(real, imaginary).mean((0, 2, 3))
    assert heard[0] == pytest.approx(0.5, abs=0.02) and heard[2] < 0.05  # a real wave is two complex ones of half
    assert F.conv2d(torch.ones(1, 1, 32, 32), gabor()).abs().max() < 1e-6


@pytest.mark.parametrize(("side", "size"), [(32, 184), (64, 256)])
def test_features(side: int, size: int) -> None:
    images = blobs(3, 5, side)
    found = features(images)
    assert found.shape == (3, size) and torch.equal(found[1:2], features(images[1:2]))
    assert torch.allclose(features(images.flip(3)).mean(1), found.mean(1), atol=0.02)  # cells and orientations swap


def harmed(images: Tensor) -> dict[str, list[Tensor]]:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(9))
    smooth = [F.avg_pool2d(F.pad(images, (r,) * 4, mode="reflect"), 2 * r + 1, 1) for r in (1, 2)]
    return {
        "blur": smooth,
        "noise": [(images + sigma * noise).clamp(-1, 1) for sigma in (0.1, 0.2)],
        "few": [images[torch.arange(len(images)) % count] for count in (60, 20, 5)],
        "cast": [(images + shift * torch.tensor([1.0, 0, 0]).view(3, 1, 1)).clamp(-1, 1) for shift in (0.1, 0.3)],
    }


@pytest.mark.parametrize("harm", ["blur", "noise", "few", "cast"])
def test_distances_rise_with_harm(reference: Reference, harm: str) -> None:
    images = blobs(200, 1)
    rows = [reference.compare(part) for part in (images, *harmed(images)[harm])]
    for name in ("frechet-wavelet", "kernel-wavelet"):
        values = [row[name].value for row in rows]
        assert values == sorted(values), (name, values)
        assert values[1] > rows[0][name].floor and rows[1][name].low > values[0]


def test_what_is_told_of_real_images(reference: Reference) -> None:
    """Others of their like stay near the floor, inside its interval; the same twice is the same."""
    found = reference.compare(blobs(200, 2))
    assert list(found) == ["frechet-wavelet", "kernel-wavelet"] and found == reference.compare(blobs(200, 2))
    for told in found.values():
        assert told.low < told.value < told.high and told.floor > 0
        assert told.low < told.floor  # in agreement with being real
    assert found["frechet-wavelet"].value > 0.8 * found["frechet-wavelet"].floor  # the bias of 200 images, not 0


def test_the_floor_falls_with_the_number_of_images(reference: Reference) -> None:
    floors = [reference.compare(blobs(count, 3))["frechet-wavelet"].floor for count in (50, 100, 200)]
    assert floors == sorted(floors, reverse=True)
    more = reference.compare(torch.cat([blobs(200, 3), -torch.ones(50, 3, 32, 32)]))
    assert more == reference.compare(blobs(200, 3))  # no more than half as many as are real


def test_another_space() -> None:
    """Its name is in the figures' names; in one of three numbers the mean is exact."""
    images = blobs(400, 0)
    mean = Space("mean", lambda images: images.mean((2, 3)))
    found = Reference(images, mean).compare((images[:200] + 0.1).clamp(-1, 1))
    assert list(found) == ["frechet-mean", "kernel-mean"]
    assert found["frechet-mean"].value == pytest.approx(3 * 0.1**2, rel=0.25)  # measured 0.031 of 0.03


def test_diversity() -> None:
    images = blobs(40, 4)
    twice = images[torch.arange(40) % 2]
    for measure in (diversity, pixel_diversity):
        assert measure(images[:1].expand(5, -1, -1, -1)) == pytest.approx(0, abs=1e-6)
        assert 0 < measure(twice) < measure(images)
    black, white = torch.full((2, 3, 16, 16), -1.0), torch.full((1, 3, 16, 16), 1.0)
    assert pixel_diversity(torch.cat([black, white])) == pytest.approx(4 / 3, abs=1e-6)  # distances 0, 2 and 2
    x = features(images[:2]).double()
    assert diversity(images[:2]) == pytest.approx(float((x[0] - x[1]).square().mean().sqrt()), abs=1e-9)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (torch.zeros(9, 3, 32, 32), "found 9, expected at least 10"),
        (torch.zeros(0, 3, 32, 32), "found 0, expected at least 10"),
        (torch.zeros(20, 1, 32, 32), r"found shape \(20, 1, 32, 32\), expected \(N, 3, H, W\)"),
        (torch.zeros(3, 32, 32), r"found shape \(3, 32, 32\)"),
        (torch.zeros(20, 3, 8, 32), "of 16 pixels or more"),
        (torch.zeros(20, 3, 64, 64), r"found \(3, 64, 64\), expected \(3, 32, 32\)"),
        (torch.full((20, 3, 32, 32), 255.0), r"from 255 to 255, expected floats in \[-1, 1\]"),
        (torch.zeros(20, 3, 32, 32, dtype=torch.uint8), "found torch.uint8"),
        (torch.full((20, 3, 32, 32), math.nan), "from nan to nan"),
    ],
)
def test_mistakes(reference: Reference, images: Tensor, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        reference.compare(images)


def test_too_few_real_images_or_for_a_diversity() -> None:
    with pytest.raises(UserError, match="found 19, expected at least 20"):
        Reference(blobs(19, 0))
    with pytest.raises(UserError, match="found 1, expected at least 2"):
        diversity(blobs(1, 0))


class Small(Inception):
    """Inception's place taken by means of colours, and classes made of them."""

    def __init__(self, *_: object) -> None:
        torch.nn.Module.__init__(self)
        self.fc = torch.nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def test_fid_kid_and_is_where_their_weights_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inception, "Inception", Small)
    torch.manual_seed(0)
    for file in (INCEPTION_FID, INCEPTION):
        torch.save(Small().state_dict(), tmp_path / file)
    real = blobs(60, 0, 16)
    known = Reference(real)
    near, far = known.compare(blobs(30, 1, 16)), known.compare(blobs(30, 1, 16).clamp(0, 1))
    assert list(near) == ["frechet-wavelet", "kernel-wavelet", "fid", "kid", "is"]
    for name in ("fid", "kid"):
        assert near[name].low < near[name].value < near[name].high
        assert (
            near[name].value < 10 * abs(near[name].floor) < far[name].value
        )  # measured: 0.004 and 0.0003, 0.08 and 0.08
    assert near["is"].floor == pytest.approx(near["is"].value, rel=0.2) and near["is"].value >= 1
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    saved = [((x + 1) * 127.5).round() / 127.5 - 1 for x in (blobs(30, 1, 16), real[order[:30]])]
    means = [x.mean((2, 3)).double().numpy() for x in saved]
    assert near["fid"].value == pytest.approx(inception.frechet(*means), abs=1e-6)
    assert np.isfinite([value for figure in far.values() for value in figure]).all()
