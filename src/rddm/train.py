"""``rddm train``: from folders to a run. Decides, says what it will cost, and starts.

The folder of a run holds ``recipe.json`` and ``sources.json`` (what is trained on what), ``log.jsonl`` and
``tensorboard``, the last states, and what a user wants: ``model`` (for ``rddm restore --model``), ``scores.json``,
``curve.png`` and ``grid.png``.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from rddm.aosa import RULES, Choice, Undecided, choose
from rddm.checkpoint import load_state
from rddm.degradations import Degradation, parse
from rddm.draws import Draws
from rddm.engines import halves
from rddm.errors import UserError
from rddm.journal import Journal, Say, clock, speaker, write_curve
from rddm.loss import Distance
from rddm.memory import available_bytes
from rddm.model import read_model, write_aside
from rddm.optimise import distance_of
from rddm.options import SOURCES, Options, check_kinds, recipe_of, sources_of
from rddm.pairs import check_sizes, hold_out, pair_up, unpaired
from rddm.photos import Files, Photos
from rddm.plan import (
    accelerator_of,
    check_memory,
    planned,
    seconds_per_update,
    seconds_per_validation,
    shared_out,
)  # fmt: skip
from rddm.recipe import RECIPE, Recipe, to_json
from rddm.report import Table, show
from rddm.trainer import Run, fresh, interval, loader, schedule, train
from rddm.validate import figures, score_of_inputs, write_grid

if TYPE_CHECKING:
    from accelerate import Accelerator

SLACK = 1.15  # a run may take this much longer than its --time before it stops early


@dataclass(frozen=True)
class Setting:
    """What a run works on.

    Arguments:
        recipe: how.
        photos: the photographs.
        fit: positions of those to train on.
        kept: positions of those held out.
        degrade: what degrades them, if no degraded ones are given.
        data: what the model's card says of them.
    """

    recipe: Recipe
    photos: Photos
    fit: list[int]
    kept: list[int]
    degrade: Degradation | None
    data: str

    @property
    def draws(self) -> Draws:
        """The samples to train on."""
        return Draws(self.photos, self.fit, self.recipe, self.degrade)

    @property
    def held(self) -> Draws:
        """The held-out photographs."""
        return Draws(self.photos, self.kept, self.recipe, self.degrade, stream=1)


def gathered(recipe: Recipe, sources: dict[str, Path], say: Say) -> tuple[Recipe, Files]:
    """Find, pair and check the photographs, keep them in memory if they fit, and fit the recipe's pieces to them.

    Raises:
        UserError: for everything that is wrong with them.
    """
    paired = recipe.pairing == "name"
    photographs = pair_up(sources) if paired else unpaired(sources)
    sizes = check_sizes(photographs, paired)
    first = " | ".join(files[0].name for files in photographs.files.values())
    how = "paired by name or line" if paired else "to be paired at random"
    say(f"found {len(photographs.names)} {' + '.join(sources)} photographs, {how}; the first: {first}")
    least = min(sizes.height, sizes.width)
    if recipe.fit == "crop" and least < max(phase.crop for phase in recipe.phases):
        recipe = smaller(recipe, least)
        say(f"pieces of {least} pixels at most, since the smallest photograph is {sizes.width}x{sizes.height}")
    files = Files(photographs, recipe)
    small = len(photographs.names) * len(sources) * recipe.phases[0].crop ** 2
    pixels = sizes.pixels if recipe.fit == "crop" else small
    if 3 * pixels < available_bytes(torch.device("cpu")) // 4:
        files.preload()
    else:
        say(f"{3 * pixels / 1e9:.1f} GB of pixels do not fit into memory: files are read again for each piece")
    return recipe, files


def smaller(recipe: Recipe, least: int) -> Recipe:
    """Return a recipe whose pieces fit into photographs whose shortest side is ``least``.

    Raises:
        UserError: if that is too small to train on.
    """
    if least < 16:
        raise UserError(f"the smallest photograph has a side of {least} pixels, expected at least 16")
    return replace(recipe, phases=tuple(replace(phase, crop=min(phase.crop, least)) for phase in recipe.phases))


def remember(out: Path, recipe: Recipe, sources: Mapping[str, Path], choice: Choice | None = None) -> None:
    """Write what a run is before it starts.

    Raises:
        UserError: if the folder cannot be written.
    """
    texts = {RECIPE: to_json(recipe), SOURCES: {kind: str(path) for kind, path in sources.items()}}
    if choice is not None:
        texts["aosa.json"] = choice.record()
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, value in texts.items():
            text = json.dumps(value, indent=2) + "\n"
            write_aside(out / name, lambda part, text=text: part.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror})") from None


def card_of(setting: Setting, run: Run) -> dict[str, object]:
    """Return what a model says of where it comes from."""
    names = [setting.photos.name(i) for i in setting.kept]
    restorer = {"restorer": run.recipe.restorer} if run.recipe.restorer else {}
    return {
        "task": run.recipe.name,
        "data": setting.data,
        "terms": "those of the photographs it was trained on",
        "recipe": f"recipe.json beside this folder, seed {run.recipe.seed}",
        "device": f"{run.accelerator.device.type}, processes: {run.accelerator.num_processes}, "
        f"threads: {torch.get_num_threads()}",
        "held_out": f"{len(names)}, contiguous by name: {names[0]} .. {names[-1]}",
        "parameters": sum(weight.numel() for weight in run.net.parameters()),
        **restorer,
    }


def costed(setting: Setting, options: Options, accelerator: "Accelerator", say: Say) -> Setting:
    """Say what the run will cost, and give it the number of updates that fit into its time.

    Raises:
        UserError: if memory or time do not suffice.
    """
    recipe, draws = setting.recipe, setting.draws
    memory, free = check_memory(recipe, accelerator), available_bytes(accelerator.device)
    update = seconds_per_update(recipe, draws, accelerator, workers_for(accelerator))
    checks = seconds_per_validation(setting.held, accelerator)
    if options.seconds is not None:
        recipe = planned(recipe, options.seconds, update, checks)
    times = -(-recipe.steps // interval(recipe))
    took = clock(recipe.steps * update + times * checks)
    say(
        f"recipe {recipe.name}: {recipe.method.name}, expected: {recipe.expected}\n"
        f"memory: about {memory / 1e9:.1f} GB for training, {free / 1e9:.1f} GB are free\n"
        f"time: about {took} on {accelerator.device}: {recipe.steps} updates of {update:.2f} s, {times} validations"
        f"{advice(recipe, accelerator.device)}"
    )
    return replace(setting, recipe=recipe)


def advice(recipe: Recipe, device: torch.device) -> str:
    """Return a line on what would take less time, if anything would."""
    if recipe.precision != "no" or recipe.network.dims == 3 or not halves(device):
        return ""
    return f"\nprecision: float32; --precision bf16 takes about half of the time on this {device.type}"


def chosen(setting: Setting, accelerator: "Accelerator", say: Say) -> tuple[Setting, Choice]:
    """Let the recipe's rule choose the target; every process finds the same.

    Raises:
        UserError: if it cannot decide, or a photograph cannot be read.
    """
    recipe = setting.recipe
    rule = RULES[recipe.choose](distance_of(recipe))
    keys = schedule(replace(recipe, accumulate=1, steps=2000), 0, 0, 1)
    batches = (batch.to(accelerator.device) for batch in loader(setting.draws, keys, 0, False))
    net = fresh(recipe).to(accelerator.device)
    try:
        choice = choose(net, recipe.method, batches, rule)
    except Undecided as error:
        raise UserError(f"recipe {recipe.name}: {error}; expected a recipe with a target of its own") from None
    say(f"AOSA ({recipe.choose}): predict {choice.target.name}, decided after {choice.decided} updates")
    return replace(setting, recipe=replace(recipe, method=replace(recipe.method, target=choice.target))), choice


def workers_for(accelerator: "Accelerator") -> int:
    """Return how many processes draw samples: beside a CPU's network none, they would only take its cores."""
    return min(8, (os.cpu_count() or 2) - 1) if accelerator.device.type == "cuda" else 0


def conduct(setting: Setting, out: Path, accelerator: "Accelerator", say: Say, seconds: float = math.inf) -> bool:
    """Run a setting from its last state in ``out`` for at most ``seconds``, and return whether it is done.

    Raises:
        UserError: if a photograph cannot be read, something cannot be written, or the loss is not finite.
    """
    run, held = Run(setting.recipe, accelerator, perceptual_of(setting.recipe, accelerator.device)), setting.held
    if state := load_state(out, accelerator.device):
        run.load(state)
        say(f"{out}: goes on after update {run.place.update}, {run.place.images} images")
    baseline = score_of_inputs(held) if accelerator.is_main_process else None
    if baseline is not None:
        say(f"the held-out inputs themselves: {setting.recipe.metric} {baseline:.3f}")
    journal = Journal(out, setting.recipe.steps, run.place.update, accelerator.is_main_process)
    try:
        limit = run.place.seconds + seconds
        done = train(run, setting.draws, held, out, journal, card_of(setting, run), workers_for(accelerator), limit)
    except KeyboardInterrupt:
        say(f"interrupted after update {run.place.update}; rddm train --resume --out {out} goes on from the last state")
        raise
    finally:
        journal.close()
    if accelerator.is_main_process:
        finish(out, held, accelerator.device, say, baseline)
    return done


def perceptual_of(recipe: Recipe, device: torch.device) -> Distance | None:
    """Return LPIPS if the recipe gives it weight.

    Raises:
        UserError: if its weights are not on disk.
    """
    if recipe.perceptual == 0:
        return None
    from rddm.learned import lpips

    return lpips().to(device).distance


def finish(out: Path, held: Draws, device: torch.device, say: Say, baseline: float | None) -> None:
    """Write figures, pictures and the curve of the best weights, and print the figures."""
    model = read_model(out / "model").to(device)
    found = figures(model.net, held)
    text = json.dumps(found, indent=2) + "\n"
    write_aside(out / "scores.json", lambda part: part.write_text(text, encoding="utf-8"))
    write_grid(out / "grid.png", model.net, held)
    curve = write_curve(out, held.recipe.metric, baseline)
    columns = ("held out", *next(iter(found.values())))
    show(Table(columns, [[name, *(f"{value:.4f}" for value in row.values())] for name, row in found.items()]))
    drawn = "no curve: matplotlib is not installed" if curve is None else f"curve {curve}"
    say(f"model {out / 'model'}, figures {out / 'scores.json'}, pictures {out / 'grid.png'}, {drawn}")


def train_command(options: Options) -> None:
    """Train, or go on training, and leave a model, its figures, a curve and pictures.

    Raises:
        UserError: for every mistake and every lack of the user's.
    """
    recipe, sources = recipe_of(options), sources_of(options)
    check_kinds(recipe, sources)
    degrade = parse(recipe.degrade) if recipe.degrade else None
    accelerator = accelerator_of(recipe)
    say = speaker(accelerator.is_main_process)
    recipe, photos = gathered(recipe, sources, say)
    if (shared := shared_out(recipe, accelerator.num_processes)) != recipe and not options.resume:
        say(
            f"batches of {', '.join(str(phase.batch) for phase in shared.phases)}, to be shared out among the processes"
        )
        recipe = shared
    fit, kept = hold_out(len(photos))
    say(f"{len(fit)} to train on, {len(kept)} held out, contiguous: {photos.name(kept[0])} .. {photos.name(kept[-1])}")
    data = (
        f"{len(fit)} photographs of {sources['clean']}, degraded: {sources.get('degraded', recipe.degrade or 'none')}"
    )
    setting = Setting(recipe, photos, fit, kept, degrade, data)
    if not options.resume:
        setting = costed(setting, options, accelerator, say)
        setting, choice = (setting, None) if recipe.choose == "no" else chosen(setting, accelerator, say)
        if accelerator.is_main_process:
            remember(options.out, setting.recipe, sources, choice)
    seconds = math.inf if options.seconds is None else SLACK * options.seconds
    if not conduct(setting, options.out, accelerator, say, seconds):
        say(f"stopped at its time; rddm train --resume --out {options.out} goes on")
    accelerator.end_training()
