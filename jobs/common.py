"""What all jobs share: arguments, a run cut into commands of some minutes, and files small enough to bring back.

A job is run from the root of a checkout with nothing installed but torch, accelerate, safetensors and what they bring
(numpy, Pillow, rich): the package is imported from ``src``. It goes on from its own state in ``runs/``; the same
command again is the next part.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from rddm.degradations import parse
from rddm.errors import UserError
from rddm.journal import read_log
from rddm.model import read_model
from rddm.nn.compact import CompactConfig
from rddm.pairs import hold_out
from rddm.photos import Photos
from rddm.plan import accelerator_of
from rddm.recipe import RECIPE, Phase, Recipe, difference, fitted, read_recipe
from rddm.train import Setting, conduct, remember

SHARD = 15 << 20  # bytes of weights in one file
MOST = 3  # files of weights: with the others no more than eight, of 64 MiB
FINISH = 40.0  # seconds kept for the last validation and the files


@dataclass(frozen=True)
class Job:
    """A training that waits for a GPU.

    Arguments:
        name: how it is called; its state is ``runs/<name>``.
        recipe: what is trained.
        photos: ``(data folder, recipe) -> photographs``.
        miniature: writes data of the same layout, but tiny, for ``--smoke``.
        data: what the model's card says of the photographs.
        more: positions of photographs to train on beyond those that are counted, none of which is held out.
    """

    name: str
    recipe: Recipe
    photos: Callable[[Path, Recipe], Photos]
    miniature: Callable[[Path], None]
    data: str
    more: Callable[[Photos], list[int]] = lambda photos: []


def arguments(name: str) -> argparse.Namespace:
    """Parse a job's options."""
    parser = argparse.ArgumentParser(description=f"the job {name}, see jobs/README.md")
    parser.add_argument("--data", type=Path, help="folder that jobs/pack.py made")
    parser.add_argument("--out", type=Path, required=True, help="empty folder for the files to bring back, as $OUT")
    parser.add_argument("--seconds", type=float, default=540, help="of this command; the same command again goes on")
    parser.add_argument("--eager", action="store_true", help="do not compile the network")
    parser.add_argument("--smoke", action="store_true", help="the same in small, on data of its own, in seconds")
    return parser.parse_args()


def taken(option: str, names: Iterable[str]) -> str:
    """Take ``--option NAME`` from the front of the command line, or stop with one line."""
    if len(sys.argv) < 3 or sys.argv[1] != option or sys.argv[2] not in names:
        sys.exit(f"{Path(sys.argv[0]).stem}: expected {option} first, one of {', '.join(names)}")
    name = sys.argv[2]
    del sys.argv[1:3]
    return name


def small(recipe: Recipe) -> Recipe:
    """Return a recipe in miniature: the same objective and settings, some thousand weights, a handful of updates."""
    network: CompactConfig | object = recipe.network
    if isinstance(network, CompactConfig):
        network = replace(network, widths=(8, 16), blocks=(1, 1), features=16)
    else:
        network = replace(recipe.network, dim=8, mults=(1, 2))
    batch = 2 * recipe.accumulate
    phases = tuple(Phase(phase.share, 32, batch) for phase in recipe.phases)
    tiny = fitted(network, recipe.method)  # pyright: ignore[reportArgumentType]
    return replace(recipe, initial="", network=tiny, phases=phases, steps=6, validate_every=2)


def main(job: Job) -> None:
    """Do a part of a job; a user's mistake is one line and exit code 2."""
    try:
        do(job, arguments(job.name))
    except UserError as error:
        sys.exit(f"{job.name}: {error}")


def do(job: Job, args: argparse.Namespace) -> None:
    """Train until the time is over, and leave what is worth bringing back.

    Raises:
        UserError: if data are missing, or the state is one of another recipe.
    """
    began, state = time.time(), Path("runs") / (f"{job.name}-smoke" if args.smoke else job.name)
    recipe = small(job.recipe) if args.smoke else job.recipe
    if args.eager or not torch.cuda.is_available():
        recipe = replace(recipe, compile=False)
    if args.smoke:
        shutil.rmtree(state, ignore_errors=True)
        args.data = Path(tempfile.mkdtemp())
        job.miniature(args.data)
    if args.data is None or not args.data.is_dir():
        raise UserError(f"--data {args.data}: no such folder, expected what jobs/pack.py {job.name} made")
    setting = setting_of(job, args.data, recipe, state)
    accelerator = accelerator_of(recipe)
    limit = max(1.0, args.seconds - FINISH - (time.time() - began))
    done = conduct(setting, state, accelerator, lambda text: print(text, flush=True), limit)
    bring_back(state, args.out)
    print(summary(job.name, state, recipe, done), flush=True)


def setting_of(job: Job, data: Path, recipe: Recipe, state: Path) -> Setting:
    """Return what the job works on, and note its recipe beside its state.

    Raises:
        UserError: if data are missing, or the state is one of another recipe.
    """
    photos = job.photos(data, recipe)
    fit, kept = hold_out(len(photos))
    degrade = parse(recipe.degrade) if recipe.degrade else None
    if (state / RECIPE).exists() and (found := difference(recipe, read_recipe(state / RECIPE))):
        raise UserError(f"{state}: holds a run of another recipe ({found}), expected --out elsewhere, or delete it")
    remember(state, recipe, {"clean": data})
    return Setting(recipe, photos, [*fit, *job.more(photos)], kept, degrade, job.data)


def bring_back(state: Path, out: Path) -> None:
    """Copy what is worth keeping into ``out``: at most eight files of at most 16 MiB, weights in half precision."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ("log.jsonl", "scores.json", RECIPE, "curve.png"):
        if (state / name).exists():
            shutil.copy(state / name, out / name)
    Image.open(state / "grid.png").convert("RGB").save(out / "grid.jpg", quality=90)
    model = read_model(state / "model").half()
    shards = sharded(model.net.state_dict())
    if len(shards) > MOST:
        print(f"{len(shards)} files of weights: too many to bring back, the figures alone go", flush=True)
        return
    for i, shard in enumerate(shards):
        save_file(shard, out / f"weights-{i}.safetensors")


def sharded(weights: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return weights in groups that make files of at most ``SHARD`` bytes."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, value in weights.items():
        if shards[-1] and size + value.nbytes > SHARD:
            shards.append({})
            size = 0
        shards[-1][name] = value.contiguous()
        size += value.nbytes
    return shards


def summary(name: str, state: Path, recipe: Recipe, done: bool) -> str:
    """Return the one line that tells how far the job is."""
    log = read_log(state)
    trained = [line for line in log if "loss" in line]
    scores = json.loads((state / "scores.json").read_text(encoding="utf-8"))
    last, speed = trained[-1], sorted(line["images_per_second"] for line in trained)[len(trained) // 2]
    wait = sum(line["wait"] for line in trained) / len(trained)
    figures = ", ".join(f"{metric} {value['output']:.3f}" for metric, value in scores.items())
    return (
        f"{name}: {'done' if done else 'goes on with the same command'}, update {last['update']}/{recipe.steps}, "
        f"{last['images']} images, {last['seconds']:.0f} s, {speed:.1f} images/s, wait {100 * wait:.0f} %, {figures}"
    )
