"""Classifier guidance on pictures: ``python experiments/classifier.py --data .jobdata/cats``, five minutes on a CPU.

A small network learns to tell warm cats (the quarter whose fur is reddest) from cool ones (the least red) in what the
bundled generator ``cats`` sees: noisy states at any time. Its gradient then leads the generator, which was told of no
colour, to one kind or the other. Whether it did is judged by the rule that made the labels, on the images.
Writes ``classifier.json`` and ``classifier.jpg``.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from rddm.comparison import pixels
from rddm.guidance import Classifier, Guidance
from rddm.model import Model, load
from rddm.path import Node, gaussian, mix
from rddm.path import Path as Way
from rddm.report import Table, show
from rddm.restore import solver_of
from rddm.sample import sample
from rddm.validate import stacked

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "jobs"))
import sets

SIDE, KINDS = 32, ("cool", "warm")
SCALES = (0.0, 1.0, 3.0, 10.0)
HELD = 100  # of each kind


class Judge(nn.Module):
    """Logits of the two kinds, (B, 2), from a state (B, 3, 32, 32) and its node."""

    def __init__(self) -> None:
        super().__init__()
        widths = (4, 32, 64, 96)
        convs = [nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.SiLU()) for a, b in zip(widths, widths[1:])]
        self.layers = nn.Sequential(*convs, nn.Flatten(), nn.Linear(96 * 16, 64), nn.SiLU(), nn.Linear(64, 2))

    def forward(self, x_t: Tensor, node: Node) -> Tensor:
        """Judge."""
        noise = torch.as_tensor(node.bbar, dtype=x_t.dtype).reshape(-1, 1, 1, 1)
        return self.layers(torch.cat([x_t, noise.expand(len(x_t), 1, SIDE, SIDE)], dim=1))


def warmth(images: Tensor) -> Tensor:
    """Return how much redder than blue the middle of images (N, 3, 32, 32) in [-1, 1] is, (N,)."""
    middle = images[:, :, 8:24, 8:24].mean((2, 3))
    return middle[:, 0] - middle[:, 2]


def kinds(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the coolest and the warmest quarter, in the order of their files."""
    value = warmth(images)
    low, high = value.quantile(0.25), value.quantile(0.75)
    return images[value < low], images[value > high]


def state(images: Tensor, path: Way, t: Tensor, draw: torch.Generator) -> tuple[Tensor, Node]:
    """Return images noised to times ``t``, (N,), and their node."""
    node, eps = path.at(t, images), torch.randn(images.shape, generator=draw)
    return mix(images, -images, eps, node), node


def train(pairs: tuple[Tensor, Tensor], path: Way, updates: int) -> Judge:
    """Return a judge trained on both kinds at all times."""
    torch.manual_seed(0)
    judge, draw = Judge(), torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(judge.parameters(), lr=1e-3)
    for update in range(updates):
        chosen = [images[torch.randint(len(images), (32,), generator=draw)] for images in pairs]
        images, labels = torch.cat(chosen), torch.arange(2).repeat_interleave(32)
        images = torch.where(torch.rand(64, 1, 1, 1, generator=draw) < 0.5, images, images.flip(3))
        x_t, node = state(images, path, torch.rand(64, generator=draw, dtype=torch.float64), draw)
        loss = F.cross_entropy(judge(x_t, node), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if update % 200 == 199:
            print(f"update {update + 1}/{updates}: loss {float(loss.detach()):.3f}", flush=True)
    return judge.eval().requires_grad_(False)


def accuracy(judge: Judge, pairs: tuple[Tensor, Tensor], path: Way, t: float) -> float:
    """Return the share of held-out images that are judged rightly at time ``t``."""
    images, labels = torch.cat(pairs), torch.cat([torch.full((len(x),), i) for i, x in enumerate(pairs)])
    x_t, node = state(
        images, path, torch.full((len(images),), t, dtype=torch.float64), torch.Generator().manual_seed(1)
    )
    return float((judge(x_t, node).argmax(1) == labels).float().mean())


def drawn(model: Model, guidance: Guidance, count: int) -> Tensor:
    """Return images of the generator with its own solver and steps, the same noise every time."""
    path, noise = model.spec.method.path, gaussian(torch.Generator().manual_seed(0))
    zeros, grid = torch.zeros(count, 3, SIDE, SIDE), path.grid(model.spec.method.steps)
    with torch.no_grad():
        return sample(model.denoiser(), zeros, grid, solver_of(model.spec, None), noise, guidance=guidance).clamp(-1, 1)


def sheet(rows: list[Tensor]) -> Image.Image:
    """Return images by row, twice as large."""
    image = Image.fromarray(stacked([pixels(row) for row in rows]))
    return image.resize((image.width * 2, image.height * 2), Image.Resampling.NEAREST)


def main() -> None:
    """Train, guide, judge and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(".jobdata/cats"))
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--smoke", action="store_true", help="on tiny data of its own")
    options = parser.parse_args()
    updates, count = (2, 2) if options.smoke else (1500, 64)
    if options.smoke:
        options.data = options.out / "miniature"
        options.data.mkdir(parents=True, exist_ok=True)
        sets.miniature_cats(options.data, 16)
    began, model = time.monotonic(), load("cats")
    packed = sets.Packed(options.data / sets.CATS, SIDE).images
    images = torch.from_numpy(np.ascontiguousarray(packed)).permute(0, 3, 1, 2).float() / 127.5 - 1
    both, held = kinds(images), 1 if options.smoke else HELD
    path = model.spec.method.path
    judge = train((both[0][held:], both[1][held:]), path, updates)
    right = {str(t): accuracy(judge, (both[0][:held], both[1][:held]), path, t) for t in (0.1, 0.3, 0.5, 0.7, 0.9)}
    print("judged rightly, held out:", ", ".join(f"{value:.0%} at t = {t}" for t, value in right.items()))
    rows, results, pictures, middle = [], dict[str, dict[str, float]](), [], warmth(images).median()
    for label, kind in enumerate(KINDS):
        for scale in SCALES[: 2 if options.smoke else None]:
            found = drawn(model, Classifier(judge, torch.tensor([label]), scale), count)
            value = warmth(found)
            warm = float((value > middle).float().mean())
            results[f"{kind} {scale:g}"] = {"share warm": warm, "warmth": float(value.mean())}
            rows.append([kind, f"{scale:g}", f"{warm:.0%}", f"{float(value.mean()):.3f}"])
            pictures += [found[:12]] if label or scale else []
    show(Table(("guided to", "scale", "warmer than the median cat", "mean warmth"), rows))
    told = {"judged rightly": right, "samples": results, "seconds": time.monotonic() - began}
    (options.out / "classifier.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    sheet(pictures).save(options.out / "classifier.jpg", quality=92)


if __name__ == "__main__":
    main()
