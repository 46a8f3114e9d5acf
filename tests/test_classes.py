"""Guidance to a class: exact with a perfect classifier of two kinds of images, and with a small trained one."""

import pytest
import torch
from posterior import (
    DDPM,
    F64,
    PATH,
    PIXELS,
    SHAPE,
    Correlated,
    drawn,
)
from torch import Tensor

from rddm.errors import UserError
from rddm.guidance import (
    Classifier,
    ClassifierFree,
    Guidance,
)
from rddm.path import Node, gaussian
from rddm.prediction import Prediction
from rddm.sample import sample


def two_kinds(v: float = 0.25) -> tuple["GaussianMixture", Correlated, Tensor]:
    """Return the denoiser of images of two kinds, ``N(m, v)`` and ``N(-m, v)``, that of the first alone, and ``m``."""
    m = drawn(PIXELS, seed=8)
    kinds = tuple(Correlated(sign * m, v * torch.eye(PIXELS, dtype=F64)) for sign in (1, -1))
    return GaussianMixture(kinds, m, v), kinds[0], m


class GaussianMixture:
    """The exact denoiser of two kinds of images, and the exact classifier."""

    def __init__(self, kinds: tuple[Correlated, ...], m: Tensor, v: float) -> None:
        self.kinds, self.m, self.v = kinds, m, v

    def logits(self, x_t: Tensor, node: Node) -> Tensor:
        a, c = float(1 - node.abar), float(node.bbar)
        score = 2 * a * (x_t.flatten(1) @ self.m) / (a**2 * self.v + c**2)
        return torch.stack([score, torch.zeros_like(score)], 1)

    def __call__(self, x_t: Tensor, x_in: Tensor, node: Node) -> Prediction:
        chances = self.logits(x_t, node).softmax(1)
        parts = [kind(x_t, x_in, node) for kind in self.kinds]
        weights = [chance.view(-1, 1, 1, 1) for chance in chances.unbind(1)]
        return Prediction(*(sum(w * part for w, part in zip(weights, pair)) for pair in zip(*parts)))  # pyright: ignore


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_a_perfect_classifier_gives_the_estimate_of_the_class(t: float) -> None:
    mixture, first, _ = two_kinds()
    node, x_t = PATH.node(t), drawn(3, *SHAPE, seed=9)
    zeros = torch.zeros_like(x_t)
    with torch.inference_mode():
        guided = Classifier(mixture.logits, torch.tensor([0])).correct(mixture(x_t, zeros, node), x_t, node)
    for found, expected in zip(guided, first(x_t, zeros, node), strict=True):
        assert (found - expected).abs().max() < 1e-10  # measured 1e-13
    free = ClassifierFree(mixture, 1.0).correct(first(x_t, zeros, node), x_t, node)
    assert all((found - expected).abs().max() < 1e-12 for found, expected in zip(free, first(x_t, zeros, node)))
    none = ClassifierFree(mixture, 0.0).correct(first(x_t, zeros, node), x_t, node)
    assert torch.allclose(none.x_0, mixture(x_t, zeros, node).x_0)


def test_a_small_trained_classifier_guides_to_its_class() -> None:
    mixture, _, m = two_kinds(1.0)
    random = torch.Generator().manual_seed(0)
    net = torch.nn.Linear(PIXELS + 1, 2, dtype=F64)
    torch.nn.init.zeros_(net.weight)
    optimiser = torch.optim.Adam(net.parameters(), 0.05)

    def logits(x_t: Tensor, node: Node) -> Tensor:
        clock = torch.as_tensor(node.bbar, dtype=F64).flatten().expand(len(x_t))[:, None]
        return net(torch.cat([x_t.flatten(1), clock], 1))

    for _ in range(60):
        label = torch.randint(2, (128,), generator=random)
        x_0 = (1 - 2 * label)[:, None] * m + torch.randn(128, PIXELS, generator=random, dtype=F64)
        node = PATH.at(1 - torch.rand(128, generator=random, dtype=F64), x_0)
        x_t = (1 - node.abar) * x_0 + node.bbar * torch.randn(128, PIXELS, generator=random, dtype=F64)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(logits(x_t, node), label).backward()
        optimiser.step()
    zeros = torch.zeros(400, *SHAPE, dtype=F64)
    shares = []
    for guidance in (Guidance(), Classifier(logits, torch.tensor([1]))):
        x = sample(mixture, zeros, PATH.grid(30), DDPM, gaussian(torch.Generator().manual_seed(3)), guidance=guidance)
        shares.append(float((x.flatten(1) @ m < 0).double().mean()))
    assert 0.4 < shares[0] < 0.6 and shares[1] > 0.9  # measured 0.49 and 0.99
    with pytest.raises(UserError, match=r"^classifier: found labels \[2\], expected 0 to 1$"):
        sample(mixture, zeros[:1], PATH.grid(3), DDPM, guidance=Classifier(logits, torch.tensor([2])))
