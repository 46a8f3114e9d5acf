"""Data that are no photographs: drawn anew from their number, trained on, kept, restored; the experiment's filters."""

import math
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from test_dimensions import recipe_of
from test_experiments import module

from rddm.checkpoint import load_state, states
from rddm.draws import Draws, Samples
from rddm.errors import UserError
from rddm.journal import Journal, read_log
from rddm.model import network, read_model
from rddm.photos import Photos
from rddm.plan import accelerator_of
from rddm.synthetic import FRAMES, PAN, RATE, Drawn, Make, coarse, ecg, frame, heartbeats, pan, shapes, video
from rddm.trainer import Run, check_precision, train
from rddm.validate import batches, held_out_psnr, restored_batch, score

DATA = {1: (ecg, recipe_of(1, 1)), 2: (pan, recipe_of(2, 4, pan=1)), 3: (video, recipe_of(3, 1))}


def quiet(run: Run, samples: Samples, held: Samples, out: Path, seconds: float = math.inf) -> bool:
    """Train a run, with its log in a folder."""
    journal = Journal(out, run.recipe.steps, run.place.update, True)
    done = train(run, samples, held, out, journal, {}, deadline=seconds)
    journal.close()
    return done


@pytest.mark.parametrize("dims", DATA)
def test_other_data_is_trained_kept_and_restored(tmp_path: Path, dims: int) -> None:
    """It learns, and the model on disk gives the score that the log has."""
    make, recipe = DATA[dims]
    samples, held = Drawn(make, recipe, 4), Drawn(make, recipe, 4, stream=1)
    run = Run(recipe, accelerator_of(recipe))
    before = score(run.net, held)
    assert quiet(run, samples, held, tmp_path)
    scores = [line["score"] for line in read_log(tmp_path) if "score" in line]
    model = read_model(tmp_path / "model")
    assert max(scores) > before + 1  # dB; measured: 6.8, 3.7 and 2.0
    assert score(model.net, held) == pytest.approx(max(scores), abs=1e-4)
    (batch,) = batches(held, 2, torch.device("cpu"))
    assert restored_batch(model.net, recipe, batch).shape == batch.x_0.shape


def test_a_run_on_other_data_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    make, recipe = DATA[1]
    samples, held = Drawn(make, recipe, 4), Drawn(make, recipe, 2, stream=1)
    assert quiet(Run(recipe, accelerator_of(recipe)), samples, held, tmp_path / "whole")
    assert not quiet(Run(recipe, accelerator_of(recipe)), samples, held, tmp_path / "parts", 1e-9)
    run, state = Run(recipe, accelerator_of(recipe)), load_state(tmp_path / "parts", torch.device("cpu"))
    assert state is not None and 0 < state["place"][0] < recipe.steps
    run.load(state)
    assert quiet(run, samples, held, tmp_path / "parts")
    whole, parts = (torch.load(states(tmp_path / name)[-1], weights_only=True)["ema"] for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_the_psnr_of_tensors_is_that_of_what_is_restored() -> None:
    """A network that finds no residual returns its input, clipped."""
    recipe = DATA[1][1]
    held, net = Drawn(ecg, recipe, 20, stream=1), network(recipe.network).requires_grad_(False)
    for parameter in net.parameters():
        parameter.zero_()
    samples = [held[i, 64] for i in range(20)]
    errors = [(sample["x_in"].clamp(-1, 1) - sample["x_0"]).square().mean() for sample in samples]
    assert held_out_psnr(net, held) == pytest.approx(float(np.mean(10 * np.log10(4 / np.array(errors)))), abs=1e-4)


def test_what_does_not_fit_photographs_is_told_in_a_line() -> None:
    recipe = DATA[2][1]
    photos = cast(Photos, None)
    with pytest.raises(UserError, match=r"^recipe tiny: a network of 4 channels in 2 dimensions, expected 3 in 2 for"):
        Draws(photos, [0], recipe)
    colour = replace(recipe_of(2, 3), metric="psnr-rgb")
    with pytest.raises(
        UserError, match=r"^recipe tiny: metric 'psnr-rgb' is of photographs, expected 'psnr' or 'loss'$"
    ):
        score(network(colour.network), Drawn(ecg, colour, 1))


def test_what_torch_computes_wrongly_is_refused() -> None:
    recipe = replace(DATA[3][1], precision="bf16")
    with pytest.raises(UserError, match=r"^recipe tiny: found precision 'bf16' in 3 dimensions .* expected 'no'$"):
        check_precision(recipe, torch.device("cpu"))
    check_precision(recipe, torch.device("cuda"))
    check_precision(replace(DATA[2][1], precision="bf16"), torch.device("cpu"))


@pytest.mark.parametrize("make", [ecg, pan, video, frame])
def test_samples_are_functions_of_their_number(make: Make) -> None:
    """Same number, same sample; another number, seed or stream, another; clean ones lie in [-1, 1]."""
    recipe, side = DATA[1][1], 32
    drawn = Drawn(make, recipe, 1)
    first = drawn[3, side]
    assert all(torch.equal(value, drawn[3, side][name]) for name, value in first.items())
    others = (drawn[4, side], Drawn(make, recipe, 1, 1)[3, side], Drawn(make, replace(recipe, seed=1), 1)[3, side])
    for other in others:
        assert all(not torch.equal(first[name], other[name]) for name in ("x_0", "x_in", "eps"))
    clean = torch.stack([drawn[i, side]["x_0"] for i in range(50)])
    assert clean.shape[-1] == side and clean.abs().max() <= 1 and clean.std() > 0.05


def test_bands_are_of_sixteen_bits_and_share_their_light_with_the_panchromatic_image() -> None:
    scene = pan(64, torch.Generator().manual_seed(0))
    for name in ("x_0", "pan"):
        levels = (scene[name].double() + 1) * 32767.5
        assert (levels - levels.round()).abs().max() < 4e-3 and len(levels.unique()) > 1000  # float32; measured: 2e-3
    light = torch.tensordot(PAN, scene["x_0"], 1)
    assert float((light - scene["pan"][0]).std()) < 0.01 < 0.05 < float(light.std())  # measured: 0.0085, 0.18
    assert torch.allclose(coarse(torch.full((4, 32, 32), 0.3)), torch.full((4, 8, 8), 0.3))
    ramp = torch.arange(64.0).expand(1, 64, 64)
    assert torch.allclose(
        coarse(ramp)[0, 4, 3:-3], (torch.arange(16.0) * 4 + 1.5)[3:-3], atol=1e-3
    )  # in place; measured: 3e-5


def test_hearts_beat_fifty_to_a_hundred_and_twenty_times_a_minute() -> None:
    for seed in range(20):
        signal = heartbeats(30 * RATE, torch.Generator().manual_seed(seed))
        high = signal > 0.6 * signal.max()
        beats = int((high[1:] & ~high[:-1]).sum())
        assert 24 <= beats <= 61  # measured: 25 to 59


def test_shapes_move() -> None:
    frames = shapes(32, torch.Generator().manual_seed(0))
    steps = (frames[1:] - frames[:-1]).abs().mean((1, 2))
    assert frames.shape == (FRAMES, 32, 32) and float(steps.min()) > 0.005  # measured: 0.0076


CLASSICAL = module("classical")


def test_savitzky_golay_keeps_what_is_a_polynomial() -> None:
    time = torch.linspace(-1, 1, 200)
    cubic = (time**3 - time)[None, None]
    kept = CLASSICAL.savitzky_golay(cubic, 8, 4)[..., 8:-8]
    assert torch.allclose(kept, cubic[..., 8:-8], atol=1e-5)  # measured: 2e-7
    noise = torch.randn(1, 1, 200, generator=torch.Generator().manual_seed(0))
    assert CLASSICAL.savitzky_golay(noise, 8, 2).std() < 0.5 * noise.std()  # measured: 0.35


def test_filters_take_what_they_say_and_no_more() -> None:
    time = 2 * torch.pi * torch.arange(4 * RATE) / RATE
    heart, hum = torch.sin(5 * time)[None, None], torch.sin(50 * time)[None, None]
    middle = slice(RATE, -RATE)
    assert float((CLASSICAL.without_hum(heart + hum) - heart)[..., middle].abs().max()) < 0.1  # measured: 0.08
    assert float((CLASSICAL.monitored(heart + hum) - heart)[..., middle].abs().max()) < 0.1  # measured: 0.03
    ramp = torch.linspace(0, 3, 500)[None, None]
    assert float(CLASSICAL.levelled(ramp)[..., 100:-100].abs().max()) < 1e-5  # measured: 0


def test_substitution_adds_what_the_panchromatic_image_has_more() -> None:
    """Where bands differ by light alone, Brovey's rule finds the scene; GIHS adds the same detail to every band."""
    light = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.5
    bands = 2 * torch.tensor([0.2, 0.5, 0.8, 0.7]).view(1, 4, 1, 1) * light - 1
    low = torch.nn.functional.interpolate(coarse(bands[0])[None], size=(64, 64), mode="bicubic")
    scene = torch.tensordot(PAN, bands[0], 1)[None, None]
    assert torch.allclose(CLASSICAL.intensity(low, scene), torch.tensordot(PAN, low[0], 1), atol=1e-5)  # measured: 1e-7
    assert torch.allclose(CLASSICAL.brovey(low, scene), bands, atol=1e-5)  # measured: 8e-7
    added = CLASSICAL.gihs(low, scene) - low
    assert (
        torch.allclose(added, added[:, :1].expand_as(added), atol=1e-6) and added.std() > 0.05
    )  # measured: 1e-7, 0.14


def test_means_over_time_keep_what_stands_still() -> None:
    still = torch.rand(2, 1, 1, 4, 4).expand(-1, -1, FRAMES, -1, -1)
    assert torch.allclose(CLASSICAL.over_time(still, 2), still)
    moving = torch.arange(float(FRAMES)).view(1, 1, -1, 1, 1)
    assert CLASSICAL.over_time(moving, 1).flatten().tolist() == [0.5, 1, 2, 3, 4, 5, 6, 6.5]
    assert CLASSICAL.over_time(moving, 7).unique().tolist() == [3.5]
