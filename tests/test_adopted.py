"""A network may start in the weights of one that saw, was told or gave less: at first both are the same function."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rddm.nn.compact import Compact, CompactConfig
from rddm.trainer import adopted

SMALL = CompactConfig(widths=(8, 16), blocks=(1, 1), features=16)


def trained(config: CompactConfig, seed: int = 0) -> Compact:
    """Return a network none of whose weights is zero."""
    torch.manual_seed(seed)
    net = Compact(config)
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return net.eval()


def started(config: CompactConfig, first: Compact) -> Compact:
    """Return a fresh network of another shape that starts in the weights of the first."""
    torch.manual_seed(1)
    net = Compact(config)
    weights = adopted(net.state_dict(), first.state_dict())
    assert weights is not None
    net.load_state_dict(weights)
    return net.eval()


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({"in_channels": 9}, (3, 0)),
        ({"context": 5}, (0, 5)),
        ({"in_channels": 8, "context": 2}, (2, 2)),
        ({"blocks": (2, 3)}, (0, 0)),
        ({"heads": 2}, (0, 0)),
    ],
    ids=["sees a mask", "is told numbers", "sees and is told", "is deeper", "gives noise too"],
)
def test_at_first_nothing_changes(changes: dict[str, object], more: tuple[int, int]) -> None:
    first = trained(SMALL)
    net = started(replace(SMALL, **changes), first)
    x, clock = torch.randn(2, 6, 24, 20), torch.rand(2, 1)
    seen, told = torch.randn(2, more[0], 24, 20), torch.randn(2, more[1])
    before: Tensor = first(x, clock)[0]
    after: Tensor = net(torch.cat([x, seen], 1), torch.cat([clock, told], 1))[0]
    assert torch.allclose(before, after, atol=1e-5)  # measured: 0 to 9e-7
    assert before.std() > 0.1


def test_what_does_not_fit_is_refused() -> None:
    first = trained(SMALL).state_dict()
    for changes in ({"widths": (8, 24)}, {"features": 32}, {"in_channels": 3}, {"blocks": (0, 1)}):
        assert adopted(Compact(replace(SMALL, **changes)).state_dict(), first) is None
