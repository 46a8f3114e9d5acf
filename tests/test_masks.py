"""Models that are shown a mask: on the command line, in an evaluation and from Python; every mistake one line."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from complaints import complaint
from models import restoring_model
from PIL import Image

from rddm.cli import main
from rddm.clipping import clip_x_0
from rddm.errors import UserError
from rddm.methods import METHODS
from rddm.metrics import psnr
from rddm.model import Model, load
from rddm.nn.compact import CompactConfig
from rddm.photo_mask import mask_of, without_masks
from rddm.protocols import read_rgb
from rddm.restore import prepare, run

SIZE = 24, 40  # height, width


def shadow_model() -> Model:
    """Return a model that is shown a mask, with random weights."""
    model = restoring_model(CompactConfig(in_channels=9, heads=2, widths=(8, 16), blocks=(1, 1)))
    method = replace(METHODS["rddm"], inputs=("x_in", "mask"), clip=clip_x_0, steps=2)
    model.spec = replace(model.spec, name="shadows", method=method)
    return model


def picture(path: Path, seed: int, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(40, 200, (*size, 3), np.uint8)).save(path)
    return path


def mask(path: Path, rows: int = 9, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(exist_ok=True)
    pixels = np.zeros(size, np.uint8)
    pixels[:rows] = 255
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RDDM_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    shadow_model().save_pretrained("shadows")
    restoring_model(CompactConfig(widths=(8, 16), blocks=(1, 1)), clip="x0").save_pretrained("plain")
    return tmp_path


def restore(*arguments: str, model: str = "shadows") -> int:
    return main(["restore", *arguments, "--model", model])


def expected(photo: str, rows: int = 9, seed: int = 0) -> np.ndarray:
    """Return what the model makes of a photo with the upper rows in its mask."""
    white = np.zeros((*SIZE, 1), np.uint8)
    white[:rows] = 255
    job = prepare(shadow_model(), *SIZE, seed=seed, given=("mask",))
    return run(job, read_rgb(Path(photo)), mask=white)


def test_one_photo_and_its_mask(here: Path) -> None:
    picture(Path("a.png"), 0), mask(Path("m.png"), 9), mask(Path("other.png"), 20)
    assert restore("a.png", "--mask", "m.png", "-o", "out.png") == 0
    assert np.array_equal(read_rgb(Path("out.png")), expected("a.png"))
    assert restore("a.png", "--mask", "other.png", "-o", "two.png") == 0
    assert np.array_equal(read_rgb(Path("two.png")), expected("a.png", 20))
    assert not np.array_equal(read_rgb(Path("out.png")), read_rgb(Path("two.png")))
    Image.fromarray(np.full((*SIZE, 2), 255, np.uint8), "LA").save("clear.png")
    assert restore("a.png", "--mask", "clear.png", "-o", "three.png", "--tile", "128") == 0


def test_masks_beside_the_photos_or_in_a_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``a_mask.png`` beside ``a.png`` is no photo; in a folder of masks the photo's own name will do too."""
    for i, name in enumerate("ab"):
        picture(Path(f"photos/{name}.png"), i), mask(Path(f"photos/{name}_mask.png"), 5 + i)
        mask(Path(f"masks/{name}.png"), 5 + i)
    assert restore("photos", "--mask", "photos", "-o", "out") == 0
    assert "2 of 2 photos restored" in capsys.readouterr().out
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.png", "b.png"]
    for i, name in enumerate("ab"):
        assert np.array_equal(read_rgb(Path(f"out/{name}.png")), expected(f"photos/{name}.png", 5 + i))
    assert restore("photos/a.png", "photos/b.png", "--mask", "masks", "-o", "again") == 0
    assert all(Path(f"out/{n}.png").read_bytes() == Path(f"again/{n}.png").read_bytes() for n in "ab")
    assert mask_of(Path("photos/a.png"), Path("masks")) == Path("masks/a.png")
    odd = [Path("photos/x_mask.png"), Path("photos/a.png")]
    assert without_masks(odd, Path("photos")) == odd  # the mask of nothing is a photo
    mask(Path("masks/a_mask.png"))
    assert restore("photos/a.png", "--mask", "masks", "-o", "third.png") == 2
    assert "photos/a.png: found 2 masks in masks, expected one named a_mask or a" in complaint(capsys)


def test_from_python(here: Path) -> None:
    picture(Path("a.png"), 0), mask(Path("m.png"))
    model = load("shadows")
    photo, white = Image.open("a.png"), Image.open("m.png")
    assert np.array_equal(np.asarray(model.restore(photo, mask=white)), expected("a.png"))
    with pytest.raises(UserError, match=r"shadows: found no mask, expected one"):
        model.restore(photo)
    with pytest.raises(UserError, match=r"mask: found 9x9 pixels, expected 40x24, the size of the photo"):
        model.restore(photo, mask=white.resize((9, 9)))
    with pytest.raises(UserError, match=r"random: found a mask, expected none"):
        load("plain").restore(photo, mask=white)


def test_mistakes_are_one_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i, name in enumerate("ab"):
        picture(Path(f"photos/{name}.png"), i)
    mask(Path("small.png"), size=(9, 9)), mask(Path("m.png"))
    Path("empty").mkdir()
    for arguments, model, complaint_ in (
        (["photos"], "shadows", "shadows: found no mask, expected one (--mask)"),
        (["photos", "--mask", "m.png"], "plain", "random: found a mask, expected none: the model is shown none"),
        (["photos", "--mask", "nowhere"], "shadows", "--mask nowhere: no such file or folder"),
        (["photos/a.png", "--mask", "small.png"], "shadows", "small.png: found 9x9 pixels, expected 40x24"),
        (["photos/a.png", "--mask", "empty"], "shadows", "photos/a.png: found 0 masks in empty, expected one named"),
        (["photos/a.png", "--mask", "m.png"], "inpaint", "inpaint: fills the missing parts of a photo, expected rddm"),
    ):
        assert restore(*arguments, "-o", "out", model=model) == 2
        assert complaint_ in complaint(capsys)
    assert main(["restore", "photos/a.png", "--mask", "m.png", "-o", "out"]) == 2
    assert "--mask: found no --model, expected the name of a model that is shown a mask" in complaint(capsys)
    assert not Path("out").exists()


def evaluate(*arguments: str) -> int:
    return main(["evaluate", "--clean", "clean", "--protocol", "lol-rgb", "--out", "there", *arguments])


def test_an_evaluation_shows_the_mask(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i, name in enumerate("ab"):
        picture(Path(f"clean/{name}.png"), i), picture(Path(f"dark/{name}.png"), i + 5)
        mask(Path(f"masks/{name}.png"), 5 + i)
    assert evaluate("--degraded", "dark", "--mask", "masks", "--model", "shadows") == 0
    found = json.loads(Path("there/scores.json").read_text())["by_image"]
    for i, name in enumerate("ab"):
        own = psnr(expected(f"dark/{name}.png", 5 + i), read_rgb(Path(f"clean/{name}.png")))
        assert found[name]["runs"][0]["psnr"] == pytest.approx(own)
    assert evaluate("--degrade", "shadow", "--model", "shadows") == 0  # draws a mask of its own
    capsys.readouterr()
    assert evaluate("--degraded", "dark", "--model", "shadows") == 2
    assert "shadows: found no mask, expected --mask FOLDER" in complaint(capsys)
    assert evaluate("--degrade", "noise(5)", "--model", "shadows") == 2
    assert "shadows: found no mask, expected one" in complaint(capsys)
    assert evaluate("--degraded", "dark", "--mask", "masks", "--model", "plain") == 2
    assert "expected none: only istd-256 and holes look at regions, and plain is shown none" in complaint(capsys)
    mask(Path("masks/b.png"), size=(9, 9))
    assert evaluate("--degraded", "dark", "--mask", "masks", "--model", "shadows") == 2
    assert "masks/b.png: found 9x9 pixels, expected 40x24" in complaint(capsys)


def test_an_evaluation_fills_holes(here: Path) -> None:
    """The bundled model for missing parts, which starts from a smooth filling and keeps what is known."""
    picture(Path("clean/a.png"), 0, (32, 32))
    assert evaluate("--degrade", "centre_mask", "--model", "inpaint", "--steps", "1") == 0
    found = json.loads(Path("there/scores.json").read_text())["by_image"]["a"]["runs"][0]
    assert found["psnr"] > 10
