"""Engines: whole numbers against floats, half the bits, what is remembered of a machine, and how they are refused."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from models import restoring_model
from PIL import Image
from torch import nn

from rddm import bench
from rddm.bench import Timing, best_of, cache_file, machine, remember, remembered
from rddm.cli import main
from rddm.cost import parameters
from rddm.engines import ENGINES, Cast, Engine, engine_for
from rddm.errors import UserError
from rddm.model import load
from rddm.nn.compact import CompactConfig
from rddm.nn.int8 import Rounded, available
from rddm.nn.unet import UNetConfig
from rddm.restore import prepare, run

CPU = torch.device("cpu")
VNNI = pytest.mark.skipif(not available(), reason="needs a CPU of x86 with VNNI")
PUBLISHED = UNetConfig(dim=16, mults=(1, 2, 3))


def conv(stride: int = 1) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(32, 24, 3, stride, padding=1).requires_grad_(False)


@VNNI
@pytest.mark.parametrize("stride", [1, 2])
def test_whole_numbers_are_exact(stride: int) -> None:
    """Kernels of -127 to 127 and images of 254 whole steps, not around zero, lose nothing but round-off."""
    exact, draw = conv(stride), torch.Generator().manual_seed(1)
    exact.weight.copy_(torch.randint(-127, 128, exact.weight.shape, generator=draw))
    exact.weight[:, 0, 0, 0] = 127  # every channel's scale is one
    x = torch.randint(-54, 201, (2, 32, 9, 11), generator=draw).float()
    x[0, 0, 0, :2] = torch.tensor([-54.0, 200.0])
    expected = exact(x)
    # Measured: 0.031 of 4e5, round-off of float32.
    assert float((Rounded(exact)(x) - expected).abs().max()) < 1e-6 * float(expected.abs().max())


@VNNI
@pytest.mark.parametrize("shift", [0.0, 3.0, -9.0])
def test_two_roundings_are_lost(shift: float) -> None:
    exact, x = conv(), torch.randn(1, 32, 40, 40, generator=torch.Generator().manual_seed(1)) + shift
    expected = exact(x)
    lost = (Rounded(exact)(x) - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert 1e-4 < float(lost) < 0.02  # measured: 0.010, 0.005 and 0.004


@VNNI
def test_images_of_one_value() -> None:
    exact = conv()
    for value in (0.0, 0.7, -0.7):
        x = torch.full((1, 32, 8, 8), value)
        assert torch.allclose(Rounded(exact)(x), exact(x), atol=0.02 * float(exact(x).abs().max()))


@VNNI
@pytest.mark.parametrize("config", [PUBLISHED, CompactConfig(widths=(16, 24), blocks=(1, 1))])
def test_a_network_on_whole_numbers(config: UNetConfig | CompactConfig) -> None:
    model, pixels = restoring_model(config), np.random.default_rng(0).integers(0, 256, (150, 220, 3), np.uint8)
    before = run(prepare(model, 150, 220, tile=128), pixels)
    small = copy.deepcopy(model).optimize("int8")
    assert sum(isinstance(part, Rounded) for part in small.modules()) >= 7
    found = run(prepare(small, 150, 220, tile=128), pixels)
    assert 0 < np.abs(before.astype(int) - found).mean() < 6  # measured: 4.3 and 0.2 of 255, of noise
    assert parameters(small) == parameters(model) == sum(weight.numel() for weight in model.net.parameters())


def test_half_of_the_bits() -> None:
    """On any CPU; the engine itself is for processors that compute so."""
    for config in (PUBLISHED, CompactConfig(widths=(16, 24), blocks=(1, 1))):
        model = restoring_model(config)
        x, clock = torch.randn(2, 6, 24, 40), torch.tensor([[900.0], [10.0]])
        expected = model.net(x, clock)[0]
        (found,) = Cast(model.net, torch.bfloat16)(x, clock)
        assert found.dtype == torch.float32
        lost = float((found - expected).square().mean().sqrt() / expected.square().mean().sqrt())
        assert 1e-4 < lost < 0.05  # measured: 0.013 and 0.005


def test_engines_are_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="--engine abacus: expected one of float32, int8, bfloat16"):
        engine_for("abacus", CPU)
    with pytest.raises(UserError, match="--engine bfloat16: runs where processors compute in it, found meta; expected"):
        engine_for("bfloat16", torch.device("meta"))
    with pytest.raises(UserError, match="random: was optimized for float32, expected a model as it was loaded"):
        restoring_model(PUBLISHED).optimize().optimize("int8")


def test_the_best_engine_saves_a_fifth() -> None:
    timings = {"float32": Timing([1.0, 1.2, 1.1], 0.0), "int8": Timing([0.5, 5.0, 0.9], 0.5)}
    assert best_of(timings) == "float32"  # 0.9 of 1.1 is not enough
    assert best_of(timings | {"int8": Timing([0.8, 0.8, 9.0], 0.5)}) == "int8"


def test_what_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine("quick", ENGINES["float32"].make, lambda device: device.type == "cpu", "on a CPU", copy.deepcopy)
    monkeypatch.setitem(ENGINES, "quick", engine)
    assert remembered("cpu") == "float32"
    assert remember("cpu", "quick", {"quick": 0.1}) == cache_file()
    assert remembered("cpu") == "quick"
    known = json.loads(cache_file().read_text())
    cache_file().write_text(json.dumps({"another machine": {"best": "quick"}} | known))
    remember("cpu", "float32", {})
    assert remembered("cpu") == "float32" and "another machine" in json.loads(cache_file().read_text())
    for text in ("{", "[]", json.dumps({machine("cpu"): {"best": "gone"}}), json.dumps({machine("cpu"): 3})):
        cache_file().write_text(text)
        assert remembered("cpu") == "float32"
        remember("cpu", "quick", {})  # what cannot be read is replaced
        assert remembered("cpu") == "quick"


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RDDM_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(UserError, match="expected another folder in RDDM_CACHE"):
        remember("cpu", "float32", {})


def test_bench_measures_and_restore_goes_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "ROUNDS", 1)
    monkeypatch.setattr(bench, "best_of", lambda timings: [*timings][-1])
    assert main(["bench", "--side", "64"]) == 0
    told = capsys.readouterr().out
    best = remembered("cpu")
    assert f"best: {best}" in told and "12 megapixels" in told and machine("cpu") in told
    Image.fromarray(np.full((40, 50, 3), 20, np.uint8)).save(tmp_path / "photo.png")
    for engine in ("auto", "float32"):
        command = ["restore", str(tmp_path / "photo.png"), "-o", str(tmp_path / "out.png"), "--engine", engine]
        assert main([*command, "--model", "low-light"]) == 0
        assert (f", {best}," in capsys.readouterr().out) == (engine == "auto" and best != "float32")
    assert main(["bench", "--side", "8"]) == 2
    assert capsys.readouterr().err == "rddm: --side: found 8, expected at least 64 pixels\n"


@VNNI
def test_low_light_on_whole_numbers_is_off_by_less_than_a_level() -> None:
    """The bundled model on the sample; the protocol's figure stands in docs/speed.md."""
    pixels = np.array(
        Image.open(Path(__file__).parents[1] / "samples" / "low-light" / "input" / "22.png").convert("RGB")
    )
    pixels = pixels[:256, :256]
    timings = bench.measured_engines(load("low-light"), "cpu", pixels)
    assert timings["float32"].apart == 0 and 0.05 < timings["int8"].apart < 1.5  # measured: 0.55
