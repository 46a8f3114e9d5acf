"""Planted bugs: a wrong sign, a swapped t and s, a missing square must each make the proofs fail."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROOFS = ("test_transition.py", "test_solvers.py", "test_prediction.py", "gaussian.py")

# ruff: noqa: E501
BUGS = {
    "sign of the residual": ("path.py", "x_0 + node.abar * res", "x_0 - node.abar * res"),
    "sign in the increment": ("transition.py", "x_t - (now.abar - then.abar)", "x_t + (now.abar - then.abar)"),
    "swapped t and s": ("transition.py", "x_0 + then.abar * res + k * (", "x_0 + now.abar * res + k * ("),
    "swapped t and s in markov": ("transition.py", "(1 - t.abar) / (1 - s.abar)", "(1 - s.abar) / (1 - t.abar)"),
    "missing square in the variance": ("transition.py", "variance = then.bbar**2 - (k * now.bbar) ** 2", "variance = then.bbar**2 - k * now.bbar"),
    "missing square in the gain": ("transition.py", 'Gain("residual", lambda t, s: (s.bbar / t.bbar) ** 2)', 'Gain("residual", lambda t, s: s.bbar / t.bbar)'),
    "eta scales the noise only": ("transition.py", "root((1 - eta) * then.bbar**2 + eta * (gain(now, then) * now.bbar) ** 2) / now.bbar", "gain(now, then)"),
    "sign in Eq. 16": ("prediction.py", "x_t - x_in + (1 - node.abar) * res", "x_t - x_in - (1 - node.abar) * res"),
    "half of Heun": ("solvers_flow.py", "(prediction.res + end.res) / 2", "prediction.res"),
    "AB2 without its half": ("solvers_flow.py", "w = 0.5 * (now.t - then.t)", "w = (now.t - then.t)"),
    "DPM-Solver's alpha": ("solvers_flow.py", "((1 - then.abar) - (1 - now.abar) * ratio)", "((1 - now.abar) - (1 - then.abar) * ratio)"),
}  # fmt: skip


def proofs_fail(source: Path, scratch: Path) -> bool:
    """Run the proofs against a copy of the package; tell whether any failed."""
    for name in PROOFS:
        shutil.copy(ROOT / "tests" / name, scratch)
    environment = {**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{scratch}"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "-W",
        "ignore",
        "--rootdir",
        str(scratch),
        str(scratch),
    ]
    done = subprocess.run(command, env=environment, cwd=scratch, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout + done.stderr  # 0: all passed, 1: some failed, else nothing ran
    return done.returncode == 1


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_noticed(bug: str, tmp_path: Path) -> None:
    file, good, bad = BUGS[bug]
    shutil.copytree(ROOT / "src", tmp_path / "src")
    planted = tmp_path / "src" / "rddm" / file
    text = planted.read_text(encoding="utf-8")
    assert text.count(good) == 1, f"{file} no longer holds {good!r} once"
    planted.write_text(text.replace(good, bad), encoding="utf-8")
    (tmp_path / "tests").mkdir()
    assert proofs_fail(tmp_path / "src", tmp_path / "tests")
