"""Printed values of every published schedule, to the printed digits, and the step that each paper publishes, to 1e-12.

The values were recomputed from the papers' formulas in float64, apart from this package; the steps are typed from the
papers' equations. Where a path is divided by the sum of its coefficients, the values are those before the division.
"""

import math

import pytest
import torch
from gaussian import F64

from rddm.bridges import BBDMPath, BrownianPath, DDBMVEPath, DDBMVPPath, GOUBPath, I2SBPath
from rddm.denoiser import NetworkDenoiser, rate_of
from rddm.methods import METHODS
from rddm.path import Node, Path, Value, mix
from rddm.prediction import Prediction, from_x_0
from rddm.sample import sample, start
from rddm.schedules import DDPMPath, DiffUIRPath, NoiseLevelPath, PowerPath, ResfusionPath, ResShiftPath
from rddm.sdes import IRSDEPath, ScoreSubVPPath, ScoreVEPath, ScoreVPPath, karras, reversion
from rddm.solvers import Ancestral, Move
from rddm.transition import Gain, bridge, deterministic, markov, residual, transition

GENERATOR = torch.Generator().manual_seed(0)
X_T, X_0, X_IN, Z = (torch.randn(64, dtype=F64, generator=GENERATOR) for _ in range(4))
PRINTED = 6e-7  # six decimals
Three = tuple[float, float, float]


def coefficients(path: Path, node: Node) -> Three:
    """Return those of ``x_0``, ``x_in`` and ``eps`` as published, before the division by their sum."""
    s = float(path.scale(torch.tensor(node.t, dtype=F64)))
    return s * (1 - float(node.abar)), s * float(node.abar), s * float(node.bbar)


def check(found: tuple[Value, ...], printed: tuple[Value, ...], bound: float = PRINTED) -> None:
    assert len(found) == len(printed)
    assert all(abs(float(a) - float(b)) < bound for a, b in zip(found, printed)), (found, printed)


TWO_COLUMNS = [  # path, index, (abar, bbar)
    (PowerPath(), 0, (0.001998, 0.001414)),
    (PowerPath(), 99, (0.189910, 0.100449)),
    (PowerPath(), 249, (0.437313, 0.250374)),
    (PowerPath(), 499, (0.749750, 0.500250)),
    (PowerPath(), 749, (0.937313, 0.750125)),
    (PowerPath(), 999, (1, 1)),
    (PowerPath(noise=0.01), 249, (0.437313, 0.0250374)),
    (DDPMPath(), 0, (0.000050, 0.010000)),
    (DDPMPath(), 249, (0.276063, 0.689866)),
    (DDPMPath(), 499, (0.719666, 0.959902)),
    (DDPMPath(), 749, (0.942116, 0.998323)),
    (DDPMPath(), 999, (0.993647, 0.999980)),
    (I2SBPath(), 0, (0.000709, 0.009996)),
    (I2SBPath(), 250, (0.212369, 0.153665)),
    (I2SBPath(), 500, (0.500660, 0.187892)),
    (I2SBPath(), 999, (0.999291, 0.009996)),
    (BBDMPath(), 0, (0.001, 0.044699)),
    (BBDMPath(), 499, (0.499501, 0.707106)),
    (BBDMPath(), 999, (0.999, 0.044699)),
]


@pytest.mark.parametrize(("path", "index", "printed"), TWO_COLUMNS)
def test_printed_tables(path, index: int, printed: tuple[float, float]) -> None:  # noqa: ANN001
    check(path.index(index)[:2], printed)


def test_resshift() -> None:
    fifteen = (0.02, 0.117165, 0.176305, 0.233629, 0.291574, 0.351009, 0.412356, 0.475858, 0.541672, 0.60991, 0.680658,
               0.753985, 0.829951, 0.908606, 0.99)  # fmt: skip
    check(tuple(ResShiftPath().tables()[0].sqrt().tolist()), fifteen)
    four = METHODS["resshift-4"].path
    assert isinstance(four, ResShiftPath)
    check(tuple(four.tables()[0].sqrt().tolist()), (0.1, 0.520096, 0.761382, 0.99))
    check(tuple(four.tables()[1].sqrt().tolist()), (0.2, 1.040193, 1.522764, 1.98), 2e-6)


@pytest.mark.parametrize(("state", "thbar", "a", "c"), [
    (1, 0.000176, 0.999824, 0.000737), (25, 0.158892, 0.853089, 0.020461), (50, 1.019372, 0.360822, 0.036574),
    (75, 2.826218, 0.059236, 0.039147), (100, 5.298317, 0.005, 0.039215),
])  # fmt: skip
def test_ir_sde_and_refusion(state: int, thbar: float, a: float, c: float) -> None:
    """The printed noise is of images in [0, 1]; ours span two."""
    node, wide = IRSDEPath().index(state - 1), METHODS["refusion"].path
    check((float(reversion("cosine", 100, 0.005)[state]), 1 - float(node.abar), float(node.bbar) / 2), (thbar, a, c))
    assert isinstance(wide, IRSDEPath)
    assert wide.index(state - 1).abar == node.abar and wide.index(state - 1).bbar == pytest.approx(5 * node.bbar)


@pytest.mark.parametrize(("state", "printed"), [
    (1, (0.999824, 0.000176, 0.002210)), (25, (0.853081, 0.146919, 0.061384)), (50, (0.360761, 0.639239, 0.109713)),
    (75, (0.058816, 0.941184, 0.117023)), (99, (0.001043, 0.998957, 0.050998)),
])  # fmt: skip
def test_goub(state: int, printed: Three) -> None:
    node = GOUBPath().index(state - 1)
    check((1 - float(node.abar), float(node.abar), float(node.bbar) / 2), printed)
    assert GOUBPath().length == 99  # state 100 is x_in itself


def test_i2sb_totals() -> None:
    """``s`` of the last entry is the total; the target's divisor is the root of ``s``."""
    for beta_max, total in ((0.3, 0.14102725), (1.0, 0.24692870)):
        node = I2SBPath(beta_max=beta_max).index(999)
        assert float(node.bbar) ** 2 / (1 - float(node.abar)) == pytest.approx(total, abs=6e-9)
    assert float(I2SBPath(beta_max=1.0).index(500).bbar) == pytest.approx(0.248677, abs=PRINTED)


def test_bbdm_steps() -> None:
    indices = [round(float(node.t) * 1000) - 1 for node in METHODS["bbdm"].path.grid(200)]
    assert indices[:6] == [999, 993, 988, 983, 978, 973] and indices[-7:] == [20, 15, 10, 5, 1, 0, -1]
    assert len(indices) == 201
    for shape in ("sin", "sine"):
        m = BBDMPath(shape=shape).tables()[0]
        assert (m.diff() > 0).all() and 0 < m[0] and m[-1] < 1


@pytest.mark.parametrize(("t", "printed"), [
    (0.25, (0.913520, 0.075696, 0.282769)), (0.5, (0.710458, 0.260422, 0.462534)),
    (0.75, (0.403556, 0.560709, 0.511513)), (0.9, (0.173253, 0.804879, 0.401552)),
])  # fmt: skip
def test_ddbm_vp(t: float, printed: Three) -> None:
    path = DDBMVPPath()
    a, b, c = (float(x) for x in path.coefficients(torch.tensor(t, dtype=F64)))
    check((a, b, c), printed)
    node = path.node(t)
    check((1 - float(node.abar), float(node.abar), float(node.bbar)), (a / (a + b), b / (a + b), c / (a + b)), 1e-14)
    # What the network sees of a state divided by the sum is what the paper shows it of the state itself.
    size2 = 0.25 * (a**2 + b**2) + c**2
    assert float(path.scale(torch.tensor(t, dtype=F64))) / (a + b) == pytest.approx(size2**-0.5, rel=1e-12)


def test_ddbm_ve() -> None:
    found = DDBMVEPath().coefficients(torch.tensor(0.5, dtype=F64))
    check(tuple(map(float, found)), (0.75, 0.25, 34.641016))


def test_resfusion() -> None:
    path = ResfusionPath()
    q = [coefficients(path, path.index(i)) for i in range(path.length)]
    check(tuple(a + b for a, b, _ in q), (0.995825, 0.913182, 0.758629, 0.557163, 0.5))
    acp = torch.tensor([1.0] + [(a + b) ** 2 for a, b, _ in q])
    check(tuple((acp[1:] / acp[:-1]).tolist()), (0.991667, 0.840909, 0.690152, 0.539394, 0.805332), 8e-7)
    assert [ResfusionPath(steps).length for steps in (12, 20, 50, 100, 273)] == [5, 8, 19, 37, 100]
    check(q[-1], (0, 0.5, math.sqrt(0.75)), 1e-12)  # x_T = x_in / 2 + sqrt(3/4) eps holds nothing of x_0


@pytest.mark.parametrize(("index", "printed"), [
    (333, (0.564469, 0.335053, 0.825455, 0.100478)), (666, (0.104806, 0.494550, 0.994493, 0.400645)),
    (999, (0.006353, 0.093147, 0.999980, 0.9005)),
])  # fmt: skip
def test_diffuir(index: int, printed: tuple[float, ...]) -> None:
    path = DiffUIRPath()
    a, b, c = coefficients(path, path.index(index))
    check((a, b, c, 1 - a - b), printed)


def test_diffuir_s_own_sampler() -> None:
    """Its step, which never removes noise, is the deterministic one along nodes with ``bbar = .1 / (1 - dbar)``."""
    path = DiffUIRPath()
    kept = [float(path.scale(torch.tensor(node.t, dtype=F64))) for node in path.grid(3)]
    nodes = [node._replace(bbar=0.1 / s) for node, s in zip(path.grid(3), kept)]
    x = kept[0] * X_IN + 0.1 * Z
    ours = start(X_IN, nodes[0], lambda like: Z)
    assert (kept[0] * ours - x).abs().max() < 1e-12
    for i in (0, 1):
        res = X_IN - X_0
        forgotten = [1 - s * (1 - node.abar) for node, s in zip(nodes[i : i + 2], kept[i : i + 2])]
        x = x - (forgotten[0] - forgotten[1]) * res + ((1 - kept[i]) - (1 - kept[i + 1])) * X_IN
        k = deterministic(nodes[i], nodes[i + 1])
        ours = transition(ours, from_x_0(X_0, ours, X_IN, nodes[i]), nodes[i], nodes[i + 1], k)
        assert (kept[i + 1] * ours - x).abs().max() < 1e-12


def test_score_sde() -> None:
    """``exp(-(20 - .1) t^2 / 4 - .05 t)``; sub-VP has the VP's variance squared; VE in units of [0, 1]."""
    for t in (0.1, 0.5, 1.0):
        signal = math.exp(-19.9 * t**2 / 4 - 0.05 * t)
        vp, sub, ve = (path.node(t) for path in (ScoreVPPath(), ScoreSubVPPath(), ScoreVEPath()))
        check(vp[:2], (1 - signal, math.sqrt(1 - signal**2)), 1e-14)
        check(sub[:2], (1 - signal, 1 - signal**2), 1e-14)
        check(ve[:2], (0, 2 * 0.01 * 5000**t), 1e-12)
    assert ScoreVEPath().node(0.0)[:2] == (0, 0)


def test_noise_levels() -> None:
    """Trained between the entries too: SR3 linear in ``sqrt(acp)``, Palette in ``acp``, and samples its own table."""
    acp = (1 - torch.linspace(1e-6, 0.01, 2000, dtype=F64)).cumprod(0)
    t = torch.tensor(1000.5 / 2000, dtype=F64)  # halfway between entries 999 and 1000, of indices from 0
    sr3, palette = METHODS["sr3"].path, METHODS["palette"].path
    assert isinstance(palette, NoiseLevelPath)
    root = float((acp[999].sqrt() + acp[1000].sqrt()) / 2)
    check(sr3.node(float(t))[:2], (1 - root, math.sqrt(1 - root**2)), 1e-12)
    level = float((acp[999] + acp[1000]) / 2)
    check(palette.node(float(t))[:2], (1 - math.sqrt(level), math.sqrt(1 - level)), 1e-12)
    assert float(METHODS["palette"].show(palette.node(float(t)), X_0[None])[0, 0]) == pytest.approx(1000 * level)
    assert float(METHODS["sr3"].show(sr3.node(float(t)), X_0[None])[0, 0]) == pytest.approx(1000 * root)
    assert palette.grid(1000) == DDPMPath(first=1e-4, last=0.09).grid(1000)


def test_karras_levels() -> None:
    """EDM's 18 levels: ends exact, even in the seventh root, then the clean image."""
    nodes = METHODS["edm"].path.grid(18)
    roots = torch.tensor([float(node.bbar) ** (1 / 7) for node in nodes[:-1]], dtype=F64)
    assert nodes[0].bbar == 80 and float(nodes[-2].bbar) == pytest.approx(0.002)
    assert (roots.diff() - roots.diff()[0]).abs().max() < 1e-12 and nodes[-1].bbar == 0
    with pytest.raises(ValueError, match="at least 1"):
        karras(80, 0.002, 0, 7)


def test_training_draws_edm_s_noise_lognormally() -> None:
    u = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=F64)
    log = (80 * METHODS["edm"].path.times(u)).log()
    assert float(log.mean()) == pytest.approx(-1.2, abs=0.03) and float(log.std()) == pytest.approx(1.2, abs=0.03)
    t = METHODS["ddbm-ve"].path.times(u)
    assert 0.002 / 80 <= float(t.min()) and float(t.max()) <= 1


# ---- the steps ----


def stepped(path: Path, now: Node, then: Node, gain: Gain, x_in: torch.Tensor = X_IN) -> torch.Tensor:
    """Return our step from the published state ``X_T``, in the published units."""
    s_t, s_s = (sum(coefficients(path, node)[:2]) for node in (now, then))
    x_t = X_T / s_t
    return s_s * transition(x_t, from_x_0(X_0, x_t, x_in, now), now, then, gain(now, then), Z)


def generic(path: Path, now: Node, then: Node, factor: float, x_in: torch.Tensor = X_IN) -> torch.Tensor:
    """Return the posterior of a chain ``x_t = factor x_s + ...``: mean by the rest of the noise, variance by Bayes."""
    (a_t, b_t, c_t), (a_s, b_s, c_s) = coefficients(path, now), coefficients(path, then)
    v = c_s**2 * (c_t**2 - factor**2 * c_s**2) / c_t**2
    eps = (X_T - a_t * X_0 - b_t * x_in) / c_t
    return a_s * X_0 + b_s * x_in + math.sqrt(c_s**2 - v) * eps + math.sqrt(v) * Z


CHAINS = [
    ("rddm", residual, "one"), ("resshift", residual, "one"), ("resshift-4", residual, "one"),
    ("indi-brownian", residual, "one"), ("ddpm", markov, "signal"), ("sr3", markov, "signal"),
    ("palette", markov, "signal"), ("ir-sde", markov, "signal"), ("refusion", markov, "signal"),
    ("goub", markov, "signal"), ("bbdm", markov, "signal"), ("ddbm-ve", markov, "signal"),
    ("score-vp", markov, "signal"), ("score-subvp", markov, "signal"), ("score-ve", markov, "signal"),
    ("resfusion", residual, "sum"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "gain", "factor"), CHAINS)
def test_steps_are_the_posteriors_of_their_chains(name: str, gain: Gain, factor: str) -> None:
    """On the row's own grid; measured at most 6e-14, on Palette's, of which 1 - abar is 1e-10 at the start."""
    path = METHODS[name].path
    grid = path.grid(4)
    for now, then in zip(grid[1:3], grid[2:4]):
        (a_t, b_t, _), (a_s, b_s, _) = coefficients(path, now), coefficients(path, then)
        drift = {"one": 1.0, "signal": a_t / a_s, "sum": (a_t + b_t) / (a_s + b_s)}[factor]
        x_in = X_IN if METHODS[name].origin == "input" else torch.zeros_like(X_IN)
        expected = generic(path, now, then, drift, x_in)
        assert (stepped(path, now, then, gain, x_in) - expected).abs().max() < 1e-12


def test_ddbm_vp_step() -> None:
    """The bridge is Markov with the factor ``a_t / a_s``, and stays so when both ends are divided by the sum."""
    path = DDBMVPPath()
    now, then = path.node(0.7), path.node(0.4)
    (a_t, b_t, c_t), (a_s, b_s, c_s) = (
        tuple(map(float, path.coefficients(torch.tensor(t, dtype=F64)))) for t in (0.7, 0.4)
    )
    v = c_s**2 * (c_t**2 - (a_t / a_s) ** 2 * c_s**2) / c_t**2
    eps = (X_T - a_t * X_0 - b_t * X_IN) / c_t
    expected = a_s * X_0 + b_s * X_IN + math.sqrt(c_s**2 - v) * eps + math.sqrt(v) * Z
    x_t = X_T / (a_t + b_t)
    ours = transition(x_t, from_x_0(X_0, x_t, X_IN, now), now, then, markov(now, then), Z)
    assert ((a_s + b_s) * ours - expected).abs().max() < 1e-12


def test_goub_s_posterior_mean() -> None:
    """The bridge's own form: the free process's posterior with ``x_in`` told, built from its two transitions."""
    thbar = reversion("cosine", 100, 0.005)
    t, s, lam = 60, 45, 2 * 30 / 255
    var = lambda i, j: lam**2 * (1 - math.exp(-2 * float(thbar[j] - thbar[i])))  # noqa: E731
    decay = lambda i, j: math.exp(-float(thbar[j] - thbar[i]))  # noqa: E731
    # x_s given x_0 and x_t of the process without its end: the end adds nothing once x_t is known.
    gain = var(0, s) * decay(s, t) / var(0, t)
    mean = X_IN + decay(0, s) * (X_0 - X_IN) + gain * (X_T - X_IN - decay(0, t) * (X_0 - X_IN))
    std = math.sqrt(var(0, s) * var(s, t) / var(0, t))
    path = GOUBPath()
    ours = stepped(path, path.index(t - 1), path.index(s - 1), markov)
    assert (ours - mean - std * Z).abs().max() < 1e-12


def test_resfusion_s_resnoise_step() -> None:
    """Neighbouring steps are DDPM's with resnoise in the place of noise: no residual, no x_0."""
    row = METHODS["resfusion"]
    path = row.path
    assert isinstance(path, ResfusionPath) and row.target.pace is not None
    for i in (1, 2, 3, 4):
        now, then = path.index(i), path.index(i - 1)
        acp_t, acp_s = (float(path.root_acp()[j]) ** 2 for j in (i, i - 1))
        alpha, beta = acp_t / acp_s, 1 - acp_t / acp_s
        res, x_t = X_IN - X_0, X_T / math.sqrt(acp_t)
        eps = from_x_0(X_0, x_t, X_IN, now).eps
        resnoise = eps + (1 - math.sqrt(alpha)) * math.sqrt(1 - acp_t) / beta * res
        g, one = (float(x) for x in row.target.pace(path, torch.tensor(now.t, dtype=F64)))
        encoded = row.target.encode(X_0, X_IN, eps, now, (g, one))[0]
        assert (encoded - resnoise).abs().max() < 1e-12
        mean = (X_T - beta / math.sqrt(1 - acp_t) * resnoise) / math.sqrt(alpha)
        std = math.sqrt((1 - acp_s) / (1 - acp_t) * beta)
        assert (stepped(path, now, then, residual) - mean - std * Z).abs().max() < 1e-12


def test_i2sb_s_posterior_within_its_own_discretisation() -> None:
    """Its code takes ``s_s / s_t`` where its tables have ``abar_s / abar_t``; exact where both sums were one."""
    path = I2SBPath()
    now, then = path.index(600), path.index(300)
    s_t, s_s = (float(n.bbar) ** 2 / (1 - float(n.abar)) for n in (now, then))
    expected = (1 - s_s / s_t) * X_0 + s_s / s_t * X_T + math.sqrt(s_s * (s_t - s_s) / s_t) * Z
    assert abs(s_s / s_t - bridge(now, then)) < 6e-5  # measured 5.4e-5
    assert (stepped(path, now, then, bridge) - expected).abs().max() < 2e-4  # measured 1.4e-4


def test_indi_brownian_step() -> None:
    """``(d / t) x_0 + (1 - d / t) x_t + (t - d) sqrt(eps_s^2 - eps_t^2) z`` with ``eps_t = eps / sqrt(t)``."""
    t, d, noise = 0.6, 0.2, 0.01
    fresh = (t - d) * math.sqrt(noise**2 / (t - d) - noise**2 / t)
    path = BrownianPath(noise)
    ours = stepped(path, path.node(t), path.node(t - d), residual)
    assert (ours - (d / t * X_0 + (1 - d / t) * X_T + fresh * Z)).abs().max() < 1e-12


def test_goub_s_mean_ode_draws_nothing() -> None:
    row = METHODS["goub-mean-ode"]
    now, then = row.path.grid(5)[1:3]
    prediction = from_x_0(X_0, X_T, X_IN, now)
    move = Move(X_T, prediction, now, then, lambda x, node: prediction, lambda like: Z)
    silent = transition(X_T, prediction, now, then, markov(now, then))
    assert torch.equal(Ancestral(row.gain, row.anchor).step(move)[0], silent)
    assert (Ancestral(markov, row.anchor).step(move)[0] - silent).abs().max() > 0.01


def test_edm_s_heun_step() -> None:
    """Karras et al., Algorithm 1: the slopes ``(x - D) / sigma`` at both ends, averaged, on the plane's edge."""
    from rddm.solvers import Heun

    now, then = METHODS["edm"].path.grid(18)[5:7]
    t, s, zero = float(now.bbar), float(then.bbar), torch.zeros_like(X_0)
    denoise = lambda x, sigma: x / (1 + sigma**2)  # noqa: E731
    d = (X_T - denoise(X_T, t)) / t
    euler = X_T + (s - t) * d
    expected = X_T + (s - t) * (d + (euler - denoise(euler, s)) / s) / 2

    def estimate(x: torch.Tensor, node: Node) -> Prediction:
        return from_x_0(denoise(x, float(node.bbar)), x, zero, node)

    found = Heun().step(Move(X_T, estimate(X_T, now), now, then, estimate, lambda like: Z))[0]
    assert (found - expected).abs().max() < 1e-12


def test_pmrf_s_flow_and_its_euler_steps() -> None:
    """Retyped, its clock running from the source to the photo: images in [0, 1], noise .1; ours are in [-1, 1]."""
    row, generator = METHODS["pmrf"], torch.Generator().manual_seed(0)
    clean, restored, noise = (torch.randn(4, 3, 2, 2, dtype=F64, generator=generator) / 4 + 0.5 for _ in range(3))
    net = torch.nn.Conv2d(3, 3, 1).double().requires_grad_(False)
    source = restored + 0.1 * noise
    ours = [2 * image - 1 for image in (clean, restored)]
    for s in (0.0, 0.3, 0.9):
        node = row.path.at(torch.full((4,), 1 - s, dtype=F64), clean)
        x_t = mix(ours[0], ours[1] - ours[0], noise, node)
        assert torch.allclose(x_t, 2 * (s * clean + (1 - s) * source) - 1, rtol=0, atol=1e-6)
        velocity = row.target.encode(*ours, noise, node, rate_of(row, node, clean))[0]
        assert torch.allclose(velocity, -2 * (clean - source), rtol=0, atol=1e-6)
    x, steps = source.clone(), 8
    for _ in range(steps):
        x = x - net(2 * x - 1) / 2 / steps
    denoiser = NetworkDenoiser(lambda x, clock: (net(x),), row)  # type: ignore[arg-type]
    found = sample(denoiser, ours[1], row.path.grid(steps), Ancestral(row.gain, row.anchor), lambda like: noise)
    assert torch.allclose(found, 2 * x - 1, rtol=0, atol=1e-6)
    assert row.path.grid(row.steps)[0][:2] == (1.0, 0.2) and row.inputs == ()
