"""Guidance: every one with every solver and row; the batch changes nothing; mistakes are one line; deepinv fits.

What each makes of problems whose posterior is known is in test_posteriors.py.
"""

import importlib
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from gaussian import ORACLE
from posterior import (
    AVERAGE,
    DDIM,
    DDPM,
    F64,
    PATH,
    PIXELS,
    SHAPE,
    Correlated,
    Problem,
    drawn,
    images,
    smooth,
    unfit,
)
from torch import Tensor

from rddm.errors import UserError
from rddm.guidance import (
    DDNM,
    DDRM,
    DPS,
    GUIDANCES,
    ILVR,
    MCG,
    DDNMPlus,
    DiffPIR,
    Guidance,
    PiGDM,
    RePaint,
)
from rddm.methods import METHODS
from rddm.operators import (
    Jpeg,
    Mask,
    PhaseRetrieval,
    block_average,
    compose,
)
from rddm.path import Node, gaussian
from rddm.prediction import Prediction
from rddm.sample import sample
from rddm.solvers import SOLVERS, Ancestral, Solver
from rddm.transition import Inadmissible

GENERATORS = [name for name, row in METHODS.items() if row.generates]
FITTING = ("ddnm", "mcg", "ilvr", "repaint", "ddrm", "ddnm+", "diffpir")  # A x = y, but for round-off, without noise


@cache
def admitted(row: str) -> tuple[Solver, ...]:
    """Return the solvers that a row admits, its own step among them."""
    method, found = METHODS[row], []
    for solver in (*SOLVERS.values(), Ancestral(method.gain, method.anchor)):
        try:
            images(Problem(AVERAGE), Guidance(), method.path.grid(3), solver, 1)
            found.append(solver)
        except (Inadmissible, ZeroDivisionError):
            pass
    return tuple(found)


@pytest.mark.parametrize("row", GENERATORS)
@pytest.mark.parametrize("name", GUIDANCES)
def test_every_guidance_with_every_solver_on_every_row_that_generates(name: str, row: str) -> None:
    problem, nodes = Problem(AVERAGE, cov=smooth(0.9, 0.25)), METHODS[row].path.grid(3)
    guidance = GUIDANCES[name].make(AVERAGE, problem.y, 0.0, 3)
    assert len(admitted(row)) >= 6
    for solver in (*admitted(row), Ancestral(GUIDANCES[name].gain)):
        x = images(problem, guidance, nodes, solver, 1)
        assert torch.isfinite(x).all() and x.shape == (1, PIXELS)
        assert name not in FITTING or unfit(AVERAGE, x, problem.y) < 1e-11  # measured: at most 2e-14


@pytest.mark.parametrize("name", GUIDANCES)
def test_the_batch_changes_nothing(name: str) -> None:
    problem = Problem(AVERAGE, 0.1, smooth())
    y = problem.y + torch.arange(3.0, dtype=F64).view(3, 1, 1, 1)
    draws = [drawn(3, *SHAPE, seed=i) for i in range(200)]

    def run(rows: slice) -> Tensor:
        made, source = GUIDANCES[name].make(AVERAGE, y[rows], 0.1, 10), iter(draws)
        zeros = torch.zeros_like(draws[0][rows])
        return sample(problem.oracle, zeros, PATH.grid(10), DDPM, lambda like: next(source)[rows], guidance=made)

    together = run(slice(0, 3))
    for i in range(3):
        assert (run(slice(i, i + 1)) - together[i : i + 1]).abs().max() < 1e-10  # measured 1e-13


def test_conjugate_gradients_stand_in_for_an_svd() -> None:
    class Plain:
        """The same operator without its decomposition."""

        A, A_adjoint, A_dagger = (
            staticmethod(AVERAGE.A),
            staticmethod(AVERAGE.A_adjoint),
            staticmethod(AVERAGE.A_dagger),
        )

    problem = Problem(AVERAGE, 0.3)
    for make in (PiGDM, DiffPIR):
        one, other = (images(problem, make(o, problem.y, 0.3), PATH.grid(10), DDIM, 2) for o in (AVERAGE, Plain()))
        assert (one - other).abs().max() < 1e-6  # measured 1e-15
    old = compose([block_average(SHAPE, 2), Mask((1, 2, 2), torch.tensor([[[1.0, 0.0], [1.0, 1.0]]]))])
    hidden = Problem(old, cov=smooth())  # pyright: ignore[reportArgumentType]
    x = images(hidden, DDNM(old, hidden.y), PATH.grid(5), DDIM, 2)
    assert unfit(hidden.operator, x, hidden.y) < 1e-5  # measured 1e-16


def test_operators_that_are_not_linear() -> None:
    phase = PhaseRetrieval(SHAPE)
    clean = (0.3 * drawn(PIXELS, seed=1) + drawn(PIXELS, seed=2)).view(1, *SHAPE)
    y, oracle = phase.A(clean), Correlated(0.3 * drawn(PIXELS, seed=1), smooth())
    zeros, noise = torch.zeros(8, *SHAPE, dtype=F64), gaussian(torch.Generator().manual_seed(1))
    plain = sample(oracle, zeros, PATH.grid(100), DDPM, noise)
    x = sample(oracle, zeros, PATH.grid(100), DDPM, noise, guidance=DPS(phase, y, 0.3))
    before, after = ((phase.A(found) - y).square().mean().sqrt() for found in (plain, x))
    assert after < before / 1.7  # measured 2.1 times less
    jpeg = Jpeg((3, 8, 8), 20)
    read = jpeg.A(torch.rand(1, 3, 8, 8, dtype=F64) * 2 - 1)

    def blank(x_t: Tensor, x_in: Tensor, node: Node) -> Prediction:
        return Prediction(torch.zeros_like(x_t), torch.zeros_like(x_t), x_t / node.bbar)

    found = sample(blank, torch.zeros_like(read), PATH.grid(2), DDIM, guidance=DDNM(jpeg, read))
    assert (found - read).abs().max() < 0.1  # grey survives a file, so what was read is what is left


# -- mistakes


def test_one_line_for_each_mistake() -> None:
    y, jpeg, phase = torch.zeros(1, 1, 2, 2), Jpeg((3, 8, 8), 50), PhaseRetrieval(SHAPE)
    old = compose([AVERAGE, Mask((1, 2, 2), torch.ones(1, 2, 2))])
    complaints: list[tuple[Any, str]] = [
        (
            lambda: DDRM(old, y),
            r"ddrm: needs an operator with an SVD \(U, V, mask\), found sr\(2\) \+ mask; expected ddnm,",
        ),
        (lambda: DDNMPlus(old, y), r"ddnm\+: needs an operator with an SVD"),
        (lambda: DDRM(jpeg, y), r"ddrm: .* found jpeg\(50\); expected dps$"),
        (
            lambda: PiGDM(jpeg, y),
            r"pigdm: needs an operator with A_adjoint and A_dagger, found jpeg\(50\); expected dps",
        ),
        (lambda: DiffPIR(jpeg, y), "^diffpir: needs"),
        (lambda: ILVR(jpeg, y), "^ilvr: needs"),
        (lambda: RePaint(jpeg, y), "^repaint: needs"),
        (lambda: MCG(jpeg, y), "^mcg: needs"),
        (lambda: DDNM(phase, y), r"^ddnm: needs an operator with A_dagger, found phase\(2\); expected dps$"),
    ]
    for make, line in complaints:
        with pytest.raises(UserError, match=line) as error:
            make()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", GUIDANCES)
def test_a_measurement_that_does_not_fit(name: str) -> None:
    guidance = GUIDANCES[name].make(AVERAGE, torch.zeros(1, *SHAPE, dtype=F64), 0.0, 3)
    line = r"^sr\(2\): found a measurement of 1x4x4, expected 1x2x2"
    with pytest.raises(UserError, match=line):
        sample(Problem(AVERAGE).oracle, torch.zeros(1, *SHAPE, dtype=F64), PATH.grid(3), DDIM, guidance=guidance)


def test_a_row_that_starts_from_a_photo() -> None:
    x_in = torch.ones(1, 3, dtype=F64)
    with pytest.raises(
        UserError, match=r"^guidance: found a degraded x_in, expected a row that starts from noise alone"
    ):
        sample(ORACLE, x_in, METHODS["rddm"].path.grid(3), guidance=Guidance())


# -- deepinv


@pytest.fixture
def deepinv(monkeypatch: pytest.MonkeyPatch) -> Any:
    """deepinv, with empty stand-ins for torchvision, which does not run beside a torch without CUDA; or a skip."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "experiments"))
    found = importlib.import_module("stand_ins").deepinv()
    if found is None:
        pytest.skip("deepinv is not installed: its operators are tried in development only")
    return found


def test_deepinvs_operators_fit_as_they_are(deepinv: Any) -> None:
    physics = deepinv.physics
    kernel = torch.tensor([[0.1, 0.6, 0.3]])[None, None]
    shape, x = (3, 16, 16), torch.rand(2, 3, 16, 16) * 2 - 1
    operators = {
        "mask": (physics.Inpainting(shape, mask=(torch.rand(shape) < 0.5).float()), set(GUIDANCES)),
        "blur": (physics.BlurFFT(shape, kernel), set(GUIDANCES)),
        "downsampling": (physics.Downsampling(shape, factor=2, filter="bilinear"), set(GUIDANCES) - {"ddrm", "ddnm+"}),
    }
    for operator, names in operators.values():
        y = operator.A(x)
        for name in GUIDANCES:
            row = GUIDANCES[name]
            if name not in names:
                with pytest.raises(UserError, match="needs an operator with an SVD"):
                    row.make(operator, y, 0.0, 4)
                continue
            found = sample(flat, torch.zeros_like(x), PATH.grid(4), DDPM, guidance=row.make(operator, y, 0.0, 4))
            rms = float((operator.A(found) - y).square().mean().sqrt())
            assert math.isfinite(rms) and (name not in FITTING or rms < 2e-3), name  # measured 3e-4: its least squares
            assert found.shape == x.shape


def flat(x_t: Tensor, x_in: Tensor, node: Node) -> Prediction:
    """The denoiser of white images of variance 1/4."""
    a, c = float(1 - node.abar), float(node.bbar)
    x_0 = a / 4 / (a**2 / 4 + c**2) * x_t
    return Prediction(x_0, -x_0, (x_t - a * x_0) / c)
