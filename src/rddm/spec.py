"""Model specifications: everything a restored photo depends on beside the weights, as one JSON object.

Published checkpoints leave out what they were trained with, and users cannot tell (a schedule's name, a histogram
equalised before). A :class:`ModelSpec` holds the network's shape, the row of the table, the preparation of the input
and the card: data, cost, scores by protocol, where it comes from. It is the ``config.json`` beside the weights.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from rddm.bridges import BBDMPath, BrownianPath, DDBMVEPath, DDBMVPPath, GOUBPath, I2SBPath
from rddm.clipping import CLIPS
from rddm.clocks import CLOCKS
from rddm.errors import UserError
from rddm.methods import Method
from rddm.nn.compact import CompactConfig
from rddm.nn.unet import UNetConfig
from rddm.nn.unet2d import UNet2DConfig
from rddm.path import LinearPath
from rddm.path import Path as Curve
from rddm.prediction import TARGETS
from rddm.schedules import (
    DDPMPath,
    DiffUIRPath,
    NoiseLevelPath,
    PowerPath,
    ResfusionPath,
    ResShiftPath,
    TablePath,
)
from rddm.sdes import EDMPath, IRSDEPath, ScoreSubVPPath, ScoreVEPath, ScoreVPPath
from rddm.solvers import SOLVERS
from rddm.transition import ANCHORS, GAINS, Gain, stochastic

Prepare = Literal["none", "equalise", "fill"]
Shape: TypeAlias = CompactConfig | UNetConfig | UNet2DConfig
T = TypeVar("T")

PATHS: dict[str, type[Curve]] = {
    "linear": LinearPath,
    "power": PowerPath,
    "ddpm": DDPMPath,
    "resshift": ResShiftPath,
    "table": TablePath,
    "noise-level": NoiseLevelPath,
    "resfusion": ResfusionPath,
    "diffuir": DiffUIRPath,
    "score-vp": ScoreVPPath,
    "score-subvp": ScoreSubVPPath,
    "score-ve": ScoreVEPath,
    "edm": EDMPath,
    "ir-sde": IRSDEPath,
    "goub": GOUBPath,
    "i2sb": I2SBPath,
    "bbdm": BBDMPath,
    "ddbm-vp": DDBMVPPath,
    "ddbm-ve": DDBMVEPath,
    "brownian": BrownianPath,
}
NETWORKS: dict[str, type[CompactConfig] | type[UNetConfig] | type[UNet2DConfig]] = {
    "compact": CompactConfig,
    "unet": UNetConfig,
    "unet2d": UNet2DConfig,
}
FORMAT = 1


@dataclass(frozen=True)
class ModelSpec:
    """What a model is.

    Arguments:
        name: how it is called.
        network: the shape of its network.
        method: its row of the table, with its defaults.
        prepare: what is done to the photo before it is ``x_in``: nothing, per-channel histogram equalisation, or
            a smooth filling of what a mask hides.
        card: what a user should know: task, data, terms, recipe, cost, scores by protocol, provenance.
        side: of the square images that a generator or a translator was trained on, in pixels; None means any size.
        solver: the name in ``SOLVERS`` of what samples it best; the row's own step if None.
        realism: the model that is its second stage (``rddm.stages``), a folder in or beside its own, or any name that
            ``rddm.load`` knows; None if it has none.
        restorer: for a second stage, the model whose outputs it was trained on.
    """

    name: str
    network: Shape
    method: Method
    prepare: Prepare = "none"
    card: Mapping[str, Any] = field(default_factory=dict)
    side: int | None = None
    solver: str | None = None
    realism: str | None = None
    restorer: str | None = None


def name_of(table: Mapping[str, Any], value: object) -> str:
    """Return the name under which a table lists a value.

    Raises:
        ValueError: if it does not.
    """
    for name, listed in table.items():
        if listed is value:
            return name
    raise ValueError(f"{value!r} is none of {', '.join(table)} and cannot be saved")


def method_to_json(method: Method) -> dict[str, Any]:
    """Return a row as plain JSON values."""
    return {
        "name": method.name,
        "path": {"family": name_of(PATHS, type(method.path)), **asdict(method.path)},
        "target": method.target.name,
        "origin": method.origin,
        "inputs": list(method.inputs),
        "clock": name_of(CLOCKS, method.clock),
        "gain": method.gain.name,
        "anchor": name_of(ANCHORS, method.anchor),
        "clip": name_of(CLIPS, method.clip),
        "steps": method.steps,
        "reference": method.reference,
        "context": list(method.context),
    }


def gain_named(name: str) -> Gain:
    """Return a gain by its name, such as ``residual`` or, with an eta, ``residual*0.5``."""
    rule, _, eta = name.partition("*")
    return stochastic(GAINS[rule], float(eta)) if eta else GAINS[rule]


def method_from_json(data: Mapping[str, Any]) -> Method:
    """Return the row that :func:`method_to_json` wrote.

    Raises:
        KeyError, TypeError, ValueError: for fields that are missing, unknown or out of range.
    """
    path = dict(data["path"])
    return Method(
        name=data["name"],
        path=build(PATHS[path.pop("family")], path),
        target=TARGETS[data["target"]],
        origin=one_of(data["origin"], ("input", "zero")),
        inputs=tuple(data["inputs"]),
        clock=CLOCKS[data["clock"]],
        gain=gain_named(data["gain"]),
        anchor=ANCHORS[data["anchor"]],
        clip=CLIPS[data["clip"]],
        steps=int(data["steps"]),
        reference=data["reference"],
        context=tuple(data["context"]),
    )


def build(kind: Callable[..., T], values: Mapping[str, Any]) -> T:
    """Build a frozen dataclass from JSON values, lists as tuples; unknown fields are an error, never ignored."""
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def one_of(value: Any, allowed: tuple[Any, ...]) -> Any:
    """Return ``value`` if it is allowed.

    Raises:
        ValueError: if it is not.
    """
    if value not in allowed:
        raise ValueError(f"found {value!r}, expected one of {', '.join(map(str, allowed))}")
    return value


def spec_to_json(spec: ModelSpec) -> dict[str, Any]:
    """Return a specification as plain JSON values."""
    architecture = name_of(NETWORKS, type(spec.network))
    return {
        "format": FORMAT,
        "name": spec.name,
        "network": {"architecture": architecture, **asdict(spec.network)},
        "method": method_to_json(spec.method),
        "prepare": spec.prepare,
        "solver": spec.solver,
        "realism": spec.realism,
        "restorer": spec.restorer,
        "value_range": [-1, 1],
        "size": {"policy": "native", "multiple": spec.network.stride, "side": spec.side},
        "card": dict(spec.card),
    }


def spec_from_json(data: Mapping[str, Any]) -> ModelSpec:
    """Return the specification that :func:`spec_to_json` wrote.

    Raises:
        KeyError, TypeError, ValueError: for fields that are missing, unknown or out of range.
    """
    one_of(data["format"], (FORMAT,))
    one_of(list(data["value_range"]), ([-1, 1],))
    one_of(data["size"]["policy"], ("native",))
    network = dict(data["network"])
    shape = build(NETWORKS[network.pop("architecture")], network)
    prepare, side = one_of(data["prepare"], get_args(Prepare)), data["size"].get("side")
    if side is not None and (not isinstance(side, int) or side < 1):
        raise ValueError(f"size: found side {side!r}, expected a number of pixels or null")
    solver = one_of(data.get("solver"), (None, *SOLVERS))
    stages = data.get("realism"), data.get("restorer")
    if not all(stage is None or isinstance(stage, str) for stage in stages):
        raise ValueError(f"realism, restorer: found {stages}, expected names of models or null")
    method = method_from_json(data["method"])
    return ModelSpec(data["name"], shape, method, prepare, data.get("card", {}), side, solver, *stages)


def read_spec(path: Path) -> ModelSpec:
    """Read a ``config.json``.

    Raises:
        UserError: if it is missing, no JSON, or not one of ours.
    """
    try:
        return spec_from_json(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}), expected the config.json of a model") from None
    except (UnicodeDecodeError, json.JSONDecodeError):
        raise UserError(f"{path}: not JSON, expected the config.json of a model") from None
    except KeyError as error:
        raise UserError(
            f"{path}: {error} is missing or not known, expected a configuration of format {FORMAT}"
        ) from None
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: {error}, expected a configuration of format {FORMAT}") from None


def with_card(spec: ModelSpec, card: Mapping[str, Any]) -> ModelSpec:
    """Return the specification with further entries on its card."""
    return dataclasses.replace(spec, card={**spec.card, **card})
