"""``rddm evaluate`` as a person meets it, the statistics it prints, and the cost it counts."""

import io
import json
import mmap
from pathlib import Path

import numpy as np
import pytest
import torch
from models import restoring_model
from PIL import Image
from safetensors.torch import save_file

from rddm.cli import main
from rddm.cost import MemoryWatch, counted_calls, gmacs, network_gmacs, parameters, total_gmacs
from rddm.evaluate import Change, ImageResult, Options, evaluate, interval, prepared, summarise_changes
from rddm.fill import smooth_fill
from rddm.inception import INCEPTION_FID
from rddm.learned import JUDGES
from rddm.metrics import psnr
from rddm.nn.compact import CompactConfig
from rddm.nn.unet import UNetConfig
from rddm.page import Gallery
from rddm.protocols import PROTOCOLS, read_rgb
from rddm.restore import prepare, run
from rddm.sources import Produced

SIZE = (32, 40)  # height, width


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with four triples of photos in clean, degraded and mask, and a model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RDDM_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    random = np.random.default_rng(0)
    for folder in ("clean", "degraded", "mask", "weights"):
        (tmp_path / folder).mkdir()
    for i, name in enumerate(("a", "b", "c", "d")):
        clean = random.integers(40, 200, (*SIZE, 3), np.uint8)
        noisy = (clean + random.normal(0, 5 * (i + 1), clean.shape)).clip(0, 255).astype(np.uint8)
        mask = np.zeros(SIZE, np.uint8)
        mask[:16] = 255
        for folder, image in (("clean", clean), ("degraded", noisy), ("mask", mask)):
            Image.fromarray(image).save(tmp_path / folder / f"{name}.png")
    restoring_model(CompactConfig(widths=(8, 16), blocks=(1, 1)), clip="x0").save_pretrained(tmp_path / "model")
    return tmp_path


def run_cli(protocol: str, *arguments: str) -> int:
    return main(["evaluate", "--clean", "clean", "--protocol", protocol, *arguments])


def test_outputs_against_targets(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert run_cli("lol-rgb", "--outputs", "degraded", "--json", "short.json") == 0
    lines = capsys.readouterr().out.splitlines()
    figures = {n: psnr(*(read_rgb(folders / f / f"{n}.png") for f in ("degraded", "clean"))) for n in "abcd"}
    mean = np.mean(list(figures.values()))
    assert lines[0].startswith(f"lol-rgb: {mean:.2f} dB, SSIM 0.") and lines[0].endswith("(4 images, degraded)")
    assert lines[1] == "runs/evaluate-lol-rgb: scores.json, table.md, index.html, scores.png"
    out = folders / "runs" / "evaluate-lol-rgb"
    assert sorted(path.name for path in out.iterdir()) == ["index.html", "scores.json", "scores.png", "table.md"]
    data = json.loads((out / "scores.json").read_text())
    assert data["protocol"] == "lol-rgb" and data["figures"]["psnr"]["mean"] == pytest.approx(mean)
    assert {n: image["runs"][0]["psnr"] for n, image in data["by_image"].items()} == pytest.approx(figures)
    assert data["figures"]["psnr"]["low"] < mean < data["figures"]["psnr"]["high"] and data["costs"] == {}
    short = json.loads(Path("short.json").read_text())
    assert short["mean"]["psnr"] == pytest.approx(mean) and set(short) == {*"abcd", "mean"}
    assert f"| psnr | {mean:.2f} |" in (out / "table.md").read_text()


def test_the_page_stands_alone_and_shows_the_worst_and_the_best(folders: Path) -> None:
    pytest.importorskip("matplotlib")
    for folder in ("clean", "degraded"):  # nine cases: the middle ones must not be on the page
        for i in range(5):
            Image.open(folder + "/a.png").rotate(i).save(f"{folder}/more <{i}>.png")
    assert run_cli("lol-rgb", "--outputs", "degraded", "--degraded", "degraded", "--out", "there") == 0
    text = Path("there/index.html").read_text()
    assert "http" not in text and "<script" not in text and 'src="data:image' in text
    assert text.count("data:image/jpeg") == 3 * 6 and text.count("data:image/png") == 1
    headings = [part.split("<")[0] for part in text.split("<h3>")[1:]]
    assert headings[0] == "d" and headings[1] == "c" and len(headings) == len(set(headings)) == 6
    assert "more &lt;1&gt;" in text and "more <" not in text
    gallery = Gallery()
    blank = np.zeros((1000, 500, 3), np.uint8)
    for value in (5, 1, 9, 3, 7, 2, 8, 4, 6):
        gallery.look(str(value), {"psnr": value}, Produced(blank), blank)
    assert [[case.name for case in end] for end in gallery.ends()] == [["1", "2", "3"], ["9", "8", "7"]]
    assert len(gallery.cases) == 6  # a long evaluation does not keep every picture
    assert Image.open(io.BytesIO(gallery.cases[0].pictures["output"])).size == (240, 480)
    assert all(f"<figcaption>{name}</figcaption>" in text for name in ("input", "output", "target"))


def test_a_model_on_pairs_has_its_cost(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--degraded", "degraded", "--model", "model", "--steps", "3", "--runs", "2", "--seed", "5"]
    assert run_cli("lol-rgb", *arguments, "--also", "", "--device", "cpu") == 0
    assert " over 2 seeds, SSIM" in capsys.readouterr().out
    data = json.loads(Path("runs/evaluate-lol-rgb/scores.json").read_text())
    model = restoring_model(CompactConfig(widths=(8, 16), blocks=(1, 1)), clip="x0")
    target, photo = (read_rgb(folders / folder / "b.png") for folder in ("clean", "degraded"))
    for index, seed in enumerate((5, 6)):
        output = run(prepare(model, *SIZE, steps=3, seed=seed), photo)
        found = data["by_image"]["b"]["runs"][index]
        assert found["psnr"] == pytest.approx(PROTOCOLS["lol-rgb"].score(output, target)["psnr"])
    costs = data["costs"]
    assert costs["parameters"] == sum(p.numel() for p in model.parameters())
    assert costs["gmacs-256"] == pytest.approx(gmacs(model))
    assert costs["gmacs-per-image"] == pytest.approx(3 * gmacs(model, *SIZE))
    assert 0 < costs["seconds-per-image"] < 10 and costs["memory-greatest"] >= costs["memory-median"] > 1e7
    runs = np.array([[run["psnr"] for run in image["runs"]] for image in data["by_image"].values()])
    assert data["figures"]["psnr"]["over_runs"] == pytest.approx(runs.mean(0).std(ddof=1)) and runs.std(1).min() > 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_runs_on_a_model(protocol: str, folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = ["--mask", "mask"] if protocol in ("istd-256", "holes") else []
    for name in "cd":
        for folder in ("clean", "degraded", "mask"):
            (folders / folder / f"{name}.png").unlink()
    assert run_cli(protocol, "--degraded", "degraded", "--model", "model", "--steps", "1", *mask) == 0
    assert capsys.readouterr().out.startswith(f"{protocol}: ")
    figures = json.loads(Path(f"runs/evaluate-{protocol}/scores.json").read_text())["figures"]
    assert ("lab-shadow-by-pixel" in figures) == (protocol == "istd-256") and not any(
        "pixels" in name for name in figures
    )


def test_degraded_photos_are_made_by_the_seed(folders: Path) -> None:
    """One image's noise depends on the seed and its name, not on the others."""

    def figures(*extra: str) -> dict:
        assert run_cli("denoise-rgb", "--degrade", "noise(25)", "--model", "model", "--steps", "1", *extra) == 0
        data = json.loads(Path("runs/evaluate-denoise-rgb/scores.json").read_text())
        return {name: image["runs"][0]["psnr"] for name, image in data["by_image"].items()}

    Path("clean/e.png").write_bytes(Path("clean/b.png").read_bytes())
    first = figures()
    assert first["b"] != first["e"]
    assert "noise(25)" in Path("runs/evaluate-denoise-rgb/table.md").read_text()
    Path("clean/a.png").unlink()
    second, other = figures(), figures("--seed", "1")
    assert second == {name: value for name, value in first.items() if name != "a"} and second["b"] != other["b"]


def test_equal_images_are_infinite_and_still_json(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("lol-rgb", "--outputs", "clean") == 0
    assert capsys.readouterr().out.startswith("lol-rgb: inf dB, SSIM 1.0000")
    data = json.loads(Path("runs/evaluate-lol-rgb/scores.json").read_text(), parse_constant=pytest.fail)
    assert data["figures"]["psnr"] == {"mean": "inf", "low": None, "high": None, "over_runs": None}


def test_the_input_stands_beside_and_harm_is_told(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody's outputs: one better than its input, one worse, two as they were."""
    Path("outputs").mkdir()
    for output, source in (("a", "degraded/b"), ("b", "clean/b"), ("c", "degraded/c"), ("d", "degraded/d")):
        Image.open(f"{source}.png").save(f"outputs/{output}.png")
    assert run_cli("lol-rgb", "--outputs", "outputs", "--degraded", "degraded") == 0
    before = {
        name: psnr(read_rgb(Path(f"degraded/{name}.png")), read_rgb(Path(f"clean/{name}.png"))) for name in "abcd"
    }
    after = psnr(read_rgb(Path("degraded/b.png")), read_rgb(Path("clean/a.png")))
    line = capsys.readouterr().out.splitlines()[1]
    assert line.startswith(f"  input: {np.mean(list(before.values())):.2f} dB, SSIM 0.")
    assert line.endswith(f"at worst {after - before['a']:.2f} (a); 1 of 4 got worse")
    data = json.loads(Path("runs/evaluate-lol-rgb/scores.json").read_text(), parse_constant=pytest.fail)
    assert {name: image["input"]["psnr"] for name, image in data["by_image"].items()} == pytest.approx(before)
    found = data["changes"]["psnr"]
    assert found["worse"] == 1 and found["worst_name"] == "a" and found["worst"] == pytest.approx(after - before["a"])
    assert "| psnr | " in Path("runs/evaluate-lol-rgb/table.md").read_text().split("from input to output")[1]
    assert "from input to output" in Path("runs/evaluate-lol-rgb/index.html").read_text()
    for name in "abcd":  # inputs of another size are shown, and that is all
        Image.new("RGB", (9, 9)).save(f"degraded/{name}.png")
    assert run_cli("lol-rgb", "--outputs", "outputs", "--degraded", "degraded") == 0
    assert "input:" not in capsys.readouterr().out


def test_clean_photos_show_how_near_a_model_leaves_them(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def scored() -> dict:
        assert run_cli("denoise-rgb", "--degrade", "noise(0)", "--model", "model") == 0
        return json.loads(Path("runs/evaluate-denoise-rgb/scores.json").read_text(), parse_constant=pytest.fail)

    values = {name: image["runs"][0]["psnr"] for name, image in scored()["by_image"].items()}
    least = min(values, key=lambda name: values[name])
    line = capsys.readouterr().out.splitlines()[1]
    mean = np.mean(list(values.values()))
    expected = f"input to output {mean:.2f} dB, at worst {values[least]:.2f} ({least}); 4 of 4 changed"
    assert line == f"  input: clean photos; {expected}"
    identity = Change(float("inf"), 0.0, 0.0, "a", 0)
    same = [ImageResult(name, SIZE, [{"psnr": float("inf")}], [], {"psnr": float("inf")}) for name in "ab"]
    assert summarise_changes(same, PROTOCOLS["lol-rgb"]) == {"psnr": identity}


def test_less_is_better_for_some_figures() -> None:
    images = [
        ImageResult(name, SIZE, [{"lpips": after}], [], {"lpips": 0.2}) for name, after in (("a", 0.1), ("b", 0.5))
    ]
    change = summarise_changes(images, PROTOCOLS["lol-rgb"])["lpips"]
    assert change.worse == 1 and change.worst_name == "b" and change.worst == pytest.approx(0.3)


def test_unclipped_noise_is_clipped_for_the_model(folders: Path) -> None:
    """awgn of the published tables is then noise, to the bit; at 250 most of it is clipped."""
    found = []
    for text in ("awgn(250)", "noise(250)"):
        assert run_cli("denoise-rgb", "--degrade", text, "--model", "model", "--steps", "1") == 0
        found.append(json.loads(Path("runs/evaluate-denoise-rgb/scores.json").read_text())["figures"])
    assert found[0] == found[1]


def test_holes_by_masks_drawn_and_given(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bundled model, beside the smooth filling; in 1 step and small pictures its figure does not matter."""
    assert run_cli("holes", "--degrade", "irregular_mask(0.1)", "--model", "inpaint", "--images", "2") == 0
    assert run_cli("holes", "--mask", "mask", "--model", "inpaint", "--images", "2") == 0
    data = json.loads(Path("runs/evaluate-holes/scores.json").read_text())
    target, hidden = read_rgb(Path("clean/a.png")), read_rgb(Path("clean/a.png")).copy()
    hidden[:16] = 0
    smooth = psnr(smooth_fill(hidden, read_rgb(Path("mask/a.png"))[..., 0])[:16], target[:16])
    assert list(data["by_image"]) == ["a", "c"]
    assert data["by_image"]["a"]["input"]["psnr"] == pytest.approx(smooth)
    assert data["by_image"]["a"]["runs"][0]["psnr-whole"] > data["by_image"]["a"]["runs"][0]["psnr"]
    capsys.readouterr()
    assert run_cli("holes", "--mask", "mask", "--outputs", "degraded") == 0  # anyone's, beside the filling
    assert "  input: " in capsys.readouterr().out
    Image.new("L", (9, 9), 255).save("mask/b.png")
    assert run_cli("holes", "--mask", "mask", "--model", "inpaint") == 2
    assert "mask/b.png: found 9x9 pixels, expected 40x32" in capsys.readouterr().err


def test_without_matplotlib_there_is_a_line(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rddm.page.importlib.util.find_spec", lambda name: None)
    assert run_cli("lol-rgb", "--outputs", "degraded", "--out", "there") == 0
    assert "index.html; no plot: matplotlib is not installed" in capsys.readouterr().out
    assert not Path("there/scores.png").exists() and "image/png" not in Path("there/index.html").read_text()


def spoil(kind: str) -> tuple[str, list[str], str]:
    """Make a mistake; return protocol, arguments and what the complaint must say."""
    outputs = ["--outputs", "degraded"]
    if kind == "unpaired":
        Path("degraded/a.png").rename("degraded/z.png")
        return "lol-rgb", outputs, "clean, degraded: a is only in clean, expected pairs by name"
    if kind == "sizes":
        Image.new("RGB", (9, 9)).save("degraded/c.png")
        return "lol-rgb", outputs, "degraded/c.png, target clean/c.png: found (9, 9, 3) and (32, 40, 3)"
    if kind == "model sizes":
        Image.new("RGB", (9, 9)).save("degraded/c.png")
        return "lol-rgb", ["--degraded", "degraded", "--model", "model"], "degraded/c.png, target clean/c.png: found"
    if kind == "damaged":
        Path("degraded/c.png").write_text("no image")
        return "lol-rgb", outputs, "degraded/c.png"
    if kind == "small":
        Image.new("RGB", (9, 9)).save("degraded/c.png"), Image.new("RGB", (9, 9)).save("clean/c.png")
        return "lol-rgb", outputs, "at least 11x11"
    Path("empty").mkdir()
    Path("file").touch()
    return {
        "protocol": ("lol", outputs, "--protocol: found 'lol', expected one of lol-rgb, "),
        "nothing": ("lol-rgb", [], "found none of --outputs, --degraded and --degrade"),
        "both": ("lol-rgb", [*outputs, "--degrade", "noise(5)"], "found --outputs and --degrade of"),
        "empty": ("lol-rgb", ["--outputs", "empty"], "empty: folder without photographs"),
        "missing": ("lol-rgb", ["--outputs", "nowhere"], "nowhere: no such file or folder"),
        "256": ("lol-256-y", outputs, "found an output of 32x40, expected 256x256"),
        "weights": (
            "lol-rgb",
            [*outputs, "--also", "lpips"],
            "lpips-alexnet.safetensors: weights not found, expected that file in",
        ),
        "inception": ("lol-rgb", [*outputs, "--also", "kid"], INCEPTION_FID),
        "metric": ("lol-rgb", [*outputs, "--also", "niqe"], "--also: found 'niqe', expected some of ms-ssim, lpips"),
        "runs": ("lol-rgb", [*outputs, "--runs", "2"], "--runs: found 2"),
        "no runs": ("lol-rgb", ["--degraded", "degraded", "--runs", "0"], "--runs: found 0"),
        "mask": ("lol-rgb", [*outputs, "--mask", "mask"], "only istd-256 and holes"),
        "model": ("lol-rgb", ["--degraded", "degraded", "--model", "none"], "none: no such model"),
        "steps": ("lol-rgb", ["--degraded", "degraded", "--model", "model", "--steps", "0"], "steps"),
        "no mask": ("holes", outputs, "holes: found no mask, expected --mask, or --degrade with one: irregular_mask"),
        "no holes": ("holes", ["--degrade", "noise(5)", "--model", "model"], "clean/a.png: found no mask, expected a"),
        "names": ("lol-rgb", [*outputs, "--names", "nowhere.txt"], "nowhere.txt: cannot be read"),
        "images": ("lol-rgb", [*outputs, "--images", "0"], "--images: found 0, expected at least 1"),
        "degrade": ("denoise-rgb", ["--degrade", "nois(5)"], "noise"),
        "out": ("lol-rgb", [*outputs, "--out", "file"], "file: cannot be made"),
        "json": ("lol-rgb", [*outputs, "--json", "no/where.json"], "no/where.json: cannot be written"),
    }[kind]


KINDS = ["unpaired", "sizes", "model sizes", "damaged", "small", "protocol", "nothing", "both", "empty", "missing",
         "256", "weights", "inception", "metric", "runs", "no runs", "mask", "model", "steps", "degrade", "out", "json",
         "no mask", "no holes", "names", "images"]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_mistake_is_one_line(kind: str, folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    protocol, arguments, expected = spoil(kind)
    assert run_cli(protocol, *arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("rddm: ") and expected in lines[0]
    assert kind == "json" or not list(folders.glob("runs/*")), "nothing is written"


def test_the_interval_is_that_of_the_mean() -> None:
    """For many normal values the bootstrap's interval is the textbook's, 1.96 standard errors either side."""
    values = np.random.default_rng(3).normal(20, 2, (400, 1))
    found = interval(values)
    error = values.std(ddof=1) / 20
    assert found.mean == pytest.approx(values.mean()) and found.over_runs is None
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.02)  # measured .004
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.02)
    twice = interval(np.repeat(values, 2, axis=1) + [0, 1])  # runs are no new images
    assert twice.low == pytest.approx((found.low or 0) + 0.5) and twice.over_runs == pytest.approx(0.5**0.5)
    assert interval(values[:1]).low is None and interval(values) == found


def test_multiply_accumulates_are_counted_in_full() -> None:
    """The published network has 119.17 G at 256x256, as counted by others; the paper's counter saw 32.9."""
    assert network_gmacs(UNetConfig(), 256, 256) == pytest.approx(119.175, abs=0.001)
    net = restoring_model(CompactConfig(widths=(8, 16), blocks=(1, 1)))
    assert parameters(net) == sum(p.numel() for p in net.parameters())
    assert 4 * gmacs(net, 64, 64) == pytest.approx(gmacs(net, 128, 128), rel=0.01)
    with counted_calls(net.net) as calls:
        run(prepare(net, 200, 300, steps=2, tile=128), np.zeros((200, 300, 3), np.uint8))
    tiles = [tile for row in prepare(net, 200, 300, tile=128).rows for tile in row]
    assert len(tiles) > 1 and sum(calls.values()) == 2 * len(tiles)
    counted = sum(2 * gmacs(net, tile.bottom - tile.top, tile.right - tile.left) for tile in tiles)
    assert total_gmacs(net, calls) == pytest.approx(counted)


def test_memory_is_seen_while_it_is_held() -> None:
    with MemoryWatch(torch.device("cpu")) as small:
        pass
    with MemoryWatch(torch.device("cpu")) as large:
        with mmap.mmap(-1, 100_000_000) as held:  # of the system: malloc may have kept as much, were it freed before
            held.write(b"1" * 100_000_000)
            large.done.wait(0.05)
    assert large.peak - small.peak > 80e6


def test_lpips_stands_beside_every_figure_once_it_is_at_hand(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Random weights; where a photo is too small for the network, the other figures stand alone."""
    arguments = ["--outputs", "degraded"]
    assert run_cli("lol-rgb", *arguments) == 0
    assert "no LPIPS: its weights are not at hand; `rddm weights lpips`" in capsys.readouterr().out
    for image in (*Path("clean").iterdir(), *Path("degraded").iterdir()):
        Image.open(image).resize((48, 40)).save(image)
    trunk, heads = JUDGES["lpips"].networks()
    save_file({**trunk.state_dict(), **heads.state_dict()}, folders / "weights" / JUDGES["lpips"].file)
    assert run_cli("lol-rgb", *arguments) == 0
    out = capsys.readouterr().out
    assert ", LPIPS " in out and "no LPIPS" not in out
    data = json.loads(Path("runs/evaluate-lol-rgb/scores.json").read_text())
    assert "lpips" in data["figures"] and all("lpips" in image["runs"][0] for image in data["by_image"].values())
    assert "| lpips |" in Path("runs/evaluate-lol-rgb/table.md").read_text()
    Image.open("clean/a.png").crop((0, 0, 38, 38)).save("clean/a.png")
    Image.open("degraded/a.png").crop((0, 0, 38, 38)).save("degraded/a.png")
    assert run_cli("lol-rgb", *arguments) == 0
    assert "LPIPS" not in capsys.readouterr().out


def test_from_python(folders: Path) -> None:
    """What training scripts use."""
    options = Options("lol-rgb", Path("clean"), degraded=Path("degraded"), model="model", steps=1)
    report = evaluate(*prepared(options))
    assert report.figures["psnr"].mean == pytest.approx(np.mean([image.mean["psnr"] for image in report.images]))
