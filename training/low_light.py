"""Train the bundled low-light model on LOL: ``python training/low_light.py --data ../shared/data/lol``.

SM-Res (paper, section 2): one network predicts the residual; bbar_T^2 = 1; two steps. The network sees the state, the
dark photo and its equalised copy, and is told the whole photo's quantiles and thumbnail. Validation is on blocks of
contiguous ids, because neighbours are near-duplicates; the test split is not touched by training. Writes to --out:
``log.jsonl``, ``ema.safetensors``, and ``state.pt``, from which a stopped run goes on.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
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
from rddm.preprocess import equalise, quantiles, thumbnail
from rddm.sample import sample

SHIFTED = {"515", "570", "649", "700", "701"}  # pairs that do not match by 2 pixels (shared/data/README.md)
SIDE = 256  # of the stored crops
NETWORK = CompactConfig(in_channels=9, context=48, thumbnail=32)
METHOD = replace(METHODS["rddm-res"], inputs=("x_in", "equalised"), context=("quantiles", "thumbnail"))


@dataclass(frozen=True)
class Recipe:
    """The run.

    Arguments:
        steps: updates.
        batch: crops per update.
        crop: side of the crops in pixels.
        late_from: share of the updates after which an update sees one whole stored crop instead.
        shrink: share of the crops that are a whole stored crop scaled down to ``crop``.
        lr: peak of the learning rate (AdamW, linear warm-up, cosine to zero).
        warmup: updates of the warm-up.
        weight_decay: AdamW's.
        ema: decay of the averaged weights.
        start_share: share of the draws at t = T, where the first of two steps is.
        jitter: standard deviation of what is added to quantiles and thumbnail.
        seed: of weights, crops, times and noise.
        validate_every: updates between validations.
    """

    steps: int = 16_000
    batch: int = 4
    crop: int = 128
    late_from: float = 0.8
    shrink: float = 0.4
    lr: float = 8e-4
    warmup: int = 500
    weight_decay: float = 1e-4
    ema: float = 0.999
    start_share: float = 0.5
    jitter: float = 0.02
    seed: int = 0
    validate_every: int = 1500


@dataclass(frozen=True)
class Crops:
    """Crops of pairs, stacks of uint8 (N, 3, SIDE, SIDE), and what is told of the whole photos, (N, numbers)."""

    x_in: Tensor
    equalised: Tensor
    x_0: Tensor
    told: Tensor
    names: list[str]

    def pick(self, positions: list[int]) -> "Crops":
        """Return some of the crops."""
        stacks = (self.x_in, self.equalised, self.x_0, self.told)
        return Crops(*(stack[positions] for stack in stacks), [self.names[i] for i in positions])


def load(folder: Path) -> Crops:
    """Read LOL's training crops in the order of their ids."""
    names = sorted((p.stem for p in (folder / "train_crop256/input").glob("*.webp")), key=int)
    names = [name for name in names if name not in SHIFTED]
    archive = np.load(folder / "equalisation_luts.npz")
    tables = [archive[f"train/{name}"] for name in names]

    def read(kind: str) -> list[np.ndarray]:
        files = (folder / kind / f"{name}.webp" for name in names)
        return [np.asarray(Image.open(file).convert("RGB")) for file in files]

    def stack(images: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()

    x_in = read("train_crop256/input")
    equalised = [equalise(image, table) for image, table in zip(x_in, tables, strict=True)]
    same = np.tile(np.arange(256, dtype=np.uint8), (3, 1))  # the whole photos are stored equalised
    small = [thumbnail(image, same) for image in read("train_256/input_equalised")]
    told = [np.concatenate([quantiles(table), image]) for table, image in zip(tables, small, strict=True)]
    return Crops(
        stack(x_in), stack(equalised), stack(read("train_crop256/target")), torch.from_numpy(np.stack(told)), names
    )


def split(crops: Crops) -> tuple[Crops, Crops]:
    """Return training crops and those held out: two blocks of 12 contiguous ids."""
    count = len(crops.names)
    held = [start + i for start in (count // 4, 3 * count // 4) for i in range(12)]
    return crops.pick([i for i in range(count) if i not in set(held)]), crops.pick(held)


def draw(crops: Crops, recipe: Recipe, late: bool, generator: torch.Generator) -> list[Tensor]:
    """Draw a batch: inputs, equalised inputs and targets in [-1, 1], turned and mirrored alike, and what is told."""
    picked = torch.randint(len(crops.names), (1 if late else recipe.batch,), generator=generator)
    images = torch.stack([augmented(crops, int(i), recipe, late, generator) for i in picked]) / 127.5 - 1
    told = crops.told[picked]
    told = told + recipe.jitter * torch.randn(told.shape, generator=generator)
    return [*(part.contiguous(memory_format=torch.channels_last) for part in images.split(3, dim=1)), told]


def augmented(crops: Crops, i: int, recipe: Recipe, late: bool, generator: torch.Generator) -> Tensor:
    """Return one crop of the three images, (9, size, size) in 0..255."""

    def below(n: int) -> int:
        return int(torch.randint(n, (1,), generator=generator))

    size = SIDE if late else recipe.crop
    y, x, turns, mirror = below(SIDE + 1 - size), below(SIDE + 1 - size), below(4), below(2)
    shrink = not late and float(torch.rand(1, generator=generator)) < recipe.shrink
    image = torch.cat([crops.x_in[i], crops.equalised[i], crops.x_0[i]]).float()
    if shrink:
        image = F.interpolate(image[None], size=(size, size), mode="bicubic", antialias=True)[0].clamp(0, 255)
    else:
        image = image[:, y : y + size, x : x + size]
    image = torch.rot90(image, turns, (1, 2))
    return image.flip(2) if mirror else image


def named(told: Tensor) -> dict[str, Tensor]:
    """Return what is told of the whole photos under the names of its parts."""
    return {"quantiles": told[:, : NETWORK.context], "thumbnail": told[:, NETWORK.context :]}


@torch.inference_mode()
def validate(net: Compact, crops: Crops, device: torch.device) -> float:
    """Return the mean RGB PSNR over whole stored crops, two steps, noise from a fixed seed."""
    scores, noise = [], gaussian(torch.Generator(device).manual_seed(0))
    for i in range(len(crops.names)):
        x_in, equalised = (stack[i : i + 1].to(device) / 127.5 - 1 for stack in (crops.x_in, crops.equalised))
        conditions = {"equalised": equalised, **named(crops.told[i : i + 1].to(device))}
        out = sample(NetworkDenoiser(net, METHOD, conditions), x_in, METHOD.path.grid(METHOD.steps), noise=noise)
        out = ((out[0].cpu() + 1) * 127.5).round().clamp(0, 255)
        scores.append(10 * torch.log10(255**2 / F.mse_loss(out, crops.x_0[i].float())))
    return float(torch.stack(scores).mean())


def learning_rate(step: int, recipe: Recipe) -> float:
    """Return the learning rate of an update."""
    return recipe.lr * min(step / recipe.warmup, 0.5 + 0.5 * float(np.cos(np.pi * step / recipe.steps)))


def save_aside(path: Path, write: Callable[[Path], None]) -> None:
    """Write to a neighbour, then rename: a run that is killed leaves the last whole file."""
    write(path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


class Run:
    """Network, averaged network, optimiser and random generators: all that a stopped run needs to go on."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.device = recipe, device
        self.net = Compact(NETWORK).to(device, memory_format=torch.channels_last)
        self.ema = Compact(NETWORK).to(device, memory_format=torch.channels_last).requires_grad_(False)
        self.ema.load_state_dict(self.net.state_dict())
        self.optimiser = torch.optim.AdamW(self.net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
        self.crops = torch.Generator().manual_seed(recipe.seed)
        self.noise = torch.Generator(device).manual_seed(recipe.seed)
        self.step, self.seconds = 0, 0.0

    def save(self, out: Path) -> None:
        """Write the state and the averaged weights."""
        state = {
            "net": self.net.state_dict(),
            "ema": self.ema.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "crops": self.crops.get_state(),
            "noise": self.noise.get_state(),
            "step": self.step,
            "seconds": self.seconds,
        }
        weights = {name: value.contiguous() for name, value in self.ema.state_dict().items()}
        save_aside(out / "state.pt", lambda path: torch.save(state, path))
        save_aside(out / "ema.safetensors", lambda path: save_file(weights, path))

    def resume(self, out: Path) -> None:
        """Go on from a saved state, if there is one."""
        if not (out / "state.pt").exists():
            return
        state = torch.load(out / "state.pt", weights_only=True, map_location="cpu")
        for part in ("net", "ema", "optimiser"):
            getattr(self, part).load_state_dict(state[part])
        self.crops.set_state(state["crops"])
        self.noise.set_state(state["noise"])
        self.step, self.seconds = state["step"], state["seconds"]

    def update(self, crops: Crops) -> float:
        """Take one optimiser step and return its loss."""
        self.step += 1
        late = self.step > self.recipe.late_from * self.recipe.steps
        x_in, equalised, x_0, told = (x.to(self.device) for x in draw(crops, self.recipe, late, self.crops))
        t = draw_times(METHOD.path, len(x_0), self.crops, self.recipe.start_share).to(self.device)
        denoiser = NetworkDenoiser(self.net, METHOD, {"equalised": equalised, **named(told)})
        (loss,) = losses(denoiser, x_0, x_in, t, gaussian(self.noise), F.l1_loss)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, self.recipe)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        decay = min(self.recipe.ema, self.step / (self.step + 10))
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.net.parameters()), 1 - decay)
        return loss.item()


def train(data: Path, out: Path, recipe: Recipe, device: torch.device, limit: float) -> None:
    """Run the recipe from where ``out`` stopped, for at most ``limit`` seconds."""
    out.mkdir(parents=True, exist_ok=True)
    fit, held = split(load(data))
    run = Run(recipe, device)
    run.resume(out)
    began, before, loss = time.time(), run.seconds, 0.0
    with (out / "log.jsonl").open("a") as log:

        def note(line: dict[str, object]) -> None:
            print(json.dumps(line), file=log, flush=True)
            print(json.dumps(line), flush=True)

        note(
            {
                "recipe": asdict(recipe),
                "network": asdict(NETWORK),
                "parameters": sum(p.numel() for p in run.net.parameters()),
                "device": str(device),
                "threads": torch.get_num_threads(),
                "from_step": run.step,
                "trained_on": len(fit.names),
                "held_out": held.names,
            }
        )
        while run.step < recipe.steps:
            loss += (run.update(fit) - loss) / min(run.step, 200)
            run.seconds = before + time.time() - began
            ends = run.step == recipe.steps or time.time() - began > limit
            if run.step % recipe.validate_every == 0 or ends:
                score = validate(run.ema, held, device)
                note({"step": run.step, "loss": round(loss, 5), "held_out_psnr_rgb": round(score, 3),
                      "lr": learning_rate(run.step, recipe), "seconds": round(run.seconds)})  # fmt: skip
                run.save(out)
            if ends:
                return


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the LOL folder, as ../shared/data/lol")
    parser.add_argument("--out", type=Path, default=Path("runs/low-light"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long; run again to go on")
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    args = parser.parse_args()
    train(args.data, args.out, Recipe(steps=args.steps), torch.device(args.device), args.seconds)
