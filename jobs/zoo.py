"""The bundled models, trained on one core or on a GPU, by the clock.

    python jobs/zoo.py train all-in-one --minutes 120 --data DATA --state STATE --go-on
    python jobs/zoo.py train derain --minutes 40 --data DATA --state STATE
    python jobs/zoo.py lane first --minutes 25 --data DATA --state STATE --gpu

``train`` is one training. With ``--go-on`` its learning rate stays constant and it goes on where the last one ended:
the trunk, which learns from everything for as long as there are cores. Without, the learning rate falls to zero with
the time that was given, so that whatever the machine's speed the training ends: the branches, which begin in the
trunk's averaged weights. ``lane`` is several trainings that follow each other, each with its share of the time; lanes
run side by side and share a GPU; what starts from another training waits for it.

The package's own draws make the pieces. Where drawing is slower than training, each piece is used ``--reuse`` times,
mirrored or not. STATE holds ``NAME/model`` (a model that ``rddm restore --model`` takes, averaged weights in half
precision), ``NAME/log.jsonl``, ``NAME/recipe.json`` and, of the trunk, ``NAME/state.pt``. ``--smoke`` does the same in
small, in seconds.
"""

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import sets
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rddm.degradations import parse
from rddm.draws import AUGMENT, Draws, generator_of
from rddm.first_stage import START
from rddm.loss import Batch, draw_times
from rddm.methods import METHODS
from rddm.model import Model
from rddm.nn.compact import CompactConfig
from rddm.pairs import hold_out, pair_up
from rddm.photos import Files, Photos
from rddm.plan import accelerator_of
from rddm.recipe import Average, Phase, Recipe, to_json
from rddm.recipes import (
    SEEN,
    all_in_one,
    backbone,
    deblur,
    denoise,
    denoise_real,
    derain,
    drops,
    generate,
    inpaint,
    jpeg,
    realism,
    restore,
    shadow,
    upscale,
)  # fmt: skip
from rddm.schedules import PowerPath
from rddm.trainer import Run
from rddm.validate import spec_of

KEPT = 64  # batches' worth of fresh pieces that are kept on the device
SAVED = 120  # seconds between two times that a training is saved
WARMUP = 0.02  # share of the time in which the learning rate rises
ONE_STEP_SEEN = replace(SEEN, steps=1)


@dataclass(frozen=True)
class Training:
    """One model.

    Arguments:
        recipe: what is trained.
        photos: ``(data folder, recipe) -> photographs``.
        initial: the training (or a model's folder) in whose weights it begins; empty for fresh ones.
        restorer: the training whose restoration takes the place of the degraded piece (the second stage's input).
    """

    recipe: Recipe
    photos: Callable[[Path, Recipe], Photos]
    initial: str = ""
    restorer: str = ""


def photographs(*folders: str) -> Callable[[Path, Recipe], Photos]:
    """Return what loads the clean photographs of some folders of ``training/photos.py``."""

    def read(data: Path, recipe: Recipe) -> Photos:
        photos = Gathered([pair_files(data / "photos" / folder, recipe) for folder in folders])
        return photos

    return read


def pair_files(folder: Path, recipe: Recipe) -> Files:
    """Return the clean photographs of a folder, kept in memory."""
    files = Files(pair_up({"clean": folder}), recipe)
    files.preload()
    return files


class Gathered:
    """Clean photographs of several folders as one set."""

    kinds = ("clean",)

    def __init__(self, parts: list[Files]) -> None:
        self.every = [(part, i) for part in parts for i in range(len(part))]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.every)

    def name(self, i: int) -> str:
        """Return a photograph's name."""
        part, position = self.every[i]
        return part.name(position)

    def pixels(self, kind: str, i: int) -> sets.Pixels:
        """Return a photograph."""
        part, position = self.every[i % len(self.every)]
        return part.pixels(kind, position)

    def whole(self, i: int) -> sets.Whole:
        """Clean photographs have nothing to be told of."""
        raise NotImplementedError


def polyu(data: Path, recipe: Recipe) -> Photos:
    """Return PolyU's pairs of the Canon cameras."""
    files = Files(pair_up({"clean": data / "polyu-canon/target", "degraded": data / "polyu-canon/input"}), recipe)
    files.preload()
    return files


def lol(data: Path, recipe: Recipe) -> Photos:
    """Return LOL's native crops, some with bright parts."""
    return sets.LitCrops(data / "low-light", recipe)


def cat_photos(data: Path, recipe: Recipe) -> Photos:
    """Return AFHQ's cats."""
    return sets.cats(data / "cats", recipe)


DRY = photographs("bsds500", "imagenet", "desktop")
ALL = photographs("bsds500", "bsds500-rain-holdout", "imagenet", "desktop")


LARGE = {"widths": (48, 96, 128, 160), "blocks": (2, 3, 3, 2)}  # 9.4 GMACs at 256x256, for a GPU


def on_gpu(training: Training) -> Training:
    """Return a training with the network, the batches and the precision of a GPU."""
    recipe = training.recipe
    phases = (Phase(0.7, 128, 64), Phase(0.3, 256, 16))
    network = recipe.network
    if recipe.name == "cats":
        phases = (Phase(1.0, 64, 256),)
    else:
        network = replace(network, **LARGE)  # pyright: ignore
    lr = 2e-3 if not training.initial else recipe.lr
    recipe = replace(recipe, network=network, phases=phases, precision="bf16", compile=True, lr=lr)
    return replace(training, recipe=recipe, initial="" if training.initial == TRIAL else training.initial)


def low_light() -> Recipe:
    """Return the recipe of the low-light model, with the backbone's network."""
    recipe = replace(restore(), name="low-light", method=ONE_STEP_SEEN, network=backbone(ONE_STEP_SEEN))
    return replace(recipe, start_share=1.0, frequency=0.05)


def cats() -> Recipe:
    """Return the recipe of the generator: SM-N, both schedules the mean of rising and falling."""
    recipe = generate()
    method = replace(recipe.method, path=PowerPath(alpha="mean", beta2="mean"))
    network = CompactConfig(in_channels=3, widths=(96, 192, 256), blocks=(2, 3, 3))
    return replace(recipe, name="cats", method=method, network=network, average=Average(0.9995))


def several_steps(recipe: Recipe) -> Recipe:
    """Return the recipe of the paper's own row for rain, residual and noise, in five steps."""
    method = METHODS["rddm"]
    return replace(
        recipe, name=f"{recipe.name}-rddm", method=method, network=backbone(method), start_share=0.2,
        head_weights=(1.0, 1.0),
    )  # fmt: skip


TRUNK = "all-in-one"
TRIAL = "../shared/weights/denoise-trial"
BRANCH = 1.2e-3  # learning rate of what begins in the trunk's weights


def branch(
    recipe: Recipe, photos: Callable[[Path, Recipe], Photos], initial: str = TRUNK, restorer: str = ""
) -> Training:
    """Return a training that begins in another's weights."""
    return Training(replace(recipe, lr=BRANCH), photos, initial, restorer)


TRAININGS = {
    training.recipe.name: training
    for training in (
        Training(all_in_one(), DRY, TRIAL),
        branch(denoise(), ALL),
        branch(denoise_real(), polyu, "denoise"),
        branch(derain(), DRY),
        branch(several_steps(derain()), DRY),
        branch(deblur(), ALL),
        branch(jpeg(), ALL),
        branch(upscale(), ALL),
        branch(inpaint(), ALL),
        branch(shadow(), ALL),
        branch(drops(), ALL),
        Training(low_light(), lol, TRUNK),
        Training(cats(), cat_photos),
        branch(realism(denoise(), "denoise"), ALL, "denoise", "denoise"),
        branch(realism(upscale(), "upscale"), ALL, "upscale", "upscale"),
        branch(realism(low_light(), "low-light"), lol, "low-light", "low-light"),
    )
}
LANES = {  # trainings and their shares of the lane's time
    "first": {"all-in-one": 0.36, "denoise": 0.36, "denoise-realism": 0.14, "jpeg": 0.14},
    "second": {"cats": 0.36, "upscale": 0.22, "derain": 0.42},
    "third": {"low-light": 0.3, "deblur": 0.46, "inpaint": 0.24},
    "fourth": {
        "low-light-realism": 0.1, "shadow": 0.08, "drops": 0.08, "derain-rddm": 0.2, "upscale-realism": 0.14,
        "denoise-real": 0.04,
    },
}  # fmt: skip


class Pieces(Dataset):
    """Drawn pieces in bytes, without their times and noises, which the device draws."""

    def __init__(self, draws: Draws) -> None:
        self.draws = draws

    def __len__(self) -> int:
        """Return how many photographs there are."""
        return len(self.draws)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        """Draw piece ``i`` of a side."""
        i, crop = key
        draws, generator = self.draws, generator_of(self.draws.recipe.seed, 0, i)
        which = draws.chosen[int(torch.randint(len(draws), (1,), generator=generator))]
        pieces = draws.cut(which, crop, generator)
        turn = AUGMENT[draws.recipe.augment](generator)
        sample = draws.degraded(which, {kind: turn(piece).copy() for kind, piece in pieces.items()}, generator)
        return {name: in_bytes(name, value) for name, value in sample.items()}


def in_bytes(name: str, value: Tensor) -> Tensor:
    """Return an image in bytes; numbers told of the whole photograph stay as they are."""
    if value.ndim != 3:
        return value
    return (value * 255 if name == "mask" else (value + 1) * 127.5).round().to(torch.uint8)


def from_bytes(name: str, value: Tensor) -> Tensor:
    """Return what :func:`in_bytes` was given."""
    if value.dtype != torch.uint8:
        return value
    return value.float() / 255 if name == "mask" else value.float() / 127.5 - 1


class Pool:
    """The last pieces drawn, on the device; a batch is drawn from them."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.size, self.device = size, device
        self.kept: dict[str, Tensor] = {}
        self.count = 0

    def put(self, fresh: dict[str, Tensor]) -> None:
        """Keep fresh pieces in the place of the oldest."""
        number = len(next(iter(fresh.values())))
        where = (torch.arange(self.count, self.count + number) % self.size).to(self.device)
        for name, value in fresh.items():
            if name not in self.kept:
                self.kept[name] = torch.empty(self.size, *value.shape[1:], dtype=value.dtype, device=self.device)
            self.kept[name][where] = value.to(self.device, non_blocking=True)
        self.count += number

    def take(self, batch: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return a batch of pieces, all mirrored or none."""
        which = torch.randint(min(self.count, self.size), (batch,), generator=generator).to(self.device)
        mirrored = bool(torch.randint(2, (1,), generator=generator))
        taken = {name: from_bytes(name, value[which]) for name, value in self.kept.items()}
        return {name: v.flip(3) if mirrored and v.ndim == 4 and name != "thumbnail" else v for name, v in taken.items()}


def keys(first: int, phase: Phase, reuse: int) -> Iterator[list[tuple[int, int]]]:
    """Yield the keys of the fresh pieces of each update, without end."""
    number = max(1, phase.batch // reuse)
    while True:
        yield [(first + j, phase.crop) for j in range(number)]
        first += number


def stacked(samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Stack pieces."""
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


def drawn(recipe: Recipe, photos: Photos) -> Draws:
    """Return the draws of a training; nothing is held out of photographs that are degraded synthetically."""
    chosen = list(range(len(photos))) if recipe.degrade else hold_out(len(photos))[0]
    if isinstance(photos, sets.LitCrops):
        chosen = [*chosen, *sets.lit(photos)]
    return Draws(photos, chosen, recipe, parse(recipe.degrade) if recipe.degrade else None)


class Work:
    """A training on its device, from its first update to its last second."""

    def __init__(self, training: Training, args: argparse.Namespace) -> None:
        self.training, self.args = training, args
        recipe = training.recipe
        if training.initial:
            folder = args.state / training.initial / "model"
            recipe = replace(recipe, initial=str(folder if training.initial in TRAININGS else training.initial))
        if training.restorer:
            recipe = replace(recipe, restorer=str(args.state / training.restorer / "model"))
        if args.go_on:
            recipe = replace(recipe, schedule="constant")
        self.out = args.state / recipe.name
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "recipe.json").write_text(json.dumps(to_json(recipe), indent=2) + "\n")
        self.run = Run(recipe, accelerator_of(recipe))
        self.device = self.run.accelerator.device
        self.pieces = Pieces(drawn(recipe, training.photos(args.data, recipe)))
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.began, self.saved = time.time(), time.time()
        if args.go_on and (self.out / "state.pt").exists():
            self.run.load(torch.load(self.out / "state.pt", weights_only=True, map_location=self.device))
            print(f"{recipe.name}: goes on after {self.run.place}", flush=True)
        self.before = self.run.place.seconds
        self.log = (self.out / "log.jsonl").open("a")

    def train(self, seconds: float) -> None:
        """Train for some seconds, and leave the model."""
        recipe, end, share = self.run.recipe, self.began + seconds, 0.0
        for phase in recipe.phases:
            share += phase.share
            self.train_phase(phase, self.began + share * seconds if phase is not recipe.phases[-1] else end, seconds)
        self.save()

    def train_phase(self, phase: Phase, end: float, seconds: float) -> None:
        """Train on pieces of one size until ``end``."""
        workers, fresh = self.args.workers, keys(self.run.place.images, phase, self.args.reuse)
        loader = iter(
            DataLoader(
                self.pieces, batch_sampler=fresh, num_workers=workers, collate_fn=stacked,  # pyright: ignore
                pin_memory=self.device.type == "cuda", prefetch_factor=4 if workers else None,
            )
        )  # fmt: skip
        reuse = self.args.reuse
        pool, total, since = Pool(KEPT * max(1, phase.batch // reuse), self.device), 0.0, time.time()
        for _ in range(reuse):
            pool.put(next(loader))
        while time.time() < end:
            self.pace(seconds)
            pool.put(next(loader))
            heads, _ = self.run.update([self.batch(pool.take(phase.batch, self.generator))])
            total = total + heads.detach()
            update = self.run.place.update
            if update % 100 == 0:
                self.note(update, (total / 100).tolist(), phase, time.time() - since)
                total, since = 0.0, time.time()

    def pace(self, seconds: float) -> None:
        """Let the learning rate follow the clock: the recipe's steps are those that would end in time at this speed."""
        update, spent = self.run.place.update + 1, time.time() - self.began
        done = min(max(spent / seconds, 1e-3), 1.0)
        steps = max(update, math.ceil(update / done))
        self.run.place = self.run.place._replace(seconds=self.before + spent)
        self.run.recipe = replace(self.run.recipe, steps=steps, warmup=max(50, round(WARMUP * steps)))

    def batch(self, pieces: dict[str, Tensor]) -> Batch:
        """Return pieces with times and noise, and with that of the first stage if this is a second one."""
        recipe = self.run.recipe
        x_0, x_in = pieces.pop("x_0"), pieces.pop("x_in")
        if recipe.restorer:
            pieces[START] = torch.randn_like(x_0)[:, None]
        t = draw_times(recipe.method.path, len(x_0), self.generator, recipe.start_share)
        return Batch(x_0, x_in, t, torch.randn_like(x_0), pieces)

    def note(self, update: int, losses: list[float], phase: Phase, seconds: float) -> None:
        """Write a line of the log."""
        if not all(map(math.isfinite, losses)):
            raise SystemExit(f"{self.out}: the loss became {losses}")
        line = {
            "update": update, "images": self.run.place.images, "losses": [round(x, 6) for x in losses],
            "crop": phase.crop, "seconds": round(time.time() - self.began, 1),
            "images_per_second": round(100 * phase.batch / seconds, 1),
        }  # fmt: skip
        self.log.write(json.dumps(line) + "\n")
        self.log.flush()
        if time.time() - self.saved > SAVED:
            self.saved = time.time()
            print(self.run.recipe.name, line, flush=True)
            self.save()

    def save(self) -> None:
        """Leave the averaged weights as a model, and say how far it is."""
        place, recipe = self.run.place, self.training.recipe
        device = torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"
        card = {
            "task": recipe.name, "device": device, "updates": place.update, "images": place.images,
            "seconds": round(place.seconds), "initial": self.training.initial, "restorer": self.training.restorer,
            "photographs": len(self.pieces),
        }  # fmt: skip
        model = Model(spec_of(recipe, card))
        model.net.load_state_dict(self.run.ema.state_dict())
        model.half().save_pretrained(self.out / "part")
        final = self.out / "model"
        final.mkdir(exist_ok=True)
        for file in (self.out / "part").iterdir():
            file.replace(final / file.name)
        if self.args.go_on:
            torch.save(self.run.state(), self.out / "state.part")
            os.replace(self.out / "state.part", self.out / "state.pt")


def small(training: Training) -> Training:
    """Return a training in miniature."""
    recipe = training.recipe
    network = replace(recipe.network, widths=(16, 32), blocks=(1, 1), features=16)  # pyright: ignore
    phases = tuple(Phase(phase.share, 32 if phase.crop < 256 else 48, 8) for phase in recipe.phases)
    initial = "" if training.initial == TRIAL else training.initial
    return replace(training, recipe=replace(recipe, network=network, phases=phases, compile=False), initial=initial)


def wait_for(training: Training, state: Path) -> None:
    """Wait until the trainings that this one builds on are done."""
    for name in {training.initial, training.restorer} & TRAININGS.keys():
        while not (state / name / "done").exists():
            time.sleep(0.5)


def prepared(name: str, args: argparse.Namespace) -> Training:
    """Return a training as the machine and the options want it."""
    training = TRAININGS[name]
    training = on_gpu(training) if args.gpu else training
    training = small(training) if args.smoke else training
    if args.initial:
        training = replace(training, initial=args.initial)
    return replace(training, recipe=replace(training.recipe, compile=training.recipe.compile and not args.eager))


def lane(shares: dict[str, float], args: argparse.Namespace) -> None:
    """Train one after the other, each for its share of the time that is left."""
    end, left = time.time() + 60 * args.minutes, dict(shares)
    for name, share in shares.items():
        training = prepared(name, args)
        wait_for(training, args.state)
        work = Work(training, args)
        work.train(max(1.0, (end - time.time()) * share / sum(left.values())))
        del left[name]
        (work.out / "done").touch()
        print(f"{name}: done, {work.run.place}", flush=True)


def main() -> None:
    """Train one model, or a lane of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "lane"))
    parser.add_argument("name", choices=(*TRAININGS, *LANES))
    parser.add_argument("--data", type=Path, help="folder with photos, low-light, cats, polyu-canon")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True, help="of the clock")
    parser.add_argument("--go-on", action="store_true", help="constant rate, from the last state")
    parser.add_argument("--initial", default="", help="begin in these weights instead (a model's folder)")
    parser.add_argument("--gpu", action="store_true", help="the network, batches and precision of a GPU")
    parser.add_argument("--reuse", type=int, default=2, help="times that each piece is used")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw pieces")
    parser.add_argument("--eager", action="store_true", help="do not compile the networks")
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args()
    if args.smoke:
        args.data = Path(tempfile.mkdtemp())
        sets.miniature_zoo(args.data)
    if args.data is None or not args.data.is_dir():
        sys.exit(f"zoo: --data {args.data}: no such folder, expected one with photos, low-light, cats and polyu-canon")
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch._dynamo.config.automatic_dynamic_shapes = False
    if args.what == "lane":
        lane(LANES[args.name], args)
    else:
        work = Work(prepared(args.name, args), args)
        work.train(60 * args.minutes)
        (work.out / "done").touch()


if __name__ == "__main__":
    main()
