"""Statistics pooled over the image: taken once from the whole photograph, used for every tile.

Group norms and attention let each pixel depend on all others through a summary: a mean and a variance, a context
matrix, the keys and values. Cut a photograph into tiles and each tile has a summary of its own; the tiles disagree and
seams show. So a layer that pools asks for its summary through :meth:`Pooled.summary`. A sampler first walks a reduced
copy of the whole photograph and writes down every summary on a :class:`Tape`; then it plays the tape for each tile.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rddm.nn.spatial import over

Summary: TypeAlias = "tuple[Tensor, ...]"


class Tape:
    """The summaries of one walk through a sampler, in the order in which the layers were called."""

    def __init__(self) -> None:
        self.summaries: list[Summary] = []
        self.playing = False
        self.position = 0

    def next(self, make: Callable[[], Summary]) -> Summary:
        """Make and write down a summary while recording; return the next written one while playing."""
        if not self.playing:
            self.summaries.append(make())
            return self.summaries[-1]
        self.position += 1
        return self.summaries[self.position - 1]


class Pooled(nn.Module):
    """A layer that needs a summary of the whole image, its own or a tape's."""

    tape: Tape | None = None

    def summary(self, make: Callable[[], Summary]) -> Summary:
        """Return ``make()``, or what the tape holds instead."""
        return make() if self.tape is None else self.tape.next(make)


class GroupNorm(Pooled):
    """Group normalisation; the summary is each group's mean and variance."""

    def __init__(self, groups: int, channels: int, eps: float) -> None:
        super().__init__()
        norm = nn.GroupNorm(groups, channels, eps)
        self.weight, self.bias, self.groups, self.eps = norm.weight, norm.bias, groups, eps

    def moments(self, x: Tensor) -> Summary:
        """Return means and variances, each (B, groups, 1), in at least float32."""
        grouped = (x.float() if x.dtype.itemsize < 4 else x).unflatten(1, (self.groups, -1)).flatten(2)
        return grouped.mean(2, keepdim=True), grouped.var(2, keepdim=True, correction=0)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, *spatial) to the same shape; without a tape through torch's fused kernel."""
        if self.tape is None:
            return F.group_norm(x, self.groups, self.weight, self.bias, self.eps)
        mean, variance = (
            m.repeat_interleave(x.shape[1] // self.groups, 1) for m in self.summary(lambda: self.moments(x))
        )
        scale = (variance + self.eps).rsqrt() * self.weight[:, None]
        shift = self.bias[:, None] - mean * scale
        return torch.addcmul(over(shift[..., 0].to(x.dtype), x), x, over(scale[..., 0].to(x.dtype), x))


def pools(net: nn.Module) -> bool:
    """Tell whether a network pools anything over the image."""
    return any(isinstance(module, Pooled) for module in net.modules())


@contextmanager
def on_tape(net: nn.Module, tape: Tape | None) -> Iterator[None]:
    """Let the network's layers write to an empty tape, or play a written one from its start; None leaves them be."""
    if tape is not None:
        tape.playing, tape.position = bool(tape.summaries), 0
    layers = [module for module in net.modules() if isinstance(module, Pooled)]
    for layer in layers:
        layer.tape = tape
    try:
        yield
    finally:
        for layer in layers:
            layer.tape = None
