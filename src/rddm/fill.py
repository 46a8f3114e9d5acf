"""A first guess for what is missing: holes filled smoothly from their rims.

A network that is shown grey in a hole has to carry colours across it before it can think of texture. Colours are easily
carried without one, from coarse to fine (pull and push: Gortler et al., The Lumigraph, SIGGRAPH 1996, section 3.4):
average what is known over blocks of 2x2 until nothing is missing, then enlarge level by level and put back what is
known. A few averages over neighbours at each level take the blocks' edges off.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rddm.photo import Pixels, from_float, to_float

ROUNDS = 4  # averages over 3x3 at each level


def smooth_fill(pixels: Pixels, mask: Pixels) -> Pixels:
    """Return a photo whose missing pixels vary smoothly between the known ones; these are kept to the bit.

    Arguments:
        pixels: (H, W, C), uint8 or uint16; what it holds where the mask is not 0 does not matter.
        mask: (H, W), 0 is known; something must be.
    """
    missing = torch.from_numpy(mask > 0).float()[None, None]
    image = torch.from_numpy(to_float(pixels)).permute(2, 0, 1)[None]
    filled = from_float(pushed(image * (1 - missing), missing)[0].permute(1, 2, 0).numpy(), pixels.dtype)
    return np.where(mask[..., None] > 0, filled, pixels)


def pushed(image: Tensor, missing: Tensor) -> Tensor:
    """Return ``image`` (1, C, H, W), 0 where ``missing`` (1, 1, H, W) is 1, with its holes filled."""
    if not missing.any() or max(image.shape[2:]) == 1:
        return image
    known = F.avg_pool2d(1 - missing, 2, ceil_mode=True, count_include_pad=False)
    coarse = F.avg_pool2d(image, 2, ceil_mode=True, count_include_pad=False) / known.clamp_min(1e-6)
    coarse = pushed(coarse, (known == 0).float())
    image = image + missing * F.interpolate(coarse, size=image.shape[2:], mode="bilinear")
    for _ in range(ROUNDS):
        image = torch.lerp(image, F.avg_pool2d(image, 3, 1, 1, count_include_pad=False), missing)
    return image
