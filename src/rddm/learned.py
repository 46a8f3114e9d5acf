"""Metrics whose judge is a trained network: LPIPS, FID, KID and the Inception score.

LPIPS measures a pair: the squared distance of the unit-length features of five layers of AlexNet, or VGG16, weighted by
channel and averaged over pixels. The others measure sets, by the features of Inception v3: FID is the distance of the
Gaussians fitted to them, ``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))``; KID the unbiased squared distance of their
means in the space of the kernel ``(x.y / d + 1)^3``; the Inception score ``exp E KL(p(y|x) || p(y))`` of the classes.

The networks are written in plain torch under the names that their published weight files use (``rddm.weights``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from rddm.errors import UserError
from rddm.inception import Classes, FidKid, inception_classes, inception_fid
from rddm.matlab import Bytes
from rddm.metrics import check_shapes, ms_ssim, unit_range
from rddm.weights import found_weights, load_weights, weights_file

LEAST = 31  # pixels on a side that AlexNet's layers can take
FETCH = "`rddm weights lpips` fetches it"
ALEXNET = "alexnet-owt-7be5be79.pth"  # torchvision's
HEADS = "alex.pth"  # of LPIPS 0.1; torchmetrics brings them


class Trunk(nn.Module):
    """A classifier's convolutions, named as in torchvision's file: returns what some of its ReLUs give."""

    def __init__(self, layers: Sequence[nn.Module], told: Sequence[int]) -> None:
        super().__init__()
        self.features, self.told = nn.Sequential(*layers), set(told)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the layers for normalised images (B, 3, H, W), at least ``LEAST`` pixels on each side."""
        layers = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.told:
                layers.append(x)
        return layers


def alexnet() -> Trunk:
    """Return AlexNet's convolutions (Krizhevsky 2014), told after each of its five ReLUs."""
    pool = nn.MaxPool2d(3, 2)
    layers = [
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), pool,
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), pool,
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
    ]  # fmt: skip
    return Trunk(layers, [i for i, layer in enumerate(layers) if isinstance(layer, nn.ReLU)])


def vgg16() -> Trunk:
    """Return VGG16's convolutions (Simonyan and Zisserman 2015), told after the last ReLU of each of its five sizes."""
    layers, told, channels = [], [], 3
    for width, count in zip(VGG16_WIDTHS, (2, 2, 3, 3, 3), strict=True):
        layers += [nn.MaxPool2d(2)] if layers else []
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        told.append(len(layers) - 1)
    return Trunk(layers, told)


ALEXNET_WIDTHS, VGG16_WIDTHS = (64, 192, 384, 256, 256), (64, 128, 256, 512, 512)


class Heads(nn.Module):
    """LPIPS's weights of the channels of each layer, named as in its file."""

    def __init__(self, widths: Sequence[int] = ALEXNET_WIDTHS) -> None:
        super().__init__()
        self.count = len(widths)
        for index, width in enumerate(widths):
            head = nn.Module()
            head.model = nn.Sequential(nn.Dropout(), nn.Conv2d(width, 1, 1, bias=False))
            setattr(self, f"lin{index}", head)

    def weights(self) -> list[Tensor]:
        """Return the five weights, each (1, channels, 1, 1)."""
        return [self.state_dict()[f"lin{index}.model.1.weight"] for index in range(self.count)]


@dataclass(frozen=True)
class Lpips:
    """LPIPS 0.1 (Zhang et al., CVPR 2018): 0 for equal images, the lower the nearer.

    Arguments:
        trunk: AlexNet or VGG16.
        heads: the weights of its channels.
    """

    trunk: Trunk
    heads: Heads

    def __call__(self, a: Bytes, b: Bytes) -> float:
        """Return the distance of two RGB images (H, W, 3) of 8 bits; ValueError unless of one size and large enough."""
        check_shapes(a, b, LEAST)
        with torch.inference_mode():
            return float(self.distance(unit_range(a) * 2 - 1, unit_range(b) * 2 - 1))

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the mean distance of images in [-1, 1], (B, 3, H, W); differentiable, for training."""
        layers = zip(self.trunk(standard(a)), self.trunk(standard(b)), self.heads.weights(), strict=True)
        return torch.stack([(head * (unit(x) - unit(y)) ** 2).sum(1).mean() for x, y, head in layers]).sum()

    def to(self, device: torch.device) -> "Lpips":
        """Return the metric on a device."""
        return Lpips(self.trunk.to(device), self.heads.to(device))


def standard(images: Tensor) -> Tensor:
    """Return images in [-1, 1] shifted and scaled as LPIPS does, (B, 3, H, W)."""
    shift, scale = (images.new_tensor(v).view(3, 1, 1) for v in ([-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]))
    return (images - shift) / scale


def unit(x: Tensor) -> Tensor:
    """Return features divided by their length at each pixel."""
    return x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)


@dataclass(frozen=True)
class Judge:
    """A network of LPIPS.

    Arguments:
        file: where its weights and its heads' lie, see ``rddm.weights_lpips``.
        trunk: makes the network.
        widths: channels of the layers that it tells.
    """

    file: str
    trunk: Callable[[], Trunk]
    widths: tuple[int, ...]

    def networks(self) -> tuple[Trunk, Heads]:
        """Return network and heads, with fresh weights."""
        return self.trunk(), Heads(self.widths)


JUDGES = {
    "lpips": Judge("lpips-alexnet.safetensors", alexnet, ALEXNET_WIDTHS),
    "lpips-vgg": Judge("lpips-vgg16.safetensors", vgg16, VGG16_WIDTHS),
}


def lpips(name: str = "lpips") -> Lpips:
    """Return LPIPS with the weights on disk: those that ``rddm weights lpips`` left, or the published files.

    Arguments:
        name: one of ``JUDGES``; the published files are looked for with AlexNet alone.

    Raises:
        UserError: if they are not there or do not fit.
    """
    judge = JUDGES[name]
    trunk, heads = judge.networks()
    if name == "lpips" and found_weights(judge.file) is None and found_weights(ALEXNET) is not None:
        load_weights(trunk, weights_file(ALEXNET), ("classifier.",))
        load_weights(heads, weights_file(HEADS, shipped_heads()))
        return Lpips(trunk, heads)
    file = weights_file(judge.file, advice=FETCH)
    load_weights(trunk, file, ("lin",))
    load_weights(heads, file, ("features.",))
    return Lpips(trunk, heads)


def has_lpips() -> bool:
    """Tell whether LPIPS with AlexNet can be computed: its weights are on disk."""
    published = found_weights(ALEXNET) and found_weights(HEADS, shipped_heads())
    return bool(found_weights(JUDGES["lpips"].file) or published)


def shipped_heads() -> list[Path]:
    """Return the folder in which torchmetrics brings the heads, if it is installed."""
    package = find_spec("torchmetrics")
    folders = package.submodule_search_locations if package else None
    return [Path(folder) / "functional" / "image" / "lpips_models" for folder in folders or ()]


class PairMetric(Protocol):
    """A metric of an output and its target."""

    def __call__(self, a: Bytes, b: Bytes, /) -> float:
        """Return the figure."""
        ...


class SetMetric(Protocol):
    """A metric of all outputs and targets, taken in one by one."""

    def add(self, output: Bytes, target: Bytes) -> None:
        """Take in an image."""
        ...

    def result(self) -> dict[str, float]:
        """Return the figures; ValueError if there are too few images."""
        ...


class Extras(NamedTuple):
    """Metrics beside those of the protocol: of pairs by name, and of sets."""

    pairs: dict[str, PairMetric]
    sets: list[SetMetric]


def extra_metrics(names: Sequence[str]) -> Extras:
    """Return the metrics of the given names.

    Raises:
        UserError: if there is none of a name, or its weights are not on disk.
    """
    of_pairs = {"ms-ssim": lambda: ms_ssim, **{name: partial(lpips, name) for name in JUDGES}}
    of_sets = {"fid": lambda: FidKid(inception_fid()), "is": lambda: Classes(inception_classes())}
    wanted = list(dict.fromkeys("fid" if name == "kid" else name for name in names))  # one network gives both
    unknown = [name for name in wanted if name not in of_pairs and name not in of_sets]
    if unknown:
        raise UserError(f"--also: found {unknown[0]!r}, expected some of {', '.join([*of_pairs, 'fid', 'kid', 'is'])}")
    pairs: dict[str, PairMetric] = {name: of_pairs[name]() for name in wanted if name in of_pairs}
    return Extras(pairs, [of_sets[name]() for name in wanted if name in of_sets])
