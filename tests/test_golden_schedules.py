"""Every recorded schedule: our float64 tables against the authors', and their DDIM as a residual diffusion."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from published_rules import FLOOR, Arrays, largest, table_path
from torch import Tensor

from rddm.path import Node, TabulatedPath, mix, nodes_from
from rddm.prediction import Prediction, from_eps
from rddm.schedules import Betas, DDPMPath, Direction, PowerPath, power_weights
from rddm.transition import anchor_x_0, anchor_x_t, markov, residual, stochastic, transition

Tables = dict[str, Tensor]
DIRECTIONS: dict[str, Direction] = {"average": "mean", "increased": "increasing", "decreased": "decreasing"}
BETAS: dict[str, Betas] = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos": "squared_cosine"}
ZERO = torch.zeros(1, dtype=torch.float64)
ONE = ZERO + 1

# How far float32 tables are from the truth, as a share of a table's largest entry. Where the reference summed
# coefficients, it lost a few ulps: measured 2e-7, and 1.1e-6 for the posterior's residual, a difference ...
OTHERWISE = 3e-7
SUMMED = {"posterior_mean_coef2": 3e-6}
# ... but where it differenced converted sums, near 1 when the steps are near 1e-6, it lost up to 5 % of a step.
CONVERTED = {
    "alphas": 2e-4,  # measured 5.6e-5
    "alphas_cumsum": 2e-6,  # 8.7e-7
    "betas2": 2e-4,  # 5.5e-5
    "betas": 2e-3,  # 5.2e-4
    "betas2_cumsum": 2e-6,  # 6e-7
    "betas_cumsum": 5e-6,  # 2.4e-6
    "posterior_mean_coef1": 5e-4,  # 1.8e-4, at t = 5
    "posterior_mean_coef2": 5e-4,  # 1.3e-4
    "posterior_mean_coef3": 5e-4,  # 1.8e-4
    "posterior_variance": 2e-4,  # 5.5e-5
    "posterior_log_variance_clipped": 3e-3,  # 1.2e-3
}


def posterior(path: TabulatedPath) -> Tensor:
    """Return what each step makes of ``x_t``, ``res``, ``x_0`` and ``z``, alone and of size one: (T, 4)."""
    rows = [torch.tensor([0.0, 0.0, 1.0, 0.0], dtype=torch.float64)]  # index 0 goes to the clean image, x_0 itself
    for i in range(1, path.length):
        now, then = path.index(i), path.index(i - 1)
        k = residual(now, then)
        units = ((ONE, ZERO, ZERO, ZERO), (ZERO, ONE, ZERO, ZERO), (ZERO, ZERO, ONE, ZERO), (ZERO, ZERO, ZERO, ONE))
        steps = [transition(x, Prediction(x_0, res, ZERO), now, then, k, z) for x, res, x_0, z in units]
        rows.append(torch.cat(steps))
    return torch.stack(rows)


def buffers(path: TabulatedPath) -> Tables:
    """Return the tables of a path under the authors' names."""
    abar, bbar2 = path.tables()
    alpha, beta2, step = torch.diff(abar, prepend=ZERO), torch.diff(bbar2, prepend=ZERO), posterior(path)
    return {
        "alphas": alpha,
        "alphas_cumsum": abar,
        "one_minus_alphas_cumsum": 1 - abar,
        "betas2": beta2,
        "betas": beta2.sqrt(),
        "betas2_cumsum": bbar2,
        "betas_cumsum": bbar2.sqrt(),
        "posterior_mean_coef1": step[:, 0],
        "posterior_mean_coef2": step[:, 1],
        "posterior_mean_coef3": step[:, 2],
        "posterior_variance": step[:, 3] ** 2,
        "posterior_log_variance_clipped": (step[:, 3] ** 2).clamp_min(1e-20).log(),
    }


def check_buffers(
    recorded: Tables, path: TabulatedPath, name: str, bounds: dict[str, float], first: int | None = None
) -> None:
    """Compare all tables; ``first`` tells which entry the reference put at the start of the converted steps, if any."""
    ours = buffers(path)
    assert ours.keys() == recorded.keys()
    assert recorded["one_minus_alphas_cumsum"][-1] == torch.tensor(FLOOR)  # always, so that SM-N need not divide by 0
    for key, table in ours.items():
        begin = 0 if first is None or key not in ("alphas", "betas2", "betas") else 1
        end = len(table) - (key == "one_minus_alphas_cumsum")
        error = largest(table[begin:end], recorded[key][begin:end]) / float(recorded[key].abs().max())
        assert error < bounds.get(key, OTHERWISE), f"{name}/{key}"
        if begin:
            assert recorded[key][0] == (recorded[key][1] if first else 0), f"{name}/{key}"


def check_integer_buffers(arrays: Arrays) -> None:
    """exp2: computed in float64, kept in float32."""
    for group in arrays.groups():
        noise, length = float(group.partition("sum")[2]), len(arrays[f"{group}/alphas"])
        check_buffers(arrays.below(group), PowerPath(noise=noise, steps=length), group, SUMMED)


def check_linspace_buffers(arrays: Arrays) -> None:
    """exp0 without conversion: as constructed, and as ``init`` re-adjusts it."""
    for group in arrays.groups():
        if group == "init/T1000/sum1.0":
            path = PowerPath(alpha="mean", beta2_power=3, spacing="linspace")
        else:
            noise, length = float(group.partition("sum")[2]), len(arrays[f"{group}/alphas"])
            path = PowerPath(noise=noise, steps=length, spacing="linspace")
        check_buffers(arrays.below(group), path, group, SUMMED)


def check_readjusted_buffers(arrays: Arrays) -> None:
    """exp6's ``init``."""
    path = PowerPath(alpha_power=2, beta2="mean", spacing="linspace")
    check_buffers({key: arrays[key] for key in arrays}, path, "init", SUMMED)


def check_converted_buffers(arrays: Arrays) -> None:
    """Three DDPM schedules, converted; the steps also follow from the recorded sums, to their own round-off."""
    for group in arrays.groups():
        name, call, _ = group.split("/")
        recorded = arrays.below(group)
        first = 1 if call == "init" else 0
        path = DDPMPath(betas=BETAS[name.removeprefix("ddim_")], steps=len(recorded["alphas"]))
        check_buffers(recorded, path, group, CONVERTED, first)
        check_buffers(recorded, table_path(recorded), group, SUMMED, first)


def bump(length: int) -> Tensor:
    """Return the "normal" coefficients, a Gaussian on [-3, 3] that only the reference's ablations use."""
    density = torch.exp(-(torch.linspace(-3, 3, length, dtype=torch.float64) ** 2) / 2)
    return density / density.sum()


def check_coefficients(arrays: Arrays, coefficients: Callable[[list[str], int], Tensor], bound: float) -> None:
    """Compare coefficients, their clipped sums and the sums' roots."""
    for group in arrays.groups():
        parts, recorded = group.split("/"), arrays.below(group)
        total = float(parts[-1].removeprefix("sum"))
        weights = coefficients(parts, len(recorded["coef"]))
        sums = (total * weights).cumsum(0).clamp(0, 1)
        ours = {"coef": total * weights, "cumsum": sums, "sqrt_cumsum": sums.sqrt()}
        for key, table in recorded.items():
            assert largest(ours[key], table) < bound, f"{group}/{key}"
        if parts[1] in DIRECTIONS and len(parts) == 3:
            path = PowerPath(beta2=DIRECTIONS[parts[1]], noise=total, steps=len(sums))
            assert largest(path.tables()[1], recorded["cumsum"]) < bound, f"{group}/cumsum"


def check_integer_coefficients(arrays: Arrays) -> None:
    """exp2's, float64: measured 3e-16."""
    check_coefficients(arrays, lambda parts, length: power_weights(DIRECTIONS[parts[1]], 1, length), 1e-14)


def check_linspace_coefficients(arrays: Arrays) -> None:
    """The others', float32: measured 1e-7."""

    def coefficients(parts: list[str], length: int) -> Tensor:
        if parts[1] == "normal":
            return bump(length)
        return power_weights(DIRECTIONS[parts[1]], float(parts[2].removeprefix("ratio")), length, "linspace")

    check_coefficients(arrays, coefficients, 3e-7)


def check_converted_sampler(arrays: Arrays) -> None:
    """exp1: DDIM's tables and trajectories, and the same as a residual diffusion, with other tables too."""
    path = DDPMPath()
    abar, bbar2 = path.tables()
    tables = {"alphas_cumprod": 1 - bbar2, "alphas_cumsum_res": abar, "betas_cumsum_res": bbar2.sqrt()}
    tables["alphas_cumprod_minus_one_res"] = abar - 1
    for key, table in tables.items():
        assert largest(table, arrays[f"tables/{key}"]) < 4e-6, key  # measured 1.1e-6
    for ratio in (0.3, 1.5):
        key = f"tables/adjusted_decreased_ratio{ratio}/alphas_cumsum_res"
        assert largest(power_weights("decreasing", ratio, 1000, "linspace").cumsum(0), arrays[key]) < 1e-14, key
    adjusted = arrays["tables/adjusted_decreased_ratio0.3/alphas_cumsum_res"].tolist()
    for clipped in (0, 1):
        for eta in (0, 1):
            runs = {
                "ddim": trajectory(arrays, path, clipped, eta, None, as_ddim=True),
                "rddm": trajectory(arrays, path, clipped, eta, None),
                "rddm_adjust_decreased_0.3": trajectory(arrays, path, clipped, eta, adjusted),
            }
            for kind, states in runs.items():
                expected = arrays[f"{kind}/clip{clipped}/eta{eta}/traj"]
                # Measured: 1.4e-6 of the largest value, which is 27 to 57 without the clip.
                assert largest(states, expected) < 5e-6 * float(expected.abs().max()), (kind, clipped, eta)


def trajectory(
    arrays: Arrays, path: DDPMPath, clipped: int, eta: int, adjusted: list[float] | None, as_ddim: bool = False
) -> Tensor:
    """Return the states of exp1's sampler on its toy network, generation with DDIM's variance: ``eta`` of ``markov``.

    DDIM builds a step from the estimates alone, with eps as predicted: its deviation is ``bbar eps``, which the state
    that they describe together has. RDDM's is an increment. They part when ``x_0`` is clipped and eps is not, and when
    ``adjusted`` exchanges the steps' ``abar``, but not the network's, for another.
    """
    x_t, times = arrays["x_T"].double(), arrays["timesteps"].tolist()
    x_in, gain, states = torch.zeros_like(x_t), stochastic(markov, eta), []
    nodes = nodes_from(path, times)
    exchange = nodes
    if adjusted:
        exchange = [node._replace(abar=adjusted[t]) for node, t in zip(nodes[:-1], times, strict=True)] + nodes[-1:]
    for i, (now, then) in enumerate(pairwise(nodes)):
        estimate = toy_estimate(arrays, x_t, x_in, now, times[i], clipped)
        z = arrays["noises_eta1"][i].double() if eta else 0.0
        k = gain(now, then)
        if as_ddim:
            x_t = transition(mix(*estimate, now), estimate, now, then, k, z, anchor_x_0)
        else:
            x_t = transition(x_t, estimate, exchange[i], exchange[i + 1], k, z, anchor_x_t)
        states.append(x_t)
    return torch.stack(states)


def toy_estimate(arrays: Arrays, x_t: Tensor, x_in: Tensor, now: Node, time: int, clipped: int) -> Prediction:
    """Return the estimate of the recorded toy network, ``eps = 0.6 x + tanh(W x) (1 + t / 2000)``."""
    mixed = torch.einsum("ij,bjhw->bihw", arrays["toy_eps_matrix"].double(), x_t)
    estimate = from_eps(0.6 * x_t + torch.tanh(mixed) * (1 + time / 2000), x_t, x_in, now)
    x_0 = estimate.x_0.clamp(-1, 1) if clipped else estimate.x_0
    return Prediction(x_0, x_in - x_0, estimate.eps)


CHECKS: dict[str, Callable[[Arrays], None]] = {
    "schedules/exp0_ddim_converted.safetensors": check_converted_buffers,
    "schedules/exp0_gen_coefficients.safetensors": check_linspace_coefficients,
    "schedules/exp0_noddim.safetensors": check_linspace_buffers,
    "schedules/exp1_ddim_to_rddm.safetensors": check_converted_sampler,
    "schedules/exp2_buffers_T1000.safetensors": check_integer_buffers,
    "schedules/exp2_buffers_T20.safetensors": check_integer_buffers,
    "schedules/exp2_gen_coefficients.safetensors": check_integer_coefficients,
    "schedules/exp6_init.safetensors": check_readjusted_buffers,
}
FILES = list(CHECKS)


@pytest.mark.parametrize("file", FILES)
def test_golden_schedules(golden: Path, file: str) -> None:
    arrays = Arrays(golden / file)
    CHECKS[file](arrays)
    assert not arrays.unused()
