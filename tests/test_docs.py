"""README says what the code does: its tables and its code are the generated ones, and the code runs."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import rddm

ROOT = Path(__file__).resolve().parents[1]


def test_readme_holds_the_generated_parts() -> None:
    specification = importlib.util.spec_from_file_location("readme_tables", ROOT / "examples" / "readme_tables.py")
    assert specification is not None and specification.loader is not None
    tables = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tables)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(part in text for part in tables.parts().values()), "run make table"


def test_twenty_lines_do_what_restore_does(tmp_path: Path) -> None:
    source = ROOT / "samples" / "low-light" / "input" / "79.png"
    Image.open(source).crop((0, 0, 160, 96)).save(tmp_path / "in.png")
    command = [sys.executable, str(ROOT / "examples" / "twenty_lines.py"), "in.png", "out.png"]
    subprocess.run(command, cwd=tmp_path, check=True)
    by_hand = np.asarray(Image.open(tmp_path / "out.png")).astype(int)
    restored = np.asarray(rddm.load("low-light").restore(Image.open(tmp_path / "in.png"), steps=2)).astype(int)
    assert np.abs(by_hand - restored).mean() < 2  # of 255; the solvers and the noise differ: measured 1.03


def test_the_bundled_model_brightens_real_photos() -> None:
    """At least 6 dB on each sample, as `make demo` prints."""
    from rddm.metrics import psnr

    model = rddm.load("low-light")
    for file in sorted((ROOT / "samples" / "low-light" / "input").glob("*.png")):
        dark, target = (Image.open(f).convert("RGB") for f in (file, ROOT / "samples/low-light/target" / file.name))
        before, after = (psnr(np.asarray(image), np.asarray(target)) for image in (dark, model.restore(dark)))
        assert after > before + 6, file.name


def test_every_decision_and_sample_has_its_words() -> None:
    assert len(list((ROOT / "docs" / "decisions").glob("*.md"))) >= 3
    for model in (ROOT / "src" / "rddm" / "models").iterdir():
        assert {"config.json", "model.safetensors", "README.md", "log.jsonl"} <= {p.name for p in model.iterdir()}
        assert (model / "model.safetensors").stat().st_size <= 16e6
