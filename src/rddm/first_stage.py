"""Training a second stage: the degraded images, restored by a frozen model, take the place of ``x_in``.

A recipe names that model, its ``restorer``. It runs where the network in training runs, on a whole batch in one go, in
inference mode and in the recipe's precision, by its own sampler and number of steps. Its noise is drawn with the
sample (``start``), so that a sample stays a pure function of the seed; its conditions are drawn as for any recipe.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn

from rddm.errors import UserError
from rddm.loss import Batch
from rddm.model import Model, load, spec_named
from rddm.nn.spatial import LAYOUT
from rddm.path import Noise
from rddm.preprocess import Pixels, Whole
from rddm.recipe import Recipe
from rddm.restore import prepare, run, solver_of, wants_mask
from rddm.sample import sample
from rddm.spec import ModelSpec

START = "start"


@lru_cache(maxsize=8)
def restorer_spec(name: str) -> ModelSpec:
    """Return what the model of a first stage is.

    Raises:
        UserError: if there is none, or it is none that restores photographs as they come.
    """
    spec = spec_named(name)
    if spec.prepare != "none" or spec.method.origin != "input" or spec.restorer or spec.side or spec.solver:
        found = f"prepare {spec.prepare}, origin {spec.method.origin}, solver {spec.solver}, restorer {spec.restorer}"
        raise UserError(f"restorer {name}: found {found}, expected a model that restores photographs as they come")
    return spec


@lru_cache(maxsize=2)
def restorer_model(name: str, device: str) -> Model:
    """Return the model of a first stage on a device, frozen, its kernels laid out as the batches are."""
    model = load(name, device).requires_grad_(False).eval()
    model.net.to(memory_format=LAYOUT[restorer_spec(name).network.dims])  # pyright: ignore[reportCallIssue]
    return model


def names_of(recipe: Recipe) -> set[str]:
    """Return what a recipe's network sees and is told beside its state, and what its restorer is."""
    methods = [recipe.method, *([restorer_spec(recipe.restorer).method] if recipe.restorer else [])]
    return {name for method in methods for name in (*method.inputs, *method.context)}


def start_noise(recipe: Recipe, like: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Return the noise of a sample's first stage, an image for every draw that its sampler may make; none without one.

    Arguments:
        recipe: how.
        like: the clean image, (C, *spatial).
        generator: of the sample.
    """
    if not recipe.restorer:
        return {}
    method = restorer_spec(recipe.restorer).method
    draws = 1 if method.gain.name == "deterministic" else method.steps
    return {START: torch.randn((draws, *like.shape), generator=generator)}


def with_first_stage(recipe: Recipe, batch: Batch) -> Batch:
    """Return the batch that a recipe's network sees: as it is, or with ``x_in`` restored by its restorer."""
    if not recipe.restorer:
        return batch
    device = batch.x_in.device
    model = restorer_model(recipe.restorer, str(device))
    method, half = model.spec.method, recipe.precision == "bf16"
    noise = drawn(batch.conditions[START])
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half):
        denoiser, solver = model.denoiser(dict(batch.conditions)), solver_of(model.spec, None)
        made = sample(denoiser, batch.x_in, method.path.grid(method.steps), solver, noise).float().clamp(-1, 1)
    kept = {name: value for name, value in batch.conditions.items() if name in recipe.method.inputs}
    return batch._replace(x_in=made.clone(), conditions=kept)  # a clone, since autograd takes no inference tensors


def drawn(noise: Tensor) -> Noise:
    """Return a source that gives out noise (B, draws, C, *spatial) one draw after the other."""
    draws = iter(noise.unbind(1))
    return lambda like: next(draws).to(like)


def photo_restored(recipe: Recipe, pixels: Pixels, whole: Whole | None, mask: Pixels | None, device: str) -> Pixels:
    """Return a held-out photograph as the second stage meets it: as it is, or restored by the recipe's restorer."""
    if not recipe.restorer:
        return pixels
    model = restorer_model(recipe.restorer, device)
    shown = mask if wants_mask(model.spec) else None
    job = prepare(model, *pixels.shape[:2], given=() if shown is None else ("mask",))
    return run(job, pixels, whole=whole, mask=shown)


def lent(net: nn.Module, recipe: Recipe, model: Model) -> nn.Module:
    """Give a second stage the weights of another model where names and shapes allow, and return it.

    Where a kernel has other input channels, each image that ours sees takes the channels that saw it there. The state
    takes those of ``x_in``: near its end of the path it is that image, with a little noise.
    """
    theirs, own = model.net.state_dict(), net.state_dict()
    slots = recipe.method.inputs, model.spec.method.inputs
    for name, weight in own.items():
        found = theirs.get(name)
        if found is not None and found.shape != weight.shape and found.ndim == weight.ndim > 2:
            found = channels_of(found, *slots)
        if found is not None and found.shape == weight.shape:
            own[name] = found
    net.load_state_dict(own)
    return net


def channels_of(kernel: Tensor, ours: tuple[str, ...], theirs: tuple[str, ...]) -> Tensor:
    """Return a first kernel for our inputs, made of the channels of theirs; as it is if there are none."""
    unit = kernel.shape[1] // (1 + len(theirs))
    if "x_in" not in theirs or not set(ours) <= set(theirs):
        return kernel
    slot: Callable[[str], Tensor] = lambda name: kernel.narrow(1, unit * (1 + theirs.index(name)), unit)  # noqa: E731
    return torch.cat([slot("x_in"), *map(slot, ours)], dim=1)
