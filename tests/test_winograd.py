"""Convolutions with half of the products: the same function, whatever the size, the blocks and the batch."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rddm.nn import winograd
from rddm.nn.fused import quickest
from rddm.nn.packed import Packed
from rddm.nn.winograd import Winograd


def conv(inside: int, outside: int, bias: bool = True) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(inside, outside, 3, padding=1, bias=bias).requires_grad_(False)


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (5, 3), (8, 8), (7, 18), (33, 21)])
@pytest.mark.parametrize(("inside", "outside"), [(3, 5), (6, 2)])
@pytest.mark.parametrize("block", [1, 600, 1 << 20])
def test_the_convolution_is_exact(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], inside: int, outside: int, block: int
) -> None:
    """A block of one row, some rows, all rows."""
    monkeypatch.setattr(winograd, "BLOCK", block)
    exact = conv(inside, outside).double()
    x = torch.randn(2, inside, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = exact(x)
    found = Winograd(exact)(x.contiguous(memory_format=torch.channels_last))
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) < 1e-13  # measured: 2.3e-15


def test_without_a_bias() -> None:
    exact, x = conv(4, 4, bias=False).double(), torch.ones(1, 4, 5, 8, dtype=torch.float64)
    assert torch.allclose(Winograd(exact)(x), exact(x), rtol=0, atol=1e-13)


def test_round_off_grows_little() -> None:
    exact, x = conv(128, 128), torch.randn(1, 128, 40, 40, generator=torch.Generator().manual_seed(1))
    truth = F.conv2d(x.double(), exact.weight.double(), exact.bias.double(), padding=1)  # type: ignore[union-attr]
    direct, found = (float((made(x) - truth).abs().max() / truth.std()) for made in (Packed(exact), Winograd(exact)))
    assert found < 6 * direct and found < 1e-4  # measured: 3 times, 1.9e-5


def test_only_where_it_pays() -> None:
    """Wide 3x3 convolutions of stride 1, in float32."""
    assert isinstance(quickest(conv(64, 128)), Winograd)
    others = (
        conv(64, 64),
        conv(96, 96),
        conv(128, 128).double(),
        nn.Conv2d(128, 128, 3, 2, 1),
        nn.Conv2d(128, 128, 3, 1, 0),
        nn.Conv2d(128, 128, 4, 1, 1),
        nn.Conv2d(128, 128, 3, 1, 1, groups=2),
    )
    assert all(isinstance(quickest(other), Packed) for other in others)
