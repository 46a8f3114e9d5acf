"""Phase retrieval: a picture from the absolute values of its Fourier transform."""

import torch
from torch import Tensor

from rddm.errors import UserError
from rddm.operators.base import Shape, check


class PhaseRetrieval:
    """The absolute values of the transform of a picture with a border of zeros around it.

    Neither linear nor one to one: a picture and the same turned by 180 degrees measure alike. It has no pseudoinverse.

    Arguments:
        shape: of an image, (C, H, W).
        oversampling: of the transform; each border is that many times a quarter of the side, rounded.

    Raises:
        UserError: if it is negative.
    """

    def __init__(self, shape: Shape, oversampling: float = 2.0) -> None:
        self.name, self.shape = f"phase({oversampling:g})", shape
        if not oversampling >= 0:
            raise UserError(f"{self.name}: found {oversampling:g}, expected 0 or more")
        self.down, self.across = (round(oversampling * side / 4) for side in shape[1:])

    def A(self, x: Tensor) -> Tensor:
        """Return the absolute values (B, C, H', W') of the orthonormal transform of images."""
        check(self.name, "an image", x, self.shape)
        padded = torch.nn.functional.pad(x, (self.across, self.across, self.down, self.down))
        return torch.fft.fft2(padded, norm="ortho").abs()
