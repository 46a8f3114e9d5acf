"""A mask: some pixels are known, the others are missing and measured as zero, mid grey."""

import torch
from torch import Tensor

from rddm.errors import UserError
from rddm.operators.base import Decomposed, Shape, check, sides


class Mask(Decomposed):
    """Known pixels stay, the others become zero.

    Arguments:
        shape: of an image, (C, H, W).
        known: (1, H, W) or (C, H, W), 1 where a pixel is known, 0 where it is missing.
        name: how complaints call it.

    Raises:
        UserError: if the mask does not fit the image, or holds other numbers.
    """

    def __init__(self, shape: Shape, known: Tensor, name: str = "mask") -> None:
        if known.ndim != 3 or known.shape[1:] != torch.Size(shape[1:]) or known.shape[0] not in (1, shape[0]):
            raise UserError(f"{name}: found {sides(tuple(known.shape))}, expected 1x{shape[1]}x{shape[2]}")
        if not ((known == 0) | (known == 1)).all():
            raise UserError(f"{name}: found other numbers than 0 and 1, expected 1 where a pixel is known")
        self.name, self.shape, self.measured = name, shape, shape
        self.mask = known[None].double()

    def A_dagger(self, y: Tensor) -> Tensor:
        """Return the measurement: it is the image, zero where nothing is known."""
        check(self.name, "a measurement", y, self.measured)
        return self.mask.to(y) * y

    def U(self, x: Tensor) -> Tensor:
        """Return ``x``."""
        return x

    def U_adjoint(self, x: Tensor) -> Tensor:
        """Return ``x``."""
        return x

    def V(self, x: Tensor) -> Tensor:
        """Return ``x``."""
        return x

    def V_adjoint(self, x: Tensor) -> Tensor:
        """Return ``x``."""
        return x
