"""Muon: the step is orthogonal, kernels and the rest move by their own rules, and a resumed run goes on to the bit."""

from copy import deepcopy

import torch
from torch import nn

from rddm.muon import LEAST, REST, SCALE, Muon, is_kernel, orthogonalised


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(24, 32, 3), nn.SiLU(), nn.Conv2d(32, 32, 3), nn.SiLU(), nn.Conv2d(32, 3, 3))


def gradients(net: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    net(torch.randn(2, 24, 12, 12, generator=generator)).square().mean().backward()


def test_singular_values_come_near_one() -> None:
    generator = torch.Generator().manual_seed(0)
    low_rank = torch.randn(2, 40, 3, generator=generator) @ torch.randn(2, 3, 90, generator=generator)
    for matrices in (torch.randn(3, 40, 90, generator=generator), torch.randn(3, 90, 40, generator=generator)):
        values = torch.linalg.svdvals(orthogonalised(matrices).float())
        assert 0.6 < values.min() and values.max() < 1.3  # measured .68 to 1.14
    values = torch.linalg.svdvals(orthogonalised(low_rank).float())
    assert values[:, :3].min() > 0.6 and values[:, 3:].max() < 1e-3  # measured .68 and 1.3e-5: none is made up


def test_direction_is_that_of_the_polar_factor() -> None:
    matrix = torch.randn(1, 32, 64, generator=torch.Generator().manual_seed(1))
    u, _, v = torch.linalg.svd(matrix[0], full_matrices=False)
    ours = orthogonalised(matrix)[0].float()
    cosine = (ours * (u @ v)).sum() / ours.norm() / (u @ v).norm()
    assert cosine > 0.98  # measured .99


def test_first_step_has_the_size_of_adams() -> None:
    net = network()
    before = net[2].weight.detach().clone()
    optimiser = Muon(net.parameters(), lr=1e-3, weight_decay=0.0)
    gradients(net, 0)
    optimiser.step()
    moved = (net[2].weight - before).square().mean().sqrt()
    assert 0.7 * SCALE < moved / 1e-3 < 1.3 * SCALE


def test_what_is_no_kernel_moves_by_adamw() -> None:
    net, twin = network(), network()
    muon = Muon(net.parameters(), lr=1e-2, weight_decay=0.1)
    rest = [weight for weight in twin.parameters() if not is_kernel(weight)]
    adamw = torch.optim.AdamW(rest, lr=REST * 1e-2, betas=(0.9, 0.99), weight_decay=0.1)
    assert [is_kernel(weight) for weight in net.parameters()] == [True, False, True, False, False, False]
    assert LEAST == 16
    for model, optimiser in ((net, muon), (twin, adamw)):
        gradients(model, 0)
        optimiser.step()
    for ours, theirs in zip(net.parameters(), twin.parameters()):
        assert torch.allclose(ours, theirs, atol=1e-7) is not is_kernel(ours)


def test_resumed_goes_on_to_the_bit() -> None:
    net, twin = network(), network()
    one, other = Muon(net.parameters()), Muon(twin.parameters())
    for seed in range(3):
        gradients(net, seed)
        one.step()
        one.zero_grad()
    twin.load_state_dict(net.state_dict())
    other.load_state_dict(deepcopy(one.state_dict()))
    for model, optimiser in ((net, one), (twin, other)):
        gradients(model, 3)
        optimiser.step()
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters()))


def test_weights_without_gradient_stay() -> None:
    net = network()
    net[0].requires_grad_(False)
    before = net[0].weight.clone()
    optimiser = Muon(net.parameters())
    gradients(net, 0)
    optimiser.step()
    assert torch.equal(net[0].weight, before)
