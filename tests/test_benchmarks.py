"""Benchmarks compare the same work: the plain network is the published one, and contenders are asked fairly."""

import copy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rddm.nn.unet import HEADS, UNet, UNetConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import photo
import side_by_side
from plain import PlainBlock, PlainConv, PlainFull, PlainLinear, plain

FAKE = """
import sys, time
print("ready", flush=True)
for i, _ in enumerate(sys.stdin):
    print({seconds} * (1 + i), flush=True)
print(1000, 1500 + int(sys.argv[1]))
"""


def fake(folder: Path, seconds: float) -> str:
    """Return the command of a contender that says it takes ever longer."""
    file = folder / f"fake-{seconds}.py"
    file.write_text(FAKE.format(seconds=seconds))
    return f"{sys.executable} {file}"


@pytest.mark.parametrize("heads", HEADS)
def test_the_plain_network_is_the_same_function(heads: str) -> None:
    torch.manual_seed(0)
    net = UNet(replace(UNetConfig(dim=16, mults=(1, 2, 3)), heads=heads)).double()
    for weight in net.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    x, clock = torch.randn(2, 6, 24, 16, dtype=torch.float64), torch.tensor([3.0, 700.0])
    slow = plain(copy.deepcopy(net))
    kinds = {type(part) for part in slow.modules()}
    assert {PlainConv, PlainBlock, PlainLinear, PlainFull} <= kinds
    for ours, theirs in zip(net(x, clock), slow(x, clock), strict=True):
        assert float((ours - theirs).detach().abs().max()) < 1e-11  # measured: 3e-14


def test_contenders_are_asked_in_turn(tmp_path: Path) -> None:
    slow, fast = fake(tmp_path, 0.3), fake(tmp_path, 0.1)
    found = side_by_side.side_by_side([slow, fast], 64, rounds=3)
    assert found[slow].seconds == pytest.approx([0.3, 0.6, 0.9]) and found[fast].median == pytest.approx(0.2)
    assert side_by_side.ratio(found, slow, fast) == pytest.approx(3.0)
    assert (found[slow].before, found[slow].peak, found[slow].grown) == (1000, 1564, 564)
    assert side_by_side.apart(found, slow, fast) != side_by_side.apart(found, slow, fast)  # none saved an output


def test_a_contender_that_fails_is_named() -> None:
    with pytest.raises(SystemExit, match="-c pass: expected the line 'ready'"):
        side_by_side.side_by_side([f"{sys.executable} -c pass"], 64)


def test_ours_answer() -> None:
    found = side_by_side.side_by_side(["low-light"], 64, rounds=2, threads=1)["low-light"]
    assert len(found.seconds) == 2 and 0 < found.before <= found.peak
    assert found.output is not None and found.output.shape == (1, 3, 64, 64)


def test_the_large_photo() -> None:
    picture = photo.large_photo(300, 200)
    assert picture.shape == (200, 300, 3) and 1 < picture.std() and picture.mean() < 60  # it is dark
