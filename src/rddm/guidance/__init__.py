"""Guidance: inverse problems solved with a generator that was never trained for them.

    guidance = DDNM(operator, y)
    x_0 = sample(model.denoiser(), zeros, trajectory, solver, guidance=guidance)

What a guidance is stands in ``base``; ``GUIDANCES`` is the table that ``rddm solve`` chooses from.
"""

from rddm.guidance.base import Guidance, Measured, additive, forward, renoise
from rddm.guidance.blend import ILVR, MCG, Keep, Paste, RePaint
from rddm.guidance.classifier import Classifier, ClassifierFree
from rddm.guidance.gradient import DPS, PiGDM
from rddm.guidance.levels import even, geometric, node_of
from rddm.guidance.projection import DDNM, DDRM, DDNMPlus, DiffPIR
from rddm.guidance.table import GUIDANCES, GuidanceRow

__all__ = [
    "DDNM", "DDRM", "DPS", "GUIDANCES", "ILVR", "MCG", "Classifier", "ClassifierFree", "DDNMPlus", "DiffPIR",
    "Guidance", "GuidanceRow", "Keep", "Measured", "Paste", "PiGDM", "RePaint", "additive", "even", "forward",
    "geometric", "node_of", "renoise",
]  # fmt: skip
