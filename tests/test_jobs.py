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
    "low_light": [], "low_light_cpu": ["--stage", "lit"], "low_light_published": [], "cats": [],
    "generation_cpu": ["--model", "inpaint"], "restoration": ["--task", "deblur"],
    "sampling_methods": ["--variant", "sm-res-n-0.01"],
}  # fmt: skip
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}


def run(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(ROOT / "jobs" / f"{script}.py"), *arguments]
    return subprocess.run(line, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)


def test_every_job_is_here() -> None:
    helpers = {"common", "sets", "pack", "timing"}
    assert {path.stem for path in (ROOT / "jobs").glob("*.py")} == helpers | JOBS.keys()
    readme = (ROOT / "jobs" / "README.md").read_text(encoding="utf-8")
    assert all(f"jobs/{name}.py" in readme for name in (*JOBS, "timing", "pack"))


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
        "import sys; sys.path.insert(0, {jobs!r}); import common, sets, restoration; from pathlib import Path;"
        "from dataclasses import replace; sets.miniature_folder(Path('data'));"
        "recipe = common.small(restoration.recipe_of('denoise'));"
        "job = common.Job('small', recipe, sets.clean_folder, sets.miniature_folder, 'x');"
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
    done = run(tmp_path, "cats", "--data", "nowhere", "--out", "out")
    assert done.returncode == 1 and done.stderr.splitlines() == [
        "cats: --data nowhere: no such folder, expected what jobs/pack.py cats made"
    ]


def test_timing(tmp_path: Path) -> None:
    done = run(tmp_path, "timing", "--smoke", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "out" / "timing.json").read_text())["seconds"]) == 16
    assert done.stdout.splitlines()[-1].startswith("timing: ")
