"""Which bundled model a photo needs, judged from its pixels alone.

Darkness is a rule on brightness: a photo whose median is low, and whose bright parts are not bright either, was exposed
too short; a bright lamp or a black background alone does not make or unmake that. A dark photo is noisy as well, and
the low-light model removes both: dark wins. Noise, rain, blur and the traces of JPEG show in the statistics of
neighbouring pixels, at the photo's own scale. A small network looks at up to twelve pieces on a fixed grid, and the
logarithms of its probabilities are averaged. No chance takes part. docs/choosing.md tells how well it does.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from rddm.errors import UserError
from rddm.photo import Pixels

KINDS: tuple[str, ...] = ("clean", "noise", "rain", "blur", "jpeg")  # what the network tells apart
MODELS = {"dark": "low-light", "noise": "denoise", "rain": "derain", "blur": "deblur", "jpeg": "jpeg"}
GENERAL = "all-in-one"  # for photos of which nothing is sure
SURE = 0.6  # the least probability that one model is chosen for
DARK, DARK_BRIGHT = 40, 70  # of 255: the median and the 9th decile of a dark photo lie below
SIDE, LEAST, ALIGNED = 128, 32, 8  # pixels: of a piece, of the smallest, and JPEG's blocks, with which pieces begin
LONG, SHORT = 4, 3  # pieces along the longer and the shorter side, at most
LOOKED_AT = 1 << 18  # pixels that brightness is taken from, at least; a photo of fewer is taken whole
WEIGHTS = Path(__file__).with_suffix(".safetensors")


@dataclass(frozen=True)
class Verdict:
    """What was found in a photo.

    Arguments:
        found: "dark", or the most probable of ``KINDS``.
        probability: of ``found``; 1 for a dark photo, which is a matter of a rule.
        why: a phrase such as "its median brightness is 7 of 255".
        probabilities: of each of ``KINDS``, whether dark or not; they sum to 1.
    """

    found: str
    probability: float
    why: str
    probabilities: Mapping[str, float]


class Choice(NamedTuple):
    """The bundled model for a photo, and the phrase that says why it is this one."""

    model: str
    why: str


class Triage(nn.Module):
    """Tells ``KINDS`` apart by :func:`blockiness`, and by means and deviations of features at four depths.

    Arguments:
        widths: channels of the features.
        hidden: of the two layers that judge them.
    """

    def __init__(self, widths: tuple[int, ...] = (32, 48, 64, 64), hidden: int = 64) -> None:
        super().__init__()
        first = [nn.Conv2d(6, widths[0], 5, 2, 2, bias=False)]
        others = zip(widths, widths[1:], (2, 2, 1))  # eight pixels a position in the end: a block of JPEG
        self.convolutions = nn.ModuleList(
            first + [nn.Conv2d(wide, wider, 3, stride, 1, bias=False) for wide, wider, stride in others]
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        told = 2 * ALIGNED + 2 * sum(widths)
        self.head = nn.Sequential(nn.Linear(told, hidden), nn.ReLU(), nn.Linear(hidden, len(KINDS)))

    def forward(self, pieces: Tensor) -> Tensor:
        """Return log-probabilities (N, kinds) of pieces (N, 3, H, W) in [0, 1], of 32 pixels a side or more."""
        detail = pieces - F.avg_pool2d(F.pad(pieces, (1, 1, 1, 1), mode="replicate"), 3, 1)
        x = torch.cat([2 * pieces - 1, (8 * detail).clamp(-2, 2)], 1).contiguous(memory_format=torch.channels_last)
        told = [blockiness(pieces)]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.leaky_relu(norm(convolution(x)), 0.1)
            told += [x.mean((2, 3)), (x.var((2, 3), correction=0) + 1e-4).log() / 2]
        return self.head(torch.cat(told, 1)).log_softmax(1)


def blockiness(pieces: Tensor) -> Tensor:
    """Return how much steps between pixels exceed their neighbours, per cent, at each phase of a grid of eight pixels.

    (N, 16) from (N, 3, H, W): eight phases across, eight down, steepest first, so that a cut photo is as its whole.
    """
    told = []
    for grey in (pieces.mean(1), pieces.mean(1).transpose(1, 2)):
        steps = grey.diff(dim=2).abs()
        excess = (steps[:, :, 1:-1] - (steps[:, :, :-2] + steps[:, :, 2:]) / 2).clamp(-0.04, 0.04)  # edges are no grid
        whole = excess[:, :, : excess.shape[2] // ALIGNED * ALIGNED].unflatten(2, (-1, ALIGNED))
        told.append(100 * whole.mean((1, 2)).sort(1, descending=True).values)
    return torch.cat(told, 1)


@lru_cache(maxsize=1)
def network() -> Triage:
    """Return the network with the weights that come with the package."""
    net = Triage()
    net.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    return net.eval().requires_grad_(False)


def judge(pixels: Pixels) -> Verdict:
    """Judge a photo, pixels (H, W, 1 or 3) uint8 or uint16, of any size.

    Below 32 pixels a side the network is not asked: all kinds are equally probable, and nothing is sure.
    """
    if min(pixels.shape[:2]) < LEAST:
        even = dict.fromkeys(KINDS, 1 / len(KINDS))
        verdict = Verdict("clean", 1 / len(KINDS), f"it is smaller than {LEAST} pixels, too small to judge", even)
    else:
        with torch.inference_mode():
            verdict = verdict_of(network()(to_tensor(pieces_of(pixels))))
    median, ninth = brightness(pixels)
    if is_dark(median, ninth):
        why = f"its median brightness is {median:.0f} of 255, and nine tenths of it are at most {ninth:.0f}"
        return Verdict("dark", 1.0, why, verdict.probabilities)
    return verdict


def brightness(pixels: Pixels) -> tuple[float, float]:
    """Return the median and the 9th decile of the mean of the channels, of 255."""
    step = max(1, int((pixels.shape[0] * pixels.shape[1] / LOOKED_AT) ** 0.5))
    grey = pixels[::step, ::step].mean(2, dtype=np.float32) * (255 / np.iinfo(pixels.dtype).max)
    median, ninth = np.quantile(grey, (0.5, 0.9))
    return float(median), float(ninth)


def is_dark(median: float, ninth: float) -> bool:
    """Return whether a photo of this brightness was exposed too short."""
    return median < DARK and ninth < DARK_BRIGHT


def pieces_of(pixels: Pixels) -> list[Pixels]:
    """Cut the pieces to look at, in the middle of even cells, as JPEG's blocks lie."""
    height, width = pixels.shape[:2]
    most = (SHORT, LONG) if width >= height else (LONG, SHORT)
    tops, lefts = (starts(side, count) for side, count in zip((height, width), most, strict=True))
    return [pixels[top : top + SIDE, left : left + SIDE] for top in tops for left in lefts]


def starts(side: int, most: int) -> list[int]:
    """Return where pieces along one side of a photo begin."""
    count = min(most, max(1, side // SIDE))
    middles = ((i + 0.5) * side / count for i in range(count))
    return [max(0, int(middle - SIDE / 2) // ALIGNED * ALIGNED) for middle in middles]


def to_tensor(pieces: list[Pixels]) -> Tensor:
    """Return pieces of one size as (N, 3, H, W) in [0, 1], rounded to 8 bits as those of the training are."""
    stack = np.stack([np.broadcast_to(piece, (*piece.shape[:2], 3)) for piece in pieces])
    eight: NDArray = stack if stack.dtype == np.uint8 else np.rint(stack / 257)
    return torch.from_numpy(eight.astype(np.float32) / 255).permute(0, 3, 1, 2)


def verdict_of(logs: Tensor) -> Verdict:
    """Return the verdict on the log-probabilities (N, kinds) of a photo's pieces."""
    mean = logs.double().mean(0).softmax(0).tolist()
    best = max(range(len(KINDS)), key=mean.__getitem__)
    agreed = int((logs.argmax(1) == best).sum())
    named = {"clean": "nothing is amiss", "jpeg": "traces of JPEG"}.get(KINDS[best], KINDS[best])
    why = f"{named} in {agreed} of {len(logs)} pieces looked at, {min(99, round(100 * mean[best]))} % sure"
    return Verdict(KINDS[best], mean[best], why, dict(zip(KINDS, mean, strict=True)))


def choose(verdict: Verdict, bundled: Collection[str]) -> Choice:
    """Choose among bundled models.

    A clean photo, and one of which nothing is sure, goes to the model for everything. That stands in, too, for a model
    that is not bundled; if it is not bundled either, the model of the next probable kind does.

    Raises:
        UserError: if no model in question is bundled.
    """
    sure = verdict.probability >= SURE
    wanted = MODELS.get(verdict.found, GENERAL) if sure else GENERAL
    if wanted in bundled:
        return Choice(wanted, verdict.why if sure else f"it is not sure what it needs: {verdict.why}")
    ranked = sorted(verdict.probabilities, key=lambda kind: -verdict.probabilities[kind])
    for model in (GENERAL, *(MODELS[kind] for kind in ranked if kind in MODELS), *MODELS.values()):
        if model in bundled:
            return Choice(model, f"{verdict.why}, and the model {wanted} is not bundled")
    raise UserError(f"no model to choose from, expected --model or one of {', '.join(MODELS.values())}")
