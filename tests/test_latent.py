"""Refusion's latent: latent replacing learns, and a row runs in it."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from rddm.denoiser import NetworkDenoiser
from rddm.loss import losses
from rddm.methods import METHODS
from rddm.nn.compact import Compact, CompactConfig
from rddm.nn.latent import (
    LatentConfig,
    LatentUNet,
    latents,
    likeness,
    replacing_loss,
    restore_in_latent,
    train_latent,
)
from rddm.path import Node, gaussian
from rddm.prediction import TARGETS, Prediction, from_x_0
from rddm.solvers import Ancestral

ROW = METHODS["ir-sde"]


def images(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return smooth clean images and their dark halves with less contrast."""
    small = torch.rand(count, 3, 4, 4, generator=generator) * 1.8 - 0.9
    x_0 = F.interpolate(small, (16, 16), mode="bilinear")
    return x_0, 0.3 * x_0 - 0.6


@pytest.fixture(scope="module")
def trained() -> tuple[LatentUNet, list[float]]:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    net = LatentUNet(LatentConfig(3, 4, (12, 16)))
    history = train_latent(net, (images(8, generator) for _ in range(100)), 6e-3)
    return net, history


def test_latent_replacing_learns(trained: tuple[LatentUNet, list[float]]) -> None:
    """The loss falls by half; of the clean image's latent and the dark one's features comes the clean image."""
    net, history = trained
    x_0, x_in = images(8, torch.Generator().manual_seed(9))
    assert sum(history[-10:]) < sum(history[:10]) / 2  # measured 0.146, 0.752 each
    with torch.no_grad():
        clean, dark = net.encode(x_0), net.encode(x_in)
        own, replaced = net.decode(dark), net.decode(dark._replace(z=clean.z))
    assert F.l1_loss(own, x_in) < F.l1_loss(x_in, x_0) / 5  # measured 0.033, 0.605
    assert F.l1_loss(replaced, x_0) < F.l1_loss(x_in, x_0) / 5  # measured 0.089


class Knows:
    """A denoiser of latents that knows the clean one."""

    def __init__(self, z_0: torch.Tensor) -> None:
        self.z_0 = z_0

    def __call__(self, x_t: torch.Tensor, x_in: torch.Tensor, node: Node) -> Prediction:
        return from_x_0(self.z_0, x_t, x_in, node)


def test_a_row_is_sampled_in_the_latent(trained: tuple[LatentUNet, list[float]]) -> None:
    """With a denoiser that knows the answer the row brings the latent there, and the decoder makes the image of it."""
    net, _ = trained
    x_0, x_in = images(8, torch.Generator().manual_seed(9))
    z_0, z_in = latents(net, x_0, x_in)
    assert z_0.shape == z_in.shape == (8, 4, 8, 8)
    noise, solver = gaussian(torch.Generator().manual_seed(0)), Ancestral(ROW.gain, ROW.anchor)
    found = restore_in_latent(net, Knows(z_0), x_in, ROW.path.grid(10), noise, solver)
    assert found.shape == x_0.shape and F.l1_loss(found, x_0) < F.l1_loss(x_in, x_0) / 5


def test_a_network_for_the_row_learns_in_the_latent(trained: tuple[LatentUNet, list[float]]) -> None:
    """120 updates: the restored images are nearer to the clean ones than the dark ones are, by far.

    It is shown x_0: the row's own eps is divided by .005 where it starts, which takes far more updates to bear.
    """
    net, _ = trained
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(3)
    row = replace(ROW, target=TARGETS["x0"])
    shown = 4 * (1 + len(row.inputs))
    network = Compact(CompactConfig(shown, 4, row.target.heads, (16, 24), (1, 1), features=16))
    denoiser = NetworkDenoiser(network, row)
    optimiser = torch.optim.Adam(network.parameters(), 4e-3)
    for _ in range(120):
        z_0, z_in = latents(net, *images(8, generator))
        t = row.path.times(torch.rand(8, generator=generator, dtype=torch.float64))
        loss = losses(denoiser, z_0, z_in, t, gaussian(generator), F.l1_loss).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    x_0, x_in = images(8, torch.Generator().manual_seed(9))
    found = restore_in_latent(
        net, denoiser, x_in, row.path.grid(20), gaussian(generator), Ancestral(row.gain, row.anchor)
    )
    assert F.l1_loss(found, x_0) < F.l1_loss(x_in, x_0) / 2


def test_any_size_and_its_statistics() -> None:
    net = LatentUNet(LatentConfig(1, 2, (8, 8, 8)))
    x = torch.randn(2, 1, 13, 9, generator=torch.Generator().manual_seed(0))
    encoded = net.encode(x)
    assert encoded.z.shape == (2, 2, 4, 3) and encoded.size == (13, 9)
    assert net.decode(encoded).shape == x.shape
    z = torch.tensor([[1.0, 3.0], [0.0, 2.0]])  # means 2 and 1, deviations sqrt 2
    assert float(likeness(z, torch.zeros(2, 2))) == pytest.approx(1.5 + 2**0.5)
    assert float(likeness(z, z)) == pytest.approx(2**0.5 / 2)
    loss = replacing_loss(net, x, -x)
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
