"""Hugging Face: the configuration of a ``diffusers`` DDPM or DDIM scheduler as a row of the table.

A configuration is a mapping, ``scheduler.config`` or a ``scheduler_config.json``; ``diffusers`` itself is not needed,
and fields left out take its defaults. Sample with ``x_in = 0`` and the row's gain and anchor along
``trajectory(config, steps)``; it starts from standard normal noise, as ``x_start``, at whatever index it starts.

Two habits of its DDIMScheduler are not kept. It steps to ``t - T // steps`` whatever the next timestep is, so that with
"linspace", or with "trailing" when ``steps`` does not divide T, it lands beside the node from which it goes on. And
with ``set_alpha_to_one`` False it ends at table index 0, not at the clean image. Source: diffusers 0.42, schedulers/.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from rddm.clipping import clip_none, clip_x_0, published_x_0
from rddm.methods import METHODS, Method
from rddm.path import Node, TabulatedPath, nodes_from
from rddm.prediction import EPS, X0, Target, V
from rddm.schedules import Betas, DDPMPath, TablePath, convert_ddpm, ddpm_betas
from rddm.transition import anchor_eps

SCHEDULES: dict[str, Betas] = {
    "linear": "linear",
    "scaled_linear": "scaled_linear",
    "squaredcos_cap_v2": "squared_cosine",
}
TARGETS: dict[str, Target] = {"epsilon": EPS, "sample": X0, "v_prediction": V}
READABLE: dict[str, tuple[Any, ...]] = {  # the first is the default; any other value asks for what no row says
    "_class_name": ("DDIMScheduler", "DDPMScheduler"),
    "beta_schedule": tuple(SCHEDULES),
    "prediction_type": tuple(TARGETS),
    "timestep_spacing": ("leading", "trailing", "linspace"),
    "variance_type": ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),  # not learned ones
    "thresholding": (False,),
    "clip_sample": (True, False),
    "clip_sample_range": (1.0,),
    "rescale_betas_zero_snr": (False, True),
}


def read(config: Mapping[str, Any], field: str) -> Any:
    """Return a field of ``config`` or its default; ValueError if the value is not one of :data:`READABLE`."""
    expected = READABLE[field]
    found = config.get(field, expected[0])
    if found not in expected:
        raise ValueError(f"{field}: found {found!r}, expected {' or '.join(map(repr, expected))}")
    return found


def path_of(config: Mapping[str, Any]) -> TabulatedPath:
    """Return the scheduler's path (paper, Eq. 17), rescaled to end at ``abar = 1`` if ``rescale_betas_zero_snr``.

    Raises:
        ValueError: for an unknown schedule, ``trained_betas`` that are not T numbers, or betas outside [0, 1].
    """
    length, trained = config.get("num_train_timesteps", 1000), config.get("trained_betas")
    first, last = config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
    args = (SCHEDULES[read(config, "beta_schedule")], length, first, last)
    field = "beta_start, beta_end" if trained is None else "trained_betas"
    betas = ddpm_betas(*args) if trained is None else torch.as_tensor(trained, dtype=torch.float64)
    if betas.shape != (length,):
        raise ValueError(f"{field}: found shape {tuple(betas.shape)}, expected ({length},), num_train_timesteps")
    if not ((betas >= 0) & (betas <= 1)).all():
        raise ValueError(f"{field}: found betas from {betas.min():g} to {betas.max():g}, expected 0 to 1")
    if trained is None and not read(config, "rescale_betas_zero_snr"):
        return DDPMPath(*args)
    acp = (1 - betas).cumprod(0)
    if read(config, "rescale_betas_zero_snr"):  # Lin et al. 2024, Algorithm 1
        root = acp.sqrt()
        acp = ((root - root[-1]) * (root[0] / (root[0] - root[-1]))) ** 2
    abar, bbar2 = convert_ddpm(acp)
    return TablePath(tuple(abar.tolist()), tuple(bbar2.tolist()))


def row_of(config: Mapping[str, Any]) -> Method:
    """Return the row that samples as the scheduler does, clipping included, with a path and a target of its own.

    DDPM's for a DDPMScheduler. DDIM's for a DDIMScheduler, which clips ``x_0`` and keeps ``eps``; and for a
    DDPMScheduler of larger variance than its posterior's, which adds more noise than the path has: no gain does.
    """
    clipped, small = read(config, "clip_sample"), read(config, "variance_type").startswith("fixed_small")
    if read(config, "_class_name") == "DDPMScheduler" and small:
        return replace(METHODS["ddpm"], clip=clip_x_0 if clipped else clip_none)
    return replace(METHODS["ddim"], clip=published_x_0 if clipped else clip_none, anchor=anchor_eps)


def from_scheduler(config: Mapping[str, Any]) -> Method:
    """Return the row of the table that a scheduler's configuration says: :func:`row_of`, with its path and target.

    Raises:
        ValueError: for a field whose value no row says, or ``epsilon`` on a path with zero terminal SNR.
    """
    for field in READABLE:
        read(config, field)
    path, target = path_of(config), TARGETS[read(config, "prediction_type")]
    if target is EPS and path.index(path.length - 1).abar == 1:
        raise ValueError("prediction_type: found 'epsilon' with zero terminal SNR, expected 'sample' or 'v_prediction'")
    row = row_of(config)
    return replace(row, path=path, target=target, steps=min(row.steps, path.length))


def trajectory(config: Mapping[str, Any], steps: int) -> list[Node]:
    """Return the ``steps + 1`` nodes that a scheduler goes along, the last of them the clean image.

    Raises:
        ValueError: as :func:`path_of` and :func:`timesteps`.
    """
    return nodes_from(path_of(config), timesteps(config, steps))


def timesteps(config: Mapping[str, Any], steps: int) -> list[int]:
    """Return the ``steps`` table indices that a scheduler visits, in descending order.

    Raises:
        ValueError: unless ``1 <= steps <= T``; for ``steps_offset`` beyond the table; for a lone step of "linspace".
    """
    length, spacing = config.get("num_train_timesteps", 1000), read(config, "timestep_spacing")
    least = 2 if spacing == "linspace" and length > 1 else 1  # its lone step would start from noise at index 0
    if not least <= steps <= length:
        raise ValueError(f"steps: found {steps}, expected {least} to {length} with timestep_spacing {spacing!r}")
    if spacing == "trailing":  # the stride is rounded twice, as numpy.arange does, for the same ties
        stride = (length - length / steps) - length
        return [round(length + i * stride) - 1 for i in range(steps)]
    if spacing == "linspace":
        return [round(i * ((length - 1) / max(steps - 1, 1))) for i in reversed(range(steps))]
    stride, offset = length // steps, config.get("steps_offset", 0)
    most = length - 1 - (steps - 1) * stride
    if not 0 <= offset <= most:
        raise ValueError(f"steps_offset: found {offset}, expected 0 to {most} with {steps} of {length} steps")
    return [i * stride + offset for i in reversed(range(steps))]
