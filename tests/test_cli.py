"""The command line as a person meets it: photos of every kind, and every mistake as one line and exit code 2."""

import errno
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from complaints import complaint
from models import restoring_model
from PIL import Image
from safetensors.torch import load_file, save_file

import rddm
from rddm import arguments, photo
from rddm.batch import Options, restore_files
from rddm.cli import main
from rddm.engines import ENGINES
from rddm.loss import DISTANCES
from rddm.methods import METHODS
from rddm.model import Model, load
from rddm.nn.compact import CompactConfig
from rddm.spec import method_from_json, method_to_json


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    restoring_model(CompactConfig(widths=(8, 16), blocks=(1, 1)), clip="x0").save_pretrained(folder)
    return folder


@pytest.fixture
def dark(tmp_path: Path) -> Path:
    return picture(tmp_path / "dark.png")


def picture(path: Path, mode: str = "RGB", size: tuple[int, int] = (40, 24)) -> Path:
    pixels = np.random.default_rng(0).integers(0, 60, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def restore(model: Path, *arguments: object) -> int:
    return main(["restore", *map(str, arguments), "--model", str(model)])


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "1"])
@pytest.mark.parametrize("size", [(1, 1), (7, 3), (40, 24)])
def test_restores_any_mode_and_size(model: Path, tmp_path: Path, mode: str, size: tuple[int, int]) -> None:
    source, target = picture(tmp_path / "in.png", mode, size), tmp_path / "out.png"
    assert restore(model, source, "-o", target) == 0
    before, after = photo.read_photo(source), photo.read_photo(target)
    assert after.pixels.shape == before.pixels.shape and after.pixels.dtype == before.pixels.dtype
    assert (after.alpha is None) == (before.alpha is None)
    assert after.alpha is None or np.array_equal(after.alpha, before.alpha)


def test_restores_sixteen_bits(model: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 9000, (24, 40, 3), np.uint16)
    photo.write_photo(tmp_path / "in.tiff", photo.Photo(pixels))
    assert restore(model, tmp_path / "in.tiff", "-o", tmp_path / "out.png") == 0
    out = photo.read_photo(tmp_path / "out.png").pixels
    assert out.dtype == np.uint16 and len(np.unique(out)) > 1000


def test_folder_in_folder_out_and_compare(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    picture(tmp_path / "in" / "a.png"), picture(tmp_path / "in" / "b.jpg")
    assert restore(model, tmp_path / "in", "-o", tmp_path / "out", "--compare") == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"a.png", "b.jpg", "a_compare.png", "b_compare.jpg"}
    assert Image.open(tmp_path / "out" / "a_compare.png").width == 82
    out = capsys.readouterr().out
    assert "40x24" in out and "2 steps" in out and "one piece" in out and "MB" in out and "2 of 2" in out


def test_a_seed_reproduces_and_tiles_are_told(
    model: Path, dark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    big = picture(tmp_path / "big.png", size=(300, 200))
    for name, seed in (("1.png", 3), ("2.png", 3), ("3.png", 4)):
        assert (
            restore(model, big, "-o", tmp_path / name, "--seed", seed, "--tile", 128, "--solver", "dpm++", "--steps", 3)
            == 0
        )
    one, two, three = ((tmp_path / f"{n}.png").read_bytes() for n in (1, 2, 3))
    assert one == two and one != three
    assert "tiles of 128x128" in capsys.readouterr().out


def broken_inputs(folder: Path) -> dict[str, Path]:
    """Return files that are no photographs."""
    whole = picture(folder / "whole.jpg").read_bytes()
    frames = [Image.new("RGB", (8, 8), (i, 0, 0)) for i in (0, 99)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    (folder / "text.png").write_text("no image")
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").touch()
    (folder / "none").mkdir()
    bad = {name: folder / name for name in ("text.png", "cut.jpg", "empty.png", "moving.gif", "none", "missing.png")}
    return {name.split(".")[0]: path for name, path in bad.items()}


@pytest.mark.parametrize("kind", ["text", "cut", "empty", "moving", "none", "missing"])
def test_a_bad_input_is_one_line_and_the_others_are_done(
    kind: str, model: Path, dark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad").mkdir()
    bad = broken_inputs(tmp_path / "bad")[kind]
    out = tmp_path / "out"
    assert restore(model, bad, dark, "-o", out) == 2
    assert str(bad) in complaint(capsys)
    assert [path.name for path in out.iterdir()] == ["dark.png"]


def test_a_decompression_bomb_is_refused(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("1", (40_000, 30_000)).save(tmp_path / "bomb.png")
    assert restore(model, tmp_path / "bomb.png", "-o", tmp_path / "out.png") == 2
    assert "bomb.png" in complaint(capsys) and not (tmp_path / "out.png").exists()


def test_outputs_must_not_be_inputs_or_each_other(
    model: Path, dark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = dark.read_bytes()
    assert restore(model, dark, "-o", dark) == 2
    assert "input itself" in complaint(capsys)
    assert restore(model, dark, "-o", tmp_path) == 2
    assert "input itself" in complaint(capsys) and dark.read_bytes() == before
    (tmp_path / "other").mkdir()
    picture(tmp_path / "other" / "dark.png")
    assert restore(model, dark, tmp_path / "other", "-o", tmp_path / "out") == 2
    assert "overwrite" in complaint(capsys)
    assert restore(model, dark, tmp_path / "other", "-o", tmp_path / "one.png") == 2
    assert "expected the name of a folder" in complaint(capsys)
    assert restore(model, dark, "-o", tmp_path / "out.gif") == 2
    assert "'.gif'" in complaint(capsys)


def test_a_full_disk_leaves_nothing(
    model: Path, dark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out" / "dark.png"

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("rddm.photo.os.replace", full)
    assert restore(model, dark, "-o", target) == 2
    assert "No space left" in complaint(capsys) and not list(target.parent.iterdir())


def damage(folder: Path, kind: str) -> str:
    """Spoil a model's folder and return what the complaint must say."""
    weights, config = folder / "model.safetensors", folder / "config.json"
    tensors, data = {key: value.clone() for key, value in load_file(weights).items()}, json.loads(config.read_text())
    name = sorted(tensors)[0]
    if kind == "shape":
        save_file({**tensors, name: torch.zeros(3)}, weights)
        return "shape (3,)"
    if kind == "nan":
        save_file({**tensors, name: tensors[name] * float("nan")}, weights)
        return "NaN"
    if kind == "missing weight":
        save_file({key: value for key, value in tensors.items() if key != name}, weights)
        return "is missing"
    if kind == "no weights":
        weights.unlink()
        return "model.safetensors"
    if kind == "pickle":
        torch.save(tensors, weights)
        return "safetensors"
    if kind == "no json":
        config.write_text("{")
        return "not JSON"
    data["method"] |= {"unknown target": {"target": "magic"}, "typo": {}}[kind]
    if kind == "typo":
        data["network"]["width"] = [1]
    config.write_text(json.dumps(data))
    return "magic" if kind == "unknown target" else "width"


KINDS = ["shape", "nan", "missing weight", "no weights", "pickle", "no json", "unknown target", "typo"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_model_is_one_line(
    kind: str, model: Path, dark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    expected = damage(folder, kind)
    assert restore(folder, dark, "-o", tmp_path / "out.png") == 2
    line = complaint(capsys)
    assert expected in line and str(folder) in line


def test_an_unknown_model_and_bad_numbers(
    model: Path, dark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert restore(Path("nothing"), dark, "-o", tmp_path / "out.png") == 2
    assert "nothing: no such model" in complaint(capsys)
    assert restore(model, dark, "-o", tmp_path / "out.png", "--steps", 0) == 2
    assert "steps" in complaint(capsys)
    big = picture(tmp_path / "big.png", size=(300, 200))
    assert restore(model, big, "-o", tmp_path / "out.png", "--tile", 20) == 2
    assert "tile" in complaint(capsys)
    for wrong in (["--tile", "many"], ["--solver", "magic"], ["--steps", "two"]):
        with pytest.raises(SystemExit) as stop:
            restore(model, dark, "-o", tmp_path / "out.png", *wrong)
        assert stop.value.code == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(
    model: Path, dark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert restore(model, dark, "-o", tmp_path / "out.png", "--device", "cuda") == 2
    assert "no CUDA device" in complaint(capsys)


def test_out_of_memory_is_one_line(
    model: Path, dark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, out: object, mask: object, restore: object, strength: float) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 57600000000 bytes.")

    monkeypatch.setattr("rddm.batch.run", fail)
    assert restore_files([str(dark)], tmp_path / "out", str(model), "cpu", Options()) == 1
    assert "out of memory" in complaint(capsys)


def test_a_solver_that_the_path_does_not_admit(dark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = restoring_model(CompactConfig(in_channels=3, widths=(8, 16), blocks=(1, 1)))
    model.spec = replace(model.spec, method=METHODS["cold"])
    model.save_pretrained(tmp_path / "cold")
    assert restore(tmp_path / "cold", dark, "-o", tmp_path / "out.png", "--solver", "dpm++") == 2
    assert "needs noise" in complaint(capsys)
    assert restore(tmp_path / "cold", dark, "-o", tmp_path / "out.png") == 0


@pytest.mark.parametrize("name", METHODS)
def test_rows_round_trip_through_json(name: str) -> None:
    for ordered in (False, True):  # the hub sorts keys
        text = json.dumps(method_to_json(METHODS[name]), sort_keys=ordered)
        assert method_from_json(json.loads(text)) == METHODS[name]


def test_models_round_trip_and_hold_half_precision(model: Path, tmp_path: Path) -> None:
    first = Model.from_pretrained(model)
    first.half().save_pretrained(tmp_path / "half")
    second = load(tmp_path / "half")
    assert second.spec == first.spec and next(second.parameters()).dtype == torch.float32
    assert (tmp_path / "half" / "model.safetensors").stat().st_size < 0.6 * (model / "model.safetensors").stat().st_size
    image = Image.fromarray(np.full((20, 30), 40, np.uint8))
    assert second.restore(image).mode == "L" and second.restore(image.convert("RGBA")).mode == "RGBA"


def test_tables_print_in_a_fresh_interpreter() -> None:
    done = subprocess.run([sys.executable, "-m", "rddm", "methods"], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 1 + len(METHODS) >= 9 and all(name in done.stdout for name in METHODS)
    done = subprocess.run([sys.executable, "-m", "rddm", "models"], capture_output=True, text=True, check=True)
    assert "low-light" in done.stdout and "dB" in done.stdout


def test_output_that_nobody_reads_any_more() -> None:
    """``rddm models | head``: the command ends, and complains of nothing."""
    command = [sys.executable, "-c", "import sys; from rddm.cli import main; sys.exit(main(['models']))"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 1


def test_the_parser_names_what_the_tables_hold() -> None:
    """It does not import them, so that ``rddm --help`` answers at once."""
    assert arguments.SOLVERS == (*rddm.SOLVERS,)
    assert arguments.ENGINES == (*ENGINES,) and arguments.LOSSES == (*DISTANCES,)
