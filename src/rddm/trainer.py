"""The training loop: one recipe, one set of draws, any number of processes.

What is counted is images. An update takes the next ``batch`` samples of the run, shared out among processes and passes,
so one process and many see the same images in the same updates, and a run is resumed by going on at the next image.
Checkpoints hold all that moves: weights, averaged weights, moments, counts. They are written aside and renamed; the
last two are kept. On one device a run that was killed and resumed ends with the same weights, to the bit.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from rddm.checkpoint import Place, save_model, save_state, states
from rddm.denoiser import NetworkDenoiser, rate_of
from rddm.draws import Samples, collate
from rddm.errors import UserError
from rddm.first_stage import lent, with_first_stage
from rddm.journal import Journal, Stopwatch, clock
from rddm.loss import Batch, Compared, Distance, compare, distances
from rddm.model import load, network
from rddm.nn.spatial import LAYOUT
from rddm.optimise import OPTIMISERS, average, distance_of, learning_rate
from rddm.recipe import Recipe
from rddm.validate import score, spec_of

if TYPE_CHECKING:
    from accelerate import Accelerator

VALIDATIONS = 8  # at least, of a run
GROWING = {"enter.weight": 1, "time.0.weight": 1, "leave.weight": 0, "leave.bias": 0}  # weights by their longer axis
LOG_EVERY = 20  # updates; also how often the loss is looked at, which waits for the device


def interval(recipe: Recipe) -> int:
    """Return the updates from one validation to the next."""
    return min(recipe.validate_every, -(-recipe.steps // VALIDATIONS))


def schedule(recipe: Recipe, start: int, rank: int, world: int) -> Iterator[list[tuple[int, int]]]:
    """Yield the keys of each pass's samples for one of ``world`` processes, from the update after ``start`` on.

    Raises:
        UserError: if a batch cannot be shared out evenly.
    """
    update = image = 0
    for phase, count in recipe.updates():
        if phase.batch % (recipe.accumulate * world):
            parts = f"{recipe.accumulate} passes and {world} processes"
            raise UserError(f"recipe {recipe.name}: a batch of {phase.batch}, expected a multiple of {parts}")
        part = phase.batch // recipe.accumulate // world
        for _ in range(count):
            update += 1
            for first in range(image + rank * part, image + phase.batch, world * part):
                if update > start:
                    yield [(first + i, phase.crop) for i in range(part)]
            image += phase.batch


def loader(draws: Samples, keys: Iterator[list[tuple[int, int]]], workers: int, pinned: bool) -> Iterator[Batch]:
    """Yield batches, drawn by ``workers`` processes beside this one (0: by this one).

    Raises:
        UserError: if a photograph cannot be read.
    """
    batches = DataLoader(
        draws, batch_sampler=keys, num_workers=workers, collate_fn=collate, pin_memory=pinned  # pyright: ignore
    )  # fmt: skip
    for batch in batches:
        if isinstance(batch, UserError):
            raise batch
        yield batch


def fresh(recipe: Recipe) -> nn.Module:
    """Return the recipe's network with the weights of its seed, or of the model it starts from.

    Raises:
        UserError: if there is no such model, or its weights do not fit (see :func:`adopted`); a first stage lends a
            second one what weights fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        net = network(recipe.network)
    if recipe.initial:
        model = load(recipe.initial)
        if recipe.restorer and model.spec.restorer is None:
            return lent(net, recipe, model)
        weights = adopted(net.state_dict(), model.net.state_dict())
        if weights is None:
            raise UserError(f"{recipe.initial}: found {model.spec.network}, expected {recipe.network}")
        net.load_state_dict(weights)
    return net


def adopted(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return weights that start from those of a network that saw, was told or gave less; None if they do not fit.

    What the first layers read beyond that network's inputs has zero weights, so that at first it makes no difference.
    What the last layer gives beyond that network's outputs, and blocks that the other lacks, keep the weights they
    have: a fresh block is the identity.
    """
    weights = {name: value.clone() for name, value in ours.items()}
    for name, value in theirs.items():
        axis = next((axis for end, axis in GROWING.items() if name.endswith(end)), None)
        if name not in weights or not fits(value.shape, weights[name].shape, axis):
            return None
        if axis == 1:
            weights[name].zero_()
        weights[name][tuple(map(slice, value.shape))] = value
    return weights


def fits(small: torch.Size, large: torch.Size, axis: int | None) -> bool:
    """Tell whether shapes are equal, save that the second may be longer along an axis."""
    return len(small) == len(large) and all(
        a == b or (i == axis and a < b) for i, (a, b) in enumerate(zip(small, large))
    )


def check_precision(recipe: Recipe, device: torch.device) -> None:
    """Refuse what torch computes wrongly.

    On a CPU (oneDNN 3.12) the gradient of a 3-D convolution's weights in bfloat16 is made of memory that was never
    written where two positions are left along the first axis.

    Raises:
        UserError: for such a recipe.
    """
    if device.type == "cpu" and recipe.network.dims == 3 and recipe.precision == "bf16":
        found = "precision 'bf16' in 3 dimensions on a CPU, where torch's gradients are wrong"
        raise UserError(f"recipe {recipe.name}: found {found}, expected 'no'")


class Run:
    """Everything that a run changes, on its device.

    Arguments:
        recipe: what to do.
        accelerator: where.
        perceptual: LPIPS or another distance of images in [-1, 1], if the recipe gives it weight.
    """

    def __init__(self, recipe: Recipe, accelerator: "Accelerator", perceptual: Distance | None = None) -> None:
        check_precision(recipe, accelerator.device)
        self.recipe, self.accelerator, self.perceptual = recipe, accelerator, perceptual
        self.distance = distance_of(recipe)
        self.net = fresh(recipe).to(accelerator.device)
        self.net.to(memory_format=LAYOUT[recipe.network.dims])  # pyright: ignore[reportCallIssue]
        self.ema = deepcopy(self.net).requires_grad_(False)
        optimiser = OPTIMISERS[recipe.optimiser](self.net.parameters(), recipe)
        fast: Any = torch.compile(self.net) if recipe.compile else self.net
        self.shared, self.optimiser = accelerator.prepare(fast, optimiser)
        self.place = Place()

    def update(self, batches: list[Batch]) -> tuple[Tensor, Tensor]:
        """Take one step of the optimiser; return the losses per head of this process and the gradient's norm."""
        update, total = self.place.update + 1, torch.zeros(())
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.recipe, update)
        for i, batch in enumerate(batches):
            between = i < len(batches) - 1
            with self.accelerator.no_sync(self.shared) if between else nullcontext():
                heads, loss = self.losses(with_first_stage(self.recipe, batch.to(self.accelerator.device)))
                self.accelerator.backward(loss / len(batches))
            total = total.to(heads) + heads.detach() / len(batches)
        norm = self.accelerator.clip_grad_norm_(self.net.parameters(), self.recipe.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        average(self.ema, self.net, self.recipe, update)
        seen = self.accelerator.num_processes * sum(len(batch.x_0) for batch in batches)
        self.place = self.place._replace(update=update, images=self.place.images + seen)
        return total, torch.as_tensor(norm)

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the losses per head, and their weighted sum with the perceptual term."""
        denoiser = NetworkDenoiser(self.shared, self.recipe.method, batch.conditions)
        compared = compare(denoiser, batch.x_0, batch.x_in, batch.t, lambda like: batch.eps)
        heads = distances(compared, self.distance)
        loss = (heads * heads.new_tensor(self.recipe.head_weights)).sum()
        if self.perceptual is not None:
            loss = loss + self.recipe.perceptual * self.perceptual(self.clean(compared, batch), batch.x_0)
        return heads, loss

    def clean(self, compared: Compared, batch: Batch) -> Tensor:
        """Return the estimate of ``x_0`` that the network's outputs amount to."""
        method, node = self.recipe.method, compared.node
        rate = rate_of(method, node, batch.x_0)
        return method.target.decode(compared.outputs, compared.x_t, batch.x_in, node, rate).x_0

    def state(self) -> dict[str, Any]:
        """Return all that a resumed run needs."""
        scaler = self.accelerator.scaler
        return {
            "place": tuple(self.place),
            "net": self.net.state_dict(),
            "ema": self.ema.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": {} if scaler is None else scaler.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        for part in ("net", "ema", "optimiser"):
            getattr(self, part).load_state_dict(state[part])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.place = Place(*state["place"])


class Meter:
    """Gathers what happens between two lines of the log: losses over all processes, time, and the wait for data."""

    def __init__(self, run: Run, journal: Journal, out: Path) -> None:
        self.run, self.journal, self.out = run, journal, out
        self.watch = Stopwatch()
        self.images = run.place.images
        self.total: Tensor | None = None
        self.count = 0
        self.speed = ""

    def add(self, heads: Tensor, norm: Tensor) -> None:
        """Count an update, without waiting for the device."""
        self.total = heads if self.total is None else self.total + heads
        self.norm, self.count = norm, self.count + 1

    def report(self) -> None:
        """Write a line of the log.

        Raises:
            UserError: if the loss is not finite, saying what to do.
        """
        assert self.total is not None
        run, (seconds, waited) = self.run, self.watch.lap()
        local = torch.cat([self.total / self.count, self.total.new_tensor([run.place.seconds + seconds])])
        *losses, spent = (float(value) for value in run.accelerator.reduce(local, "mean"))
        if not all(map(math.isfinite, losses)):
            raise UserError(diverged(run, self.out, losses))
        run.place = run.place._replace(seconds=spent)
        place, images = run.place, run.place.images - self.images
        self.journal.note(
            {"update": place.update, "images": place.images, "loss": sum(losses), "losses": losses,
             "gradient": float(self.norm), "lr": learning_rate(run.recipe, place.update), "seconds": spent,
             "images_per_second": images / seconds, "wait": round(waited, 4)}
        )  # fmt: skip
        self.journal.progress.update(self.journal.task, completed=place.update)
        self.speed = f"{images / seconds:.1f} images/s, {100 * waited:.0f} % of the time waiting for data"
        self.images, self.total, self.count = place.images, None, 0

    def pause(self) -> None:
        """Count the time since the last line as spent, but not as training."""
        seconds, _ = self.watch.lap()
        self.run.place = self.run.place._replace(seconds=self.run.place.seconds + seconds)


def diverged(run: Run, out: Path, losses: list[float]) -> str:
    """Return what to tell whoever finds a loss that is not finite."""
    last = states(out)
    kept = f"the last sound state is {last[-1]}" if last else "no state was saved yet"
    return (
        f"{out}: the loss became {losses} by update {run.place.update}; {kept}. Try half the learning rate "
        f"({run.recipe.lr / 2:g}), precision 'no' or 'bf16', or look for broken photographs, and start anew"
    )


def validate(run: Run, held: Samples, out: Path, meter: Meter, card: Mapping[str, object]) -> None:
    """Score the averaged weights, keep them as the model if they are the best so far, and save the state.

    Raises:
        UserError: if something cannot be written.
    """
    if run.accelerator.is_main_process:
        found, place = score(run.ema, held), run.place
        if found > place.best:
            run.place = place = place._replace(best=found, best_update=place.update)
            figures = {"recipe": run.recipe.name, "updates": place.update, run.recipe.metric: round(found, 4)}
            save_model(out / "model", spec_of(run.recipe, {**card, **figures}), run.ema.state_dict())
        meter.journal.note({"update": place.update, "images": place.images, "score": found, "best": place.best})
        left = (run.recipe.steps - place.update) * place.seconds / place.update
        ahead = f", {clock(left)} left" if left else ""
        meter.journal.say(f"update {place.update}: {run.recipe.metric} {found:.3f} held out; {meter.speed}{ahead}")
        save_state(out, run.state(), place.images)
    run.accelerator.wait_for_everyone()


def train(
    run: Run,
    draws: Samples,
    held: Samples,
    out: Path,
    journal: Journal,
    card: Mapping[str, object],
    workers: int = 0,
    deadline: float = math.inf,
) -> bool:
    """Run the recipe from where it is to its end, and return whether it got there.

    Arguments:
        run: the run.
        draws: its samples.
        held: what is held out.
        out: its folder.
        journal: its log.
        card: what the saved model says of itself.
        workers: processes that draw samples.
        deadline: seconds of the whole run after which it stops, saves, and can be resumed.

    Raises:
        UserError: if a photograph cannot be read, something cannot be written, or the loss is not finite.
    """
    recipe, accelerator = run.recipe, run.accelerator
    keys = schedule(recipe, run.place.update, accelerator.process_index, accelerator.num_processes)
    batches = loader(draws, keys, workers, accelerator.device.type == "cuda")
    meter = Meter(run, journal, out)
    with journal.progress:
        while run.place.update < recipe.steps and run.place.seconds < deadline:
            meter.add(*run.update([meter.watch.wait(lambda: next(batches)) for _ in range(recipe.accumulate)]))
            update = run.place.update
            checked = update % interval(recipe) == 0 or update == recipe.steps
            if checked or update % LOG_EVERY == 0:
                meter.report()
            if checked or run.place.seconds >= deadline:
                validate(run, held, out, meter, card)
                meter.pause()
    return run.place.update == recipe.steps
