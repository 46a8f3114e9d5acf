"""What ``experiments/conversion.py`` compares with: a small DDPM trained, saved and sampled by diffusers alone."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "jobs"))

import sets
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

BATCH = 32


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
def sample(folder: Path, kind: str, steps: int, x: Tensor, generator: torch.Generator) -> Tensor:
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
