"""Metrics equal the published evaluation and the data set's own stated figure."""

from pathlib import Path

import numpy as np
import pytest
from models import restoring_model
from PIL import Image
from safetensors.numpy import load_file

from rddm.cli import main
from rddm.errors import UserError
from rddm.metrics import luma, psnr, ssim
from rddm.nn.compact import CompactConfig
from rddm.protocols import PROTOCOLS, read_pairs


@pytest.mark.parametrize("file", ["eval/psnr_ssim_y.safetensors"])
def test_golden_psnr_and_ssim_on_luma(golden: Path, file: str) -> None:
    arrays = load_file(golden / file)
    for case in "012":
        a, b = luma(arrays[f"{case}/result"]), luma(arrays[f"{case}/gt"])
        found = np.array([psnr(a, b), ssim(a, b)])
        assert np.abs(found - arrays[f"{case}/psnr_ssim"]).max() < 1e-9  # measured 7e-15


def test_raw_low_light_has_its_stated_figures(shared: Path) -> None:
    """7.7733 dB and 0.1952, as the data's README states for RGB at full size."""
    scores = [
        PROTOCOLS["lol-rgb"].score(*(np.asarray(Image.open(file).convert("RGB")) for file in (degraded, clean)))
        for _, clean, degraded in read_pairs(shared / "data/lol/test/target", shared / "data/lol/test/input")
    ]
    assert len(scores) == 15
    assert np.mean([score.psnr for score in scores]) == pytest.approx(7.7733, abs=5e-5)
    assert np.mean([score.ssim for score in scores]) == pytest.approx(0.1952, abs=5e-5)


def test_equal_images_are_equal() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    assert psnr(image, image) == float("inf") and ssim(image, image) == pytest.approx(1)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_evaluate_prints_the_mean(protocol: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    restoring_model(CompactConfig(widths=(8, 16), blocks=(1, 1)), clip="x0").save_pretrained(tmp_path / "model")
    random = np.random.default_rng(0)
    for folder in ("clean", "degraded"):
        (tmp_path / folder).mkdir()
        for name in "ab":
            Image.fromarray(random.integers(0, 99, (30, 40, 3), np.uint8)).save(tmp_path / folder / f"{name}.png")
    folders = ["--clean", str(tmp_path / "clean"), "--degraded", str(tmp_path / "degraded")]
    arguments = ["evaluate", "--protocol", protocol, *folders, "--model", str(tmp_path / "model")]
    assert main([*arguments, "--json", str(tmp_path / "scores.json")]) == 0
    assert f"{protocol}: " in capsys.readouterr().out and "mean" in (tmp_path / "scores.json").read_text()
    (tmp_path / "clean" / "b.png").unlink()
    with pytest.raises(UserError, match="b is in one folder only"):
        read_pairs(tmp_path / "clean", tmp_path / "degraded")
