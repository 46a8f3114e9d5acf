"""What a degradation is, and what its parameters are.

A degradation is a map ``(clean image, random generator) -> Degraded``. Its parameters are numbers, or ranges from which
each image draws its own number: a network trained on ``noise(0..50)`` learns every strength, one trained on
``noise(25)`` one. Quantities that act on the exponent (photons, ISO: a doubling is one stop) are drawn log-uniformly,
so that each stop is as frequent as the next; all others uniformly.

Randomness comes from the generator of the call and from nothing else, so that a data loader is reproducible whatever
the number of its workers.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol, TypeAlias, get_args, get_origin, get_type_hints

import torch
from torch import Tensor


class Degraded(NamedTuple):
    """A degraded image and where it was harmed.

    Arguments:
        image: (3, H, W) float32, sRGB-encoded, of the clean image's size, in [0, 1] (``awgn`` alone leaves that range).
        mask: (1, H, W) float32 in [0, 1], 1 where the scene is hidden or shadowed; None where the notion is empty.
    """

    image: Tensor
    mask: Tensor | None = None


class Degradation(Protocol):
    """A frozen object that degrades images."""

    def __call__(self, image: Tensor, generator: torch.Generator) -> Degraded:
        """Return the degraded ``image``, (3, H, W) float32 sRGB in [0, 1], H and W >= 16; the input is left as it is.

        The same ``generator`` state, on the CPU, gives the same result to the bit on one machine.
        """
        ...


@dataclass(frozen=True)
class Range:
    """The numbers from ``low`` to ``high``, both included.

    Raises:
        ValueError: unless low <= high, both finite.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise ValueError(f"found {number(self.low)}..{number(self.high)}, expected a range from low to high")


Parameter: TypeAlias = float | Range


@dataclass(frozen=True)
class Limits:
    """The values that a parameter may take: numbers from ``low`` to ``high``, ``whole`` ones only if so."""

    low: float
    high: float
    whole: bool = False

    def check(self, name: str, value: Parameter) -> None:
        """Raise ValueError, naming the parameter, unless ``value`` lies within."""
        ends = (value.low, value.high) if isinstance(value, Range) else (value,)
        inside = all(self.low <= end <= self.high for end in ends)
        if not inside or (self.whole and any(end != int(end) for end in ends)):
            kind = "a whole number" if self.whole else "a number"
            expected = f"{kind} from {number(self.low)} to {number(self.high)}, or a range a..b of them"
            raise ValueError(f"{name}: found {parameter_text(value)}, expected {expected}")


@dataclass(frozen=True)
class Parametrised:
    """A degradation whose fields are parameters, each ``Annotated[Parameter, Limits(...)]`` and checked on creation.

    Raises:
        ValueError: if a parameter lies outside its limits.
    """

    name: ClassVar[str]

    def __post_init__(self) -> None:
        for name, limits in limits_of(type(self)).items():
            limits.check(name, getattr(self, name))

    def __call__(self, image: Tensor, generator: torch.Generator) -> Degraded:
        """Return the degraded ``image``, see ``Degradation``."""
        raise NotImplementedError


@lru_cache
def limits_of(kind: type) -> dict[str, Limits]:
    """Return the limits of each parameter of a degradation, in the order of its fields."""
    hints: dict[str, Any] = get_type_hints(kind, include_extras=True)
    return {name: get_args(hint)[1] for name, hint in hints.items() if get_origin(hint) is Annotated}


def number(value: float) -> str:
    """Return the shortest text that reads back as ``value``."""
    return repr(float(value)).removesuffix(".0")


def parameter_text(value: Parameter) -> str:
    """Return ``25`` or ``0..50``."""
    return f"{number(value.low)}..{number(value.high)}" if isinstance(value, Range) else number(value)


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """Return one number drawn uniformly from [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def draw(value: Parameter, generator: torch.Generator) -> float:
    """Return the number, or one drawn uniformly from the range."""
    return uniform(value.low, value.high, generator) if isinstance(value, Range) else float(value)


def draw_log(value: Parameter, generator: torch.Generator) -> float:
    """Return the number, or one drawn from the range (positive) such that its logarithm is uniform."""
    if not isinstance(value, Range):
        return float(value)
    return math.exp(uniform(math.log(value.low), math.log(value.high), generator))


def draw_whole(value: Parameter, generator: torch.Generator) -> int:
    """Return the whole number, or one of those in the range, each as probable as the next."""
    if not isinstance(value, Range):
        return int(value)
    return int(torch.randint(int(value.low), int(value.high) + 1, (), generator=generator))
