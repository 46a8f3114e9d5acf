"""What a run will cost, found before it starts: memory on shapes alone, time from a few updates thrown away."""

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from rddm.draws import Draws
from rddm.errors import UserError
from rddm.journal import clock
from rddm.memory import available_bytes, training_bytes
from rddm.model import network
from rddm.recipe import Recipe
from rddm.trainer import VALIDATIONS, Run, loader, schedule
from rddm.validate import score

if TYPE_CHECKING:
    from accelerate import Accelerator

TRIAL_SECONDS = 10.0  # of timing, at most, for each phase


def accelerator_of(recipe: Recipe) -> "Accelerator":
    """Return accelerate's view of the devices and processes.

    Raises:
        UserError: if it is not installed, or the device cannot compute in the recipe's precision.
    """
    try:
        from accelerate import Accelerator
    except ImportError:
        raise UserError("accelerate: not installed, expected pip install 'rddm[train]'") from None
    try:
        accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
        return Accelerator(mixed_precision=recipe.precision, cpu=not accelerated)  # else no processes on CPUs
    except (ValueError, RuntimeError) as error:
        raise UserError(f"--precision {recipe.precision}: {str(error).splitlines()[0]}") from None


def shared_out(recipe: Recipe, processes: int) -> Recipe:
    """Return a recipe whose batches are large enough to be shared out evenly among processes and passes."""
    parts = recipe.accumulate * processes
    phases = (replace(phase, batch=-(-phase.batch // parts) * parts) for phase in recipe.phases)
    return replace(recipe, phases=tuple(phases))


def check_memory(recipe: Recipe, accelerator: "Accelerator") -> int:
    """Return the expected bytes of training.

    Raises:
        UserError: if they are not free.
    """
    parts = recipe.accumulate * accelerator.num_processes
    needed = max(training_bytes(recipe.network, max(1, p.batch // parts), p.crop) for p in recipe.phases)
    free = available_bytes(accelerator.device)
    if needed > free:
        sizes = f"{needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
        raise UserError(f"recipe {recipe.name}: needs about {sizes}; expected smaller pieces or batches")
    return needed


def seconds_per_update(recipe: Recipe, draws: Draws, accelerator: "Accelerator", workers: int) -> float:
    """Return the mean seconds of an update over the phases, from a few on a network that is thrown away."""
    total = 0.0
    for phase in recipe.phases:
        run = Run(replace(recipe, phases=(replace(phase, share=1.0),), steps=100), accelerator)
        keys = schedule(run.recipe, 0, accelerator.process_index, accelerator.num_processes)
        batches, times, began = loader(draws, keys, workers, False), [], time.perf_counter()
        while len(times) < 2 or (len(times) < 12 and time.perf_counter() - began < TRIAL_SECONDS):
            start = time.perf_counter()
            heads, _ = run.update([next(batches) for _ in range(recipe.accumulate)])
            float(heads[0])
            times.append(time.perf_counter() - start)
        total += phase.share * sum(times[1:]) / len(times[1:])
    accelerator.free_memory()
    return agreed(total, accelerator)


def agreed(seconds: float, accelerator: "Accelerator") -> float:
    """Return the mean of what the processes measured: they must plan the same number of updates."""
    mean: Any = accelerator.reduce(torch.tensor([seconds], device=accelerator.device), "mean")
    return float(mean)


def seconds_per_validation(held: Draws, accelerator: "Accelerator") -> float:
    """Return the expected seconds of a validation, from restoring one photograph with fresh weights."""
    with torch.random.fork_rng(devices=[]):
        net = network(held.recipe.network)
    start = time.perf_counter()
    score(net.eval(), replace(held, chosen=held.chosen[:1]))
    return agreed((time.perf_counter() - start) * len(held.chosen), accelerator)


def planned(recipe: Recipe, budget: float, update: float, validation: float) -> Recipe:
    """Return a recipe with as many updates as fit into ``budget`` seconds beside their validations.

    Raises:
        UserError: if that is too short to train anything.
    """
    few = (0.97 * budget - VALIDATIONS * validation) / update
    many = 0.97 * budget / (update + validation / recipe.validate_every)
    steps = int(min(few, many))
    if steps < 10:
        needed = clock(10 * update + VALIDATIONS * validation)
        raise UserError(f"--time {clock(budget)}: an update takes {update:.1f} s, expected at least {needed}")
    return replace(recipe, steps=steps)
