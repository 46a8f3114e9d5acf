"""Where the outputs that are evaluated come from: files of anyone's, or a model that restores photos as it goes.

The degraded photos of a model come from files, or are made of the targets, each with a generator of its own, so that no
image depends on the number or the order of the others.
"""

import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from rddm import protocols
from rddm.cost import MemoryWatch, counted_calls, gmacs, parameters, total_gmacs
from rddm.inpaint import inpaint
from rddm.matlab import Bytes
from rddm.model import Model
from rddm.photo import Pixels, from_float, to_float
from rddm.protocols import Case, read_rgb
from rddm.restore import check_size, prepare, run, wants_mask


class Cost(NamedTuple):
    """What restoring one image took: seconds, the process's peak in bytes, multiply-accumulates in units of 10^9."""

    seconds: float
    memory: int
    gmacs: float


class Produced(NamedTuple):
    """An output, the degraded photo it was made from and its cost, where they are known."""

    output: Bytes
    degraded: Bytes | None = None
    cost: Cost | None = None


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
    inputs: Mapping[str, Path]

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
    """

    model: Model
    label: str
    protocol: protocols.Protocol
    degrade: Degrade
    steps: int | None = None

    @property
    def facts(self) -> dict[str, float]:
        """Parameters, and the multiply-accumulates of a call at 256x256."""
        return {"parameters": parameters(self.model), "gmacs-256": gmacs(self.model)}

    def __call__(self, case: Case, target: Bytes, seed: int) -> Produced:
        """Restore the photo, and weigh it; ValueError if photo and target do not fit each other."""
        given = self.degrade(case, target)
        photo, mask = self.protocol.photo(given.photo), self.shown(given, case)
        self.protocol.align(photo, target)
        device = next(self.model.parameters()).device
        with counted_calls(self.model.net) as calls, MemoryWatch(device) as memory:
            start = time.perf_counter()
            output = self.restored(photo, mask, seed)
            seconds = time.perf_counter() - start
        return Produced(output.astype(np.uint8), photo, Cost(seconds, memory.peak, total_gmacs(self.model, calls)))

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
        names = () if mask is None else ("mask",)
        job = prepare(self.model, *photo.shape[:2], steps=self.steps, seed=seed, given=names)
        return run(job, photo, mask=None if mask is None else mask[..., None])


def read_degraded(case: Case, target: Bytes) -> Given:
    """Return the degraded photo on disk, and its mask if there is one."""
    assert case.other is not None
    return Given(read_rgb(case.other), None if case.mask is None else read_rgb(case.mask))


def made_degraded(text: str, seed: int) -> Degrade:
    """Return what makes the degraded photo from the target, in 8 bits, random by the seed and the image's name.

    The mask is the one on disk, or else the degradation's own, such as where a shadow falls.

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
        if float(image.min()) < 0 or float(image.max()) > 1:
            raise ValueError(f"{text} leaves the range of a photo, expected one that does not, such as noise(25)")
        drawn = None if mask is None else bytes_of(mask)
        return Given(bytes_of(image), drawn if case.mask is None else read_rgb(case.mask))

    return degrade


def bytes_of(image: Tensor) -> Bytes:
    """Return an image (3, H, W) in [0, 1] in 8 bits."""
    return from_float(image.permute(1, 2, 0).numpy(), np.uint8).astype(np.uint8)
