"""Translation: the middle of a photo at the model's side, reproducibly; every mistake one line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from complaints import complaint
from models import restoring_model
from PIL import Image

from rddm.cli import main
from rddm.clipping import clip_none, clip_x_0
from rddm.clocks import Clock, index_clock, plane_clock
from rddm.errors import UserError
from rddm.generate import sheet
from rddm.methods import METHODS
from rddm.model import Model
from rddm.nn.compact import CompactConfig
from rddm.path import CLEAN
from rddm.photo import read_photo
from rddm.sample import residual_first, sample
from rddm.schedules import DDPMPath
from rddm.solvers import Ancestral
from rddm.translate import centre_square, translate
from rddm.walk import EachNoise

SIDE = 16


def translator(clock: Clock = plane_clock, side: int | None = SIDE) -> Model:
    """Return a translator with two networks of random weights."""
    model = restoring_model(CompactConfig(in_channels=3, heads=2, nets=2, widths=(8, 16), blocks=(1, 1)))
    method = replace(METHODS["rddm"], path=DDPMPath(), inputs=(), clock=clock, clip=clip_x_0, steps=3)
    model.spec = replace(model.spec, name="translator", method=method, side=side)
    return model


def photograph(seed: int = 0, height: int = 24, width: int = 40, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (height, width, 3), dtype, endpoint=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("translator")
    translator().save_pretrained(path)
    return path


@pytest.fixture
def dog(tmp_path: Path) -> Path:
    Image.fromarray(photograph()).save(tmp_path / "dog.png")
    return tmp_path / "dog.png"


def command(folder: Path, *arguments: object) -> int:
    return main(["translate", "--model", str(folder), *map(str, arguments)])


def test_the_centre_square_is_resized_as_in_training() -> None:
    pixels = photograph()
    expected = Image.fromarray(pixels[:, 8:32]).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    assert np.array_equal(centre_square(pixels, SIDE), np.asarray(expected))
    tall = np.ascontiguousarray(pixels.swapaxes(0, 1))
    assert np.array_equal(centre_square(tall, 24), tall[8:32])
    deep = pixels.astype(np.uint16) * 257
    assert np.array_equal(centre_square(deep, 24), centre_square(pixels, 24))
    assert centre_square(pixels[..., :1], SIDE).shape == (SIDE, SIDE, 3)


def test_it_is_reproducible_and_depends_on_the_photo() -> None:
    model, pixels = translator(), photograph()
    many = translate(model, pixels, 4, seed=3)
    assert many.shape == (4, SIDE, SIDE, 3) and many.dtype == np.uint8
    assert np.array_equal(translate(model, pixels, 2, seed=3), many[:2])
    assert len(np.unique(many.reshape(4, -1), axis=0)) == 4
    assert not np.array_equal(translate(model, pixels, 1, seed=4), many[:1])
    assert not np.array_equal(translate(model, photograph(1), 1, seed=3), many[:1])


def test_the_residual_comes_first_where_the_model_is_told_its_place() -> None:
    model, pixels = translator(), photograph()
    method = model.spec.method
    x_in = torch.tensor(centre_square(pixels, SIDE)).permute(2, 0, 1)[None] / 127.5 - 1
    solver, noise = Ancestral(method.gain, method.anchor), EachNoise(0, [0])
    x_0 = sample(model.denoiser(), x_in, residual_first(method.path, 3), solver, noise)
    found = translate(model, pixels)
    assert np.abs((x_0[0].permute(1, 2, 0).numpy() + 1) * 127.5 - found[0]).max() <= 0.51  # measured: 0.5
    assert np.array_equal(translate(model, pixels, way="residual-first"), found)
    assert not np.array_equal(translate(model, pixels, way="joint"), found)
    timed = translator(index_clock)
    assert np.array_equal(translate(timed, pixels), translate(timed, pixels, way="joint"))
    with pytest.raises(UserError, match="told the time alone"):
        translate(timed, pixels, way="noise-first")


def test_a_generator_begins_with_the_photo_under_noise() -> None:
    model, pixels = translator(index_clock), photograph()
    model.spec = replace(model.spec, method=replace(model.spec.method, origin="zero", clip=clip_none))
    found = translate(model, pixels, strength=0.6)
    method, square = model.spec.method, centre_square(pixels, SIDE)
    guide, noise = torch.tensor(square).permute(2, 0, 1)[None] / 127.5 - 1, EachNoise(0, [0])
    nodes = [*(method.path.index(i) for i in (599, 399, 199)), CLEAN]
    begun = (1 - nodes[0].abar) * guide + nodes[0].bbar * noise(guide)
    x_0 = sample(model.denoiser(), torch.zeros_like(guide), nodes, Ancestral(method.gain, method.anchor), noise, begun)
    off = np.abs((x_0[0].clamp(-1, 1).permute(1, 2, 0).numpy() + 1) * 127.5 - found[0])
    assert off.max() <= 0.51  # measured: 0.5
    assert np.array_equal(translate(model, pixels), translate(model, pixels, strength=0.8))
    near, far = (np.abs(translate(model, pixels, strength=s)[0].astype(int) - square).mean() for s in (0.003, 0.6))
    assert near < 5 < far  # measured: 1.9, 88


def test_command_translates_and_compares(
    folder: Path, dog: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(folder, dog, "-o", tmp_path / "cat.png", "-n", 3, "--seed", 5, "--compare") == 0
    line = capsys.readouterr().out
    assert "the middle 24x24 of 40x24, resized to 16x16, translator, 18 network calls, about" in line
    images = translate(translator(), photograph(), 3, seed=5)
    assert np.array_equal(read_photo(tmp_path / "cat.png").pixels, sheet(images))
    row = read_photo(tmp_path / "cat_compare.png").pixels
    assert row.shape == (SIDE, 4 * SIDE + 6, 3) and np.array_equal(row[:, :SIDE], centre_square(photograph(), SIDE))
    assert np.array_equal(row[:, -SIDE:], images[2])
    assert command(folder, dog, "-o", tmp_path / "one.png", "--path", "joint", "--steps", 2) == 0
    assert "2 network calls" in capsys.readouterr().out
    assert np.array_equal(
        read_photo(tmp_path / "one.png").pixels, translate(translator(), photograph(), 1, 2, 0, "joint")[0]
    )


def test_folders_and_photos_that_fail(
    folder: Path, dog: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "in" / name).write_bytes(dog.read_bytes())
    (tmp_path / "in" / "broken.png").write_text("no image")
    assert command(folder, tmp_path / "in", "-o", tmp_path / "out") == 2
    printed = capsys.readouterr()
    assert "2 of 3 photos translated" in printed.out and "broken.png: not an image" in printed.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", "b.png"}
    assert command(folder, tmp_path / "in", "-o", tmp_path / "one.png") == 2
    assert "expected the name of a folder" in complaint(capsys)


MISTAKES = {
    "count": (["-n", 0], "-n 0"),
    "steps": (["--steps", 0], "steps: found 0"),
    "model": (["--model", "nothing"], "nothing: no such model"),
    "restorer": (["--model", "low-light"], "low-light: keeps to no size of its own, expected a model that translates"),
    "trained": (["--strength", 0.5], "was trained to translate, expected a generator"),
    "strength": (["--model", "cats-plane", "--strength", 1.5], "strength: found 1.5"),
    "path": (["--model", "cats-plane", "--path", "joint"], "--path joint: cats-plane is a generator"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_mistakes_are_one_line(
    kind: str, folder: Path, dog: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong, expected = MISTAKES[kind]
    assert command(folder, dog, "-o", tmp_path / "out" / "cat.png", *wrong) == 2
    assert expected in complaint(capsys) and [path.name for path in tmp_path.iterdir()] == ["dog.png"]


def test_files_that_cannot_be(folder: Path, dog: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = dog.read_bytes()
    assert command(folder, dog, "-o", dog) == 2
    assert "the output is the input itself" in complaint(capsys) and dog.read_bytes() == before
    assert command(folder, tmp_path / "none.png", "-o", tmp_path / "cat.png") == 2
    assert "none.png: no such file" in complaint(capsys)
    assert command(folder, dog, "-o", tmp_path / "cat.gif") == 2
    assert "'.gif'" in complaint(capsys) and [path.name for path in tmp_path.iterdir()] == ["dog.png"]


def test_restore_does_not_take_a_translator(
    folder: Path, dog: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["restore", str(dog), "-o", str(tmp_path / "out.png"), "--model", str(folder)]) == 2
    assert "translates photos, expected a model that restores a photo" in complaint(capsys)
