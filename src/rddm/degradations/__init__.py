"""Synthetic degradations, drawn on the fly: clean photographs become training pairs.

    degrade = parse("blur(0.5..2) + camera(400..6400) + jpeg(60..95) | low_light()")
    image, mask = degrade(clean, generator)

A network learns to undo what it is shown, so each degradation follows the physics of what it imitates: light is added
and multiplied in linear light (``light``), files and resizing act on codes. Parameters, composition and the text form
are in ``base``, ``compose`` and ``text``; the models in ``noise``, ``blur``, ``rain``, ``drops``, ``scene``, ``coding``
and ``masks``. What each models and what not is in docs/degradations.md.
"""

from rddm.degradations.base import Degradation, Degraded, Limits, Parameter, Parametrised, Range
from rddm.degradations.blur import Defocus, GaussianBlur, Motion, Shake
from rddm.degradations.coding import Downscale, Jpeg
from rddm.degradations.compose import Chain, Choice
from rddm.degradations.drops import Drops
from rddm.degradations.masks import CentreMask, IrregularMask
from rddm.degradations.noise import Camera, LowLight, Noise, Shot, WhiteNoise
from rddm.degradations.rain import HeavyRain, Rain
from rddm.degradations.scene import Haze, Shadow
from rddm.degradations.text import DEGRADATIONS, describe, parse, signature

__all__ = [
    "DEGRADATIONS", "Camera", "CentreMask", "Chain", "Choice", "Defocus", "Degradation", "Degraded", "Downscale",
    "Drops", "GaussianBlur", "Haze", "HeavyRain", "IrregularMask", "Jpeg", "Limits", "LowLight", "Motion", "Noise",
    "Parameter", "Parametrised", "Rain", "Range", "Shadow", "Shake", "Shot", "WhiteNoise", "describe", "parse",
    "signature",
]  # fmt: skip
