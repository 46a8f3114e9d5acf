"""The right model for a photo: what is found in it, which bundled model that means, what is printed, who overrules."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from models import restoring_model
from PIL import Image, ImageDraw

from rddm import batch
from rddm.cli import main
from rddm.degradations import parse
from rddm.draws import generator_of, synthesised
from rddm.model import Model
from rddm.nn.compact import CompactConfig
from rddm.pairs import listed
from rddm.photo import Photo, Pixels, read_photo, write_photo
from rddm.restore import prepare, run
from rddm.triage import (
    DARK,
    DARK_BRIGHT,
    DIM,
    DIM_BRIGHT,
    FAINT,
    FAULTS,
    KINDS,
    MODELS,
    SIDE,
    WEIGHTS,
    Triage,
    Verdict,
    blockiness,
    brightness,
    choose,
    decide,
    judge,
    pieces_of,
    starts,
    to_tensor,
)

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("22", "79", "748")
ALL = ("low-light", "denoise", "denoise-real", "derain", "deblur", "jpeg", "all-in-one")
DEGRADE = {
    "noise": "noise(25)", "camera": "camera(1600)", "rain": "heavy_rain", "blur": "motion(15) + noise(1)",
    "jpeg": "jpeg(15)",
}  # fmt: skip


def sample(name: str, kind: str = "target") -> Pixels:
    return read_photo(ROOT / "samples" / "low-light" / kind / f"{name}.png").pixels


def degraded(name: str, text: str) -> Pixels:
    return synthesised(parse(text), sample(name), generator_of(0, int(name)))["degraded"]


@pytest.mark.parametrize("name", NAMES)
def test_a_dark_photo_is_dark_and_says_how(name: str) -> None:
    verdict = judge(sample(name, "input"))
    assert verdict.found == "dark"
    assert f"its median brightness is {brightness(sample(name, 'input')).median:.0f} of 255" in verdict.why


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", ["noise(0)", "noise(1)", "jpeg(90)", "blur(0.8)", "downscale(2)"])
def test_no_good_photo_is_harmed(name: str, text: str) -> None:
    choice = choose(judge(degraded(name, text)), ALL)
    assert choice.model is None, choice


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", DEGRADE)
def test_each_degradation_is_found(name: str, kind: str) -> None:
    verdict = judge(degraded(name, DEGRADE[kind]))
    assert verdict.found == kind, verdict
    assert "% sure" in verdict.why and verdict.strength > FAINT
    assert choose(verdict, ALL).model == MODELS[kind][0]
    assert set(verdict.probabilities) == set(KINDS) and abs(sum(verdict.probabilities.values()) - 1) < 1e-9


@pytest.mark.parametrize("sigma", [8, 25, 50])
def test_the_strength_of_noise_is_measured(sigma: int) -> None:
    found = [judge(degraded(name, f"noise({sigma})")).strength for name in NAMES]
    assert 0.7 * sigma < sum(found) / len(found) < 1.3 * sigma


def test_darkness_is_a_matter_of_the_median_and_of_the_bright_parts() -> None:
    def photo(share: float, background: int, subject: int) -> Pixels:
        pixels = np.full((100, 100, 3), background, np.uint8)
        pixels[: round(100 * share)] = subject
        return pixels

    assert judge(photo(0.2, DARK - 1, DIM_BRIGHT)).found != "dark"  # a subject before a black background
    assert judge(photo(0.2, DARK - 1, DARK_BRIGHT - 1)).found == "dark"
    assert judge(photo(0.2, DIM - 1, DIM_BRIGHT - 1)).found == "dark"  # four times the light would not be too much
    assert judge(photo(0.2, DIM, DIM_BRIGHT - 1)).found != "dark"
    assert judge(photo(0.05, 5, 255)).found == "dark"  # a lamp in the night
    assert judge(photo(0.05, 5, 255).astype(np.uint16) * 257).found == "dark"
    assert judge(photo(0.05, 0, 0)).found != "dark"  # nothing can be brought out of black


def test_brightness_of_a_large_photo_is_that_of_its_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 100, (1500, 1100, 1), np.uint8)
    assert brightness(pixels) == pytest.approx((49.5, 90, 99), abs=1)


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
        assert "too small" in verdict.why and choose(verdict, ALL).model is None
    else:
        assert verdict.found == "noise" and choose(verdict, ALL).model == "denoise"
    assert judge(np.full((*size, 1), 1000, np.uint16)).found == "dark"


@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("size", [(40, 40), (300, 400)])
def test_plain_pictures_are_left(value: int, size: tuple[int, int]) -> None:
    for pixels in (np.full((*size, 3), value, np.uint8), np.full((*size, 1), 257 * value, np.uint16)):
        assert choose(judge(pixels), ALL).model is None


def screenshot() -> Pixels:
    """Draw windows, lines of letters and a chart, as on a screen."""
    image = Image.new("RGB", (640, 480), (240, 240, 245))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 640, 24), fill=(40, 60, 120))
    draw.rectangle((400, 60, 620, 300), fill="white", outline="black")
    for line in range(22):
        draw.text((20, 40 + 18 * line), "Plain words and 12,345 numbers in a row, and more", fill=(20, 20, 20))
    draw.line([(400 + 11 * i, 280 - 37 * i % 190) for i in range(20)], fill="red", width=2)
    return np.asarray(image)


def test_a_screenshot_and_sixteen_bits_of_grey_are_left() -> None:
    grey = sample("79").mean(2, keepdims=True) * 257
    for pixels in (screenshot(), grey.astype(np.uint16)):
        assert choose(judge(pixels), ALL).model is None


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


LIMITS = [1.0] * len(FAULTS)
EVEN = dict.fromkeys(KINDS, 0.01)


def decided(strength: float = 10, limits: list[float] = LIMITS, **probabilities: float) -> Verdict:
    """Decide on a photo of which the network says some probabilities."""
    told = np.array(list((EVEN | probabilities).values()))
    return decide(np.log(told / told.sum()).tolist(), strength, limits)


@pytest.mark.parametrize(
    ("seen", "found", "says"),
    [
        (decided(clean=0.95), "clean", "nothing is amiss, 95 % sure"),
        (decided(rain=0.95), "rain", "it has rain of about 10 of 255, 99 % sure"),
        (decided(noise=0.5, camera=0.4), "noise", "it has noise of about 10 of 255"),
        (decided(noise=0.4, camera=0.5), "camera", "it has a camera's noise of about 10 of 255"),
        (decided(blur=0.5, camera=0.45), "mixed", "damage of several kinds"),
        (decided(clean=0.4, blur=0.5), "unsure", "perhaps it has blur, but that is not sure"),
        (decided(strength=FAINT - 0.1, jpeg=0.9), "unsure", "it has JPEG's blocks, but too faint to mend"),
        (decided(limits=[1, 9, 1, 1, 1], rain=0.9), "unsure", "perhaps it has rain"),
    ],
)
def test_kind_and_strength_decide(seen: Verdict, found: str, says: str) -> None:
    assert seen.found == found and says in seen.why, seen


def verdict(found: str) -> Verdict:
    return Verdict(found, 9.0, "of what was seen", EVEN)


@pytest.mark.parametrize(
    ("found", "bundled", "model", "says"),
    [
        ("blur", ALL, "deblur", "of what was seen"),
        ("dark", ALL, "low-light", "of what was seen"),
        ("camera", ALL, "denoise-real", "of what was seen"),
        ("noise", ALL, "denoise", "of what was seen"),
        ("mixed", ALL, "all-in-one", "of what was seen"),
        ("clean", ALL, None, "of what was seen"),
        ("unsure", ALL, None, "of what was seen"),
        ("camera", ("denoise", "all-in-one"), "denoise", "denoise-real is not bundled"),
        ("rain", ("denoise", "all-in-one"), "all-in-one", "derain is not bundled"),
        ("blur", ("denoise", "all-in-one"), None, "deblur is not bundled"),
        ("noise", (), None, "denoise is not bundled"),
    ],
)
def test_the_model_follows_and_few_stand_in(found: str, bundled: tuple[str, ...], model: str | None, says: str) -> None:
    choice = choose(verdict(found), bundled)
    assert choice.model == model and says in choice.why


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
    assert "because it has noise of about " in lines[0] and lines[0].endswith("% sure (--model overrules)")
    assert "because its median brightness is " in lines[2]
    assert "broken.jpg" in said.err and said.out.rstrip().endswith("3 of 4 photos restored or left as they are")
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
    assert capsys.readouterr().out.startswith("grain.png: denoise, because it has noise of about ")


def saved(folder: Path, suffix: str) -> Path:
    """Write a good photo with a date in its EXIF."""
    exif = Image.Exif()
    exif[0x0132] = "2026:11:28 05:00:00"
    path = folder / f"good{suffix}"
    Image.fromarray(sample("79")).save(path, exif=exif, quality=93)
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_good_photo_is_left_byte_for_byte(
    suffix: str, loads: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = saved(tmp_path, suffix), tmp_path / "new" / f"out{suffix}"
    assert main(["restore", str(source), "-o", str(out), "--compare"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1 and said[0].startswith(f"good{suffix}: left as it is, because nothing is amiss, ")
    assert out.read_bytes() == source.read_bytes() and not loads
    assert read_photo(out.with_name(f"out_compare{suffix}")).pixels.shape[1] > 2 * sample("79").shape[1]


def test_a_good_photo_in_another_format_keeps_its_pixels(loads: list[str], tmp_path: Path) -> None:
    source, out = saved(tmp_path, ".jpg"), tmp_path / "out.png"
    assert main(["restore", str(source), "-o", str(out)]) == 0
    assert np.array_equal(read_photo(out).pixels, read_photo(source).pixels)
    assert Image.open(out).getexif()[0x0132] == "2026:11:28 05:00:00"


def test_a_gif_in_disguise_is_not_copied(loads: list[str], tmp_path: Path) -> None:
    source = tmp_path / "flat.png"
    Image.fromarray(np.full((50, 60), 200, np.uint8)).save(source, "GIF")
    assert main(["restore", str(source), "-o", str(tmp_path / "out.png")]) == 0
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".jpg"])
def test_strength_blends_and_zero_gives_the_photo_back(suffix: str, loads: list[str], tmp_path: Path) -> None:
    pixels = degraded("79", "noise(25)")[:96, :128]
    pixels = pixels.astype(np.uint16) * 257 if suffix == ".tiff" else pixels
    source = tmp_path / f"in{suffix}"
    write_photo(source, Photo(pixels))
    made = {}
    for strength in ("0", "0.25", "1"):
        out = tmp_path / f"{strength}{suffix}"
        assert main(["restore", str(source), "-o", str(out), "--model", "denoise", "--strength", strength]) == 0
        made[strength] = read_photo(out).pixels.astype(float)
    assert (tmp_path / f"0{suffix}").read_bytes() == source.read_bytes()
    if suffix != ".jpg":
        blend = 0.75 * made["0"] + 0.25 * made["1"]
        assert np.abs(made["0.25"] - blend).max() <= 1 and np.abs(made["1"] - made["0"]).mean() > 1


@pytest.mark.parametrize("strength", ["-0.1", "1.5", "nan"])
def test_a_strength_out_of_range_is_one_line(
    strength: str, loads: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = saved(tmp_path, ".png")
    assert main(["restore", str(source), "-o", str(tmp_path / "out.png"), f"--strength={strength}"]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and "expected a number from 0 to 1" in said.err and not said.out


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pixels_and_images_are_blended_in_python_too(bands: int, dtype: type) -> None:
    model = restoring_model(CompactConfig(widths=(8, 16), blocks=(1, 1)), clip="x0")
    pixels = (sample("22")[:70, :90, :bands].astype(dtype) * (np.iinfo(dtype).max // 255)).copy()
    job = prepare(model, 70, 90)
    whole, half, none = (run(job, pixels, strength=strength) for strength in (1.0, 0.5, 0.0))
    assert np.array_equal(none, pixels) and none is not pixels
    assert np.abs(half - (whole.astype(float) + pixels) / 2).max() <= 1
    assert np.array_equal(run(job, pixels, out=pixels, strength=0.5), half)  # in place
    image = Image.fromarray(sample("22")[:70, :90])
    assert np.array_equal(np.asarray(model.restore(image, strength=0)), np.asarray(image))


def test_hardly_any_photo_that_nobody_trained_on_is_touched(shared: Path) -> None:
    """The harm test over clean photos, in small: every fifth of BSDS500 val."""
    files = listed(shared / "data" / "bsds500" / "val")[::5]
    choices = [choose(judge(read_photo(file).pixels), ALL) for file in files]
    touched = [file.name for file, choice in zip(files, choices, strict=True) if choice.model is not None]
    assert len(touched) <= 1, touched


@pytest.mark.parametrize(("text", "models"), [
    ("noise(25)", {"denoise"}), ("camera(1600)", {"denoise", "denoise-real"}), ("heavy_rain", {"derain"}),
    ("jpeg(15)", {"jpeg"}), ("motion(13)", {"deblur"}), ("low_light", {"low-light"}),
])  # fmt: skip
def test_nine_of_ten_photos_that_nobody_trained_on_get_their_model(shared: Path, text: str, models: set[str]) -> None:
    files = listed(shared / "data" / "bsds500" / "val")
    found = []
    for i in range(0, len(files), 5):
        pixels = synthesised(parse(text), read_photo(files[i]).pixels, generator_of(1, i))["degraded"]
        found.append(choose(judge(pixels), ALL).model)
    assert sum(model in models for model in found) >= 0.9 * len(found), found


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
