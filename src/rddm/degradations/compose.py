"""Degradations after one another, and one of several.

``Chain((a, b))`` is ``b`` after ``a``: order matters, light first, then the sensor, then the file
(``blur(1..2) + camera() + jpeg(60..95)``). ``Choice((a, b))`` draws one for each image, which is how one network learns
several tasks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from rddm.degradations.base import Degradation, Degraded


@dataclass(frozen=True)
class Chain:
    """Degradations from left to right; the mask is the union (the maximum) of theirs.

    Raises:
        ValueError: if there are fewer than two.
    """

    parts: tuple[Degradation, ...]

    def __post_init__(self) -> None:
        if len(self.parts) < 2:
            raise ValueError(f"parts: found {len(self.parts)}, expected two degradations or more")

    def __call__(self, image: Tensor, generator: torch.Generator) -> Degraded:
        """Return ``image`` after all parts."""
        done = Degraded(image)
        for part in self.parts:
            image, mask = part(done.image, generator)
            done = Degraded(image, union(done.mask, mask))
        return done


@dataclass(frozen=True)
class Choice:
    """One of several degradations, each as probable as the next, drawn for each image.

    Raises:
        ValueError: if there are fewer than two.
    """

    options: tuple[Degradation, ...]

    def __post_init__(self) -> None:
        if len(self.options) < 2:
            raise ValueError(f"options: found {len(self.options)}, expected two degradations or more")

    def __call__(self, image: Tensor, generator: torch.Generator) -> Degraded:
        """Return ``image`` after the option drawn."""
        drawn = int(torch.randint(len(self.options), (), generator=generator))
        return self.options[drawn](image, generator)


def union(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Return the larger of two masks, None being zero."""
    if a is None or b is None:
        return b if a is None else a
    return torch.maximum(a, b)
