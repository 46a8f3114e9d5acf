"""A sample is a pure function of seed and index; what belongs together is cut together."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from safetensors.numpy import load_file
from torch import Tensor

from rddm.degradations import parse
from rddm.draws import AUGMENT, Draws, centre, collate, generator_of, recoloured, turned
from rddm.fill import smooth_fill
from rddm.methods import METHODS
from rddm.pairs import pair_up, unpaired
from rddm.photos import Files
from rddm.preprocess import equalise, quantiles, whole_of
from rddm.recipe import Recipe, with_method
from rddm.recipes import generate, published_low_light, translate
from rddm.trainer import loader, schedule

PIPELINE = "data/pipeline.safetensors"


def draws_of(folder: Path, recipe: Recipe) -> Draws:
    clean, degraded = tiny.write_pairs(folder)
    photos = Files(pair_up({"clean": clean, "degraded": degraded}), recipe)
    return Draws(photos, list(range(len(photos))), recipe)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_samples_do_not_depend_on_what_was_drawn_before(tmp_path: Path) -> None:
    draws = draws_of(tmp_path, tiny.told())
    first = draws.sample(7, 16)
    for i in range(5):
        draws.sample(i, 24)
    draws.photos.preload()
    assert same(first, draws.sample(7, 16))
    assert not torch.equal(first["eps"], draws.sample(8, 16)["eps"])
    other = replace(draws, recipe=replace(draws.recipe, seed=1)).sample(7, 16)
    apart = replace(draws, stream=1).sample(7, 16)
    assert not torch.equal(first["eps"], other["eps"]) and not torch.equal(first["eps"], apart["eps"])


def test_samples_do_not_depend_on_the_order_of_sets(tmp_path: Path) -> None:
    """Python shuffles sets of words from process to process; a sample may not know."""
    program = (
        "import tiny, hashlib; from pathlib import Path; from test_draws import draws_of;"
        "s = draws_of(Path({folder!r}), tiny.told()).sample(3, 16);"
        "print(hashlib.md5(b''.join(s[k].numpy().tobytes() for k in sorted(s))).hexdigest())"
    )
    seen = set()
    for seed in "09":  # which order {"quantiles", "thumbnail"} differently
        line = [sys.executable, "-c", program.format(folder=str(tmp_path / seed))]
        paths = f"{Path(__file__).parent}:{Path(__file__).parents[1] / 'src'}"
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths}
        seen.add(subprocess.run(line, env=environment, check=True, capture_output=True, text=True).stdout)
    assert len(seen) == 1


def test_every_round_shows_every_photograph_once(tmp_path: Path) -> None:
    draws = draws_of(tmp_path, replace(tiny.recipe(), fit="resize", augment="none"))
    draws.photos.preload()
    for first in (0, 12):
        clean = {draws.sample(i, 16)["x_0"].numpy().tobytes() for i in range(first, first + 12)}
        assert len(clean) == 12
    assert not torch.equal(draws.sample(0, 16)["x_0"], draws.sample(12, 16)["x_0"])  # in another order


@pytest.mark.parametrize("augment", AUGMENT)
def test_both_halves_of_a_pair_are_cut_and_turned_alike(tmp_path: Path, augment: str) -> None:
    draws = draws_of(tmp_path, replace(tiny.recipe(), augment=augment, shrink=0.5))
    for i in range(20):
        sample = draws.sample(i, 16)
        clean, degraded = ((sample[key] + 1) * 127.5 for key in ("x_0", "x_in"))
        assert float((degraded - (255 - clean) / 2).abs().max()) < 1.01  # rounding down, and again when scaled


def test_dihedral_draws_all_eight_and_mirror_one() -> None:
    image = np.arange(6).reshape(2, 3)
    seen = {name: {AUGMENT[name](generator_of(0, i))(image).tobytes() for i in range(100)} for name in AUGMENT}
    assert {name: len(found) for name, found in seen.items()} == {"none": 1, "flip": 2, "mirror": 1, "dihedral": 8}
    assert seen["mirror"] == {image[:, ::-1].tobytes()}


def test_conditions_are_those_of_the_whole_photograph(tmp_path: Path) -> None:
    draws = draws_of(tmp_path, replace(tiny.told(), augment="none", jitter=0.0))
    sample = draws.sample(3, 16)
    whole = [whole_of(draws.photos.pixels("degraded", i)) for i in range(12)]
    piece = ((sample["x_in"] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    expected = [equalise(piece, w.tables) for w in whole]
    found = ((sample["equalised"] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    which = [np.array_equal(found, image) for image in expected].index(True)
    assert np.array_equal(sample["quantiles"].numpy(), quantiles(whole[which].tables))
    assert np.array_equal(sample["thumbnail"].numpy(), whole[which].thumbnail)


def test_any_number_of_loading_processes_draws_the_same(tmp_path: Path) -> None:
    draws = draws_of(tmp_path, tiny.recipe())
    batches = [list(loader(draws, schedule(draws.recipe, 18, 0, 1), workers, False)) for workers in (0, 2)]
    assert len(batches[0]) == len(batches[1]) == 6
    for a, b in zip(*batches, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a[:4], b[:4], strict=True))


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_processes_and_passes_share_out_each_update(world: int, accumulate: int) -> None:
    recipe = replace(tiny.recipe(), accumulate=accumulate, phases=(tiny.Phase(0.5, 16, 8), tiny.Phase(0.5, 24, 4)))
    shares = [list(schedule(recipe, 5, rank, world)) for rank in range(world)]
    first = 5 * 8
    for update in range(6, 25):
        batch = 8 if update <= 12 else 4
        passes = [share[accumulate * (update - 6) + i] for share in shares for i in range(accumulate)]
        keys = sorted(key for keys in passes for key in keys)
        assert keys == [(first + i, 16 if update <= 12 else 24) for i in range(batch)]
        first += batch


def test_unpaired_photographs_are_drawn_apart(tmp_path: Path) -> None:
    clean, degraded = tiny.write_pairs(tmp_path)
    (degraded / "3.png").unlink()
    recipe = replace(translate(), augment="none")
    photos = Files(unpaired({"clean": clean, "degraded": degraded}), recipe)
    samples = [Draws(photos, [5], recipe).sample(i, 64) for i in range(40)]
    assert len({sample["x_0"].numpy().tobytes() for sample in samples}) == 1
    assert len({sample["x_in"].numpy().tobytes() for sample in samples}) > 5


def test_generation_sees_no_input_and_degradations_are_drawn(tmp_path: Path) -> None:
    clean, _ = tiny.write_pairs(tmp_path)
    photos = Files(pair_up({"clean": clean}), tiny.recipe())
    plain = replace(tiny.recipe(), degrade="noise(25)")
    assert float(Draws(photos, [0], replace(generate(), fit="crop")).sample(0, 16)["x_in"].abs().max()) == 0
    draws = Draws(photos, [0, 1], plain, parse("noise(25)"))
    sample, again = draws.sample(0, 16), draws.sample(0, 16)
    error = (sample["x_in"] - sample["x_0"]) * 127.5
    assert same(sample, again) and 15 < float(error.std()) < 35
    assert np.array_equal(centre(draws, 1)["degraded"], centre(draws, 1)["degraded"])


def test_holes_are_filled_before_the_network_sees_them(tmp_path: Path) -> None:
    clean, _ = tiny.write_pairs(tmp_path)
    plain = replace(tiny.masked(), degrade="centre_mask(0.25)", augment="none")
    photos = Files(pair_up({"clean": clean}), plain)
    grey, filled = (
        Draws(photos, [0], recipe, parse(recipe.degrade)).sample(0, 16)
        for recipe in (plain, replace(plain, prepare="fill"))
    )
    hole = grey["mask"] > 0
    assert 0 < hole.sum() < hole.numel() and all(torch.equal(grey[key], filled[key]) for key in ("x_0", "mask", "eps"))
    assert float(grey["x_in"][hole].abs().max()) < 0.01  # of 8 bits; measured 0.004
    assert torch.equal(filled["x_in"][~hole], filled["x_0"][~hole])
    shown = ((filled["x_in"] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    mask = hole.byte().permute(1, 2, 0).numpy()
    assert np.array_equal(shown, smooth_fill(shown * (1 - mask), mask[..., 0]))
    off = [float((sample["x_in"] - sample["x_0"])[hole].abs().mean()) for sample in (grey, filled)]
    assert off[1] < 0.7 * off[0]  # nearer than grey; measured 0.30


def test_a_broken_photograph_is_told_and_not_raised_by_another_process(tmp_path: Path) -> None:
    draws = draws_of(tmp_path, tiny.recipe())
    for path in draws.photos.photographs.files["clean"]:
        path.write_bytes(path.read_bytes()[:200])
    found = collate([draws[0, 16]])
    assert "truncated, damaged" in str(found)
    with pytest.raises(Exception, match="truncated, damaged"):
        next(loader(draws, schedule(draws.recipe, 0, 0, 1), 1, False))


@pytest.mark.parametrize("file", [PIPELINE])
def test_golden_pictures_of_the_published_recipe(golden: Path, tmp_path: Path, file: str) -> None:
    """The published recipe reads photographs as the authors' code does, where that pads nothing."""
    arrays = load_file(golden / file)
    recipe = replace(published_low_light(), phases=(tiny.Phase(1.0, 32, 2),))
    turn = AUGMENT[recipe.augment](generator_of(0))
    seen = 0
    for size in {key.split("/")[0] for key in arrays}:
        sources = [arrays[f"{size}/src_{name}"] for name in ("gt", "in")]
        if any(side % 8 or side < 32 for source in sources for side in source.shape[:2]):
            continue
        paths = {}
        for kind, source in zip(("clean", "degraded"), sources, strict=True):
            paths[kind] = tmp_path / size / kind
            paths[kind].mkdir(parents=True)
            Image.fromarray(source).save(paths[kind] / "0.png")
        files = Files(pair_up(paths), recipe)
        for j, kind in enumerate(paths):
            expected = arrays[f"{size}/cond1/eq1/crop0/sample0/flip1/out{j}"]
            assert np.array_equal(turn(files.pixels(kind, 0)).transpose(2, 0, 1), expected), (size, kind)
            seen += 1
    assert seen


def test_rows_that_see_nothing_else_are_drawn_too(tmp_path: Path) -> None:
    draws = draws_of(tmp_path, tiny.recipe(METHODS["indi"]))
    assert set(draws.sample(0, 16)) == {"x_0", "x_in", "t", "eps"}


def test_a_row_from_noise_is_shown_the_degraded_photograph_beside_zeros(tmp_path: Path) -> None:
    plain = tiny.recipe()
    shown = with_method(plain, replace(METHODS["ddpm"], inputs=("degraded",)))
    sample, expected = draws_of(tmp_path, shown).sample(3, 16), draws_of(tmp_path / "b", plain).sample(3, 16)
    assert torch.equal(sample["degraded"], expected["x_in"]) and not sample["x_in"].any()
    assert shown.metric == plain.metric and with_method(plain, METHODS["ddpm"]).metric == "loss"


def test_colours_turn_about_grey() -> None:
    image = np.random.default_rng(0).random((5, 7, 3), dtype=np.float32)
    grey = image.mean(2, keepdims=True)
    assert np.allclose(turned(image, 1, 0), image, atol=1e-6)
    assert np.allclose(turned(image, 2, 0), grey + 2 * (image - grey), atol=1e-6)
    assert np.allclose(turned(image, 0, 1), np.repeat(grey, 3, 2), atol=1e-6)
    assert np.allclose(turned(image, 1, 2 * math.pi / 3), np.roll(image, 1, axis=2), atol=1e-6)  # red becomes green
    assert np.allclose(turned(turned(image, 1.3, 0.4), 1 / 1.3, -0.4), image, atol=1e-5)


def test_recoloured_pieces_keep_their_light_and_their_depth() -> None:
    pixels = np.random.default_rng(0).integers(90, 166, (16, 16, 3)).astype(np.uint8)
    made = [recoloured(pixels, generator_of(0, i)) for i in range(40)]
    assert all(m.dtype == np.uint8 and m.shape == pixels.shape for m in made)
    assert all(np.abs(m.mean(2) - pixels.mean(2)).max() <= 1 for m in made)  # nothing is clipped here
    same = sum(np.array_equal(m, pixels) for m in made)
    spread = [float(np.ptp(m.astype(int), axis=2).mean()) for m in made]
    assert same < 16 and min(spread) < 0.6 * max(spread)  # measured: 10 of 40, and .24
