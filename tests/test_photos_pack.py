"""The pack of training photographs (training/photos.py): what is taken, what is left out, what goes wrong."""

import importlib.util
import io
import json
import subprocess
import sys
import tarfile
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image, ImageEnhance

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "training" / "photos.py"


@pytest.fixture(scope="module")
def photos() -> ModuleType:
    specification = importlib.util.spec_from_file_location("training_photos", SCRIPT)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def scene(seed: int, size: tuple[int, int] = (360, 280)) -> Image.Image:
    blocks = np.random.default_rng(seed).integers(40, 200, (9, 11, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, quality: int = 97) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream)


def folders(base: Path) -> dict[str, Path]:
    """Tiny sources: two photographs of ImageNet, one of which is a test's; three of BSDS500; one of the desktop."""
    tree = {name: base / name for name in ("deb", "imagenet", "bsds", "tests")}
    saved = {"imagenet/copy.JPEG": 1, "imagenet/other.JPEG": 2, "tests/one.png": 1, "deb/usr/wall.jpg": 3}
    saved |= {"bsds/train/10.jpg": 4, "bsds/train/11.jpg": 5, "bsds/test/12.jpg": 1, "deb/usr/drawing.png": 6}
    for name, seed in saved.items():
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        scene(seed).save(base / name, quality=97)
    (tree["bsds"] / "rain_holdout.txt").write_text("11\n")
    return tree


def test_a_smaller_brighter_copy_is_found_and_another_photo_is_kept(photos: ModuleType) -> None:
    tests = np.stack([photos.hash_of(scene(seed)) for seed in range(20)])
    copy = ImageEnhance.Brightness(scene(7).resize((640, 300), Image.Resampling.LANCZOS)).enhance(1.2)
    assert photos.alike(photos.hash_of(copy), tests).tolist() == [7]
    assert photos.fault(encoded(copy), tests) == "like a test photograph"
    assert photos.fault(encoded(scene(100)), tests) == ""


def test_grey_small_and_coarsely_saved_jpegs_are_left_out(photos: ModuleType) -> None:
    none = np.zeros((0, 64), dtype=bool)
    assert photos.fault(encoded(scene(0), 75), none) == "low JPEG quality"
    assert photos.fault(encoded(scene(0).convert("L")), none) == "not RGB"
    assert photos.fault(encoded(scene(0, (400, 255))), none) == "short side below 256"


def test_the_pack_says_what_it_holds(photos: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = folders(tmp_path)
    monkeypatch.setattr(photos, "LIST", tmp_path / "photos.txt")
    photos.LIST.write_text("# a comment\nusr/wall.jpg | some-backgrounds | CC0-1.0 | Somebody\n")
    out = tmp_path / "out"
    card = photos.make(Namespace(**{**tree, "tests": [tree["tests"]], "out": out}))
    expected = {"bsds500/10.jpg", "bsds500-rain-holdout/11.jpg", "desktop/wall.jpg", "imagenet/other.jpg"}
    assert set(card["files"]) == expected
    assert {path.relative_to(out).as_posix() for path in photos.pictures(out)} == expected
    assert card["files"]["desktop/wall.jpg"]["size"] == (180, 140)
    assert card["files"]["desktop/wall.jpg"]["terms"] == "CC0-1.0"
    assert (out / "imagenet/other.jpg").read_bytes() == (tree["imagenet"] / "other.JPEG").read_bytes()
    assert card["dropped"]["imagenet"] == {"like a test photograph": 1}
    assert card["dropped"]["bsds500"]["like a test photograph"] == 1
    assert list(card["dropped"]["desktop"].values()) == [1]

    (out / "photos.json").write_text(json.dumps(card))
    archives = photos.pack(out, tmp_path / "tars", 56)
    names = []
    for path in archives:
        with tarfile.open(path) as archive:
            names += archive.getnames()
    assert len(archives) == 2 and set(names) == {f"photos/{name}" for name in (*expected, "photos.json")}


@pytest.mark.parametrize("missing", ["deb", "imagenet", "bsds", "tests"])
def test_a_missing_folder_is_named_in_one_line(tmp_path: Path, missing: str) -> None:
    tree = folders(tmp_path) | {missing: tmp_path / "nowhere"}
    given = [part for name, path in tree.items() for part in (f"--{name}", str(path))]
    command = [sys.executable, str(SCRIPT), *given, "--out", str(tmp_path / "out")]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr == f"error: no folder {tmp_path / 'nowhere'}\n"
