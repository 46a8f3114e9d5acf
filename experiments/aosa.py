"""What AOSA chooses: ``python experiments/aosa.py --data ../shared/data --out runs/aosa``.

Six tasks, on two of which nothing was tuned; the paper's rule and ours (``rddm.aosa``). Restoration should be given
residuals, generation noise (paper, section 4.3). The paper's rule compares L1 in restoration and L2 in generation, as
published. One line per task and rule; ``aosa.json`` holds traces, ``aosa.png`` lambda against updates.
"""

import argparse
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from rddm.aosa import RULES, Rule, Undecided, choose
from rddm.loss import DISTANCES, Batch, draw_times
from rddm.methods import METHODS, Method
from rddm.nn.compact import Compact, CompactConfig

Run = dict[str, Any]
Pairs = tuple[Tensor, Tensor]  # clean and degraded images in [-1, 1]
BATCH = 4  # images per update, of either rule


TASKS = {  # what the network sees beside the state, the paper's distance, what is right
    "low light": (("x_in",), "l1", "res"),
    "denoising": (("x_in",), "l1", "res"),
    "inpainting": ((), "l1", "res"),
    "generation": ((), "l2", "eps_floored"),
    "super-resolution x4 (held out)": (("x_in",), "l1", "res"),
    "generation, dogs (held out)": ((), "l2", "eps_floored"),
}


def pairs_of(bright: Tensor, dark: Tensor, photos: Tensor, cats: Tensor, dogs: Tensor) -> dict[str, Pairs]:
    """Return the pairs of each task: noise of 25 to 50 of 255, the inner quarter blank, one pixel for sixteen."""
    generator = torch.Generator().manual_seed(0)
    sigma = (25 + 25 * torch.rand(len(photos), 1, 1, 1, generator=generator)) / 127.5
    noisy = photos + sigma * torch.randn(photos.shape, generator=generator)
    hole = F.pad(torch.zeros(cats.shape[-1] // 2, cats.shape[-1] // 2), (cats.shape[-1] // 4,) * 4, value=1.0)
    coarse = F.interpolate(F.avg_pool2d(photos, 4), scale_factor=4.0)
    small = [F.avg_pool2d(images, 2) for images in (cats, dogs)]
    blank = torch.zeros_like(small[0])
    every = [(bright, dark), (photos, noisy), (cats, cats * hole), (small[0], blank), (photos, coarse)]
    return dict(zip(TASKS, [*every, (small[1], blank)], strict=True))


def pieces(files: list[Path], side: int) -> Tensor:
    """Return all pieces of the top left 256x256 pixels of photographs, (N, 3, side, side)."""
    stack = torch.from_numpy(np.stack([np.asarray(Image.open(f).convert("RGB"))[:256, :256] for f in files]))
    cut = stack.unfold(1, side, side).unfold(2, side, side)  # (photographs, rows, columns, 3, side, side)
    return cut.reshape(-1, 3, side, side) / 127.5 - 1


def unpacked(file: Path) -> Tensor:
    """Return the first 2000 images of an archive, (2000, 3, 64, 64)."""
    archive = np.load(file)
    offsets, content = archive["offsets"][:2001], archive["jpeg"].tobytes()
    images = [Image.open(io.BytesIO(content[a:b])).convert("RGB") for a, b in zip(offsets, offsets[1:])]
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2) / 127.5 - 1


def loaded(data: Path) -> dict[str, Pairs]:
    """Read the images, some of each set."""
    lol = [pieces(sorted((data / "lol/train_crop256" / k).glob("*.webp"))[::8], 64) for k in ("target", "input")]
    photos = pieces(sorted((data / "bsds500/train").glob("*.jpg"))[::4], 32)
    archives = ("afhq_cat/afhq_cat_64_q95.npz", "cats_dogs/dogs_photos_64_q95.npz")
    return pairs_of(*lol, photos, *(unpacked(data / name) for name in archives))


def synthetic() -> dict[str, Pairs]:
    """Return pairs of a few smooth random images of 16x16."""
    x = torch.rand(64, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    x = 2 * F.interpolate(x, size=(16, 16), mode="bilinear") - 1
    return pairs_of(x, x / 8 - 0.875, x, x, x)


def batches(pairs: Pairs, method: Method, size: int, seed: int) -> Iterator[Batch]:
    """Yield batches without end."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        i = torch.randint(len(pairs[0]), (size,), generator=generator)
        eps = torch.randn((size, *pairs[0].shape[1:]), generator=generator)
        yield Batch(pairs[0][i], pairs[1][i], draw_times(method.path, size, generator), eps, {})


def decide(name: str, pairs: Pairs, rule: Rule, seed: int) -> Run:
    """Return what a rule chooses for a task, whether it is right, and every twentieth look of its trace."""
    torch.manual_seed(seed)
    inputs, _, right = TASKS[name]
    net = Compact(CompactConfig(3 + 3 * len(inputs), widths=(16, 32, 48), blocks=(1, 1, 1), features=64))
    method = replace(METHODS["rddm-res"], inputs=inputs)
    try:
        found = choose(net, method, batches(pairs, method, BATCH // rule.accumulate, seed + 1), rule).record()
    except Undecided:
        return {"target": None, "decided": None, "right": False}
    return found | {"right": found["target"] == right, "trace": found["trace"][::20]}


def plot(results: dict[str, dict[str, list[Run]]], file: Path) -> None:
    """Draw lambda against updates, a panel per task."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(11, 5.2), sharex=True, sharey=True, layout="constrained")
    for axis, (name, rules) in zip(axes.flat, results.items(), strict=True):
        for (rule, runs), colour in zip(rules.items(), ("tab:red", "tab:blue"), strict=True):
            for i, run in enumerate(run for run in runs if run["target"]):
                shares = [*(look[0] for look in run["trace"]), run["share"]]
                axis.plot(np.linspace(0, run["decided"], len(shares)), shares, color=colour, label=rule * (i == 0))
        axis.set(title=f"{name}\nright: {TASKS[name][2]}", ylim=(0.488, 0.512), xlabel="update", ylabel="lambda")
        axis.hlines([0.49, 0.51], 0, 600, color="grey", linestyle=":", linewidth=1)
    axes.flat[0].legend(loc="center right")
    figure.savefig(file, dpi=90)


def main() -> None:
    """Run all tasks with both rules."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/aosa"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="synthetic images, lambda a hundred times faster, no plot")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pairs, faster = (synthetic(), 100) if options.smoke else (loaded(options.data), 1)
    results: dict[str, dict[str, list[Run]]] = {name: {} for name in TASKS}
    for name, (_, distance, _) in TASKS.items():
        for key, make in RULES.items():
            rule = make(DISTANCES[distance])
            rule = replace(rule, share_lr=faster * rule.share_lr)
            runs = [decide(name, pairs[name], rule, seed) for seed in range(options.seeds)]
            results[name][key] = runs
            found = ", ".join(f"{r['target']} after {r['decided']}" for r in runs)
            print(f"{name:30} {key:10} {found}; right: {sum(r['right'] for r in runs)} of {len(runs)}", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "aosa.json").write_text(json.dumps(results) + "\n", encoding="utf-8")
    if not options.smoke:
        plot(results, options.out / "aosa.png")


if __name__ == "__main__":
    main()
