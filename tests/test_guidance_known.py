"""Known pixels: kept diffused where windows meet (Keep), or without noise, as in Palette (Paste)."""

import pytest
import torch
from posterior import AVERAGE, DDIM, DDPM, F64, PATH, SHAPE, Problem, drawn, images, smooth, unfit
from torch import Tensor, nn

from rddm.denoiser import NetworkDenoiser
from rddm.guidance import DDNM, DDRM, DPS, Keep, Paste
from rddm.methods import METHODS
from rddm.path import Node, gaussian
from rddm.prediction import Prediction
from rddm.sample import iterate, resampled, sample
from rddm.solvers import SOLVERS, Ancestral
from rddm.transition import Inadmissible

KNOWN = torch.zeros(SHAPE, dtype=torch.bool)
KNOWN[..., :2] = True
IMAGE = 0.5 * drawn(2, *SHAPE, seed=7)
FROM_NOISE = [name for name, row in METHODS.items() if row.origin == "zero"]


def test_known_pixels_are_kept_diffused() -> None:
    problem = Problem(AVERAGE, cov=smooth())
    solved = images(problem, DDNM(AVERAGE, problem.y), PATH.grid(10), DDIM, 1).view(1, *SHAPE)
    for make in (DDNM, DDRM, DPS):
        guidance, x_in = Keep(make(AVERAGE, problem.y), solved, KNOWN), torch.zeros(1, *SHAPE, dtype=F64)
        noise = gaussian(torch.Generator().manual_seed(2))
        states = list(iterate(problem.oracle, x_in, PATH.grid(10), DDIM, noise, drawn(1, *SHAPE), guidance))
        assert torch.equal(states[-1].x_t[..., :2], solved[..., :2])
        eps = (drawn(1, *SHAPE) - (1 - PATH.grid(10)[0].abar) * solved) / PATH.grid(10)[0].bbar
        for state in states[:-1]:
            expected = (1 - state.node.abar) * solved + state.node.bbar * eps
            assert (state.x_t - expected)[..., :2].abs().max() < 1e-11  # measured 2e-15
    assert unfit(AVERAGE, states[-1].x_t, problem.y) > 1e-6  # DPS is the last; the other half still moves


class Witness:
    """The exact denoiser of smooth images, which notes what it is shown."""

    def __init__(self) -> None:
        self.oracle, self.shown = Problem(AVERAGE, cov=smooth(0.9, 0.25)).oracle, []

    def __call__(self, x_t: Tensor, x_in: Tensor, node: Node) -> Prediction:
        self.shown.append(x_t.clone())
        return self.oracle(x_t, x_in, node)


def clean(x: Tensor) -> bool:
    """Tell whether the known area is the image's, to the bit, and the rest is not."""
    return torch.equal(x[..., :2], IMAGE[..., :2]) and not bool((x == IMAGE)[..., 2:].any())


@pytest.mark.parametrize("row", FROM_NOISE)
def test_every_call_on_every_row_from_noise_shows_known_pixels_without_noise(row: str) -> None:
    method, admitted = METHODS[row], 0
    for solver in (*SOLVERS.values(), Ancestral(method.gain, method.anchor)):
        witness, noise = Witness(), gaussian(torch.Generator().manual_seed(1))
        walk = iterate(
            witness, torch.zeros_like(IMAGE), method.path.grid(4), solver, noise, guidance=Paste(IMAGE, KNOWN)
        )
        try:
            states = list(walk)
        except (Inadmissible, ZeroDivisionError):
            continue
        admitted += 1
        assert len(witness.shown) >= 4 and all(map(clean, witness.shown))
        assert all(clean(state.x_t) and torch.isfinite(state.x_t).all() for state in states)
        told = [part[..., :2] for state in states for part in state.prediction[1:]]
        assert not any(part.any() for part in told)  # neither residual nor noise: x_t = x_0 at any node
    assert admitted >= 6


def test_ways_up_do_not_noise_what_is_known() -> None:
    witness, nodes = Witness(), resampled(PATH.grid(6), 2, 2)
    guidance = Paste(IMAGE, KNOWN)
    states = list(iterate(witness, torch.zeros_like(IMAGE), nodes, DDPM, guidance=guidance))
    assert len(witness.shown) < len(states) and all(map(clean, witness.shown))
    assert all(clean(state.x_t) for state in states)


class Palette(nn.Module):
    """A network of Palette's row that notes the state it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor, clock: Tensor) -> list[Tensor]:
        self.seen.append(images[:, :1].clone())
        return [0.5 * images[:, :1] + 0.1 * images[:, 1:]]


@pytest.mark.parametrize("solver", [None, "heun", "dpm++"])
def test_palettes_network_sees_the_photo_between_its_holes(solver: str | None) -> None:
    net, method = Palette(), METHODS["palette"]
    denoiser = NetworkDenoiser(net, method, {"degraded": torch.where(KNOWN, IMAGE, 0.0)})
    step, noise = SOLVERS[solver] if solver else Ancestral(method.gain, method.anchor), gaussian()
    zeros, guidance = torch.zeros_like(IMAGE), Paste(IMAGE, KNOWN)
    out = sample(denoiser, zeros, method.path.grid(5), step, noise, guidance=guidance)
    assert len(net.seen) == (9 if solver == "heun" else 5) and all(map(clean, net.seen)) and clean(out)
