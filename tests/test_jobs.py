"""Every job runs in small, leaves few and small files, prints one summary line, and goes on where it stopped."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[1]
JOBS = {
    "low_light_cpu": ["--stage", "lit"], "low_light_published": [], "generation_cpu": ["--model", "inpaint"],
    "sampling_methods": ["--variant", "sm-res-n-0.01"],
}  # fmt: skip
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}


def run(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(ROOT / "jobs" / f"{script}.py"), *arguments]
    return subprocess.run(line, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)


def test_every_job_is_here() -> None:
    helpers = {"common", "sets", "pack", "timing", "zoo"}
    assert {path.stem for path in (ROOT / "jobs").glob("*.py")} == helpers | JOBS.keys()
    readme = (ROOT / "jobs" / "README.md").read_text(encoding="utf-8")
    assert all(f"jobs/{name}.py" in readme for name in (*JOBS, "timing", "pack", "zoo"))


@pytest.mark.parametrize("name", JOBS)
def test_smoke(name: str, tmp_path: Path) -> None:
    done = run(tmp_path, name, *JOBS[name], "--smoke", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"[\w.-]+: done, update 6/6, 12 images, .*", done.stdout.splitlines()[-1])
    files = list((tmp_path / "out").iterdir())
    assert len(files) <= 8 and all(file.stat().st_size <= 16 << 20 for file in files)
    weights = load_file(tmp_path / "out" / "weights-0.safetensors")
    assert all(value.dtype == torch.float16 for value in weights.values())


def test_a_job_goes_on_from_its_own_state(tmp_path: Path) -> None:
    """With real data in the layout of pack.py, in a part that ends at once and one that does the rest."""
    program = (
        "import sys; sys.path.insert(0, {jobs!r}); import common, sets, low_light_published; from pathlib import Path;"
        "from dataclasses import replace; sets.miniature_pairs(Path('data'));"
        "recipe = common.small(low_light_published.RECIPE);"
        "job = common.Job('small', recipe, sets.lol_whole, sets.miniature_pairs, 'x');"
        "common.main(job)"
    ).format(jobs=str(ROOT / "jobs"))
    lines = []
    for seconds in ("41", "400"):
        command = [sys.executable, "-c", program, "--data", "data", "--out", "out", "--seconds", seconds]
        done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        lines.append(done.stdout.splitlines()[-1])
    updates = [int(re.findall(r"update (\d+)/6", line)[0]) for line in lines]
    assert updates[0] <= updates[1] == 6, lines
    assert "goes on after update" in done.stdout or updates[0] == 6


def test_missing_data_are_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, "low_light_published", "--data", "nowhere", "--out", "out")
    assert done.returncode == 1 and done.stderr.splitlines() == [
        "low-light-published: --data nowhere: no such folder, expected what jobs/pack.py low-light-published made"
    ]


def test_a_trunk_goes_on_and_branches_begin_in_it(tmp_path: Path) -> None:
    """The trunk is trained twice, then a branch shown a mask, one with two heads, and a second stage."""
    state = tmp_path / "state"

    def train(name: str, *options: str) -> str:
        done = run(tmp_path, "zoo", "train", name, "--smoke", "--minutes", "0.05", "--state", str(state), *options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    train("all-in-one", "--go-on")
    assert "goes on after Place(update=" in train("all-in-one", "--go-on")
    for name in ("shadow", "derain-rddm", "denoise", "denoise-realism", "low-light", "low-light-realism", "cats"):
        train(name)
        weights = load_file(state / name / "model" / "model.safetensors")
        assert all(value.dtype == torch.float16 for value in weights.values())
        assert all(value.isfinite().all() for value in weights.values())


def test_timing(tmp_path: Path) -> None:
    done = run(tmp_path, "timing", "--smoke", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "out" / "timing.json").read_text())["seconds"]) == 16
    assert done.stdout.splitlines()[-1].startswith("timing: ")
