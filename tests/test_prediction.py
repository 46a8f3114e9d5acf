"""Targets decode what they encode, on every path and node; singular nodes raise or give the mean, never a NaN."""

import pytest
import torch
from gaussian import F64, fine
from hypothesis import given, settings
from hypothesis import strategies as st

from rddm.clipping import CLIPS
from rddm.methods import METHODS
from rddm.path import LinearPath, Node, mix
from rddm.prediction import DISPLACEMENT, EPS, EPS_FLOORED, RES, TARGETS, VELOCITY, X0

SHAPE = (2, 3, 4, 5)


def images(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(SHAPE, dtype=F64, generator=generator) for _ in range(3))  # type: ignore[return-value]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(TARGETS)), st.sampled_from(sorted(METHODS)), st.floats(0.02, 0.98), st.integers(0, 99))
def test_decode_inverts_encode(target: str, row: str, t: float, seed: int) -> None:
    x_0, x_in, eps = images(seed)
    path = fine(METHODS[row].path)
    node, times = path.node(t), torch.tensor(t, dtype=F64)
    rate = tuple(float(r) for r in path.rate(times))
    x_t = mix(x_0, x_in - x_0, eps, node)
    if (target == "displacement/std" and not node.bbar) or (target == "displacement/root" and not node.abar):
        with pytest.raises(ZeroDivisionError, match=f"{target}: not determined where"):
            TARGETS[target].encode(x_0, x_in, eps, node, None)
        return
    outputs = TARGETS[target].encode(x_0, x_in, eps, node, rate)  # type: ignore[arg-type]
    found = TARGETS[target].decode(outputs, x_t, x_in, node, rate)  # type: ignore[arg-type]
    tolerance = 1e-9 / min(1.0, 1 - node.abar)
    assert (found.x_0 - x_0).abs().max() < tolerance
    assert (found.res - (x_in - x_0)).abs().max() < tolerance
    if node.bbar > 0:
        assert (found.eps - eps).abs().max() < tolerance / node.bbar
    else:
        assert torch.isfinite(found.eps).all()
    assert len(outputs) == TARGETS[target].heads


@pytest.mark.parametrize("row", METHODS)
def test_rates_are_numbers_on_every_path(row: str) -> None:
    rates = METHODS[row].path.rate(torch.linspace(0.02, 0.98, 7, dtype=F64))
    assert all(torch.isfinite(rate).all() for rate in rates)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["eps", "displacement/std"]), st.floats(0, 2))
def test_singular_nodes_raise_or_say_nothing(target: str, bbar: float) -> None:
    """At ``abar = 1``, for a batch and for one node: an error that says why, never a NaN."""
    x_0, x_in, eps = images(0)
    for node in (Node(1.0, bbar), Node(torch.ones(2, 1, 1, 1, dtype=F64), torch.full((2, 1, 1, 1), bbar, dtype=F64))):
        with pytest.raises(ZeroDivisionError, match="abar = 1"):
            TARGETS[target].decode((eps,), x_in + bbar * eps, x_in, node, None)


def test_a_preconditioned_network_may_say_anything_of_the_clean_image() -> None:
    x_0, x_in, eps = images(7)
    target = TARGETS["preconditioned"]
    for node in (Node(0.0, 0.0), Node(torch.zeros(2, 1, 1, 1, dtype=F64), torch.zeros(2, 1, 1, 1, dtype=F64))):
        assert not target.encode(x_0, x_in, eps, node, None)[0].any()
        assert (target.decode((eps,), x_0, x_in, node, None).x_0 - x_0).abs().max() < 1e-12
    end = Node(1.0, 0.0)  # where a bridge is pinned the network alone decides
    output = target.encode(x_0, x_in, eps, end, None)
    assert (target.decode(output, x_in, x_in, end, None).x_0 - x_0).abs().max() < 1e-12


@pytest.mark.parametrize("target", [X0, RES, DISPLACEMENT])
def test_no_noise_decodes_to_no_eps(target) -> None:  # noqa: ANN001
    x_0, x_in, _ = images(0)
    node = Node(0.6, 0.0)
    x_t = mix(x_0, x_in - x_0, torch.zeros(SHAPE, dtype=F64), node)
    found = target.decode(target.encode(x_0, x_in, torch.zeros_like(x_0), node, None), x_t, x_in, node, None)
    assert torch.equal(found.eps, torch.zeros_like(x_0)) and (found.x_0 - x_0).abs().max() < 1e-12


def test_eps_is_singular_at_the_degraded_image() -> None:
    x_0, x_in, eps = images(1)
    node = Node(1.0, 0.5)
    with pytest.raises(ZeroDivisionError, match="abar = 1"):
        EPS.decode((eps,), x_in + 0.5 * eps, x_in, node, None)
    batch = Node(torch.tensor([0.5, 1.0], dtype=F64).view(2, 1, 1, 1), 0.5)
    with pytest.raises(ZeroDivisionError, match="abar = 1"):
        EPS.decode((eps,), x_in + 0.5 * eps, x_in, batch, None)
    floored = EPS_FLOORED.decode((eps,), x_in + 0.5 * eps + 1e-3, x_in, node, None)
    assert (floored.x_0 - 1e3).abs().max() < 1e-6  # what the published 1e-6 does to an error of a thousandth


def test_velocity_without_a_rate_or_a_solution_raises() -> None:
    x_0, x_in, _ = images(2)
    with pytest.raises(ValueError, match="no rate"):
        VELOCITY.decode((x_0,), x_0, x_in, Node(0.5, 0.5), None)
    with pytest.raises(ZeroDivisionError, match="not determined"):
        VELOCITY.decode((x_0,), x_0, x_in, Node(1.0, 0.0), (0.0, 0.0))


def test_targets_work_with_one_node_per_image() -> None:
    """Training perturbs every image to a time of its own; decoding must broadcast alike."""
    x_0, x_in, eps = images(3)
    path, t = LinearPath(0.5), torch.tensor([0.3, 0.8], dtype=F64)
    node = path.at(t, x_0)
    d_abar, d_bbar = (r.view(2, 1, 1, 1) for r in path.rate(t))
    x_t = mix(x_0, x_in - x_0, eps, node)
    for target in TARGETS.values():
        outputs = target.encode(x_0, x_in, eps, node, (d_abar, d_bbar))
        found = target.decode(outputs, x_t, x_in, node, (d_abar, d_bbar))
        assert (found.x_0 - x_0).abs().max() < 1e-12, target.name


@pytest.mark.parametrize("clip", CLIPS)
def test_clipping_leaves_what_is_in_range(clip: str) -> None:
    x_0, x_in, eps = (x.clamp(-1, 1) / 2 for x in images(4))
    x_in, node = x_in.minimum(x_0), Node(0.4, 0.3)
    x_t = mix(x_0, x_in - x_0, eps, node)
    prediction = X0.decode((x_0,), x_t, x_in, node, None)
    for before, after in zip(prediction, CLIPS[clip](prediction, x_t, x_in, node)):
        assert (before - after).abs().max() < 1e-12


def test_a_longer_exposure_is_nowhere_darker() -> None:
    x_0, x_in, eps = images(6)
    x_in, node = x_in.clamp(-1, 1), Node(0.4, 0.3)
    x_t = mix(x_0, x_in - x_0, eps, node)
    clipped = CLIPS["brighter"](X0.decode((x_0,), x_t, x_in, node, None), x_t, x_in, node)
    assert (clipped.x_0 >= x_in).all() and clipped.x_0.max() <= 1
    free = (x_0 >= x_in) & (x_0 <= 1)
    assert free.any() and (clipped.x_0 - x_0)[free].abs().max() < 1e-12
    assert (mix(*clipped, node) - x_t).abs().max() < 1e-12


def test_our_clip_keeps_the_estimates_consistent() -> None:
    x_0, x_in, eps = images(5)
    node = Node(0.4, 0.3)
    x_t = mix(x_0, x_in - x_0, eps, node)
    clipped = CLIPS["x0"](X0.decode((3 * x_0,), x_t, x_in, node, None), x_t, x_in, node)
    assert clipped.x_0.abs().max() <= 1 and clipped.res.abs().max() > 1  # a residual spans [-2, 2]
    assert (mix(*clipped, node) - x_t).abs().max() < 1e-12
