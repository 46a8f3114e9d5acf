"""What ``experiments/conversion.py`` compares: a small DDPM trained, saved and sampled by diffusers alone, and ours."""

import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "jobs"))

import sets
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from rddm.denoiser import NetworkDenoiser
from rddm.hf import from_scheduler, timesteps
from rddm.methods import Method
from rddm.model import Model
from rddm.path import TabulatedPath, gaussian, nodes_from
from rddm.sample import sample
from rddm.schedules import TablePath, ddpm_betas
from rddm.solvers import Ancestral
from rddm.transition import anchor_x_t

BATCH = 32
Differences = dict[str, dict[str, float]]


def fresh(side: int) -> nn.Module:
    """Return a UNet2DModel of a million weights."""
    from diffusers.models.unets.unet_2d import UNet2DModel

    return UNet2DModel(
        sample_size=side,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
    )


def train(data: Path, folder: Path, side: int, updates: int, prediction: str) -> None:
    """Train on packed images, to predict "epsilon" or "v_prediction", and let diffusers save the averaged weights."""
    from diffusers.pipelines.ddpm.pipeline_ddpm import DDPMPipeline
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    torch.manual_seed(0)
    unet, scheduler = fresh(side), DDPMScheduler(prediction_type=prediction)
    average = AveragedModel(unet, multi_avg_fn=get_ema_multi_avg_fn(0.995))
    optimiser = torch.optim.Adam(unet.parameters(), 2e-3)
    rate = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, updates)
    images = torch.from_numpy(sets.Packed(data, side).images).permute(0, 3, 1, 2) / 127.5 - 1
    for i in range(updates):
        x_0 = images[torch.randint(len(images), (BATCH,))]
        x_0 = torch.where(torch.rand(BATCH, 1, 1, 1) < 0.5, x_0.flip(3), x_0)
        eps, t = torch.randn_like(x_0), torch.randint(1000, (BATCH,))
        goal = eps if prediction == "epsilon" else scheduler.get_velocity(x_0, eps, t)
        loss = (unet(scheduler.add_noise(x_0, eps, t), t).sample - goal).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        rate.step()
        average.update_parameters(unet)
        if i % 100 == 0:
            print(f"{prediction}: update {i}/{updates}, loss {float(loss.detach()):.4f}", flush=True)
    DDPMPipeline(average.module, scheduler).save_pretrained(folder)


@torch.no_grad()
def theirs(folder: Path, kind: str, steps: int, x: Tensor, generator: torch.Generator) -> Tensor:
    """Return what one of its schedulers, ``kind``, makes of noise; in float64 with its tables computed in float64."""
    import diffusers

    diffusers.utils.logging.disable_progress_bar()
    pipeline = diffusers.DDPMPipeline.from_pretrained(folder)
    scheduler = getattr(diffusers, kind).from_config(pipeline.scheduler.config)
    if x.dtype == torch.float64:
        pipeline.unet.double()
        known = scheduler.config
        scheduler.betas = torch.linspace(known.beta_start, known.beta_end, known.num_train_timesteps, dtype=x.dtype)
        scheduler.alphas_cumprod = (1 - scheduler.betas).cumprod(0)
        scheduler.one = scheduler.final_alpha_cumprod = torch.ones((), dtype=x.dtype)
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        x = scheduler.step(pipeline.unet(x, t).sample, t, x, generator=generator).prev_sample
    return x


def rows_of(model: Model, kind: str, dtype: torch.dtype) -> dict[str, Method]:
    """Return the row of a scheduler of diffusers; for DDIM in float64, also what the paper has in its places."""
    row, name = from_scheduler({**model.spec.card["scheduler"], "_class_name": kind}), kind.removesuffix("Scheduler")
    rows = {name: row}
    if (name, dtype) == ("DDIM", torch.float64):
        acp = (1 - ddpm_betas("linear").float()).cumprod(0)
        rounded = TablePath(tuple((1 - acp.sqrt()).tolist()), tuple((1 - acp).tolist()))
        rows |= {"DDIM of float32 tables": replace(row, path=rounded)}
        rows |= {"DDIM as increments": replace(row, anchor=anchor_x_t)}
    return {f"{label}, {str(dtype).removeprefix('torch.')}": found for label, found in rows.items()}


def ours(model: Model, row: Method, steps: int, x: Tensor, generator: torch.Generator) -> Tensor:
    """Return what the converted model makes of noise."""
    denoiser, solver = NetworkDenoiser(model.net.to(x.dtype), row), Ancestral(row.gain, row.anchor)
    assert isinstance(row.path, TabulatedPath)
    nodes = nodes_from(row.path, timesteps(model.spec.card["scheduler"], steps))
    return sample(denoiser, torch.zeros_like(x), nodes, solver, gaussian(generator), x)


def differences(folders: dict[str, Path], models: dict[str, Model], counts: tuple[int, ...]) -> Differences:
    """Return max |theirs - ours| over an image, by network, row and precision, for each number of steps."""
    found: Differences = {}
    cases = product((torch.float64, torch.float32), folders, ("DDIMScheduler", "DDPMScheduler"), counts)
    for dtype, name, kind, steps in cases:
        start, each = (torch.Generator().manual_seed(seed) for seed in (0, 1))
        side, state = models[name].spec.side or 0, each.get_state()
        x = torch.randn(1, 3, side, side, dtype=dtype, generator=start)
        expected = theirs(folders[name], kind, steps, x, each)
        for label, row in rows_of(models[name], kind, dtype).items():
            apart = float((expected - ours(models[name], row, steps, x, each.set_state(state))).abs().max())
            found.setdefault(f"{name}, {label}", {})[str(steps)] = apart
    return found
