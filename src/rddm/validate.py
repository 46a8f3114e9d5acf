"""Validation: what was held out, restored as a user would restore it, and the pictures to look at."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from rddm.denoiser import NetworkDenoiser
from rddm.draws import Draws, Pieces, Samples, centre, collate
from rddm.errors import UserError
from rddm.first_stage import names_of, photo_restored, with_first_stage
from rddm.learned import has_lpips, lpips
from rddm.loss import Batch, losses
from rddm.metrics import METRICS, Bytes
from rddm.model import Model, write_aside
from rddm.optimise import distance_of
from rddm.path import gaussian
from rddm.photo import from_float, to_float
from rddm.preprocess import CONDITIONS, Pixels
from rddm.recipe import Recipe
from rddm.restore import prepare, run, wants_mask
from rddm.sample import sample
from rddm.solvers import Ancestral
from rddm.spec import ModelSpec

SHOWN = 6  # photographs in the grid of pictures
GENERATED = 16


@contextmanager
def as_model(net: nn.Module, recipe: Recipe) -> Iterator[Model]:
    """Lend a network to a model of the recipe that takes photographs as the draws prepare them."""
    with torch.device("meta"):
        model = Model(ModelSpec(recipe.name, recipe.network, recipe.method))
    model.net = net
    was_training = net.training
    yield model.eval()
    net.train(was_training)


def restored(model: Model, draws: Draws, i: int) -> tuple[Pieces, Pixels]:
    """Return held-out photograph ``i``, the middle of it, with its restoration: same noise in every validation."""
    pieces = centre(draws, i)
    pixels, mask = pieces["degraded"], pieces.get("mask") if wants_mask(model.spec) else None
    job = prepare(model, *pixels.shape[:2], given=() if mask is None else ("mask",))
    device = str(next(model.parameters()).device)
    told = draws.degrade is None and names_of(draws.recipe) & CONDITIONS
    whole = draws.photos.whole(draws.chosen[i]) if told else None
    pixels = photo_restored(draws.recipe, pixels, whole, pieces.get("mask"), device)
    return pieces, run(job, pixels, whole=whole, mask=mask)


def score(net: nn.Module, draws: Samples) -> float:
    """Return the recipe's metric over what is held out: the larger the better, a loss with its sign turned.

    Raises:
        UserError: for a metric of photographs where there are none, or a photograph that cannot be read.
    """
    name = draws.recipe.metric
    if name == "loss":
        return -held_out_loss(net, draws)
    if name == "psnr":
        return held_out_psnr(net, draws)
    if not isinstance(draws, Draws):
        raise UserError(f"recipe {draws.recipe.name}: metric {name!r} is of photographs, expected 'psnr' or 'loss'")
    metric = METRICS[name]
    with as_model(net, draws.recipe) as model:
        pictures = (restored(model, draws, i) for i in range(len(draws.chosen)))
        return float(np.mean([metric(bytes_of(out), bytes_of(pieces["clean"])) for pieces, out in pictures]))


def figures(net: nn.Module, draws: Draws) -> dict[str, dict[str, float]]:
    """Return every metric of the inputs and of the outputs over the held-out photographs, or the loss.

    LPIPS is among them where its weights are at hand; metrics that need larger photographs than these are left out.
    """
    if draws.recipe.metric == "loss" and not draws.recipe.restorer:
        return {"loss": {"output": held_out_loss(net, draws)}}
    with as_model(net, draws.recipe) as model:
        found = [restored(model, draws, i) for i in range(len(draws.chosen))]
    triples = [tuple(map(bytes_of, (p["degraded"], out, p["clean"]))) for p, out in found]
    table, judged = {}, {"lpips": lpips()} if has_lpips() else {}
    for name, metric in (METRICS | judged).items():
        with suppress(ValueError):  # a multi-scale window that does not fit
            pairs = [(metric(degraded, clean), metric(out, clean)) for degraded, out, clean in triples]
            table[name] = dict(zip(("input", "output"), np.mean(pairs, axis=0).tolist(), strict=True))
    return table


def score_of_inputs(draws: Draws) -> float | None:
    """Return the metric of the inputs themselves, None where they are no estimate, or it is not of photographs."""
    if draws.recipe.metric not in METRICS:
        return None
    metric, pictures = METRICS[draws.recipe.metric], (centre(draws, i) for i in range(len(draws.chosen)))
    return float(np.mean([metric(bytes_of(p["degraded"]), bytes_of(p["clean"])) for p in pictures]))


def bytes_of(pixels: Pixels) -> Bytes:
    """Return pixels in 8 bits."""
    return (pixels if pixels.dtype == np.uint8 else from_float(to_float(pixels), np.uint8)).astype(np.uint8, copy=False)


def batches(draws: Samples, count: int, device: torch.device) -> Iterator[Batch]:
    """Yield the first ``count`` samples in batches of 16.

    Raises:
        UserError: if a photograph cannot be read.
    """
    crop = draws.recipe.phases[-1].crop
    for first in range(0, count, 16):
        drawn = collate([draws[i, crop] for i in range(first, min(first + 16, count))])
        if isinstance(drawn, UserError):
            raise drawn
        yield with_first_stage(draws.recipe, drawn.to(device))


@torch.no_grad()
def held_out_loss(net: nn.Module, draws: Samples) -> float:
    """Return the training loss on four fixed draws of everything held out, summed over the heads."""
    recipe, total, count = draws.recipe, 0.0, 4 * len(draws)
    for batch in batches(draws, count, next(net.parameters()).device):
        denoiser = NetworkDenoiser(net, recipe.method, batch.conditions)
        found = losses(denoiser, batch.x_0, batch.x_in, batch.t, lambda _, eps=batch.eps: eps, distance_of(recipe))
        total += float(found.sum()) * len(batch.x_0)
    return total / count


def held_out_psnr(net: nn.Module, draws: Samples) -> float:
    """Return the mean PSNR in dB, of a peak of 2, of the samples held out, restored and clipped to [-1, 1]."""
    device = next(net.parameters()).device
    errors = [
        (restored_batch(net, draws.recipe, batch) - batch.x_0).square().flatten(1).mean(1)
        for batch in batches(draws, len(draws), device)
    ]
    return float(10 * torch.log10(4 / torch.cat(errors).double()).mean())


def restored_batch(net: nn.Module, recipe: Recipe, batch: Batch) -> Tensor:
    """Return a batch restored by the method's own step and number of steps, in [-1, 1]: same noise every time."""
    method = recipe.method
    noise = gaussian(torch.Generator(batch.x_in.device).manual_seed(recipe.seed))
    denoiser, solver = NetworkDenoiser(net, method, batch.conditions), Ancestral(method.gain, method.anchor)
    with torch.inference_mode():
        return sample(denoiser, batch.x_in, method.path.grid(method.steps), solver, noise).clamp(-1, 1)


def write_grid(path: Path, net: nn.Module, draws: Draws) -> None:
    """Write a picture: per held-out photograph input, output and target; or images drawn from noise."""
    if draws.recipe.method.generates:
        rows = tiled(generated(net, draws.recipe))
    else:
        with as_model(net, draws.recipe) as model:
            found = [restored(model, draws, i) for i in spread(len(draws.chosen), SHOWN)]
        rows = [[*map(bytes_of, (pieces["degraded"], out, pieces["clean"]))] for pieces, out in found]
    image = Image.fromarray(stacked(rows))
    write_aside(path, lambda part: image.save(part, format="PNG"))


def generated(net: nn.Module, recipe: Recipe) -> list[Bytes]:
    """Return images drawn from noise with the method's own step and number of steps."""
    method, side = recipe.method, recipe.phases[-1].crop
    device = next(net.parameters()).device
    zeros = torch.zeros(GENERATED, 3, side, side, device=device)
    with as_model(net, recipe) as model, torch.inference_mode():
        noise = gaussian(torch.Generator(device).manual_seed(recipe.seed))
        solver = Ancestral(method.gain, method.anchor)
        images: Tensor = sample(model.denoiser(), zeros, method.path.grid(method.steps), solver, noise)
    return [bytes_of(from_float(image.permute(1, 2, 0).cpu().numpy() / 2 + 0.5, np.uint8)) for image in images]


def spread(count: int, most: int) -> list[int]:
    """Return at most ``most`` positions of ``count``, evenly spread: rule, not choice, picks what is shown."""
    return sorted({round(i * (count - 1) / max(1, min(most, count) - 1)) for i in range(min(most, count))})


def tiled(images: list[Bytes], columns: int = 4) -> list[list[Bytes]]:
    """Return images in rows."""
    return [images[i : i + columns] for i in range(0, len(images), columns)]


def stacked(rows: list[list[Bytes]], gap: int = 4) -> Bytes:
    """Return rows of images as one on white, in columns of one width."""
    width = gap + max(image.shape[1] for row in rows for image in row)
    strips = []
    for row in rows:
        strip = np.full((gap + max(len(image) for image in row), width * len(rows[0]), 3), 255, np.uint8)
        for x, image in enumerate(row):
            strip[: image.shape[0], x * width : x * width + image.shape[1]] = image
        strips.append(strip)
    return np.concatenate(strips)


def spec_of(recipe: Recipe, card: Mapping[str, object]) -> ModelSpec:
    """Return the specification that is saved with the weights; generators and translators keep to one size."""
    sized = recipe.method.generates or recipe.pairing == "random"
    side = recipe.phases[-1].crop if sized else None
    spec = ModelSpec(recipe.name, recipe.network, recipe.method, recipe.prepare, card, side)
    return replace(spec, restorer=recipe.restorer or None)
