"""Inception v3 and the scores of sets of images that are made of it: FID, KID and the Inception score.

The network is Szegedy et al.'s (2016) in two versions. FID's is the original of 2015 as pytorch-fid ported it: its
average pools leave the padding out, the last one takes the maximum, and it has 1008 classes. torchvision's averages
over the padding and has 1000. Their names agree, so one module loads either file, each with its pools.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from rddm.matlab import Bytes
from rddm.metrics import unit_range
from rddm.weights import load_weights, weights_file

INCEPTION_FID = "pt_inception-2015-12-05-6726825d.pth"  # pytorch-fid's port of the original network
INCEPTION = "inception_v3_google-0cc3c7bd.pth"  # torchvision's


class Pool(Protocol):
    """A pool of 3x3 pixels at stride 1 that keeps the size."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return the pooled features."""
        ...


inner_average: Pool = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
padded_average: Pool = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1)
maximum: Pool = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)


class Conv(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(self, inside: int, out: int, size: int | tuple[int, int], stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        around = (size[0] // 2, size[1] // 2) if isinstance(size, tuple) else padding
        self.conv = nn.Conv2d(inside, out, size, stride, around, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features."""
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches side by side; a branch is a chain of convolutions, and a chain may end in a fork of two.

    Arguments:
        shapes: of the convolutions by name, ``(inside, out, size, stride, padding)``.
        pool: what comes before "branch_pool"; None for a block that halves the image by a maximum beside the branches.
        chains: names of the convolutions of each branch; a tuple as last entry is a fork.
    """

    def __init__(self, shapes: dict[str, tuple], pool: Pool | None, *chains: tuple) -> None:
        super().__init__()
        self.chains, self.pool = chains, pool
        for name, shape in shapes.items():
            setattr(self, name, Conv(*shape))

    def forward(self, x: Tensor) -> Tensor:
        """Return the branches' features, one after the other."""
        outputs = []
        for chain in self.chains:
            y = self.pool(x) if self.pool is not None and chain == ("branch_pool",) else x
            for link in chain:
                parts = [getattr(self, name)(y) for name in ((link,) if isinstance(link, str) else link)]
                y = torch.cat(parts, 1)
            outputs.append(y)
        if self.pool is None:
            outputs.append(F.max_pool2d(x, 3, 2))
        return torch.cat(outputs, 1)


def block_35(inside: int, pooled: int, pool: Pool) -> Mixed:
    """Return a block at 35x35 pixels."""
    shapes = {
        "branch1x1": (inside, 64, 1),
        "branch5x5_1": (inside, 48, 1), "branch5x5_2": (48, 64, 5, 1, 2),
        "branch3x3dbl_1": (inside, 64, 1), "branch3x3dbl_2": (64, 96, 3, 1, 1), "branch3x3dbl_3": (96, 96, 3, 1, 1),
        "branch_pool": (inside, pooled, 1),
    }  # fmt: skip
    double = ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")
    return Mixed(shapes, pool, ("branch1x1",), ("branch5x5_1", "branch5x5_2"), double, ("branch_pool",))


def block_to_17() -> Mixed:
    """Return the block from 35x35 to 17x17 pixels."""
    shapes = {
        "branch3x3": (288, 384, 3, 2),
        "branch3x3dbl_1": (288, 64, 1), "branch3x3dbl_2": (64, 96, 3, 1, 1), "branch3x3dbl_3": (96, 96, 3, 2),
    }  # fmt: skip
    return Mixed(shapes, None, ("branch3x3",), ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"))


def block_17(width: int, pool: Pool) -> Mixed:
    """Return a block at 17x17 pixels, whose 7x7 kernels are split in rows and columns."""
    row, column = (1, 7), (7, 1)
    shapes = {
        "branch1x1": (768, 192, 1),
        "branch7x7_1": (768, width, 1), "branch7x7_2": (width, width, row), "branch7x7_3": (width, 192, column),
        "branch7x7dbl_1": (768, width, 1), "branch7x7dbl_2": (width, width, column),
        "branch7x7dbl_3": (width, width, row), "branch7x7dbl_4": (width, width, column),
        "branch7x7dbl_5": (width, 192, row),
        "branch_pool": (768, 192, 1),
    }  # fmt: skip
    single, double = (tuple(f"{name}_{i + 1}" for i in range(n)) for name, n in (("branch7x7", 3), ("branch7x7dbl", 5)))
    return Mixed(shapes, pool, ("branch1x1",), single, double, ("branch_pool",))


def block_to_8() -> Mixed:
    """Return the block from 17x17 to 8x8 pixels."""
    shapes = {
        "branch3x3_1": (768, 192, 1), "branch3x3_2": (192, 320, 3, 2),
        "branch7x7x3_1": (768, 192, 1), "branch7x7x3_2": (192, 192, (1, 7)), "branch7x7x3_3": (192, 192, (7, 1)),
        "branch7x7x3_4": (192, 192, 3, 2),
    }  # fmt: skip
    long = tuple(f"branch7x7x3_{i + 1}" for i in range(4))
    return Mixed(shapes, None, ("branch3x3_1", "branch3x3_2"), long)


def block_8(inside: int, pool: Pool) -> Mixed:
    """Return a block at 8x8 pixels, whose branches fork."""
    row, column = (1, 3), (3, 1)
    shapes = {
        "branch1x1": (inside, 320, 1),
        "branch3x3_1": (inside, 384, 1), "branch3x3_2a": (384, 384, row), "branch3x3_2b": (384, 384, column),
        "branch3x3dbl_1": (inside, 448, 1), "branch3x3dbl_2": (448, 384, 3, 1, 1),
        "branch3x3dbl_3a": (384, 384, row), "branch3x3dbl_3b": (384, 384, column),
        "branch_pool": (inside, 192, 1),
    }  # fmt: skip
    single = ("branch3x3_1", ("branch3x3_2a", "branch3x3_2b"))
    double = ("branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b"))
    return Mixed(shapes, pool, ("branch1x1",), single, double, ("branch_pool",))


class Inception(nn.Module):
    """Inception v3 from 299x299 pixels to 2048 features and to classes.

    Arguments:
        classes: how many.
        pool: the pool inside the blocks.
        last: the pool inside the last block.
    """

    def __init__(self, classes: int, pool: Pool, last: Pool) -> None:
        super().__init__()
        self.Conv2d_1a_3x3, self.Conv2d_2a_3x3 = Conv(3, 32, 3, 2), Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, 1, 1)
        self.Conv2d_3b_1x1, self.Conv2d_4a_3x3 = Conv(64, 80, 1), Conv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = (
            block_35(inside, pooled, pool) for inside, pooled in ((192, 32), (256, 64), (288, 64))
        )
        self.Mixed_6a = block_to_17()
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (block_17(w, pool) for w in (128, 160, 160, 192))
        self.Mixed_7a, self.Mixed_7b, self.Mixed_7c = block_to_8(), block_8(1280, pool), block_8(2048, last)
        self.fc = nn.Linear(2048, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (B, 2048) of images (B, 3, H, W), resized to 299x299 by bilinear interpolation."""
        x = F.interpolate(x, (299, 299), mode="bilinear")
        x = F.max_pool2d(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))), 3, 2)
        x = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, 2)
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                x = block(x)
        return x.mean((2, 3))


def inception_fid() -> Inception:
    """Return FID's network with the weights on disk; UserError if they are not there or do not fit."""
    net = Inception(1008, inner_average, maximum)
    load_weights(net, weights_file(INCEPTION_FID))
    return net


def inception_classes() -> Inception:
    """Return torchvision's network with the weights on disk; UserError if they are not there or do not fit."""
    net = Inception(1000, padded_average, padded_average)
    load_weights(net, weights_file(INCEPTION), ("AuxLogits.",))
    return net


def frechet(a: NDArray, b: NDArray) -> float:
    """Return FID of two sets of features (N, D) and (M, D), float64: 0 for equal sets.

    ``tr (S1 S2)^(1/2)`` is the sum of the singular values of ``A^T B`` for centred features ``A``, ``B`` over the
    roots of their numbers less one: the root of a product needs no root of a matrix. Source: Heusel et al., NeurIPS
    2017.
    """
    centred = [(x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (a, b)]
    between = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
    spread = sum(float((x**2).sum()) for x in centred)
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + spread - 2 * between)


def kernel_distance(a: NDArray, b: NDArray, subsets: int = 100, size: int = 1000) -> float:
    """Return KID of two sets of features (N, D), which may be a little below 0.

    Sets of at most ``size`` are taken whole, larger ones as the mean over ``subsets`` random subsets with seed 0.
    Source: Binkowski et al., Demystifying MMD GANs, ICLR 2018.
    """
    if max(len(a), len(b)) <= size:
        return squared_mmd(a, b)
    random = np.random.default_rng(0)
    draws = ([x[random.choice(len(x), min(size, len(x)), replace=False)] for x in (a, b)] for _ in range(subsets))
    return float(np.mean([squared_mmd(x, y) for x, y in draws]))


def squared_mmd(a: NDArray, b: NDArray) -> float:
    """Return the unbiased squared distance of the means of two sets under the cubic kernel."""
    aa, bb, ab = (((x @ y.T) / a.shape[1] + 1) ** 3 for x, y in ((a, a), (b, b), (a, b)))
    n, m = len(a), len(b)
    inside = (aa.sum() - np.trace(aa)) / (n * (n - 1)) + (bb.sum() - np.trace(bb)) / (m * (m - 1))
    return float(inside - 2 * ab.mean())


def inception_score(logits: NDArray, splits: int = 10) -> tuple[float, float]:
    """Return mean and standard deviation over splits of ``exp E KL(p(y|x) || p(y))`` for logits (N, classes).

    Source: Salimans et al., Improved techniques for training GANs, NeurIPS 2016.
    """
    shifted = logits - logits.max(1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    scores = []
    for part in np.array_split(logs, min(splits, len(logs))):
        marginal = np.log(np.exp(part).mean(0))
        scores.append(np.exp((np.exp(part) * (part - marginal)).sum(1).mean()))
    return float(np.mean(scores)), float(np.std(scores))


@dataclass(frozen=True)
class FidKid:
    """FID and KID of outputs against targets: images are added one by one, as pytorch-fid shows them, in [-1, 1]."""

    net: Inception
    outputs: list[NDArray] = field(default_factory=list)
    targets: list[NDArray] = field(default_factory=list)

    def add(self, output: Bytes, target: Bytes) -> None:
        """Take in a pair of RGB images (H, W, 3)."""
        for image, features in ((output, self.outputs), (target, self.targets)):
            with torch.inference_mode():
                features.append(self.net(unit_range(image) * 2 - 1)[0].double().numpy())

    def result(self) -> dict[str, float]:
        """Return "fid" and "kid"; ValueError for less than two images."""
        if len(self.outputs) < 2:
            raise ValueError(f"found {len(self.outputs)} images, expected at least two for fid and kid")
        sets = np.stack(self.outputs), np.stack(self.targets)
        return {"fid": frechet(*sets), "kid": kernel_distance(*sets)}


@dataclass(frozen=True)
class Classes:
    """The Inception score of outputs, as the paper computes it: inputs in [0, 1], 1000 classes, 10 splits."""

    net: Inception
    logits: list[NDArray] = field(default_factory=list)

    def add(self, output: Bytes, target: Bytes) -> None:
        """Take in an output (H, W, 3); the target has no part."""
        with torch.inference_mode():
            self.logits.append(self.net.fc(self.net(unit_range(output)))[0].double().numpy())

    def result(self) -> dict[str, float]:
        """Return "is", the mean over splits."""
        return {"is": inception_score(np.stack(self.logits))[0]}
