"""Measures of the look and the experiments that use them: closed forms, and both scripts on our samples."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from rddm.methods import METHODS

ROOT = Path(__file__).resolve().parents[1]


def script(name: str) -> ModuleType:
    """Return an experiment as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "experiments" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PERCEPTION = script("perception")


def texture(side: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(60, 196, (side, side, 3)).astype(np.uint8)


def test_a_wave_lies_in_the_band_of_its_frequency() -> None:
    """12.5 waves over 64 pixels are .195 cycles per pixel: between 6 and 7 of 32."""
    wave = 128 + 60 * np.cos(2 * np.pi * 12.5 / 64 * np.arange(64))
    found = PERCEPTION.spectrum(np.broadcast_to(wave[None, :, None], (64, 64, 3)))
    assert len(found) == 16 and found.argmax() == 6
    assert found[6] > 0.9 * found.sum()  # measured: 0.955; the window's skirt has the rest


def test_an_image_is_no_distance_from_itself() -> None:
    figures = PERCEPTION.measured(texture(), texture())
    assert figures["psnr"] == np.inf and figures["ssim"] == pytest.approx(1)
    assert figures["octave"] == figures["spectrum"] == figures["gradient"] == 0


def test_half_the_contrast_is_six_decibels_and_half_the_gradient() -> None:
    target = texture()
    output = (128 + (target.astype(float) - 128) / 2).round().astype(np.uint8)
    figures = PERCEPTION.measured(output, target)
    assert figures["octave"] == pytest.approx(-20 * np.log10(2), abs=0.02)  # measured: 0.014, rounding to 8 bits
    assert figures["spectrum"] == pytest.approx(20 * np.log10(2), abs=0.05)  # measured: 0.005
    slopes = np.hypot(*np.gradient(target @ PERCEPTION.GREY))
    assert figures["gradient"] == pytest.approx(slopes.mean() / 2, rel=0.01)  # measured: 5e-4


def test_grain_brings_the_energy_back_and_costs_decibels() -> None:
    target = texture()
    smooth = (128 + (target.astype(float) - 128) / 2).round().astype(np.uint8)
    without = PERCEPTION.measured(smooth, target)
    figures = PERCEPTION.measured(PERCEPTION.grained(smooth, target), target)
    assert abs(figures["octave"]) < 0.3 < abs(without["octave"])  # measured: 0.18; the two are not quite orthogonal
    assert figures["psnr"] < without["psnr"] - 1  # measured: -3.8 dB


def test_the_spread_is_taken_out_of_the_error_of_the_mean() -> None:
    """Eight samples of known mean and deviation: the error of a mean of endlessly many is that of their mean."""
    generator = torch.Generator().manual_seed(0)
    target = texture()
    clean = torch.from_numpy(target).permute(2, 0, 1) / 127.5 - 1
    samples = clean + 4 / 127.5 + 3 / 127.5 * torch.randn((8, 3, 64, 64), generator=generator)
    row = PERCEPTION.setting(samples, target)
    assert row["variance"] == pytest.approx(9, rel=0.03)  # measured: 9.07
    assert row["error"] == pytest.approx(16, rel=0.03)  # measured: 15.90


def test_an_exact_denoiser_samples_more_of_the_posterior_in_more_steps() -> None:
    shares = [PERCEPTION.expected(100.0, METHODS["rddm-res"], calls, "deterministic") for calls in (1, 5, 20, 200)]
    assert shares[0] < 1e-9 and shares == sorted(shares)
    assert shares[-1] == pytest.approx(1, abs=0.1)  # measured: 0.94


@pytest.mark.parametrize("name", ["perception", "unclipped"])
def test_scripts_run_on_the_samples(name: str, tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "experiments" / f"{name}.py", "--quick", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / f"{name}.json").read_text())
    if name == "unclipped":
        assert found["50"].keys() == {"unclipped", "rounded", "clipped"}
        assert abs(found["50"]["unclipped"] - found["50"]["rounded"]) < 0.02  # measured: 0.001
        return
    table = found["25"]
    assert table["deterministic 1"]["psnr"] > table["input"]["psnr"] + 5  # one step: denoise was trained at t = 1 alone
    assert table["deterministic 1"]["mean-psnr"] == table["residual 1"]["mean-psnr"]  # one call knows no gain
    assert (tmp_path / "perception.png").stat().st_size > 10_000
