"""The goals: the table names what exists, its rows are measured and shown, and cards are made of the same rows."""

import json
from dataclasses import replace
from pathlib import Path

import goals
import numpy as np
import package
import pytest
import tiny
from goals_measure import MEASURES, Place, arguments_of, fingerprint
from goals_page import page, reached
from goals_table import GOALS, SECTIONS, TEST_SETS, Aim, Goal
from models import restoring_model
from PIL import Image

from rddm.degradations import parse
from rddm.model import bundled, read_model
from rddm.nn.compact import CompactConfig
from rddm.protocols import OF_SETS, PROTOCOLS
from rddm.recipe import to_json

ROOT = Path(__file__).resolve().parents[1]
NOISE, CLEAN = "denoise denoise-rgb CBSD68 awgn(25)", "denoise denoise-rgb 42 photos noise(0)"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a data folder, two further sets and a training of a small model for noise."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RDDM_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for folder, names in (("data/bsds500/val", "abcd"), ("more/mcmaster", "12"), ("more/kodak", "34")):
        Path(folder).mkdir(parents=True)
        for i, name in enumerate(names):
            Image.fromarray(tiny.photograph(i, 32, 40)).save(f"{folder}/{name}.png")
    Path("data/bsds500/cbsd68.txt").write_text("a\nb\nd\n")
    train("denoise", initial="all-in-one"), train("all-in-one", initial="/somewhere/trial")
    return tmp_path


def train(name: str, **card: str) -> None:
    """Leave what jobs/zoo.py leaves."""
    folder = Path("state") / name
    model = restoring_model(CompactConfig(widths=(8, 16), blocks=(1, 1)), clip="x0")
    told = {"task": name, "device": "cpu", "updates": 9, "images": 4800, "seconds": 480, "photographs": 1033}
    model.spec = replace(model.spec, card={**told, "restorer": "", **card})
    model.half().save_pretrained(folder / "model")
    (folder / "log.jsonl").write_text('{"update": 9, "seconds": 480.0}\n')
    recipe = replace(tiny.recipe(), initial=str((Path("state") / "all-in-one/model").resolve()))
    (folder / "recipe.json").write_text(json.dumps(to_json(recipe)))


def run(*arguments: str) -> int:
    return goals.main(["--data", "data", *arguments])


def test_the_table_names_what_exists() -> None:
    rows = [goal for section in SECTIONS for goal in section.goals]
    assert len(rows) == len(GOALS) and {goal.model for goal in rows} <= package.TASKS.keys()
    assert set(bundled()) <= {goal.model for goal in rows}, "a bundled model has no figure"
    for name, goal in GOALS.items():
        test = TEST_SETS[goal.test]
        assert goal.protocol in PROTOCOLS or goal.protocol in OF_SETS, name
        assert {aim.measure for aim in goal.aims} <= MEASURES.keys() and goal.aims, name
        assert not goal.beside or goal.beside in GOALS, name
        assert "," not in name and bool(goal.degrade) == (not test.degraded and goal.protocol not in OF_SETS), name
        assert not goal.degrade or parse(goal.degrade)
    assert all(test.where for test in TEST_SETS.values())


def test_rows_are_measured_printed_and_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--more", "more", "--state", "state", "--only", f"{NOISE},{CLEAN},McMaster", "--limit", "2") == 0
    out = capsys.readouterr().out
    assert "runs/goals: goals.json, goals.md; 5 of 5 rows measured, of 2 images of each set" in out
    rows = json.loads(Path("runs/goals/goals.json").read_text())
    noise, clean = rows[NOISE], rows[CLEAN]
    assert noise["images"] == 2 and noise["now"]["psnr"] == noise["output"]["psnr"] and noise["weights"]
    assert clean["input"]["psnr"] == "inf" and clean["now"]["worst"] <= clean["now"]["psnr"]
    scores = json.loads(Path("runs/goals/denoise-denoise-rgb-CBSD68-awgn-25-/scores.json").read_text())
    assert list(scores["by_image"]) == ["a", "b"], (
        "the list of names counts, and every second of three is the first two"
    )
    assert scores["figures"]["psnr"]["mean"] == pytest.approx(noise["now"]["psnr"], abs=1e-4)
    assert len(Path("runs/goals/42-photos.txt").read_text().split()) == 4
    text = Path("runs/goals/goals.md").read_text()
    assert f"| {noise['now']['psnr']:.2f} \\* | 31.50 | no |" in text and "not measured" in text
    assert "rddm evaluate --protocol denoise-rgb --clean DATA/bsds500/val --names DATA/bsds500/cbsd68.txt" in text
    assert not Path("docs").exists(), "a page of some images would pass for one of all"
    assert run("--state", "state", "--only", NOISE, "--out", "runs/goals") == 0  # others keep what they had
    after = json.loads(Path("runs/goals/goals.json").read_text())
    assert after[NOISE]["images"] == 3 and after[CLEAN] == clean
    assert f"| {after[NOISE]['now']['psnr']:.2f} \\* |" in Path("runs/goals/goals.md").read_text()
    after[NOISE]["weights"] = fingerprint("denoise")
    Path("runs/goals/goals.json").write_text(json.dumps(after))
    assert run("--page", "--out", "runs/goals") == 0
    assert f"| {after[NOISE]['now']['psnr']:.2f} |" in Path("runs/goals/goals.md").read_text()


def test_what_is_not_there_is_skipped_with_a_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--only", "shadow,CC15,cats generation cats", "--limit", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "shadow istd-256 CBSD68 shadow: skipped, no model shadow yet" in lines
    assert any(line.startswith("denoise-real real-noise-rgb CC15: skipped, no CC15 without --more (") for line in lines)
    assert any("skipped, no data/afhq_cat/afhq_cat_64_q95.npz (AFHQ" in line for line in lines)
    assert lines[-1].startswith("runs/goals: goals.json, goals.md; 0 of 4 rows measured")


def test_mistakes_are_one_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--only", "nothing") == 2
    assert capsys.readouterr().err.splitlines() == [
        "goals: --only: found 'nothing', expected a model, a protocol, a set or a row of the table"
    ]
    assert goals.main(["--data", "nowhere"]) == 2
    assert "--data nowhere: no such folder" in capsys.readouterr().err
    Path("data/bsds500/val/a.png").write_text("no image")
    assert run("--state", "state", "--only", NOISE) == 2  # and the line of rddm evaluate
    assert "a.png" in capsys.readouterr().err


def test_some_of_a_set_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "polyu/target").mkdir(parents=True)
    for name in ("Canon5D_1", "Sony_1", "Nikon_2"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"polyu/target/{name}.jpg")
    goal = GOALS["denoise-real real-noise-rgb PolyU (other cameras)"]
    arguments = arguments_of(goal, Place(tmp_path, out=tmp_path))
    names = Path(arguments[arguments.index("--names") + 1])
    assert names.read_text().split() == ["Nikon_2", "Sony_1"]


def test_a_goal_is_reached_from_its_own_side() -> None:
    goal = Goal("m", "lol-rgb", "LOL", (Aim("psnr", 23.5), Aim("lpips", 0.1), Aim("ssim")))
    for psnr, lpips, expected in ((23.5, 0.1, "yes"), (23.4, 0.1, "no"), (24.0, 0.11, "no")):
        assert reached(goal, {"now": {"psnr": psnr, "lpips": lpips, "ssim": 0.0}}, {}) == expected
    assert reached(replace(goal, aims=(Aim("ssim"),)), {"now": {"ssim": 0.5}}, {}) == ""
    specialist = {"output": {"psnr": 30.0}}
    beside = replace(goal, aims=(Aim("gain", 0),), beside=NOISE)
    for gain, psnr, rows, expected in (
        (1.0, 29.5, {NOISE: specialist}, "yes"), (1.0, 29.4, {NOISE: specialist}, "no"), (1.0, 29.9, {}, ""),
        (-0.1, 29.9, {}, "no"), (-0.1, 29.9, {NOISE: specialist}, "no"),
    ):  # fmt: skip
        assert reached(beside, {"now": {"gain": gain}, "output": {"psnr": psnr}}, rows) == expected


def test_the_page_in_docs_is_of_its_figures() -> None:
    rows = json.loads((ROOT / "docs" / "goals.json").read_text(encoding="utf-8"))
    text = (ROOT / "docs" / "goals.md").read_text(encoding="utf-8")
    assert text == page(rows), "run training/goals.py --data DATA --page"


def test_a_training_of_the_zoo_is_packaged(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["denoise", "--run", "state/denoise", "--data", "data", "--out", "models"]
    assert package.main([*arguments, "--more", "more", "--limit", "2"]) == 0
    folder = Path("models/denoise")
    assert {"config.json", "model.safetensors", "README.md", "log.jsonl", "recipe.json"} == {
        path.name for path in folder.iterdir()
    }
    card = read_model(folder).spec.card
    assert card["cost"] == "8.0 min on cpu, 4,800 pieces, after all-in-one (8.0 min on cpu), after trial"
    assert card["data"].startswith("1033 pictures: BSDS500") and "weights of update 9; jobs/zoo.py" in card["recipe"]
    scores = card["scores"]
    assert len(scores) == 7 and "denoise: skipped" not in capsys.readouterr().out
    noise, clean = scores["denoise-rgb CBSD68 awgn(25)"], scores["denoise-rgb 42 photos noise(0)"]
    assert noise["goal"] == "31.50" and "DRUNet 31.69" in noise["others"] and noise["input"] < 21
    assert "input" not in clean and clean["worst"] <= clean["psnr"] and clean["goal"] == "40.00, worst 35.00"
    assert json.loads((folder / "recipe.json").read_text())["initial"] == "all-in-one"
    assert np.isfinite(noise["psnr"]) and "31.50" in (folder / "README.md").read_text()


def test_a_run_of_rddm_train_is_packaged(here: Path) -> None:
    train("denoise", initial="")
    config = json.loads(Path("state/denoise/model/config.json").read_text())
    config["card"] = {"updates": 9, "device": "cpu, processes: 1, threads: 1", "held_out": "2, a .. b"}
    Path("state/denoise/model/config.json").write_text(json.dumps(config))
    assert package.main(["denoise", "--run", "state/denoise", "--data", "more", "--out", "models", "--steps", "3"]) == 0
    spec = read_model(Path("models/denoise")).spec
    assert spec.card["held_out"] == "2, a .. b" and spec.method.steps == 3 and spec.card["scores"] == {}
    assert spec.card["cost"] == "8.0 min on cpu, processes: 1, threads: 1"


def test_what_cannot_be_packaged_is_one_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert package.main(["derain", "--run", "state/derain", "--data", "data", "--out", "models"]) == 2
    assert capsys.readouterr().err.startswith("package: state/derain/model: not there, expected model, log.jsonl")
    assert not Path("models").exists()
