"""Two stages: a second one is trained on what the first restores, and the dial goes from the one to the other."""

import json
import runpy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from complaints import complaint
from models import restoring_model
from PIL import Image

from rddm.cli import main
from rddm.cost import gmacs, parameters
from rddm.draws import Draws, collate
from rddm.errors import UserError
from rddm.first_stage import START, channels_of, lent, restorer_model, restorer_spec, with_first_stage
from rddm.loss import Batch
from rddm.methods import METHODS
from rddm.model import Model, bundled, companion_of, load, network
from rddm.nn.compact import CompactConfig
from rddm.options import Options, asked, recipe_of
from rddm.pairs import pair_up
from rddm.photos import Files
from rddm.plan import accelerator_of
from rddm.protocols import read_rgb
from rddm.recipe import Recipe, from_json, read_recipe, to_json
from rddm.recipes import RECIPES
from rddm.restore import prepare, run
from rddm.spec import ModelSpec
from rddm.stages import APART, restored, second_job
from rddm.tiles import NoiseField, Tile
from rddm.trainer import Run, fresh

PMRF = replace(METHODS["pmrf"], steps=3)


def tiny_second() -> Recipe:
    """Return the recipe of a tiny second stage."""
    return replace(tiny.recipe(PMRF), loss="l2", metric="loss", start_share=0.0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with pairs, a first stage and its second, both trained by the command."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("stages")
        patch.chdir(folder)
        patch.setattr(Path, "home", lambda: folder)
        clean, degraded = tiny.write_pairs(folder)
        line = ["train", "--clean", str(clean), "--degraded", str(degraded)]
        assert main([*line, "--recipe", "tiny:recipe", "--out", "one", "--steps", "24"]) == 0
        second = [*line, "--recipe", "test_realism:tiny_second", "--restorer", "one/model"]
        assert main([*second, "--out", "two", "--steps", "24"]) == 0
        assert main([*second, "--out", "again", "--steps", "24"]) == 0
        first = load("one/model")
        first.spec = replace(first.spec, name="one", realism=str(folder / "two" / "model"))
        first.save_pretrained("model")
        yield folder


def one_photo(folder: Path) -> Image.Image:
    return Image.open(folder / "degraded" / "3.png")


def test_the_command_trains_a_second_stage(trained: Path) -> None:
    spec = load(trained / "two" / "model").spec
    assert spec.restorer == str(trained / "one" / "model") and spec.method == PMRF and spec.card["restorer"]
    recipe = read_recipe(trained / "two" / "recipe.json")
    assert recipe.initial == recipe.restorer == spec.restorer and from_json(to_json(recipe)) == recipe
    scores = json.loads((trained / "two" / "scores.json").read_text())
    assert {"input", "output"} == scores["psnr-rgb"].keys() and (trained / "two" / "grid.png").exists()
    files = [trained / name / "model" / "model.safetensors" for name in ("two", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()  # to the bit
    assert recipe_of(Options(out=trained / "two", resume=True)) == recipe
    resumed = Options(out=trained / "two", resume=True, recipe="test_realism:tiny_second")
    assert recipe_of(resumed) == recipe


def test_the_dial(trained: Path) -> None:
    """0 is the first stage to the bit, 1 the second's sample, .5 the middle; a seed reproduces to the bit."""
    model, photo = load(trained / "model"), one_photo(trained)
    pixels = np.asarray(photo)
    first = run(prepare(model, *pixels.shape[:2], seed=3), pixels)
    at = {r: np.asarray(model.restore(photo, seed=3, realism=r)) for r in (0, 0.5, 1)}
    assert np.array_equal(at[0], first) and np.array_equal(at[0], np.asarray(load(trained / "one/model").restore(
        photo, seed=3)))  # fmt: skip
    second = load(trained / "two" / "model")
    job = second_job(model, *pixels.shape[:2], seed=3)
    assert job.model.spec == second.spec and job.seed == 3 + APART
    assert np.array_equal(at[1], run(job, first)) and not np.array_equal(at[1], first)
    assert np.abs(at[0.5].astype(float) - (at[0].astype(float) + at[1]) / 2).max() <= 1
    for r, found in at.items():
        assert np.array_equal(found, np.asarray(load(trained / "model").restore(photo, seed=3, realism=r)))
    assert not np.array_equal(at[1], np.asarray(model.restore(photo, seed=4, realism=1)))
    grey = np.asarray(model.restore(photo.convert("L"), realism=1))
    assert grey.shape == pixels.shape[:2]
    assert not np.allclose(NoiseField(3).crop(0, Tile(0, 0, 8, 8)), NoiseField(job.seed).crop(0, Tile(0, 0, 8, 8)))


def test_the_command_line_turns_the_dial(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, photo = str(trained / "model"), str(trained / "degraded" / "3.png")
    line = ["restore", photo, "--model", model, "--seed", "3"]
    for r in (0, 0.5, 1):
        out = trained / f"at-{r}.png"
        assert main([*line, "-o", str(out), "--realism", str(r)]) == 0
        expected = np.asarray(load(model).restore(one_photo(trained), seed=3, realism=r))
        assert np.array_equal(read_rgb(out), expected)
    told = capsys.readouterr().out
    assert ", then 32x24, tiny, 3 steps, one piece, about" in told
    assert main([*line, "-o", str(trained / "c.png"), "--realism", "1", "--compare"]) == 0
    assert (trained / "c.png").read_bytes() == (trained / "at-1.png").read_bytes()
    options = ["evaluate", "--protocol", "lol-rgb", "--clean", str(trained / "clean"), "--degraded",
               str(trained / "degraded"), "--model", model, "--out", str(trained / "evaluated")]  # fmt: skip
    assert main([*options, "--realism", "1"]) == 0
    assert "at realism 1)" in capsys.readouterr().out
    costs = json.loads((trained / "evaluated" / "scores.json").read_text())["costs"]
    one, two = load(model), load(trained / "two" / "model")
    calls = one.spec.method.steps * gmacs(one, 24, 32) + two.spec.method.steps * gmacs(two, 24, 32)
    assert costs["gmacs-per-image"] == pytest.approx(calls)
    assert costs["parameters"] == parameters(one) + parameters(two)
    for realism, complaint_ in (("1.5", "--realism: found 1.5, expected 0 (least error) to 1"),
                                ("nan", "--realism: found nan")):  # fmt: skip
        assert main([*line, "-o", "x.png", "--realism", realism]) == 2
        assert complaint_ in complaint(capsys)
    assert main(["restore", photo, "--model", "jpeg", "-o", "x.png", "--realism", "1"]) == 2
    assert "jpeg: names no second stage, expected --realism 0, or a model that has one" in complaint(capsys)
    assert main(["restore", photo, "--model", str(trained / "two" / "model"), "-o", "x.png"]) == 2
    assert "is a second stage, expected --model" in complaint(capsys)


def test_tiles_agree_with_the_whole(trained: Path) -> None:
    """The flow's noise belongs to the place, not to the tile, in the second stage too."""
    model = load(trained / "model")
    pixels = tiny.photograph(5, 200, 300)
    whole, tiled = (run(second_job(model, 200, 300, tile=t), pixels).astype(int) for t in (0, 128))
    assert second_job(model, 200, 300, tile=128).tiles > 4
    assert np.abs(whole - tiled).mean() < 0.5 and np.abs(whole - pixels).mean() > 2


def test_where_a_second_stage_lies(trained: Path, tmp_path: Path) -> None:
    """In the model's folder, beside it, or anywhere by name; one that sees what it cannot is refused."""
    first, second = load(trained / "one" / "model"), load(trained / "two" / "model")
    for place in (tmp_path / "inside" / "second", tmp_path / "second"):
        second.save_pretrained(place)
        first.spec = replace(first.spec, realism="second")
        first.save_pretrained(tmp_path / "inside")
        found = companion_of(load(tmp_path / "inside"))
        assert found.folder is not None and found.folder.resolve() == place.resolve()
        assert len(list(load(tmp_path / "inside").parameters())) == len(list(first.parameters()))
        (place / "config.json").unlink()
    with pytest.raises(UserError, match="second: no such model"):
        companion_of(load(tmp_path / "inside"))
    sees = restoring_model(CompactConfig(in_channels=9, widths=(8, 16), blocks=(1, 1)))
    first.companions = [sees]
    with pytest.raises(UserError, match="inputs x_in, equalised, expected a second stage"):
        second_job(first, 24, 32)
    with pytest.raises(UserError, match="names no second stage"):
        companion_of(load("jpeg"))
    assert not any(name.endswith("-realism") for name in bundled())


def batch_of(recipe: Recipe, folder: Path) -> Batch:
    photos = Files(pair_up({"clean": folder / "clean", "degraded": folder / "degraded"}), recipe)
    batch = collate([Draws(photos, [0, 1, 2], recipe)[i, 16] for i in range(3)])
    assert isinstance(batch, Batch)
    return batch


def test_training_sees_what_the_first_stage_restores(trained: Path) -> None:
    """One call for the batch equals the model on each piece, with the sample's own noise; the model stays frozen."""
    restorer = str(trained / "one" / "model")
    recipe = replace(tiny_second(), restorer=restorer)
    batch, plain = batch_of(recipe, trained), batch_of(tiny_second(), trained)
    assert torch.equal(batch.x_in, plain.x_in) and torch.equal(batch.eps, plain.eps)  # what else is drawn stays
    model, seen = restorer_model(restorer, "cpu"), with_first_stage(recipe, batch)
    method = model.spec.method
    noise = batch.conditions[START]
    assert noise.shape == (3, 1, 3, 16, 16) and not torch.equal(noise[:, 0], batch.eps)
    x_t = batch.x_in + method.path.grid(1)[0].bbar * noise[:, 0]
    assert method.gain.name == "deterministic"
    expected = []
    for i in range(3):
        state = x_t[i : i + 1]
        for now, then in zip(method.path.grid(method.steps), method.path.grid(method.steps)[1:]):
            with torch.no_grad():
                prediction = model.denoiser()(state, batch.x_in[i : i + 1], now)
            abar, bbar = now.abar - then.abar, now.bbar - then.bbar
            state = state - abar * prediction.res - bbar * prediction.eps if then.t else prediction.x_0
        expected.append(state.clamp(-1, 1))
    assert (seen.x_in - torch.cat(expected)).abs().max() < 1e-4
    assert torch.equal(seen.x_0, batch.x_0) and not seen.conditions and not seen.x_in.is_inference()
    run_ = Run(recipe, accelerator_of(recipe))
    before = [p.clone() for p in model.parameters()]
    heads, _ = run_.update([batch])
    assert torch.isfinite(heads).all() and all(torch.equal(a, b) for a, b in zip(before, model.parameters()))
    assert not any(p.requires_grad for p in model.parameters())
    half = with_first_stage(replace(recipe, precision="bf16"), batch)
    assert half.x_in.dtype == torch.float32 and 0 < (half.x_in - seen.x_in).abs().max() < 0.1


def test_the_first_stage_is_told_what_it_wants(trained: Path, tmp_path: Path) -> None:
    """The bundled low-light model is told the whole photo's light; the second stage is not."""
    recipe = replace(tiny_second(), restorer="low-light")
    batch = batch_of(recipe, trained)
    assert {"equalised", "quantiles", "thumbnail", START} == batch.conditions.keys()
    seen = with_first_stage(recipe, batch)
    assert not seen.conditions and (seen.x_in - batch.x_in).abs().mean() > 0.01


def test_a_second_stage_begins_with_what_fits(trained: Path) -> None:
    recipe = replace(tiny_second(), restorer=str(trained / "one" / "model"), initial=str(trained / "one" / "model"))
    first, net = load(trained / "one" / "model"), fresh(recipe)
    ours, theirs = net.state_dict(), first.net.state_dict()
    same = [name for name in ours if ours[name].shape == theirs[name].shape]
    assert len(same) == len(ours) - 1 and all(torch.equal(ours[name], theirs[name]) for name in same)
    (odd,) = ours.keys() - set(same)
    half = theirs[odd].shape[1] // 2
    assert torch.equal(ours[odd], theirs[odd][:, half:]) and all(p.requires_grad for p in net.parameters())
    kernel = torch.arange(18.0).view(1, 18, 1, 1)
    assert channels_of(kernel, ("mask",), ("x_in", "mask")).flatten().tolist() == [*range(6, 18)]
    assert channels_of(kernel, ("mask",), ("x_in",)) is kernel
    other = Model(ModelSpec("other", CompactConfig(widths=(4, 8), blocks=(1, 1)), METHODS["rddm-res"]))
    assert lent(network(recipe.network), recipe, other) is not None  # nothing fits, nothing happens


def test_recipes_and_mistakes(trained: Path) -> None:
    for name in ("denoise", "low-light", "upscale"):
        recipe = RECIPES[f"realism-{name}"]()
        assert recipe.restorer == recipe.initial == name and recipe.method.name == "pmrf" and recipe.loss == "l2"
        assert from_json(to_json(recipe)) == recipe
        net = fresh(replace(recipe, seed=1)).state_dict()
        theirs = load(name).net.state_dict()
        assert sum(key in theirs and torch.equal(theirs[key], net[key]) for key in net) > 0.9 * len(net)
    mine = asked(Options(restorer=str(trained / "one" / "model")), RECIPES["realism-denoise"]())
    assert mine.restorer == mine.initial == str(trained / "one" / "model")
    assert isinstance(mine.network, CompactConfig) and mine.network.widths == (8, 16) and mine.network.in_channels == 3
    again = asked(Options(initial="jpeg"), RECIPES["realism-denoise"]())
    assert again.initial == "jpeg" and again.method.name == "pmrf" and again.restorer == "denoise"
    with pytest.raises(ValueError, match="restorer: found origin input, prepare none, inputs equalised"):
        replace(tiny.recipe(replace(PMRF, inputs=("equalised",))), restorer="denoise")
    for name in ("cats", "inpaint", str(trained / "two" / "model")):
        with pytest.raises(UserError, match="expected a model that restores photographs as they come"):
            restorer_spec(name)
    with pytest.raises(UserError, match="nothing: no such model"):
        asked(Options(restorer="nothing"), tiny_second())


def test_the_experiment_runs_in_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = Path(__file__).resolve().parents[1] / "experiments" / "realism.py"
    monkeypatch.setattr("sys.argv", [str(file), "--smoke", "--out", str(tmp_path)])
    runpy.run_path(str(file), run_name="__main__")
    found = json.loads((tmp_path / "realism-low-light.json").read_text())
    by_share = found["by_steps"]["1"]
    assert found["images"] == 1 and by_share.keys() == {"0", "1"} and by_share["0"]["psnr"] > by_share["1"]["psnr"]
    assert (tmp_path / "realism-low-light.png").exists()


def test_both_stages_may_be_shown_a_mask() -> None:
    model = restoring_model(CompactConfig(in_channels=9, widths=(8, 16), blocks=(1, 1)))
    model.spec = replace(model.spec, method=replace(METHODS["rddm-res"], inputs=("x_in", "mask"), steps=1), realism="x")
    second = restoring_model(CompactConfig(in_channels=6, widths=(8, 16), blocks=(1, 1)))
    second.spec = replace(second.spec, method=replace(PMRF, inputs=("mask",)))
    model.companions = [second]
    pixels, masks = tiny.photograph(0, 32, 32), [np.full((32, 32, 1), value, np.uint8) for value in (0, 255)]
    one, two = (restored(model, pixels, mask=mask, realism=1) for mask in masks)
    assert not np.array_equal(one, two)
