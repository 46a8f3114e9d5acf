"""How the golden arrays were recorded: the authors' conventions, put together from this package's parts.

Nothing here is a second implementation. A recording is a row of the table with another path, target, clip or clock, its
recorded noises fed back in. What the authors' code does and no row says, because nobody should want it, stays here.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from rddm.clipping import Clip, published_res, published_res_eps, published_x_0, published_x_0_eps
from rddm.clocks import Clock, index_clock, plane_clock
from rddm.denoiser import NetworkDenoiser
from rddm.methods import RDDM, Method
from rddm.nn.unet import UNet
from rddm.path import Node, Noise, TabulatedPath
from rddm.path import Path as Curve
from rddm.prediction import EPS_FLOORED, RES, RES_EPS, RES_SUM, X0_EPS, X0_SUM, Prediction, Target
from rddm.published import infer_config, rename
from rddm.sample import Trajectory, iterate, start
from rddm.schedules import DDPMPath, PowerPath, TablePath
from rddm.solvers import Ancestral, increment
from rddm.transition import anchor_x_0, anchor_x_t, residual, root, stochastic

FLOOR = 1e-6


class Arrays(dict[str, Tensor]):
    """The tensors of a golden file; remembers which were asked for, so that a test can tell which it left out."""

    def __init__(self, file: Path) -> None:
        super().__init__(load_file(file))
        self.used: set[str] = set()

    def __getitem__(self, key: str) -> Tensor:
        """Return a tensor and remember that it was used."""
        self.used.add(key)
        return super().__getitem__(key)

    def below(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose keys start with ``prefix/``, under the rest of their keys."""
        return {key[len(prefix) + 1 :]: self[key] for key in self if key.startswith(f"{prefix}/")}

    def groups(self) -> list[str]:
        """Return what stands before the last slash of the keys, sorted, each once."""
        return sorted({key.rpartition("/")[0] for key in self if "/" in key})

    def unused(self) -> set[str]:
        """Return the keys never asked for."""
        return set(self) - self.used


@cache
def manifest(golden: Path) -> dict[str, dict[str, Any]]:
    """Return the entries of the golden folder's manifest by file."""
    return {entry["file"]: entry for entry in json.loads((golden / "manifest.json").read_text())["files"]}


def largest(found: Tensor, expected: Tensor) -> float:
    """Return the largest absolute difference, in float64."""
    return float((found.detach().double() - expected.double()).abs().max())


def popped(*recorded: Tensor) -> Noise:
    """Return a source of noise that hands out recorded tensors in order."""
    queue = iter(recorded)
    return lambda like: next(queue).to(like.dtype)


@dataclass(frozen=True)
class Objective:
    """A published objective: its target and clip, the recorded network it uses ("" for both), the clocks that sees."""

    target: Target
    clip: Clip
    part: str = ""
    seen: tuple[int, ...] = (0, 1)


OBJECTIVES = {
    "pred_res": Objective(RES, published_res, "unet0", (0,)),
    "pred_noise": Objective(EPS_FLOORED, published_x_0, "unet0", (1,)),
    "pred_res_noise": Objective(RES_EPS, published_res_eps),
    "pred_x0_noise": Objective(X0_EPS, published_x_0_eps),
    "pred_res_add_noise": Objective(RES_SUM, published_res_eps),
    "pred_x0_add_noise": Objective(X0_SUM, published_x_0_eps),
}


def clock_of(objective: Objective, plane: bool, length: int) -> Clock:
    """Return the published clock: the index, or ``(abar T, bbar T)`` of which one net sees the part it predicts."""
    if not plane:
        return index_clock
    return lambda path, node: [plane_clock(path, node)[i] * length / 1000 for i in objective.seen]


def net_of(golden: Path, weights: str, part: str, dtype: torch.dtype) -> UNet:
    """Return the net of ``sampling/weights_*``, the whole of it or one of two (``part`` "unet0" or "unet1")."""
    content = load_file(golden / f"{weights}.safetensors")
    if part and any(key.startswith(f"{part}.") for key in content):
        content = {key.removeprefix(f"{part}."): value for key, value in content.items() if key.startswith(part)}
    renamed = rename(content)
    net = UNet(infer_config(renamed))
    net.load_state_dict(renamed)
    return net.to(dtype)


def row(objective: Objective, path: Curve, inputs: tuple[str, ...], clock: Clock = index_clock) -> Method:
    """Return the row of the table that the authors' code trains and samples as ``objective``."""
    method = replace(RDDM, name="published", path=path, target=objective.target, clip=objective.clip)
    return replace(method, inputs=inputs, clock=clock)


def table_path(tables: dict[str, Tensor]) -> TablePath:
    """Return the path of recorded float32 tables."""
    abar, bbar2 = (tables[name].double().tolist() for name in ("alphas_cumsum", "betas2_cumsum"))
    return TablePath(tuple(abar), tuple(bbar2))


@dataclass(frozen=True)
class Family:
    """What the manifest does not say of a group of recordings.

    Arguments:
        path: ``(length, noise) -> path``, in float64.
        tables: the file and group of its float32 tables, a template; "" where the reference's were float64.
        plane: whether the clock is the place in the plane.
        decoupled: whether residual and noise are removed one after the other.
    """

    path: Callable[[int, float], TabulatedPath]
    tables: str = ""
    plane: bool = False
    decoupled: bool = False


def integer(length: int, noise: float) -> TabulatedPath:
    """Return exp2's path."""
    return PowerPath(steps=length, noise=noise)


def linspace(length: int, noise: float) -> TabulatedPath:
    """Return the path of the other experiments."""
    return PowerPath(steps=length, noise=noise, spacing="linspace")


def converted(length: int, noise: float) -> TabulatedPath:
    """Return the path converted from a linear DDPM's, whose noise is fixed."""
    return DDPMPath(steps=length)


POWER, DDIM = "exp0_noddim:ctor/T{length}/{start}", "exp0_ddim_converted:ddim_linear/ctor/T{length}"
FAMILIES = {
    "exp2/": Family(integer),
    "exp0/pred": Family(converted, DDIM, plane=True, decoupled=True),
    "exp0/simultaneous": Family(converted, DDIM, plane=True),
    "exp0/restoration": Family(linspace, POWER),
    "exp4/": Family(linspace, POWER, plane=True),
    "exp5/": Family(converted, DDIM, plane=True),
    "exp6/": Family(linspace, POWER),
}


@dataclass(frozen=True)
class Recording:
    """A recorded run of the authors' sampler, ready to be run again."""

    family: Family
    arrays: Arrays
    denoiser: NetworkDenoiser
    x_in: Tensor
    x_start: Tensor
    trajectory: Trajectory
    solver: Ancestral
    tolerance: float

    def run(self) -> list[tuple[Tensor, Prediction]]:
        """Return each step's state and the estimate it came from."""
        noise = popped(*(self.arrays["noises"] if "noises" in self.arrays else ()))
        with torch.no_grad():
            if self.family.decoupled and self.solver.anchor is anchor_x_t:
                return list(decoupled(self, noise))
            states = iterate(self.denoiser, self.x_in, self.trajectory, self.solver, noise, self.x_start)
            return [(state.x_t, state.prediction) for state in states]


def recording(golden: Path, file: str, dtype: torch.dtype, float32_tables: bool = False) -> Recording:
    """Read a recording; ``float32_tables`` asks for the reference's rounded tables in place of our float64 ones."""
    arrays, entry = Arrays(golden / file), manifest(golden)[file]
    setting, family = entry["diffusion"], next(f for p, f in FAMILIES.items() if file.startswith(f"sampling/{p}"))
    length, condition, noise = setting["timesteps"], setting["condition"], setting.get("sum_scale") or 1.0
    path = family.path(length, noise)
    if float32_tables:
        name, _, group = family.tables.partition(":")
        begin = f"cond1_sum{setting['sum_scale']}" if condition else "cond0_sum1.0"
        path = table_path(
            Arrays(golden / f"schedules/{name}.safetensors").below(group.format(length=length, start=begin))
        )
    objective = objective_of(setting, entry["net"].get("num_unet"))
    x_in = 2 * arrays["x_input"].to(dtype) - 1 if condition else torch.zeros_like(arrays["noise_init"], dtype=dtype)
    inputs = ("x_in", "mask") if "mask" in arrays else ("x_in",) if sees_input(setting) else ()
    method = row(objective, path, inputs, clock_of(objective, family.plane, length))
    net = net_of(golden, entry["weights"].split()[0], objective.part, dtype)
    eta = entry["attributes_set_after_ctor"].get("ddim_sampling_eta", setting.get("ddim_sampling_eta", 0.0))
    # With S = T the authors sample from the posterior, coef1 x_t + coef2 res + coef3 x_0: coef1 = bbar_s^2 / bbar_t^2
    # is the residual gain k, coef3 = beta^2 / bbar_t^2 = 1 - k, coef2 = (beta^2 abar_s - bbar_s^2 alpha) / bbar_t^2 =
    # abar_s - k abar_t, for beta^2 = bbar_t^2 - bbar_s^2 and alpha = abar_t - abar_s. That is anchor_x_0; the other
    # steps are Eq. 12 as it stands, anchor_x_t. Clipped estimates tell the two apart.
    steps = setting.get("sampling_timesteps")
    solver = Ancestral(stochastic(residual, eta), anchor_x_t) if steps else Ancestral(residual, anchor_x_0)
    return Recording(
        family, arrays, NetworkDenoiser(net, method, conditions(arrays, setting, dtype)), x_in,
        # The start's noise is sum_scale's even where the path's, converted from a DDPM, falls short of it.
        start(x_in, Node(1.0, noise**0.5, 1.0), popped(arrays["noise_init"])), path.grid(steps or length), solver,
        max(5e-5, 10 * entry["fp32_vs_fp64_maxabs"]["worst_step"]),
    )  # fmt: skip


def sees_input(setting: dict[str, Any]) -> bool:
    """Tell whether the net sees ``x_in``: translation and inpainting start from it but do not show it."""
    return setting["condition"] and not setting.get("img_to_img_translation")


def conditions(arrays: Arrays, setting: dict[str, Any], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the mask, in [0, 1] or, as one published setting has it, in [-1, 1]."""
    if "mask" not in arrays:
        return {}
    mask = arrays["mask"].to(dtype)
    return {"mask": mask if setting["input_condition_mask"] else 2 * mask - 1}


def objective_of(setting: dict[str, Any], nets: int | None) -> Objective:
    """Return the objective: of two nets the test may use one."""
    name, read = setting["objective"], setting.get("test_res_or_noise")
    if nets == 2 and read in ("res", "noise"):
        return replace(OBJECTIVES[f"pred_{read}"], part={"res": "unet0", "noise": "unet1"}[read])
    return OBJECTIVES[name]


def decoupled(run: Recording, noise: Noise) -> Iterator[tuple[Tensor, Prediction]]:
    """Sample as exp0 does: the residual is removed step by step, then the noise, each pass ending in its ``x_0``.

    The second pass starts again at ``t = 1``, from what the first returned, so the network is told of noise and of a
    residual that are not there. Fresh noise, if any, is added in both passes although the first keeps the old.
    """
    x_t, nodes = run.x_start, run.trajectory
    for leg in ("residual", "noise"):
        for now, then in pairwise(nodes):
            prediction = run.denoiser(x_t, run.x_in, now)
            kept = run.solver.gain(now, then) * now.bbar if now.bbar else 0.0
            sigma = root(then.bbar**2 - kept**2)
            if then is nodes[-1]:
                x_t = prediction.x_0
            else:
                target = then._replace(bbar=now.bbar) if leg == "residual" else now._replace(bbar=kept)
                x_t = increment(x_t, prediction.res, prediction.eps, now, target)
                x_t = x_t + sigma * noise(x_t) if sigma > 1e-6 else x_t
            yield x_t, prediction
