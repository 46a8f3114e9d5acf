"""3x3 convolutions with half of the products (Winograd's short convolutions, along the rows).

Four neighbouring outputs of a row need six pixels, ``y_k = sum_r w_r x_{k+r}``: a product of polynomials, read
backwards. Such a product is known from its values at six points, here 0, 1, -1, 2, -2 and infinity, and at each of
them it costs one multiplication. Where twelve products were there are six (Lavin and Gray, "Fast algorithms for
convolutional neural networks", 2016, equation 5):

    y = A^T ((G w) * (B^T x)).

With many channels the sums and differences of ``B^T x`` and ``A^T m`` hardly count beside the products. Down the
columns the convolution stays as it was: at each of the six points it is 3x1, and the six are the groups of one
convolution. Doing the same down the columns would leave a quarter of the products; but its sums take as long as what it
spares where channels are fewer than 256, and its kernels are twice as large.

Rows are taken in blocks whose points stay in the cache. Round-off grows: measured three times that of the direct
convolution, 2e-5 of the output's standard deviation.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rddm.nn.packed import Packed, packs

OUTPUTS, POINTS = 4, 6
G24 = ((6, 0, 0), (-4, -4, -4), (-4, 4, -4), (1, 2, 4), (1, -2, 4), (0, 0, 24))  # 24 G, in whole numbers
WIDE = 192  # channels in and out; with fewer the sums take what the products spare
BLOCK = 1 << 19  # values at the points taken together: 2 MB


def pays(conv: nn.Conv2d) -> bool:
    """Tell whether a convolution takes less time this way: 3x3, in float32 on an x86 CPU, and with many channels.

    Of other numbers of channels than multiples of 64 oneDNN makes a slow convolution where the image is small.
    """
    shape = conv.kernel_size, conv.stride, conv.padding, conv.groups
    wide = conv.in_channels + conv.out_channels >= WIDE and conv.in_channels % 64 == conv.out_channels % 64 == 0
    fit = shape == ((3, 3), (1, 1), (1, 1), 1) and conv.weight.dtype == torch.float32
    return fit and wide and packs(conv.weight) and torch.backends.cpu.get_cpu_capability().startswith("AVX")


class Winograd(nn.Module):
    """A 3x3 convolution, stride 1, of images padded by one pixel of zeros."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        weight = conv.weight.detach()
        kernels = torch.einsum("pr,ocdr->pocd", torch.tensor(G24, dtype=torch.float64), weight.double()) / 24
        channels, self.out_channels = conv.in_channels, conv.out_channels
        points = nn.Conv2d(POINTS * channels, POINTS * self.out_channels, (3, 1), groups=POINTS, device="meta")
        points.weight = nn.Parameter(kernels.to(weight.dtype).flatten(0, 1)[..., None], requires_grad=False)
        bias = torch.zeros(POINTS, self.out_channels, dtype=weight.dtype)
        if conv.bias is not None:
            bias[1] = conv.bias.detach()  # the point 1 enters every output once
        points.bias = nn.Parameter(bias.flatten(), requires_grad=False)
        self.points = Packed(points)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H, W), channels last."""
        height, width, channels = *x.shape[2:], x.shape[1]
        pixels = x.movedim(1, -1).contiguous()
        if width % OUTPUTS:  # a copy
            pixels = F.pad(pixels, (0, 0, 0, -width % OUTPUTS))
        pixels = pixels.unflatten(2, (-1, OUTPUTS))
        result = x.new_empty(*pixels.shape[:-1], self.out_channels)
        fours = pixels.shape[2]
        blocks = -(-height // max(1, BLOCK // (POINTS * fours * channels) - 2))
        rows = -(-height // blocks)
        values = x.new_empty(rows + 2, fours, POINTS, channels)
        spare = x.new_empty(2, (rows + 2) * fours * max(channels, self.out_channels))
        for image, out in zip(pixels, result):
            for first in range(0, height, rows):
                self.block(image, out[first : first + rows], first, values, spare)
        return result.flatten(2, 3)[:, :, :width].movedim(-1, 1)

    def block(self, image: Tensor, out: Tensor, first: int, values: Tensor, spare: Tensor) -> None:
        """Convolve the rows of an image (H, W/4, 4, C) that are needed for the rows ``out`` from ``first`` on."""
        values = values[: len(out) + 2]
        start, end = max(first - 1, 0), min(first + len(out) + 1, len(image))
        inside = values[start - first + 1 : end - first + 1]  # all but rows of zeros above and below the image
        values[: start - first + 1] = 0
        values[end - first + 1 :] = 0
        at_points(image[start:end], inside, spare)
        products = self.points(values.flatten(2).movedim(-1, 0)[None])[0].movedim(0, -1)
        from_points(products.unflatten(-1, (POINTS, -1)), out, spare)


def like(spare: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Return two tensors of a shape in the memory of ``spare`` (2, n)."""
    one, other = (part[: shape.numel()].view(shape) for part in spare)
    return one, other


def at_points(x: Tensor, values: Tensor, spare: Tensor) -> None:
    """Write ``B^T x`` of pixels (h, w, 4, C) with a neighbour on either side as values (h, w, 6, C)."""
    add = torch.add
    (x1, x2, x3, x4), (v0, v1, v2, v3, v4, v5) = x.unbind(2), values.unbind(2)
    even, odd = like(spare, x1.shape)
    add(x4, x2, alpha=-4, out=even)
    add(x3, x1, alpha=-4, out=odd)
    add(even, odd, out=v1)
    add(even, odd, alpha=-1, out=v2)
    add(even, x2, alpha=-1, out=v0)
    v0[:, 1:].add_(x4[:, :-1], alpha=4)  # x0, the pixel before: 4 x0 - 5 x2 + x4
    add(x4, x2, alpha=-1, out=even)
    add(x3, x1, alpha=-1, out=odd)
    add(even, odd, alpha=2, out=v3)
    add(even, odd, alpha=-2, out=v4)
    add(x3, odd, alpha=4, out=v5).neg_()
    v5[:, :-1].add_(x1[:, 1:])  # x5, the pixel after: 4 x1 - 5 x3 + x5


def from_points(products: Tensor, out: Tensor, spare: Tensor) -> None:
    """Write ``A^T m`` of products (h, w, 6, C'), which are overwritten, as outputs (h, w, 4, C')."""
    add = torch.add
    (m0, m1, m2, m3, m4, m5), (y0, y1, y2, y3) = products.unbind(2), out.unbind(2)
    one, two = like(spare, m0.shape)
    add(m1, m2, out=one)
    add(m3, m4, out=two)
    add(m0.add_(one), two, out=y0)
    add(one, two, alpha=4, out=y2)
    m1.sub_(m2)
    m3.sub_(m4)
    add(m1, m3, alpha=2, out=y1)
    add(m5.add_(m1), m3, alpha=8, out=y3)
