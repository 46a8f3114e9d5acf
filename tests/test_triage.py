"""The right model for a photo: what is found in it, which bundled model that means, what is printed, who overrules."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from models import restoring_model
from PIL import Image

from rddm import batch
from rddm.cli import main
from rddm.degradations import parse
from rddm.draws import generator_of, synthesised
from rddm.errors import UserError
from rddm.model import Model
from rddm.nn.compact import CompactConfig
from rddm.photo import Photo, Pixels, read_photo, write_photo
from rddm.triage import (
    DARK,
    DARK_BRIGHT,
    KINDS,
    MODELS,
    SIDE,
    WEIGHTS,
    Triage,
    Verdict,
    blockiness,
    brightness,
    choose,
    judge,
    pieces_of,
    starts,
    to_tensor,
)

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("22", "79", "748")
ALL = ("low-light", "denoise", "derain", "deblur", "jpeg", "all-in-one")
DEGRADE = {"noise": "noise(25)", "rain": "heavy_rain", "blur": "motion(15) + noise(1)", "jpeg": "jpeg(20)"}


def sample(name: str, kind: str = "target") -> Pixels:
    return read_photo(ROOT / "samples" / "low-light" / kind / f"{name}.png").pixels


def degraded(name: str, text: str) -> Pixels:
    return synthesised(parse(text), sample(name), generator_of(0, int(name)))["degraded"]


@pytest.mark.parametrize("name", NAMES)
def test_a_dark_photo_is_dark_and_says_how(name: str) -> None:
    verdict = judge(sample(name, "input"))
    assert verdict.found == "dark" and verdict.probability == 1
    assert f"its median brightness is {brightness(sample(name, 'input'))[0]:.0f} of 255" in verdict.why
    assert judge(sample(name)).found != "dark"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", DEGRADE)
def test_each_degradation_is_found(name: str, kind: str) -> None:
    verdict = judge(degraded(name, DEGRADE[kind]))
    assert verdict.found == kind and verdict.probability > 0.6, verdict
    assert "of 12 pieces looked at" in verdict.why and "% sure" in verdict.why
    assert choose(verdict, ALL).model == MODELS[kind]
    assert set(verdict.probabilities) == set(KINDS) and abs(sum(verdict.probabilities.values()) - 1) < 1e-9


def test_darkness_is_a_matter_of_the_median_and_of_the_bright_parts() -> None:
    def photo(share: float, background: int, subject: int) -> Pixels:
        pixels = np.full((100, 100, 3), background, np.uint8)
        pixels[: round(100 * share)] = subject
        return pixels

    assert judge(photo(0.2, DARK - 1, DARK_BRIGHT - 1)).found == "dark"
    assert judge(photo(0.2, DARK, DARK_BRIGHT - 1)).found != "dark"
    assert judge(photo(0.2, 5, DARK_BRIGHT)).found != "dark"  # a subject before a black background
    assert judge(photo(0.05, 5, 255)).found == "dark"  # a lamp in the night
    assert judge(photo(0.05, 5, 255).astype(np.uint16) * 257).found == "dark"


def test_brightness_of_a_large_photo_is_that_of_its_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 100, (1500, 1100, 1), np.uint8)
    assert brightness(pixels) == pytest.approx((49.5, 90), abs=1)  # measured 49 and 89


def test_sixteen_bits_and_grey_are_judged_as_eight_bits_and_colours() -> None:
    pixels = degraded("79", "noise(25)")
    assert judge(pixels.astype(np.uint16) * 257) == judge(pixels)
    grey = pixels.mean(2, keepdims=True).round().astype(np.uint8)
    assert judge(grey) == judge(np.repeat(grey, 3, axis=2))
    assert judge(grey).found == "noise"


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (31, 400), (32, 32), (33, 500), (130, 70)])
def test_tiny_photos_are_judged_or_said_to_be_too_small(size: tuple[int, int]) -> None:
    noisy = np.random.default_rng(0).normal(128, 40, (*size, 3)).clip(0, 255).astype(np.uint8)
    verdict = judge(noisy)
    if min(size) < 32:
        assert "too small" in verdict.why and choose(verdict, ALL).model == "all-in-one"
    else:
        assert verdict.found == "noise" and choose(verdict, ALL).model == "denoise"
    assert judge(np.zeros((*size, 1), np.uint16)).found == "dark"


def test_judging_draws_nothing_and_repeats() -> None:
    pixels = degraded("22", "rain")
    before = torch.get_rng_state()
    assert judge(pixels) == judge(pixels.copy())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("size", [(40, 50), (128, 128), (321, 481), (481, 321), (300, 5000), (3000, 4000)])
def test_pieces_lie_within_on_blocks_and_are_at_most_twelve(size: tuple[int, int]) -> None:
    rows, columns = (starts(side, 4) for side in size)
    assert all(start % 8 == 0 and start + min(SIDE, size[0]) <= size[0] for start in rows)
    assert all(later - earlier >= SIDE - 7 for places in (rows, columns) for earlier, later in zip(places, places[1:]))
    pieces = pieces_of(np.zeros((*size, 1), np.uint8))
    assert 1 <= len(pieces) <= 12
    assert {piece.shape[:2] for piece in pieces} == {(min(SIDE, size[0]), min(SIDE, size[1]))}
    assert size != (3000, 4000) or len(pieces) == 12


def test_blockiness_sees_blocks_wherever_they_begin() -> None:
    blocks = np.random.default_rng(0).integers(100, 110, (16, 16, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    whole, cut = (blockiness(to_tensor([piece])) for piece in (blocks[:120, :120], blocks[3:123, 5:125]))
    assert whole[0, 0] > 0.5 and abs(whole[0, 0] - cut[0, 0]) < 0.1  # measured 0.96 and 0.95
    assert whole[0, 1] <= 0  # at the seven other phases there are no steps


def verdict(found: str, probability: float, **others: float) -> Verdict:
    rest = {kind: others.get(kind, 0.0) for kind in KINDS}
    return Verdict(found, probability, "of what was seen", rest | ({found: probability} if found in KINDS else {}))


@pytest.mark.parametrize(
    ("seen", "bundled", "model", "says"),
    [
        (verdict("blur", 0.9), ALL, "deblur", "of what was seen"),
        (verdict("dark", 1.0), ALL, "low-light", "of what was seen"),
        (verdict("clean", 0.9, noise=0.1), ALL, "all-in-one", "of what was seen"),
        (verdict("noise", 0.5, jpeg=0.4), ALL, "all-in-one", "not sure"),
        (verdict("blur", 0.9), ("denoise", "all-in-one"), "all-in-one", "deblur is not bundled"),
        (verdict("blur", 0.9, jpeg=0.06, rain=0.04), ("denoise", "derain"), "derain", "deblur is not bundled"),
        (verdict("clean", 0.9, rain=0.06, noise=0.04), ("denoise", "derain"), "derain", "all-in-one is not bundled"),
        (verdict("noise", 0.5, jpeg=0.4), ("denoise", "low-light"), "denoise", "all-in-one is not bundled"),
        (verdict("jpeg", 0.9), ("low-light",), "low-light", "jpeg is not bundled"),
    ],
)
def test_the_model_follows_and_others_stand_in(seen: Verdict, bundled: tuple[str, ...], model: str, says: str) -> None:
    choice = choose(seen, bundled)
    assert choice.model == model and says in choice.why


def test_nothing_to_choose_from_is_one_line() -> None:
    with pytest.raises(UserError, match="expected --model"):
        choose(verdict("noise", 0.9), ["cartoons"])


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Bundle some models, all of one small network, and note each that is loaded."""
    noted: list[str] = []

    def load(name: str, device: str) -> Model:
        noted.append(name)
        return restoring_model(CompactConfig(widths=(8, 16), blocks=(1, 1)), clip="x0")

    monkeypatch.setattr(batch, "load", load)
    monkeypatch.setattr(batch, "bundled", lambda: ["denoise", "derain", "low-light"])
    return noted


def photos(folder: Path) -> Path:
    """Write a dark photo, two noisy ones and a file that is none."""
    folder.mkdir()
    corner = degraded("79", "noise(25)")[:140, :200]
    Image.fromarray(sample("79", "input")[:140, :200]).save(folder / "night.png")
    Image.fromarray(corner).save(folder / "grain.png")
    write_photo(folder / "more.tiff", Photo(corner.astype(np.uint16) * 257))
    (folder / "broken.jpg").write_text("no photo")
    return folder


def test_each_photo_of_a_batch_gets_its_own(
    loads: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["restore", str(photos(tmp_path / "in")), "-o", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    lines = [line for line in said.out.splitlines() if "because" in line]
    assert loads == ["denoise", "low-light"]  # each once, in the order of the names
    assert [line.split(", because ")[0] for line in lines] == [
        "grain.png: denoise", "more.tiff: denoise", "night.png: low-light",
    ]  # fmt: skip
    assert "because noise in 1 of 1 pieces looked at" in lines[0] and lines[0].endswith("% sure (--model overrules)")
    assert "because its median brightness is " in lines[2]
    assert "broken.jpg" in said.err and said.out.rstrip().endswith("3 of 4 photos restored")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"grain.png", "more.tiff", "night.png"}


def test_the_line_comes_before_the_work(loads: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = photos(tmp_path / "in") / "night.png"
    assert main(["restore", str(source), "-o", str(tmp_path / "out.png")]) == 0
    first, second = capsys.readouterr().out.splitlines()[:2]
    assert first.startswith("night.png: low-light, because") and "200x140" in second


def test_a_model_that_is_named_overrules(
    loads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(_: Pixels) -> Verdict:
        raise AssertionError("judged")

    monkeypatch.setattr(batch, "judge", never)
    source = photos(tmp_path / "in") / "night.png"
    assert main(["restore", str(source), "-o", str(tmp_path / "out.png"), "--model", "derain"]) == 0
    assert loads == ["derain"] and "because" not in capsys.readouterr().out


def test_what_is_bundled_is_what_is_chosen_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without any stand-in: the package's own models."""
    source = photos(tmp_path / "in") / "grain.png"
    assert main(["restore", str(source), "-o", str(tmp_path / "out.png")]) == 0
    assert capsys.readouterr().out.startswith("grain.png: denoise, because noise in 1 of 1 pieces")


def test_weights_are_small_and_those_of_the_card() -> None:
    card = json.loads(WEIGHTS.with_suffix(".json").read_text(encoding="utf-8"))
    assert WEIGHTS.stat().st_size < 1e6
    assert card["parameters"] == sum(parameter.numel() for parameter in Triage().parameters()) <= 150_000


def test_the_page_holds_the_table_of_the_card(shared_table: Callable[[list[dict]], str]) -> None:
    card = json.loads(WEIGHTS.with_suffix(".json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "choosing.md").read_text(encoding="utf-8")
    assert shared_table(card["tests"]["table"]) in page, "run training/triage.py score and copy what it prints"


@pytest.fixture
def shared_table() -> Callable[[list[dict]], str]:
    """The function of training/triage.py that writes the table."""
    specification = importlib.util.spec_from_file_location("training_triage", ROOT / "training" / "triage.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.table
