"""Networks that fit rows of the table: as many channels and heads as a row needs, told what it tells."""

from collections.abc import Mapping
from dataclasses import replace

from rddm.methods import Method
from rddm.nn.compact import CompactConfig
from rddm.nn.unet import UNetConfig


def fitted(
    network: CompactConfig | UNetConfig, method: Method, channels: Mapping[str, int] | None = None
) -> CompactConfig | UNetConfig:
    """Return a network's shape with the channels and heads that a row of the table needs.

    Its inputs have as many channels as the output, or those that ``channels`` tells by name.
    """
    every, heads = network.out_channels, method.target.heads
    shown = every + sum((channels or {}).get(name, every) for name in method.inputs)
    if isinstance(network, CompactConfig):
        context = 48 if "quantiles" in method.context else 0
        side = (network.thumbnail or 32) if "thumbnail" in method.context else 0
        nets = min(network.nets, heads)
        return replace(network, in_channels=shown, heads=heads, nets=nets, context=context, thumbnail=side)
    kind = "one" if heads == 1 else "two_heads" if network.heads == "one" else network.heads
    return replace(network, in_channels=shown, heads=kind)
