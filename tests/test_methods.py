"""The table: each row's ends, its network, its training and sampling, with the same code for all."""

import pytest
import torch
from gaussian import F64, MEAN, ORACLE, VAR, origin

from rddm.denoiser import NetworkDenoiser
from rddm.loss import draw_times, losses
from rddm.methods import METHODS
from rddm.nn.compact import Compact, CompactConfig
from rddm.path import CLEAN, CurvePath, Node, TabulatedPath, gaussian, mix
from rddm.sample import climbs, iterate, sample
from rddm.schedules import PowerPath, TablePath, ddpm_betas, power_weights
from rddm.solvers import Ancestral

ALL = pytest.mark.parametrize("name", METHODS)


@ALL
def test_paths_go_from_clean_to_degraded(name: str) -> None:
    row = METHODS[name]
    assert row.path.node(0.0)[:2] == CLEAN[:2]
    grid = row.path.grid(row.steps)
    assert grid[-1] == CLEAN and len(grid) == row.steps + 1
    assert 0.9999 <= grid[0].t <= 1.0
    assert 1 - grid[0].abar < max(0.03, 0.013 * grid[0].bbar)  # at the start x_0 is gone, or drowns in noise
    assert not any(climbs(a, b) for a, b in zip(grid, grid[1:]))


@ALL
def test_default_step_is_admissible_on_the_default_grid(name: str) -> None:
    row = METHODS[name]
    for now, then in zip(row.path.grid(row.steps), row.path.grid(row.steps)[1:]):
        assert 0 <= row.gain(now, then) * now.bbar <= then.bbar * (1 + 1e-9)


@ALL
def test_default_sampler_arrives_on_the_oracle(name: str) -> None:
    row, x_in = METHODS[name], origin(name).expand(4000, 3)
    generator = torch.Generator().manual_seed(0)
    steps = min(400, row.path.length) if isinstance(row.path, TabulatedPath) else 400
    x_start = None
    if not row.path.grid(1)[0].bbar:  # without noise the state at t = 1 is x_in and holds no trace of x_0
        x_0 = MEAN + VAR.sqrt() * torch.randn(4000, 3, dtype=F64, generator=generator)
        nodes = [row.path.node(0.99 * (1 - i / 20)) for i in range(20)] + [CLEAN]
        out = sample(
            ORACLE, x_in, nodes, Ancestral(row.gain, row.anchor), x_start=mix(x_0, x_in - x_0, 0 * x_0, nodes[0])
        )
        assert (out - x_0).abs().max() < 1e-9
        return
    out = sample(ORACLE, x_in, row.path.grid(steps), Ancestral(row.gain, row.anchor), gaussian(generator), x_start)
    assert (out.mean(0) - MEAN).abs().max() < 0.08


@ALL
def test_rows_train_and_sample_with_the_same_code(name: str) -> None:
    row = METHODS[name]
    channels = 3 * (1 + len(row.inputs))
    net = Compact(CompactConfig(in_channels=channels, heads=row.target.heads, widths=(8, 16), blocks=(1, 1)))
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.rand(2, 3, 16, 12, generator=generator) * 2 - 1
    x_in = torch.zeros_like(x_0) if row.origin == "zero" else x_0 / 2
    denoiser = NetworkDenoiser(net, row, {"degraded": x_0 / 2})
    t = draw_times(row.path, 2, generator)
    found = losses(denoiser, x_0, x_in, t, gaussian(generator), torch.nn.functional.mse_loss)
    assert found.shape == (row.target.heads,)
    found.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    with torch.inference_mode():
        solver = Ancestral(row.gain, row.anchor)
        run = lambda: sample(denoiser, x_in, row.path.grid(3), solver, gaussian(torch.Generator().manual_seed(1)))  # noqa: E731
        assert torch.equal(run(), run()) and torch.isfinite(run()).all()


def test_iterate_is_sample_step_by_step() -> None:
    row, x_in = METHODS["rddm-res"], origin("rddm").expand(5, 3)
    states = list(iterate(ORACLE, x_in, row.path.grid(4), noise=gaussian(torch.Generator().manual_seed(0))))
    whole = sample(ORACLE, x_in, row.path.grid(4), noise=gaussian(torch.Generator().manual_seed(0)))
    assert [s.step for s in states] == [1, 2, 3, 4] and states[0].steps == 4
    assert torch.equal(states[-1].x_t, whole) and states[-1].node == CLEAN
    with pytest.raises(ValueError, match="clean image"):
        sample(ORACLE, x_in, row.path.grid(4)[:-1])


def test_published_times() -> None:
    indices = lambda n: [round(node.t * 1000) - 1 for node in PowerPath().grid(n)]  # noqa: E731
    assert indices(2) == [999, 499, -1]
    assert indices(5) == [999, 799, 599, 399, 199, -1]
    with pytest.raises(ValueError, match="1 to 1000"):
        PowerPath().grid(1001)


def test_tables_interpolate_through_their_nodes() -> None:
    path = PowerPath(steps=20, noise=0.01)
    for i in range(-1, 20):
        exact, found = path.index(i), path.node((i + 1) / 20)
        assert found.abar == pytest.approx(exact.abar, abs=1e-14) and found.bbar == pytest.approx(exact.bbar, abs=1e-14)
    assert path.index(19)[:2] == (1.0, 0.1)
    between = path.node(10.5 / 20)
    assert between.abar == pytest.approx((path.index(9).abar + path.index(10).abar) / 2, abs=1e-14)


def test_rate_is_the_derivative() -> None:
    path = CurvePath(lambda t: t**2, lambda t: 0.5 * t)
    d_abar, d_bbar = path.rate(torch.tensor([0.25, 0.5], dtype=F64))
    assert torch.allclose(d_abar, torch.tensor([0.5, 1.0], dtype=F64)) and torch.allclose(
        d_bbar, torch.tensor(0.5, dtype=F64)
    )


def test_draws_reach_every_time() -> None:
    generator = torch.Generator().manual_seed(0)
    t = draw_times(PowerPath(steps=5), 4000, generator)
    assert sorted({round(v * 5) for v in t.tolist()}) == [1, 2, 3, 4, 5]
    assert (draw_times(PowerPath(), 4000, generator, start_share=0.5) == 1).double().mean() == pytest.approx(
        0.5, abs=0.03
    )
    flat = draw_times(METHODS["flow"].path, 4000, generator)
    assert 0 < flat.min() and flat.max() <= 1


@pytest.mark.parametrize("broken", [lambda: power_weights("up", 1, 10), lambda: ddpm_betas("cosine"),  # type: ignore[arg-type]
                                    lambda: TablePath((0.1, 0.05), (0.1, 0.2)), lambda: TablePath((), ()),
                                    lambda: TablePath((0.5,), (0.1, 0.2))])  # fmt: skip
def test_unknown_schedules_raise(broken) -> None:  # noqa: ANN001
    with pytest.raises(ValueError, match="found|no schedule|must not"):
        broken()


def test_perturb_draws_the_marginal() -> None:
    path, t = PowerPath(noise=0.25), torch.full((20_000,), 0.6)
    x_0, x_in = torch.tensor([[0.5]]).expand(20_000, 1), torch.tensor([[-0.5]]).expand(20_000, 1)
    x_t, eps = path.perturb(x_0, x_in, t, gaussian(torch.Generator().manual_seed(0)))
    node = path.node(0.6)
    assert float(x_t.mean()) == pytest.approx(0.5 - node.abar, abs=0.01)
    assert float(x_t.std()) == pytest.approx(float(node.bbar), rel=0.02)
    assert torch.allclose(x_t, x_0 + node.abar * (x_in - x_0) + node.bbar * eps, atol=1e-6)


def test_conditions_reach_the_network() -> None:
    from dataclasses import replace

    row = replace(METHODS["rddm-res"], inputs=("x_in", "mask"))
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, x: torch.Tensor, clock: torch.Tensor) -> tuple[torch.Tensor]:
            seen.append((x.shape, clock))
            return (x[:, :3],)

    x = torch.zeros(2, 3, 4, 4)
    NetworkDenoiser(Spy(), row, {"mask": torch.ones(2, 1, 4, 4)})(x, x, Node(1.0, 1.0, 1.0))
    assert seen[0][0] == (2, 7, 4, 4) and seen[0][1].tolist() == [[999.0], [999.0]]
    with pytest.raises(KeyError, match="mask"):
        NetworkDenoiser(Spy(), row)(x, x, Node(1.0, 1.0, 1.0))
