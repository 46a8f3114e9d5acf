"""``rddm evaluate`` of sets of images: distances of what a generator draws and of what a translator makes."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
from complaints import complaint
from PIL import Image

from rddm.cli import main
from rddm.generate import generate
from rddm.methods import METHODS
from rddm.model import Model, load
from rddm.setdistance import Reference
from rddm.setevaluate import tensor
from rddm.spec import ModelSpec
from rddm.translate import translate

SIDE = 16


def pack(file: Path, first: int, count: int, side: int = 24) -> list[np.ndarray]:
    """Write smooth random images to one file, and return them as they will be read."""
    jpegs = []
    for i in range(first, first + count):
        buffer = io.BytesIO()
        Image.fromarray(tiny.photograph(i, side, side)).save(buffer, format="JPEG")
        jpegs.append(buffer.getvalue())
    data = np.frombuffer(b"".join(jpegs), np.uint8)
    names = [f"{i:03}" for i in range(count)]
    np.savez(file, jpeg=data, offsets=np.cumsum([0, *map(len, jpegs)]), names=names)
    return [np.asarray(Image.open(io.BytesIO(jpeg))) for jpeg in jpegs]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with cats, dogs, a generator and a translator of some thousand weights each."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RDDM_WEIGHTS", str(tmp_path))
    pack(Path("cats.npz"), 0, 40), pack(Path("dogs.npz"), 100, 12)
    for name, row in (("generator", "flow"), ("translator", "flow-paired")):
        recipe = tiny.recipe(METHODS[row])
        method = replace(recipe.method, steps=2)
        Model(ModelSpec(name, recipe.network, method, side=SIDE)).save_pretrained(tmp_path / name)
    return tmp_path


def evaluate(protocol: str, *arguments: str, clean: str = "cats.npz") -> int:
    return main(["evaluate", "--protocol", protocol, "--clean", clean, "--out", "there", *arguments])


def real() -> Reference:
    """Return the cats at the models' side, as Pillow makes it."""
    with np.load("cats.npz") as arrays:
        data, ends = arrays["jpeg"].tobytes(), arrays["offsets"]
    cats = [Image.open(io.BytesIO(data[a:b])) for a, b in zip(ends, ends[1:])]
    return Reference(tensor(np.stack([np.asarray(c.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for c in cats])))


def test_a_generator(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("generation", "--model", "generator", "--images", "15", "--seed", "3", "--json", "short.json") == 0
    lines = capsys.readouterr().out.splitlines()
    expected = real().compare(tensor(generate(load("generator"), 15, seed=3)))
    figure = expected["frechet-wavelet"]
    assert lines[0].startswith(f"generation: frechet-wavelet {figure.value:.4g} (real ones {figure.floor:.2g}), kernel")
    assert lines[0].endswith("(15 images of 16 pixels, generator, 2 steps, seed 3)")
    data = json.loads(Path("there/scores.json").read_text())
    assert data == json.loads(Path("short.json").read_text())
    assert data["distances"]["frechet-wavelet"]["value"] == pytest.approx(figure.value)
    assert data["real"] == 40 and data["images"] == 15 and data["input"] == {} and data["steps"] == 2
    assert sorted(path.name for path in Path("there").iterdir()) == ["images.png", "scores.json", "table.md"]


def test_a_translator_beside_the_untouched(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("translation", "--degraded", "dogs.npz", "--model", "translator", "--images", "10") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("  input: frechet-wavelet ") and lines[1].endswith(", untouched")
    dogs = [image for i, image in enumerate(pack(Path("same.npz"), 100, 12)) if i not in (5, 11)]
    model = load("translator")
    after = np.concatenate([translate(model, dog) for dog in dogs])
    data = json.loads(Path("there/scores.json").read_text())
    value = real().compare(tensor(after))["kernel-wavelet"].value
    assert data["distances"]["kernel-wavelet"]["value"] == pytest.approx(value)
    small = [np.asarray(Image.fromarray(d).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for d in dogs]
    before = real().compare(tensor(np.stack(small)))["kernel-wavelet"].value
    assert data["input"]["kernel-wavelet"]["value"] == pytest.approx(before)


def test_images_of_anyone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Real ones against real ones: not further than the floor by much. They may lie in a folder."""
    Path("anyone").mkdir()
    for i in range(12):
        Image.fromarray(tiny.photograph(200 + i, 24, 30)).save(f"anyone/{i}.png")
    assert evaluate("generation", "--outputs", "anyone") == 0
    assert "(12 images of 24 pixels, anyone)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("protocol", "arguments", "words"),
    [
        ("generation", ["--degrade", "noise(5)"], "--degrade: found one with generation"),
        ("generation", ["--runs", "2"], "--runs, --also: found some"),
        ("generation", ["--degraded", "dogs.npz"], "--degraded: found one with generation"),
        ("translation", [], "translation: found no --degraded"),
        ("generation", ["--model", "translator"], "translator: starts from a photo"),
        ("generation", ["--model", "generator", "--images", "0"], "found less than 1"),
        ("generation", ["--model", "generator", "--images", "3"], "images: found 3, expected at least 10"),
        ("translation", ["--degraded", "dogs.npz", "--model", "denoise"], "keeps to no size of its own"),
        ("translation", ["--degraded", "nowhere", "--model", "translator"], "nowhere: no such file or folder"),
    ],
)
def test_mistakes_are_one_line(
    protocol: str, arguments: list[str], words: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(protocol, *arguments) == 2
    assert words in complaint(capsys)
    assert not Path("there").exists()
