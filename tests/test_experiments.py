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

from rddm.degradations import Choice, Degraded, parse
from rddm.model import network
from rddm.recipes import all_in_one

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


def smoke(name: str, out: Path) -> str:
    line = [sys.executable, str(ROOT / "experiments" / f"{name}.py"), "--smoke", "--out", str(out)]
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


def test_the_told_network_sees_the_colour_and_its_recipe_is_the_untold_one() -> None:
    experiment = module("all_in_one")
    plain, told = all_in_one(), experiment.told(all_in_one())
    assert told.network.in_channels == plain.network.in_channels + 3
    network = replace(told.network, in_channels=plain.network.in_channels)
    assert replace(told, name=plain.name, method=plain.method, network=network) == plain
    families = parse(plain.degrade)
    assert isinstance(families, Choice) and len(families.options) == len(experiment.COLOURS)
