"""JPEG as an operator: what a file of a given quality keeps of a picture."""

import math

import torch
from torch import Tensor

from rddm.errors import UserError
from rddm.operators.base import Shape, check

# ITU-T T.81, tables K.1 and K.2, row by row
LUMA = """16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"""
CHROMA = """17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99"""
COLOURS = torch.tensor(  # ITU-R BT.601, full range: Y, Cb, Cr from R, G, B
    [[0.299, 0.587, 0.114], [-0.299 / 1.772, -0.587 / 1.772, 0.5], [0.5, -0.587 / 1.402, -0.114 / 1.402]],
    dtype=torch.float64,
)


class Jpeg:
    """The picture that is read back, colours at full resolution (4:4:4), before it is rounded to 8 bits.

    Not linear: coefficients of 8x8 blocks are rounded. Rounding passes gradients as if it were not there, which makes
    the operator differentiable; ``A_dagger`` is a stand-in, the picture as it was read (compressing it again changes
    nothing), and there is no adjoint.

    Arguments:
        shape: of an image, (3, H, W), sides that are multiples of 8.
        quality: of libjpeg, 1 to 100.

    Raises:
        UserError: if the quality or the shape is none.
    """

    def __init__(self, shape: Shape, quality: float) -> None:
        self.name, self.shape = f"jpeg({quality:g})", shape
        if not 1 <= quality <= 100:
            raise UserError(f"{self.name}: found quality {quality:g}, expected 1 to 100")
        if shape[0] != 3 or shape[1] % 8 or shape[2] % 8:
            found = f"{shape[0]} channels of {shape[1]}x{shape[2]} pixels"
            raise UserError(f"{self.name}: found {found}, expected 3 of multiples of 8")
        scale = 5000 / quality if quality < 50 else 200 - 2 * quality
        tables = torch.tensor([[*map(float, table.split())] for table in (LUMA, CHROMA, CHROMA)], dtype=torch.float64)
        self.steps = ((tables * scale + 50) / 100).floor().clamp(1, 255).view(3, 1, 1, 8, 8)

    def A(self, x: Tensor) -> Tensor:
        """Return the pictures (B, 3, H, W) in [-1, 1] as they are read back."""
        check(self.name, "an image", x, self.shape)
        colours, waves, steps = COLOURS.to(x), cosines().to(x), self.steps.to(x)
        values = rounded(torch.einsum("kc,bchw->bkhw", colours, x * 127.5) - offset(x))
        blocks = values.unfold(2, 8, 8).unfold(3, 8, 8)  # (B, 3, H / 8, W / 8, 8, 8)
        coefficients = rounded(waves @ blocks @ waves.T / steps)
        blocks = rounded(waves.T @ (coefficients * steps) @ waves).clamp(-128, 127)
        values = blocks.permute(0, 1, 2, 4, 3, 5).reshape(x.shape) + offset(x)
        return (torch.einsum("kc,bchw->bkhw", torch.linalg.inv(colours), values) / 127.5).clamp(-1, 1)

    def A_dagger(self, y: Tensor) -> Tensor:
        """Return the pictures as they were read."""
        check(self.name, "a measurement", y, self.shape)
        return y


def offset(x: Tensor) -> Tensor:
    """Return by how much a file's zero, 128 of 255, lies above ours, 127.5: in the luma alone, (3, 1, 1)."""
    return torch.tensor([0.5, 0.0, 0.0], dtype=x.dtype, device=x.device).view(3, 1, 1)


def rounded(x: Tensor) -> Tensor:
    """Return whole numbers, with the gradient of ``x``."""
    return x + (x.round() - x).detach()


def cosines() -> Tensor:
    """Return the orthonormal cosine transform of 8 values, (8, 8)."""
    k, n = torch.meshgrid(*(torch.arange(8, dtype=torch.float64),) * 2, indexing="ij")
    matrix = torch.cos(math.pi * (n + 0.5) * k / 8) / 2
    matrix[0] /= math.sqrt(2)
    return matrix
