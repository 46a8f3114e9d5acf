"""Protocols compute what their page says, each against a computation of its own; folders pair or say why not."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from rddm import matlab
from rddm.errors import UserError
from rddm.fill import smooth_fill
from rddm.matlab import imresize, luma
from rddm.metrics import lab_error, psnr, ssim
from rddm.protocols import OF_SETS, PROTOCOLS, protocol_named, read_mask, read_pairs, read_rgb
from rddm.testsets import Choice, pictures, size_of

ROOT = Path(__file__).resolve().parents[1]
FULL = ["lol-rgb", "lol-rgb-gtmean", "rain100h-y", "denoise-rgb", "deblur-rgb", "jpeg-rgb", "real-noise-rgb"]
AT_256 = ["lol-256-y", "raindrop-256-y", "gopro-256-rgb"]


def photo(height: int, width: int, seed: int) -> np.ndarray:
    """Return a smooth random image of 8 bits with some noise."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 200, (9, 12, 3), np.uint8))
    image = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))
    return np.rint(image + random.normal(0, 12, image.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    return photo(256, 256, 0), photo(300, 340, 0)


def test_names_and_words() -> None:
    assert set(PROTOCOLS) == {*FULL, *AT_256, "istd-256", "sr4-y", "holes"}
    assert all(protocol.name == name for name, protocol in PROTOCOLS.items())
    text = (ROOT / "docs" / "protocols.md").read_text(encoding="utf-8")
    for name in (*PROTOCOLS, *OF_SETS):
        assert re.search(rf"^## .*`{name}`", text, re.MULTILINE), f"{name} is not explained"
    with pytest.raises(UserError, match="'lol', expected one of lol-rgb"):
        protocol_named("lol")


@pytest.mark.parametrize("file", ["eval/psnr_ssim_y.safetensors"])
def test_golden_by_protocol(golden: Path, file: str) -> None:
    """What the authors' MATLAB computes from a result and a target of its size."""
    arrays = load_file(golden / file)
    for case in "012":
        scores = PROTOCOLS["rain100h-y"].score(arrays[f"{case}/result"], arrays[f"{case}/gt"])
        assert np.abs(list(scores.values()) - arrays[f"{case}/psnr_ssim"]).max() < 1e-9  # measured 7e-15


def test_super_resolution_leaves_out_the_border() -> None:
    a, b = photo(40, 50, 1), photo(40, 50, 2)
    changed = a.copy()
    changed[:4], changed[-4:], changed[:, :4], changed[:, -4:] = 0, 255, 0, 255
    protocol = PROTOCOLS["sr4-y"]
    assert protocol.score(a, b) == protocol.score(changed, b)
    assert protocol.score(a, b)["psnr"] == pytest.approx(psnr(luma(a[4:-4, 4:-4]), luma(b[4:-4, 4:-4])))
    changed[4, 4] += 9
    assert protocol.score(a, b) != protocol.score(changed, b)
    assert [seen.shape for seen in protocol.seen(a, b)] == [(32, 42, 3)] * 2  # as LPIPS is shown them
    assert np.array_equal(protocol.seen(a, b)[1], b[4:-4, 4:-4])
    with pytest.raises(ValueError, match="at least 9x9"):
        protocol.score(a[:8], b[:8])


@pytest.mark.parametrize("name", FULL)
def test_full_size(name: str) -> None:
    a, b = photo(60, 70, 1), photo(60, 70, 2)
    protocol = PROTOCOLS[name]
    view = luma if name.endswith("-y") else lambda image: image
    scaled = a
    if name == "lol-rgb-gtmean":
        grey = [image[..., 0] * 0.299 + image[..., 1] * 0.587 + image[..., 2] * 0.114 for image in (a, b)]
        scaled = np.floor((a * (grey[1].mean() / grey[0].mean())).clip(0, 255) + 0.5).astype(np.uint8)
        assert protocol.score(a // 2, b)["psnr"] == pytest.approx(protocol.score(a, b)["psnr"], abs=0.2)
        assert protocol.score(np.zeros_like(a), b)["psnr"] < 10  # a black output cannot be scaled
    expected = {"psnr": psnr(view(scaled), view(b)), "ssim": ssim(view(scaled), view(b))}
    assert protocol.score(a, b) == pytest.approx(expected)
    assert protocol.photo(a) is a
    with pytest.raises(ValueError, match="one shape"):
        protocol.score(a, b[:50])


@pytest.mark.parametrize("name", AT_256)
def test_at_256(name: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    """The photo by Pillow, the target by MATLAB: the two differ, and the wrong one would be seen."""
    output, target = pair
    protocol = PROTOCOLS[name]
    small = imresize(target, (256, 256))
    pillow = np.asarray(Image.fromarray(target).resize((256, 256), Image.Resampling.BICUBIC))
    if name == "gopro-256-rgb":
        expected = {"psnr": psnr(output, small), "ssim": matlab.ssim(output, small)}
    else:
        expected = {"psnr": psnr(luma(output), luma(small)), "ssim": ssim(luma(output), luma(small))}
    assert protocol.score(output, target) == pytest.approx(expected)
    assert protocol.score(output, pillow)["psnr"] != pytest.approx(expected["psnr"], abs=1e-6)
    assert np.array_equal(protocol.photo(target), pillow) and np.array_equal(protocol.photo(output), output)
    assert np.array_equal(protocol.seen(output, target)[1], pillow)  # what LPIPS is shown, as the authors do
    with pytest.raises(ValueError, match="300x340, expected 256x256"):
        protocol.score(target, target)


def test_shadows(pair: tuple[np.ndarray, np.ndarray]) -> None:
    output, target = pair
    mask = np.zeros((300, 340), np.uint8)
    mask[:150, :100] = 255
    scores = PROTOCOLS["istd-256"].score(output, target, mask)
    where = imresize(mask, (256, 256)) > 0
    a, b = output / 255.0, imresize(target / 255.0, (256, 256))
    inside = where[..., None]
    assert scores["psnr"] == pytest.approx(-10 * np.log10(((a - b) ** 2).mean()))
    assert scores["psnr-shadow"] == pytest.approx(-10 * np.log10(((a * inside - b * inside) ** 2).mean()))
    assert scores["psnr-rest"] == pytest.approx(-10 * np.log10(((a * ~inside - b * ~inside) ** 2).mean()))
    assert scores["ssim-shadow"] == pytest.approx(matlab.ssim(a * inside, b * inside, 1))
    small = imresize(target, (256, 256)) / 255  # for Lab the rounding comes first
    assert scores["lab-shadow"] == pytest.approx(lab_error(a, small, where))
    assert scores["pixels-shadow"] + scores["pixels-rest"] == 256**2 == scores["pixels"]
    weighted = scores["lab-shadow"] * scores["pixels-shadow"] + scores["lab-rest"] * scores["pixels-rest"]
    assert scores["lab"] == pytest.approx(weighted / 256**2)
    assert set(PROTOCOLS["istd-256"].score(output, target)) == {"psnr", "ssim", "lab", "pixels"}
    with pytest.raises(ValueError, match="mask"):
        PROTOCOLS["istd-256"].score(output, target, np.zeros_like(mask))


def test_holes_are_scored_alone_and_start_smooth() -> None:
    protocol, target, output = PROTOCOLS["holes"], photo(40, 50, 1), photo(40, 50, 2)
    mask = np.zeros((40, 50), np.uint8)
    mask[10:20, 5:30] = 128  # grey is missing too
    scores = protocol.score(output, target, mask)
    hole = (slice(10, 20), slice(5, 30))
    assert scores["psnr"] == pytest.approx(psnr(output[hole], target[hole]))
    assert scores["psnr-whole"] == pytest.approx(psnr(output, target))
    assert scores["ssim"] == pytest.approx(ssim(output, target))
    degraded = target.copy()
    degraded[hole] = 0
    for photo_ in (degraded, None):  # of anyone's outputs nothing but the target is known
        begun = protocol.start(photo_, target, mask)
        assert begun is not None and np.array_equal(begun, smooth_fill(degraded, mask))
    assert PROTOCOLS["lol-rgb"].start(degraded, target, None) is degraded
    for wrong, words in (
        (None, "found no mask"),
        (mask[:9], "found 50x9, expected 50x40"),
        (mask * 0, "nothing marked"),
    ):
        with pytest.raises(ValueError, match=words):
            protocol.score(output, target, wrong)


def test_raw_low_light_has_its_stated_figures(shared: Path) -> None:
    """7.7733 dB and 0.1952, as the data's README states for RGB at full size; the others as measured once."""
    cases = read_pairs(shared / "data/lol/test/target", shared / "data/lol/test/input")
    images = [(read_rgb(case.other), read_rgb(case.target)) for case in cases if case.other is not None]
    assert len(images) == 15
    for name, psnr_stated, ssim_stated in (("lol-rgb", 7.7733, 0.1952), ("lol-rgb-gtmean", 18.7836, 0.4922)):
        scores = [PROTOCOLS[name].score(*image) for image in images]
        assert np.mean([score["psnr"] for score in scores]) == pytest.approx(psnr_stated, abs=5e-5)
        assert np.mean([score["ssim"] for score in scores]) == pytest.approx(ssim_stated, abs=5e-5)


def test_pairs_go_by_name(tmp_path: Path) -> None:
    for folder, names in (("clean", ["b.png", "a.png"]), ("out", ["a.jpg", "b.png"]), ("mask", ["a.png", "b.bmp"])):
        (tmp_path / folder).mkdir()
        for name in names:
            Image.new("RGB", (8, 8)).save(tmp_path / folder / name)
    folders = [tmp_path / name for name in ("clean", "out", "mask")]
    cases = read_pairs(*folders)
    assert [(c.name, c.target.name, c.other and c.other.name, c.mask and c.mask.name) for c in cases] == [
        ("a", "a.png", "a.jpg", "a.png"),
        ("b", "b.png", "b.png", "b.bmp"),
    ]
    assert [case.other for case in read_pairs(folders[0], None)] == [None, None]
    Image.new("RGB", (8, 8)).save(tmp_path / "out" / "a.png")
    with pytest.raises(UserError, match=r"a\.png: found a\.jpg beside it"):
        read_pairs(*folders)
    (tmp_path / "mask" / "b.bmp").unlink()
    (tmp_path / "out" / "a.png").unlink()
    with pytest.raises(UserError, match=r"b is only in .*clean, expected pairs by name \(2 and 1"):
        read_pairs(*folders)
    with pytest.raises(UserError, match="is a file, expected a folder"):
        read_pairs(tmp_path / "clean" / "a.png", None)


def test_some_of_a_set_are_chosen(tmp_path: Path) -> None:
    """By a file of names, beside which others do not matter; then so many of them, evenly spread."""
    for folder, count in (("clean", 9), ("out", 7)):
        (tmp_path / folder).mkdir()
        for i in range(count):
            Image.new("RGB", (8, 8), (i, i, i)).save(tmp_path / folder / f"{i}.png")
    (tmp_path / "names.txt").write_text("6 0\n2.png 2 4\n")
    clean, out, names = (tmp_path / name for name in ("clean", "out", "names.txt"))
    assert [case.name for case in read_pairs(clean, out, choice=Choice(names))] == ["0", "2", "4", "6"]
    assert [case.name for case in read_pairs(clean, out, choice=Choice(names, 2))] == ["0", "4"]
    assert [case.name for case in read_pairs(clean, None, choice=Choice(images=3))] == ["0", "3", "6"]
    assert len(read_pairs(clean, None, choice=Choice(images=30))) == 9
    names.write_text("0 8")
    with pytest.raises(UserError, match=r"8 is only in .*clean, expected pairs by name \(2 and 7"):
        read_pairs(clean, out, choice=Choice(names))
    names.write_text("0 nine")
    with pytest.raises(UserError, match=r"names.txt: nine: found no photo of that name in .*clean \(9 photos\)"):
        read_pairs(clean, None, choice=Choice(names))
    names.write_text(" ")
    with pytest.raises(UserError, match=r"names.txt: empty"):
        read_pairs(clean, None, choice=Choice(names))
    with pytest.raises(UserError, match="--images: found 0"):
        read_pairs(clean, None, choice=Choice(images=0))


def test_lists_and_packed_files_are_sets(tmp_path: Path) -> None:
    sets = {"a": photo(16, 24, 1), "b": photo(16, 24, 2)}
    jpegs = []
    for name, pixels in sets.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.jpg", quality=95)
        jpegs.append((tmp_path / f"{name}.jpg").read_bytes())
    (tmp_path / "list.txt").write_text(f"a.jpg\n{tmp_path / 'b.jpg'}\n")
    offsets = np.cumsum([0, *map(len, jpegs)])
    data = np.frombuffer(b"".join(jpegs), np.uint8)
    np.savez(tmp_path / "packed.npz", jpeg=data, offsets=offsets, names=["a", "b"])
    for case in read_pairs(tmp_path / "list.txt", tmp_path / "packed.npz"):
        assert case.other is not None and size_of(case.target) == size_of(case.other) == (16, 24)
        assert np.array_equal(read_rgb(case.target), read_rgb(case.other))
    assert str(case.other) == f"{tmp_path / 'packed.npz'}, b"
    np.savez(tmp_path / "packed.npz", jpeg=data[:-99], offsets=offsets, names=["a", "b"])
    damaged = read_pairs(tmp_path / "packed.npz", None)[1].target
    with pytest.raises(UserError, match=r"packed.npz, b: truncated or damaged"):
        read_rgb(damaged)
    with pytest.raises(UserError, match=r"packed.npz, b: truncated or damaged"):
        size_of(damaged)
    np.savez(tmp_path / "packed.npz", jpeg=data, offsets=offsets[:2], names=["a", "b"])
    with pytest.raises(UserError, match="found 2 names and 2 offsets"):
        pictures(tmp_path / "packed.npz")
    np.savez(tmp_path / "packed.npz", jpeg=data)
    with pytest.raises(UserError, match="expected an .npz of jpeg, offsets and names"):
        pictures(tmp_path / "packed.npz")
    (tmp_path / "packed.npz").write_text("nothing of the kind")
    with pytest.raises(UserError, match="packed.npz: "):
        pictures(tmp_path / "packed.npz")
    with pytest.raises(UserError, match="nowhere.npz: cannot be read"):
        pictures(tmp_path / "nowhere.npz")


def test_photos_are_read_as_eight_bits_of_rgb(tmp_path: Path) -> None:
    deep = np.array([[0, 128, 129, 65535, 32896]], np.uint16)  # 128.0 is 32896; 128 rounds to 0, 129 to 1
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert read_rgb(tmp_path / "deep.png")[0, :, 0].tolist() == [0, 0, 1, 255, 128]
    Image.fromarray(np.array([[7, 9]], np.uint8)).save(tmp_path / "grey.png")
    assert read_rgb(tmp_path / "grey.png").tolist() == [[[7] * 3, [9] * 3]]
    assert read_mask(tmp_path / "grey.png").tolist() == [[7, 9]]
