"""The tasks of ``other_data.py``: what is drawn, how it is scored, what was done before, and the networks' recipes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import classical
import torch
from torch import Tensor, nn

from rddm.fitting import fitted
from rddm.loss import Batch
from rddm.methods import METHODS
from rddm.nn.compact import CompactConfig
from rddm.recipe import Phase, Recipe
from rddm.synthetic import FRAMES, RATE, Make, ecg, frame, pan, video
from rddm.validate import restored_batch

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

Restore: TypeAlias = Callable[[Batch], Tensor]
Precision: TypeAlias = Literal["no", "bf16"]
Scores: TypeAlias = dict[str, Tensor]
Outputs: TypeAlias = dict[str, Tensor]  # of the same samples, by what made them


@dataclass(frozen=True)
class Net:
    """A network to train: how, on what ``make`` draws, and how it then restores a batch of the task."""

    recipe: Recipe
    make: Make
    restore: Callable[[nn.Module, Recipe, Batch], Tensor] = restored_batch


@dataclass(frozen=True)
class Task:
    """Something to restore.

    Arguments:
        make: draws a sample.
        scores: ``(output, truth) -> scores`` of each sample; the larger the first, the better.
        before: what was done before networks; of several, what does best on samples that are not tested on.
        nets: the networks, "SM-Res" among them.
        draw: draws outputs.
    """

    make: Make
    scores: Callable[[Tensor, Tensor], Scores]
    before: Mapping[str, list[Restore]]
    nets: Mapping[str, Net]
    draw: "Callable[[SubFigure, Outputs], None]"


def recipe_of(
    name: str, shape: CompactConfig, phase: Phase, steps: int, channels: Mapping[str, int], precision: Precision
) -> Recipe:
    """Return a training of the row rddm-res, which sees ``x_in`` and what ``channels`` names."""
    method = replace(METHODS["rddm-res"], inputs=("x_in", *channels))
    return Recipe(
        name, method, fitted(shape, method, channels), "docs/other-data.md", channels, phases=(phase,), steps=steps,
        start_share=0.7, lr=1e-3, warmup=100, metric="psnr", precision=precision,
    )  # fmt: skip


def by_frame(net: nn.Module, recipe: Recipe, batch: Batch) -> Tensor:
    """Return a batch of videos whose frames were restored one by one."""
    frames = batch._replace(x_in=batch.x_in.transpose(1, 2).flatten(0, 1))
    return restored_batch(net, recipe, frames).unflatten(0, (-1, FRAMES)).transpose(1, 2)


def power(x: Tensor) -> Tensor:
    """Return the mean square of each sample."""
    return x.double().square().flatten(1).mean(1)


def of_ecg(output: Tensor, truth: Tensor) -> Scores:
    """Return the signal to noise ratio, and the root mean square error; 1 is 2 mV."""
    error = power(output - truth)
    return {"SNR, dB": 10 * torch.log10(power(truth) / error), "error, uV": 2000 * error.sqrt()}


def of_bands(output: Tensor, truth: Tensor) -> Scores:
    """Return the PSNR of 16 bits over all bands, and the mean angle between spectra."""
    a, b = (((x.double() + 1) * 32767.5).round().clamp(0, 65535) for x in (output, truth))
    angle = torch.acos(torch.cosine_similarity(a, b, dim=1).clamp(-1, 1)).flatten(1).mean(1)
    return {"PSNR, dB": 10 * torch.log10(65535**2 / power(a - b)), "angle, degrees": torch.rad2deg(angle)}


def of_video(output: Tensor, truth: Tensor) -> Scores:
    """Return the PSNR."""
    return {"PSNR, dB": 10 * torch.log10(4 / power(output.clamp(-1, 1) - truth))}


def smoothed(reach: int, degree: int) -> Restore:
    """Return the classical way with an ECG, with a window and a degree of Savitzky and Golay's."""
    return lambda batch: classical.smoothed(batch.x_in, reach, degree)


def averaged(reach: int) -> Restore:
    """Return the mean over frames up to ``reach`` away."""
    return lambda batch: classical.over_time(batch.x_in, reach)


def draw_signals(figure: "SubFigure", outputs: Outputs) -> None:
    """Draw the first two signals: a panel for each, all outputs above each other."""
    for axis, i in zip(figure.subplots(1, 2, sharey=True), range(2), strict=True):
        for row, (name, signals) in enumerate(outputs.items()):
            axis.plot(torch.arange(signals.shape[-1]) / RATE, 2 * signals[i, 0] - 1.5 * row, linewidth=0.8, label=name)
        axis.set(xlabel="seconds", yticks=[-1.5 * row for row in range(len(outputs))], yticklabels=[*outputs])


def draw_images(figure: "SubFigure", outputs: Outputs) -> None:
    """Draw images (N, H, W) or (N, H, W, 3) in [0, 1]: a row for each, a column for each output."""
    grid = figure.subplots(len(next(iter(outputs.values()))), len(outputs))
    for column, (name, images) in zip(grid.T, outputs.items(), strict=True):
        column[0].set_title(name, fontsize=8)
        for axis, image in zip(column, images, strict=True):
            axis.imshow(image.clamp(0, 1), cmap="gray", vmin=0, vmax=1)
            axis.axis("off")


def draw_bands(figure: "SubFigure", outputs: Outputs) -> None:
    """Draw red, green and blue, twice as bright."""
    draw_images(figure, {name: (x[:, [2, 1, 0]] + 1).movedim(1, -1) for name, x in outputs.items()})


def draw_videos(figure: "SubFigure", outputs: Outputs) -> None:
    """Draw the middle frame of each."""
    draw_images(figure, {name: (x[:, 0, FRAMES // 2] + 1) / 2 for name, x in outputs.items()})


SIGNAL = CompactConfig(out_channels=1, dims=1)
BANDS = CompactConfig(out_channels=4, widths=(32, 64, 96), blocks=(1, 1, 2))
FRAME = replace(BANDS, out_channels=1)
VIDEO = CompactConfig(out_channels=1, widths=(16, 32, 64), blocks=(1, 1, 2), dims=3)

TASKS = {
    "ecg": Task(
        ecg, of_ecg,
        {"band, 0.67 to 40 Hz": [lambda batch: classical.monitored(batch.x_in)],
         "medians, notch, Savitzky-Golay": [smoothed(reach, degree) for reach in range(2, 13) for degree in (2, 4)]},
        {"SM-Res": Net(recipe_of("ecg", SIGNAL, Phase(1.0, 512, 8), 2500, {}, "bf16"), ecg)},
        draw_signals,
    ),
    "pan": Task(
        pan, of_bands,
        {"Brovey": [lambda batch: classical.brovey(batch.x_in, batch.conditions["pan"])],
         "GIHS": [lambda batch: classical.gihs(batch.x_in, batch.conditions["pan"])]},
        {"SM-Res": Net(recipe_of("pan", BANDS, Phase(1.0, 64, 4), 2500, {"pan": 1}, "bf16"), pan)},
        draw_bands,
    ),
    "video": Task(
        video, of_video,
        {"mean over time": [averaged(reach) for reach in (1, 2, 3, 7)]},
        {"SM-Res, frame by frame": Net(recipe_of("frame", FRAME, Phase(1.0, 32, 16), 2500, {}, "no"), frame, by_frame),
         "SM-Res": Net(recipe_of("video", VIDEO, Phase(1.0, 32, 2), 4800, {}, "no"), video)},
        draw_videos,
    ),
}  # fmt: skip
