"""SDEdit on the exact oracle: how far it moves a sketch is known."""

import pytest
import torch
from gaussian import F64, MEAN, ORACLE, VAR

from rddm.edit import Keeping, edit, grid_from
from rddm.errors import UserError
from rddm.move import Move
from rddm.path import CLEAN, LinearPath, Node, gaussian
from rddm.prediction import Prediction
from rddm.schedules import DDPMPath
from rddm.solvers import Ancestral, Heun
from rddm.transition import markov

PATH = DDPMPath(steps=100, last=0.2)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(("t0", "repeats"), [(0.2, 1), (0.5, 1), (0.5, 3), (1.0, 1)])
def test_the_mean_moves_as_far_as_the_noise_says(t0: float, repeats: int) -> None:
    """Along the flow a sketch's distance from the mean shrinks by ``(1 - abar) sd / spread`` at each repeat."""
    guide = (MEAN + 2).expand(8000, 3)
    path = DDPMPath(steps=400, last=0.05)
    found = edit(ORACLE, path, guide, Heun(), gaussian(seeded()), t0, round(100 * t0), repeats)
    top = path.index(round(400 * t0) - 1)
    share = (1 - top.abar) * VAR.sqrt() / ORACLE.marginal(torch.zeros_like(MEAN), top)[1]
    error = (found.mean(0) - MEAN - 2 * share**repeats).abs().max()
    assert error < 0.04  # measured 0.011; the mean of 8000 starts deviates by 0.01


def test_repeats_with_the_published_step_forget_the_sketch() -> None:
    guide = (MEAN + 2).expand(4000, 3)
    noise = gaussian(seeded())
    distances = [
        float((edit(ORACLE, PATH, guide, Ancestral(markov), noise, 0.4, 40, k).mean(0) - MEAN).abs().max())
        for k in (1, 2, 3)
    ]
    assert distances[0] > distances[1] > distances[2]  # measured 0.39, 0.061, 0.004


def test_known_pixels_are_kept_with_one_noise_a_repeat() -> None:
    guide = torch.randn(8, 3, dtype=F64, generator=seeded())
    keep = torch.tensor([[1.0, 0.0, 1.0]], dtype=F64)
    states: list[tuple[Node, torch.Tensor]] = []

    def watched(x: torch.Tensor, x_in: torch.Tensor, node: Node) -> Prediction:
        states.append((node, x))
        return ORACLE(x, x_in, node)

    found = edit(watched, PATH, guide, Ancestral(markov), gaussian(seeded()), 0.5, 10, 2, keep)
    assert torch.equal(found[:, [0, 2]], guide[:, [0, 2]])
    assert (found[:, 1] - guide[:, 1]).abs().max() > 0.1
    assert len(states) == 20
    for repeat in (states[:10], states[10:]):
        eps = [(x - (1 - node.abar) * guide) / node.bbar for node, x in repeat]
        assert all((e - eps[0])[:, [0, 2]].abs().max() < 1e-9 for e in eps)
        assert (eps[1] - eps[0])[:, 1].abs().max() > 0.1
    assert (states[0][1] - states[10][1])[:, 0].abs().max() > 0.1  # the next repeat has another noise


def test_a_soft_mask_blends() -> None:
    solver, half = Ancestral(), torch.full((1, 3), 0.5, dtype=F64)
    guide = torch.ones(2, 3, dtype=F64)
    now, then = PATH.index(50), PATH.index(40)
    move = Move(guide, ORACLE(guide, 0 * guide, now), now, then, lambda x, n: ORACLE(x, 0 * x, n), gaussian(seeded()))
    plain = solver.step(move)[0]
    found = Keeping(solver, half, guide, 0 * guide, 0 * guide).step(move)[0]
    assert (found - (plain + (1 - then.abar) * guide) / 2).abs().max() < 1e-12


def test_grids_begin_at_their_time() -> None:
    assert grid_from(PATH, 0.4, 40) == [PATH.index(i) for i in range(39, -1, -1)] + [CLEAN]
    assert [n.t for n in grid_from(PATH, 0.4, 3)] == pytest.approx([0.4, 0.26, 0.13, 0])
    assert [n.t for n in grid_from(LinearPath(1.0), 0.5, 2)] == [0.5, 0.25, 0]


@pytest.mark.parametrize(("t0", "steps", "repeats"), [(0.0, 1, 1), (1.1, 5, 1), (0.4, 41, 1), (0.4, 0, 1), (0.4, 4, 0)])
def test_mistakes_are_one_line(t0: float, steps: int, repeats: int) -> None:
    with pytest.raises(UserError, match="(strength|edit): found"):
        edit(ORACLE, PATH, torch.zeros(1, 3, dtype=F64), Ancestral(), gaussian(), t0, steps, repeats)
