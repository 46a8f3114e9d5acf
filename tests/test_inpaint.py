"""Inpainting: known pixels to the bit, nothing of the hidden ones, holes of any shape; every mistake one line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from complaints import complaint
from models import restoring_model
from PIL import Image

from rddm import inpaint as module
from rddm.cli import main
from rddm.clipping import clip_x_0
from rddm.degradations.masks import masked
from rddm.denoiser import GaussianOracle
from rddm.errors import UserError
from rddm.fill import smooth_fill
from rddm.inpaint import Known, hidden, inpaint, prepare
from rddm.methods import METHODS
from rddm.model import Model
from rddm.nn.compact import CompactConfig
from rddm.path import gaussian, mix
from rddm.photo import Photo, from_float, read_photo, to_float, write_photo
from rddm.prediction import V
from rddm.restore import restore_tile
from rddm.restore import run as module_run
from rddm.sample import iterate
from rddm.schedules import DDPMPath

SIDE = 32


def painter() -> Model:
    """Return a model that is shown a mask, with random weights."""
    model = restoring_model(CompactConfig(in_channels=9, heads=2, widths=(8, 16), blocks=(1, 1)))
    method = replace(METHODS["rddm"], inputs=("x_in", "mask"), clip=clip_x_0, steps=2)
    model.spec = replace(model.spec, name="painter", method=method)
    return model


def generator() -> Model:
    """Return a generator of squares, with random weights."""
    model = restoring_model(CompactConfig(in_channels=3, widths=(8, 16), blocks=(1, 1)))
    method = replace(METHODS["rddm-generation"], target=V, steps=3)
    model.spec = replace(model.spec, name="generator", method=method, side=SIDE)
    return model


MODELS = {"painter": painter, "generator": generator}


def photograph(seed: int, dtype: type = np.uint8, bands: int = 3, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (height, width, bands), dtype, endpoint=True)


def hole(height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """Return a mask with a rectangle and a line."""
    mask = np.zeros((height, width), np.uint8)
    mask[8:15, 10:25] = mask[20, 3:30] = 255
    return mask


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("painter")
    painter().save_pretrained(path)
    return path


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A photo of 40 by 24 pixels and its mask."""
    write_photo(tmp_path / "photo.png", Photo(photograph(0, height=24, width=40)))
    Image.fromarray(hole(24, 40)).save(tmp_path / "mask.png")
    return tmp_path / "photo.png", tmp_path / "mask.png"


def command(folder: Path, photo: Path, mask: Path, *arguments: object) -> int:
    return main(["inpaint", str(photo), "--mask", str(mask), "--model", str(folder), *map(str, arguments)])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_known_pixels_stay_and_hidden_ones_do_not_show(name: str, bands: int, dtype: type) -> None:
    model, mask = MODELS[name](), hole()
    pixels = photograph(0, dtype, bands)
    out = inpaint(model, pixels, mask, seed=5)
    assert out.shape == pixels.shape and out.dtype == dtype
    assert np.array_equal(out[mask == 0], pixels[mask == 0])
    assert (out[mask > 0] != pixels[mask > 0]).mean() > 0.9
    assert np.array_equal(inpaint(model, pixels, mask, seed=5), out)
    assert not np.array_equal(inpaint(model, pixels, mask, seed=6), out)
    other = np.where(mask[..., None] > 0, photograph(1, dtype, bands), pixels)
    for keep in (True, False):
        assert np.array_equal(inpaint(model, pixels, mask, keep=keep), inpaint(model, other, mask, keep=keep))
    changed = np.where(mask[..., None] > 0, pixels, photograph(1, dtype, bands))
    assert not np.array_equal(inpaint(model, changed, mask, seed=5)[mask > 0], out[mask > 0])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_holes_are_grey_as_in_training(dtype: type) -> None:
    pixels, mask = photograph(0, dtype), hole()
    image = torch.from_numpy(to_float(pixels)).permute(2, 0, 1)
    trained = masked(image, torch.from_numpy(to_float(mask))[None]).image.permute(1, 2, 0).numpy()
    assert np.array_equal(hidden(pixels, mask), from_float(trained, dtype))


@pytest.mark.parametrize("path", [METHODS["rddm"].path, DDPMPath()], ids=["power", "ddpm"])
def test_at_every_node_the_known_part_is_the_photo_diffused(path) -> None:  # noqa: ANN001
    random = torch.Generator().manual_seed(0)
    x_0, eps = torch.rand(2, 1, 3, 4, 4, generator=random, dtype=torch.float64) * 2 - 1
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    mask[..., 1:3, :] = 1
    denoiser = Known(GaussianOracle(torch.zeros(()), torch.ones(())), x_0, mask)
    zeros, nodes = torch.zeros_like(x_0), path.grid(6)
    start = mix(x_0, -x_0, eps, nodes[0])
    states = list(iterate(denoiser, zeros, nodes, noise=gaussian(random), x_start=start))
    for state in states:
        error = (state.x_t - mix(x_0, -x_0, eps, state.node))[..., [0, 3], :].abs().max()
        assert error < 1e-13  # measured: at most 4e-16
    assert torch.equal(states[-1].x_t[..., [0, 3], :], x_0[..., [0, 3], :])
    assert not torch.isclose(states[-1].x_t[..., 1:3, :], x_0[..., 1:3, :]).any()


def test_a_window_gives_what_the_whole_photo_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    model, pixels = painter(), photograph(0, height=420, width=500)
    mask = np.zeros((420, 500), np.uint8)
    mask[200:230, 260:270] = 255
    assert prepare(model, mask).window[:2] > (0, 0) and prepare(model, mask).job.height < 420
    out = inpaint(model, pixels, mask, seed=2)
    monkeypatch.setattr(module, "looks_near", lambda model: False)
    whole = inpaint(model, pixels, mask, seed=2)
    assert np.abs(out.astype(int) - whole).max() <= 1  # measured: 0


def test_a_model_may_ask_for_a_smooth_first_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, mask, shown = photograph(0), hole(), list[np.ndarray]()
    soft = np.where(mask > 0, np.uint8(90), np.uint8(0))
    monkeypatch.setattr(module, "run", lambda job, given, *more: shown.append(given) or module_run(job, given, *more))
    model = painter()
    inpaint(model, pixels, mask)
    model.spec = replace(model.spec, prepare="fill")
    for holes in (mask, soft):
        out = inpaint(model, pixels, holes)
        assert np.array_equal(out[mask == 0], pixels[mask == 0])
    assert np.array_equal(shown[0], hidden(pixels, mask))
    assert np.array_equal(shown[1], smooth_fill(pixels, mask)) and np.array_equal(shown[2], shown[1])
    other = np.where(mask[..., None] > 0, photograph(1), pixels)
    assert np.array_equal(inpaint(model, pixels, mask), inpaint(model, other, mask))


def test_tiles_without_a_hole_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model, pixels = painter(), photograph(0, height=300, width=420)
    mask = np.zeros((300, 420), np.uint8)
    mask[2:290, 5] = 255
    mask[10, 2:400] = 255
    monkeypatch.setattr("rddm.restore.WHOLE_BYTES", 0)
    monkeypatch.setattr("rddm.restore.TILES", (128,))
    filling = prepare(model, mask, seed=2)
    asked: list[object] = []
    monkeypatch.setattr(module, "restore_tile", lambda *given: asked.append(given[2]) or restore_tile(*given))
    out = module.fill(filling, pixels, mask)
    assert 0 < len(asked) < filling.job.tiles
    every = module.fill(replace(filling, restore=restore_tile), pixels, mask)
    assert np.array_equal(out, every)


def test_soft_edges_are_blended() -> None:
    model, pixels, mask = painter(), photograph(0), hole()
    mask[7, 10:25] = 51
    out, hard = inpaint(model, pixels, mask), inpaint(model, pixels, np.where(mask > 0, np.uint8(255), np.uint8(0)))
    assert np.array_equal(out[mask == 0], pixels[mask == 0]) and np.array_equal(out[mask == 255], hard[mask == 255])
    expected = 0.8 * pixels[7, 10:25] + 0.2 * hard[7, 10:25]
    assert np.abs(out[7, 10:25] - expected).max() <= 0.51


def test_a_generator_wants_its_own_size_and_a_restorer_is_none() -> None:
    with pytest.raises(UserError, match="photo of 40x24, expected 32x32"):
        inpaint(generator(), photograph(0, height=24, width=40), hole(24, 40))
    plain = restoring_model(CompactConfig(widths=(8, 16), blocks=(1, 1)))
    with pytest.raises(UserError, match="is shown no mask, expected a model that inpaints"):
        inpaint(plain, photograph(0), hole())
    with pytest.raises(UserError, match=r"mask: found shape \(32, 32, 1\)"):
        inpaint(painter(), photograph(0), hole()[..., None])
    model = generator()
    model.spec = replace(model.spec, network=replace(model.spec.network, out_channels=1))
    with pytest.raises(UserError, match="makes 1 channels in 2 dimensions, expected 3 in 2"):
        inpaint(model, photograph(0), hole())
    with pytest.raises(UserError, match="steps: found 0"):
        inpaint(painter(), photograph(0), hole(), steps=0)


def test_command_fills_and_compares(
    folder: Path, files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(folder, *files, "-o", tmp_path / "new" / "out.png", "--compare", "--seed", 3) == 0
    assert "132 of 960 pixels are missing; 40x24, painter, 2 steps, one piece, about" in capsys.readouterr().out
    pixels, mask = read_photo(files[0]).pixels, hole(24, 40)
    out = read_photo(tmp_path / "new" / "out.png").pixels
    assert np.array_equal(out, inpaint(painter(), pixels, mask, seed=3))
    beside = read_photo(tmp_path / "new" / "out_compare.png").pixels
    assert np.array_equal(beside[:, :40], hidden(pixels, mask)) and np.array_equal(beside[:, 42:], out)


def test_alpha_and_sixteen_bits_stay_and_photos_are_turned(folder: Path, tmp_path: Path) -> None:
    pixels, alpha = photograph(0, np.uint16, height=24, width=40), photograph(1, np.uint16, 1, 24, 40)[..., 0]
    write_photo(tmp_path / "deep.tiff", Photo(pixels, alpha))
    Image.fromarray(hole(24, 40)).convert("1").save(tmp_path / "mask.png")
    assert command(folder, tmp_path / "deep.tiff", tmp_path / "mask.png", "-o", tmp_path / "out.png") == 0
    out = read_photo(tmp_path / "out.png")
    assert out.alpha is not None and np.array_equal(out.alpha, alpha) and out.pixels.dtype == np.uint16
    assert np.array_equal(out.pixels[hole(24, 40) == 0], pixels[hole(24, 40) == 0])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photograph(0, height=40, width=24)).save(tmp_path / "turned.png", exif=exif)
    assert command(folder, tmp_path / "turned.png", tmp_path / "mask.png", "-o", tmp_path / "up.png") == 0
    upright = read_photo(tmp_path / "turned.png").pixels
    assert upright.shape == (24, 40, 3)
    assert np.array_equal(read_photo(tmp_path / "up.png").pixels[hole(24, 40) == 0], upright[hole(24, 40) == 0])


def masks(folder: Path) -> dict[str, tuple[Path, str]]:
    """Write masks that are wrong, and return them with what the complaint must say."""
    mask = hole(24, 40)
    soft = mask.copy()
    soft[15, 10:25] = 100
    pictures = {
        "size": (mask.T, "found 24x40 pixels, expected 40x24"),
        "soft": (soft, "found 15 of 960 pixels neither black nor white, expected 0 or 255; try --threshold 128, or"),
        "nearly": (mask - (mask > 0) * np.uint8(3), "nearly so, as JPEG leaves them, expected 0 or 255; try --thresh"),
        "black": (0 * mask, "found no white pixel"),
        "white": (0 * mask + np.uint8(255), "found no black pixel"),
    }
    for name, (picture, _) in pictures.items():
        Image.fromarray(picture).save(folder / f"{name}.png")
    (folder / "text.png").write_text("no image")
    wrong = {name: (folder / f"{name}.png", expected) for name, (_, expected) in pictures.items()}
    more = {"text": (folder / "text.png", "not an image"), "none": (folder / "none.png", "no such file")}
    return wrong | more


@pytest.mark.parametrize("kind", ["size", "soft", "nearly", "black", "white", "text", "none"])
def test_a_wrong_mask_is_one_line(
    kind: str, folder: Path, files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask, expected = masks(tmp_path)[kind]
    assert command(folder, files[0], mask, "-o", tmp_path / "out" / "x.png") == 2
    line = complaint(capsys)
    assert expected in line and str(mask) in line and not (tmp_path / "out").exists()


def test_thresholds_and_soft_edges_are_allowed_when_asked(
    folder: Path, files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong, out = masks(tmp_path), tmp_path / "out.png"
    Image.fromarray(hole(24, 40)).save(tmp_path / "mask.jpg", quality=90)
    assert command(folder, files[0], tmp_path / "mask.jpg", "-o", out) == 2 and complaint(capsys)
    assert command(folder, files[0], tmp_path / "mask.jpg", "-o", out, "--threshold", 128) == 0
    expected = inpaint(painter(), read_photo(files[0]).pixels, hole(24, 40))
    assert np.array_equal(read_photo(out).pixels, expected)
    assert command(folder, files[0], wrong["soft"][0], "-o", out, "--soft") == 0
    assert not np.array_equal(read_photo(out).pixels, expected)
    capsys.readouterr()
    assert command(folder, files[0], wrong["nearly"][0], "-o", out, "--soft") == 2 and "JPEG" in complaint(capsys)
    assert command(folder, files[0], files[1], "-o", out, "--threshold", 0) == 2
    assert "--threshold 0" in complaint(capsys)
    assert command(folder, files[0], wrong["soft"][0], "-o", out, "--threshold", 255) == 0


def test_white_on_transparent_is_a_mask(folder: Path, files: tuple[Path, Path], tmp_path: Path) -> None:
    mask, out = hole(24, 40), tmp_path / "out.png"
    strokes = np.dstack([np.full_like(mask, 255)] * 3 + [mask])
    Image.fromarray(strokes, "RGBA").save(tmp_path / "strokes.png")
    assert command(folder, files[0], tmp_path / "strokes.png", "-o", out) == 0
    assert np.array_equal(read_photo(out).pixels, inpaint(painter(), read_photo(files[0]).pixels, mask))


def test_other_mistakes_are_one_line(
    folder: Path, files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo, mask = files
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for out in (photo, mask):
        assert command(folder, photo, mask, "-o", out) == 2
        assert "the output is the input itself" in complaint(capsys)
    assert command(folder, tmp_path / "none.png", mask, "-o", tmp_path / "out.png") == 2
    assert "none.png: no such file" in complaint(capsys)
    assert command(Path("low-light"), photo, mask, "-o", tmp_path / "out.png") == 2
    assert "low-light: is shown no mask" in complaint(capsys)
    assert command(folder, photo, mask, "-o", tmp_path / "out.gif") == 2
    assert "'.gif'" in complaint(capsys)
    assert command(folder, photo, mask, "-o", tmp_path / "out.png", "--steps", 0) == 2
    assert "steps: found 0" in complaint(capsys)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
