"""Degradations as text: what ``--degrade`` and configuration files hold.

    choice    := chain ("|" chain)*            one of them is drawn for each image
    chain     := term ("+" term)*              from left to right
    term      := name ["(" parameters ")"] | "(" choice ")"
    parameter := [field "="] number [".." number]

Parameters are positional in the order of the fields, or by name; those left out keep their defaults.
"""

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, fields

from rddm.degradations.base import Degradation, Parameter, Parametrised, Range, parameter_text
from rddm.degradations.blur import Defocus, GaussianBlur, Motion, Shake
from rddm.degradations.coding import Downscale, Jpeg
from rddm.degradations.compose import Chain, Choice
from rddm.degradations.drops import Drops
from rddm.degradations.masks import CentreMask, IrregularMask
from rddm.degradations.noise import Camera, LowLight, Noise, Shot, WhiteNoise
from rddm.degradations.rain import HeavyRain, Rain
from rddm.degradations.scene import Haze, Shadow
from rddm.errors import UserError

_TYPES: tuple[type[Parametrised], ...] = (
    Noise, WhiteNoise, Shot, Camera, LowLight, GaussianBlur, Defocus, Motion, Shake, Downscale, Jpeg, Rain, HeavyRain,
    Drops, Haze, Shadow, CentreMask, IrregularMask,
)  # fmt: skip
DEGRADATIONS: dict[str, type[Parametrised]] = {kind.name: kind for kind in _TYPES}
ALIASES = {"gaussian_blur": "blur", "center_mask": "centre_mask"}
_NUMBER = r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?"
_PARAMETER = re.compile(rf"(?:([A-Za-z_]\w*)\s*=)?\s*({_NUMBER})\s*(?:\.\.\s*({_NUMBER}))?", re.ASCII)
_DEPTH = 20


def parse(text: str) -> Degradation:
    """Return the degradation that a text such as ``blur(1..3) + noise(0..50) | low_light()`` describes.

    Raises:
        UserError: if the text is none, naming the part, what was found and what is expected.
    """
    return _choice(" ".join(text.split()), 0)


def describe(degradation: Degradation) -> str:
    """Return the text that ``parse`` makes an equal degradation of.

    Raises:
        ValueError: if it holds a degradation that is not in ``DEGRADATIONS``.
    """
    if isinstance(degradation, Choice):
        return " | ".join(_grouped(option, (Choice,)) for option in degradation.options)
    if isinstance(degradation, Chain):
        return " + ".join(_grouped(part, (Chain, Choice)) for part in degradation.parts)
    if not isinstance(degradation, Parametrised) or DEGRADATIONS.get(degradation.name) is not type(degradation):
        raise ValueError(f"found {degradation!r}, expected one of {' '.join(DEGRADATIONS)}")
    return f"{degradation.name}({', '.join(_arguments(degradation))})"


def signature(kind: type[Parametrised]) -> str:
    """Return how a degradation is written, ``motion(length, angle=0..180)``."""
    return f"{kind.name}({', '.join(_with_default(field) for field in fields(kind))})"


def _with_default(field: Field[Parameter]) -> str:
    return field.name if field.default is MISSING else f"{field.name}={parameter_text(field.default)}"


def _grouped(degradation: Degradation, kinds: tuple[type, ...]) -> str:
    text = describe(degradation)
    return f"({text})" if isinstance(degradation, kinds) else text


def _arguments(degradation: Parametrised) -> Iterable[str]:
    """Yield what tells a degradation from its defaults: required fields by place, the others by name."""
    for field in fields(degradation):
        value = getattr(degradation, field.name)
        if field.default is MISSING:
            yield parameter_text(value)
        elif value != field.default:
            yield f"{field.name}={parameter_text(value)}"


def _choice(text: str, depth: int) -> Degradation:
    options = tuple(_chain(part, depth) for part in _split(text, "|"))
    return options[0] if len(options) == 1 else Choice(options)


def _chain(text: str, depth: int) -> Degradation:
    parts = tuple(_term(part, depth) for part in _split(text, "+"))
    return parts[0] if len(parts) == 1 else Chain(parts)


def _term(text: str, depth: int) -> Degradation:
    if text.startswith("(") and text.endswith(")"):
        if depth == _DEPTH:
            raise _refused(text, f"more than {_DEPTH} parentheses within one another")
        return _choice(text[1:-1].strip(), depth + 1)
    match = re.fullmatch(r"([A-Za-z_]\w*) ?(?:\(([^()]*)\))?", text, re.ASCII)
    if not match:
        raise _refused(text, _short(text) if text else "nothing")
    name = ALIASES.get(match[1], match[1])
    if name not in DEGRADATIONS:
        near = difflib.get_close_matches(name, DEGRADATIONS, 1)
        raise _refused(text, f"the name {_short(name)}" + (f" (did you mean {near[0]}?)" if near else ""))
    return _created(text, DEGRADATIONS[name], match[2] or "")


def _created(text: str, kind: type[Parametrised], arguments: str) -> Parametrised:
    """Return the degradation with the parameters of ``name(arguments)``."""
    create: Callable[..., Parametrised] = kind
    try:
        return create(**_values(arguments, kind))
    except ValueError as error:
        raise UserError(f"degradation {_short(text)}: {error}; it is written {signature(kind)}") from None


def _values(arguments: str, kind: type[Parametrised]) -> dict[str, Parameter]:
    """Return the parameters that a text gives by place or by name; ValueError if one is amiss or lacks."""
    known = [field.name for field in fields(kind)]
    values: dict[str, Parameter] = {}
    by_name = False
    for part in _split(arguments, ",") if arguments.strip() else []:
        name, value = _parameter(part)
        by_name = by_name or name is not None
        if name is None and by_name:
            raise ValueError(f"found {_short(part)} after a parameter with its name, expected name=value")
        if name is None and len(values) == len(known):
            raise ValueError(f"found {_short(part)}, expected at most {len(known)} parameters")
        name = name or known[len(values)]
        if name not in known or name in values:
            fault = "a second time" if name in values else "no parameter of this name"
            raise ValueError(f"found {_short(part)}, {fault}, expected {' '.join(known)}")
        values[name] = value
    lacking = [field.name for field in fields(kind) if field.default is MISSING and field.name not in values]
    if lacking:
        raise ValueError(f"{lacking[0]}: found nothing, expected a number or a range a..b")
    return values


def _parameter(part: str) -> tuple[str | None, Parameter]:
    """Return the name, if given, and the value of one parameter."""
    match = _PARAMETER.fullmatch(part)
    if not match:
        raise ValueError(f"found {_short(part)}, expected a number or a range a..b")
    low = float(match[2])
    return match[1], low if match[3] is None else Range(low, float(match[3]))


def _split(text: str, sign: str) -> list[str]:
    """Return the parts of ``text`` between the signs that stand outside parentheses."""
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            raise _refused(text, "a ) without its (")
        if letter == sign and depth == 0:
            parts.append(text[start:place].strip())
            start = place + 1
    if depth:
        raise _refused(text, "a ( without its )")
    return [*parts, text[start:].strip()]


def _refused(text: str, found: str) -> UserError:
    expected = f"name(parameters), the name one of {' '.join(DEGRADATIONS)}"
    return UserError(f"degradation {_short(text)}: found {found}, expected {expected}")


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
