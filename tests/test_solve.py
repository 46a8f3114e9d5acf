"""``rddm solve``: what is written fits the photo given; windows agree at their seams; every mistake one line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from complaints import complaint
from models import restoring_model
from PIL import Image

from rddm.cli import main
from rddm.errors import UserError
from rddm.guidance import GUIDANCES
from rddm.methods import METHODS
from rddm.model import Model
from rddm.nn.compact import CompactConfig
from rddm.operators import PoissonNoise, parse_operator
from rddm.photo import read_photo
from rddm.prediction import V
from rddm.solve import Options, image_sides, measurement, prepare, solution, solve

SIDE = 16


def generator(side: int | None = SIDE) -> Model:
    """Return a generator of squares, with random weights."""
    model = restoring_model(CompactConfig(in_channels=3, widths=(8, 16), blocks=(1, 1)))
    method = replace(METHODS["rddm-generation"], target=V, steps=3)
    model.spec = replace(model.spec, name="generator", method=method, side=side)
    return model


def photograph(height: int = SIDE, width: int = SIDE, bands: int = 3, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (height, width, bands), dtype, endpoint=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("generator")
    generator().save_pretrained(path)
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.fromarray(photograph()).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def command(folder: Path, photo: Path, *arguments: object) -> int:
    return main(["solve", str(photo), "--model", str(folder), "--steps", "3", *map(str, arguments)])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("bands", [1, 3])
def test_a_small_photo_becomes_a_large_one_that_shrinks_to_it(bands: int, dtype: type) -> None:
    small = photograph(4, 4, bands, dtype)
    out = solve(generator(), small, "sr(4)", options=Options(3))
    assert out.shape == (SIDE, SIDE, 3) and out.dtype == dtype
    assert np.array_equal(solve(generator(), small, "sr(4)", options=Options(3)), out)
    assert not np.array_equal(solve(generator(), small, "sr(4)", options=Options(3, seed=1)), out)


def test_the_image_fits_the_measurement_before_it_is_rounded() -> None:
    pixels, options = photograph(8, 12), Options(3)
    plan = parse_operator("sr(4)")
    problem = prepare(generator(), plan, "ddnm", image_sides(plan, pixels, False), options)
    y = measurement(problem, pixels, options)
    image = solution(problem, y)
    assert image.shape == (1, 3, 32, 48) and len(problem.windows) == 15
    assert (problem.operator.A(image) - y).abs().max() < 1e-5  # measured 5e-7, across all windows


@pytest.mark.parametrize("guidance", GUIDANCES)
def test_windows_agree_at_their_seams(guidance: str) -> None:
    """Each window, solved with what is known of it, gives back what is known to the bit."""
    from rddm import solve as module

    pixels, options = photograph(4, 6, 1), Options(2)
    plan = parse_operator("grey + sr(4)")
    problem = prepare(generator(), plan, guidance, image_sides(plan, pixels, False), options)
    y, seen, inner = measurement(problem, pixels, options), [], module.solved_window

    def watched(problem, y, window, field, image, known, progress):  # noqa: ANN001, ANN202
        before, told = image.clone(), known.expand_as(image).clone()
        found = inner(problem, y, window, field, image, known, progress)
        assert torch.equal(found[told], before[told])
        seen.append(float(told.double().mean()))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "solved_window", watched)
        image = solution(problem, y)
    assert seen == [0.0, 0.5] and torch.isfinite(image).all()


def test_a_photo_without_windows_for_a_model_of_any_size() -> None:
    out = solve(generator(None), photograph(6, 10), "blur(0.7) + sr(2)", options=Options(3))
    assert out.shape == (12, 20, 3)


def test_what_a_mask_hides_does_not_show(tmp_path: Path) -> None:
    mask = np.zeros((SIDE, 24), np.uint8)
    mask[4:9, 5:20] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    pixels = photograph(SIDE, 24)
    other = np.where(mask[..., None] > 0, 255 - pixels, pixels)
    for guidance in ("ddnm", "dps", "repaint"):
        one, two = (solve(generator(), p, f"mask({tmp_path}/mask.png)", guidance, Options(2)) for p in (pixels, other))
        assert np.array_equal(one, two)
        if guidance != "dps":
            assert np.abs(one.astype(int) - pixels)[mask == 0].max() <= 1  # measured 0


def test_the_command(folder: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(folder, photo, "--operator", "sr(4)", "-o", tmp_path / "out" / "a.png", "--compare") == 0
    printed = capsys.readouterr().out
    assert "64x64 from sr(4), generator, ddnm, 49 windows, 147 network calls" in printed
    assert "fits the measurement to" in printed and "PSNR" not in printed
    assert read_photo(tmp_path / "out" / "a.png").pixels.shape == (64, 64, 3)
    assert read_photo(tmp_path / "out" / "a_compare.png").pixels.shape[0] == 64


@pytest.mark.parametrize(("operator", "guidance"), [("cs(0.5)", "ddrm"), ("phase", "dps"), ("grey + blur(1)", "pigdm")])
def test_a_clean_photo_is_measured_first(
    folder: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], operator: str, guidance: str
) -> None:
    more = ("--simulate", "--noise", "5", "--jumps", "1,2", "--compare")
    assert command(folder, photo, "--operator", operator, "--guidance", guidance, "-o", tmp_path / "a.png", *more) == 0
    printed = capsys.readouterr().out
    assert "5 network calls" in printed and " dB" in printed
    assert ("its pseudoinverse" in printed) == (operator != "phase")


def test_simulated_noise_is_as_strong_as_it_says() -> None:
    pixels, options = photograph(SIDE, SIDE), Options(2, noise=20, simulate=True)
    plan = parse_operator("blur(1)")
    problem = prepare(generator(), plan, "ddrm", (SIDE, SIDE), options)
    quiet = measurement(problem, pixels, options) - problem.operator.A(
        torch.from_numpy(pixels / 127.5 - 1).float().permute(2, 0, 1)[None]
    )
    assert float(quiet.std()) * 127.5 == pytest.approx(20, rel=0.1)


def test_photons_are_counted_and_told_to_the_guidance(folder: Path, photo: Path, tmp_path: Path) -> None:
    pixels, plan = photograph(SIDE, SIDE), parse_operator("grey")
    problem = prepare(generator(), plan, "dps", (SIDE, SIDE), Options(2, photons=9.0, simulate=True))
    y = measurement(problem, pixels, Options(2, simulate=True))
    counted = (y + 1) / 2 * 9
    assert problem.noise == PoissonNoise(9.0) and (counted - counted.round()).abs().max() < 1e-5  # measured 5e-7
    written = []
    for more in (("--photons", 9), ("--photons", 9, "--simulate"), ("--noise", 5)):
        arguments = ("--operator", "grey", "--guidance", "dps", "-o", tmp_path / "a.png")
        assert command(folder, photo, *arguments, *more) == 0
        written.append(read_photo(tmp_path / "a.png").pixels)
    assert not any(np.array_equal(one, written[0]) for one in written[1:])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--operator", "sr(4"), "operator: found 'sr(4' (did you mean sr?), expected mask(FILE)"),
        (("--operator", "cs(0.5)"), "cs(0.5): measures no picture, expected --simulate with a clean photo"),
        (("--operator", "blur(1) + sr(2)"), "blur(1) + sr(2): measures across windows, found an image of 32x32"),
        (("--operator", "sr(3)", "--simulate"), "sr(3): found 16x16 pixels, expected multiples of 3, such as 15x15"),
        (("--operator", "jpeg(50)", "--guidance", "ddrm"), "ddrm: needs an operator with an SVD (U, V, mask)"),
        (("--operator", "sr(4)", "--noise", "-1"), "noise: found a standard deviation of"),
        (("--operator", "sr(4)", "--steps", "0"), "steps: found 0, expected 1 to 1000"),
        (("--operator", "mask(nowhere.png)"), "nowhere.png: "),
        (("--operator", "grey", "--photons", "20"), "ddnm: counts with the same noise everywhere, found photons;"),
        (("--operator", "grey", "--photons", "0", "--guidance", "dps"), "noise: found 0 photons, expected more than 0"),
        (("--operator", "grey", "--photons", "20", "--noise", "5"), "--photons: found --noise 5 as well, expected one"),
        (
            ("--operator", "phase", "--simulate", "--photons", "20", "--guidance", "dps"),
            "phase: measures no picture, whose photons are counted; expected --noise",
        ),
    ],
)
def test_one_line_for_each_mistake(
    folder: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple, line: str
) -> None:
    assert command(folder, photo, "-o", tmp_path / "a.png", *arguments) == 2
    assert complaint(capsys).startswith(f"rddm: {line}")
    assert not (tmp_path / "a.png").exists()


def test_models_that_do_not_fit() -> None:
    with pytest.raises(UserError, match="^random: starts from a photo, expected a model that generates from noise: "):
        solve(
            restoring_model(CompactConfig(in_channels=6, heads=1, widths=(8, 8), blocks=(1, 1))), photograph(), "grey"
        )
    with pytest.raises(UserError, match="^generator: found an image of 8x16, expected at least 16x16$"):
        solve(generator(), photograph(8, 16), "grey")
    with pytest.raises(UserError, match="^--guidance dds: expected one of ddnm, ddnm+"):
        solve(generator(), photograph(), "grey", "dds")


def test_the_command_knows_all_guidances() -> None:
    from rddm.arguments import parser

    for name in GUIDANCES:
        parser().parse_args(["solve", "a", "--operator", "grey", "-o", "b", "--guidance", name])
