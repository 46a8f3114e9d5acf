"""AOSA: choose what a network should predict, the residual or the noise, from its first updates on a task.

A state ties the two readings together (paper, Eq. 16): ``u = x_t - x_in = bbar eps - (1 - abar) res``. The paper reads
the network's one output ``o`` as both, in the shares ``lambda`` and ``1 - lambda``, and learns ``lambda`` with it:

    res^ = lambda o + (1 - lambda) (bbar o - u) / (1 - abar),
    eps^ = lambda (u + (1 - abar) o) / bbar + (1 - lambda) o,        loss  lambda L_res + (1 - lambda) L_eps.

As soon as ``lambda`` is ``band`` away from a half, it is 1 (SM-Res) or 0 (SM-N), and training starts afresh. But

    eps^ - eps = w (res^ - res),        w = (1 - abar) / bbar,

for every ``o`` and ``lambda``: the losses are one error under two weights, and what moves ``lambda`` is how ``w`` is
spread along the path, whatever the task: on the published paths towards residuals, of generated images too, and with
squares and little noise towards noise, of restored ones too (``docs/aosa.md`` has the figures).

:func:`certainty` keeps ``lambda``, its band and the loop, and asks what the paper gives as the reason to choose: is
there one answer, or are there many? The sampler starts at ``x_T = x_in + bbar_T eps``, which holds nothing of ``x_0``
but what the input tells. A residual read there is the network's best guess; if the task has an answer, the guess
resembles its own ``x_0`` more than another image's. With ``p`` the share of such comparisons won, which is 1 where the
input tells the images apart and 1/2 where it tells nothing,

    L_res = 1 - p,        L_eps = p - 1/2,

are the distances from certainty and from chance; ``lambda`` leaves for residuals when ``p`` is above 3/4, midway.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rddm.denoiser import NetworkDenoiser
from rddm.loss import Batch, Distance
from rddm.methods import Method
from rddm.path import Node, mix
from rddm.prediction import EPS, EPS_FLOORED, RES, Outputs, Target, eps_from_res, x_0_from_eps

FLOOR = 1e-6  # stands for 1 - abar = 0 at t = 1, as published
Pair: TypeAlias = Callable[[NetworkDenoiser, Batch, Tensor], Tensor]


class Undecided(ValueError):
    """Lambda stayed within its band: no objective was chosen."""


@dataclass(frozen=True)
class Rule:
    """What moves lambda: gradient descent on ``lambda L_res + (1 - lambda) L_eps``, with Adam.

    Arguments:
        losses: ``(denoiser, batch, lambda) -> (L_res, L_eps)``, of shape (2,).
        lr: learning rate of the network.
        share_lr: learning rate of lambda; Adam's steps being no longer, it needs ``band / share_lr`` updates at least.
        accumulate: batches per update, whose losses are averaged.
        betas: Adam's.
        clip: bound of the norm of all gradients, lambda's included.
        band: how far from a half lambda decides.
    """

    losses: Pair
    lr: float
    share_lr: float
    accumulate: int = 1
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0
    band: float = 0.01


class Look(NamedTuple):
    """What one batch showed: lambda and the two losses."""

    share: float
    loss_res: float
    loss_eps: float


@dataclass(frozen=True)
class Choice:
    """The decision, for the checkpoint.

    Arguments:
        target: ``RES``, or ``EPS`` (``EPS_FLOORED`` on a path that ends at ``abar = 1``).
        decided: the update after which lambda was outside its band, counted from one.
        share: lambda then.
        trace: one look per batch before.
    """

    target: Target
    decided: int
    share: float
    trace: tuple[Look, ...]

    def record(self) -> dict[str, Any]:
        """Return the choice as numbers, names and lists."""
        trace = [list(look) for look in self.trace]
        return {"target": self.target.name, "decided": self.decided, "share": self.share, "trace": trace}


def blended(denoiser: NetworkDenoiser, batch: Batch, share: Tensor, distance: Distance) -> Tensor:
    """Return the losses of residual and noise when the network's output is read as both, of shape (2,).

    The formulae are this module's; ``x_0`` is clipped to [-1, 1] on the way from noise to residual, as published, since
    ``1 - abar`` is 0 (divided as 1e-6) at ``t = 1``. Source: paper, section 4.3 and Appendix B.2.

    Arguments:
        denoiser: a network of one output with its row, whose target is not asked.
        batch: images and draws.
        share: lambda, a scalar.
        distance: ``(output, truth) -> scalar``.

    Raises:
        ValueError: for a network of several outputs.
    """
    res, eps, x_in = batch.x_in - batch.x_0, batch.eps, batch.x_in
    node = denoiser.method.path.at(batch.t, batch.x_0)
    x_t = mix(batch.x_0, res, eps, node)
    out = only(denoiser.outputs(x_t, x_in, node))
    res_of_eps = x_in - x_0_from_eps(out, x_t, x_in, node, FLOOR).clamp(-1, 1)
    res_blend = share * out + (1 - share) * res_of_eps
    eps_blend = share * eps_from_res(out, x_t, x_in, node) + (1 - share) * out
    return torch.stack([distance(res_blend, res), distance(eps_blend, eps)])


def only(outputs: Outputs) -> Tensor:
    """Return the one output.

    Raises:
        ValueError: if there are several.
    """
    if len(outputs) != 1:
        raise ValueError(f"AOSA: found a network of {len(outputs)} outputs, expected 1 to be read as residual or noise")
    return outputs[0]


def told_apart(denoiser: NetworkDenoiser, batch: Batch, share: Tensor) -> Tensor:
    """Return ``1 - p`` and ``p - 1/2``, of shape (2,): ``p`` is how often a guess at the start resembles its own image.

    A rank has no gradient: the squared error of the residual stands in for that of ``1 - p`` (straight-through).

    Arguments:
        denoiser: a network of one output with its row, whose target is not asked.
        batch: at least two images and their draws; the times are replaced by the sampler's start.
        share: lambda, not asked.

    Raises:
        ValueError: for a network of several outputs, or a batch of one image, which has no other to be compared with.
    """
    if len(batch.x_0) < 2:
        raise ValueError("told_apart: found a batch of 1 image, expected at least 2, to compare with one another")
    bbar = denoiser.method.path.node(1.0).bbar
    node = Node(1.0, bbar, torch.ones_like(batch.t))
    res = only(denoiser.outputs(batch.x_in + bbar * batch.eps, batch.x_in, node))
    error = (res - (batch.x_in - batch.x_0)).square().mean()
    p = wins(batch.x_in - res.detach(), batch.x_0)
    return torch.stack([1 - p + (error - error.detach()), p - 0.5])


def wins(guesses: Tensor, images: Tensor) -> Tensor:
    """Return the share of pairs ``i != j`` for which guess i correlates with image i more than with j; ties count half.

    Each channel's mean is left out: how bright an image is may long be unknown when what it shows is not.
    """
    centred = (x - x.mean(tuple(range(2, x.ndim)), keepdim=True) for x in (guesses, images))
    rows = [F.normalize(x.flatten(1), dim=1) for x in centred]
    alike = rows[0] @ rows[1].T
    own = alike.diagonal()[:, None]
    won = (own > alike).to(alike) + 0.5 * (own == alike).to(alike)
    return (won.sum() - 0.5 * len(alike)) / (len(alike) * (len(alike) - 1))  # less the ties of i = j


def specified(distance: Distance, lr: float = 8e-5) -> Rule:
    """Return the paper's rule: :func:`blended`, one learning rate, two batches per update."""
    return Rule(lambda denoiser, batch, share: blended(denoiser, batch, share, distance), lr, lr, accumulate=2)


def certainty(lr: float = 1e-3, share_lr: float = 2.5e-5) -> Rule:
    """Return our rule: :func:`told_apart`, and a lambda that leaves the network 400 updates to learn in, at least."""
    return Rule(told_apart, lr, share_lr)


RULES: dict[str, Callable[[Distance], Rule]] = {"specified": specified, "certainty": lambda distance: certainty()}


def choose(net: nn.Module, method: Method, batches: Iterable[Batch], rule: Rule, limit: int = 1000) -> Choice:
    """Train a network until lambda leaves its band, and return the choice; deterministic given its arguments.

    Arguments:
        net: a network of one output; it is trained in place and should be made anew for the chosen target.
        method: its row; the target is not asked.
        batches: images and draws, ``rule.accumulate`` per update.
        rule: what moves lambda.
        limit: the most updates.

    Raises:
        Undecided: if lambda is still within its band after ``limit`` updates, or the batches have run out.
        ValueError: for a network of several outputs, and what the rule raises.
    """
    share = nn.Parameter(torch.full((), 0.5, dtype=next(net.parameters()).dtype, device=next(net.parameters()).device))
    groups = [{"params": list(net.parameters())}, {"params": [share], "lr": rule.share_lr}]
    optimiser = torch.optim.Adam(groups, lr=rule.lr, betas=rule.betas)
    trace: list[Look] = []
    decided = 0
    for together in islice(grouped(batches, rule.accumulate), limit):
        trace += update(net, method, together, rule, share, optimiser)
        decided += 1
        if abs(share.item() - 0.5) >= rule.band:
            return Choice(target_of(method, share.item()), decided, share.item(), tuple(trace))
    raise Undecided(
        f"AOSA: lambda is {share.item():.4f} after {decided} updates, expected {rule.band} from 0.5;"
        f" it moves by at most {rule.share_lr} an update"
    )


def update(
    net: nn.Module, method: Method, batches: list[Batch], rule: Rule, share: nn.Parameter, optimiser: torch.optim.Adam
) -> list[Look]:
    """Update network and lambda once, from the mean over ``batches``; return what each showed."""
    looks = []
    optimiser.zero_grad()
    for batch in batches:
        loss_res, loss_eps = rule.losses(NetworkDenoiser(net, method, batch.conditions), batch, share)
        looks.append(Look(share.item(), loss_res.item(), loss_eps.item()))
        ((share * loss_res + (1 - share) * loss_eps) / len(batches)).backward()
    nn.utils.clip_grad_norm_([*net.parameters(), share], rule.clip)
    optimiser.step()
    return looks


def grouped(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Yield lists of ``size`` batches; what is left over at the end is dropped."""
    queue = iter(batches)
    while len(group := list(islice(queue, size))) == size:
        yield group


def target_of(method: Method, share: float) -> Target:
    """Return the target that ``share`` decides for: the noise needs a floor where the path ends at ``abar = 1``."""
    if share > 0.5:
        return RES
    return EPS_FLOORED if method.path.node(1.0).abar == 1 else EPS
