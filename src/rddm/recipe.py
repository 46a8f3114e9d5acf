"""What a training run is: one frozen :class:`Recipe`, saved as ``recipe.json`` beside the weights.

Nothing that moves a weight lies outside it, save the photographs: a recipe, the same photographs and the same device
give the same weights to the bit.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from rddm.aosa import RULES
from rddm.errors import UserError
from rddm.fitting import fitted
from rddm.methods import Method
from rddm.nn.compact import CompactConfig
from rddm.nn.unet import UNetConfig
from rddm.nn.unet2d import UNet2DConfig
from rddm.spec import NETWORKS, ModelSpec, Prepare, build, method_from_json, method_to_json, name_of

RECIPE = "recipe.json"


@dataclass(frozen=True)
class Phase:
    """A part of the run with pieces of one size.

    Arguments:
        share: of the updates.
        crop: side of the square pieces in pixels, or length of the pieces of a signal.
        batch: pieces per update, over all processes.
    """

    share: float
    crop: int
    batch: int


@dataclass(frozen=True)
class Average:
    """The averaged weights: ``ema <- d ema + (1 - d) net`` with ``d = min(decay, 1 - (1 + e)^(-2/3))``.

    ``e`` counts the updates since ``after``, until when the average is a copy: the early weights are forgotten.

    Arguments:
        decay: the limit of ``d``.
        every: updates between two steps of the average.
        after: updates before it starts.
    """

    decay: float = 0.999
    every: int = 1
    after: int = 0

    def decay_at(self, update: int) -> float | None:
        """Return ``d`` at an update (from 1), None where the average takes no step."""
        if update % self.every:
            return None
        return 0.0 if update <= self.after else min(self.decay, 1 - (update - self.after) ** (-2 / 3))


@dataclass(frozen=True)
class Recipe:
    """A training run, in full.

    Arguments:
        name: how it is called.
        method: the row of the table that is trained, with the conditions that the network sees.
        network: the shape of the network.
        expected: the score it reaches or is published with, by protocol and data.
        channels: channels of those of the method's inputs that have not as many as the output, by name.
        initial: model whose weights the run starts from (name, folder or hub repository); empty for fresh ones.
        restorer: model that restores the degraded photographs first, frozen (``rddm.first_stage``): the run trains a
            second stage. Empty for none.
        prepare: what is done to the degraded photograph before it is ``x_in``.
        fit: pieces cut from the photographs, or the whole photograph resized to the piece's size (bicubic).
        pairing: photographs belong together by name, or are drawn at random (unpaired translation).
        degrade: synthetic degradation where no degraded photographs are given, see ``rddm.degradations``.
        augment: a name in ``rddm.draws.AUGMENT``.
        shrink: share of the pieces that are cut larger and scaled down.
        colour: whether clean pieces are recoloured before they are degraded, see ``rddm.draws.recoloured``.
        jitter: standard deviation of what is added to the numbers told of the whole photograph.
        start_share: share of the draws at ``t = 1``, see ``rddm.loss.draw_times``.
        choose: "no", or a name in ``rddm.aosa.RULES``, by which residual or noise is chosen as the target first.
        phases: the parts of the run, shares adding up to one.
        steps: updates.
        accumulate: passes per update, each over a part of its batch.
        optimiser: a name in ``rddm.optimise.OPTIMISERS``.
        lr: its peak learning rate.
        betas: its momenta.
        weight_decay: its decay.
        warmup: updates of linear warm-up.
        schedule: what follows the warm-up: cosine to zero, or constant.
        clip: the largest norm of the gradient.
        average: the averaged weights.
        loss: a name in ``rddm.loss.DISTANCES``.
        head_weights: weights of the losses of the heads (the paper's lambdas), one for all heads where they are equal.
        frequency: weight of the same images' distance in the frequency domain.
        perceptual: weight of LPIPS between ``x_0^`` and ``x_0``; needs its weight file.
        metric: what chooses the weights that are kept: for photographs a name in ``rddm.metrics.METRICS``, for
            anything "psnr" (of tensors in [-1, 1]) or "loss".
        validate_every: updates between validations.
        precision: of the network's passes.
        compile: whether the network is compiled (``torch.compile``); the result does not depend on it.
        seed: of weights, pieces, times and noise.
    """

    name: str
    method: Method
    network: CompactConfig | UNetConfig
    expected: str
    channels: Mapping[str, int] = field(default_factory=dict)
    initial: str = ""
    restorer: str = ""
    prepare: Prepare = "none"
    fit: Literal["crop", "resize"] = "crop"
    pairing: Literal["name", "random"] = "name"
    degrade: str = ""
    augment: str = "dihedral"
    shrink: float = 0.0
    colour: bool = False
    jitter: float = 0.0
    start_share: float = 0.5
    choose: str = "no"
    phases: tuple[Phase, ...] = (Phase(1.0, 128, 4),)
    steps: int = 16_000
    accumulate: int = 1
    optimiser: str = "muon"
    lr: float = 1.5e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 1e-4
    warmup: int = 500
    schedule: Literal["cosine", "constant"] = "cosine"
    clip: float = 1.0
    average: Average = Average()
    loss: str = "l1"
    head_weights: tuple[float, ...] = (1.0,)
    frequency: float = 0.0
    perceptual: float = 0.0
    metric: str = "psnr-rgb"
    validate_every: int = 1000
    precision: Literal["no", "bf16", "fp16"] = "no"
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what can be checked without photographs.

        Raises:
            ValueError: naming the field, what was found and what is expected.
        """
        if abs(sum(phase.share for phase in self.phases) - 1) > 1e-9:
            raise ValueError(f"phases: shares add up to {sum(p.share for p in self.phases)}, expected 1")
        for phase in self.phases:
            if phase.batch % self.accumulate or phase.crop < 16:
                raise ValueError(
                    f"phases: {phase}, expected at least 16 pixels, a multiple of {self.accumulate} pieces"
                )
        if self.steps < 1 or self.validate_every < 1:
            raise ValueError(f"steps, validate_every: {self.steps}, {self.validate_every}, expected at least 1")
        if self.method.generates and self.metric != "loss":
            raise ValueError(f"metric: found {self.metric!r}, expected 'loss' for a method that generates from noise")
        if self.choose not in ("no", *RULES) or (self.choose != "no" and self.method.target.heads > 1):
            found = f"{self.choose!r} for target {self.method.target.name}"
            raise ValueError(f"choose: found {found}, expected no, or one of {', '.join(RULES)} for one head")
        if unknown := self.channels.keys() - set(self.method.inputs):
            raise ValueError(f"channels: found {', '.join(sorted(unknown))}, expected inputs of the method")
        if (self.metric not in ("psnr", "loss") or self.perceptual) and not self.photographic:
            found = f"{self.metric!r}, {self.perceptual:g} for what are no photographs"
            raise ValueError(f"metric, perceptual: found {found}, expected 'psnr' or 'loss', and 0")
        if self.prepare == "fill" and "mask" not in self.method.inputs:
            raise ValueError("prepare: found 'fill' for a method that is shown no mask, expected 'none' or 'equalise'")
        seen = {*self.method.inputs, *self.method.context} - {"x_in", "mask"}
        if self.restorer and (seen or self.method.origin != "input" or self.prepare != "none"):
            found = f"origin {self.method.origin}, prepare {self.prepare}, inputs {', '.join(seen) or 'fit'}"
            raise ValueError(f"restorer: found {found}, expected input, none, x_in and mask at most, as of row pmrf")
        shown = fitted(self.network, self.method, self.channels)
        if shown != self.network:
            raise ValueError(f"network: {self.network} does not fit the method, expected {shown}")

    @property
    def photographic(self) -> bool:
        """Whether the network's images have the shape of photographs: RGB, in two dimensions."""
        return (self.network.out_channels, self.network.dims) == (3, 2)

    def updates(self) -> list[tuple[Phase, int]]:
        """Return the phases and the number of updates in each, together ``steps``."""
        ends = [round(self.steps * sum(p.share for p in self.phases[: i + 1])) for i in range(len(self.phases))]
        return [(phase, end - start) for phase, start, end in zip(self.phases, [0, *ends], ends)]


def with_row(recipe: Recipe, method: Method, network: CompactConfig | UNetConfig) -> Recipe:
    """Return the recipe with another method and network, and with a metric and weights of losses that fit them."""
    metric = "loss" if method.generates else recipe.metric
    weights = recipe.head_weights if len(recipe.head_weights) == method.target.heads else (1.0,)
    channels = {name: count for name, count in recipe.channels.items() if name in method.inputs}
    prepare = "none" if recipe.prepare == "fill" and "mask" not in method.inputs else recipe.prepare
    return replace(
        recipe, method=method, network=network, channels=channels, metric=metric, head_weights=weights, choose="no",
        prepare=prepare,
    )  # fmt: skip


def with_method(recipe: Recipe, row: Method) -> Recipe:
    """Return the recipe with another row of the table, seeing and told what the recipe's own row is."""
    extra = tuple(name for name in recipe.method.inputs if name not in ("x_in", "degraded") and not row.generates)
    context = () if row.generates else recipe.method.context
    method = replace(row, inputs=(*row.inputs, *extra), context=context)
    return with_row(recipe, method, fitted(recipe.network, method, recipe.channels))


def continued(recipe: Recipe, spec: ModelSpec, initial: str) -> Recipe:
    """Return the recipe that goes on from a model's weights: its row, network and preparation, a quarter of the rate.

    The full rate would first undo what the model has learned at the end of its own run, when the rate was small.

    Raises:
        ValueError: if the network is not one of ours.
    """
    if isinstance(spec.network, UNet2DConfig):
        raise ValueError(f"--initial {initial}: found a network of diffusers, expected one of ours")
    if recipe.restorer and spec.restorer is None:  # a first stage lends a second one what weights fit
        return replace(recipe, initial=initial)
    found = with_row(recipe, spec.method, spec.network)
    return replace(found, initial=initial, prepare=spec.prepare, lr=recipe.lr / 4)


def to_json(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as plain JSON values."""
    network = {"architecture": name_of(NETWORKS, type(recipe.network)), **asdict(recipe.network)}
    values = {f.name: getattr(recipe, f.name) for f in fields(recipe)}
    values |= {"method": method_to_json(recipe.method), "network": network, "average": asdict(recipe.average)}
    values["phases"] = [asdict(phase) for phase in recipe.phases]
    return json.loads(json.dumps(values))


def from_json(data: Mapping[str, Any]) -> Recipe:
    """Return the recipe that :func:`to_json` wrote.

    Raises:
        KeyError, TypeError, ValueError: for fields that are missing, unknown or out of range.
    """
    values, network = dict(data), dict(data["network"])
    shape = build(NETWORKS[network.pop("architecture")], network)
    values |= {"method": method_from_json(data["method"]), "network": shape, "average": Average(**data["average"])}
    values["phases"] = [Phase(**phase) for phase in data["phases"]]
    return build(Recipe, values)


def read_recipe(path: Path) -> Recipe:
    """Read a ``recipe.json``.

    Raises:
        UserError: if it is missing, no JSON, or not a recipe.
    """
    try:
        return from_json(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}), expected the recipe of a run") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: {error}, expected a recipe as this version writes it") from None


def difference(ours: Recipe, theirs: Recipe) -> str | None:
    """Return the first field in which two recipes differ, with both values, or None."""
    a, b = to_json(ours), to_json(theirs)
    return next((f"{key}: found {a[key]}, expected {b[key]}" for key in a if a[key] != b[key]), None)


def named(text: str, recipes: Mapping[str, Callable[[], Recipe]]) -> Recipe:
    """Return a recipe by name, by ``module:function``, or from a ``recipe.json``.

    Raises:
        UserError: if there is none, or what is there is no recipe.
    """
    if text in recipes:
        return recipes[text]()
    if text.endswith(".json"):
        return read_recipe(Path(text))
    module, _, function = text.partition(":")
    if not function:
        raise UserError(f"--recipe {text}: no such recipe, expected module:function or one of {', '.join(recipes)}")
    return imported(text, module, function)


def imported(text: str, module: str, function: str) -> Recipe:
    """Return what a function of a module, found from the working directory too, returns.

    Raises:
        UserError: if it cannot be imported, or returns no recipe.
    """
    import importlib
    import sys

    try:
        sys.path.insert(0, "")
        recipe = getattr(importlib.import_module(module), function)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"--recipe {text}: {error}, expected module:function that returns a Recipe") from None
    finally:
        sys.path.remove("")
    if not isinstance(recipe, Recipe):
        raise UserError(f"--recipe {text}: found {type(recipe).__name__}, expected a function that returns a Recipe")
    return recipe
