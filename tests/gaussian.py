"""A Gaussian problem whose every answer is known, and the rows of the table on paths fine enough to measure orders."""

from dataclasses import fields, replace

import torch

from rddm.bridges import BBDMPath, GOUBPath, I2SBPath
from rddm.denoiser import GaussianOracle
from rddm.methods import METHODS
from rddm.path import Node, Path
from rddm.schedules import DDPMPath, DiffUIRPath, PowerPath, ResfusionPath, ResShiftPath
from rddm.sdes import IRSDEPath

F64 = torch.float64
MEAN = torch.tensor([1.0, -2.0, 0.5], dtype=F64)
VAR = torch.tensor([0.04, 0.25, 1.0], dtype=F64)
DEGRADED = torch.tensor([[1.5, -1.0, 0.0]], dtype=F64)
ORACLE = GaussianOracle(MEAN, VAR)


def fine(path: Path) -> Path:
    """Return the same curve tabulated at 2^14 times, so that its interpolation does not limit a measured order."""
    steps = 2**14
    if isinstance(path, DDPMPath | DiffUIRPath | I2SBPath):  # the continuous limit keeps the sums of the increments
        names = {"first", "last", "fade_first", "fade_last"} & {field.name for field in fields(path)}
        return replace(path, steps=steps, **{name: getattr(path, name) * path.steps / steps for name in names})
    tables = PowerPath | ResShiftPath | ResfusionPath | IRSDEPath | GOUBPath | BBDMPath
    return replace(path, steps=steps) if isinstance(path, tables) else path


def origin(name: str) -> torch.Tensor:
    """Return ``x_in`` as the row defines it."""
    return DEGRADED if METHODS[name].origin == "input" else torch.zeros_like(DEGRADED)


def inner_nodes(path: Path, steps: int, high: float = 0.95, low: float = 0.05) -> list[Node]:
    """Return nodes between two times away from the singular ends."""
    return [path.node(high + (low - high) * i / steps) for i in range(steps + 1)]
