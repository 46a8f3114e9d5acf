"""Hugging Face: the configuration of a ``diffusers`` DDPM or DDIM scheduler as a row of the table.

A configuration is a mapping, ``scheduler.config`` or a repository's ``scheduler_config.json``; ``diffusers`` itself is
not needed. Fields that are left out take its defaults. A scheduler samples from zero residual: pass ``x_in = 0``.

Two habits of its DDIMScheduler are not kept. It steps to ``t - T // steps`` whatever the next timestep is, so that with
"linspace", or with "trailing" when ``steps`` does not divide T, it lands beside the node from which it goes on. And
``set_alpha_to_one`` False ends at table index 0 instead of the clean image. Source: diffusers 0.42, schedulers/.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rddm.clipping import clip_none, clip_x_0
from rddm.methods import METHODS, Method
from rddm.path import TabulatedPath
from rddm.prediction import EPS, VELOCITY, X0, Target
from rddm.schedules import Betas, TablePath, convert_ddpm, ddpm_betas

V = Target(
    "v", 1,
    # the path's direction at unit speed, (bbar, 1 - abar) on a variance-preserving path: (1 - abar) eps - bbar x_0
    lambda x_0, x_in, eps, n, r: VELOCITY.encode(x_0, x_in, eps, n, (n.bbar, 1 - n.abar)),
    lambda out, x_t, x_in, n, r: VELOCITY.decode(out, x_t, x_in, n, (n.bbar, 1 - n.abar)),
    "abar = 1 and bbar = 0",
)  # fmt: skip

SCHEDULES: dict[str, Betas] = {
    "linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "squared_cosine",
}  # fmt: skip
TARGETS = {"epsilon": EPS, "sample": X0, "v_prediction": V}
SPACINGS = ("leading", "trailing", "linspace")
READABLE: dict[str, tuple[Any, ...]] = {  # the first is the default; other values ask for what a row cannot say
    "_class_name": ("DDIMScheduler", "DDPMScheduler"),
    "beta_schedule": tuple(SCHEDULES),
    "prediction_type": tuple(TARGETS),
    "timestep_spacing": SPACINGS,
    "variance_type": ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
    "thresholding": (False,),
    "clip_sample": (True, False),
    "clip_sample_range": (1.0,),
    "rescale_betas_zero_snr": (False, True),
}


def read(config: Mapping[str, Any], field: str) -> Any:
    """Return a field of ``config`` or its default.

    Raises:
        ValueError: if its value is not one of :data:`READABLE`.
    """
    expected = READABLE[field]
    found = config.get(field, expected[0])
    if found not in expected:
        raise ValueError(f"{field}: found {found!r}, expected {' or '.join(map(repr, expected))}")
    return found


def whole(config: Mapping[str, Any], field: str, default: int, least: int) -> int:
    """Return an integer field of ``config``.

    Raises:
        ValueError: unless it is an integer of at least ``least``.
    """
    found = config.get(field, default)
    if not isinstance(found, int) or isinstance(found, bool) or found < least:
        raise ValueError(f"{field}: found {found!r}, expected an integer of at least {least}")
    return found


def betas_of(config: Mapping[str, Any]) -> Tensor:
    """Return the variances ``beta_t``, float64 of shape (T,).

    Raises:
        ValueError: if ``trained_betas`` are not T numbers, or any beta lies outside [0, 1].
    """
    length, trained = whole(config, "num_train_timesteps", 1000, 1), config.get("trained_betas")
    if trained is None:
        first, last = config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
        field, betas = "beta_start, beta_end", ddpm_betas(SCHEDULES[read(config, "beta_schedule")], length, first, last)
    else:
        field, betas = "trained_betas", torch.as_tensor(trained, dtype=torch.float64)
    if betas.shape != (length,):
        raise ValueError(f"trained_betas: found shape {tuple(betas.shape)}, expected ({length},), num_train_timesteps")
    if not bool(((betas >= 0) & (betas <= 1)).all()):
        raise ValueError(f"{field}: found betas from {betas.min():g} to {betas.max():g}, expected 0 to 1")
    return betas


def path_of(config: Mapping[str, Any]) -> TabulatedPath:
    """Return the scheduler's path (paper, Eq. 17), rescaled to end at ``abar = 1`` if ``rescale_betas_zero_snr``.

    Raises:
        ValueError: as :func:`betas_of`.
    """
    acp = (1 - betas_of(config)).cumprod(0)
    if read(config, "rescale_betas_zero_snr"):  # Lin et al. 2023, Algorithm 1
        root = acp.sqrt()
        acp = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    abar, bbar2 = convert_ddpm(acp)
    return TablePath(tuple(abar.tolist()), tuple(bbar2.tolist()))


def from_scheduler(config: Mapping[str, Any]) -> Method:
    """Return the row that a scheduler's configuration describes: DDIM on its path, with its target and clipping.

    ``clip_sample`` completes ``eps`` from the clipped ``x_0``, its ``use_clipped_model_output=True``.

    Raises:
        ValueError: for a field whose value a row cannot say, or that has no meaning.
    """
    for field in READABLE:
        read(config, field)
    path, target = path_of(config), TARGETS[read(config, "prediction_type")]
    if target is EPS and path.index(path.length - 1).abar == 1:
        raise ValueError("prediction_type: found 'epsilon' with zero terminal SNR, expected 'sample' or 'v_prediction'")
    return replace(METHODS["ddim"], path=path, target=target, clip=clip_x_0 if read(config, "clip_sample") else clip_none)


def timesteps(config: Mapping[str, Any], steps: int) -> list[int]:
    """Return the ``steps`` table indices that a scheduler visits, descending; ``nodes_from(path, ...)`` makes a trajectory.

    Raises:
        ValueError: unless ``1 <= steps <= T``; if ``steps_offset`` leads beyond T - 1; for a single "linspace" step.
    """
    length, spacing = whole(config, "num_train_timesteps", 1000, 1), read(config, "timestep_spacing")
    if not 1 <= steps <= length:
        raise ValueError(f"steps: found {steps}, expected 1 to {length}, num_train_timesteps")
    if spacing == "trailing":  # the sum T + (-T / steps), not the quotient, is rounded as published; likewise below
        stride = (length - length / steps) - length
        return [round(length + i * stride) - 1 for i in range(steps)]
    if spacing == "linspace":
        if steps == 1 < length:
            raise ValueError("steps: found 1 with timestep_spacing 'linspace', expected at least 2: it starts at index 0")
        stride = (length - 1) / max(steps - 1, 1)
        return [round(i * stride) for i in reversed(range(steps))]
    stride, offset = length // steps, whole(config, "steps_offset", 0, 0)
    if (steps - 1) * stride + offset >= length:
        expected = length - 1 - (steps - 1) * stride
        raise ValueError(f"steps_offset: found {offset}, expected at most {expected} with {steps} of {length} steps")
    return [i * stride + offset for i in reversed(range(steps))]
