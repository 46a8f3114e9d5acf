"""Where the outputs that are evaluated come from: files of anyone's, or a model that restores photos as it goes.

The degraded photos of a model come from files, or are made of the targets, each with a generator of its own, so that no
image depends on the number or the order of the others.
"""

import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from rddm import protocols
from rddm.cost import MemoryWatch, counted_calls, gmacs, parameters, total_gmacs
from rddm.inpaint import hidden, inpaint
from rddm.matlab import Bytes
from rddm.model import Model, companion_of
from rddm.photo import Pixels, from_float, to_float
from rddm.protocols import Case, read_rgb
from rddm.restore import check_size, wants_mask
from rddm.stages import restored
from rddm.testsets import Picture


class Cost(NamedTuple):
    """What restoring one image took: seconds, the process's peak in bytes, multiply-accumulates in units of 10^9."""

    seconds: float
    memory: int
    gmacs: float


class Produced(NamedTuple):
    """An output, the degraded photo it was made from, its cost and a mask (H, W) that was drawn, where known."""

    output: Bytes
    degraded: Bytes | None = None
    cost: Cost | None = None
    mask: Bytes | None = None


class Source(Protocol):
    """Where outputs come from."""

    @property
    def label(self) -> str:
        """What the figures are called by, beside the protocol."""
        ...

    @property
    def facts(self) -> dict[str, float]:
        """What is known of it beforehand: parameters and the like."""
        ...

    def __call__(self, case: Case, target: Bytes, seed: int) -> Produced:
        """Return the output of one image; ValueError or UserError if there is none."""
        ...


@dataclass(frozen=True)
class Outputs:
    """Images that somebody has made.

    Arguments:
        label: their folder.
        inputs: the degraded photos by name, to be shown beside; none if empty.
    """

    label: str
    inputs: Mapping[str, Picture]

    @property
    def facts(self) -> dict[str, float]:
        """Nothing."""
        return {}

    def __call__(self, case: Case, target: Bytes, seed: int) -> Produced:
        """Read the output."""
        assert case.other is not None
        degraded = self.inputs.get(case.name)
        return Produced(read_rgb(case.other), None if degraded is None else read_rgb(degraded))


class Given(NamedTuple):
    """What a model is given: a degraded photo, and a mask (H, W, 3) where there is one."""

    photo: Bytes
    mask: Bytes | None = None


Degrade = Callable[[Case, Bytes], Given]


@dataclass(frozen=True)
class Restorer:
    """A model that restores degraded photos.

    Arguments:
        model: the model.
        label: its name.
        protocol: what is done to a photo before.
        degrade: where the degraded photo comes from.
        steps: network calls; the model's own number if None.
        realism: how far its second stage goes, 0 to 1.
    """

    model: Model
    label: str
    protocol: protocols.Protocol
    degrade: Degrade
    steps: int | None = None
    realism: float = 0.0

    @property
    def facts(self) -> dict[str, float]:
        """Parameters, of both stages where there are two, and the multiply-accumulates of a call at 256x256."""
        return {"parameters": sum(map(parameters, self.stages)), "gmacs-256": gmacs(self.model)}

    @property
    def stages(self) -> list[Model]:
        """The models that take part."""
        return [self.model, companion_of(self.model)] if self.realism else [self.model]

    def __call__(self, case: Case, target: Bytes, seed: int) -> Produced:
        """Restore the photo, and weigh it; ValueError if photo and target do not fit each other."""
        given = self.degrade(case, target)
        photo, mask = self.protocol.photo(given.photo), self.shown(given, case)
        self.protocol.align(photo, target)
        device, stages = next(self.model.parameters()).device, self.stages
        with ExitStack() as counting, MemoryWatch(device) as memory:
            calls = [counting.enter_context(counted_calls(stage.net)) for stage in stages]
            start = time.perf_counter()
            output = self.restored(photo, mask, seed)
            seconds = time.perf_counter() - start
        cost = Cost(seconds, memory.peak, sum(map(total_gmacs, stages, calls)))
        return Produced(output.astype(np.uint8), photo, cost, None if given.mask is None else given.mask[..., 0])

    def shown(self, given: Given, case: Case) -> Bytes | None:
        """Return the mask (H, W) that the model is shown, None if it wants none; UserError if it does not fit."""
        if given.mask is None or not wants_mask(self.model.spec):
            return None
        check_size(given.mask, *given.photo.shape[:2], name=str(case.mask or case.name))
        return self.protocol.photo(given.mask)[..., 0]

    def restored(self, photo: Bytes, mask: Bytes | None, seed: int) -> Pixels:
        """Return the restored photo; a model that fills holes keeps what is known."""
        if mask is not None and self.model.spec.prepare == "fill":
            return inpaint(self.model, photo, mask, self.steps, seed)
        shown = None if mask is None else mask[..., None]
        return restored(self.model, photo, self.steps, seed, shown, self.realism)


def read_degraded(case: Case, target: Bytes) -> Given:
    """Return the degraded photo on disk, and its mask if there is one."""
    assert case.other is not None
    return Given(read_rgb(case.other), None if case.mask is None else read_rgb(case.mask))


def hide_target(case: Case, target: Bytes) -> Given:
    """Return the target with grey in the holes of its mask on disk."""
    assert case.mask is not None
    mask = read_rgb(case.mask)
    check_size(mask, *target.shape[:2], name=str(case.mask))
    return Given(hidden(target, mask[..., 0]).astype(np.uint8), mask)


def made_degraded(text: str, seed: int) -> Degrade:
    """Return what makes the degraded photo from the target, in 8 bits, random by the seed and the image's name.

    The mask is the one on disk, or else the degradation's own, such as where a shadow falls. Noise that leaves the
    range of a photo (``awgn``, that of published tables) is clipped before the model sees it, which any method may do:
    then it is ``noise``, to the bit.

    Arguments:
        text: as ``rddm.degradations.parse`` reads it, "noise(25)".
        seed: of the degradation.

    Raises:
        UserError: if the text names no degradation.
    """
    from rddm.degradations import parse

    chain = parse(text)

    def degrade(case: Case, target: Bytes) -> Given:
        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{case.name}".encode()))
        made = chain(torch.from_numpy(to_float(target)).permute(2, 0, 1), generator)
        image, mask = made.image, None if made.mask is None else made.mask.expand(3, -1, -1)
        drawn = None if mask is None else bytes_of(mask)
        return Given(bytes_of(image), drawn if case.mask is None else read_rgb(case.mask))

    return degrade


def bytes_of(image: Tensor) -> Bytes:
    """Return an image (3, H, W) in [0, 1] in 8 bits."""
    return from_float(image.permute(1, 2, 0).numpy(), np.uint8).astype(np.uint8)
