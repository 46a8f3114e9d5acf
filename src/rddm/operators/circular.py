"""Blur by any kernel on a picture whose opposite borders touch: diagonal in the Fourier basis."""

import torch
from torch import Tensor

from rddm.errors import UserError
from rddm.operators.base import Decomposed, Shape, truncated


class CircularBlur(Decomposed):
    """Convolution with a kernel, what leaves at one border coming in at the opposite one.

    The singular values are the absolute values of the kernel's transform, and its phases belong to ``U``; coefficients
    are complex, (B, C, H, W).

    Arguments:
        shape: of an image, (C, H, W).
        kernel: (k, l), odd sides no longer than the image's.
        name: how complaints call it.

    Raises:
        UserError: if the kernel does not fit.
    """

    def __init__(self, shape: Shape, kernel: Tensor, name: str = "fft_blur") -> None:
        down, across = kernel.shape
        if down > shape[1] or across > shape[2] or not down % 2 or not across % 2:
            most = f"odd sides of at most {shape[1]}x{shape[2]}"
            raise UserError(f"{name}: found a kernel of {down}x{across} pixels, expected {most}")
        self.name, self.shape, self.measured = name, shape, shape
        whole = torch.zeros(shape[1:], dtype=torch.float64)
        whole[:down, :across] = kernel.double()
        spectrum = torch.fft.fft2(whole.roll((-(down // 2), -(across // 2)), (0, 1)))
        self.mask = truncated(symmetric(spectrum.abs()))[None, None]
        self.phase = torch.polar(torch.ones_like(self.mask), spectrum.angle())

    def U(self, x: Tensor) -> Tensor:
        """Return the measurements of coefficients."""
        return torch.fft.ifft2(self.phase.to(x) * x, norm="ortho").real

    def U_adjoint(self, x: Tensor) -> Tensor:
        """Return the coefficients of measurements."""
        spectrum = torch.fft.fft2(x, norm="ortho")
        return self.phase.conj().to(spectrum) * spectrum

    def V(self, x: Tensor) -> Tensor:
        """Return the images of coefficients."""
        return torch.fft.ifft2(x, norm="ortho").real

    def V_adjoint(self, x: Tensor) -> Tensor:
        """Return the coefficients of images."""
        return torch.fft.fft2(x, norm="ortho")


def symmetric(values: Tensor) -> Tensor:
    """Return values over frequencies (H, W) equal at opposite ones to the last bit, so that images stay real."""
    return (values + values.flip(0, 1).roll((1, 1), (0, 1))) / 2
