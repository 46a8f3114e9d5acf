"""The core needs torch alone: proved in a fresh interpreter, with a check that the proof can fail."""

import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"
FOREIGN = (
    "PIL", "torchvision", "diffusers", "accelerate", "huggingface_hub", "safetensors", "rich", "psutil",
    "matplotlib", "torchmetrics", "deepinv", "gradio", "ray", "tqdm", "scipy",
)  # fmt: skip


def loaded_by(statement: str) -> set[str]:
    """Return the modules in a fresh interpreter after a statement, less those of torch alone."""
    program = "import sys, torch; before = set(sys.modules); {}; print(*sorted(set(sys.modules) - before))"
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(
        [sys.executable, "-c", program.format(statement)], env=environment, capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in done.stdout.split()}


def test_importing_rddm_brings_torch_alone() -> None:
    brought = loaded_by("import rddm, rddm.ode")
    assert "rddm" in brought
    assert not brought & set(FOREIGN)


def test_using_the_core_brings_nothing_either() -> None:
    program = (
        "import rddm; import rddm.nn.compact; m = rddm.METHODS['rddm-res']; x = torch.zeros(1, 3, 8, 8);"
        " n = rddm.nn.compact.Compact(rddm.nn.compact.CompactConfig(widths=(8, 8), blocks=(1, 1)));"
        " rddm.sample(rddm.NetworkDenoiser(n, m), x, m.path.grid(2), rddm.SOLVERS['dpm++'])"
    )
    assert not loaded_by(program) & set(FOREIGN)


def test_guidance_brings_nothing_either() -> None:
    program = (
        "import rddm; from rddm.guidance import DDNM; from rddm.operators import parse_operator;"
        " x = torch.zeros(1, 3, 8, 8); o = parse_operator('sr(4) + grey')((3, 8, 8)); m = rddm.METHODS['ddpm'];"
        " d = lambda x_t, x_in, node: rddm.Prediction(x_t, -x_t, x_t);"
        " rddm.sample(d, x, m.path.grid(2), guidance=DDNM(o, o.A(x)))"
    )
    brought = loaded_by(program)
    assert "rddm" in brought and not brought & set(FOREIGN)


def test_preparing_a_photo_does_not_bring_torchs_compiler() -> None:
    """It takes a second to import, and comes with sympy: a small photo takes no longer."""
    program = (
        "from rddm.model import load; from rddm.restore import prepare; prepare(load('low-light').optimize(), 300, 200)"
    )
    brought = loaded_by(program)
    assert "rddm" in brought and "sympy" not in brought
    assert "sympy" in loaded_by("from rddm.memory import shape_bytes; from rddm.nn.compact import CompactConfig; "
                                "shape_bytes(CompactConfig(), 64, 64)")  # fmt: skip


def test_the_proof_can_fail() -> None:
    assert "PIL" in loaded_by("import rddm.photo")


def test_torchvision_is_not_installed() -> None:
    """It does not work with the CPU build of torch and breaks whoever imports it (docs/decisions/0002)."""
    import importlib.util

    assert importlib.util.find_spec("torchvision") is None
