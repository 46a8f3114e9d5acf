"""AOSA: the authors' recorded runs, lambda's gradient, both outcomes, and what it says when it cannot decide."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from published_rules import OBJECTIVES, Arrays, largest, popped, row, table_path
from torch import Tensor, nn

from rddm.aosa import RULES, Choice, Undecided, blended, certainty, choose, specified, target_of, told_apart, wins
from rddm.denoiser import NetworkDenoiser
from rddm.loss import Batch, Distance, draw_times, losses
from rddm.methods import METHODS
from rddm.nn.compact import Compact, CompactConfig
from rddm.nn.unet import UNet
from rddm.path import mix
from rddm.prediction import EPS, EPS_FLOORED, RES
from rddm.published import infer_config, rename
from rddm.schedules import DDPMPath

ROOT = Path(__file__).resolve().parents[1]
METHOD = METHODS["rddm-res"]
RUNS = {"train/exp3_aosa_log_a.safetensors": 2e-3, "train/exp3_aosa_log_b.safetensors": 5e-3}  # learning rates


def read_run(golden: Path, arrays: Arrays) -> tuple[UNet, list[Batch]]:
    """Return the network at the start of a recorded run, and its batches."""
    weights = {key.removeprefix("unet0."): value for key, value in arrays.below("init").items()}
    net = UNet(infer_config(rename(weights)))
    net.load_state_dict(rename(weights))
    drawn = zip(*(arrays[f"log/{key}"] for key in ("gt", "inp", "t", "noise")), strict=True)
    return net, [Batch(x_0, x_in, (t.double() + 1) / 1000, eps, {}) for x_0, x_in, t, eps in drawn]


@pytest.mark.parametrize("file", RUNS)
def test_golden_runs_are_replayed(golden: Path, file: str) -> None:
    """Two runs of the authors' trainer, from their first weights: lambda, losses, decision, and what follows it."""
    arrays = Arrays(golden / file)
    tables = Arrays(golden / "schedules/exp0_ddim_converted.safetensors").below("ddim_linear/ctor/T1000")
    method = row(OBJECTIVES["pred_res"], table_path(tables), ("x_in",))
    net, batches = read_run(golden, arrays)
    choice = choose(net, method, batches, specified(F.l1_loss, RUNS[file]))
    seen = len(choice.trace)
    assert choice.target is RES and 2 * choice.decided == seen == int((arrays["log/alpha"] < 0.51).sum())
    assert choice.share == pytest.approx(arrays["final_alpha_res"].item(), abs=1e-7)  # measured: 0, bit for bit
    trace = torch.tensor(choice.trace, dtype=torch.float64)
    assert largest(trace[:, :1], arrays["log/alpha"][:seen]) < 1e-7  # measured: 0
    assert largest(trace[:, 1:], arrays["log/loss"][:seen]) < 3e-6  # measured: 3.0e-7
    denoiser = NetworkDenoiser(net, method)
    for batch, loss in zip(batches[seen:], arrays["log/loss"][seen:], strict=True):  # decided: the residual alone
        found = losses(denoiser, batch.x_0, batch.x_in, batch.t, popped(batch.eps), F.l1_loss)
        assert largest(found, loss[:1]) < 3e-6 and loss[1] == 0  # measured: 3.0e-8
    assert not arrays.unused()


class Answer(nn.Module):
    """A network that answers with its parameter."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = nn.Parameter(answer)

    def forward(self, x: Tensor, clock: Tensor) -> tuple[Tensor, ...]:
        return (self.answer,)


def midway() -> tuple[NetworkDenoiser, Batch]:
    """Return an answer close to the noise, so that nothing is clipped, and its batch, in float64."""
    generator = torch.Generator().manual_seed(1)
    x_0, x_in, eps, off = torch.randn(4, 2, 3, 5, 5, generator=generator, dtype=torch.float64)
    batch = Batch(0.2 * x_0, 0.2 * x_in, torch.tensor([0.3, 0.6], dtype=torch.float64), eps, {})
    return NetworkDenoiser(Answer(eps + 0.05 * off), METHOD), batch


@pytest.mark.parametrize("distance", [F.l1_loss, F.mse_loss])
def test_lambdas_gradient_is_the_slope(distance: Distance) -> None:
    denoiser, batch = midway()

    def total(share: Tensor) -> Tensor:
        res, eps = blended(denoiser, batch, share, distance)
        return share * res + (1 - share) * eps

    share, step = torch.tensor(0.503, dtype=torch.float64, requires_grad=True), 1e-6
    (slope,) = torch.autograd.grad(total(share), share)
    expected = (total(share.detach() + step) - total(share.detach() - step)) / (2 * step)
    assert slope.item() == pytest.approx(expected.item(), rel=1e-9)  # measured: 5.8e-11


def test_both_losses_are_one_error_under_two_weights() -> None:
    """``eps^ - eps = w (res^ - res)``, and lambda's gradient in closed form, for the squared error."""
    denoiser, batch = midway()
    share = torch.tensor(0.497, dtype=torch.float64, requires_grad=True)
    node, res = METHOD.path.at(batch.t, batch.x_0), batch.x_in - batch.x_0
    w, out = (1 - node.abar) / node.bbar, denoiser.net.answer.detach()
    u = mix(batch.x_0, res, batch.eps, node) - batch.x_in
    reading = (node.bbar * out - u) / (1 - node.abar)
    error = share.detach() * out + (1 - share.detach()) * reading - res
    found = blended(denoiser, batch, share, F.mse_loss)
    expected = torch.stack([error.square().mean(), (w * error).square().mean()])
    assert largest(found, expected) < 1e-12  # measured: 0
    (slope,) = torch.autograd.grad(share * found[0] + (1 - share) * found[1], share)
    weights = share.detach() + (1 - share.detach()) * w**2
    terms = (1 - w**2) * error**2 + 2 * weights * error * (out - reading)
    assert slope.item() == pytest.approx(terms.mean().item(), rel=1e-10)  # measured: 4.4e-16


def test_wins() -> None:
    images = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    assert wins(3 * images + 1, images) == 1
    assert wins(torch.zeros_like(images), images) == 0.5
    assert wins(images[:1].expand(5, -1, -1, -1), images) == pytest.approx(0.5)
    assert wins(-images, images) == 0


def test_wins_leaves_out_each_channels_mean_whatever_the_dimensions() -> None:
    generator = torch.Generator().manual_seed(3)
    signals = torch.randn(5, 2, 16, generator=generator)
    shifts = 100 * torch.randn(5, 2, 1, generator=generator)
    assert wins(signals + shifts, signals) == 1  # channels leave zero each by itself
    flicker = torch.randn(5, 1, 6, 1, 1, generator=generator).expand(-1, -1, -1, 4, 4)
    assert wins(flicker + 7, flicker) == 1  # a video's frames may differ in their mean alone


def pairs(x_in: str, size: int = 4, seed: int = 0) -> Iterator[Batch]:
    """Yield batches of smooth random images of 8x8 and inputs that tell everything, or nothing."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        x_0 = 2 * F.interpolate(torch.rand(size, 3, 4, 4, generator=generator), scale_factor=2.0, mode="bilinear") - 1
        inputs = {"noisy": x_0 + 0.3 * torch.randn(x_0.shape, generator=generator), "negative": -x_0, "none": 0 * x_0}
        eps = torch.randn(x_0.shape, generator=generator)
        yield Batch(x_0, inputs[x_in], draw_times(METHOD.path, size, generator), eps, {})


def tiny(seed: int = 0) -> Compact:
    torch.manual_seed(seed)
    return Compact(CompactConfig(widths=(16, 16), blocks=(1, 1), features=32))


def decide(x_in: str, seed: int = 0) -> Choice:
    return choose(tiny(seed), METHOD, pairs(x_in, seed=seed), replace(certainty(3e-3), share_lr=1e-4))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("x_in", "target"), [("noisy", RES), ("negative", RES), ("none", EPS_FLOORED)])
def test_residuals_where_the_input_tells_noise_where_it_does_not(x_in: str, target: object, seed: int) -> None:
    """The negative wins no comparison itself: the network has to learn what it tells."""
    choice = decide(x_in, seed)
    assert choice.target is target
    assert 100 <= choice.decided < 300  # measured: 100 noisy, 179 to 188 negative, 119 to 129 none, of six seeds


def test_the_papers_rule_chooses_residuals_for_generation_too() -> None:
    """Why there is another one (docs/aosa.md)."""
    rule = replace(specified(F.l1_loss), share_lr=1e-3)
    assert all(choose(tiny(), METHOD, pairs(x_in, 2), rule).target is RES for x_in in ("noisy", "none"))


def test_noise_needs_a_floor_only_where_the_path_ends_at_the_input() -> None:
    assert target_of(METHOD, 0.49) is EPS_FLOORED
    assert target_of(replace(METHOD, path=DDPMPath()), 0.49) is EPS
    assert target_of(METHOD, 0.51) is RES


def test_a_choice_is_deterministic_and_recorded() -> None:
    first, second = decide("noisy"), decide("noisy")
    assert first == second
    record = json.loads(json.dumps(first.record()))
    assert record["target"] == "res" and record["decided"] == first.decided == len(record["trace"])
    assert record["trace"][0][0] == 0.5


def test_global_randomness_is_left_alone() -> None:
    net, before = tiny(), torch.get_rng_state()
    choose(net, METHOD, pairs("noisy"), replace(certainty(), share_lr=5e-3))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", RULES)
def test_undecided_is_an_error_that_says_why(name: str) -> None:
    rule = RULES[name](F.l1_loss)
    with pytest.raises(Undecided, match=r"lambda is 0\.\d+ after 5 updates, expected 0\.01 from 0\.5"):
        choose(tiny(), METHOD, pairs("noisy"), rule, limit=5)
    with pytest.raises(Undecided, match="after 3 updates"):
        choose(tiny(), METHOD, islice(pairs("noisy"), 3 * rule.accumulate), rule)


def test_one_image_cannot_be_told_from_others() -> None:
    with pytest.raises(ValueError, match="batch of 1 image, expected at least 2"):
        told_apart(NetworkDenoiser(tiny(), METHOD), next(pairs("noisy", 1)), torch.tensor(0.5))


@pytest.mark.parametrize("name", RULES)
def test_two_outputs_need_no_choice(name: str) -> None:
    net = Compact(CompactConfig(heads=2, widths=(16, 16), blocks=(1, 1), features=32))
    with pytest.raises(ValueError, match="found a network of 2 outputs, expected 1"):
        choose(net, METHOD, pairs("noisy"), RULES[name](F.l1_loss))


def test_the_experiment_runs(tmp_path: Path) -> None:
    command = [sys.executable, "experiments/aosa.py", "--smoke", "--seeds", "1", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert len(done.stdout.splitlines()) == 12
    results = json.loads((tmp_path / "aosa.json").read_text(encoding="utf-8"))
    assert all(run["right"] for rules in results.values() for run in rules["certainty"])
