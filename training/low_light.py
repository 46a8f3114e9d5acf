"""Train the bundled low-light model on LOL, on a CPU or a GPU: ``python training/low_light.py --data ../shared/data/lol``.

SM-Res (paper, section 2): one network predicts the residual; bbar_T^2 = 1; two steps. The network sees the state, the
dark photo and its equalised copy. Validation is on blocks of contiguous ids, because neighbours are near-duplicates;
the test split is never opened here. Writes ``ema.safetensors``, ``state.pt`` (to resume) and ``log.jsonl`` to --out.
"""

import argparse
import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from rddm.denoiser import NetworkDenoiser
from rddm.loss import draw_times, losses
from rddm.methods import METHODS
from rddm.nn.compact import Compact, CompactConfig
from rddm.path import gaussian
from rddm.sample import sample

SHIFTED = {"515", "570", "649", "700", "701"}  # pairs that do not match by 2 pixels (shared/data/README.md)


@dataclass(frozen=True)
class Recipe:
    """The run: crops of 128 pixels first, whole 256 pixel crops for the last part."""

    steps: int = 20_000
    batch: int = 4
    crop: int = 128
    late_from: float = 0.8  # share of the steps after which crops are 256 pixels, batch 1
    shrink: float = 0.25  # share of the crops that are the whole 256 pixel crop, scaled down to the crop's size
    lr: float = 8e-4
    warmup: int = 500
    weight_decay: float = 1e-4
    ema: float = 0.999
    start_share: float = 0.5
    seed: int = 0
    validate_every: int = 1000


NETWORK = CompactConfig(in_channels=9, widths=(32, 64, 128, 192), blocks=(1, 1, 2, 2))
METHOD = replace(METHODS["rddm-res"], inputs=("x_in", "equalised"))


def load(folder: Path) -> tuple[Tensor, Tensor, Tensor, list[str]]:
    """Return inputs, equalised inputs and targets, uint8 (N, 3, 256, 256), and names in the order of their ids."""
    names = sorted((p.stem for p in (folder / "train_crop256/input").glob("*.webp")), key=int)
    names = [n for n in names if n not in SHIFTED]
    tables = np.load(folder / "equalisation_luts.npz")
    read = lambda kind, n: np.asarray(Image.open(folder / "train_crop256" / kind / f"{n}.webp").convert("RGB"))  # noqa: E731
    x_in = np.stack([read("input", n) for n in names])
    x_0 = np.stack([read("target", n) for n in names])
    equalised = np.stack([np.stack([tables[f"train/{n}"][c][x[..., c]] for c in range(3)], -1) for n, x in zip(names, x_in)])
    to = lambda a: torch.from_numpy(a).permute(0, 3, 1, 2).contiguous()  # noqa: E731
    return to(x_in), to(equalised), to(x_0), names


def held_out(count: int) -> list[int]:
    """Return the positions of two blocks of 24 contiguous ids."""
    return [*range(count // 4, count // 4 + 24), *range(3 * count // 4, 3 * count // 4 + 24)]


def draw(images: list[Tensor], recipe: Recipe, late: bool, generator: torch.Generator) -> list[Tensor]:
    """Draw a batch of augmented crops in [-1, 1] from stacks of images, the same for all stacks."""
    rand = lambda n: int(torch.randint(n, (1,), generator=generator))  # noqa: E731
    batch, size = (1, 256) if late else (recipe.batch, recipe.crop)
    crops = []
    for _ in range(batch):
        i, y, x, turn, flip = rand(len(images[0])), rand(257 - size), rand(257 - size), rand(4), rand(2)
        whole = not late and torch.rand(1, generator=generator).item() < recipe.shrink
        crop = torch.cat([stack[i] for stack in images]).float()
        crop = F.interpolate(crop[None], size=size, mode="bicubic", antialias=True)[0] if whole else crop[:, y : y + size, x : x + size]
        crop = torch.rot90(crop, turn, (1, 2))
        crops.append((crop.flip(2) if flip else crop).clamp(0, 255))
    joined = torch.stack(crops) / 127.5 - 1
    return [part.contiguous(memory_format=torch.channels_last) for part in joined.split(3, dim=1)]


def validate(net: Compact, images: list[Tensor], device: torch.device) -> float:
    """Return the mean RGB PSNR over whole 256 pixel crops, two steps, noise from a fixed seed."""
    scores, noise = [], gaussian(torch.Generator(device).manual_seed(0))
    for x_in, equalised, x_0 in zip(*images):
        x_in, equalised = (x[None].to(device) / 127.5 - 1 for x in (x_in, equalised))
        denoiser = NetworkDenoiser(net, METHOD, {"equalised": equalised})
        out = sample(denoiser, x_in, METHOD.path.grid(2), noise=noise)
        out = ((out[0].cpu() + 1) * 127.5).round().clamp(0, 255)
        scores.append(10 * torch.log10(255**2 / F.mse_loss(out, x_0.float())))
    return float(torch.stack(scores).mean())


def rate(step: int, recipe: Recipe) -> float:
    """Return the learning rate: linear warm-up, then half a cosine to zero."""
    return recipe.lr * min(step / recipe.warmup, 0.5 + 0.5 * float(np.cos(np.pi * step / recipe.steps)))


def save_aside(path: Path, write) -> None:
    """Write to a neighbour, then rename: a run that is killed leaves the last whole file."""
    write(path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


def train(data: Path, out: Path, recipe: Recipe, device: torch.device, limit_s: float) -> None:
    """Run the recipe from where ``out`` stopped, for at most ``limit_s`` seconds."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    generator, on_device = torch.Generator().manual_seed(recipe.seed), torch.Generator(device).manual_seed(recipe.seed)
    *stacks, names = load(data)
    val = held_out(len(names))
    fit = [i for i in range(len(names)) if i not in set(val)]
    train_set, val_set = [s[fit] for s in stacks], [s[val] for s in stacks]
    net = Compact(NETWORK).to(device, memory_format=torch.channels_last)
    ema = Compact(NETWORK).to(device, memory_format=torch.channels_last).requires_grad_(False)
    ema.load_state_dict(net.state_dict())
    optimiser = torch.optim.AdamW(net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    first, clock, spent = 0, time.time(), 0.0
    if (out / "state.pt").exists():
        saved = torch.load(out / "state.pt", weights_only=True, map_location="cpu")
        net.load_state_dict(saved["net"]), ema.load_state_dict(saved["ema"]), optimiser.load_state_dict(saved["optimiser"])
        generator.set_state(saved["generator"]), on_device.set_state(saved["on_device"])
        first, spent = saved["step"], saved["seconds"]
    log = (out / "log.jsonl").open("a")
    parameters = sum(p.numel() for p in net.parameters())
    header = {"recipe": asdict(recipe), "network": asdict(NETWORK), "parameters": parameters, "from": first,
              "device": str(device), "threads": torch.get_num_threads(), "train": len(fit), "held_out": [names[i] for i in val]}  # fmt: skip
    print(json.dumps(header), file=log, flush=True)
    running = 0.0
    for step in range(first + 1, recipe.steps + 1):
        late = step > recipe.late_from * recipe.steps
        x_in, equalised, x_0 = (x.to(device) for x in draw(train_set, recipe, late, generator))
        t = draw_times(METHOD.path, len(x_0), generator, recipe.start_share).to(device)
        (loss,) = losses(NetworkDenoiser(net, METHOD, {"equalised": equalised}), x_0, x_in, t, gaussian(on_device), F.l1_loss)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = rate(step, recipe)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        decay = min(recipe.ema, step / (step + 10))
        torch._foreach_lerp_(list(ema.parameters()), list(net.parameters()), 1 - decay)
        running += (loss.item() - running) / min(step - first, 200)
        ends = step == recipe.steps or time.time() - clock > limit_s
        if step % recipe.validate_every == 0 or ends:
            with torch.inference_mode():
                line = {"step": step, "loss": round(running, 5), "val_psnr_rgb": round(validate(ema, val_set, device), 3),
                        "lr": rate(step, recipe), "seconds": round(spent + time.time() - clock)}  # fmt: skip
            print(json.dumps(line), file=log, flush=True)
            print(line, flush=True)
            state = {"net": net.state_dict(), "ema": ema.state_dict(), "optimiser": optimiser.state_dict(), "step": step,
                     "generator": generator.get_state(), "on_device": on_device.get_state(), "seconds": spent + time.time() - clock}  # fmt: skip
            save_aside(out / "state.pt", lambda p: torch.save(state, p))
            save_aside(out / "ema.safetensors", lambda p: save_file({k: v.contiguous() for k, v in ema.state_dict().items()}, p))
        if ends:
            break


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the LOL folder, as ../shared/data/lol")
    parser.add_argument("--out", type=Path, default=Path("runs/low-light"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long; run again to go on")
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    args = parser.parse_args()
    train(args.data, args.out, Recipe(steps=args.steps), torch.device(args.device), args.seconds)
