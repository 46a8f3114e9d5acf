"""One, two or three spatial dimensions: what depends on their number, for images (B, C, *spatial) throughout.

A signal is (B, C, L), a photograph (B, C, H, W), a video or a volume (B, C, D, H, W).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CONV: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
LAYOUT = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d}  # that convolutions want


def check_dims(dims: int) -> None:
    """Check a number of spatial dimensions.

    Raises:
        ValueError: unless it is 1, 2 or 3.
    """
    if dims not in CONV:
        raise ValueError(f"dims is {dims!r}, expected 1 (signals), 2 (photographs) or 3 (videos, volumes)")


def over(values: Tensor, images: Tensor) -> Tensor:
    """Return values (B, C), one per image and channel, so that they broadcast against images (B, C', *spatial)."""
    return values[(..., *(None,) * (images.ndim - 2))]


def cropped(x: Tensor, size: Sequence[int]) -> Tensor:
    """Return the first ``size`` positions along the last axes."""
    return x[(..., *map(slice, size))]


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad (B, C, *spatial) at the axes' ends to multiples: by reflection, or by its edge where too small for that."""
    axes = x.ndim - 2
    for i in range(axes):
        size = x.shape[-1 - i]
        extra = -size % multiple
        if extra:
            mode = "reflect" if extra < size else "replicate"
            x = F.pad(x, [extra * (end == 2 * i + 1) for end in range(2 * axes)], mode=mode)
    return x


def unshuffle(x: Tensor, factor: int) -> Tensor:
    """Fold patches of side ``factor`` into channels: (B, C, n factor, ...) to (B, C factor^dims, n, ...)."""
    if x.ndim == 4:
        return F.pixel_unshuffle(x, factor)  # torch's own keeps channels last
    dims = x.ndim - 2
    parts = x.reshape(*x.shape[:2], *(part for side in x.shape[2:] for part in (side // factor, factor)))
    return parts.permute(0, 1, *range(3, 3 + 2 * dims, 2), *range(2, 2 + 2 * dims, 2)).flatten(1, 1 + dims)


def shuffle(x: Tensor, factor: int) -> Tensor:
    """Unfold what :func:`unshuffle` folded: (B, C factor^dims, n, ...) to (B, C, n factor, ...)."""
    if x.ndim == 4:
        return F.pixel_shuffle(x, factor)
    dims, size = x.ndim - 2, [factor * side for side in x.shape[2:]]
    parts = x.unflatten(1, (-1, *(factor,) * dims))
    pairs = (axis for i in range(dims) for axis in (2 + dims + i, 2 + i))
    return parts.permute(0, 1, *pairs).reshape(*parts.shape[:2], *size)
