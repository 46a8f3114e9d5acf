"""Inverse problems by guidance, one generator, no training: ``python experiments/inverse_problems.py --quick``.

Held-out cats at 32x32 are measured, with noise, and solved with every guidance of ``rddm.guidance``, beside the
pseudoinverse and, where deepinv is at hand, its own DDRM, DPS and DiffPIR with the same denoiser, data and steps.
Writes ``inverse-problems.json``, ``.png`` (the plot) and ``.jpg`` (the images); docs/guidance.md tells the rest.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import small_cats as cats
import stand_ins
import torch
from torch import Tensor, nn

from rddm.denoiser import Denoiser
from rddm.errors import UserError
from rddm.guidance import GUIDANCES, node_of
from rddm.metrics import psnr, ssim
from rddm.model import load
from rddm.operators import DecomposableOperator, Mask, Operator, compose, parse_operator
from rddm.pairs import hold_out
from rddm.path import Path as Curve
from rddm.path import gaussian
from rddm.sample import resampled, sample
from rddm.solvers import Ancestral

SHAPE = (3, cats.SIDE, cats.SIDE)
JUMPS = {"repaint": (5, 3)}  # length and visits; the others go straight
Row = dict[str, Any]
Method = Callable[[Operator, Tensor, float], tuple[Tensor, int]]


def box() -> Tensor:
    """Return (1, H, W), 0 in the middle quarter."""
    known = torch.ones(1, *SHAPE[1:])
    known[:, 8:24, 8:24] = 0
    return known


def scratches() -> Tensor:
    """Return (1, H, W), 0 on lines and spots, the same in every run."""
    from rddm.degradations.masks import painted

    return 1 - painted(*SHAPE[1:], 0.15, torch.Generator().manual_seed(0))


def tasks() -> dict[str, Operator]:
    """Return the operators by task."""
    old = [parse_operator("grey + blur(0.7)")(SHAPE), Mask((1, *SHAPE[1:]), scratches())]
    return {
        "enlarging x4": parse_operator("sr(4)")(SHAPE),
        "deblurring": parse_operator("blur(1.5)")(SHAPE),
        "inpainting": Mask(SHAPE, box()),
        "colourisation": parse_operator("grey")(SHAPE),
        "sensing 25 %": parse_operator("cs(0.25)")(SHAPE),
        "old photo": compose(old),
    }


def ours(name: str, denoiser: Denoiser, path: Curve, steps: int) -> Method:
    """Return one of our guidances as ``(operator, y, sigma) -> (images, calls)``."""
    row = GUIDANCES[name]
    nodes = row.grid(path, steps)
    nodes = resampled(nodes, *JUMPS[name]) if name in JUMPS else nodes
    calls = sum(1 for a, b in zip(nodes, nodes[1:]) if b.bbar <= a.bbar)

    def method(operator: Operator, y: Tensor, sigma: float) -> tuple[Tensor, int]:
        guidance, noise = row.make(operator, y, sigma, steps), gaussian(torch.Generator().manual_seed(0))
        with torch.no_grad():
            zeros = torch.zeros(len(y), *SHAPE)
            return sample(denoiser, zeros, nodes, Ancestral(row.gain), noise, guidance=guidance), calls

    return method


class Told(nn.Module):
    """Our denoiser as deepinv asks for it: images in [0, 1] with noise of deviation ``sigma``."""

    def __init__(self, denoiser: Denoiser, path: Curve) -> None:
        super().__init__()
        self.denoiser, self.path = denoiser, path

    def forward(self, x: Tensor, sigma: Any, **options: Any) -> Tensor:
        """Return the estimate of the image."""
        node = node_of(self.path, max(2 * float(torch.as_tensor(sigma).flatten()[0]), 1e-4))
        x_t = ((2 * x - 1) * (1 - node.abar)).float()
        return (self.denoiser(x_t, torch.zeros_like(x_t), node).x_0 + 1) / 2


def physics_of(deepinv: Any, operator: Operator, sigma: float) -> Any:
    """Return an operator of ours as an object of deepinv's."""
    noise = deepinv.physics.GaussianNoise(sigma)
    if not isinstance(operator, DecomposableOperator):
        return deepinv.physics.LinearPhysics(
            A=operator.A,
            A_adjoint=operator.A_adjoint,
            noise_model=noise,  # pyright: ignore[reportAttributeAccessIssue]
        )
    coefficients = operator.V_adjoint(torch.zeros(1, *SHAPE)).shape
    return deepinv.physics.DecomposablePhysics(
        U=operator.U, U_adjoint=operator.U_adjoint, V=operator.V, V_adjoint=operator.V_adjoint, img_size=SHAPE,
        mask=operator.mask.float().expand(coefficients).contiguous(), noise_model=noise,
    )  # fmt: skip


def theirs(deepinv: Any, name: str, denoiser: Denoiser, path: Curve, steps: int) -> Method:
    """Return one of deepinv's samplers as ``(operator, y, sigma) -> (images, calls)``."""
    told, sampling = Told(denoiser, path).eval(), deepinv.sampling

    def method(operator: Operator, y: Tensor, sigma: float) -> tuple[Tensor, int]:
        physics = physics_of(deepinv, operator, sigma / 2)
        y = (y + operator.A(torch.ones(1, *SHAPE))) / 2  # measured from images in [0, 1]
        torch.manual_seed(0)
        if name == "DDRM":
            if not isinstance(operator, DecomposableOperator):
                raise UserError("DDRM: needs an SVD")
            sampler = sampling.DDRM(told, sigmas=np.geomspace(20, 0.005, steps))
        elif name == "DPS":
            sampler = sampling.DPS(told, num_steps=steps + 1, dtype=torch.float32)
        else:
            sampler = sampling.DiffPIR(told, deepinv.optim.data_fidelity.L2(), sigma=sigma / 2, max_iter=steps)
        return sampler(y, physics).detach() * 2 - 1, steps

    return method


def scores(operator: Operator, x: Tensor, y: Tensor, clean: Tensor) -> Row:
    """Return the mean PSNR and SSIM of images rounded to 8 bits, and the rms misfit before, in levels of 255."""
    pairs = list(zip(cats.pixels(x), cats.pixels(clean), strict=True))
    quality = {"psnr": [psnr(a, b) for a, b in pairs], "ssim": [ssim(a, b) for a, b in pairs]}
    misfit = float((operator.A(x) - y).square().mean().sqrt()) * 127.5
    return {key: float(np.mean(values)) for key, values in quality.items()} | {"misfit": misfit}


def measured(methods: dict[str, Method], clean: Tensor, noise: float) -> tuple[Row, dict[str, list[Tensor]]]:
    """Return the table, and for each task the first image by all methods, the truth first."""
    table, shown = Row(), dict[str, list[Tensor]]()
    for task, operator in tasks().items():
        y = operator.A(clean)
        y = y + noise * torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
        y = y * operator.parts[-1].mask.float() if hasattr(operator, "parts") else y  # pyright: ignore
        y = y * operator.mask.float() if isinstance(operator, Mask) else y
        back = operator.A_dagger(y)  # pyright: ignore[reportAttributeAccessIssue]
        table[task] = {"pseudoinverse": scores(operator, back, y, clean) | {"calls": 0}}
        shown[task] = [clean[0], back[0]]
        for name, method in methods.items():
            began = time.perf_counter()
            try:
                x, calls = method(operator, y, noise)
            except UserError:
                shown[task].append(torch.ones(SHAPE))
                continue
            row = scores(operator, x, y, clean) | {"calls": calls, "seconds": time.perf_counter() - began}
            table[task][name] = row
            shown[task].append(x[0])
            told = ", ".join(f"{key} {value:.3g}" for key, value in row.items())
            print(f"{task:14} {name:16} {told}", flush=True)
    return table, shown


def printed(table: Row) -> str:
    """Return PSNR / SSIM / misfit by task and method, as Markdown."""
    names = list(dict.fromkeys(name for rows in table.values() for name in rows))
    lines = ["| | " + " | ".join(table) + " |", "|---" * (len(table) + 1) + "|"]
    for name in names:
        cells = [rows.get(name) for rows in table.values()]
        texts = [f"{c['psnr']:.2f} / {c['ssim']:.3f} / {c['misfit']:.2g}" if c else "-" for c in cells]
        lines.append(f"| {name} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def plot(table: Row, file: Path) -> None:
    """Draw PSNR by task and method."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(table), figsize=(3 * len(table), 5), layout="constrained", squeeze=False)
    for axis, (task, rows) in zip(axes[0], table.items(), strict=True):
        found = [(name, row["psnr"]) for name, row in rows.items() if math.isfinite(row["psnr"])]
        colours = ["0.6" if n == "pseudoinverse" else "C1" if n.startswith("deepinv") else "C0" for n, _ in found]
        axis.barh([name for name, _ in found][::-1], [value for _, value in found][::-1], color=colours[::-1])
        axis.set(title=task, xlabel="PSNR, dB", xlim=(5, None))
    figure.savefig(file, dpi=60)
    pyplot.close(figure)


def main() -> None:
    """Solve every task with every method, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="cats", help="generator of cats at 32x32")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/afhq_cat"))
    parser.add_argument("--out", type=Path, default=Path("runs/inverse-problems"))
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--noise", type=float, default=2, help="of the measurement, in levels of 255")
    parser.add_argument("--deepinv", type=Path, default=stand_ins.HOME, help="folder in which deepinv lies")
    parser.add_argument("--quick", action="store_true", help="4 images, 10 steps: minutes on one core")
    parser.add_argument("--smoke", action="store_true", help="tiny data: does it run?")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.quick or options.smoke:
        options.images, options.steps = (4, 10) if options.quick else (2, 2)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.smoke:
        cats.sets.miniature_cats(options.out)
        options.data = options.out
    every = cats.real(options.data)
    held = torch.tensor(hold_out(len(every))[1] if not options.smoke else [*range(len(every))])
    clean = every[held[torch.linspace(0, len(held) - 1, min(options.images, len(held))).round().long()]]
    model = load(options.model)
    denoiser, path = model.denoiser(), model.spec.method.path
    methods = {name: ours(name, denoiser, path, options.steps) for name in GUIDANCES}
    deepinv = stand_ins.deepinv(options.deepinv)
    if deepinv is None:
        print(stand_ins.GET)
    else:
        names = ("DDRM", "DPS", "DiffPIR")
        methods |= {f"deepinv {n}": theirs(deepinv, n, denoiser, path, options.steps) for n in names}
    table, shown = measured(methods, clean, options.noise * 2 / 255)
    print(printed(table))
    setting = {"model": options.model, "images": len(clean), "steps": options.steps, "noise": options.noise}
    text = json.dumps({"setting": setting, "tasks": table}, indent=1)
    (options.out / "inverse-problems.json").write_text(text + "\n", encoding="utf-8")
    plot(table, options.out / "inverse-problems.png")
    cats.sheet([cats.strip(torch.stack(images)) for images in shown.values()], options.out / "inverse-problems.jpg")


if __name__ == "__main__":
    main()
