"""Solvers of the probability flow have their theoretical order, on the exact oracle, on every row of the table."""

import math

import pytest
import torch
from gaussian import F64, ORACLE, fine, inner_nodes, origin

from rddm.methods import METHODS
from rddm.path import CLEAN, Node, gaussian
from rddm.sample import noise_first, residual_first, sample, staircase, with_jumps
from rddm.schedules import CrossedPath, DDPMPath, PowerPath
from rddm.solvers import FLOWS, SOLVERS, Ancestral, DPMSolver2M, Heun, Move, Solver
from rddm.solvers_sde import MeanODE, markov
from rddm.transition import anchor_x_t, residual

NOISY = [name for name, row in METHODS.items() if row.path.node(0.5).bbar > 0]
NOISELESS = [name for name in METHODS if name not in NOISY]


def walk(solver: Solver, nodes: list[Node], x_t: torch.Tensor, x_in: torch.Tensor) -> torch.Tensor:
    """Carry ``x_t`` along ``nodes``, which need not end at the clean image."""
    history = None
    for now, then in zip(nodes, nodes[1:]):
        prediction = ORACLE(x_t, x_in, now)
        move = Move(x_t, prediction, now, then, lambda x, n: ORACLE(x, x_in, n), gaussian(), history)
        x_t, history = solver.step(move)
    return x_t


def error(solver: Solver, name: str, steps: int) -> float:
    """Return the largest distance from the exact flow."""
    nodes, x_in = inner_nodes(fine(METHODS[name].path), steps), origin(name)
    x_t = torch.randn(256, 3, dtype=F64, generator=torch.Generator().manual_seed(0)) + x_in
    return float((walk(solver, nodes, x_t, x_in) - ORACLE.flow(x_t, x_in, nodes[0], nodes[-1])).abs().max())


@pytest.mark.parametrize("name", NOISY)
@pytest.mark.parametrize("solver", FLOWS)
def test_empirical_order(solver: str, name: str) -> None:
    """Measured on 256 -> 512 steps: first order 0.997 to 0.999, second order 1.90 to 2.03."""
    order = math.log2(error(FLOWS[solver], name, 256) / error(FLOWS[solver], name, 512))
    assert order == pytest.approx(FLOWS[solver].order, abs=0.2)


def test_corners_of_a_short_table_cost_a_multistep_solver_its_order() -> None:
    """AB2 extrapolates round the corners of Resfusion's five entries: why orders are measured on ``fine`` paths.

    Measured on 64, 128, 256, 512 steps: 1.23, 1.86, 1.73 across the corners, 1.98 to 2.00 between two of them.
    """
    path, x_in = METHODS["resfusion"].path, origin("resfusion")
    x_t = torch.randn(256, 3, dtype=F64, generator=torch.Generator().manual_seed(0)) + x_in

    def orders(high: float, low: float) -> list[float]:
        errors = []
        for steps in (64, 128, 256, 512):
            nodes = inner_nodes(path, steps, high, low)
            errors.append(walk(FLOWS["ab2"], nodes, x_t, x_in) - ORACLE.flow(x_t, x_in, nodes[0], nodes[-1]))
        return [math.log2(float(a.abs().max() / b.abs().max())) for a, b in zip(errors, errors[1:])]

    assert orders(0.79, 0.61) == pytest.approx([2, 2, 2], abs=0.05)  # corners are at 0.8 and 0.6
    assert min(orders(0.95, 0.05)) < 1.5


@pytest.mark.parametrize("t", [0.2, 0.5, 0.8])
def test_goub_s_mean_row_is_the_mean_of_the_markov_sde_and_not_the_solver_of_that_name(t: float) -> None:
    """The gain ``mean`` and ``MeanODE(markov)`` differ in second order, ``SOLVERS["mean-ode"]``, balanced, in first."""
    row = METHODS["goub-mean-ode"]
    path, x_in = fine(row.path), origin("goub-mean-ode")
    x_t = torch.randn(64, 3, dtype=F64, generator=torch.Generator().manual_seed(0))

    def order(solver: Solver) -> float:
        """Return the exponent with which one step's difference from the row's falls with the step."""
        apart = []
        for h in (1 / 256, 1 / 512):
            nodes = [path.node(t), path.node(t - h)]
            one, other = (walk(s, nodes, x_t, x_in) for s in (Ancestral(row.gain, row.anchor), solver))
            apart.append(float((one - other).abs().max()))
        return math.log2(apart[0] / apart[1])

    assert order(MeanODE(markov)) == pytest.approx(2, abs=0.05)  # measured 1.989 to 1.997
    assert order(SOLVERS["mean-ode"]) == pytest.approx(1, abs=0.15)  # measured 0.88 to 0.99


@pytest.mark.parametrize("name", NOISELESS)
@pytest.mark.parametrize("solver", [s for s in FLOWS if s != "dpm++"])
def test_paths_without_noise_are_exact(solver: str, name: str) -> None:
    """Without noise the oracle knows x_0 from any state, so no solver errs and there is no order to measure."""
    assert error(FLOWS[solver], name, 16) < 1e-12


@pytest.mark.parametrize("name", NOISELESS)
def test_dpm_solver_needs_noise(name: str) -> None:
    with pytest.raises(ValueError, match="needs noise"):
        error(DPMSolver2M(), name, 16)


@pytest.mark.parametrize("solver", FLOWS)
def test_starts_at_the_degraded_image(solver: str) -> None:
    """``abar_T = 1`` has a log-SNR of minus infinity: every solver starts there, and with many steps arrives."""
    path = METHODS["rddm"].path
    x_in = origin("rddm").expand(64, 3)
    x_t = x_in + torch.randn(64, 3, dtype=F64, generator=torch.Generator().manual_seed(1))
    out = sample(ORACLE, x_in, path.grid(500), FLOWS[solver], x_start=x_t)
    exact = ORACLE.flow(x_t, x_in, path.grid(1)[0], CLEAN)
    assert (out - exact).abs().max() < (0.015 if FLOWS[solver].order == 1 else 4e-4)  # measured 9.1e-3, 2e-4


def test_dpm_solver_beats_euler_in_few_steps() -> None:
    """What the change of variable is for: ten steps on RDDM's path."""
    assert error(DPMSolver2M(), "rddm", 10) < error(FLOWS["euler"], "rddm", 10) / 3


@pytest.mark.parametrize("anchored", [False, True])
def test_euler_is_the_deterministic_transition(anchored: bool) -> None:
    ancestral = Ancestral(anchor=anchor_x_t) if anchored else Ancestral()
    assert error(ancestral, "rddm", 32) == pytest.approx(error(FLOWS["euler"], "rddm", 32), rel=1e-9)


def test_decoupled_trajectories_reach_the_same_point() -> None:
    """The oracle is path independent (Green's theorem): residual first is as exact as joint, noise first far less."""
    path, x_in = METHODS["rddm"].path, origin("rddm")
    x_t = x_in + torch.randn(64, 3, dtype=F64, generator=torch.Generator().manual_seed(2))
    top, low = path.node(0.999), Node(0.02, 0.02)
    exact = ORACLE.flow(x_t, x_in, top, low)

    def leg(a: Node, b: Node, n: int = 400) -> list[Node]:
        return [Node(*(p + (q - p) * i / n for p, q in zip(a[:2], b[:2])), 1 - i / n) for i in range(n + 1)]

    errors = {}
    for name, corner in (("residual", Node(low.abar, top.bbar)), ("noise", Node(top.abar, low.bbar))):
        nodes = leg(top, corner) + leg(corner, low)[1:]
        errors[name] = float((walk(Heun(), nodes, x_t, x_in) - exact).abs().max())
    assert errors["residual"] < 4e-5  # measured 1.2e-5
    assert errors["noise"] < 0.015  # measured 4.2e-3


def test_multistep_history_restarts_at_the_corner() -> None:
    """AB2 must not extrapolate round a corner: on a decoupled trajectory it stays second order."""
    path, x_in = METHODS["rddm"].path, origin("rddm")
    x_t = x_in + torch.randn(64, 3, dtype=F64, generator=torch.Generator().manual_seed(3))
    exact = ORACLE.flow(x_t, x_in, path.grid(1)[0], CLEAN)
    for solver in ("ab2", "heun"):
        out = sample(ORACLE, x_in, residual_first(path, 250), FLOWS[solver], x_start=x_t)
        assert (out - exact).abs().max() < 6e-4  # measured 3e-4 and 1e-4


def test_trajectories_end_clean_and_jumps_go_back() -> None:
    path = METHODS["rddm"].path
    for trajectory in (residual_first(path, 4), noise_first(path, 4), with_jumps(path.grid(6), 2, 1)):
        assert trajectory[-1][:2] == (0.0, 0.0)
    jumps = with_jumps(path.grid(6), 2, 1)
    grid = path.grid(6)
    assert jumps == [grid[i] for i in (0, 1, 2, 0, 1, 2, 3, 4, 2, 3, 4, 5, 6, 4, 5, 6)]


def test_jumps_keep_the_distribution() -> None:
    """Climbing is a forward step: with the exact oracle the result still has the oracle's mean and spread."""
    path, x_in = METHODS["rddm"].path, origin("rddm").expand(20_000, 3)
    noise = gaussian(torch.Generator().manual_seed(4))
    out = sample(ORACLE, x_in, with_jumps(path.grid(100), 25, 1), Ancestral(residual), noise)
    assert (out.mean(0) - ORACLE.mean).abs().max() < 0.05
    # x_0^ of the last step is a mean: its spread falls short of sqrt(var) by the last step's, and never exceeds it
    assert ((out.std(0) / ORACLE.var.sqrt()) < 1.03).all() and ((out.std(0) / ORACLE.var.sqrt()) > 0.8).all()


def test_a_staircase_removes_residual_and_noise_in_turn_and_meets_the_joint_way() -> None:
    path = PowerPath()
    nodes = staircase(path, 4)
    moved = [(a.abar != b.abar, a.bbar != b.bbar) for a, b in zip(nodes, nodes[1:])]
    assert moved == [(True, False), (False, True)] * 4
    assert nodes[::2] == path.grid(4) and nodes[-2].bbar > 0


def test_a_crossed_path_has_the_residual_of_one_and_the_noise_of_the_other() -> None:
    crossed = CrossedPath(PowerPath(alpha="mean"), DDPMPath())
    for i in (0, 499, 999):
        assert crossed.index(i)[:2] == (PowerPath(alpha="mean").index(i).abar, DDPMPath().index(i).bbar)
    with pytest.raises(ValueError, match="found 10 and 1000 times"):
        CrossedPath(PowerPath(steps=10), DDPMPath())
