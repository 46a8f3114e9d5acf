"""Which bundled model a photo needs, or none: judged from its pixels alone.

First do no harm: a photo goes to a model only if something is clearly amiss with it. A small network looks at up to
twelve pieces on a fixed grid, at the photo's own scale, because noise and blocks do not survive scaling. It tells
what was done to the photo, and how strongly: by how much, root mean square, that changed its pixels. What speaks for
damage must exceed a limit, which was set such that good photos stay below it, and the damage must be strong enough to
be worth mending. Darkness is a rule on brightness. No chance takes part. docs/choosing.md tells how well it does.
"""

import math
from collections.abc import Collection, Mapping, Sequence
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

from rddm.photo import Pixels

KINDS: tuple[str, ...] = ("clean", "noise", "camera", "rain", "blur", "jpeg")  # what the network tells apart
FAULTS: dict[str, tuple[str, ...]] = {  # what is decided about; white noise and a camera's are one fault
    "noise": ("noise", "camera"), "rain": ("rain",), "blur": ("blur",), "jpeg": ("jpeg",), "mixed": KINDS[1:],
}  # fmt: skip
MODELS: dict[str, tuple[str, ...]] = {  # the one to choose, and those that may stand in where it is not bundled
    "dark": ("low-light",), "noise": ("denoise", "denoise-real"), "camera": ("denoise-real", "denoise"),
    "rain": ("derain", "all-in-one"), "blur": ("deblur",), "jpeg": ("jpeg",), "mixed": ("all-in-one",),
}  # fmt: skip
NAMED = {
    "noise": "noise", "camera": "a camera's noise", "rain": "rain", "blur": "blur", "jpeg": "JPEG's blocks",
    "mixed": "damage of several kinds",
}  # fmt: skip
MOST = 0.6  # the share of what speaks for damage that one fault has if it is named
FAINT = 2.0  # of 255: damage that changes pixels by less, root mean square, is left
DARK, DARK_BRIGHT = 40, 70  # of 255: the median and the 9th decile of a dark photo lie below, or
DIM, DIM_BRIGHT = 60, 140  # the median and all but 1 in 200 do: of a quarter of the light, white is 137
SIDE, LEAST, ALIGNED = 128, 32, 8  # pixels: of a piece, of the smallest, and JPEG's blocks, with which pieces begin
JURORS = 3  # that judge a whole photo
RINGS, SECTORS = 8, 8  # of the spectrum
SHARES = (0.02, 0.05, 0.1, 0.25, 0.5, 0.75)  # of blocks, the flattest first
QUANTISED = 1e-6  # of the square of the range: the power of rounding to 8 bits
LONG, SHORT = 4, 3  # pieces along the longer and the shorter side, at most
LOOKED_AT = 1 << 18  # pixels that brightness is taken from, at least; a photo of fewer is taken whole
WEIGHTS = Path(__file__).with_suffix(".safetensors")


@dataclass(frozen=True)
class Verdict:
    """What was found in a photo.

    Arguments:
        found: "dark", one of ``KINDS``, "mixed", or "unsure" where something may be amiss.
        strength: by how much the damage, if any, changed the pixels, root mean square of 255; 0 for a dark photo.
        why: a phrase such as "its median brightness is 7 of 255".
        probabilities: of each of ``KINDS``, whether dark or not; they sum to 1.
    """

    found: str
    strength: float
    why: str
    probabilities: Mapping[str, float]


class Choice(NamedTuple):
    """The bundled model for a photo, None to leave the photo as it is, and the phrase that says why."""

    model: str | None
    why: str


class Brightness(NamedTuple):
    """Of 255: median and 9th decile of the mean of the channels, and what all but 1 in 200 of the largest are below."""

    median: float
    ninth: float
    brightest: float


class Triage(nn.Module):
    """Tells ``KINDS`` apart: for each piece, then for the photo by what was said and measured of all its pieces.

    A piece is judged by :func:`measured`, and by means and deviations of features at four depths.

    Arguments:
        widths: channels of the features.
        hidden: of the two layers that judge them.
    """

    limits: Tensor  # of what speaks for damage, for each of FAULTS: see decide; chosen after the training

    def __init__(self, widths: tuple[int, ...] = (24, 40, 56, 56), hidden: int = 96) -> None:
        super().__init__()
        first = [nn.Conv2d(9, widths[0], 5, 2, 2, bias=False)]
        others = zip(widths, widths[1:], (2, 2, 1))  # eight pixels a position in the end: a block of JPEG
        self.convolutions = nn.ModuleList(
            first + [nn.Conv2d(wide, wider, 3, stride, 1, bias=False) for wide, wider, stride in others]
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        numbers = 2 * ALIGNED + RINGS * SECTORS + 4 * len(SHARES)
        gathered = numbers + 3 * len(KINDS)
        self.scale = nn.BatchNorm1d(numbers)
        told = numbers + 2 * sum(widths)
        self.head = nn.Sequential(nn.Linear(told, hidden), nn.ReLU(), nn.Linear(hidden, len(KINDS) + 1))
        self.whole = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm1d(gathered, affine=False), nn.Dropout(0.1), nn.Linear(gathered, hidden), nn.ReLU(),
                nn.Linear(hidden, len(KINDS) + 1),
            )
            for _ in range(JURORS)
        )  # fmt: skip
        self.register_buffer("limits", torch.zeros(len(FAULTS)))

    def forward(self, pieces: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probabilities (N, kinds) and strengths (N,) of pieces (N, 3, H, W) in [0, 1], H and W >= 32.

        A strength is the binary logarithm of the root mean square, of 255.
        """
        detail = pieces - F.avg_pool2d(F.pad(pieces, (1, 1, 1, 1), mode="replicate"), 3, 1)
        coarse, fine = ((times * detail).clamp(-2, 2) for times in (8, 40))
        x = torch.cat([2 * pieces - 1, coarse, fine], 1).contiguous(memory_format=torch.channels_last)
        told = [self.scale(measured(pieces))]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.leaky_relu(norm(convolution(x)), 0.1)
            told += [x.mean((2, 3)), (x.var((2, 3), correction=0) + 1e-4).log() / 2]
        said = self.head(torch.cat(told, 1))
        return said[:, :-1].log_softmax(1), said[:, -1]

    def gather(self, pieces: Tensor) -> Tensor:
        """Return what is said and measured of a photo by all its pieces, (numbers,)."""
        logs, strengths = self(pieces)
        said = torch.cat([logs[:, 1:] - logs[:, :1], strengths[:, None]], 1)
        seen = torch.cat([blockiness(pieces), spectrum(pieces)], 1).mean(0)
        return torch.cat([said.mean(0), said.amax(0), said.amin(0), seen, flattest(pieces, together=True)[0]])

    def judge(self, gathered: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probabilities (N, kinds) and strengths (N,) of photos from what was gathered, (N, numbers).

        Jurors of the same shape, each trained from a start of its own, are averaged.
        """
        said = torch.stack([juror(gathered) for juror in self.whole]).mean(0)
        return said[:, :-1].log_softmax(1), said[:, -1]


def measured(pieces: Tensor) -> Tensor:
    """Return what is known to tell of damage, (N, numbers): blocks, spectrum, and the noise of the flattest parts."""
    return torch.cat([blockiness(pieces), spectrum(pieces), flattest(pieces)], 1)


def spectrum(pieces: Tensor) -> Tensor:
    """Return the logarithms of the power of grey, (N, RINGS * SECTORS): blur leaves less of it, in its direction."""
    height, width = pieces.shape[2:]
    window = torch.hann_window(height)[:, None] * torch.hann_window(width)
    grey = pieces.mean(1)
    power = torch.fft.rfft2((grey - grey.mean((1, 2), keepdim=True)) * window).abs() ** 2 / (window**2).sum()
    return (power.flatten(1) @ polar(height, width) + QUANTISED).log()


@lru_cache(maxsize=16)
def polar(height: int, width: int) -> Tensor:
    """Return the weights (frequencies, RINGS * SECTORS) of means over each sector of each ring of a spectrum."""
    down, across = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    radius = torch.hypot(down, across).flatten()
    angle = torch.atan2(down.expand(-1, len(across)), across.expand(height, -1)).flatten()
    edges = torch.tensor([0.06 * (0.71 / 0.06) ** (i / RINGS) for i in range(RINGS + 1)])
    ring = F.one_hot(torch.bucketize(radius, edges), RINGS + 2)[:, 1:-1].float()
    sector = F.one_hot(((angle / torch.pi + 0.5) * SECTORS).long() % SECTORS, SECTORS).float()
    cells = ring[:, :, None] * sector[:, None, :]
    cells = torch.where(cells.sum(0) > 0, cells, ring[:, :, None])  # of a small piece a sector may hold none
    return (cells / cells.sum(0)).flatten(1)


def flattest(pieces: Tensor, together: bool = False) -> Tensor:
    """Return logarithms of the power of detail in the SHARES flattest blocks of eight pixels, (N, 4 * shares).

    Detail is what the Laplace operator leaves: of grey and of colour differences, at full and at half resolution, so
    that it tells white noise from a camera's, whose neighbours are alike.

    Arguments:
        pieces: (N, 3, H, W).
        together: whether the blocks of all pieces are one set; N is 1 then.
    """
    grey, colour = pieces.mean(1, keepdim=True), pieces[:, :2] - pieces[:, 1:]
    kernel = torch.tensor([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]])[None, None] / 20**0.5
    told = []
    for planes in (grey, colour, F.avg_pool2d(grey, 2), F.avg_pool2d(colour, 2)):
        detail = F.conv2d(planes.flatten(0, 1)[:, None], kernel).unflatten(0, planes.shape[:2])
        power = F.avg_pool2d((detail**2).mean(1), 8 if planes.shape[2] == pieces.shape[2] else 4)
        power = power.reshape(1 if together else len(pieces), -1)
        told.append((power.sort(1).values[:, [int(s * (power.shape[1] - 1)) for s in SHARES]] + QUANTISED).log())
    return torch.cat(told, 1)


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
    return read_network(WEIGHTS)


def read_network(path: Path) -> Triage:
    """Return a network with the weights of a file."""
    net = Triage()
    net.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return net.eval().requires_grad_(False)


def judge(pixels: Pixels) -> Verdict:
    """Judge a photo, pixels (H, W, 1 or 3) uint8 or uint16, of any size.

    Below 32 pixels a side the network is not asked: all kinds are equally probable, and nothing is sure.
    """
    if min(pixels.shape[:2]) < LEAST:
        even = dict.fromkeys(KINDS, 1 / len(KINDS))
        verdict = Verdict("unsure", 0.0, f"it is smaller than {LEAST} pixels, too small to judge", even)
    else:
        verdict = decide(*asked(network(), pixels), network().limits.tolist())
    light = brightness(pixels)
    if not is_dark(light):
        return verdict
    low = light.median < DARK and light.ninth < DARK_BRIGHT
    bright = f"nine tenths of it are at most {light.ninth:.0f}" if low else f"almost all is below {light.brightest:.0f}"
    why = f"its median brightness is {light.median:.0f} of 255, and {bright}"
    return Verdict("dark", 0.0, why, verdict.probabilities)


def asked(net: Triage, pixels: Pixels) -> tuple[list[float], float]:
    """Return what a network says of a photo: the log-probability of each of ``KINDS``, and the strength, of 255."""
    with torch.inference_mode():
        logs, strengths = net.judge(net.gather(to_tensor(pieces_of(pixels)))[None])
    return logs[0].tolist(), 2 ** float(strengths[0])


def brightness(pixels: Pixels) -> Brightness:
    """Return how bright a photo is, by every so many of its pixels."""
    step = max(1, int((pixels.shape[0] * pixels.shape[1] / LOOKED_AT) ** 0.5))
    seen = pixels[::step, ::step].astype(np.float32) * (255 / np.iinfo(pixels.dtype).max)
    median, ninth = np.quantile(seen.mean(2), (0.5, 0.9))
    return Brightness(float(median), float(ninth), float(np.quantile(seen.max(2), 0.995)))


def is_dark(light: Brightness) -> bool:
    """Return whether a photo of this brightness was exposed too short; one that is all black was not."""
    low = light.median < DARK and light.ninth < DARK_BRIGHT
    return light.brightest > 0 and (low or (light.median < DIM and light.brightest < DIM_BRIGHT))


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


def decide(logs: Sequence[float], strength: float, limits: Sequence[float]) -> Verdict:
    """Return the verdict on a photo.

    Arguments:
        logs: log-probabilities of ``KINDS``.
        strength: root mean square of what damage did, of 255.
        limits: of :func:`evidence`, for each of ``FAULTS``.
    """
    probabilities = {kind: math.exp(log) for kind, log in zip(KINDS, logs, strict=True)}
    fault, says = evidence(probabilities)
    kind = fault if fault == "mixed" else max(FAULTS[fault], key=probabilities.__getitem__)
    sure = min(99, math.floor(100 * (probabilities["clean"] if says < 0 else 1 - probabilities["clean"])))
    if says < 0:
        return Verdict("clean", strength, f"nothing is amiss, {sure} % sure", probabilities)
    if says < limits[list(FAULTS).index(fault)]:
        return Verdict("unsure", strength, f"perhaps it has {NAMED[kind]}, but that is not sure", probabilities)
    if strength < FAINT:
        return Verdict("unsure", strength, f"it has {NAMED[kind]}, but too faint to mend", probabilities)
    return Verdict(kind, strength, f"it has {NAMED[kind]} of about {strength:.0f} of 255, {sure} % sure", probabilities)


def evidence(probabilities: Mapping[str, float]) -> tuple[str, float]:
    """Return the fault to name, "mixed" unless one has ``MOST`` of all damage, and the log-odds of damage."""
    damage = sum(probabilities[kind] for kind in KINDS[1:])
    shares = {fault: sum(probabilities[kind] for kind in kinds) for fault, kinds in FAULTS.items() if fault != "mixed"}
    best = max(shares, key=shares.__getitem__)
    log_odds = math.log(max(damage, 1e-12)) - math.log(max(probabilities["clean"], 1e-12))
    return best if shares[best] >= MOST * damage else "mixed", log_odds


def choose(verdict: Verdict, bundled: Collection[str]) -> Choice:
    """Choose among bundled models; none for a photo that is clean or of which nothing is sure, or without a fit one."""
    wanted = MODELS.get(verdict.found, ())
    for model in wanted:
        if model in bundled:
            stands_in = "" if model == wanted[0] else f", and the model {wanted[0]} is not bundled"
            return Choice(model, verdict.why + stands_in)
    lacking = f", and the model {wanted[0]} is not bundled" if wanted else ""
    return Choice(None, verdict.why + lacking)
