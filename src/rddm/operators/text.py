"""Operators as text: what ``--operator`` holds, such as ``grey + blur(1) + mask(scratches.png)``.

plan := term ("+" term)*                   from left to right
term := name ["(" argument ("," argument)* ")"]
"""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rddm.errors import UserError
from rddm.operators.base import Operator, Shape, sides
from rddm.operators.chain import compose
from rddm.operators.circular import CircularBlur
from rddm.operators.jpeg import Jpeg
from rddm.operators.kronecker import bicubic, block_average, blur, grey
from rddm.operators.mask import Mask
from rddm.operators.phase import PhaseRetrieval
from rddm.operators.sensing import Hadamard, random_projection

WHITE = 128  # of 255; what of a mask is at least as bright is missing


class Place(NamedTuple):
    """A part of a larger picture: its rows and columns."""

    rows: slice
    columns: slice


@dataclass(frozen=True)
class Kind:
    """A kind of operator that text can name.

    Arguments:
        signature: how it is written.
        least: how many arguments it needs.
        most: how many it takes.
        build: ``(shape, arguments) -> operator``; None for a mask, which is made from its picture.
        local: whether each measured pixel sees its own place in the image alone, whole blocks if it shrinks.
        shrinks: whether the first argument is by what it divides the sides.
        picture: whether a measurement is a picture.
    """

    signature: str
    least: int
    most: int
    build: Callable[[Shape, tuple[float, ...]], Operator] | None
    local: bool = False
    shrinks: bool = False
    picture: bool = True


def circular(shape: Shape, arguments: tuple[float, ...]) -> Operator:
    """Return a Gaussian blur whose opposite borders touch."""
    from rddm.degradations import kernels  # which brings the image libraries

    return CircularBlur(shape, kernels.gaussian(arguments[0]), f"fft_blur({arguments[0]:g})")


def motion(shape: Shape, arguments: tuple[float, ...]) -> Operator:
    """Return a blur along a line, opposite borders touching."""
    from rddm.degradations import kernels

    length, angle = (*arguments, 0.0)[:2]
    return CircularBlur(shape, kernels.line(length, angle), f"motion({length:g}, {angle:g})")


def seed(arguments: tuple[float, ...]) -> int:
    """Return the second argument, 0 if there is none."""
    return int((*arguments, 0)[1])


KINDS: dict[str, Kind] = {
    "mask": Kind("mask(FILE)", 1, 1, None, local=True),
    "sr": Kind("sr(factor)", 1, 1, lambda s, a: block_average(s, whole("sr", a[0])), local=True, shrinks=True),
    "bicubic": Kind("bicubic(factor)", 1, 1, lambda s, a: bicubic(s, whole("bicubic", a[0])), shrinks=True),
    "blur": Kind("blur(sigma)", 1, 1, lambda s, a: blur(s, a[0])),
    "fft_blur": Kind("fft_blur(sigma)", 1, 1, circular),
    "motion": Kind("motion(length, angle=0)", 1, 2, motion),
    "grey": Kind("grey", 0, 0, lambda s, a: grey(s), local=True),
    "cs": Kind("cs(share, seed=0)", 1, 2, lambda s, a: Hadamard(s, a[0], seed(a)), picture=False),
    "random_cs": Kind(
        "random_cs(share, seed=0)", 1, 2, lambda s, a: random_projection(s, a[0], seed(a)), picture=False
    ),
    "jpeg": Kind("jpeg(quality)", 1, 1, lambda s, a: Jpeg(s, a[0])),
    "phase": Kind("phase(oversampling=2)", 0, 1, lambda s, a: PhaseRetrieval(s, *a), picture=False),
}


@dataclass(frozen=True)
class Term:
    """One operator of a text.

    Arguments:
        text: as it was written.
        kind: what it is.
        arguments: its numbers.
        known: a mask's picture, (1, H, W), 1 where it is known.
    """

    text: str
    kind: Kind
    arguments: tuple[float, ...]
    known: Tensor | None = None

    @property
    def factor(self) -> int:
        """By what it divides the sides."""
        return whole(self.text, self.arguments[0]) if self.kind.shrinks else 1

    def build(self, shape: Shape, place: Place | None) -> Operator:
        """Return the operator for images of ``shape``, or for the part of them at ``place``, which has that shape."""
        if self.known is None:
            assert self.kind.build is not None
            return self.kind.build(shape, self.arguments)
        known = self.known if place is None else self.known[:, place.rows, place.columns]
        return Mask(shape, known, self.text)


@dataclass(frozen=True)
class Plan:
    """A text that was understood: an operator for images of any shape that fits it.

    Arguments:
        text: as it was written.
        terms: from first to last.
    """

    text: str
    terms: tuple[Term, ...]

    @property
    def factor(self) -> int:
        """By what it divides the sides."""
        product = 1
        for term in self.terms:
            product *= term.factor
        return product

    @property
    def local(self) -> bool:
        """Whether a window of the measurement is the measurement of a window."""
        return all(term.kind.local for term in self.terms)

    @property
    def picture(self) -> bool:
        """Whether a measurement is a picture."""
        return all(term.kind.picture for term in self.terms)

    def hidden(self, y: Tensor) -> Tensor:
        """Return a measurement with zero where a mask that comes last says that it is missing."""
        known = self.terms[-1].known
        return y if known is None or known.shape[1:] != y.shape[2:] else y * known.to(y)

    def __call__(self, shape: Shape, place: Place | None = None) -> Operator:
        """Return the operator for images of ``shape``, (C, H, W).

        Arguments:
            shape: of the images that the operator is for.
            place: where they lie in a larger picture, for masks, which are as large as that.

        Raises:
            UserError: if the operator does not fit them.
        """
        parts: list[Operator] = []
        for term in self.terms:
            if len(shape) != 3:
                raise UserError(f"{self.text}: found {sides(shape)} numbers before {term.text}, expected an image")
            operator = term.build(shape, place)
            shape = tuple(operator.A(torch.zeros(1, *shape)).shape[1:])
            place = None if place is None else shrunk(place, term.factor)
            parts.append(operator)
        return compose(parts)


def shrunk(place: Place, factor: int) -> Place:
    """Return a place in a picture of which both sides are divided by ``factor``."""
    return Place(*(slice(span.start // factor, span.stop // factor) for span in place))


def parse_operator(text: str) -> Plan:
    """Return the plan of ``text``; call it with the shape of the images, ``parse_operator("sr(4)")((3, 32, 32))``.

    Raises:
        UserError: if the text is none, naming the part, what was found and what is expected.
    """
    parts = [part.strip() for part in re.split(r"\+(?![^(]*\))", text)]
    return Plan(" + ".join(parts), tuple(map(term_of, parts)))


def term_of(text: str) -> Term:
    """Return one operator of a text."""
    match = re.fullmatch(r"([A-Za-z_]\w*) ?(?:\((.*)\))?", text)
    if not match or match[1] not in KINDS:
        near = difflib.get_close_matches(match[1] if match else text, KINDS, 1)
        found = f"{text!r}" + (f" (did you mean {near[0]}?)" if near else "") if text else "nothing"
        written = ", ".join(kind.signature for kind in KINDS.values())
        raise UserError(f"operator: found {found}, expected {written}, or several with + between them")
    kind = KINDS[match[1]]
    arguments = [part.strip() for part in (match[2] or "").split(",")] if (match[2] or "").strip() else []
    if not kind.least <= len(arguments) <= kind.most:
        raise UserError(f"operator {text}: found {len(arguments)} arguments, expected {kind.signature}")
    if match[1] == "mask":
        return Term(text, kind, (), read_known(arguments[0]))
    return Term(text, kind, tuple(number(text, part, kind) for part in arguments))


def number(text: str, part: str, kind: Kind) -> float:
    """Return an argument.

    Raises:
        UserError: if it is no number.
    """
    try:
        return float(part)
    except ValueError:
        raise UserError(f"operator {text}: found {part!r}, expected a number in {kind.signature}") from None


def whole(name: str, value: float) -> int:
    """Return a whole number of at least 1.

    Raises:
        UserError: if it is none.
    """
    if value != int(value) or value < 1:
        raise UserError(f"{name}: found {value:g}, expected a whole number of at least 1")
    return int(value)


def read_known(file: str) -> Tensor:
    """Return (1, H, W) from a picture, 0 where it is white, missing, and 1 where it is black.

    Raises:
        UserError: if it cannot be read.
    """
    import numpy as np

    from rddm.photo import from_float, read_photo, to_float

    pixels = from_float(to_float(read_photo(file).pixels).mean(2, keepdims=True), np.uint8)
    return torch.from_numpy((pixels < WHITE).astype(np.float32)).permute(2, 0, 1)
