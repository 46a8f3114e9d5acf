"""Stochastic solvers on the exact oracle: their steps are affine there, so mean and variance are carried exactly."""

import math
from functools import cache
from itertools import count

import pytest
import torch
from gaussian import DEGRADED, F64, MEAN, ORACLE, VAR, fine, inner_nodes

from rddm import arguments as cli
from rddm.langevin import Hold, PredictorCorrector, annealed_langevin, by_level, by_norms, langevin
from rddm.path import CurvePath, LinearPath, Node, Path, gaussian
from rddm.sample import residual_first, sample
from rddm.schedules import DDPMPath, PowerPath, ResShiftPath
from rddm.solvers import FLOWS, SOLVERS, Heun, Move, Solver
from rddm.solvers_sde import (
    HybridHeun,
    MeanODE,
    ReverseSDE,
    StochasticHeun,
    balanced,
    bridge,
    chord,
    karras,
    markov,
    ornstein_uhlenbeck,
    tangent,
)
from rddm.transition import Inadmissible
from rddm.walk import calls_of

BRIDGE = CurvePath(torch.clone, lambda t: (t * (1 - t)).clamp_min(0).sqrt())  # a Brownian bridge, BBDM's
VP = CurvePath(lambda t: 1 - vp(t), lambda t: (1 - vp(t) ** 2).sqrt())
VE = CurvePath(torch.zeros_like, lambda t: 3 * t)
OU = CurvePath(lambda t: 1 - torch.exp(-5.3 * t), lambda t: 0.2 * (1 - torch.exp(-10.6 * t)).sqrt())  # IR-SDE's
PATHS = {
    "rddm": fine(PowerPath()),
    "ddpm": fine(DDPMPath()),
    "resshift": fine(ResShiftPath()),
    "flow": LinearPath(1.0),
    "vp": VP,
    "ve": VE,
    "ir-sde": OU,
    "bridge": BRIDGE,
}
ROUND_OFF = 1e-12


def vp(t: torch.Tensor) -> torch.Tensor:
    """Return the scale of score-SDE's VP, ``exp(-int beta / 2)`` with beta from 0.1 to 20."""
    return torch.exp(-(t**2) * 19.9 / 4 - 0.05 * t)


def stepped(
    solver: Solver, x: torch.Tensor, z: float, x_in: torch.Tensor, now: Node, then: Node, only: int | None = None
) -> torch.Tensor:
    """Return one step from ``x`` with noise that is ``z`` everywhere, in one of its draws alone if told which."""
    draws = count()
    noise = lambda like: torch.full_like(like, z if only in (None, next(draws)) else 0.0)  # noqa: E731
    return solver.step(Move(x, ORACLE(x, x_in, now), now, then, lambda y, n: ORACLE(y, x_in, n), noise))[0]


def carried(solver: Solver, nodes: list[Node], x_in: torch.Tensor, draws: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and spread at the last node, from the exact ones at the first, of a solver with so many draws."""
    mean, spread = ORACLE.marginal(x_in, nodes[0])
    for now, then in zip(nodes, nodes[1:]):
        centre = stepped(solver, mean, 0.0, x_in, now, then)
        gain = stepped(solver, mean + 1, 0.0, x_in, now, then) - centre
        fresh = [stepped(solver, mean, 1.0, x_in, now, then, i) - centre for i in range(draws)]
        mean, spread = centre, (gain**2 * spread**2 + sum(f**2 for f in fresh)).sqrt()
    return mean, spread


def error(solver: Solver, path: Path, steps: int, draws: int = 1) -> float:
    """Return how far mean and spread are from those of the path."""
    nodes = inner_nodes(path, steps)
    found, exact = carried(solver, nodes, DEGRADED, draws), ORACLE.marginal(DEGRADED, nodes[-1])
    return max(float((a - b).abs().max()) for a, b in zip(found, exact))


def order(solver: Solver, path: Path, steps: int = 128) -> float:
    return math.log2(error(solver, path, steps) / error(solver, path, 2 * steps))


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("solver", ["sde", "churn", "hybrid"])
def test_weak_order(solver: str, name: str) -> None:
    """Measured: sde 0.995 to 1.026, hybrid 0.997 to 1.047, churn 1.98 to 2.02."""
    assert order(SOLVERS[solver], PATHS[name]) == pytest.approx(SOLVERS[solver].order, abs=0.1)


@pytest.mark.parametrize("name", ["vp", "ve", "ir-sde", "bridge"])
def test_weak_order_with_the_forward_process_own_noise(name: str) -> None:
    """Measured on 64 -> 128 steps: 0.95 to 1.11, with differences of nodes and with derivatives."""
    by_tangent = cache(tangent(PATHS[name]))
    for solver in (ReverseSDE(markov), ReverseSDE(markov, by_tangent)):
        assert order(solver, PATHS[name], 64) == pytest.approx(1, abs=0.2)


def test_weak_order_of_other_ways_to_differentiate() -> None:
    """Measured 0.999 and 0.978."""
    for solver, path in ((ReverseSDE(bridge), BRIDGE), (ReverseSDE(markov, ornstein_uhlenbeck), OU)):
        assert order(solver, path) == pytest.approx(1, abs=0.1)


def beta(t: float) -> float:
    """Return the rate of VP and sub-VP."""
    return 0.1 + t * 19.9


SUB_VP = CurvePath(VP.abar, lambda t: 1 - vp(t) ** 2)
SCORE_SDES = {
    "vp": (VP, lambda t: -beta(t) / 2, beta),
    "sub-vp": (SUB_VP, lambda t: -beta(t) / 2, lambda t: beta(t) * (1 - math.exp(-2 * (19.9 / 2 * t**2 + 0.1 * t)))),
    "ve": (VE, lambda t: 0.0, lambda t: 18 * t),
}


@pytest.mark.parametrize("name", SCORE_SDES)
def test_score_sdes_are_the_published_reverse_sdes(name: str) -> None:
    """``x - (f x - g^2 score) dt + g sqrt(dt) z`` with f and g of Song et al. 2021, Eq. 6 and appendix B."""
    path, f, g2 = SCORE_SDES[name]
    x, z, t, dt = torch.randn(5, 3, dtype=F64, generator=torch.Generator().manual_seed(0)), 0.7, 0.6, 0.01
    zero, now = torch.zeros(5, 3, dtype=F64), path.node(t)
    score = -ORACLE(x, zero, now).eps / now.bbar
    expected = x - (f(t) * x - g2(t) * score) * dt + math.sqrt(g2(t) * dt) * z
    for slopes, tolerance in ((tangent(path), ROUND_OFF), (chord, 0.03)):  # measured 3e-16, 0.007
        found = stepped(ReverseSDE(markov, slopes), x, z, zero, now, path.node(t - dt))
        assert (found - expected).abs().max() < tolerance


def test_ir_sde_is_the_published_reverse_sde_on_its_table() -> None:
    """``x - (theta (mu - x) - sigma^2 score) dt + sigma sqrt(dt) z`` with golden theta dt and thbar, methods 2.4."""
    x, z, lam = torch.randn(5, 3, dtype=F64, generator=torch.Generator().manual_seed(0)), 0.7, 10 / 255
    theta_dt, thbar = 0.506156 * 0.1040938, 1.019372  # at t = 50 of 100

    def node(rho: float) -> Node:
        return Node(1 - math.exp(-rho), lam * math.sqrt(1 - math.exp(-2 * rho)))

    now, then = node(thbar), node(thbar - theta_dt)
    assert now[:2] == pytest.approx((1 - 0.360822, 0.036574), abs=1e-6)  # the golden values themselves
    score, sigma2_dt = -ORACLE(x, DEGRADED, now).eps / now.bbar, 2 * lam**2 * theta_dt
    expected = x - (theta_dt * (DEGRADED - x) - sigma2_dt * score) + math.sqrt(sigma2_dt) * z
    found = stepped(ReverseSDE(markov, ornstein_uhlenbeck), x, z, DEGRADED, now, then)
    assert (found - expected).abs().max() < ROUND_OFF


def goub(theta: float, lam: float) -> CurvePath:
    """Return GOUB's path for a constant theta (methods 1.17)."""

    def spread2(rho: torch.Tensor | float) -> torch.Tensor:
        return lam**2 * (1 - torch.exp(-2 * torch.as_tensor(rho, dtype=F64)))

    def clean(t: torch.Tensor) -> torch.Tensor:
        return torch.exp(-theta * t) * spread2(theta * (1 - t)) / spread2(theta)

    def noise(t: torch.Tensor) -> torch.Tensor:
        return (spread2(theta * t) * spread2(theta * (1 - t)) / spread2(theta)).sqrt()

    return CurvePath(lambda t: 1 - clean(t), noise)


@pytest.mark.parametrize("solver", [ReverseSDE, MeanODE])
def test_goub_is_the_published_reverse_sde_and_its_mean(solver: type[ReverseSDE] | type[MeanODE]) -> None:
    """The drift of an OU process with Doob's term; mean-ODE drops the noise and keeps the whole score."""
    theta, lam, t, dt = 5.3, 30 / 255, 0.6, 0.01
    path, z = goub(theta, lam), 0.7
    x, now = torch.randn(5, 3, dtype=F64, generator=torch.Generator().manual_seed(0)), path.node(t)
    score, sigma2 = -ORACLE(x, DEGRADED, now).eps / now.bbar, 2 * lam**2 * theta
    rest = math.exp(-2 * theta * (1 - t))
    doob = sigma2 * rest / (lam**2 * (1 - rest))
    drift = theta * (DEGRADED - x) - doob * (x - DEGRADED) - sigma2 * score
    expected = x - drift * dt + (math.sqrt(sigma2 * dt) * z if solver is ReverseSDE else 0.0)
    found = stepped(solver(markov, tangent(path)), x, z, DEGRADED, now, path.node(t - dt))
    assert (found - expected).abs().max() < ROUND_OFF


def test_hybrid_draws_the_noise_of_ddbm() -> None:
    """VE bridge, methods 1.16: the stochastic part is ``-2 t (x_0 - x) / t^2`` with noise of variance ``2 t |dt|``."""
    end, t, dt, z = 80.0, 40.0, 1.0, 0.7
    path = CurvePath(lambda u: u**2, lambda u: end * u * (1 - u**2).sqrt())
    now, then = path.node(t / end), path.node((t - dt) / end)
    assert (now.abar, now.bbar) == pytest.approx((0.25, 34.641016), abs=1e-6)  # golden, methods 2.8
    x = 40 * torch.randn(5, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    x_0 = ORACLE(x, DEGRADED, now).x_0
    expected = x + 2 * t * (x_0 - x) / t**2 * dt + math.sqrt(2 * t * dt) * z
    sde = ReverseSDE(markov, tangent(path))
    assert (stepped(sde, x, z, DEGRADED, now, then) - expected).abs().max() < 1e-10  # of 100
    middle = path.node((t - 0.33 * dt) / end)
    by_hand = Heun().step(
        Move(y := stepped(sde, x, z, DEGRADED, now, middle), ORACLE(y, DEGRADED, middle), middle, then,
             lambda v, n: ORACLE(v, DEGRADED, n), gaussian())
    )[0]  # fmt: skip
    found = stepped(HybridHeun(0.33, sde, path), x, z, DEGRADED, now, then)
    assert (found - by_hand).abs().max() < 1e-10


def test_churn_is_algorithm_2_of_edm() -> None:
    """From t-hat to t-hat: d = (x - D) / t-hat, Euler to t_i, the mean of both slopes, noise back up."""
    gamma, inflation, hats = 0.2, 1.003, (2.4, 1.5)
    low, zero, z = hats[1] / (1 + gamma), torch.zeros(5, 3, dtype=F64), 0.7
    x = torch.randn(5, 3, dtype=F64, generator=torch.Generator().manual_seed(0))

    def slope(y: torch.Tensor, level: float) -> torch.Tensor:
        return (y - ORACLE(y, zero, Node(0.0, level)).x_0) / level

    euler = x + (low - hats[0]) * slope(x, hats[0])
    expected = x + (low - hats[0]) * (slope(x, hats[0]) + slope(euler, low)) / 2
    expected = expected + math.sqrt(hats[1] ** 2 - low**2) * inflation * z
    nodes = [Node(0.0, level, level / 3) for level in hats]
    for path in (None, VE):
        found = stepped(StochasticHeun(karras(gamma), inflation, path), x, z, zero, nodes[0], nodes[1])
        assert (found - expected).abs().max() < ROUND_OFF
    still = stepped(StochasticHeun(karras(gamma, high=1.2)), x, z, zero, nodes[0], nodes[1])  # 1.25 is above S_max
    assert torch.equal(still, stepped(Heun(), x, z, zero, nodes[0], nodes[1]))


def test_mean_ode_gathers_at_the_mean() -> None:
    """On VE with ``G = -d(bbar^2)`` a deviation shrinks with the square of the spread where the flow's does with it."""
    errors = []
    for steps in (128, 256):
        nodes = inner_nodes(VE, steps)
        (mean, spread), (centre, spread_s) = (ORACLE.marginal(DEGRADED, n) for n in (nodes[0], nodes[-1]))
        x = mean + spread
        for now, then in zip(nodes, nodes[1:]):
            x = stepped(SOLVERS["mean-ode"], x, 1.0, DEGRADED, now, then)
        errors.append(float((x - centre - spread * (spread_s / spread) ** 2).abs().max()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.2)
    assert errors[1] < 0.01


def test_a_bridge_starts_where_it_has_no_noise() -> None:
    """From (1, 0) the first step is exact; the rule ``markov`` is not defined there and says what is."""
    now, then = BRIDGE.node(1.0), BRIDGE.node(0.9)
    for diffusion in (balanced, bridge):
        found = stepped(ReverseSDE(diffusion), DEGRADED, 1.0, DEGRADED, now, then)
        exact = DEGRADED - 0.1 * (DEGRADED - MEAN) + then.bbar
        assert (found - exact).abs().max() < ROUND_OFF
    for wrong, says in (
        (ReverseSDE(markov), "not defined"),
        (ReverseSDE(balanced, tangent(BRIDGE)), "no derivative"),
        (ReverseSDE(balanced, ornstein_uhlenbeck), "needs 0 < abar < 1"),
    ):
        with pytest.raises(Inadmissible, match=says):
            stepped(wrong, DEGRADED, 1.0, DEGRADED, now, then)
    with pytest.raises(Inadmissible, match="not of one such process"):
        ornstein_uhlenbeck(BRIDGE.node(0.6), BRIDGE.node(0.5))
    with pytest.raises(Inadmissible, match="less noise than none"):
        stepped(ReverseSDE(bridge), DEGRADED, 1.0, DEGRADED, PowerPath().node(0.5), PowerPath().node(0.4))


@pytest.mark.parametrize("steps", [1, 400])
def test_langevin_has_the_bias_of_its_step(steps: int) -> None:
    """The variance tends to ``V / (1 - e / (2 V))`` with ``e = 2 (snr bbar)^2``, and from the exact one it starts."""
    node, snr = Node(0.3, 0.8, 0.5), 0.16
    centre, spread = ORACLE.marginal(DEGRADED, node)
    e = 2 * (snr * node.bbar) ** 2
    ask = lambda y, n: ORACLE(y, DEGRADED, n)  # noqa: E731
    variance = spread**2
    for _ in range(steps):
        step = [
            langevin(centre + d, node, ask, lambda like, z=z: torch.full_like(like, z), snr, by_level)
            for d, z in ((0, 0.0), (1, 0.0), (0, 1.0))
        ]
        variance = (step[1] - step[0]) ** 2 * variance + (step[2] - step[0]) ** 2
    limit = spread**2 / (1 - e / (2 * spread**2))
    keep = 1 - e / spread**2
    expected = limit + keep ** (2 * steps) * (spread**2 - limit)
    assert (variance - expected).abs().max() < ROUND_OFF


def test_a_step_by_norms_asks_each_image_for_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    eps, z = torch.randn(2, 4, 3, 8, 8, dtype=F64, generator=generator)
    node = Node(0.3, 0.8, 0.5)
    size = by_norms(eps, z, node, 0.16)
    score = -eps / 0.8
    for i in range(4):
        assert float(size[i]) == pytest.approx(2 * (0.16 * float(z[i].norm() / score[i].norm())) ** 2, rel=1e-12)
        assert torch.equal(by_norms(eps[i : i + 1], z[i : i + 1], node, 0.16)[0], size[i])
    assert float(by_norms(0 * eps, z, node, 0.16).abs().max()) == 0


def test_a_corrector_mends_what_the_predictor_left() -> None:
    """32 steps on VE: the worst spread is off by 0.030 without, 0.026 with one Langevin step, 0.020 with four."""
    errors = [error(ReverseSDE(), VE, 32)]
    errors += [error(PredictorCorrector(ReverseSDE(), 0.16, n, by_level), VE, 32, 1 + n) for n in (1, 4)]
    assert errors[2] < errors[1] < errors[0]
    uncorrected = PredictorCorrector(Heun(), steps=0)
    assert uncorrected.order == 2 and error(uncorrected, VE, 32) == error(Heun(), VE, 32)


def test_annealed_langevin_has_no_predictor() -> None:
    """The noise level falls, the corrector follows; its bias is that of its step, its lag that of its pace."""
    errors = [error(annealed_langevin(0.1, steps), VE, 50, steps) for steps in (1, 4, 16)]
    assert errors[2] < errors[1] / 2 < errors[0] / 4  # measured 0.19, 0.59, 1.44
    x = torch.ones(1, 3, dtype=F64)
    assert torch.equal(stepped(Hold(), x, 1.0, DEGRADED, VE.node(0.5), VE.node(0.4)), x)


def test_calls_are_counted() -> None:
    nodes = PowerPath().grid(4)
    found = {name: calls_of(nodes, solver) for name, solver in SOLVERS.items() if name not in FLOWS}
    assert found == {"sde": 4, "mean-ode": 4, "pc": 7, "churn": 7, "hybrid": 10}
    assert calls_of(nodes, PredictorCorrector(steps=3)) == 13


def test_the_command_line_knows_every_solver() -> None:
    assert cli.SOLVERS == tuple(SOLVERS)


@pytest.mark.parametrize("solver", ["sde", "pc", "churn", "hybrid"])
def test_every_trajectory_is_walked_to_the_right_distribution(solver: str) -> None:
    """From abar = 1, joint and round a corner, and from a bridge's end, where churn, a flow, has nothing to spread."""
    x_in, bridges = DEGRADED.expand(1024, 3), BRIDGE.grid(100)
    for nodes in (residual_first(PowerPath(), 100), PowerPath().grid(100), bridges):
        found = sample(ORACLE, x_in, nodes, SOLVERS[solver], gaussian(torch.Generator().manual_seed(0)))
        assert ((found.mean(0) - MEAN).abs() < 0.12).all()  # measured 0.03; its own deviation is 0.03
        ratio = found.std(0) / VAR.sqrt()
        if nodes is not bridges or solver != "churn":
            assert ((ratio > 0.8) & (ratio < 1.2)).all()  # measured 0.88 to 1.03


@pytest.mark.parametrize("solver", [s for s in SOLVERS if s not in FLOWS])
def test_without_noise_there_is_none(solver: str) -> None:
    found = sample(ORACLE, DEGRADED, LinearPath().grid(8), SOLVERS[solver])
    assert (found - MEAN).abs().max() < ROUND_OFF
