"""Perception against distortion: ``python experiments/perception.py --data ../shared/data --out runs/perception``.

Does the bundled denoiser give sharper pictures in more steps, at a lower PSNR, or the same picture? By steps and gain:
a sample, the mean of eight and their spread, by PSNR, SSIM and three measures of the look that need no trained judge.
A control, a sample and white grain, tells what those are worth. Writes ``perception.json`` and ``perception.png``.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rddm import load, sample
from rddm.denoiser import Denoiser, GaussianOracle
from rddm.errors import UserError
from rddm.learned import lpips
from rddm.matlab import Bytes
from rddm.methods import Method
from rddm.metrics import psnr, ssim, unit_range
from rddm.path import gaussian, mix
from rddm.protocols import Case, read_rgb
from rddm.solvers import Ancestral
from rddm.sources import made_degraded
from rddm.transition import GAINS

SAMPLES = Path(__file__).resolve().parents[1] / "samples/low-light/target"
GREY = np.array([0.299, 0.587, 0.114])
Row = dict[str, float]


def spectrum(image: NDArray) -> NDArray:
    """Return the energy of grey in 16 radial bands up to half a cycle per pixel; the upper 8 are the highest octave."""
    grey, (height, width) = image @ GREY, image.shape[:2]
    power = np.abs(np.fft.fft2((grey - grey.mean()) * np.hanning(height)[:, None] * np.hanning(width))) ** 2
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    return np.histogram(radius, 16, (0, 0.5), weights=power)[0]


def measured(output: Bytes, target: Bytes) -> Row:
    """Return PSNR, SSIM, dB of the highest octave, rms dB between spectra, Wasserstein-1 of gradients, LPIPS if had."""
    ours, true = spectrum(output), spectrum(target)
    slopes = [np.sort(np.hypot(*np.gradient(image @ GREY)), axis=None) for image in (output, target)]
    row = {"psnr": psnr(output, target), "ssim": ssim(output, target)}
    row["octave"] = float(10 * np.log10(ours[8:].sum() / true[8:].sum()))
    row["spectrum"] = float(np.sqrt(np.mean((10 * np.log10(ours / true)) ** 2)))
    row["gradient"] = float(np.abs(slopes[0] - slopes[1]).mean())
    try:
        return row | {"lpips": lpips()(output, target)}
    except UserError:  # no weights on disk
        return row


def eight_bit(x: Tensor) -> Bytes:
    """Return one image (3, H, W) in [-1, 1] as it would be saved."""
    return ((x + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()


def grained(output: Bytes, target: Bytes) -> Bytes:
    """Return an output with white grain, as much as gives it the target's energy in the highest octave."""
    grain = np.random.default_rng(0).standard_normal((*output.shape[:2], 1)).repeat(3, 2)
    missing, of_one = (spectrum(target) - spectrum(output))[8:].sum(), spectrum(grain)[8:].sum()
    return (output + max(missing / of_one, 0) ** 0.5 * grain).round().clip(0, 255).astype(np.uint8)


def walked(denoiser: Denoiser, method: Method, x_in: Tensor, calls: int, gain: str) -> Tensor:
    """Return a sample for each image of ``x_in``."""
    noise = gaussian(torch.Generator().manual_seed(0))
    return sample(denoiser, x_in, method.path.grid(calls), Ancestral(GAINS[gain], method.anchor), noise)


def setting(samples: Tensor, target: Bytes) -> Row:
    """Return the figures of the first sample, of the first with grain, of the mean of all, and of their spread."""
    first, mean, clean = eight_bit(samples[0]), samples.mean(0), unit_range(target)[0] * 2 - 1
    row = measured(first, target) | {"variance": float(samples.var(0).mean()) * 127.5**2}
    row["error"] = float((mean - clean).square().mean()) * 127.5**2 - row["variance"] / len(samples)  # of a mean of all
    for name, image in (("mean", eight_bit(mean)), ("grain", grained(first, target))):
        row |= {f"{name}-{key}": value for key, value in measured(image, target).items()}
    return row


def heard(denoiser: Denoiser, method: Method, photo: Tensor, target: Bytes) -> Row:
    """Return the PSNR of one call at true states: what the network makes of what ``x_t`` knows of ``x_0``."""
    x_0, row = unit_range(target) * 2 - 1, Row()
    for node in map(method.path.node, (1.0, 0.5, 0.2, 0.1, 0.05)):
        x_t = mix(x_0, photo - x_0, gaussian(torch.Generator().manual_seed(1))(x_0), node)
        row[f"{node.t:g}"] = psnr(eight_bit(denoiser(x_t, photo, node).x_0[0]), target)
    return row


def expected(error: float, method: Method, calls: int, gain: str) -> float:
    """Return what share of an error (255ths squared) the variance of samples is, for an exact denoiser of pixels."""
    oracle = GaussianOracle(torch.zeros(1), torch.tensor(error / 127.5**2))
    return float(walked(oracle, method, torch.zeros(1, 1, 512, 512), calls, gain).var()) * 127.5**2 / error


def averaged(rows: list[Row]) -> Row:
    """Return the means over images."""
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def at_level(files: list[Path], sigma: int, side: int, seeds: int, steps: tuple[int, ...]) -> dict[str, Row]:
    """Return the figures at one level of noise, by setting, of the middle of photographs made noisy as a whole."""
    model, degrade, pairs = load("denoise"), made_degraded(f"noise({sigma})", 0), []
    denoiser, method = model.denoiser({}), model.spec.method
    for clean, name in ((read_rgb(file), file.stem) for file in files):
        window = tuple(slice((length - side) // 2, (length + side) // 2) for length in clean.shape[:2])
        pairs.append((unit_range(degrade(Case(name, Path(name)), clean).photo[window]) * 2 - 1, clean[window]))
    table = {"input": averaged([measured(eight_bit(photo[0]), target) for photo, target in pairs])}
    table["heard"] = averaged([heard(denoiser, method, *pair) for pair in pairs])
    for gain, calls in ((gain, calls) for gain in ("deterministic", "residual") for calls in steps):
        batches = ((photo.expand(seeds, -1, -1, -1), target) for photo, target in pairs)
        row = averaged([setting(walked(denoiser, method, x_in, calls, gain), target) for x_in, target in batches])
        row["expected"] = expected(table.get("deterministic 1", row)["error"], method, calls, gain)
        table[f"{gain} {calls}"] = row
        print(f"{sigma} {gain} {calls}: " + ", ".join(f"{k} {v:.3f}" for k, v in row.items()), flush=True)
    return table


def plot(levels: dict[str, dict[str, Row]], file: Path) -> None:
    """Draw PSNR against the energy in the highest octave: a line per gain, the control, and what theory promises."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(levels), figsize=(11, 4.4), layout="constrained", squeeze=False)
    for axis, (sigma, table) in zip(axes[0], levels.items(), strict=True):
        for gain, style in (("deterministic", "o-"), ("residual", "x:")):
            rows = [row for key, row in table.items() if key.startswith(gain)]
            axis.plot([row["octave"] for row in rows], [row["psnr"] for row in rows], style, label=f"{gain}, all steps")
        one = table["deterministic 1"]
        axis.plot(one["grain-octave"], one["grain-psnr"], "*", label="one call and white grain")
        axis.plot(0, one["psnr"] - 3.01, "s", fillstyle="none", label="a posterior sampler, were one call the mean")
        axis.set(
            title=f"sigma {sigma}", xlabel="energy above 1/4 cycle per pixel, dB to the target's", ylabel="PSNR, dB"
        )
    axes[0, 0].legend()
    figure.savefig(file, dpi=90)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/perception"))
    parser.add_argument("--quick", action="store_true", help="the repository's own samples, little of everything")
    options = parser.parse_args()
    torch.set_num_threads(1)
    files, sigmas, size = sorted(SAMPLES.glob("*.png")), (25,), (64, 2, (1, 2))
    if not options.quick:
        names = sorted((options.data / "bsds500/cbsd68.txt").read_text(encoding="utf-8").split())[:12]
        files, sigmas = [options.data / "bsds500/val" / f"{name}.jpg" for name in names], (25, 50)
        size = 80, 8, (1, 2, 5, 10)
    with torch.inference_mode():
        levels = {str(sigma): at_level(files, sigma, *size) for sigma in sigmas}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "perception.json").write_text(json.dumps(levels, indent=1) + "\n", encoding="utf-8")
    plot(levels, options.out / "perception.png")


if __name__ == "__main__":
    main()
