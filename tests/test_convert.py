"""The authors' checkpoints become models of ours and restore as they did there."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from rddm.cli import main
from rddm.convert import OBJECTIVES, convert_published
from rddm.errors import UserError
from rddm.methods import METHODS
from rddm.model import load
from rddm.path import gaussian
from rddm.sample import sample
from rddm.schedules import PowerPath, TablePath
from rddm.solvers import Ancestral


@pytest.mark.parametrize("file", ["checkpoint/exp2_model-1.probe.safetensors"])
def test_golden_a_converted_checkpoint_restores_as_recorded(golden: Path, tmp_path: Path, file: str) -> None:
    arrays = load_file(golden / file)
    convert_published(golden / "checkpoint/exp2_model-1.pt", tmp_path)
    model = load(tmp_path)
    method = model.spec.method
    x_in = 2 * arrays["x_input"] - 1
    solver = Ancestral(method.gain, method.anchor)
    restored = sample(model.denoiser(), x_in, method.path.grid(5), solver, lambda like: arrays["noise_init"])
    assert ((restored + 1) / 2 - arrays["restored"]).abs().max() < 5e-5  # measured 1.4e-6
    assert method.path == PowerPath() and method.name == "rddm-res" and method.target is METHODS["rddm-res"].target


def test_a_converted_checkpoint_restores_a_photo(golden: Path, tmp_path: Path) -> None:
    assert main(["convert", str(golden / "checkpoint/exp2_model-1.pt"), str(tmp_path / "model")]) == 0
    Image.new("RGB", (70, 50), (20, 30, 40)).save(tmp_path / "dark.png")
    out = tmp_path / "out.png"
    assert main(["restore", str(tmp_path / "dark.png"), "-o", str(out), "--model", str(tmp_path / "model")]) == 0
    assert Image.open(out).size == (70, 50)


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_generators_are_shown_the_plane(golden: Path, tmp_path: Path, weights: str) -> None:
    model = convert_published(golden / "checkpoint/exp0_two_net_model-1.pt", tmp_path, weights)
    method = load(tmp_path).spec.method
    assert isinstance(method.path, TablePath) and method.origin == "zero" and method.inputs == ()
    out = sample(model.denoiser(), torch.zeros(1, 3, 16, 16), method.path.grid(3), noise=gaussian())
    assert torch.isfinite(out).all() and out.abs().max() <= 1
    with pytest.raises(UserError, match="generates images"):
        model.restore(Image.new("RGB", (8, 8)))


def test_an_objective_that_does_not_fit_is_refused(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(golden / "checkpoint/exp2_model-1.pt")
    for objective, complaint in (("pred_res_noise", "expected 2"), ("magic", "found 'magic'")):
        assert main(["convert", source, str(tmp_path / "out"), "--objective", objective]) == 2
        assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(["convert", str(tmp_path / "nothing.pt"), str(tmp_path / "out")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_every_objective_has_a_target_and_a_clip() -> None:
    assert {target.heads for target, _ in OBJECTIVES.values()} == {1, 2}
