"""The experiments run in small from end to end, and what they compare differs in what they say it does alone."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from rddm.clipping import clip_none
from rddm.degradations import Choice, Degraded, parse
from rddm.denoiser import NetworkDenoiser
from rddm.loss import Batch
from rddm.methods import METHODS
from rddm.model import network
from rddm.nn import int8
from rddm.path import Node
from rddm.recipes import all_in_one
from rddm.sample import sample

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}


def module(name: str) -> ModuleType:
    specification = spec_from_file_location(f"experiment_{name}", ROOT / "experiments" / f"{name}.py")
    assert specification is not None and specification.loader is not None
    found = module_from_spec(specification)
    sys.modules[specification.name] = found  # dataclasses look their module up
    specification.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def sampling() -> ModuleType:
    return module("sampling_methods")


@pytest.fixture(scope="module")
def equalisation() -> ModuleType:
    return module("equalisation")


def smoke(name: str, out: Path, *more: str) -> str:
    line = [sys.executable, str(ROOT / "experiments" / f"{name}.py"), "--smoke", "--out", str(out), *more]
    done = subprocess.run(line, cwd=out, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_sampling_methods(tmp_path: Path, sampling: ModuleType) -> None:
    smoke("sampling_methods", tmp_path)
    found = json.loads((tmp_path / "sampling.json").read_text())
    assert tuple(found) == sampling.SMOKE
    for variant in ("SM-Res 1", "SM-N 1", "SM-Res-N 1"):  # the row's own step is Euler's where estimates are completed
        own, euler = (found[variant][sampler]["2"]["psnr"][0] for sampler in ("own", "euler"))
        assert own == pytest.approx(euler, abs=0.01)  # dB; rounded to 8 bits; measured 0
    assert found["SM-Res 1"]["own"]["2"]["psnr"][0] > found["SM-N 1"]["own"]["2"]["psnr"][0] + 5  # measured 16
    assert all(len(variant["errors"]) == len(sampling.TIMES) for variant in found.values())


def test_the_variants_differ_in_the_objective_alone(sampling: ModuleType) -> None:
    table = sampling.recipes(7, 3)
    first = table["SM-Res 1"]
    for name, recipe in table.items():
        if not name.startswith("UNet") and "uniform" not in name:
            network = replace(recipe.network, heads=first.network.heads)
            assert replace(recipe, name=first.name, method=first.method, network=network) == first
            assert (recipe.method.inputs, recipe.method.context) == (first.method.inputs, first.method.context)
    unets = [recipe for name, recipe in table.items() if name.startswith("UNet")]
    assert [recipe.network.outputs for recipe in unets] == [1, 2, 2, 2] and {recipe.steps for recipe in unets} == {3}
    assert table["SM-N 1"].method.target.name == "eps_floored" and table["SM-N 0.01"].method.path.noise == 0.01


def test_two_networks_side_by_side(sampling: ModuleType) -> None:
    nets = [network(sampling.common.small(sampling.recipe_of(row, 1.0, 1)).network) for row in ("rddm-res", "rddm-eps")]
    x, told = torch.rand(2, 9, 16, 16), torch.rand(2, nets[0].config.told)  # pyright: ignore
    with torch.no_grad():
        for net in nets:
            torch.nn.init.normal_(net.leave.bias)  # pyright: ignore  # fresh ones of one seed would be equal
        outputs = sampling.Pair(*nets)(x, told)
        assert all(torch.equal(out, net(x, told)[0]) for out, net in zip(outputs, nets, strict=True))
    assert not torch.equal(*outputs)


def test_equalisation(tmp_path: Path, equalisation: ModuleType) -> None:
    smoke("equalisation", tmp_path)
    found = json.loads((tmp_path / "low-light.json").read_text())
    assert tuple(found) == (*equalisation.ARMS, "bundled")
    assert all(set(arm) == {"lol-rgb", "lol-256-y", "held out", "curve"} for arm in found.values())
    config = json.loads((tmp_path / "equalised" / "model" / "config.json").read_text())
    assert config["prepare"] == "equalise" and config["method"]["inputs"] == ["x_in"]


def test_crops_are_equalised_by_the_tables_of_the_whole(tmp_path: Path, equalisation: ModuleType) -> None:
    equalisation.sets.miniature_lol(tmp_path)
    told = dict(np.load(tmp_path / "whole.npz"))
    np.savez(tmp_path / "whole.npz", **(told | {"tables": told["tables"][..., ::-1]}))  # negatives
    recipe = equalisation.recipe_of("equalised", 1)
    photos = equalisation.setting_of(recipe, tmp_path, tmp_path / "run").photos
    stored = np.asarray(Image.open(tmp_path / "input" / "3.png"))
    assert np.array_equal(photos.pixels("degraded", 3), 255 - stored)
    assert np.array_equal(photos.pixels("clean", 3), stored)


def test_the_darkest_are_found(tmp_path: Path, equalisation: ModuleType) -> None:
    for i, level in enumerate((90, 10, 200, 50, 30)):
        Image.new("RGB", (8, 8), (level, level, level)).save(tmp_path / f"{i}.png")
    assert [path.stem for path in equalisation.darkest(tmp_path)] == ["1", "4", "3"]


def test_the_colour_says_which_degradation_it_was() -> None:
    experiment = module("all_in_one")
    shades = [lambda image, generator, shade=i / 4: Degraded(torch.full_like(image, shade)) for i in range(4)]
    generator, seen = torch.Generator().manual_seed(0), set()
    for _ in range(40):
        made = experiment.Told(tuple(shades))(torch.zeros(3, 4, 4), generator)
        expected = tuple(experiment.COLOURS.values())[int(made.image[0, 0, 0] * 4)]
        assert made.mask is not None and tuple((made.mask[:, 0, 0] * 255).int().tolist()) == expected
        seen.add(expected)
    assert len(seen) == 4


def test_the_told_network_sees_the_colour_of_four_families_and_all_else_is_the_untold_recipe() -> None:
    experiment = module("all_in_one")
    plain, told = all_in_one(), experiment.told(all_in_one())
    assert told.network.in_channels == plain.network.in_channels + 3
    network = replace(told.network, in_channels=plain.network.in_channels)
    assert replace(told, name=plain.name, method=plain.method, network=network, degrade=plain.degrade) == plain
    families = parse(told.degrade)
    assert isinstance(families, Choice) and len(families.options) == len(experiment.COLOURS)


def test_conversion(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    printed = smoke("conversion", tmp_path)
    found = json.loads((tmp_path / "conversion.json").read_text())
    worst = {name: max(row.values()) for name, row in found["differences"].items()}
    exact = [value for name, value in worst.items() if "float64" in name and " of " not in name and " as " not in name]
    assert len(exact) == 4 and max(exact) <= 1e-10 and "max |difference|" in printed  # measured 1.4e-14
    assert all(value < 1e-4 for name, value in worst.items() if "increments" not in name)  # measured 5e-6
    assert all(1e-9 < value for name, value in worst.items() if "float32" in name)  # of tables or all; measured 3e-7
    assert worst["epsilon, DDIM as increments, float64"] > 0.1  # which are another sampler where x_0 is clipped
    assert found["updates"] == {"epsilon": 2, "v_prediction": 2}
    assert found["readjusted"].pop("unadjusted")["t"] == {"apart": 0, "own": 1}
    assert set(found["readjusted"]["P(1-x, 1), P(x, 1)"]) == {"published", "t", "noise", "ratio"}
    assert all(cell["apart"] > 0.001 for row in found["readjusted"].values() for cell in row.values())


def test_a_network_that_knows_the_index_alone_on_another_path() -> None:
    experiment, seen = module("readjusting"), []
    method = METHODS["ddim"]

    def net(x: torch.Tensor, clock: torch.Tensor) -> tuple[torch.Tensor]:
        seen.append((x, float(clock[0, 0])))
        return (torch.tanh(x),)

    denoiser = NetworkDenoiser(net, method)  # pyright: ignore[reportArgumentType]
    x_t, zeros, known = torch.randn(2, 3, 4, 4), torch.zeros(2, 3, 4, 4), method.path.index(700)  # pyright: ignore
    small = Node(1 - (1 - known.abar) / 2, known.bbar / 2, 0.3)  # the same state, at half its scale
    for x, y in zip(denoiser(x_t, zeros, known), experiment.by_ratio(denoiser)(x_t / 2, zeros, small), strict=True):
        assert torch.allclose(x, y, atol=1e-6)  # measured 0
    assert seen[-1][1] == 700
    kept = experiment.published(denoiser)(x_t, zeros, Node(0.1, 0.2, known.t))
    assert torch.equal(kept.x_0, denoiser(x_t, zeros, known).x_0)
    quiet = Node(0.5, method.path.index(123).bbar, 0.9)  # pyright: ignore
    noise = experiment.keeping_eps(experiment.by_noise(denoiser), clip_none)(x_t, zeros, quiet)
    assert seen[-1][1] == 123 and torch.equal(seen[-1][0], x_t)
    assert torch.allclose(0.5 * noise.x_0 + quiet.bbar * noise.eps, x_t, atol=1e-6)  # at this node; measured 1e-7


def test_generation(tmp_path: Path) -> None:
    smoke("generation", tmp_path)
    found = json.loads((tmp_path / "generation.json").read_text())
    assert [name.split(",")[0] for name in found] == ["SM-N", "SM-Res", "velocity", "SM-Res-N"]
    floors = {row["kernel-wavelet"][3] for variant in found.values() for row in variant.values()}
    ways = ["own 5", "own 10", "own 20", "published 10", "ab2 10"]
    assert len(floors) == 1 and all([*row] == ways for row in found.values())
    for name, row in found.items():  # with one clip alone, or where the published one leaves the same images
        assert (row["own 10"] == row["published 10"]) is name.startswith(("velocity", "SM-Res,")), name


def test_schedules_differ_in_the_path_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "experiments")
    experiment = module("generation")
    table = experiment.recipes(7)
    first = table[f"SM-N, {experiment.BEST}"]
    for name, recipe in table.items():
        method = replace(recipe.method, path=first.method.path, target=first.method.target)
        assert replace(recipe, name=first.name, method=method) == first, name
    schedules = [recipe.method for name, recipe in table.items() if name.startswith("SM-N")]
    paths = {tuple(map(float, method.path.node(0.5)[:2])) for method in schedules}
    assert len(paths) == len(schedules) == 7 and {method.target.name for method in schedules} == {"eps_floored"}


def test_certainty(tmp_path: Path) -> None:
    smoke("certainty", tmp_path)
    found = json.loads((tmp_path / "certainty.json").read_text())
    certain, enlarged, masked = found.values()
    assert [*certain] == ["0"] and certain["0"]["spread"] == 0 and "known" not in certain["0"]
    for rows in (enlarged, masked):  # a network that has learned nothing yet
        assert [*rows] == ["0", "0.5", "1"] and all(row["spread"] > 1 for row in rows.values())  # measured 2.9, 53
        assert all(row["psnr of the mean"] > row["psnr"] + 0.1 for row in rows.values())  # measured 0.19
    assert all(row["known"] > row["psnr"] for row in masked.values())  # it is shown these; measured 3 dB


def test_certainty_counts_the_holes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "experiments")
    experiment, x_0 = module("certainty"), torch.zeros(2, 3, 32, 32)
    mask = torch.zeros(2, 1, 32, 32)
    mask[..., :8] = 1
    off = torch.tensor([0.02, -0.02]).view(2, 1, 1, 1, 1)  # two seeds, on either side of what is right
    samples = torch.where(mask > 0, x_0 + 10 * off, x_0 + off)
    batch = Batch(x_0, x_0, torch.ones(2), x_0, {"mask": mask.expand_as(x_0)})
    row = experiment.figures(samples, batch)
    assert row["psnr"] == pytest.approx(20, abs=1e-4) and row["known"] == pytest.approx(40, abs=1e-4)
    assert row["psnr of the mean"] > 100 and row["spread"] == pytest.approx(127.5 * 0.08**0.5, abs=1e-3)


def test_path_independence(tmp_path: Path) -> None:
    printed = smoke("path_independence", tmp_path)
    found = json.loads((tmp_path / "path_independence.json").read_text())
    plane, time = (found[name]["ways"] for name in ("cats-plane", "cats-time"))
    assert plane["joint"]["pixels"] == time["joint"]["pixels"] == 0 and len(plane) == len(time) == 10
    for way in ("scaled linear", "cosine"):  # measured: 0.15 against 0.43, 0.34 against 0.54
        assert plane[way]["pixels"] < time[way]["pixels"] - 0.1
    assert all(
        0.05 < d < 1 for pair in found["cats-plane"]["derivatives"].values() for d in pair
    )  # measured .13 to .57
    assert "t = 0.9" in printed and not list(tmp_path.glob("*.png"))


def test_set_distance(tmp_path: Path) -> None:
    printed = smoke("set_distance", tmp_path)
    experiment = module("set_distance")
    found = json.loads((tmp_path / "set-distance.json").read_text())
    assert list(found) == ["wavelet 16", "random 16", "denoiser 16"] and "does not follow" in printed
    for name, space in found.items():
        kinds = [f"{kind}-{name.split()[0]}" for kind in ("frechet", "kernel")]
        assert list(space["harms"]) == list(experiment.AMOUNTS)
        assert all(list(row) == kinds for rows in space["harms"].values() for row in rows)
    clean, noisy = found["wavelet 16"]["harms"]["noise, sigma of 255"]
    assert noisy["kernel-wavelet"][0] > 5 * clean["kernel-wavelet"][3]  # sigma 40 against the floor; measured 44 times


def test_harms_of_sets_are_what_they_say() -> None:
    experiment = module("set_distance")
    x = torch.rand(40, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    harms = experiment.harms(torch.ones(40, 3, 16, 16), -torch.ones(40, 3, 16, 16))
    made = harms["dogs, share"](x, 0.25)
    assert int((made == 1).flatten(1).all(1).sum()) == 10 and int((made == x).flatten(1).all(1).sum()) == 30
    assert int((harms["Gaussian images, share"](x, 0.5) == -1).flatten(1).all(1).sum()) == 20
    moved = experiment.shuffled(x)
    assert torch.equal(moved.flatten(2).sort(2).values, x.flatten(2).sort(2).values)
    assert torch.equal(moved[..., 8:, 8:], x[..., :8, :8]) and not (moved == x)[..., :8, :8].flatten(1).all(1).any()
    assert len(harms["different images of 1000"](x, 100).unique(dim=0)) == 4
    assert torch.equal(harms["upside down, share"](x, 1), x.flip(2))
    assert torch.allclose(harms["warped, by 64ths"](x, 0), x, atol=1e-5)  # measured 2e-6


def test_gaussian_images_have_the_mean_and_the_covariance() -> None:
    experiment, mixing = module("set_distance"), torch.tensor([[0.2, 0.1], [0.0, 0.05]])
    pixels = torch.randn(500, 2, generator=torch.Generator().manual_seed(0)) @ mixing + torch.tensor([0.1, -0.3])
    drawn = experiment.gaussian(pixels.view(500, 1, 1, 2), 20_000).flatten(1)
    assert torch.allclose(drawn.mean(0), pixels.mean(0), atol=6e-3)  # measured 2e-3
    assert torch.allclose(drawn.T.cov(), pixels.T.cov(), atol=5e-4)  # measured 1e-4
    assert float(experiment.gaussian(10 * pixels.view(500, 1, 1, 2), 40).abs().max()) == 1


def test_other_data(tmp_path: Path) -> None:
    printed = smoke("other_data", tmp_path, "--task", "pan")
    (rows,) = json.loads((tmp_path / "other_data.json").read_text()).values()
    assert list(rows) == ["input", "Brovey", "GIHS", "SM-Res"] and all(name in printed for name in rows)
    for old in ("Brovey", "GIHS"):
        assert rows[old]["PSNR, dB"][0] > rows["input"]["PSNR, dB"][0] + 2  # measured: 5.2 and 3.6
    config = json.loads((tmp_path / "pan" / "model" / "config.json").read_text())
    assert (config["network"]["in_channels"], config["network"]["out_channels"]) == (9, 4)
    assert rows["SM-Res"]["updates"] == 2 and (tmp_path / "other-data.jpg").stat().st_size > 1000


def test_videos_are_restored_frame_by_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "experiments")
    tasks = module("other_tasks")
    recipe = tasks.TASKS["video"].nets["SM-Res, frame by frame"].recipe
    net, x = network(recipe.network).requires_grad_(False), torch.rand(2, 1, 8, 16, 16)
    batch = Batch(x, x, torch.ones(2), x, {})
    noise = torch.randn(16, 1, 16, 16, generator=torch.Generator().manual_seed(recipe.seed))
    found = tasks.by_frame(net, recipe, batch)
    denoiser, nodes = NetworkDenoiser(net, recipe.method), recipe.method.path.grid(2)
    alone = sample(denoiser, x[1:, :, 3], nodes, noise=lambda like: noise[11:12]).clamp(-1, 1)  # video 1, frame 3
    assert found.shape == x.shape and torch.allclose(found[1:, :, 3], alone, atol=1e-5)  # measured: 3.3e-7


def test_inverse_problems(tmp_path: Path) -> None:
    printed = smoke("inverse_problems", tmp_path, "--deepinv", str(tmp_path))
    found = json.loads((tmp_path / "inverse-problems.json").read_text())["tasks"]
    assert len(found) == 6 and "deepinv is not installed" in printed
    for task, rows in found.items():
        assert {"pseudoinverse", "ddnm", "dps"} <= set(rows) and ("ddrm" in rows) == (task != "old photo")
        if task != "deblurring":  # whose noise no image fits
            assert max(rows[name]["misfit"] for name in ("ddnm", "ilvr", "repaint", "mcg")) < 1  # measured 0.61


def test_compare_methods(tmp_path: Path) -> None:
    smoke("compare_methods", tmp_path)
    for task in ("low-light", "noise"):
        found = json.loads((tmp_path / task / "comparison.json").read_text())
        assert [*found] == ["input", "rddm-res", "sr3"] and {"1", "100"} <= found["sr3"].keys()
        assert (tmp_path / task / "calls.png").exists() and (tmp_path / task / "comparison.png").exists()


def test_steps(tmp_path: Path) -> None:
    printed = smoke("steps", tmp_path)
    assert "float32" in printed and ("int8" in printed) is int8.available()
    assert "psnr" in (tmp_path / "steps.json").read_text()


def test_classifier(tmp_path: Path) -> None:
    printed = smoke("classifier", tmp_path)
    found = json.loads((tmp_path / "classifier.json").read_text())
    assert "judged rightly" in printed and {"cool 0", "warm 1"} <= found["samples"].keys()
    assert found["samples"]["warm 0"] == found["samples"]["cool 0"]  # without a gradient the labels do nothing
    assert Image.open(tmp_path / "classifier.jpg").width > 64
