"""Train, package and score the network that chooses a model (``rddm.triage``, docs/choosing.md).

    python training/triage.py train --photos photos/ --out runs/triage
    python training/triage.py package --run runs/triage
    python training/triage.py score --data ../shared/data
    python training/triage.py calibrate --data ../shared/data

A photograph is cut, scaled by 0.5 to 1.5 and toned at random, so that it is no longer one of a single collection, and
half of the time gets noise of up to 2 of 255, as good photographs have. Then it is degraded by what one of the recipes'
models removes, half of the time softened as by a lens and a mosaic of colours, and half of the time saved as JPEG.
``score`` measures the packaged network on photographs that took no part, and writes the table into its card,
``src/rddm/triage.json``; ``calibrate`` tells what the rule of darkness makes of the photographs that it was made on.
"""

import argparse
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from rddm import triage
from rddm.degradations import Degradation, GaussianBlur, parse
from rddm.draws import below, dihedral, draw_window, generator_of, share, synthesised
from rddm.journal import clock
from rddm.pairs import hold_out, listed
from rddm.photo import Pixels, read_photo, to_float
from rddm.photos import scaled
from rddm.recipes import denoise, derain
from rddm.triage import KINDS, SIDE, WEIGHTS, Triage, Verdict

MARGIN = 2 * triage.ALIGNED  # cut away of a degraded piece: its borders, and a random shift against JPEG's blocks
SEEN = 2.5  # of 255: the root mean square of noise that makes a photograph noisy
TURNS = ("clean", *KINDS)  # what is drawn in turn: good photographs differ most
CARD = WEIGHTS.with_suffix(".json")
DEGRADE = {  # noise and rain as the recipes draw them; blur that can be seen; JPEG's colours coarse and fine
    "clean": "noise(0)",
    "noise": denoise().degrade,
    "rain": derain().degrade,
    "blur": "(motion(4..21) | shake(7..25) | defocus(1.6..4)) + noise(0..4)",
    "jpeg": "jpeg(5..70) | jpeg(5..70) | jpeg(5..85, chroma=1) | jpeg(70..85)",
}
GOOD = parse("noise(0..2)")
SAVED = {kind: parse("jpeg(90..100, chroma=1..2)" if kind == "clean" else "jpeg(70..100)") for kind in KINDS}
BLURS = ("motion(5)", "motion(15)", "shake(15)", "defocus(1.5)", "defocus(3)")
DRAWN = {  # what photographs of BSDS500 val are degraded by, and what should be found
    "clean": ("noise(0)", "noise(2)", "jpeg(90)"),
    "noise": ("noise(5)", "noise(15)", "noise(25)", "noise(50)", "camera"),
    "rain": ("rain", "heavy_rain"),
    "blur": tuple(f"{text} + noise(1)" for text in BLURS),
    "jpeg": ("jpeg(10)", "jpeg(30)", "jpeg(50)", "jpeg(70)", "jpeg(80)"),
}
OTHERS = {  # what is not among the kinds, or two of them at once: there is no right answer but darkness
    "dark": ("low_light",),
    "": ("downscale(2)", "downscale(4)", "haze", "noise(25) + jpeg(30)", "defocus(3) + noise(25)"),
}
FOLDERS = {  # of the data folder, and what should be found
    "polyu/input": "noise", "polyu/target": "clean", "lol/test/input": "dark", "lol/test/target": "clean",
    "set5": "clean", "set14": "clean",
}  # fmt: skip
CALIBRATION = ("lol/train_crop256/input", "lol/train_256/target", "bsds500/train")  # what the rule of darkness rests on
Row = tuple[str, str, list[Verdict]]  # photographs, what should be found, what was


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
        seed: of all that is drawn.
    """

    updates: int = 1250
    batch: int = 32
    lr: float = 8e-3
    warmup: float = 0.1
    weight_decay: float = 1e-3
    grey: float = 0.1
    seed: int = 0


def good(pixels: Pixels, generator: torch.Generator) -> Tensor:
    """Return a piece of a photograph (3, H, W), scaled, turned, toned and lightly noisy, each most of the time."""
    side = SIDE + MARGIN
    factor = 0.5 * 3 ** share(generator) if share(generator) < 0.75 else 1.0
    cut = min(round(side / factor), *pixels.shape[:2])
    top, left, _ = draw_window((pixels.shape[0], pixels.shape[1]), cut, False, generator)
    piece = pixels[top : top + cut, left : left + cut]
    piece = dihedral(generator)(piece if cut == side else scaled(piece, side))
    image = torch.from_numpy(to_float(np.ascontiguousarray(piece))).permute(2, 0, 1)
    if share(generator) < 0.5:
        image = image ** (0.6 * (1.6 / 0.6) ** share(generator))
    return GOOD(image, generator).image if share(generator) < 0.5 else image


def sample(
    pixels: Pixels, kind: str, degrade: Degradation, grey: float, generator: torch.Generator
) -> tuple[Tensor, str]:
    """Return a piece (3, SIDE, SIDE) as it would be read from a file of 8 bits, and its kind.

    Noise too faint to be seen makes no noisy photograph: its kind is "clean".
    """
    soft = GaussianBlur(0.8 * share(generator) if share(generator) < 0.5 else 0)
    before = good(pixels, generator)
    if kind == "jpeg":
        after = degrade(soft(before, generator).image, generator).image
    else:
        after = soft(degrade(before, generator).image, generator).image
    if kind == "noise" and F.mse_loss(after, soft(before, generator).image) < (SEEN / 255) ** 2:
        kind = "clean"
    if kind != "jpeg" and share(generator) < 0.5:
        after = SAVED[kind](after, generator).image
    if share(generator) < grey:
        after = after.mean(0, keepdim=True).expand(3, -1, -1)
    if share(generator) < 0.5:  # blocks lie as in a file that was not cut
        top, left = triage.ALIGNED * below(3, generator), triage.ALIGNED * below(3, generator)
    else:
        top, left = below(MARGIN + 1, generator), below(MARGIN + 1, generator)
    return (after[:, top : top + SIDE, left : left + SIDE] * 255).round() / 255, kind


def batch_of(photos: list[Pixels], i: int, plan: Plan) -> tuple[Tensor, Tensor]:
    """Draw the pieces (N, 3, SIDE, SIDE) of update ``i`` and their kinds (N,)."""
    degrade = {kind: parse(text) for kind, text in DEGRADE.items()}
    pieces, kinds = [], []
    for j in range(i * plan.batch, (i + 1) * plan.batch):
        generator, drawn = generator_of(plan.seed, j), TURNS[j % len(TURNS)]
        piece, kind = sample(photos[below(len(photos), generator)], drawn, degrade[drawn], plan.grey, generator)
        pieces.append(piece)
        kinds.append(KINDS.index(kind))
    return torch.stack(pieces), torch.tensor(kinds)


def fit(photos: list[Pixels], plan: Plan) -> tuple[Triage, list[dict[str, float]]]:
    """Return the trained network, and the log: the means of every fiftieth update."""
    torch.manual_seed(plan.seed)
    net = Triage()
    optimiser = torch.optim.AdamW(net.parameters(), lr=plan.lr, weight_decay=plan.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, plan.lr, plan.updates, pct_start=plan.warmup, cycle_momentum=False
    )
    log, recent = [], []
    for i in range(plan.updates):
        pieces, kinds = batch_of(photos, i, plan)
        logs = net(pieces)
        loss = F.nll_loss(logs, kinds)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        recent.append((loss.item(), (logs.argmax(1) == kinds).float().mean().item()))
        if (i + 1) % 50 == 0:
            mean = np.mean(recent[-50:], 0).round(4).tolist()
            log.append({"update": i + 1, "loss": mean[0], "right": mean[1], "cpu_seconds": round(time.process_time())})
            print(json.dumps(log[-1]), flush=True)
    drawn = torch.tensor([TURNS.count(kind) for kind in KINDS])
    net.state_dict()["head.2.bias"].sub_(drawn.log())  # a piece that tells nothing gives all kinds the same probability
    return net.eval(), log


def train(folder: Path, out: Path, plan: Plan) -> None:
    """Train on a folder of good photographs; write weights, card, and how it does on those held out."""
    torch.set_num_threads(1)
    files = listed(folder)
    trained, held = hold_out(len(files))
    net, log = fit([read_photo(files[i]).pixels for i in trained], plan)
    out.mkdir(parents=True, exist_ok=True)
    weights = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    save_file(weights, out / WEIGHTS.name)
    net.load_state_dict({name: value.float() for name, value in weights.items()})
    lines = counts(drawn_rows(DRAWN, [read_photo(files[i]).pixels for i in held], lambda pixels: ask(net, pixels)))
    card = {
        "task": f"which of {', '.join(KINDS)} a photograph is",
        "data": f"{len(trained)} photographs of {folder.name}; {len(held)} held out, of contiguous names",
        "terms": "BSDS500: research use, cite Arbelaez et al. 2011",
        "plan": asdict(plan),
        "degrade": DEGRADE,
        "cost": f"{clock(time.process_time())} of one CPU core, figures of the held out included",
        "parameters": sum(p.numel() for p in net.parameters()),
        "held_out": {"right": round(right(lines), 4), "table": lines},
        "log": log,
    }
    (out / CARD.name).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    print(table(lines))


def ask(net: Triage, pixels: Pixels) -> Verdict:
    """Judge a photograph by a network that is not packaged yet, darkness aside."""
    with torch.inference_mode():
        return triage.verdict_of(net(triage.to_tensor(triage.pieces_of(pixels))))


def drawn_rows(
    drawn: dict[str, tuple[str, ...]], photos: list[Pixels], look: Callable[[Pixels], Verdict]
) -> Iterator[Row]:
    """Judge photographs degraded by each text of ``drawn``, photograph ``i`` alike in every run."""
    for kind, texts in drawn.items():
        for text in texts:
            degrade = parse(text)
            made = (synthesised(degrade, pixels, generator_of(1, i))["degraded"] for i, pixels in enumerate(photos))
            yield text, kind, [look(pixels) for pixels in made]


def tested_rows(data: Path) -> Iterator[Row]:
    """Judge photographs that took no part in the training, by ``rddm.triage.judge``."""
    photos = [read_photo(path).pixels for path in listed(data / "bsds500" / "val")]
    for drawn in (DRAWN, OTHERS):
        yield from drawn_rows(drawn, photos, triage.judge)
    for name, kind in FOLDERS.items():
        yield name, kind, [triage.judge(read_photo(path).pixels) for path in listed(data / name)]


def counts(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return each row as numbers: how many photographs were found to be what, those without a sure verdict apart."""
    lines = []
    for name, kind, verdicts in rows:
        found = Counter(v.found if v.probability >= triage.SURE else "unsure" for v in verdicts)
        best = sum(v.found == kind for v in verdicts)
        lines.append({"photos": name, "expected": kind, "best": best, "of": len(verdicts), "found": dict(found)})
    return lines


def right(lines: list[dict[str, Any]]) -> float:
    """Return the share of the photographs whose most probable kind is the expected one, where one is expected."""
    asked = [line for line in lines if line["expected"]]
    return sum(line["best"] for line in asked) / sum(line["of"] for line in asked)


def table(lines: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown."""
    columns = ("dark", *KINDS[1:], "clean", "unsure")
    head = ["| photos | expected | " + " | ".join(columns) + " |", "| --- | --- |" + " ---: |" * len(columns)]
    for line in lines:
        cells = (str(line["found"].get(column, "")) for column in columns)
        head.append(f"| {line['photos']} | {line['expected']} | {' | '.join(cells)} |")
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


def calibrate(data: Path) -> None:
    """Print how many photographs of each folder the rule calls dark."""
    for name in CALIBRATION:
        files = listed(data / name)
        dark = sum(triage.is_dark(*triage.brightness(read_photo(path).pixels)) for path in files)
        print(f"{name}: {dark} of {len(files)} dark")


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("--photos", type=Path, required=True, help="folder of good photographs")
    training.add_argument("--out", type=Path, default=Path("runs/triage"))
    training.add_argument("--updates", type=int, default=Plan.updates)
    commands.add_parser("package").add_argument("--run", type=Path, default=Path("runs/triage"))
    for name in ("score", "calibrate"):
        commands.add_parser(name).add_argument("--data", type=Path, required=True, help="as ../shared/data")
    args = parser.parse_args()
    if args.command == "train":
        train(args.photos, args.out, Plan(updates=args.updates))
    elif args.command == "package":
        package(args.run)
    else:
        {"score": score, "calibrate": calibrate}[args.command](args.data)


if __name__ == "__main__":
    main()
