"""Cold diffusion: its degradations, its two samplers and what the paper proves of them, its training."""

import pytest
import torch
from gaussian import DEGRADED, F64, ORACLE

from rddm.cold import NetworkRestorer, cold_loss, naive, tacos
from rddm.fadings import (
    CELEBA_BLUR,
    CIFAR_BLUR,
    MNIST_BLUR,
    Blur,
    Colours,
    Emptied,
    Masked,
    Mixed,
    Pixelated,
    Snow,
    exponential,
    linear,
)
from rddm.methods import METHODS
from rddm.nn.compact import Compact, CompactConfig
from rddm.path import LinearPath
from rddm.prediction import from_x_0
from rddm.sample import iterate, sample
from rddm.schedules import DDPMPath
from rddm.solvers import Ancestral

FADINGS = {
    "blur": Blur(6, 5, linear(0.5, 0.2)),
    "circular": Blur(6, 5, exponential(0.1), "circular"),
    "emptied": Emptied(Blur(6, 5, linear(0.5, 0.2))),
    "masked": Masked(6, 0.8),
    "pixelated": Pixelated(3),
    "snow": Snow(6),
}


def images(count: int = 2, side: int = 16, seed: int = 0) -> torch.Tensor:
    """Return smooth random images in [-1, 1], float64."""
    small = torch.rand(count, 3, 4, 4, dtype=F64, generator=torch.Generator().manual_seed(seed)) * 1.8 - 0.9
    return torch.nn.functional.interpolate(small, (side, side), mode="bilinear")


@pytest.mark.parametrize("name", FADINGS)
@pytest.mark.parametrize("sampler", [naive, tacos])
def test_a_perfect_restorer_returns_the_clean_image(name: str, sampler: type(naive)) -> None:
    fading, x_0 = FADINGS[name], images()
    assert torch.equal(fading(x_0, 0), x_0)
    x = fading(x_0, fading.levels)
    assert (x - x_0).abs().max() > 0.1
    asked: list[int] = []

    def perfect(x_t: torch.Tensor, level: int) -> torch.Tensor:
        assert (x_t - fading(x_0, level)).abs().max() < 1e-12
        asked.append(level)
        return x_0

    assert (sampler(perfect, fading, x) - x_0).abs().max() < 1e-12
    assert asked == list(range(fading.levels, 0, -1))
    assert (sampler(perfect, fading, fading(x_0, 1), 1) - x_0).abs().max() < 1e-12


@pytest.mark.parametrize("name", FADINGS)
def test_each_level_harms_more(name: str) -> None:
    fading, x_0 = FADINGS[name], images()
    harm = [float((fading(x_0, level) - x_0).square().mean()) for level in range(fading.levels + 1)]
    assert harm == sorted(harm) and len(set(harm)) == len(harm)


class Straight:
    """The fading of the paper's argument, ``x_0 + t e``, the same ``e`` for all images."""

    levels = 8

    def __init__(self, e: torch.Tensor) -> None:
        self.e = e

    def __call__(self, x_0: torch.Tensor, level: int) -> torch.Tensor:
        return x_0 + level / 8 * self.e


def test_tacos_forgets_a_wrong_restorer_where_the_fading_is_linear_in_time() -> None:
    """For ``x_0 + t e`` every state is exact whatever the restorer says; the naive sampler returns what it says."""
    x_0, fading = images(), Straight(images(seed=1))
    seen: list[float] = []

    def wrong(x_t: torch.Tensor, level: int) -> torch.Tensor:
        seen.append(float((x_t - fading(x_0, level)).abs().max()))
        return x_t.sin() * 3 + level

    assert (tacos(wrong, fading, fading(x_0, 8)) - x_0).abs().max() < 1e-12
    assert max(seen) < 1e-12
    assert (naive(wrong, fading, fading(x_0, 8)) - x_0).abs().max() > 1


def test_tacos_bears_an_error_that_naive_sampling_does_not() -> None:
    """A fading that is nearly straight: an error of 1 % of the estimate costs TACoS far less."""
    fading, x_0 = Blur(16, 5, linear(0.3, 0.0)), images()
    noise = 0.01 * torch.randn(x_0.shape, dtype=F64, generator=torch.Generator().manual_seed(0))
    errors = [
        float((s(lambda x, i: x_0 + noise, fading, fading(x_0, 16)) - x_0).square().mean()) for s in (naive, tacos)
    ]
    assert errors[1] < errors[0] / 5  # measured 5e-6, 97e-6


@pytest.mark.parametrize("steps", [4, 10])
def test_tacos_of_a_line_is_the_row_cold(steps: int) -> None:
    """State by state to round-off; the row returns its last estimate, TACoS takes one step more with it."""
    row, generator = METHODS["cold"], torch.Generator().manual_seed(0)
    x_in, head = torch.randn(5, 3, dtype=F64, generator=generator), torch.randn(3, 3, dtype=F64, generator=generator)

    def restorer(x: torch.Tensor, level: int) -> torch.Tensor:
        return (x @ head).tanh() + level / steps

    class Denoiser:
        def __call__(self, x: torch.Tensor, x_in: torch.Tensor, node: object) -> object:
            return from_x_0(restorer(x, round(node.t * steps)), x, x_in, node)

    fading = Mixed(row.path, x_in, torch.zeros_like(x_in), steps)
    states = list(iterate(Denoiser(), x_in, row.path.grid(steps), Ancestral(row.gain, row.anchor)))
    x = x_in
    for level, state in zip(range(steps, 1, -1), states):
        x_0 = restorer(x, level)
        x = x - fading(x_0, level) + fading(x_0, level - 1)
        assert (state.x_t - x).abs().max() < 1e-12
    assert (states[-1].x_t - restorer(x, 1)).abs().max() < 1e-12
    last = restorer(x, 1)
    assert (tacos(restorer, fading, x_in) - (x - fading(last, 1) + last)).abs().max() < 1e-12


def test_hot_tacos_with_estimated_noise_is_ddim() -> None:
    """``eps`` such that ``D(x_0^, t) = x_t``, anew at each level: the oracle's trajectory by DDIM, methods 1.11."""
    path = DDPMPath(steps=20, last=0.5)
    x = torch.randn(64, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    zero = torch.zeros_like(x)
    expected = sample(ORACLE, zero, path.grid(20), x_start=x)
    for level in range(20, 1, -1):
        prediction = ORACLE(x, zero, path.index(level - 1))
        fading = Mixed(path, zero, prediction.eps, 20)
        assert (fading(prediction.x_0, level) - x).abs().max() < 1e-12
        x = x - fading(prediction.x_0, level) + fading(prediction.x_0, level - 1)
    assert (ORACLE(x, zero, path.index(0)).x_0 - expected).abs().max() < 1e-12
    with pytest.raises(ValueError, match="found 19, expected 20"):
        Mixed(path, zero, zero, 19)
    assert torch.equal(Mixed(LinearPath(), DEGRADED, DEGRADED, 4)(0 * DEGRADED, 1), DEGRADED / 4)


def test_published_blurs() -> None:
    """Widths, sizes and levels of methods 1.11; kernels sum to one, and so a grey image stays."""
    assert (CELEBA_BLUR.levels, CELEBA_BLUR.size, CELEBA_BLUR.edge) == (200, 15, "reflect")
    assert CELEBA_BLUR.widths(100) == pytest.approx(2.718281828459045, rel=1e-12)
    assert (CIFAR_BLUR.levels, CIFAR_BLUR.size, CIFAR_BLUR.widths(15)) == (50, 11, pytest.approx(0.5))
    assert (MNIST_BLUR.levels, MNIST_BLUR.size, MNIST_BLUR.widths(19)) == (20, 11, 7)
    grey = torch.full((1, 3, 16, 16), 0.3, dtype=F64)
    assert (CIFAR_BLUR(grey, 5) - grey).abs().max() < 1e-12
    impulse = torch.zeros(1, 1, 31, 31, dtype=F64)
    impulse[..., 15, 15] = 1
    spread = Blur(2, 15, linear(1.0, 0.5), "circular")(impulse, 2)[0, 0]
    variance = ((torch.arange(31, dtype=F64) - 15) ** 2 * spread.sum(0)).sum()
    assert float(variance) == pytest.approx(1.0**2 + 1.5**2, rel=1e-3)  # variances add up


def test_each_fading_does_what_it_says() -> None:
    x_0 = images()
    assert torch.equal(Emptied(CIFAR_BLUR)(x_0, 50)[:, :, 3, 5], x_0.mean((2, 3)))
    blocks = Pixelated(3)(x_0, 3)
    assert (blocks[..., :8, 8:] - x_0[..., :8, 8:].mean((2, 3), keepdim=True)).abs().max() < 1e-12
    with pytest.raises(ValueError, match="expected multiples of 32"):
        Pixelated(5)(x_0, 5)
    hole = Masked(20, 0.2, centre=(0.0, 0.0))
    assert float(hole.mask(9, 9, 1)[0, 0]) == 0 and float(hole.mask(9, 9, 20)[8, 8]) == pytest.approx(1, abs=0.05)
    assert (hole(x_0, 20)[..., 0, 0] == -1).all()
    snow = Snow(10, cover=0.4).flakes(64, 64, 10)
    assert float((snow > 0).double().mean()) == pytest.approx(0.4, abs=0.01)
    assert (Snow(10).flakes(64, 64, 9) <= Snow(10).flakes(64, 64, 10)).all()


def test_colours_are_drawn_as_they_were_found() -> None:
    found = Colours.of(images(400, seed=3))
    drawn = found.draw(torch.zeros(4000, 3, 2, 2, dtype=F64), torch.Generator().manual_seed(0))
    truth = images(400, seed=3).mean((2, 3))
    assert (drawn.mean((0, 2, 3)) - truth.mean(0)).abs().max() < 0.02
    assert (torch.cov(drawn[:, :, 0, 0].T) - torch.cov(truth.T)).abs().max() < 0.004
    assert 0.001 < float((drawn[:, :, 0, 0] - drawn[:, :, 1, 1]).std()) < 0.005  # 0.002 sqrt(2)


def test_a_network_learns_to_restore() -> None:
    """60 updates on 16 blurred images; with the same network TACoS comes far closer than the naive sampler."""
    torch.manual_seed(0)
    fading = FADINGS["blur"]
    net = Compact(CompactConfig(3, 3, 1, (12, 16), (1, 1), features=16))
    optimiser = torch.optim.Adam(net.parameters(), 4e-3)
    x_0, generator = images(16).float(), torch.Generator().manual_seed(0)
    history = []
    for _ in range(60):
        loss = cold_loss(net, fading, x_0[torch.randint(0, 16, (8,), generator=generator)], generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        history.append(float(loss.detach()))
    x, restorer = fading(x_0, fading.levels), NetworkRestorer(net, fading.levels)
    with torch.no_grad():
        harm, *errors = [
            float((y - x_0).square().mean()) for y in (x, *(s(restorer, fading, x) for s in (naive, tacos)))
        ]
    assert sum(history[-10:]) < sum(history[:10]) / 2  # measured 0.059, 0.214 each
    assert errors[1] < errors[0] / 3 and errors[1] < harm / 4  # measured 0.0050, 0.036, 0.031
