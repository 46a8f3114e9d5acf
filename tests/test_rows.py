"""What a row promises: its target's round trip, its marginals, its solvers, its training. One row is enough."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import test_transition
import tiny
import torch
from gaussian import F64, MEAN, ORACLE, origin
from PIL import Image

from rddm.bridges import GOUBPath
from rddm.cli import main
from rddm.denoiser import NetworkDenoiser, rate_of, scale_of
from rddm.draws import Draws
from rddm.errors import UserError
from rddm.loss import DISTANCES, compare, distances
from rddm.methods import METHODS, Method
from rddm.model import load
from rddm.options import Options, asked
from rddm.pairs import pair_up
from rddm.path import CLEAN, Node, gaussian, mix
from rddm.photos import Files
from rddm.plan import accelerator_of
from rddm.report import PRINTED, WORDS, method_table
from rddm.sample import sample
from rddm.sdes import IRSDEPath, reversion
from rddm.solvers import FLOWS, Ancestral
from rddm.spec import PATHS, method_from_json, method_to_json
from rddm.train import train_command
from rddm.trainer import Run, loader, schedule
from rddm.transition import Inadmissible
from rddm.validate import held_out_loss

ALL = pytest.mark.parametrize("name", METHODS)
ROOT = Path(__file__).resolve().parents[1]


class Constant(torch.nn.Module):
    """Return the first channels of what it sees."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: torch.Tensor, clock: torch.Tensor) -> tuple[torch.Tensor]:
        return (x[:, : self.channels],)


def parts(shape: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(shape, dtype=F64, generator=generator) for _ in range(3))  # type: ignore[return-value]


def test_the_table_is_long() -> None:
    assert len(METHODS) >= 25 and len({row.reference for row in METHODS.values()}) >= 17


@ALL
def test_the_target_s_round_trip_on_the_row_s_own_grid(name: str) -> None:
    """One node for all images, as samplers do, and one for each, as in training; what a node loses, it says."""
    row = METHODS[name]
    x_0, x_in, eps = parts((3, 2, 4, 4))
    x_in = x_in if row.origin == "input" else torch.zeros_like(x_in)
    nodes = [n for n in row.path.grid(min(row.steps, 50)) if n != CLEAN and 1 - n.abar > 1e-3]
    for node in nodes[1:-1:7] or nodes:
        outputs = row.target.encode(x_0, x_in, eps, node, rate_of(row, node, x_0))
        x_t = mix(x_0, x_in - x_0, eps, node)
        found = row.target.decode(outputs, x_t, x_in, node, rate_of(row, node, x_0))
        bound = 1e-12 * max(1.0, node.bbar) / (1 - node.abar)
        assert (found.x_0 - x_0).abs().max() < bound and (found.res - (x_in - x_0)).abs().max() < bound
        if node.bbar:
            assert (found.eps - eps).abs().max() < bound / min(1.0, node.bbar) ** 2
    t = torch.tensor([0.2, 0.6, 0.9], dtype=F64)
    node = row.path.at(t, x_0)
    outputs = row.target.encode(x_0, x_in, eps, node, rate_of(row, node, x_0))
    found = row.target.decode(outputs, mix(x_0, x_in - x_0, eps, node), x_in, node, rate_of(row, node, x_0))
    assert (found.x_0 - x_0).abs().max() < 1e-8 and torch.isfinite(found.eps).all()


@ALL
def test_clocks_and_scales_are_finite_all_along(name: str) -> None:
    row = METHODS[name]
    like = torch.zeros(4, 3, 4, 4)
    for t in (row.path.times(torch.tensor([0.0, 0.3, 0.7, 0.999], dtype=F64)), torch.ones(4, dtype=F64)):
        node = row.path.at(t, like)
        assert torch.isfinite(row.show(node, like)).all() and row.show(node, like).shape[0] == 4
        assert torch.isfinite(scale_of(row.path, node, like)).all()
        assert ((t > 0) & (t <= 1)).all()
    for node in row.path.grid(min(row.steps, 20))[:-1]:
        assert torch.isfinite(row.show(node, like)).all()


@pytest.mark.parametrize("name", ["edm", "ddbm-vp", "ddbm-ve"])
def test_preconditioned_networks_see_and_say_what_has_unit_variance(name: str) -> None:
    row, n = METHODS[name], 20_000
    x_0, x_in, eps = (x * s for x, s in zip(parts((n, 1, 1, 1)), (0.5, 0.5, 1.0)))
    x_in = x_in if row.origin == "input" else torch.zeros_like(x_in)
    for node in row.path.grid(9)[1:-1:2]:
        x_t = mix(x_0, x_in - x_0, eps, node)
        seen, said = x_t * scale_of(row.path, node, x_t), row.target.encode(x_0, x_in, eps, node, None)[0]
        assert float(seen.std()) == pytest.approx(1, abs=0.02) and float(said.std()) == pytest.approx(1, abs=0.02)


KEEPING = [name for name, row in METHODS.items() if row.gain.name not in ("naive", "mean") and row.path.node(0.5).bbar]


@pytest.mark.parametrize("name", KEEPING)
def test_the_default_step_keeps_the_marginal(name: str) -> None:
    """First order in the step, as the estimate is a mean: measured on 100 -> 400 steps, 3.7 to 4.2 times less."""
    coarse, fine = (test_transition.variance_error(name, METHODS[name].gain, steps) for steps in (100, 400))
    assert fine < 0.04 and fine < coarse / 3.4


@ALL
@pytest.mark.parametrize("solver", FLOWS)
def test_every_solver_runs_or_says_why_not(name: str, solver: str) -> None:
    row = METHODS[name]
    x_in = origin(name).expand(500, 3)
    noise, steps = gaussian(torch.Generator().manual_seed(0)), min(row.steps, 100)
    if solver == "dpm++" and not row.path.node(0.5).bbar:
        with pytest.raises(Inadmissible, match="needs noise"):
            sample(ORACLE, x_in, row.path.grid(steps), FLOWS[solver], noise)
        return
    out = sample(ORACLE, x_in, row.path.grid(steps), FLOWS[solver], noise)
    assert torch.isfinite(out).all()
    if row.path.grid(1)[0].bbar and steps >= 18:
        assert (out.mean(0) - MEAN).abs().max() < 0.35  # coarse grids, few samples; exactness is tested elsewhere


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tiny.write_pairs(tmp_path_factory.mktemp("pairs"), 4)


@ALL
def test_every_row_learns_by_its_name(name: str, pairs: tuple[Path, Path]) -> None:
    """The recipe of ``rddm train --method NAME``: two updates move the weights, and the loss held out is finite."""
    recipe = replace(asked(Options(method=name), tiny.recipe()), steps=2, warmup=0)
    kinds = {"clean": pairs[0]} if recipe.method.generates else {"clean": pairs[0], "degraded": pairs[1]}
    photos = Files(pair_up(kinds), recipe)
    fit, held = (Draws(photos, chosen, recipe) for chosen in ([1, 2, 3], [0]))
    run = Run(recipe, accelerator_of(recipe))
    before = [weight.clone() for weight in run.net.parameters()]
    for batch in loader(fit, schedule(recipe, 0, 0, 1), 0, False):
        heads, norm = run.update([batch])
        assert torch.isfinite(heads).all() and torch.isfinite(norm)
    assert run.place.update == 2 and recipe.method.name == name
    assert any((a != b).any() for a, b in zip(before, run.net.parameters()))
    assert math.isfinite(held_out_loss(run.ema, held))


def test_ir_sde_s_likelihood_loss() -> None:
    """Typed from the paper: Euler's step with the network's score against the optimal one; float64, to 1e-12."""
    row, net = METHODS["ir-sde"], Constant(3)
    assert isinstance(row.path, IRSDEPath)
    (x_0, x_in, eps), t = parts((4, 3, 2, 2)), torch.tensor([1, 30, 77, 100], dtype=F64) / 100
    compared = compare(NetworkDenoiser(net, row), x_0, x_in, t, lambda like: eps)
    total, lam = reversion("cosine", 100, 0.005), row.path.spread
    expected = []
    for i, state in enumerate((1, 30, 77, 100)):
        theta = float(total[state] - total[state - 1])
        a, b, c = math.exp(-theta), math.exp(-float(total[state])), math.exp(-float(total[state - 1]))
        std, x_t = lam * math.sqrt(1 - b**2), compared.x_t[i]
        score = -compared.outputs[0][i] / std
        euler = x_t - (theta * (x_in[i] - x_t) - 2 * lam**2 * theta * score)
        mean = (
            a * (1 - c**2) / (1 - b**2) * (x_t - x_in[i]) + c * (1 - a**2) / (1 - b**2) * (x_0[i] - x_in[i]) + x_in[i]
        )
        expected.append((euler - mean).abs().mean())
    found = distances(compared, DISTANCES["likelihood"])
    assert float(found[0]) == pytest.approx(float(torch.stack(expected).mean()), abs=1e-12)
    wrong = compare(NetworkDenoiser(net, METHODS["rddm-res"]), x_0, x_in, t, lambda like: eps)
    with pytest.raises(UserError, match="found row rddm-res, expected ir-sde, refusion or goub"):
        distances(wrong, DISTANCES["likelihood"])
    with pytest.raises(UserError, match="expected frequency 0"):
        DISTANCES["likelihood"](x_0, x_0)


def test_goub_s_likelihood_loss() -> None:
    """Euler with Doob's h-term, and the law of an Ornstein-Uhlenbeck bridge from its covariance; float64, to 1e-12."""
    row, net = METHODS["goub"], Constant(3)
    assert isinstance(row.path, GOUBPath)
    (x_0, x_in, eps), t = parts((4, 3, 2, 2)), torch.tensor([1, 30, 77, 99], dtype=F64) / 99
    compared = compare(NetworkDenoiser(net, row), x_0, x_in, t, lambda like: eps)
    total, lam = reversion("cosine", 100, 0.005), 2 * 30 / 255
    expected = []
    for i, state in enumerate((1, 30, 77, 99)):
        before, now, end = (float(total[k]) for k in (state - 1, state, 100))
        covariance = torch.tensor(
            [[math.exp(-abs(a - b)) - math.exp(-a - b) for b in (before, now, end)] for a in (before, now, end)],
            dtype=F64,
        )  # of the process around x_in, started at x_0, over lambda^2
        means = torch.exp(-torch.tensor([before, now, end], dtype=F64))
        weights = torch.linalg.solve(covariance[1:, 1:], covariance[1:, 0])
        start, x_t = x_0[i] - x_in[i], compared.x_t[i] - x_in[i]
        posterior = means[0] * start + weights[0] * (x_t - means[1] * start) + weights[1] * (0 - means[2] * start)
        theta, far = now - before, math.exp(-2 * (end - now))
        std = math.sqrt(float(covariance[1, 1] - covariance[1, 2] ** 2 / covariance[2, 2])) * lam
        h = -far / (lam**2 * (1 - far)) * x_t
        drift = -theta * x_t + 2 * lam**2 * theta * h
        euler = x_t - (drift + 2 * lam**2 * theta * compared.outputs[0][i] / std)
        expected.append((euler - posterior).abs().mean())
    found = distances(compared, DISTANCES["likelihood"])
    assert float(found[0]) == pytest.approx(float(torch.stack(expected).mean()), abs=1e-12)


def test_a_recipe_may_train_by_likelihood(pairs: tuple[Path, Path]) -> None:
    recipe = replace(asked(Options(method="ir-sde"), tiny.recipe()), loss="likelihood", steps=2, warmup=0)
    draws = Draws(Files(pair_up({"clean": pairs[0], "degraded": pairs[1]}), recipe), [1, 2, 3], recipe)
    run = Run(recipe, accelerator_of(recipe))
    for batch in loader(draws, schedule(recipe, 0, 0, 1), 0, False):
        heads, norm = run.update([batch])
        assert heads.shape == (1,) and torch.isfinite(heads).all() and norm > 0


@pytest.mark.parametrize("name", ["sr3"])
def test_the_command_trains_and_the_model_restores(
    name: str, pairs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = replace(METHODS[name], steps=2)
    monkeypatch.setitem(METHODS, name, row)
    train_command(Options(*pairs, recipe="tiny:recipe", method=name, out=tmp_path / "run", steps=2))
    model = load(str(tmp_path / "run" / "model"))
    assert model.spec.method == row
    restored = np.asarray(model.restore(Image.open(pairs[1] / "0.png")))
    assert restored.shape == (24, 32, 3)


def test_a_row_that_needs_pairs_says_so(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--degraded, --degrade: found neither"):
        train_command(Options(pairs[0], recipe="tiny:recipe", method="sr3", out=tmp_path / "run", steps=2))


def test_the_table_tells_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(WORDS) == set(PATHS) - {"table"} and set(WORDS) > PRINTED
    columns, rows = method_table()
    assert [row[0] for row in rows] == list(METHODS) and all(len(row) == len(columns) for row in rows)
    assert main(["methods", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for data, row in zip(found, METHODS.values(), strict=True):
        assert method_from_json(data) == row and method_to_json(row).items() <= data.items()
        assert data["checked"] in ("printed", "formula") and isinstance(data["models"], list)
    assert "low-light" in {model for data in found for model in data["models"]}


def blocks(path: Path) -> list[str]:
    """Return the Python code of a page."""
    return [part.partition("```")[0] for part in path.read_text(encoding="utf-8").split("```python\n")[1:]]


def test_one_row_is_a_method(capsys: pytest.CaptureFixture[str], pairs: tuple[Path, Path], tmp_path: Path) -> None:
    """docs/adding-a-method.md, executed: the row samples on the oracle, trains, is saved, read and listed."""
    page = ROOT / "docs" / "adding-a-method.md"
    before, paths = dict(METHODS), dict(PATHS)
    try:
        names: dict[str, object] = {"__name__": "mine"}
        for code in blocks(page):
            exec(compile(code, str(page), "exec"), names)
        printed = capsys.readouterr().out.strip()
        assert f"# {printed}\n" in page.read_text(encoding="utf-8")
        row = METHODS["interpolant"]
        assert method_from_json(json.loads(json.dumps(method_to_json(row)))) == row
        assert "interpolant" in [line[0] for line in method_table().rows]
        train_command(Options(*pairs, recipe="tiny:recipe", method="interpolant", out=tmp_path / "run", steps=2))
        assert load(str(tmp_path / "run" / "model")).spec.method.path == row.path
    finally:
        METHODS.clear()
        METHODS.update(before)
        PATHS.clear()
        PATHS.update(paths)


def test_a_made_up_row_needs_nothing_registered() -> None:
    """From three lambdas: a path that bends, its target and its gain; the loss of the truth is zero."""
    from rddm.path import CurvePath

    row: Method = replace(METHODS["indi"], name="mine", path=CurvePath(lambda t: t**2, lambda t: 0.3 * t))
    x_in = torch.full((2000, 1), -0.5, dtype=F64)
    out = sample(ORACLE_1, x_in, row.path.grid(100), Ancestral(row.gain), gaussian(torch.Generator().manual_seed(0)))
    assert float(out.mean()) == pytest.approx(0.5, abs=0.03)
    x_0 = torch.randn(2, 1, 4, 4)
    seen = compare(NetworkDenoiser(Constant(1), row), x_0, x_0 / 2, torch.ones(2), gaussian())
    assert torch.equal(seen.truth[0], x_0) and isinstance(seen.node, Node)


ORACLE_1 = type(ORACLE)(torch.tensor([0.5], dtype=F64), torch.tensor([0.04], dtype=F64))
