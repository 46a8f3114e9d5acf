"""Generation: every image from noise of its own, whatever the count; sheets and folders; every mistake one line."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from complaints import complaint
from models import restoring_model

from rddm.cli import main
from rddm.clipping import clip_x_0
from rddm.clocks import plane_clock
from rddm.draws import generator_of
from rddm.errors import UserError
from rddm.generate import generate, larger, sheet
from rddm.methods import METHODS, Method
from rddm.model import Model
from rddm.nn.compact import CompactConfig
from rddm.photo import read_photo
from rddm.prediction import V
from rddm.sample import residual_first, sample
from rddm.schedules import DDPMPath
from rddm.solvers import SOLVERS, Ancestral
from rddm.spec import read_spec, spec_from_json, spec_to_json
from rddm.transition import markov
from rddm.validate import spec_of
from rddm.walk import EachNoise, calls_of

SIDE = 16
ROW = replace(METHODS["rddm-generation"], target=V, steps=4)
PLANE = replace(METHODS["rddm-generation"], path=DDPMPath(), clock=plane_clock, clip=clip_x_0, steps=4)


def generator(method: Method = ROW, side: int | None = SIDE) -> Model:
    """Return a generator with random weights."""
    heads = method.target.heads
    model = restoring_model(CompactConfig(in_channels=3, heads=heads, nets=heads, widths=(8, 16), blocks=(1, 1)))
    model.spec = replace(model.spec, name="random", method=method, side=side)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("generator")
    generator().save_pretrained(path)
    return path


def command(*arguments: object) -> int:
    return main(["generate", *map(str, arguments)])


@pytest.mark.parametrize("gain", [ROW.gain, markov], ids=lambda gain: gain.name)
def test_an_image_does_not_depend_on_the_count(gain) -> None:  # noqa: ANN001
    model = generator(replace(ROW, path=DDPMPath(), gain=gain))
    many = generate(model, 11, seed=3)
    assert many.shape == (11, SIDE, SIDE, 3) and many.dtype == np.uint8
    for count in (1, 3, 8, 9):
        assert np.array_equal(generate(model, count, seed=3), many[:count])
    assert len(np.unique(many.reshape(11, -1), axis=0)) == 11
    assert not np.array_equal(generate(model, 3, seed=4), many[:3])


@pytest.mark.parametrize("gain", [ROW.gain, markov], ids=lambda gain: gain.name)
def test_another_batch_moves_round_off_alone(gain) -> None:  # noqa: ANN001
    model = generator(replace(ROW, path=DDPMPath(), gain=gain))
    one, other = generate(model, 10, batch=8).astype(int), generate(model, 10, batch=3)
    assert np.abs(one - other).max() <= 1 and (one != other).mean() < 1e-3  # measured: 0 pixels


def test_noise_is_drawn_for_each_image_apart() -> None:
    like = torch.zeros(3, 2, 4, 4)
    noise = EachNoise(7, range(5, 8))
    first, second = noise(like), noise(like)
    own = generator_of(7, 6)
    assert torch.equal(first[1], torch.randn(2, 4, 4, generator=own))
    assert torch.equal(second[1], torch.randn(2, 4, 4, generator=own))


def test_it_is_the_sampler_of_the_row() -> None:
    model = generator()
    zeros, grid = torch.zeros(8, 3, SIDE, SIDE), ROW.path.grid(3)
    x_0 = sample(model.denoiser(), zeros, grid, Ancestral(ROW.gain, ROW.anchor), EachNoise(0, range(8)))
    expected = ((x_0 / 2 + 0.5).clamp(0, 1) * 255 + 0.5).byte().permute(0, 2, 3, 1).numpy()
    found = generate(model, 2, steps=3)
    assert np.abs(expected[:2].astype(int) - found).max() <= 1  # measured: 0
    assert not np.array_equal(generate(model, 2, steps=3, solver="heun"), found)


def test_ways_through_the_plane_are_for_models_that_are_told() -> None:
    model = generator(PLANE)
    nodes = residual_first(PLANE.path, 4)
    solver = Ancestral(PLANE.gain, PLANE.anchor)
    x_0 = sample(model.denoiser(), torch.zeros(8, 3, SIDE, SIDE), nodes, solver, EachNoise(0, range(8)))
    found = generate(model, 1, way="residual-first")
    assert np.abs((x_0[0].permute(1, 2, 0).numpy() / 2 + 0.5).clip(0, 1) * 255 - found[0]).max() <= 1
    assert not np.array_equal(found, generate(model, 1)) and generate(model, 1, way="noise-first").shape == found.shape
    with pytest.raises(UserError, match="told the time alone"):
        generate(generator(), 1, way="residual-first")


@pytest.mark.parametrize(("solver", "expected"), [("euler", 4), ("heun", 7), ("ab2", 5), ("dpm++", 4)])
def test_calls_are_counted(solver: str, expected: int) -> None:
    assert calls_of(ROW.path.grid(4), SOLVERS[solver]) == expected


def test_a_sheet_is_as_square_as_possible() -> None:
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 6, 3), np.uint8)
    found = sheet(images)
    assert found.shape == (2 * 4 + 2, 3 * 6 + 2 * 2, 3)
    assert (found[0, ::8] == [[0] * 3, [1] * 3, [2] * 3]).all() and (found[6, 16:] == 255).all()
    assert sheet(images[:1]).shape == (4, 6, 3) and sheet(images, columns=5).shape == (4, 5 * 6 + 4 * 2, 3)
    assert larger(found, 3).shape == (30, 66, 3) and (larger(found, 3)[:3, 24:27] == found[0, 8]).all()


def test_command_writes_a_sheet_or_a_folder(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--model", folder, "-n", 5, "-o", tmp_path / "cats.png", "--scale", 2, "--seed", 9) == 0
    line = capsys.readouterr().out
    for words in ("5 of 16x16", "random", "4 steps", "4 network calls", "GMACs (8 images)", " s, about", "MB"):
        assert words in line, line
    images = generate(generator(), 5, seed=9)
    assert np.array_equal(read_photo(tmp_path / "cats.png").pixels, larger(sheet(images), 2))
    assert command("--model", folder, "-n", 5, "-o", tmp_path / "cats", "--seed", 9) == 0
    files = sorted((tmp_path / "cats").iterdir())
    assert [file.name for file in files] == [f"000{i}.png" for i in range(5)]
    assert all(np.array_equal(read_photo(file).pixels, image) for file, image in zip(files, images, strict=True))
    assert command("--model", folder, "-o", tmp_path / "wide.png", "--side", 24, "--steps", 2, "--solver", "heun") == 0
    assert read_photo(tmp_path / "wide.png").pixels.shape == (24, 24, 3)


MISTAKES = {
    "count": (["-n", 0], "-n 0"),
    "steps": (["--steps", 0], "steps: found 0"),
    "scale": (["--scale", 0], "--scale 0"),
    "side": (["--side", 0], "found 0"),
    "path": (["--path", "noise-first"], "told the time alone"),
    "model": (["--model", "nothing"], "nothing: no such model"),
    "restorer": (["--model", "low-light"], "low-light: starts from a photo"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_mistakes_are_one_line(kind: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong, expected = MISTAKES[kind]
    assert command("--model", folder, "-o", tmp_path / "out" / "cats.png", *wrong) == 2
    assert expected in complaint(capsys) and not list(tmp_path.iterdir())


def test_outputs_that_cannot_be(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--model", "nothing", "-o", tmp_path / "cats.gif") == 2  # before a model is read
    assert "'.gif'" in complaint(capsys)
    (tmp_path / "file").touch()
    assert command("--model", folder, "-o", tmp_path / "file") == 2
    assert "cannot be made" in complaint(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_solver_that_the_way_does_not_admit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator(PLANE).save_pretrained(tmp_path / "plane")
    out = tmp_path / "out.png"
    assert command("--model", tmp_path / "plane", "-o", out, "--path", "noise-first", "--solver", "dpm++") == 2
    assert "needs noise" in complaint(capsys) and not out.exists()


def test_a_generator_of_no_size_asks_for_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator(side=None).save_pretrained(tmp_path / "any")
    assert command("--model", tmp_path / "any", "-o", tmp_path / "out.png") == 2
    assert "expected --side" in complaint(capsys)
    assert command("--model", tmp_path / "any", "-o", tmp_path / "out.png", "--side", 8) == 0


def test_the_side_is_saved_and_checked(folder: Path, tmp_path: Path) -> None:
    assert read_spec(folder / "config.json").side == SIDE
    data = spec_to_json(generator().spec)
    del data["size"]["side"]
    assert spec_from_json(data).side is None  # as models were saved before
    for wrong in (0, -64, "64", 64.0):
        (tmp_path / "config.json").write_text(json.dumps(data | {"size": {**data["size"], "side": wrong}}))
        with pytest.raises(UserError, match="size: found side"):
            read_spec(tmp_path / "config.json")


def test_a_model_may_have_a_solver_of_its_own(tmp_path: Path) -> None:
    model = generator()
    plain = generate(model, 2)
    model.spec = replace(model.spec, solver="heun")
    assert np.array_equal(generate(model, 2), generate(generator(), 2, solver="heun"))
    assert not np.array_equal(generate(model, 2), plain)
    data = spec_to_json(model.spec)
    assert spec_from_json(data).solver == "heun"
    (tmp_path / "config.json").write_text(json.dumps(data | {"solver": "magic"}))
    with pytest.raises(UserError, match="found 'magic', expected one of None, ancestral"):
        read_spec(tmp_path / "config.json")
    del data["solver"]
    assert spec_from_json(data).solver is None  # as models were saved before


def test_signals_and_many_bands_are_no_pictures() -> None:
    model = generator()
    for shape in ({"out_channels": 4}, {"dims": 1}):
        model.spec = replace(generator().spec, network=replace(model.spec.network, **shape))
        with pytest.raises(UserError, match="expected 1 or 3 in 2"):
            generate(model, 1)


def test_recipes_give_the_side() -> None:
    assert spec_of(tiny.recipe(), {}).side is None
    assert spec_of(replace(tiny.recipe(), pairing="random"), {}).side == 24
    assert spec_of(tiny.recipe(METHODS["rddm-generation"]), {}).side == 24
