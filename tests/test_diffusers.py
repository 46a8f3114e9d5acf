"""Peer test: a DDPM converted to the (abar, bbar) plane samples as the `diffusers` package's schedulers do, in float64.

Theirs runs on float64 tables, clipping off, the same noise on both sides. Without meaning, and so checked to raise:
epsilon with zero terminal SNR; ``steps_offset`` beyond the table (offset 1 with 1000 steps); a lone linspace step.

DDIMScheduler steps to ``t - T // steps``. That is the next timestep for leading spacing, for trailing if steps divides
T, for linspace if steps = T. Elsewhere it lands beside the node it goes on from, so no trajectory of ours is its own:
there each of its steps is one transition between the two indices that it used, and whole runs of these are compared.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from rddm.denoiser import NetworkDenoiser
from rddm.hf import from_scheduler, timesteps, trajectory
from rddm.methods import Method
from rddm.path import CLEAN, CurvePath, Node, gaussian, nodes_from
from rddm.prediction import VELOCITY, V
from rddm.sample import iterate, sample
from rddm.schedules import ddpm_betas
from rddm.solvers import Ancestral, Move
from rddm.transition import Gain, deterministic, markov, stochastic

diffusers = pytest.importorskip("diffusers")
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr  # noqa: E402, TID253

F64 = torch.float64
STEPS = (5, 10, 15, 20, 50, 100, 1000)
KINDS = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "squared_cosine"}
TYPES = ("epsilon", "sample", "v_prediction")
SPACINGS = ("leading", "trailing", "linspace")
GAINS: dict[float, Gain] = {eta: stochastic(markov, eta**2) for eta in (0.0, 0.5, 1.0)}
W = torch.randn(2, 3, 3, dtype=F64, generator=torch.Generator().manual_seed(0))

Net = Callable[[Tensor, int], Tensor]


def toy(x: Tensor, t: int) -> Tensor:
    """Return a smooth function of the state and the time, of shape (B, 3, H, W)."""
    linear, inner = (w @ x.flatten(2) for w in W)
    return (0.2 * linear + torch.tanh(inner) * (1 + t / 2000)).view_as(x)


def network(scheduler: Any) -> Net:
    """Return the toy as an estimate of x_0, encoded as the scheduler's prediction type says, so that states stay O(1).

    A free epsilon would not do: where acp = 2.4e-9 it asks for x_0 = 1e5, and 1e-10 of that is below round-off.
    """
    acp, kind = scheduler.alphas_cumprod, scheduler.config.prediction_type

    def encoded(x: Tensor, t: int) -> Tensor:
        x_0, root, sigma = toy(x, t), acp[t].sqrt(), (1 - acp[t]).sqrt()
        return {"sample": x_0, "epsilon": (x - root * x_0) / sigma, "v_prediction": (root * x - x_0) / sigma}[kind]

    return encoded


def peer(kind: type | None = None, **config: Any) -> Any:
    """Return a scheduler of ``diffusers`` on float64 tables made from our betas."""
    config = {"clip_sample": False, **config}
    scheduler = (kind or diffusers.DDIMScheduler)(**config)
    fields = scheduler.config
    betas = ddpm_betas(KINDS[fields.beta_schedule], fields.num_train_timesteps, fields.beta_start, fields.beta_end)
    if fields.rescale_betas_zero_snr:
        betas = rescale_zero_terminal_snr(betas)
    scheduler.betas, scheduler.alphas, scheduler.one = betas, 1 - betas, torch.ones((), dtype=F64)
    scheduler.alphas_cumprod = scheduler.alphas.cumprod(0)
    one = config.get("set_alpha_to_one", True)
    scheduler.final_alpha_cumprod = scheduler.one if one else scheduler.alphas_cumprod[0]
    return scheduler


def theirs(scheduler: Any, net: Net, eta: float, x: Tensor, z: Tensor, **options: bool) -> Tensor:
    """Return the states after every step of a DDIMScheduler, shape (steps, B, 3, H, W)."""
    states = []
    for t, noise in zip(scheduler.timesteps.tolist(), z, strict=True):
        x = scheduler.step(net(x, t), t, x, eta=eta, variance_noise=noise, **options).prev_sample
        states.append(x)
    return torch.stack(states)


def denoiser(method: Method, net: Net) -> NetworkDenoiser:
    """Return the net as our samplers see it; the clock's reading is the timestep."""
    return NetworkDenoiser(lambda x, clock: (net(x, int(clock[0, 0])),), method)  # type: ignore[arg-type]


def ours(method: Method, net: Net, pairs: Sequence[tuple[Node, Node]], gain: Gain, x: Tensor, z: Tensor) -> Tensor:
    """Return the states after every step, each between two given nodes; a step to the clean node returns x_0."""
    ask, origin, states = denoiser(method, net), torch.zeros_like(x), []
    for (now, then), noise in zip(pairs, z, strict=True):
        estimate = ask(x, origin, now)
        step = Ancestral(gain).step(Move(x, estimate, now, then, lambda x, n: ask(x, origin, n), lambda x: noise))  # noqa: B023
        x = estimate.x_0 if then == CLEAN else step[0]
        states.append(x)
    return torch.stack(states)


def arithmetic(method: Method, scheduler: Any) -> list[tuple[Node, Node]]:
    """Return the nodes between which a DDIMScheduler steps: from ``t`` to ``t - T // steps``, or to its final node."""
    stride = scheduler.config.num_train_timesteps // scheduler.num_inference_steps
    final = CLEAN if scheduler.config.set_alpha_to_one else method.path.index(0)
    index = method.path.index
    return [(index(t), index(t - stride) if t >= stride else final) for t in scheduler.timesteps.tolist()]


def difference(scheduler: Any, steps: int, eta: float) -> float:
    """Return max|theirs - ours| over a whole trajectory, by our sampler if theirs goes from node to node."""
    method = from_scheduler(scheduler.config)
    scheduler.set_timesteps(steps)
    assert timesteps(scheduler.config, steps) == scheduler.timesteps.tolist()
    z = torch.randn(steps + 1, 2, 3, 4, 4, dtype=F64, generator=torch.Generator().manual_seed(steps))
    net, x, z = network(scheduler), z[0], z[1:]
    expected, pairs = theirs(scheduler, net, eta, x, z), arithmetic(method, scheduler)
    nodes = nodes_from(method.path, timesteps(scheduler.config, steps))
    if pairs == list(pairwise(nodes)):
        source, solver = iter(z), Ancestral(GAINS[eta])  # noise is drawn once a step, or never
        walk = iterate(denoiser(method, net), torch.zeros_like(x), nodes, solver, lambda x: next(source), x)
        found = torch.stack([state.x_t for state in walk])
    else:
        found = ours(method, net, pairs, GAINS[eta], x, z)
    assert expected.isfinite().all() and expected.abs().max() < 20  # the scale of the absolute tolerance
    return float((expected - found).abs().max())


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("target", TYPES)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_trajectories(kind: str, spacing: str, target: str, eta: float) -> None:
    """Every state of every trajectory agrees, for every number of steps."""
    scheduler = peer(beta_schedule=kind, timestep_spacing=spacing, prediction_type=target)
    counts = STEPS if spacing == "leading" else STEPS[:-1]  # every spacing of 1000 steps is the same
    worst = max(difference(scheduler, steps, eta) for steps in counts)
    assert worst <= 1e-10  # measured: at most 4.1e-12 (eta 0: 6.2e-13)


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("one", [True, False])
@pytest.mark.parametrize("target", TYPES)
def test_final_node(target: str, one: bool, offset: int) -> None:
    """Trajectories that end at table index 0, or begin above their last multiple, agree as well."""
    scheduler = peer(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
        prediction_type=target, set_alpha_to_one=one, steps_offset=offset,
    )  # fmt: skip
    counts = (5, 15, 100, 100 if offset or one else 1000)  # 1000 steps with offset 1 would start at index 1000
    worst = max(difference(scheduler, steps, eta) for steps in counts for eta in GAINS)
    assert worst <= 1e-10  # measured: at most 1.7e-12


@pytest.mark.parametrize("kind", KINDS)
def test_no_drift(kind: str) -> None:
    """The difference does not grow with the number of steps, as the paper's converted sampler's did at 100."""
    found = {steps: difference(peer(beta_schedule=kind), steps, 0.0) for steps in (5, 10, 15, 20, 100, 1000)}
    print(kind, {steps: f"{worst:.1e}" for steps, worst in found.items()})
    assert max(found.values()) <= 1e-10  # measured: at most 4.5e-14, at 1000 steps; 8e-15 at 100


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_free_epsilon(kind: str, eta: float) -> None:
    """A network that knows no schedule drives the state to 1e5; we agree to that scale's round-off of 1 - abar."""
    for spacing in SPACINGS:
        scheduler = peer(beta_schedule=kind, timestep_spacing=spacing)
        method = from_scheduler(scheduler.config)
        for steps in (5, 15, 100):
            scheduler.set_timesteps(steps)
            z = torch.randn(steps + 1, 2, 3, 4, 4, dtype=F64, generator=torch.Generator().manual_seed(steps))
            expected = theirs(scheduler, toy, eta, z[0], z[1:])
            found = ours(method, toy, arithmetic(method, scheduler), GAINS[eta], z[0], z[1:])
            worst = (expected - found).abs().max() / expected.abs().max()
            assert worst <= 1e-11  # measured: at most 1.1e-12, squared cosine; linear 7.4e-14


@pytest.mark.parametrize("target", TYPES[1:])
def test_zero_terminal_snr(target: str) -> None:
    """A path rescaled to end at abar = 1 agrees from that node on, for the predictions that determine x_0 there.

    Not with eta 1: theirs takes the root of ``1 - acp_s - variance``, zero but for round-off, and adds 1e-8 eps.
    """
    scheduler = peer(rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type=target)
    assert from_scheduler(scheduler.config).path.index(999)[:2] == (1.0, 1.0)
    worst = max(difference(scheduler, steps, eta) for steps in (5, 10, 100, 1000) for eta in (0.0, 0.5))
    assert worst <= 1e-10  # measured: at most 4.0e-12


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("target", TYPES)
def test_ddpm_scheduler(target: str, spacing: str) -> None:
    """DDPMScheduler, which does step to the next timestep, is our markov gain on every spacing, clipping included."""
    scheduler = peer(diffusers.DDPMScheduler, prediction_type=target, timestep_spacing=spacing, clip_sample=True)
    method, net = from_scheduler(scheduler.config), network(scheduler)
    for steps in (5, 15, 100):
        scheduler.set_timesteps(steps)
        x = start = torch.randn(2, 3, 4, 4, dtype=F64, generator=torch.Generator().manual_seed(steps))
        generator = torch.Generator().manual_seed(0)
        for t in scheduler.timesteps.tolist():
            out = scheduler.step(net(x, t), t, x, generator=generator)
            x = out.prev_sample
        expected = out.pred_original_sample  # prev_sample, less the noise of its variance's floor: 1e-10 z
        nodes, noise = nodes_from(method.path, timesteps(scheduler.config, steps)), gaussian(generator.manual_seed(0))
        found = sample(denoiser(method, net), torch.zeros_like(start), nodes, Ancestral(markov), noise, start)
        assert (expected - found).abs().max() <= 1e-10  # measured: at most 2.6e-14


@pytest.mark.parametrize("target", TYPES)
def test_clipping(target: str) -> None:
    """Theirs keeps the eps of the unclipped x_0, as our row does; if asked to, it completes eps."""
    scheduler = peer(prediction_type=target, clip_sample=True)
    method = from_scheduler(scheduler.config)
    scheduler.set_timesteps(10)
    z = torch.randn(11, 2, 3, 4, 4, dtype=F64, generator=torch.Generator().manual_seed(0))
    args, pairs = (network(scheduler), 0.0, z[0], z[1:]), arithmetic(method, scheduler)
    expected = theirs(scheduler, *args, use_clipped_model_output=True)
    found = ours(method, args[0], pairs, deterministic, z[0], z[1:])
    assert (expected - found).abs().max() <= 1e-10  # measured: at most 2.3e-15
    default = theirs(scheduler, *args)
    assert (default - found).abs().max() > 0.01
    nodes, solver = trajectory(scheduler.config, 10), Ancestral(method.gain, method.anchor)
    walk = iterate(denoiser(method, args[0]), torch.zeros_like(z[0]), nodes, solver, x_start=z[0])
    found = torch.stack([state.x_t for state in walk])
    assert (default - found).abs().max() <= 1e-10  # measured: at most 1.6e-15


@pytest.mark.parametrize("kind", KINDS)
def test_tables(kind: str) -> None:
    """Their own float32 tables are ours to float32 round-off, which a thousand factors add up."""
    scheduler = diffusers.DDIMScheduler(beta_schedule=kind)
    path = from_scheduler(scheduler.config).path
    acp = torch.tensor([1 - path.index(i).bbar ** 2 for i in range(1000)], dtype=F64)
    assert (scheduler.betas - ddpm_betas(KINDS[kind])).abs().max() < 6e-8  # measured: at most 2.3e-8
    assert (scheduler.alphas_cumprod - acp).abs().max() < 3e-6  # measured: at most 3.3e-7
    trained = from_scheduler({"trained_betas": ddpm_betas(KINDS[kind]).tolist()}).path
    assert [trained.index(i) for i in range(-1, 1000)] == [path.index(i) for i in range(-1, 1000)]


def test_velocity() -> None:
    """Our v is theirs, decodes to the truth, and is the path's own velocity where that has unit speed."""
    scheduler = peer(prediction_type="v_prediction")
    x_0, eps = torch.randn(2, 1, 3, 4, 4, dtype=F64, generator=torch.Generator().manual_seed(0))
    circle = CurvePath(lambda t: 1 - torch.cos(t), torch.sin)
    for t in (0, 1, 500, 999):
        node = from_scheduler(scheduler.config).path.index(t)
        (v,) = V.encode(x_0, torch.zeros_like(x_0), eps, node, None)
        assert (v - scheduler.get_velocity(x_0, eps, torch.tensor([t]))).abs().max() < 1e-14
        x_t = (1 - node.abar) * x_0 + node.bbar * eps
        decoded = V.decode((v,), x_t, torch.zeros_like(x_0), node, None)
        assert max((decoded.x_0 - x_0).abs().max(), (decoded.eps - eps).abs().max()) < 1e-14
        angle = torch.atan2(torch.tensor(node.bbar), torch.tensor(1 - node.abar)).double()
        at, rate = circle.node(float(angle)), tuple(map(float, circle.rate(angle)))
        zero = torch.zeros_like(x_0)
        path_v, unit_v = (target.encode(x_0, zero, eps, at, rate)[0] for target in (VELOCITY, V))
        assert (path_v - unit_v).abs().max() < 1e-14


@pytest.mark.parametrize("spacing", SPACINGS)
def test_timesteps(spacing: str) -> None:
    """The timesteps agree for every number of steps; where numpy.arange overshoots, theirs end in a surplus -1."""
    for length in (100, 1000):
        scheduler = diffusers.DDIMScheduler(timestep_spacing=spacing, num_train_timesteps=length)
        for steps in range(2, length + 1):
            scheduler.set_timesteps(steps)
            expected = scheduler.timesteps.tolist()
            assert timesteps(scheduler.config, steps) == expected[:steps]
            assert expected[steps:] in ([], [-1]) and (spacing == "trailing" or not expected[steps:])


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("beta_schedule: found 'sigmoid'", {"beta_schedule": "sigmoid"}),
    ("prediction_type: found 'flow'", {"prediction_type": "flow"}),
    ("prediction_type: found 'epsilon' with zero terminal", {"rescale_betas_zero_snr": True}),
    ("variance_type: found 'learned'", {"variance_type": "learned"}),
    ("thresholding: found True", {"thresholding": True}),
    ("clip_sample_range: found 2", {"clip_sample_range": 2}),
    ("_class_name: found 'EulerDiscreteScheduler'", {"_class_name": "EulerDiscreteScheduler"}),
    ("trained_betas: found shape", {"trained_betas": [0.1, 0.2]}),
    ("trained_betas: found betas", {"trained_betas": [0.1, 1.2], "num_train_timesteps": 2}),
    ("beta_start, beta_end: found betas", {"beta_start": -0.1}),
]


@pytest.mark.parametrize(("message", "config"), WRONG)
def test_unreadable(message: str, config: dict[str, Any]) -> None:
    """A configuration that no row describes raises, naming the field."""
    with pytest.raises(ValueError, match=message):
        from_scheduler(config)


def test_impossible_steps() -> None:
    """So do timesteps beyond the table; there theirs fail at the first step, if they fail."""
    for message, steps, config in (
        ("steps: found 0", 0, {}),
        ("steps: found 1001", 1001, {}),
        ("steps: found 1, expected 2", 1, {"timestep_spacing": "linspace"}),
        ("steps_offset: found 1, expected 0 to 0", 1000, {"steps_offset": 1}),
        ("timestep_spacing: found 'karras'", 5, {"timestep_spacing": "karras"}),
    ):
        with pytest.raises(ValueError, match=message):
            timesteps(config, steps)
    scheduler = peer(steps_offset=1)
    scheduler.set_timesteps(1000)
    with pytest.raises(IndexError):
        scheduler.step(torch.zeros(1), int(scheduler.timesteps[0]), torch.zeros(1))


def test_rows_are_told_apart() -> None:
    """A configuration without fields is DDIM's own row; clipping can be turned off."""
    row = from_scheduler({})
    assert replace(row, name="x") == replace(from_scheduler(diffusers.DDIMScheduler().config), name="x")
    assert from_scheduler({"clip_sample": False}).clip is not row.clip
