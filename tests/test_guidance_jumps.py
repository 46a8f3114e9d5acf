"""Where guided samplers stop on their way: what jumps cost, what ways up keep, and levels of noise."""

import math

import pytest
import torch
from posterior import AVERAGE, DDIM, F64, PATH, SHAPE, Problem, images, smooth
from torch import Tensor

from rddm.guidance import DDNM, DDRM, DDNMPlus, Guidance, RePaint, geometric
from rddm.methods import METHODS
from rddm.operators import CircularBlur
from rddm.path import CLEAN, Node
from rddm.prediction import Prediction
from rddm.sample import resampled, sample
from rddm.solvers import Ancestral

GENERATORS = [name for name, row in METHODS.items() if row.generates]


def test_ddnm_plus_is_ddrm_that_travels_otherwise() -> None:
    problem = Problem(CircularBlur(SHAPE, torch.tensor([[0.1, 0.6, 0.3]], dtype=F64)), 0.2)
    nodes, y = PATH.grid(10), problem.y
    one, other = (images(problem, g(problem.operator, y, 0.2), nodes, DDIM, 3) for g in (DDRM, DDNMPlus))
    assert torch.equal(one, other)
    jumps = resampled(nodes, 2, 2)
    one, other = (images(problem, g(problem.operator, y, 0.2), jumps, DDIM, 3) for g in (DDRM, DDNMPlus))
    assert not torch.allclose(one, other, atol=1e-3)


@pytest.mark.parametrize(
    ("steps", "length", "visits", "transitions", "calls"),
    [(250, 10, 10, 4570, 2410), (250, 10, 3, 1210, 730), (100, 1, 1, 100, 100), (100, 10, 3, 460, 280),
     (20, 5, 2, 50, 35)],
)  # fmt: skip
def test_what_jumps_cost(steps: int, length: int, visits: int, transitions: int, calls: int) -> None:
    """Table 2.9 of ../shared/spec/methods.md: RePaint's and DDNM's schedules."""
    nodes, asked = resampled(PATH.grid(steps), length, visits), []

    def denoiser(x_t: Tensor, x_in: Tensor, node: Node) -> Prediction:
        asked.append(node)
        return Prediction(x_in, x_in, x_t)

    sample(denoiser, torch.zeros(1, 1, 1, 1), nodes, DDIM)
    assert (len(nodes) - 1, len(asked)) == (transitions, calls)
    grid = PATH.grid(steps)
    places = [grid.index(node) for node in nodes]
    assert all(abs(a - b) == 1 for a, b in zip(places, places[1:])) and nodes[-1] == CLEAN
    assert places.count(steps - 1) == visits or visits == 1


@pytest.mark.parametrize("guidance", [RePaint, DDNM])
def test_ways_up_keep_what_they_should(guidance: type[RePaint] | type[DDNM]) -> None:
    """RePaint climbs by a forward step of the diffusion, in which no estimate is left; DDNM from the estimate."""
    low, high = PATH.node(0.4), PATH.node(0.6)
    k = guidance.climb(low, high)
    shares = (1 - high.abar) / (1 - low.abar)
    assert k == (shares if guidance is RePaint else 0)
    if guidance is RePaint:  # x_s = k x_t + ...: what is left of x_0^ is (1 - abar_s) - k (1 - abar_t)
        assert (1 - high.abar) - k * (1 - low.abar) == pytest.approx(0, abs=1e-15)


def test_a_way_up_without_an_estimate_keeps_the_distribution() -> None:
    """Shares of the variance: measured 0.97 without jumps, 0.96 with a DDPM's way up, 0.80 with RDDM's."""
    problem, shares = Problem(AVERAGE, cov=smooth()), []
    for guidance in (RePaint.climb, Guidance.climb):
        jumping = type("Jumping", (Guidance,), {"climb": guidance})()
        x = images(problem, jumping, resampled(PATH.grid(60), 10, 2), Ancestral(), 2000)
        assert (x.mean(0) - problem.oracle.mean).abs().max() < 0.1
        shares.append(float(x.T.cov().trace() / problem.oracle.cov.trace()))
    assert shares[0] == pytest.approx(0.97, abs=0.07) and shares[1] < 0.88


@pytest.mark.parametrize("row", GENERATORS)
def test_noise_that_falls_by_equal_factors(row: str) -> None:
    nodes = geometric(METHODS[row].path, 6, 5.0, 0.05)
    ratios = [math.log(node.bbar / (1 - node.abar)) for node in nodes[:-1]]
    assert ratios == pytest.approx([math.log(5 * 100 ** (-i / 5)) for i in range(6)], abs=1e-6)  # measured 1e-9
    assert nodes[-1] == CLEAN and all(a.t > b.t for a, b in zip(nodes, nodes[1:]))
    with pytest.raises(ValueError, match="found 1, expected at least 2"):
        geometric(METHODS[row].path, 1)
