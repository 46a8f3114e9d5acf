"""Train, package and score the network that chooses a model (``rddm.triage``, docs/choosing.md).

    python training/triage.py train --photos photos/bsds500 photos/imagenet --polyu ../shared/data/polyu
    python training/triage.py package --run runs/triage
    python training/triage.py score --data ../shared/data
    python training/triage.py harm --data ../shared/data
    python training/triage.py calibrate --data ../shared/data

A photograph is cut, scaled, toned, softened as by a lens or sharpened, and half of the time gets noise of up to 2 of
255: all that good photographs have (:func:`scene`). Half of the pieces stay like that. The others are degraded by what
one of the models removes, some by two things (:data:`TURNS`). Most are then saved as JPEG of quality 70 to 100, clean
ones too. What changes pixels by less than 2 of 255 makes no damaged photograph. PolyU's Canon pairs are among the
photographs of a camera's noise, their targets among the clean ones.

``train`` learns to judge pieces, then ``whole`` photographs by their pieces, and ends with ``limits``: those of
``rddm.triage.decide``, such that on photographs held out, clean in several ways, each fault is found in no more than
``ALLOWED`` of them. ``score`` measures the packaged network on photographs that took no part and writes the table into
its card, ``src/rddm/triage.json``; ``harm`` runs ``rddm restore`` on clean and damaged ones and tells which got worse;
``calibrate`` tells what the rule of darkness makes of those that it was made on.
"""

import argparse
import contextlib
import io
import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from rddm import triage
from rddm.batch import Options, restore_files
from rddm.degradations import Defocus, GaussianBlur, Noise, parse
from rddm.degradations.base import Range, draw_log, uniform
from rddm.degradations.coding import resized
from rddm.degradations.light import smooth_field
from rddm.draws import below, dihedral, generator_of, share, synthesised
from rddm.journal import clock
from rddm.pairs import listed
from rddm.photo import Photo, Pixels, read_photo, to_float, write_photo
from rddm.triage import FAINT, FAULTS, KINDS, SIDE, WEIGHTS, Triage, Verdict

MARGIN = 2 * triage.ALIGNED  # cut away of a degraded piece: its borders, and a random shift against JPEG's blocks
CARD = WEIGHTS.with_suffix(".json")
TURNS: tuple[tuple[str, ...], ...] = (  # what is done in turn: as often nothing, as good photographs differ most
    (), ("camera",), (), ("rain",), (), ("blur",), (), ("noise",), (), ("camera",), (), ("blur",), (), ("jpeg",),
    (), ("rain",), (), ("blur",), (), ("noise", "jpeg"), (), ("camera",), (), ("blur", "camera"), (), ("noise",),
)  # fmt: skip
RAIN = "rain | heavy_rain | heavy_rain(brightness=0.3..0.6, width=0.7..1.6, length=15..45)"
BLUR = "motion(6..25) | motion(6..25) | shake(9..25) | defocus(2.5..6)"
AFTER = "noise(0..3)"  # half of the time, after a blur
CAMERA = "camera(iso=400..12800)"
NOISE = 2, 75  # of 255, each doubling as frequent as the next
JPEG = "jpeg(5..45, chroma=1..2)"
SAVED = "jpeg(70..100, chroma=1..2)"
WEIGHTY = {"jpeg": 4.0}  # in the shares: coarse blocks hide what was there before
CANON = 0.35, 0.12  # shares of PolyU's Canon pairs among the pieces with a camera's noise, and among the clean ones
ALLOWED = {"noise": 0.01, "rain": 0.005, "blur": 0.005, "jpeg": 0.003, "mixed": 0.003}  # of the clean ones held out
WHOLE = 640  # pixels a side that photographs held out are cut to, at most
CLEAN = ("noise(0)", "noise(2)", "jpeg(90)", "jpeg(75)", "blur(0.8) + jpeg(85)", "downscale(2)", "blur(1.2) + noise(1)")
DRAWN = {  # what photographs of BSDS500 val are degraded by, and what should be found
    "clean": ("noise(0)", "noise(2)", "jpeg(90)", "jpeg(75)", "downscale(2)"),
    "noise": ("noise(5)", "noise(25)", "noise(50)"),
    "camera": ("camera(400)", "camera(1600)", "camera(1600) + jpeg(85)"),
    "rain": ("rain", "heavy_rain"),
    "blur": ("motion(13)", "shake(15)", "defocus(3)"),
    "jpeg": ("jpeg(15)", "jpeg(30)", "jpeg(50)"),
    "dark": ("low_light",),
    "": ("noise(25) + jpeg(30)", "defocus(3) + noise(25)", "haze"),
}
GOALS = ("noise(0)", "noise(25)", "camera(1600)", "heavy_rain", "jpeg(15)", "motion(13)", "low_light")
FOLDERS = {  # of the data folder, and what should be found
    "polyu/input": "camera", "polyu/target": "clean", "lol/test/input": "dark", "lol/test/target": "clean",
    "set5": "clean", "set14": "clean",
}  # fmt: skip
CALIBRATION = ("lol/train_crop256/input", "lol/train_256/target", "bsds500/train", "bsds500/test")
Row = tuple[str, str, list[Verdict]]  # photographs, what should be found, what was
Step = Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]]  # what a fault does: before and after it


@dataclass(frozen=True)
class Plan:
    """The training.

    Arguments:
        updates: of the weights.
        batch: pieces per update.
        lr: peak of the learning rate (AdamW, linear warm-up, cosine to zero).
        warmup: share of the updates that it rises in.
        weight_decay: AdamW's.
        grey: share of the pieces without colour.
        strength: weight of the strength in the loss.
        photos: whole ones that are drawn after that, to learn to judge them by their pieces.
        rounds: through these.
        many: of these per update, whose rate begins at half of the other.
        decay: AdamW's, then.
        seed: of all that is drawn.
    """

    updates: int = 1000
    batch: int = 32
    lr: float = 8e-3
    warmup: float = 0.1
    weight_decay: float = 1e-3
    grey: float = 0.08
    strength: float = 0.3
    photos: int = 4800
    rounds: int = 60
    many: int = 128
    decay: float = 0.03
    seed: int = 0


class Sources(NamedTuple):
    """Good photographs, and pairs of a noisy photograph and its clean target."""

    photos: list[Pixels]
    pairs: list[tuple[Pixels, Pixels]]


@dataclass(frozen=True)
class Piece:
    """What the network learns from: pixels (3, H, W), the share of each of ``KINDS``, binary log of strength."""

    pixels: Tensor
    shares: Tensor
    strength: float


parsed = cache(parse)


def scene(pixels: Pixels, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Return a part (3, H, W) of a photograph as good ones are: scaled, toned, soft or sharpened, faintly noisy."""
    image = cut(pixels, size, generator)
    if share(generator) < 0.5:
        image = image ** (0.6 * (1.6 / 0.6) ** share(generator))
    if share(generator) < 0.3:
        grey = image.mean(0, keepdim=True)
        image = (grey + uniform(0.3, 1.7, generator) * (image - grey)).clamp(0, 1)
    if share(generator) < 0.12:
        image = out_of_focus(image, generator)
    if share(generator) < 0.4:
        image = GaussianBlur(1.2 * share(generator))(image, generator).image
    if share(generator) < 0.2:
        image = sharpened(image, generator)
    return Noise(Range(0, FAINT))(image, generator).image if share(generator) < 0.5 else image


def cut(pixels: Pixels, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Return a part (3, H, W) of a size, or of less where the photograph is too small, turned, often scaled.

    Most are scaled by 0.5 to 1.5, one in eight is enlarged up to thrice; no photograph is scaled to less than a piece.
    """
    drawn, turned = share(generator), np.ascontiguousarray(dihedral(generator)(pixels))
    ends = (0.5, 1.5) if drawn < 0.65 else (1.5, 3) if drawn < 0.77 else (1, 1)
    factor = max(draw_log(Range(*ends), generator), (SIDE + MARGIN) / min(turned.shape[:2]))
    taken = [min(round(side / factor), whole) for side, whole in zip(size, turned.shape[:2], strict=True)]
    top, left = (below(whole - side + 1, generator) for side, whole in zip(taken, turned.shape[:2], strict=True))
    piece = turned[top : top + taken[0], left : left + taken[1]]
    image = torch.from_numpy(to_float(np.ascontiguousarray(piece))).permute(2, 0, 1)
    height, width = (min(round(side * factor), most) for side, most in zip(taken, size, strict=True))
    return image if factor == 1 else resized(image, height, width).clamp(0, 1)


def out_of_focus(image: Tensor, generator: torch.Generator) -> Tensor:
    """Return an image parts of which are out of focus, as backgrounds are."""
    soft = Defocus(Range(2, 6))(image, generator).image
    mask = torch.sigmoid(4 * smooth_field(*image.shape[1:], 2, generator))
    return image + mask * (soft - image)


def sharpened(image: Tensor, generator: torch.Generator) -> Tensor:
    """Return an image sharpened by an unsharp mask."""
    soft = GaussianBlur(Range(0.6, 1.5))(image, generator).image
    return (image + uniform(0.2, 1.2, generator) * (image - soft)).clamp(0, 1)


def noisy(image: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return an image before and after white noise; each doubling is as frequent as the next."""
    return image, Noise(draw_log(Range(*NOISE), generator))(image, generator).image


def photographed(image: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return an image before and after a camera's noise, half of the time smoothed or sharpened as cameras do."""
    before, after = image, parsed(CAMERA)(image, generator).image
    if share(generator) < 0.5:
        smooth = GaussianBlur(uniform(0.3, 1, generator))
        before, after = smooth(before, generator).image, smooth(after, generator).image
    if share(generator) < 0.25:
        state = generator.get_state()
        before = sharpened(before, generator)
        generator.set_state(state)
        after = sharpened(after, generator)
    return before, after


def blurred(image: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return an image before and after a blur, half of the time with the faint noise of a good camera."""
    after = parsed(BLUR)(image, generator).image
    return image, parsed(AFTER)(after, generator).image if share(generator) < 0.5 else after


def degraded_by(text: str) -> Step:
    """Return what a degradation does."""
    return lambda image, generator: (image, parsed(text)(image, generator).image)


STEPS: dict[str, Step] = {
    "noise": noisy, "camera": photographed, "rain": degraded_by(RAIN), "blur": blurred,
    "jpeg": degraded_by(JPEG),
}  # fmt: skip


def rms(before: Tensor, after: Tensor) -> float:
    """Return how much was changed, root mean square, of 255."""
    return 255 * float(F.mse_loss(after, before)) ** 0.5


def labelled(
    image: Tensor, size: tuple[int, int], changes: dict[str, float], plan: Plan, generator: torch.Generator
) -> Piece:
    """Return a part of an image as it would be read from a file of 8 bits, with what is to be learned of it.

    Arguments:
        image: what was degraded.
        size: of the part, pixels.
        changes: by how much each fault changed it; those below ``FAINT`` count for the strength alone.
        plan: tells how often it loses its colour.
        generator: of what is drawn.
    """
    if share(generator) < plan.grey:
        image = image.mean(0, keepdim=True).expand(3, -1, -1)
    step = triage.ALIGNED if share(generator) < 0.5 else 1  # blocks lie as in a file that was not cut
    room = [max(0, whole - side) for whole, side in zip(image.shape[1:], size, strict=True)]
    top, left = (step * below(free // step + 1, generator) for free in room)
    seen = [kind for kind, change in changes.items() if change >= FAINT] or ["clean"]
    shares = torch.tensor([(kind in seen) * WEIGHTY.get(kind, 1.0) for kind in KINDS])
    strength = max(sum(change**2 for change in changes.values()) ** 0.5, 0.5)
    pixels = (image[:, top : top + size[0], left : left + size[1]] * 255).round() / 255
    return Piece(pixels, shares / shares.sum(), float(np.log2(strength)))


def drawn(
    pixels: Pixels, size: tuple[int, int], faults: tuple[str, ...], plan: Plan, generator: torch.Generator
) -> Piece:
    """Return a part of a good photograph after some faults, and saved as JPEG most of the time."""
    height, width = size
    image, changes = scene(pixels, (height + MARGIN, width + MARGIN), generator), {}
    for fault in faults:
        before, image = STEPS[fault](image, generator)
        changes[fault] = rms(before, image)
    if "jpeg" not in faults and share(generator) < 0.6:
        image = parsed(SAVED)(image, generator).image
    return labelled(image, size, changes, plan, generator)


def real(
    pair: tuple[Pixels, Pixels], size: tuple[int, int], clean: bool, plan: Plan, generator: torch.Generator
) -> Piece:
    """Return a part of a real photograph with a camera's noise, or of its clean target, as it lies in its file."""
    step, turn, margin = triage.ALIGNED, dihedral(generator), MARGIN
    sides = [min(side + margin, whole) for side, whole in zip(size, pair[0].shape[:2], strict=True)]
    top, left = (
        step * below((whole - side) // step + 1, generator)
        for whole, side in zip(pair[0].shape[:2], sides, strict=True)
    )
    window = slice(top, top + sides[0]), slice(left, left + sides[1])
    noise, target = (torch.from_numpy(to_float(turn(kind[window]).copy())).permute(2, 0, 1) for kind in pair)
    image, changes = (target, {}) if clean else (noise, {"camera": rms(target, noise)})
    return labelled(image, size, changes, plan, generator)


def one(sources: Sources, size: tuple[int, int], j: int, stream: int, plan: Plan) -> Piece:
    """Draw sample ``j`` of a stream: a part of a drawn photograph, or of one of PolyU's."""
    generator, faults = generator_of(plan.seed, stream, j), TURNS[j % len(TURNS)]
    of_pairs = {("camera",): CANON[0], (): CANON[1]}.get(faults, 0.0)
    if sources.pairs and share(generator) < of_pairs:
        pair = sources.pairs[below(len(sources.pairs), generator)]
        return real(pair, size, not faults, plan, generator)
    photo = sources.photos[below(len(sources.photos), generator)]
    return drawn(photo, size, faults, plan, generator)


def batch_of(sources: Sources, i: int, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    """Draw the pieces (N, 3, SIDE, SIDE) of update ``i``, their shares (N, kinds) and strengths (N,)."""
    pieces = [one(sources, (SIDE, SIDE), j, 0, plan) for j in range(i * plan.batch, (i + 1) * plan.batch)]
    pixels, shares = (torch.stack([getattr(piece, name) for piece in pieces]) for name in ("pixels", "shares"))
    return pixels, shares, torch.tensor([piece.strength for piece in pieces])


def fit(sources: Sources, plan: Plan) -> tuple[Triage, list[dict[str, float]]]:
    """Return a network that judges pieces, and the log: the means of every fiftieth update."""
    torch.manual_seed(plan.seed)
    net = Triage()
    optimiser = torch.optim.AdamW(net.parameters(), lr=plan.lr, weight_decay=plan.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, plan.lr, plan.updates, pct_start=plan.warmup, cycle_momentum=False
    )
    log, recent = [], []
    for i in range(plan.updates):
        pieces, shares, strengths = batch_of(sources, i, plan)
        logs, told = net(pieces)
        kinds = -(shares * logs).sum(1).mean()
        strength = F.smooth_l1_loss(told, strengths)
        optimiser.zero_grad()
        (kinds + plan.strength * strength).backward()
        optimiser.step()
        schedule.step()
        right = (logs.argmax(1) == shares.argmax(1)).float().mean()
        recent.append((kinds.item(), strength.item(), right.item()))
        if (i + 1) % 50 == 0:
            mean = dict(zip(("loss", "strength", "right"), np.mean(recent[-50:], 0).round(4).tolist(), strict=True))
            log.append({"update": i + 1, **mean, "cpu_seconds": round(time.process_time())})
            print(json.dumps(log[-1]), flush=True)
    return net.eval(), log


def gathered(net: Triage, sources: Sources, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the network gathers of drawn photographs (N, numbers), their shares (N, kinds) and strengths (N,)."""
    told, shares, strengths = [], [], []
    for j in range(plan.photos):
        generator = generator_of(plan.seed, 2, j)
        size = (400, 528) if below(2, generator) else (SIDE + below(273, generator), SIDE + below(401, generator))
        photo = one(sources, size, j, 1, plan)
        pixels = (photo.pixels * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        with torch.inference_mode():
            told.append(net.gather(triage.to_tensor(triage.pieces_of(pixels))))
        shares.append(photo.shares)
        strengths.append(photo.strength)
        if (j + 1) % 500 == 0:
            print(json.dumps({"photos": j + 1, "cpu_seconds": round(time.process_time())}), flush=True)
    return torch.stack(told), torch.stack(shares), torch.tensor(strengths)


def turned(told: Tensor, generator: torch.Generator) -> Tensor:
    """Return what was gathered of photographs as if they had been turned by a right angle or mirrored, at random."""
    first = 3 * len(KINDS) + 2 * triage.ALIGNED
    rest = first + triage.RINGS * triage.SECTORS
    sectors = told[:, first:rest].unflatten(1, (triage.RINGS, triage.SECTORS))
    mirrored, rolled = (torch.rand(2, len(told), 1, 1, generator=generator) < 0.5).unbind()
    sectors = torch.where(mirrored, sectors.flip(2), sectors)
    sectors = torch.where(rolled, sectors.roll(triage.SECTORS // 2, 2), sectors)
    return torch.cat([told[:, :first], sectors.flatten(1), told[:, rest:]], 1)


def fit_whole(juror: nn.Module, told: Tensor, shares: Tensor, strengths: Tensor, plan: Plan, seed: int) -> float:
    """Train one that judges a whole photograph by what was gathered of it; return the mean loss of the last round."""
    generator, count = generator_of(plan.seed, 3, seed), len(told) // plan.many
    damage = 1 - shares[:, KINDS.index("clean")]
    optimiser = torch.optim.AdamW(juror.parameters(), lr=plan.lr / 2, weight_decay=plan.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, plan.lr / 2, plan.rounds * count, cycle_momentum=False)
    losses: list[float] = []
    for _ in range(plan.rounds):
        order = torch.randperm(len(told), generator=generator)[: count * plan.many]
        losses = []
        for chosen in order.split(plan.many):
            said = juror(turned(told[chosen], generator))
            kinds = -(shares[chosen] * said[:, :-1].log_softmax(1)).sum(1).mean()
            apart = F.smooth_l1_loss(said[:, -1], strengths[chosen], reduction="none")
            optimiser.zero_grad()
            (kinds + plan.strength * (apart * damage[chosen]).mean()).backward()  # how strong damage is if there is any
            optimiser.step()
            schedule.step()
            losses.append(kinds.item())
    return sum(losses) / len(losses)


def parted(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the photographs of a folder to learn from, and those held out: twelve of every hundred, side by side."""
    files = listed(folder)
    held = {file for i, file in enumerate(files) if i % 100 >= 88 or (len(files) < 100 and i % 8 == 7)}
    return [file for file in files if file not in held], sorted(held)


def pairs_of(polyu: Path) -> list[tuple[Pixels, Pixels]]:
    """Return PolyU's pairs of Canon cameras, which may be learned from, inputs before targets."""
    files = [file for file in listed(polyu / "input") if file.name.startswith("Canon")]
    return [(read_photo(file).pixels, read_photo(polyu / "target" / file.name).pixels) for file in files]


def centre(pixels: Pixels) -> Pixels:
    """Return the middle of a photograph, WHOLE pixels a side at most, from where a block of JPEG begins."""
    top, left = (max(0, (side - WHOLE) // 2) // triage.ALIGNED * triage.ALIGNED for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + WHOLE, left : left + WHOLE])


def chosen_limits(net: Triage, photos: list[Pixels]) -> list[float]:
    """Return the limits of ``rddm.triage.decide``: what all but ``ALLOWED`` of the clean photographs stay below.

    At least 0: damage must be more probable than none.
    """
    found: dict[str, list[float]] = {fault: [] for fault in FAULTS}
    count = 0
    for _, _, verdicts in drawn_rows({"clean": CLEAN}, photos, lambda pixels: ask(net, pixels)):
        count += len(verdicts)
        for verdict in verdicts:
            fault, says = triage.evidence(verdict.probabilities)
            found[fault].append(says if verdict.strength >= FAINT else -np.inf)
    most = {fault: int(share * count) for fault, share in ALLOWED.items()}
    return [max([0.0, *sorted(found[f], reverse=True)[most[f] : most[f] + 1]]) for f in FAULTS]


def sources_of(folders: list[Path], polyu: Path | None) -> Sources:
    """Read the photographs to learn from."""
    files = [file for folder in folders for file in parted(folder)[0]]
    return Sources([read_photo(file).pixels for file in files], [] if polyu is None else pairs_of(polyu))


def train(folders: list[Path], polyu: Path | None, out: Path, plan: Plan) -> None:
    """Train on folders of good photographs, pieces first, then whole photographs; write weights and card each time."""
    sources = sources_of(folders, polyu)
    net, log = fit(sources, plan)
    names, pairs = ", ".join(folder.name for folder in folders), len(sources.pairs)
    card: dict[str, Any] = {
        "task": f"which of {', '.join(KINDS)} a photograph is, and how strongly",
        "data": f"{len(sources.photos)} photographs of {names}"
        + (f"; {pairs} pairs of PolyU, Canon's" if pairs else ""),
        "terms": "BSDS500: research use, cite Arbelaez et al. 2011; ImageNet: research use; PolyU: non-commercial",
        "plan": asdict(plan),
        "degrade": {"rain": RAIN, "blur": BLUR, "after blur": AFTER, "camera": CAMERA, "jpeg": JPEG, "noise": NOISE},
        "cost": f"{clock(time.process_time())} of one CPU core",
        "parameters": sum(p.numel() for p in net.parameters()),
        "log": log,
    }
    write(out, net, card)
    whole(folders, polyu, out, plan)


def whole(folders: list[Path], polyu: Path | None, run: Path, plan: Plan) -> None:
    """Train what judges whole photographs, of a network that judges pieces; then choose the limits."""
    started = time.process_time()
    net, card = triage.read_network(run / WEIGHTS.name), json.loads((run / CARD.name).read_text(encoding="utf-8"))
    told = gathered(net, sources_of(folders, polyu), plan)
    torch.manual_seed(plan.seed)
    net.whole = Triage().whole  # fresh, whatever the file held
    card["loss_of_photos"] = [round(fit_whole(juror, *told, plan, i), 4) for i, juror in enumerate(net.whole)]
    card["plan"] = asdict(plan)
    card["cost_of_photos"] = f"{clock(time.process_time() - started)} of one CPU core"
    write(run, net.eval(), card)
    limits(folders, run)


def write(out: Path, net: Triage, card: dict[str, Any]) -> None:
    """Write weights in half precision, limits as they are, and the card."""
    weights = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    out.mkdir(parents=True, exist_ok=True)
    save_file(weights | {"limits": net.limits}, out / WEIGHTS.name)
    (out / CARD.name).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def limits(folders: list[Path], run: Path) -> None:
    """Choose the limits of a trained network on what was held out of the folders, and put into the card how it does."""
    net, card = triage.read_network(run / WEIGHTS.name), json.loads((run / CARD.name).read_text(encoding="utf-8"))
    photos = [centre(read_photo(file).pixels) for folder in folders for file in parted(folder)[1]]
    net.limits.copy_(torch.tensor(chosen_limits(net, photos)))
    card["limits"] = dict(zip(FAULTS, (round(limit, 3) for limit in net.limits.tolist()), strict=True))
    write(run, net, card)
    lines = counts(drawn_rows(DRAWN, photos[::3], lambda pixels: ask(net, pixels)))
    card["held_out"] = {"photos": len(photos), "right": round(right(lines), 4), "table": lines}
    write(run, net, card)
    print(card["limits"], table(lines), sep="\n")


def ask(net: Triage, pixels: Pixels) -> Verdict:
    """Judge a photograph by a network that is not packaged yet, darkness aside."""
    return triage.decide(*triage.asked(net, pixels), net.limits.tolist())


def drawn_rows(
    drawn: dict[str, tuple[str, ...]], photos: list[Pixels], look: Callable[[Pixels], Verdict]
) -> Iterator[Row]:
    """Judge photographs degraded by each text of ``drawn``, photograph ``i`` alike in every run."""
    for kind, texts in drawn.items():
        for text in texts:
            yield text, kind, [look(damaged(pixels, text, i)) for i, pixels in enumerate(photos)]


def damaged(pixels: Pixels, text: str, i: int) -> Pixels:
    """Return photograph ``i`` degraded; alike in every run."""
    return synthesised(parsed(text), np.broadcast_to(pixels, (*pixels.shape[:2], 3)), generator_of(1, i))["degraded"]


def tested_rows(data: Path) -> Iterator[Row]:
    """Judge photographs that took no part in the training, by ``rddm.triage.judge``."""
    photos = [read_photo(path).pixels for path in listed(data / "bsds500" / "val")]
    yield from drawn_rows(DRAWN, photos, triage.judge)
    for name, kind in FOLDERS.items():
        yield name, kind, [triage.judge(read_photo(path).pixels) for path in listed(data / name)]


def counts(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return each row as numbers: what the photographs were found to be, how many rightly, and how many were left."""
    lines = []
    for name, kind, verdicts in rows:
        found = Counter(verdict.found for verdict in verdicts)
        left = sum(verdict.found not in triage.MODELS for verdict in verdicts)
        best = left if kind == "clean" else sum(accepted(kind, verdict.found) for verdict in verdicts)
        strength = float(np.median([verdict.strength for verdict in verdicts]))
        line = {"photos": name, "expected": kind, "right": best, "of": len(verdicts), "left": left}
        lines.append(line | {"strength": round(strength, 1), "found": dict(found)})
        print(json.dumps(lines[-1]), flush=True)
    return lines


def accepted(expected: str, found: str) -> bool:
    """Return whether a kind is one that may be found: for a camera's noise either noise will do."""
    return found == expected or (expected == "camera" and found == "noise")


def right(lines: list[dict[str, Any]]) -> float:
    """Return the share of the photographs with the right verdict, where one is expected."""
    asked = [line for line in lines if line["expected"]]
    return sum(line["right"] for line in asked) / sum(line["of"] for line in asked)


def table(lines: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown."""
    columns = ("dark", *KINDS[1:], "mixed", "left")
    head = ["| photos | expected | right | of | " + " | ".join(columns) + " |"]
    head.append("| --- | --- |" + " ---: |" * (2 + len(columns)))
    for line in lines:
        cells = (str({**line["found"], "left": line["left"] or ""}.get(column, "")) for column in columns)
        told = f"{line['right']}" if line["expected"] else ""
        head.append(f"| {line['photos']} | {line['expected']} | {told} | {line['of']} | {' | '.join(cells)} |")
    return "\n".join(head)


def package(run: Path) -> None:
    """Copy weights and card of a run into the package."""
    for source, target in ((run / WEIGHTS.name, WEIGHTS), (run / CARD.name, CARD)):
        shutil.copyfile(source, target)


def score(data: Path) -> None:
    """Print how the packaged network does, and write it into its card."""
    lines = counts(tested_rows(data))
    card = json.loads(CARD.read_text(encoding="utf-8"))
    card["tests"] = {"right": round(right(lines), 4), "table": lines}
    CARD.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    print(table(lines))


def harm(data: Path, limit: int | None, out: Path) -> None:
    """Run ``rddm restore`` on photographs of BSDS500 val, clean and damaged, and tell which got worse."""
    files = listed(data / "bsds500" / "val")[:limit]
    lines = [harm_of(text, files) for text in GOALS]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")
    print(harm_table(lines))


def harm_of(text: str, files: Sequence[Path]) -> dict[str, Any]:
    """Damage photographs, restore them without ``--model``, and return the models chosen and what changed, in dB."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "in", Path(folder) / "out"
        given.mkdir()
        cleans = [read_photo(file).pixels for file in files]
        for i, (file, pixels) in enumerate(zip(files, cleans, strict=True)):
            write_photo(given / f"{file.stem}.png", Photo(damaged(pixels, text, i)))
        with contextlib.redirect_stdout(io.StringIO()) as said:
            restore_files([str(given)], made, None, "cpu", Options())
        read = ([read_photo(place / f"{file.stem}.png").pixels for file in files] for place in (given, made))
        before, after = ([psnr(p, clean) for p, clean in zip(photos, cleans, strict=True)] for photos in read)
    choices = [line.split(", because ")[0] for line in said.getvalue().splitlines() if ", because " in line]
    chosen = Counter(choice.split(": ")[1] for choice in choices)
    gains = {file.stem: round(a - b, 3) for file, b, a in zip(files, before, after, strict=True)}
    worst = min(gains, key=gains.__getitem__)
    means = {"in": round(float(np.mean(before)), 3), "out": round(float(np.mean(after)), 3)}
    line = {"photos": text, "of": len(files), "chosen": dict(chosen), **means}
    line |= {"gain": round(float(np.mean(list(gains.values()))), 3), "worst": worst, "worst_gain": gains[worst]}
    print(json.dumps(line), flush=True)
    return line | {"gains": gains}


def psnr(pixels: Pixels, clean: Pixels) -> float:
    """Return the PSNR of 8-bit pixels, 100 dB where they are the same."""
    error = float(np.mean((pixels.astype(np.float64) - clean) ** 2))
    return 100.0 if error == 0 else 10 * float(np.log10(255**2 / error))


def harm_table(lines: list[dict[str, Any]]) -> str:
    """Return what was restored as Markdown."""
    head = ["| photos | chosen | dB in | dB out | worst change |", "| --- | --- | ---: | ---: | ---: |"]
    for line in lines:
        chosen = ", ".join(f"{name} {n}" for name, n in sorted(line["chosen"].items(), key=lambda item: -item[1]))
        figures = f"{line['in']:.2f} | {line['out']:.2f} | {line['worst_gain']:+.2f}"
        head.append(f"| {line['photos']} | {chosen} | {figures} |")
    return "\n".join(head)


def calibrate(data: Path) -> None:
    """Print how many photographs of each folder the rule calls dark, and how many of BSDS500's underexposed ones."""
    for name in CALIBRATION:
        photos = [read_photo(path).pixels for path in listed(data / name)]
        print(f"{name}: {dark_among(photos)} of {len(photos)} dark", flush=True)
        if name.startswith("bsds500"):
            lower = [damaged(pixels, "low_light", i) for i, pixels in enumerate(photos)]
            print(f"{name}, low_light: {dark_among(lower)} of {len(lower)} dark", flush=True)


def dark_among(photos: Iterable[Pixels]) -> int:
    """Return how many photographs the rule calls dark."""
    return sum(triage.is_dark(triage.brightness(pixels)) for pixels in photos)


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("--photos", type=Path, required=True, nargs="+", help="folders of good photographs")
    training.add_argument("--polyu", type=Path, help="folder of PolyU, as ../shared/data/polyu")
    training.add_argument("--out", type=Path, default=Path("runs/triage"))
    training.add_argument("--updates", type=int, default=Plan.updates)
    again = commands.add_parser("limits")
    again.add_argument("--photos", type=Path, required=True, nargs="+", help="those of train")
    later = commands.add_parser("whole")
    later.add_argument("--photos", type=Path, required=True, nargs="+", help="those of train")
    later.add_argument("--polyu", type=Path, help="that of train")
    for command in (again, later, commands.add_parser("package")):
        command.add_argument("--run", type=Path, default=Path("runs/triage"))
    for name in ("score", "calibrate", "harm"):
        commands.add_parser(name).add_argument("--data", type=Path, required=True, help="as ../shared/data")
    commands.choices["harm"].add_argument("--limit", type=int, help="photographs of each kind; all 100 if not given")
    commands.choices["harm"].add_argument("--out", type=Path, default=Path("runs/harm.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.command == "train":
        train(args.photos, args.polyu, args.out, Plan(updates=args.updates))
    elif args.command == "whole":
        whole(args.photos, args.polyu, args.run, Plan())
    elif args.command == "limits":
        limits(args.photos, args.run)
    elif args.command == "package":
        package(args.run)
    elif args.command == "harm":
        harm(args.data, args.limit, args.out)
    else:
        {"score": score, "calibrate": calibrate}[args.command](args.data)


if __name__ == "__main__":
    main()
