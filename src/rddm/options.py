"""What the user of ``rddm train`` asks for, made into a recipe and sources that fit together, or one clear line."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rddm.errors import UserError
from rddm.first_stage import names_of
from rddm.fitting import fitted
from rddm.methods import METHODS
from rddm.model import load, shipped, spec_named
from rddm.nn.unet2d import UNet2DConfig
from rddm.recipe import RECIPE, Recipe, continued, difference, named, read_recipe, with_method
from rddm.recipes import RECIPES

SOURCES = "sources.json"


@dataclass(frozen=True)
class Options:
    """What a user asks for; see ``rddm train --help``."""

    clean: Path | None = None
    degraded: Path | None = None
    mask: Path | None = None
    degrade: str | None = None
    recipe: str | None = None
    method: str | None = None
    initial: str | None = None
    out: Path = Path("runs/train")
    steps: int | None = None
    seconds: float | None = None
    resume: bool = False
    seed: int | None = None
    precision: str | None = None
    restorer: str | None = None


def asked(options: Options, base: Recipe) -> Recipe:
    """Return a recipe with what the options change in it.

    Raises:
        UserError: for an unknown method, or values that do not fit together.
    """
    changes = {"steps": options.steps, "seed": options.seed, "precision": options.precision, "degrade": options.degrade}
    try:
        recipe = base = second_stage_of(base, options)
        if options.initial is not None and lasting(options.initial) != base.initial:
            recipe = continued(base, load(options.initial).spec, lasting(options.initial))
        if options.method is not None:
            if options.initial is not None:
                raise ValueError("--initial, --method: found both, expected one: a model has its method")
            if options.method not in METHODS:
                raise ValueError(f"--method {options.method}: no such row, expected one of {', '.join(METHODS)}")
            recipe = with_method(base, METHODS[options.method])
        return replace(recipe, **{name: value for name, value in changes.items() if value is not None})
    except ValueError as error:
        raise UserError(str(error)) from None


def second_stage_of(recipe: Recipe, options: Options) -> Recipe:
    """Return the recipe of a second stage of the model that ``--restorer`` names: it takes its shape and its weights.

    Raises:
        ValueError: if the recipe cannot be one.
    """
    if options.restorer is None:
        return recipe
    restorer = lasting(options.restorer)
    if restorer == recipe.restorer:
        return recipe
    shape, initial = spec_named(restorer).network, restorer if recipe.initial == recipe.restorer else recipe.initial
    network = recipe.network if isinstance(shape, UNet2DConfig) else fitted(shape, recipe.method, recipe.channels)
    return replace(recipe, restorer=restorer, initial=initial, network=network)


def lasting(model: str) -> str:
    """Return a model's name such that it is found from another working directory too."""
    return str(Path(model).resolve()) if Path(model).is_dir() and model not in shipped() else model


def recipe_of(options: Options) -> Recipe:
    """Return the recipe of a new run, or of the one that is resumed.

    Raises:
        UserError: if the folder holds a run already, or none, or one of another recipe.
    """
    saved = options.out / RECIPE
    if not options.resume:
        if saved.exists():
            raise UserError(f"{options.out}: holds a run already, expected --resume to go on, or another --out")
        return asked(options, named(options.recipe or "restore", RECIPES))
    if not saved.exists():
        raise UserError(f"{options.out}: no {RECIPE}, expected the folder of a run to resume")
    ours = read_recipe(saved)
    base = ours if options.recipe is None else named(options.recipe, RECIPES)
    initial = options.initial or (ours.initial or None)
    restorer = options.restorer or (ours.restorer or None)
    theirs = asked(replace(options, initial=initial, restorer=restorer), base)
    if options.recipe is not None:  # what the folder's run worked out for itself is not asked again
        free = {"steps": options.steps, "degrade": options.degrade}
        kept = {name: getattr(ours, name) for name, value in free.items() if value is None}
        if ours.choose != "no":
            kept |= {"method": ours.method}
        theirs = replace(theirs, phases=ours.phases, **kept)
    if found := difference(theirs, ours):
        raise UserError(f"{options.out}: resumed with another recipe: {found}")
    return ours


def sources_of(options: Options) -> dict[str, Path]:
    """Return where the photographs are, by kind; a resumed run knows.

    Raises:
        UserError: if none are named, or others than the run began with.
    """
    given = {"clean": options.clean, "degraded": options.degraded, "mask": options.mask}
    found = {kind: path.resolve() for kind, path in given.items() if path is not None}
    saved = options.out / SOURCES
    if options.resume and saved.exists():
        before = read_sources(saved)
        for kind, path in found.items():
            if path != before.get(kind):
                raise UserError(f"--{kind} {path}: expected what {saved} says, {before.get(kind)}")
        return before
    if "clean" not in found:
        raise UserError("--clean: not given, expected a folder or a list of clean photographs")
    return found


def read_sources(path: Path) -> dict[str, Path]:
    """Read a ``sources.json``.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        return {kind: Path(source) for kind, source in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({error}), expected the folders of a run by kind") from None


def check_kinds(recipe: Recipe, sources: Mapping[str, Path]) -> None:
    """Check that a recipe has what it needs.

    Raises:
        UserError: if something is missing, or given in vain.
    """
    generates = recipe.method.generates
    if not generates and not ("degraded" in sources) ^ bool(recipe.degrade):
        many = "both" if recipe.degrade else "neither"
        raise UserError(f"--degraded, --degrade: found {many}, expected one of them for recipe {recipe.name}")
    if generates and "degraded" in sources:
        raise UserError(f"--degraded: {recipe.name} generates from noise, expected --clean alone")
    shown = "mask" in names_of(recipe)
    if shown and "mask" not in sources and not recipe.degrade:
        raise UserError(f"--mask: not given, expected masks for recipe {recipe.name}")
    if "mask" in sources and not shown:
        raise UserError(f"--mask: recipe {recipe.name} shows no mask to its network, expected one that does")
