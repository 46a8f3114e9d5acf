"""The loop: resumed to the bit, shared out among processes, and it learns."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from rddm.checkpoint import load_state, states
from rddm.cli import main
from rddm.degradations import parse
from rddm.errors import UserError
from rddm.journal import read_log
from rddm.learned import Heads, Lpips, alexnet
from rddm.loss import Batch, charbonnier, frequency
from rddm.memory import training_bytes
from rddm.methods import METHODS
from rddm.model import network, read_model
from rddm.nn.compact import CompactConfig
from rddm.nn.unet import UNetConfig
from rddm.optimise import learning_rate
from rddm.pairs import pair_up
from rddm.photos import Files
from rddm.plan import accelerator_of, planned, shared_out
from rddm.recipe import Average, Recipe, from_json, to_json, with_method
from rddm.recipes import RECIPES, published_low_light, restore
from rddm.train import Setting, advice, conduct
from rddm.trainer import Run, interval, loader, schedule

TESTS = Path(__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS.parent / 'src'}", "OMP_NUM_THREADS": "1"}


def setting_of(folder: Path, recipe: Recipe, count: int = 12) -> Setting:
    clean, degraded = tiny.write_pairs(folder, count)
    kinds = {"clean": clean} if recipe.method.generates else {"clean": clean, "degraded": degraded}
    photos = Files(pair_up(kinds), recipe)
    photos.preload()
    return Setting(recipe, photos, list(range(1, count)), [0], None, "test")


def weights(out: Path) -> dict[str, torch.Tensor]:
    state = torch.load(states(out)[-1], weights_only=True)
    return {f"{part}.{name}": value for part in ("net", "ema") for name, value in state[part].items()}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def command(clean: Path, degraded: Path, out: Path, *more: str) -> list[str]:
    sources = ["--clean", str(clean), "--degraded", str(degraded), "--recipe", "tiny:recipe"]
    return [sys.executable, "-m", "rddm", "train", *sources, "--out", str(out), *more]


@pytest.mark.parametrize("computes", [True, False])
def test_half_of_the_bits_are_proposed_where_they_pay(monkeypatch: pytest.MonkeyPatch, computes: bool) -> None:
    monkeypatch.setattr("rddm.train.halves", lambda device: computes)
    recipe, cpu = published_low_light(), torch.device("cpu")
    volumes = replace(recipe, metric="loss", network=replace(recipe.network, dims=3))
    assert ("--precision bf16" in advice(replace(recipe, precision="no"), cpu)) == computes
    assert advice(replace(recipe, precision="bf16"), cpu) == advice(replace(volumes, precision="no"), cpu) == ""


def test_a_run_that_stops_and_goes_on_has_the_same_weights(tmp_path: Path) -> None:
    setting = setting_of(tmp_path, tiny.told())
    accelerator = accelerator_of(setting.recipe)
    assert conduct(setting, tmp_path / "whole", accelerator, print)
    assert not conduct(setting, tmp_path / "parts", accelerator, print, seconds=1e-9)
    stopped = torch.load(states(tmp_path / "parts")[-1], weights_only=True)["place"]
    assert 0 < stopped[0] < setting.recipe.steps
    assert conduct(setting, tmp_path / "parts", accelerator, print)
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    logs = [[line for line in read_log(tmp_path / run) if "score" in line] for run in ("whole", "parts")]
    assert logs[0][-1] == logs[1][-1]  # the last validation, to the last digit
    assert len(states(tmp_path / "whole")) == 2  # rotated


def test_a_run_that_was_killed_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    clean, degraded = tiny.write_pairs(tmp_path)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    line = [*command(clean, degraded, killed, "--steps", "200"), "--recipe", "tiny:told"]
    process = subprocess.Popen(line, env=ENVIRONMENT | {"PYTHONHASHSEED": "0"}, stderr=subprocess.DEVNULL)
    deadline = time.time() + 120
    while not states(killed) and time.time() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert torch.load(states(killed)[-1], weights_only=True)["place"][0] < 200
    with (killed / "log.jsonl").open("a") as log:
        log.write('{"update": 190, "loss"')  # what a kill in the middle of a line leaves
    resume = [sys.executable, "-m", "rddm", "train", "--resume", "--out", str(killed)]
    subprocess.run(resume, env=ENVIRONMENT | {"PYTHONHASHSEED": "9"}, check=True, capture_output=True)
    line[line.index(str(killed))] = str(whole)
    subprocess.run(line, env=ENVIRONMENT | {"PYTHONHASHSEED": "0"}, check=True, capture_output=True)
    assert equal(weights(killed), weights(whole))
    assert (killed / "model" / "model.safetensors").read_bytes() == (whole / "model" / "model.safetensors").read_bytes()
    assert {"recipe.json", "sources.json", "scores.json", "curve.png", "grid.png"} <= {p.name for p in whole.iterdir()}
    updates = [line["update"] for line in read_log(killed)]
    assert updates == sorted(updates) == [line["update"] for line in read_log(whole)]


def test_a_damaged_state_is_passed_over(tmp_path: Path) -> None:
    setting = setting_of(tmp_path, tiny.recipe())
    accelerator = accelerator_of(setting.recipe)
    conduct(setting, tmp_path / "run", accelerator, print)
    before, last = states(tmp_path / "run")
    last.write_bytes(last.read_bytes()[:1000])
    run, state = Run(setting.recipe, accelerator), load_state(tmp_path / "run", accelerator.device)
    assert state is not None
    run.load(state)
    assert run.place.images == int(before.stem.split("-")[1]) and not states(tmp_path / "run")[1:]


def test_two_processes_are_one(tmp_path: Path) -> None:
    """Losses and weights of two processes with gloo, against one with the same batches."""
    clean, degraded = tiny.write_pairs(tmp_path)
    line = command(clean, degraded, tmp_path / "two", "--steps", "12")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(launcher + line[1:], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    subprocess.run(command(clean, degraded, tmp_path / "one", "--steps", "12"), env=ENVIRONMENT, check=True)
    devices = [read_model(tmp_path / name / "model").spec.card["device"] for name in ("one", "two")]
    assert devices == ["cpu, processes: 1, threads: 1", "cpu, processes: 2, threads: 1"]
    one, two = ([x["loss"] for x in read_log(tmp_path / run) if "loss" in x] for run in ("one", "two"))
    assert len(one) == len(two) == 6
    assert np.allclose(one, two, rtol=2e-6, atol=0), (one, two)  # measured: 1.7e-7, the order of sums
    a, b = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert max(float((a[key] - b[key]).abs().max()) for key in a) < 1e-5  # measured: 8.1e-7, after 12 updates


def test_two_processes_plan_the_same_run(tmp_path: Path) -> None:
    """With a time each process measures for itself: they must agree on the number of updates, or one waits forever."""
    clean, degraded = tiny.write_pairs(tmp_path)
    line = command(clean, degraded, tmp_path / "two", "--time", "4s")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(launcher + line[1:], env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    steps = json.loads((tmp_path / "two" / "recipe.json").read_text())["steps"]
    assert torch.load(states(tmp_path / "two")[-1], weights_only=True)["place"][0] <= steps


def test_small_batches_grow_to_be_shared_out() -> None:
    recipe = shared_out(replace(tiny.recipe(), accumulate=2), 3)
    assert [phase.batch for phase in recipe.phases] == [6, 6]
    assert shared_out(restore(), 1) == restore()
    assert len(list(schedule(replace(recipe, steps=10), 0, 2, 3))) == 20
    with pytest.raises(UserError, match="a batch of 4, expected a multiple of 1 passes and 3 processes"):
        list(schedule(restore(), 0, 0, 3))


@pytest.mark.parametrize("budget", [20, 600, 86_400])
def test_time_becomes_as_many_updates_as_fit(budget: int) -> None:
    recipe = planned(replace(restore(), validate_every=1000), budget, 0.1, 0.5)
    spent = 0.1 * recipe.steps + 0.5 * -(-recipe.steps // interval(recipe))
    assert 0.93 * budget < spent <= 0.98 * budget
    with pytest.raises(UserError, match="--time 4 s: an update takes 0.1 s, expected at least 5 s"):
        planned(restore(), 4, 0.1, 0.5)


def test_passes_add_up_to_one_update(tmp_path: Path) -> None:
    found = []
    for accumulate in (1, 2):
        recipe = replace(tiny.recipe(), accumulate=accumulate)
        setting = setting_of(tmp_path / str(accumulate), recipe)
        run = Run(recipe, accelerator_of(recipe))
        batches = loader(setting.draws, schedule(recipe, 0, 0, 1), 0, False)
        heads, norm = run.update([next(batches) for _ in range(accumulate)])
        found.append((float(heads[0]), float(norm)))
    assert np.allclose(found[0], found[1], rtol=1e-5)  # measured: 1e-7


KINDS = {(row.target.name, row.generates, row.origin): name for name, row in METHODS.items()}


@pytest.mark.parametrize("name", KINDS.values())
def test_every_kind_of_row_trains(tmp_path: Path, name: str) -> None:
    """To the end, with a model, scores and pictures; tests/test_rows.py takes two updates of every row."""
    row = replace(METHODS[name], steps=min(METHODS[name].steps, 10))
    recipe = replace(with_method(tiny.recipe(), row), steps=3)
    assert conduct(setting_of(tmp_path, recipe), tmp_path / "run", accelerator_of(recipe), print)
    assert read_model(tmp_path / "run" / "model").spec.method.name == name
    assert (tmp_path / "run" / "grid.png").stat().st_size > 1000


def test_it_learns(tmp_path: Path) -> None:
    """Eight pairs are learnt: the held-out negative is restored far better than it was."""
    recipe = replace(tiny.recipe(), steps=300, phases=(tiny.Phase(1.0, 24, 4),))
    conduct(setting_of(tmp_path, recipe, 9), tmp_path / "run", accelerator_of(recipe), print)
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())["psnr-rgb"]
    assert scores["output"] > scores["input"] + 10  # measured: 8.6 -> 26 dB


@pytest.fixture
def fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps its precision for the life of a process; forget it."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("fresh_accelerate")
def test_bf16_trains_and_keeps_its_weights_in_float32(tmp_path: Path) -> None:
    recipe = replace(tiny.recipe(), precision="bf16", steps=3)
    conduct(setting_of(tmp_path, recipe), tmp_path / "run", accelerator_of(recipe), print)
    assert all(value.dtype == torch.float32 for value in weights(tmp_path / "run").values())


def test_a_loss_that_overflows_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean, degraded = tiny.write_pairs(tmp_path)
    sources = ["--clean", str(clean), "--degraded", str(degraded), "--recipe", "tiny:diverging"]
    assert main(["train", *sources, "--out", str(tmp_path / "run")]) == 2
    assert "half the learning rate" in capsys.readouterr().err.splitlines()[-1]


def test_the_averages_decay_is_the_published_one() -> None:
    average = Average(0.995, 10, 100)
    assert [average.decay_at(i) for i in (1, 9, 10, 100)] == [None, None, 0.0, 0.0]
    assert average.decay_at(110) == pytest.approx(1 - 10 ** (-2 / 3))
    assert average.decay_at(2920) < 0.995 == average.decay_at(2930)  # golden/FACTS.md, section 5


def test_the_learning_rate_rises_and_falls() -> None:
    recipe = replace(restore(), steps=1000, warmup=50, lr=1.0)
    rates = [learning_rate(recipe, update) for update in range(1, 1001)]
    assert rates[0] == pytest.approx(1 / 50) and max(rates) > 0.99 and 0 < rates[-1] < 1e-5
    assert {learning_rate(published_low_light(), update) for update in (1, 100, 80_000)} == {8e-5}


def test_distances() -> None:
    a, b = torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), 0.5)
    assert float(charbonnier(a, b)) == pytest.approx(0.5, rel=1e-4) and float(charbonnier(a, a)) == pytest.approx(1e-3)
    assert float(frequency(a, a)) == 0
    assert float(frequency(a, b)) == pytest.approx(0.5 * 8 / 40)  # a constant lies in one of 8 x 5 frequencies


def test_memory_is_foretold_on_shapes_alone() -> None:
    """What autograd keeps, counted while a real pass runs, lies near what was foretold."""
    config, kept = CompactConfig(), {}
    net = network(config)
    own = {weight.untyped_storage().data_ptr() for weight in net.parameters()}

    def keep(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        sum(image.mean() for image in net(torch.randn(2, config.in_channels, 128, 128), torch.zeros(2, 1)))
    copy = 4 * sum(weight.numel() for weight in net.parameters())
    counted = 5 * copy + sum(size for pointer, size in kept.items() if pointer not in own)
    assert 0.8 < training_bytes(config, 2, 128) / counted < 1.3  # measured: 0.91


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_round_trip_and_fit_their_networks(name: str) -> None:
    recipe = RECIPES[name]()
    assert from_json(json.loads(json.dumps(to_json(recipe), sort_keys=True))) == recipe
    assert recipe.name == name and recipe.expected
    if recipe.degrade:
        parse(recipe.degrade)
    phase = recipe.phases[0]
    assert training_bytes(recipe.network, 1, phase.crop) > 0  # runs forwards and backwards, on shapes
    for row in METHODS.values():
        assert from_json(to_json(with_method(recipe, row))) == with_method(recipe, row)


def test_published_recipes_are_the_published_network() -> None:
    counts = {"published-low-light": 36_261_187, "published-raindrop": 72_522_374, "published-shadow": 72_541_190}
    for name, count in counts.items():
        with torch.device("meta"):
            assert sum(w.numel() for w in network(RECIPES[name]().network).parameters()) == count


def test_a_trained_model_restores(tmp_path: Path) -> None:
    recipe = replace(tiny.told(), steps=3)
    conduct(setting_of(tmp_path, recipe), tmp_path / "run", accelerator_of(recipe), print)
    Image.fromarray(tiny.photograph(99, 40, 50)).save(tmp_path / "in.png")
    line = [
        "restore",
        str(tmp_path / "in.png"),
        "-o",
        str(tmp_path / "out.png"),
        "--model",
        str(tmp_path / "run/model"),
    ]
    assert main(line) == 0
    assert Image.open(tmp_path / "out.png").size == (50, 40)


def test_the_target_is_chosen_first_and_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean, degraded = tiny.write_pairs(tmp_path)
    sources = ["--clean", str(clean), "--degraded", str(degraded), "--recipe", "tiny:undecided"]
    out = tmp_path / "run"
    assert main(["train", *sources, "--out", str(out), "--steps", "3"]) == 0
    record = json.loads((out / "aosa.json").read_text())
    assert record["target"] == "res" == read_model(out / "model").spec.method.target.name
    assert "predict res, decided after" in capsys.readouterr().err
    assert main(["train", "--resume", "--recipe", "tiny:undecided", "--out", str(out)]) == 0


def test_perception_pulls_at_the_network_through_its_estimate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With random judges: the term reaches the gradient, and a missing weight file is one line."""
    recipe = replace(tiny.recipe(), perceptual=0.5)
    setting = setting_of(tmp_path, recipe)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        judges = None, Lpips(alexnet().requires_grad_(False), Heads()).distance
    norms = []
    for judge in judges:
        run = Run(replace(recipe, phases=(tiny.Phase(1.0, 64, 2),)), accelerator_of(recipe), judge)
        x_0, x_in = torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
        batch = Batch(x_0, x_in, torch.full((2,), 0.5), torch.zeros_like(x_0), {})
        norms.append(float(run.update([batch])[1]))
    assert abs(norms[0] - norms[1]) > 1e-3 * norms[0]  # measured: 6.7e-3
    monkeypatch.setenv("RDDM_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    with pytest.raises(UserError, match=r"lpips-alexnet.safetensors: weights not found, expected that file in"):
        conduct(setting, tmp_path / "run", accelerator_of(recipe), print)


@pytest.mark.parametrize("heads", ["two_nets", "shared_encoder", "two_heads"])
def test_every_way_to_residual_and_noise_trains(tmp_path: Path, heads: str) -> None:
    """Both losses fall, and no weight is left without a gradient."""
    network = UNetConfig(dim=8, mults=(1, 2), heads=heads)
    recipe = replace(tiny.recipe(METHODS["rddm"]), network=network, steps=40, phases=(tiny.Phase(1.0, 16, 8),))
    setting = setting_of(tmp_path, recipe)
    run = Run(recipe, accelerator_of(recipe))
    start = {name: weight.clone() for name, weight in run.net.named_parameters()}
    batches = loader(setting.draws, schedule(recipe, 0, 0, 1), 0, False)
    seen = torch.stack([run.update([batch])[0] for batch in batches])
    assert seen.shape == (40, 2) and bool((seen[-10:].mean(0) < 0.9 * seen[:10].mean(0)).all())
    still = [name for name, weight in run.net.named_parameters() if torch.equal(weight, start[name])]
    assert not still
