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

``train`` ends with ``limits``, those of ``rddm.triage.decide``: on photographs held out, whole and clean in several
ways, each fault may be found in at most 1 of 200. ``score`` measures the packaged network on photographs that took no
part and writes the table into its card, ``src/rddm/triage.json``; ``harm`` runs ``rddm restore`` on clean and damaged
ones and tells which got worse; ``calibrate`` tells what the rule of darkness makes of those that it was made on.
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
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from rddm import triage
from rddm.batch import Options, restore_files
from rddm.degradations import Defocus, GaussianBlur, Noise, parse
from rddm.degradations.base import Range, draw_log, uniform
from rddm.degradations.light import smooth_field
from rddm.draws import below, dihedral, draw_window, generator_of, share, synthesised
from rddm.journal import clock
from rddm.pairs import listed
from rddm.photo import Photo, Pixels, read_photo, to_float, write_photo
from rddm.photos import scaled
from rddm.triage import FAINT, FAULTS, KINDS, SIDE, WEIGHTS, Triage, Verdict

MARGIN = 2 * triage.ALIGNED  # cut away of a degraded piece: its borders, and a random shift against JPEG's blocks
CARD = WEIGHTS.with_suffix(".json")
TURNS: tuple[tuple[str, ...], ...] = (  # what is done in turn: as often nothing, as good photographs differ most
    (), ("camera",), (), ("rain",), (), ("blur",), (), ("noise",), (), ("camera",), (), ("blur",), (), ("jpeg",),
    (), ("rain",), (), ("blur",), (), ("noise", "jpeg"), (), ("camera",), (), ("blur", "camera"),
)  # fmt: skip
RAIN = "rain | heavy_rain | heavy_rain(brightness=0.3..0.6, width=0.7..1.6, length=15..45)"
BLUR = "motion(6..25) | motion(6..25) | shake(9..25) | defocus(2.5..6)"
AFTER = "noise(0..3)"  # half of the time, after a blur
CAMERA = "camera(iso=400..12800)"
NOISE = 2, 75  # of 255, each doubling as frequent as the next
JPEG = "jpeg(5..45, chroma=1..2)"
SAVED = "jpeg(70..100, chroma=1..2)"
CANON = 0.35, 0.12  # shares of PolyU's Canon pairs among the pieces with a camera's noise, and among the clean ones
ALLOWED = 0.005  # of the clean photographs held out, for each fault
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
        seed: of all that is drawn.
    """

    updates: int = 1000
    batch: int = 32
    lr: float = 8e-3
    warmup: float = 0.1
    weight_decay: float = 1e-3
    grey: float = 0.08
    strength: float = 0.3
    seed: int = 0


@dataclass(frozen=True)
class Piece:
    """What the network learns from: pixels (3, SIDE, SIDE), the share of each of ``KINDS``, binary log of strength."""

    pixels: Tensor
    shares: Tensor
    strength: float


parsed = cache(parse)


def scene(pixels: Pixels, generator: torch.Generator) -> Tensor:
    """Return a piece of a photograph (3, H, W) as good ones are: scaled, toned, soft or sharpened, faintly noisy."""
    image = cut(pixels, generator)
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


def cut(pixels: Pixels, generator: torch.Generator) -> Tensor:
    """Return a piece (3, H, W), turned, and most of the time scaled by 0.5 to 1.5, or enlarged up to thrice."""
    side, drawn = SIDE + MARGIN, share(generator)
    ends = (0.5, 1.5) if drawn < 0.65 else (1.5, 3) if drawn < 0.77 else (1, 1)
    taken = min(round(side / draw_log(Range(*ends), generator)), *pixels.shape[:2])
    top, left, _ = draw_window((pixels.shape[0], pixels.shape[1]), taken, False, generator)
    piece = pixels[top : top + taken, left : left + taken]
    piece = dihedral(generator)(piece if taken == side else scaled(piece, side))
    return torch.from_numpy(to_float(np.ascontiguousarray(piece))).permute(2, 0, 1)


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


def labelled(image: Tensor, changes: dict[str, float], plan: Plan, generator: torch.Generator) -> Piece:
    """Return a piece as it would be read from a file of 8 bits, with what is to be learned of it.

    Arguments:
        image: of SIDE + MARGIN or SIDE pixels a side.
        changes: by how much each fault changed it; those below ``FAINT`` count for the strength alone.
        plan: tells how often it loses its colour.
        generator: of what is drawn.
    """
    if share(generator) < plan.grey:
        image = image.mean(0, keepdim=True).expand(3, -1, -1)
    room = image.shape[1] - SIDE
    if share(generator) < 0.5:  # blocks lie as in a file that was not cut
        top, left = (triage.ALIGNED * below(room // triage.ALIGNED + 1, generator) for _ in range(2))
    else:
        top, left = below(room + 1, generator), below(room + 1, generator)
    seen = [kind for kind, change in changes.items() if change >= FAINT] or ["clean"]
    shares = torch.tensor([(kind in seen) / len(seen) for kind in KINDS])
    strength = max(sum(change**2 for change in changes.values()) ** 0.5, 0.5)
    pixels = (image[:, top : top + SIDE, left : left + SIDE] * 255).round() / 255
    return Piece(pixels, shares, float(np.log2(strength)))


def drawn(pixels: Pixels, faults: tuple[str, ...], plan: Plan, generator: torch.Generator) -> Piece:
    """Return a piece of a good photograph after some faults, and saved as JPEG most of the time."""
    image, changes = scene(pixels, generator), {}
    for fault in faults:
        before, image = STEPS[fault](image, generator)
        changes[fault] = rms(before, image)
    if "jpeg" not in faults and share(generator) < 0.6:
        image = parsed(SAVED)(image, generator).image
    return labelled(image, changes, plan, generator)


def real(pair: tuple[Pixels, Pixels], clean: bool, plan: Plan, generator: torch.Generator) -> Piece:
    """Return a piece of a real photograph with a camera's noise, or of its clean target, as it lies in its file."""
    height, width = pair[0].shape[:2]
    side, step, turn = SIDE + MARGIN, triage.ALIGNED, dihedral(generator)
    top, left = (step * below((length - side) // step + 1, generator) for length in (height, width))
    window = slice(top, top + side), slice(left, left + side)
    noise, target = (torch.from_numpy(to_float(turn(kind[window]).copy())).permute(2, 0, 1) for kind in pair)
    return labelled(target if clean else noise, {} if clean else {"camera": rms(target, noise)}, plan, generator)


def batch_of(
    photos: list[Pixels], pairs: list[tuple[Pixels, Pixels]], i: int, plan: Plan
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw the pieces (N, 3, SIDE, SIDE) of update ``i``, their shares (N, kinds) and strengths (N,)."""
    pieces = []
    for j in range(i * plan.batch, (i + 1) * plan.batch):
        generator, faults = generator_of(plan.seed, j), TURNS[j % len(TURNS)]
        of_pairs = {("camera",): CANON[0], (): CANON[1]}.get(faults, 0.0)
        if pairs and share(generator) < of_pairs:
            pieces.append(real(pairs[below(len(pairs), generator)], not faults, plan, generator))
        else:
            pieces.append(drawn(photos[below(len(photos), generator)], faults, plan, generator))
    pixels, shares = (torch.stack([getattr(piece, name) for piece in pieces]) for name in ("pixels", "shares"))
    return pixels, shares, torch.tensor([piece.strength for piece in pieces])


def fit(photos: list[Pixels], pairs: list[tuple[Pixels, Pixels]], plan: Plan) -> tuple[Triage, list[dict[str, float]]]:
    """Return the trained network, and the log: the means of every fiftieth update."""
    torch.manual_seed(plan.seed)
    net = Triage()
    optimiser = torch.optim.AdamW(net.parameters(), lr=plan.lr, weight_decay=plan.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, plan.lr, plan.updates, pct_start=plan.warmup, cycle_momentum=False
    )
    log, recent = [], []
    for i in range(plan.updates):
        pieces, shares, strengths = batch_of(photos, pairs, i, plan)
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
    most = int(ALLOWED * count)
    return [max([0.0, *sorted(says, reverse=True)[most : most + 1]]) for says in found.values()]


def train(folders: list[Path], polyu: Path | None, out: Path, plan: Plan) -> None:
    """Train on folders of good photographs; write weights and card, then choose the limits."""
    torch.set_num_threads(1)
    files = [file for folder in folders for file in parted(folder)[0]]
    pairs = [] if polyu is None else pairs_of(polyu)
    net, log = fit([read_photo(file).pixels for file in files], pairs, plan)
    names = ", ".join(folder.name for folder in folders)
    card = {
        "task": f"which of {', '.join(KINDS)} a photograph is, and how strongly",
        "data": f"{len(files)} photographs of {names}" + (f"; {len(pairs)} pairs of PolyU, Canon's" if pairs else ""),
        "terms": "BSDS500: research use, cite Arbelaez et al. 2011; ImageNet: research use; PolyU: non-commercial",
        "plan": asdict(plan),
        "degrade": {"rain": RAIN, "blur": BLUR, "after blur": AFTER, "camera": CAMERA, "jpeg": JPEG, "noise": NOISE},
        "cost": f"{clock(time.process_time())} of one CPU core",
        "parameters": sum(p.numel() for p in net.parameters()),
        "log": log,
    }
    write(out, net, card)
    limits(folders, out)


def write(out: Path, net: Triage, card: dict[str, Any]) -> None:
    """Write weights in half precision, limits as they are, and the card."""
    weights = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    out.mkdir(parents=True, exist_ok=True)
    save_file(weights | {"limits": net.limits}, out / WEIGHTS.name)
    (out / CARD.name).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def limits(folders: list[Path], run: Path) -> None:
    """Choose the limits of a trained network on what was held out of the folders, and put into the card how it does."""
    torch.set_num_threads(1)
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
    torch.set_num_threads(1)
    lines = counts(tested_rows(data))
    card = json.loads(CARD.read_text(encoding="utf-8"))
    card["tests"] = {"right": round(right(lines), 4), "table": lines}
    CARD.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    print(table(lines))


def harm(data: Path, limit: int | None, out: Path) -> None:
    """Run ``rddm restore`` on photographs of BSDS500 val, clean and damaged, and tell which got worse."""
    torch.set_num_threads(1)
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
    for command in (again, commands.add_parser("package")):
        command.add_argument("--run", type=Path, default=Path("runs/triage"))
    for name in ("score", "calibrate", "harm"):
        commands.add_parser(name).add_argument("--data", type=Path, required=True, help="as ../shared/data")
    commands.choices["harm"].add_argument("--limit", type=int, help="photographs of each kind; all 100 if not given")
    commands.choices["harm"].add_argument("--out", type=Path, default=Path("runs/harm.json"))
    args = parser.parse_args()
    if args.command == "train":
        train(args.photos, args.polyu, args.out, Plan(updates=args.updates))
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
