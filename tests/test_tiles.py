"""Tiles cover, blend without a trace, share their noise, and agree with the whole image for both networks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import restoring_model

from rddm.memory import call_bytes
from rddm.nn.compact import CompactConfig
from rddm.nn.unet import UNetConfig
from rddm.path import gaussian
from rddm.restore import OVERLAP, prepare, reduced, run
from rddm.tiles import Blend, NoiseField, Tile, plan, spans, strips


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return a smooth dark image with some texture, uint8 (height, width, 3)."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 60
    waves = np.stack([np.sin(y + c) * np.cos(x * (1 + c / 3)) for c in range(3)], -1)
    return (40 + 30 * waves + random.normal(0, 3, waves.shape)).clip(0, 255).astype(np.uint8)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 3000), st.integers(96, 600), st.sampled_from([8, 16, 32]))
def test_spans_cover_in_order(length: int, size: int, multiple: int) -> None:
    found = spans(length, size, 64, multiple)
    assert found[0][0] == 0 and found[-1][1] == length
    assert all(
        start % multiple == 0 and stop - start <= max(size, length if length <= size else 0) for start, stop in found
    )
    assert all(a[1] - b[0] >= 64 for a, b in zip(found, found[1:]))  # neighbours overlap in full


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 500), st.integers(1, 500), st.sampled_from([128, 192]))
def test_blending_the_image_itself_gives_it_back(height: int, width: int, size: int) -> None:
    image = np.random.default_rng(0).random((height, width, 3), np.float32)
    blend = Blend(height, width, 3, OVERLAP)
    rows, parts = plan(height, width, size, OVERLAP, 16), []
    for row, bottom in strips(rows, height):
        for tile in row:
            blend.add(tile, image[tile.top : tile.bottom, tile.left : tile.right])
        parts.append(blend.take(bottom))
        assert len(blend.total) <= size
    assert np.abs(np.concatenate(parts) - image).max() < 1e-6


def test_a_tile_smaller_than_its_overlap_is_refused() -> None:
    with pytest.raises(ValueError, match="tile: found 64"):
        plan(500, 500, 64, OVERLAP, 16)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 700), st.integers(0, 700), st.integers(1, 300), st.integers(1, 300))
def test_noise_does_not_know_the_tiles(top: int, left: int, height: int, width: int) -> None:
    field, whole = NoiseField(7), Tile(0, 0, 1024, 1024)
    crop = field.crop(0, Tile(top, left, min(top + height, 1024), min(left + width, 1024)))
    expected = WHOLE[:, :, top : top + height, left : left + width]
    assert torch.equal(crop, expected) and whole.bottom == WHOLE.shape[2]


WHOLE = NoiseField(7).crop(0, Tile(0, 0, 1024, 1024))


def test_noise_is_standard_normal_and_its_draws_differ() -> None:
    assert abs(float(WHOLE.mean())) < 0.003 and abs(float(WHOLE.std()) - 1) < 0.003
    other = NoiseField(7).crop(1, Tile(0, 0, 256, 256))
    assert abs(float((other * WHOLE[..., :256, :256]).mean())) < 0.01
    assert not torch.equal(other, NoiseField(8).crop(1, Tile(0, 0, 256, 256)))


def border_difference(a: np.ndarray, b: np.ndarray, rows: list[list[Tile]]) -> float:
    """Return the mean absolute difference, in 1/255, within 4 pixels of where tiles take over from one another."""
    difference = np.abs(a.astype(float) - b)
    tops = {tile.top + OVERLAP // 2 for row in rows[1:] for tile in row}
    lefts = {tile.left + OVERLAP // 2 for row in rows for tile in row[1:]}
    bands = [difference[y - 4 : y + 4] for y in tops] + [difference[:, x - 4 : x + 4] for x in lefts]
    return float(np.mean([band.mean() for band in bands]))


def test_tiles_agree_with_the_whole_compact_network() -> None:
    """Nothing is pooled: what is left is the reach of the network beyond the overlap."""
    model, pixels = restoring_model(CompactConfig(in_channels=9, widths=(16, 24, 32, 32), context=48)), photo(400, 336)
    whole, job = run(prepare(model, 400, 336, tile=0), pixels), prepare(model, 400, 336, tile=192)
    assert job.tiles == 9
    assert (
        border_difference(run(job, pixels), whole, job.rows) < 0.5
    )  # measured 0.44: random weights reach far; the trained model has 0.18
    assert np.abs(whole.astype(int) - pixels).mean() > 3  # the network does something


def test_tiles_of_a_network_that_pools_agree_with_one_another() -> None:
    """Played from one tape, tiles see the same statistics: their overlaps are alike; without it they are not."""
    model, pixels = restoring_model(UNetConfig(dim=16, mults=(1, 2, 4))), photo(256, 400)
    pixels[:, 200:] += 120  # two halves that a tile's own statistics tell apart
    from rddm.restore import Source, record, restore_tile

    job = prepare(model, 256, 400, tile=256)
    left, right = job.rows[0][:2]
    source, field = Source(model, pixels), NoiseField(0)

    def disagreement(tape) -> float:  # noqa: ANN001
        a, b = (restore_tile(job, source, tile, field, tape) for tile in (left, right))
        middle = (right.left + left.right) // 2
        return float(
            np.abs(a[:, middle - 4 : middle + 4] - b[:, middle - right.left - 4 : middle - right.left + 4]).mean()
        )

    taped, alone = disagreement(record(job, source)), disagreement(None)
    assert taped < alone / 20  # measured .0006 against .106
    assert taped < 2 / 255


def test_stochastic_steps_draw_the_same_noise_in_every_tile() -> None:
    from rddm.transition import residual

    model = restoring_model(CompactConfig(widths=(16, 24), blocks=(1, 1)), clip="x0")
    model.spec = replace(model.spec, method=replace(model.spec.method, gain=residual, steps=4))
    pixels = photo(300, 300)
    whole, job = run(prepare(model, 300, 300, tile=0), pixels), prepare(model, 300, 300, tile=192)
    assert border_difference(run(job, pixels), whole, job.rows) < 0.5


@pytest.mark.parametrize("config", [CompactConfig(in_channels=9, context=48), UNetConfig(dim=16, mults=(1, 2, 4))])
def test_memory_is_predicted(config: CompactConfig | UNetConfig) -> None:
    """Against the allocator's own count of what is alive, on the same shapes."""
    from torch.profiler import ProfilerActivity, profile

    model = restoring_model(config)
    x, clock = torch.zeros(1, config.in_channels, 160, 128), torch.zeros(1, config.told)
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        model.net(x, clock)
    alive = peak = 0
    for event in record.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            alive += event.nbytes()
            peak = max(peak, alive)
    predicted = call_bytes(model, 160, 128) - 4 * x.numel()
    assert predicted == pytest.approx(peak, rel=0.25)


def test_the_result_may_replace_the_photo_and_both_may_lie_in_files(tmp_path: Path) -> None:
    model, pixels = restoring_model(CompactConfig(widths=(8, 16), blocks=(1, 1))), photo(700, 150)
    job = prepare(model, 700, 150, tile=128)
    assert len(job.rows) > 5
    expected = run(job, pixels)
    shown, out = (np.memmap(tmp_path / name, np.uint8, "w+", shape=pixels.shape) for name in ("in", "out"))
    shown[:] = pixels
    assert run(job, shown, out=out) is out and np.array_equal(out, expected) and np.array_equal(shown, pixels)
    assert run(job, pixels, out=pixels) is pixels and np.array_equal(pixels, expected)


def test_reducing_averages() -> None:
    pixels = photo(123, 457)
    small = reduced(pixels, 64, 64)
    assert small.shape[0] <= 64 and small.shape[1] <= 64 and small.dtype == np.uint8
    assert abs(small.mean() - pixels.mean()) < 1
    assert reduced(pixels[:1], 64, 64).shape[0] == 1


def test_noise_sources_fit_the_sampler() -> None:
    like = torch.zeros(2, 3, 4, 5, dtype=torch.float64)
    draw = gaussian(torch.Generator().manual_seed(0))
    assert draw(like).shape == like.shape and draw(like).dtype == like.dtype
