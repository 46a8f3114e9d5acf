"""The compact network: its cost counted in full, any size, what it is told, and that it pools nothing."""

import pytest
import torch
from models import restoring_model
from torch.utils.flop_counter import FlopCounterMode

import rddm
from rddm.nn.compact import Compact, CompactConfig
from rddm.nn.pooled import pools

CONFIG = CompactConfig(in_channels=9, context=48, thumbnail=32)


def test_costs_less_than_the_paper_prints() -> None:
    """At most 7.73 M parameters and 32.9 GMACs at 256x256, counted in full; the bundled model is such a network."""
    model = rddm.load("low-light")
    config = model.spec.network
    parameters = sum(p.numel() for p in model.parameters())
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        Compact(config)(torch.empty(1, config.in_channels, 256, 256), torch.empty(1, config.told))
    gmacs = counter.get_total_flops() / 2e9
    assert parameters <= 7.73e6 and gmacs <= 32.9
    assert parameters == model.spec.card["parameters"] and gmacs == pytest.approx(
        model.spec.card["gmacs_256"], abs=1e-3
    )


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (16, 16), (33, 50)])
def test_any_size_and_several_heads(size: tuple[int, int]) -> None:
    net = Compact(CompactConfig(in_channels=6, heads=2, widths=(8, 16), blocks=(1, 1)))
    outputs = net(torch.randn(2, 6, *size), torch.tensor([3.0, 999.0]))
    assert [output.shape for output in outputs] == [(2, 3, *size)] * 2


def test_what_it_is_told_matters_and_is_told_per_image() -> None:
    net = restoring_model(CONFIG).net
    x, told = torch.randn(2, 9, 16, 16), torch.rand(2, CONFIG.told)
    (before,) = net(x, told)
    for column in (0, 1, 1 + CONFIG.context):  # the clock, a quantile, a pixel of the thumbnail
        other = told.clone()
        other[0, column] += 0.5
        (after,) = net(x, other)
        assert not torch.allclose(before[0], after[0]) and torch.allclose(before[1], after[1], atol=1e-6)


def test_nothing_is_pooled() -> None:
    """A change at one corner does not reach the other: 256 pixels are beyond the reach of all convolutions."""
    net = restoring_model(CONFIG).net
    x, told = torch.randn(1, 9, 64, 512), torch.rand(1, CONFIG.told)
    other = x.clone()
    other[..., :16] += 1
    difference = (net(x, told)[0] - net(other, told)[0]).abs().amax((0, 1, 2))
    assert difference[:16].max() > 0 and difference[272:].max() == 0
    assert not pools(net)


def test_half_precision_keeps_the_clock() -> None:
    net = Compact(CompactConfig(widths=(8, 16), blocks=(1, 1))).bfloat16()
    assert net(torch.zeros(1, 6, 8, 8, dtype=torch.bfloat16), torch.tensor([999]))[0].dtype == torch.bfloat16
