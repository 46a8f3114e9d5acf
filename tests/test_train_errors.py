"""`rddm train` and its user's mistakes: one clear line, exit code 2, nothing begun."""

import json
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from PIL import Image
from safetensors.torch import load_file

from rddm.cli import main, parser
from rddm.journal import seconds_of
from rddm.recipe import read_recipe, to_json
from rddm.recipes import restore

OPTIONS = {
    "--clean", "--degraded", "--mask", "--degrade", "--recipe", "--method", "--out", "--steps", "--time", "--resume",
    "--seed", "--precision", "--initial", "--restorer",
}  # fmt: skip


def test_the_options_are_these() -> None:
    """About ten: everything else belongs into a recipe."""
    found = {word for word in parser_of_train().split() if word.startswith("--")}
    assert found == OPTIONS | {"--help"}


def parser_of_train() -> str:
    actions = [action for action in parser()._subparsers._group_actions[0].choices["train"]._actions]
    return " ".join(option for action in actions for option in action.option_strings if option.startswith("--"))


@pytest.fixture
def pairs(tmp_path: Path) -> tuple[Path, Path]:
    return tiny.write_pairs(tmp_path)


def complaint(capsys: pytest.CaptureFixture[str], out: Path, *line: object) -> str:
    """Train, expect exit code 2, one line that is no traceback, and no run begun; return the line."""
    before = sorted(out.rglob("*"))
    code = main(["train", "--out", str(out), *map(str, line)])
    error = capsys.readouterr().err.splitlines()
    assert code == 2 and error[-1].startswith("rddm: ") and not any("Traceback" in text for text in error)
    assert sorted(out.rglob("*")) == before
    return error[-1]


def test_photographs_that_do_not_fit_together(
    pairs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean, degraded = pairs
    out, sources = tmp_path / "run", ["--clean", clean, "--degraded", degraded, "--recipe", "tiny:recipe"]
    (degraded / "3.png").rename(degraded / "three.png")
    assert "11 pair by name, 2 do not: 3 (only in" in complaint(capsys, out, *sources)
    (degraded / "three.png").unlink()
    Image.fromarray(tiny.photograph(3, 20, 32)).save(degraded / "3.png")
    assert "3.png: found 32x20 pixels, expected the 32x24 of" in complaint(capsys, out, *sources)
    shutil.copy(clean / "3.png", degraded / "3.png")
    whole = (clean / "5.png").read_bytes()
    (clean / "5.png").write_bytes(whole[: len(whole) // 2])
    assert "5.png: truncated, damaged" in complaint(capsys, out, *sources)
    (clean / "5.png").write_bytes(b"nonsense")
    assert "5.png: not an image" in complaint(capsys, out, *sources)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "empty: folder without photographs" in complaint(capsys, out, "--clean", empty, *sources[2:])
    assert "nowhere: no such folder" in complaint(capsys, out, "--clean", tmp_path / "nowhere", *sources[2:])
    assert "found 1 photograph, expected at least 2" in complaint(
        capsys, out, "--clean", single(tmp_path, clean), "--degrade", "noise(9)", "--recipe", "tiny:recipe"
    )


def single(folder: Path, clean: Path) -> Path:
    """Return a folder of one photograph."""
    (folder / "single").mkdir()
    shutil.copy(clean / "0.png", folder / "single" / "0.png")
    return folder / "single"


def test_recipes_that_do_not_fit(pairs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean, degraded = pairs
    out, both = tmp_path / "run", ["--clean", clean, "--degraded", degraded]
    assert "no such recipe, expected module:function or one of restore, auto, denoise" in complaint(
        capsys, out, *both, "--recipe", "magic"
    )
    assert "expected module:function that returns a Recipe" in complaint(capsys, out, *both, "--recipe", "tiny:nothing")
    assert "found str, expected a function" in complaint(capsys, out, *both, "--recipe", "getpass:getuser")
    assert "magic: no such row, expected one of rddm" in complaint(capsys, out, *both, "--method", "magic")
    assert "--degraded, --degrade: found neither" in complaint(capsys, out, "--clean", clean)
    assert "--degraded, --degrade: found both" in complaint(capsys, out, *both, "--recipe", "denoise")
    assert "generates from noise" in complaint(capsys, out, *both, "--recipe", "generate")
    assert "--mask: not given" in complaint(capsys, out, *both, "--recipe", "tiny:masked")
    assert "--mask: recipe restore shows no mask" in complaint(capsys, out, *both, "--mask", clean)
    assert "--clean: not given" in complaint(capsys, out, "--degraded", degraded)
    assert "nois" in complaint(capsys, out, "--clean", clean, "--degrade", "nois(25)")
    assert "expected at least" in complaint(capsys, out, *both, "--recipe", "tiny:recipe", "--time", "0.001s")
    assert "steps" in complaint(capsys, out, *both, "--steps", 0)
    (tmp_path / "recipe.json").write_text('{"name": 1}')
    assert "recipe.json: 'network'" in complaint(capsys, out, *both, "--recipe", tmp_path / "recipe.json")
    with pytest.raises(SystemExit) as stop:
        main(["train", "--time", "soon"])
    assert stop.value.code == 2


def test_resuming_something_else(pairs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean, degraded = pairs
    out, both = tmp_path / "run", ["--clean", clean, "--degraded", degraded]
    assert "no recipe.json, expected the folder of a run" in complaint(capsys, out, *both, "--resume")
    assert main(["train", "--out", str(out), *map(str, both), "--recipe", "tiny:recipe", "--steps", "4"]) == 0
    assert "holds a run already, expected --resume" in complaint(capsys, out, *both)
    assert "resumed with another recipe: name: found restore, expected tiny" in complaint(
        capsys, out, "--resume", "--recipe", "restore"
    )
    assert "another recipe: seed: found 7, expected 0" in complaint(capsys, out, "--resume", "--seed", 7)
    assert "another recipe: steps: found 9, expected 4" in complaint(capsys, out, "--resume", "--steps", 9)
    assert "expected what" in complaint(capsys, out, "--resume", "--clean", degraded)
    (out / "sources.json").write_text("{")
    assert "sources.json" in complaint(capsys, out, "--resume")


def test_going_on_from_a_model(pairs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It starts where the model is, with the model's row, network and preparation, and at a lower rate."""
    clean, degraded = pairs
    first, second, both = tmp_path / "a", tmp_path / "b", ["--clean", str(clean), "--degraded", str(degraded)]
    tiny_recipe = ["--recipe", "tiny:recipe", "--steps", "4"]
    assert main(["train", "--out", str(first), *both, *tiny_recipe]) == 0
    initial = ["--initial", str(first / "model")]
    assert main(["train", "--out", str(second), *both, "--steps", "1", *initial]) == 0
    recipes = [read_recipe(folder / "recipe.json") for folder in (first, second)]
    assert recipes[1].network == recipes[0].network and recipes[1].method == recipes[0].method
    assert recipes[1].initial == str(first / "model") and recipes[1].lr == restore().lr / 4
    one, two = (load_file(folder / "model" / "model.safetensors") for folder in (first, second))
    moved = max(float((one[name] - two[name]).abs().max()) for name in one)
    assert 0 < moved < 1.01 * recipes[1].lr  # measured 2.0e-4: one update of Adam moves a weight by its rate at most
    assert main(["train", "--out", str(second), *both, "--resume", *initial]) == 0
    assert main(["train", "--out", str(second), "--resume", "--recipe", "restore"]) == 0
    out = tmp_path / "c"
    assert "--initial, --method: found both" in complaint(capsys, out, *both, *initial, "--method", "ddim")
    assert "no such model" in complaint(capsys, out, *both, "--initial", "nothing")
    wrong = replace(recipes[1], network=replace(recipes[1].network, features=32))
    (tmp_path / "recipe.json").write_text(json.dumps(to_json(wrong)))
    assert "expected CompactConfig" in complaint(capsys, out, *both, "--recipe", tmp_path / "recipe.json")


@pytest.mark.parametrize("limit", [2_000, 60_000])
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(
    pairs: tuple[Path, Path], tmp_path: Path, limit: int
) -> None:
    """A limit on the size of files stands for the disk: the write really fails, in the middle of a file."""
    clean, degraded = pairs
    tests = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{tests}:{tests.parent / 'src'}", "OMP_NUM_THREADS": "1"}
    line = ["train", "--clean", clean, "--degraded", degraded, "--recipe", "tiny:recipe", "--out", tmp_path / "run"]
    done = subprocess.run(
        [sys.executable, "-m", "rddm", *map(str, line)], env=environment, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "cannot be written" in done.stderr.splitlines()[-1]
    assert not list((tmp_path / "run").rglob("*.part"))


def test_durations() -> None:
    assert [seconds_of(text) for text in ("90s", "10m", "2h", "1.5h", "10")] == [90, 600, 7200, 5400, 600]
    for wrong in ("", "soon", "-1m", "0m", "10x"):
        with pytest.raises(ValueError, match="expected a duration"):
            seconds_of(wrong)
