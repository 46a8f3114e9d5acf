"""How weights move: what is minimised, by which optimiser, at which learning rate; the averaged weights."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.optim import Adam, AdamW, Optimizer, RAdam

from rddm.loss import DISTANCES, Distance, frequency
from rddm.muon import Muon
from rddm.recipe import Recipe

Maker = Callable[[Iterable[nn.Parameter], Recipe], Optimizer]

OPTIMISERS: dict[str, Maker] = {
    "adam": lambda weights, r: Adam(weights, lr=r.lr, betas=r.betas, weight_decay=r.weight_decay, fused=True),
    "adamw": lambda weights, r: AdamW(weights, lr=r.lr, betas=r.betas, weight_decay=r.weight_decay, fused=True),
    "muon": lambda weights, r: Muon(weights, lr=r.lr, betas=r.betas, weight_decay=r.weight_decay),
    "radam": lambda weights, r: RAdam(weights, lr=r.lr, betas=r.betas, weight_decay=r.weight_decay),
}


def distance_of(recipe: Recipe) -> Distance:
    """Return the distance between a head's output and its truth: the recipe's loss and its share of frequencies."""
    plain, weight = DISTANCES[recipe.loss], recipe.frequency
    return plain if weight == 0 else lambda output, truth: plain(output, truth) + weight * frequency(output, truth)


def learning_rate(recipe: Recipe, update: int) -> float:
    """Return the learning rate of an update (from 1): linear warm-up, then constant, or half a cosine to zero.

    The rate is the least of the two, ``lr min(u / warmup, (1 + cos(pi (u - 1) / steps)) / 2)``; the warm-up takes a
    tenth of the run at most.
    """
    warmup = min(recipe.warmup, recipe.steps / 10)
    rise = update / warmup if warmup else 1.0
    fall = 1.0 if recipe.schedule == "constant" else 0.5 + 0.5 * math.cos(math.pi * (update - 1) / recipe.steps)
    return recipe.lr * min(rise, fall, 1.0)


@torch.no_grad()
def average(ema: nn.Module, net: nn.Module, recipe: Recipe, update: int) -> None:
    """Move the averaged weights one step, see :class:`rddm.recipe.Average`."""
    decay = recipe.average.decay_at(update)
    if decay is not None:
        torch._foreach_lerp_([*ema.parameters()], [*net.parameters()], 1 - decay)
