"""The UNet2DModel of the ``diffusers`` package as a network of ours: its layers, called as ours are.

The package is imported where such a network is built, and nowhere else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rddm.errors import UserError
from rddm.nn.spatial import cropped, pad_to_multiple

CLOCKS = ("positional", "learned")  # "fourier" divides by the time, and its time is never 0


@dataclass(frozen=True)
class UNet2DConfig:
    """The shape of a :class:`UNet2D`.

    Arguments:
        fields: every field of the UNet2DModel's configuration, by name and value, lists as tuples.
    """

    fields: tuple[tuple[str, Any], ...]

    def __post_init__(self) -> None:
        """Sort the fields and check those that this package relies on.

        Raises:
            ValueError: for channels that are no numbers above 0, an unknown embedding of the time, or labels.
        """
        object.__setattr__(self, "fields", tuple(sorted((name, frozen(value)) for name, value in self.fields)))
        found = dict(self.fields)
        widths = found.get("block_out_channels")
        if not isinstance(widths, tuple) or not widths:
            raise ValueError(f"block_out_channels: found {widths!r}, expected one number for each level")
        for name in ("in_channels", "out_channels"):
            if not isinstance(found.get(name), int) or found[name] < 1:
                raise ValueError(f"{name}: found {found.get(name)!r}, expected a number above 0")
        if found.get("time_embedding_type") not in CLOCKS:
            raise ValueError(f"time_embedding_type: found {found.get('time_embedding_type')!r}, expected {CLOCKS}")
        for name in ("class_embed_type", "num_class_embeds"):
            if found.get(name) is not None:
                raise ValueError(f"{name}: found {found[name]!r}, expected null, a network that is told no classes")

    def __getitem__(self, name: str) -> Any:
        """Return the value of a field."""
        return dict(self.fields)[name]

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return self["in_channels"]

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self["out_channels"]

    @property
    def dims(self) -> int:
        """Spatial dimensions of the images."""
        return 2

    @property
    def stride(self) -> int:
        """Height and width are padded to a multiple of this."""
        return 2 ** (len(self["block_out_channels"]) - 1)

    @property
    def told(self) -> int:
        """How many numbers the network is told beside images: one, the index of its table of times."""
        return 1

    @property
    def side(self) -> int | None:
        """The side of the square images that the network was made for, None if it does not say."""
        sides = {self["sample_size"]} if not isinstance(self["sample_size"], tuple) else {*self["sample_size"]}
        return sides.pop() if len(sides) == 1 else None


def frozen(value: Any) -> Any:
    """Return a value of a JSON file with tuples for lists, all the way down."""
    return tuple(map(frozen, value)) if isinstance(value, (list, tuple)) else value


def unet2d_model() -> Callable[..., nn.Module]:
    """Return the class UNet2DModel.

    Raises:
        UserError: if the package is not installed, or cannot be imported.
    """
    try:
        from diffusers.models.unets.unet_2d import UNet2DModel
    except (ImportError, RuntimeError) as error:  # the package wraps what fails inside it in a RuntimeError
        reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
        message = "expected it for this network: pip install 'rddm[diffusers]'"
        raise UserError(f"diffusers: cannot be imported ({reason}), {message}") from None
    return UNet2DModel


def built(fields: Mapping[str, Any]) -> nn.Module:
    """Return a UNet2DModel with fresh weights.

    Raises:
        UserError: if the package is not installed.
        ValueError: for fields or values that it does not know.
    """
    model = unet2d_model()
    try:
        return model(**fields)
    except Exception as error:  # the package meets what it does not know with errors of any type
        raise ValueError((str(error).splitlines() or [type(error).__name__])[0][:150]) from None


def completed(fields: Mapping[str, Any]) -> UNet2DConfig:
    """Return a configuration with the package's defaults for the fields that are left out.

    Raises:
        UserError: if the package is not installed.
        ValueError: for fields or values that it or :class:`UNet2D` does not know.
    """
    with torch.device("meta"):
        known: Any = built(fields).config
    return UNet2DConfig(tuple((name, value) for name, value in known.items() if not name.startswith("_")))


class UNet2D(nn.Module):
    """The network, ``unet``: a UNet2DModel.

    Raises:
        UserError: if diffusers is not installed, or this version of it knows no such network.
    """

    def __init__(self, config: UNet2DConfig) -> None:
        super().__init__()
        self.config = config
        try:
            self.unet = built(dict(config.fields))
        except ValueError as error:
            raise UserError(f"UNet2DModel: {error}; converted by another version of diffusers?") from None

    def forward(self, x: Tensor, clock: Tensor) -> tuple[Tensor, ...]:
        """Return the one image that the network outputs.

        Arguments:
            x: images (B, in_channels, H, W) of any size.
            clock: (B,) or (B, 1): the index of the time, whole if the network has learned an embedding of each.
        """
        times = clock.reshape(len(x), -1)[:, 0]
        if self.config["time_embedding_type"] == "learned":
            times = times.long()
        (image,) = self.unet(pad_to_multiple(x, self.config.stride), times, return_dict=False)
        return (cropped(image, x.shape[2:]),)
