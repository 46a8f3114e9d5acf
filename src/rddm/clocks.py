"""Clocks: how a network is told where on a path it is.

A reading is in the units that sinusoidal embeddings resolve, hundreds rather than ones. Some clocks show the time, some
the place in the plane: those stay right when the schedule is exchanged after training.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from rddm.bridges import DDBMPath
from rddm.path import Node, Path, TabulatedPath, Value

Clock: TypeAlias = Callable[[Path, Node], "list[float | Tensor]"]


def index_clock(path: Path, node: Node) -> list[float | Tensor]:
    """Show the index of the path's table, ``t T - 1``: 0 to T - 1 (T is 1000 on a path without a table)."""
    index = node.t * (path.length if isinstance(path, TabulatedPath) else 1000) - 1
    return [index.round() if isinstance(index, Tensor) else float(round(index))]


def state_clock(path: Path, node: Node) -> list[float | Tensor]:
    """Show the number of the table's state, 1 to T, as IR-SDE counts: the index plus one."""
    return [reading + 1 for reading in index_clock(path, node)]


def unit_clock(path: Path, node: Node) -> list[float | Tensor]:
    """Show ``1000 t``: time in [0, 1], in the units that sinusoidal embeddings resolve."""
    return [node.t * 1000]


def score_clock(path: Path, node: Node) -> list[float | Tensor]:
    """Show ``999 t``, as score-SDE's networks of continuous time are told."""
    return [node.t * 999]


def plane_clock(path: Path, node: Node) -> list[float | Tensor]:
    """Show the place in the plane: ``1000 abar`` to the first network, ``1000 bbar`` to the second (paper, 3.3)."""
    return [1000 * flat(value) for value in (node.abar, node.bbar)]


def abar_clock(path: Path, node: Node) -> list[float | Tensor]:
    """Show ``1000 abar``."""
    return plane_clock(path, node)[:1]


def bbar_clock(path: Path, node: Node) -> list[float | Tensor]:
    """Show ``1000 bbar``."""
    return plane_clock(path, node)[1:]


def root_acp_clock(path: Path, node: Node) -> list[float | Tensor]:
    """Show ``1000 sqrt(acp)``, the noise level of SR3."""
    return [1000 * root_acp(node)]


def acp_clock(path: Path, node: Node) -> list[float | Tensor]:
    """Show ``1000 acp``, the noise level of Palette."""
    return [1000 * root_acp(node) ** 2]


def forgotten_clock(path: Path, node: Node) -> list[float | Tensor]:
    """Show ``1000 (1 - sqrt(acp))``, which DiffUIR calls ``abar T``: its coefficients do not add up to one."""
    return [1000 * (1 - root_acp(node))]


def log_bbar_clock(path: Path, node: Node) -> list[float | Tensor]:
    """Show ``250 ln bbar``: a thousand times EDM's ``ln(sigma) / 4``; on a path that ends in noise alone."""
    bbar = flat(node.bbar)
    return [250 * torch.as_tensor(bbar).log()]


def log_time_clock(path: Path, node: Node) -> list[float | Tensor]:
    """Show ``250 ln`` of the time in DDBM's own units, 0 to ``path.end`` (1 on other paths)."""
    end = path.end if isinstance(path, DDBMPath) else 1.0
    return [250 * torch.as_tensor(node.t * end).log()]


def root_acp(node: Node) -> Value:
    """Return ``sqrt(acp)`` of the DDPM state that a state is when scaled: coefficients of unit length."""
    clean, noise = 1 - flat(node.abar), flat(node.bbar)
    return clean / (clean**2 + noise**2) ** 0.5


def flat(value: Value) -> Value:
    """Return a coordinate with one entry per image instead of one that broadcasts."""
    return value.flatten() if isinstance(value, Tensor) else value


CLOCKS: dict[str, Clock] = {
    "index": index_clock,
    "unit": unit_clock,
    "plane": plane_clock,
    "abar": abar_clock,
    "bbar": bbar_clock,
    "state": state_clock,
    "score": score_clock,
    "root_acp": root_acp_clock,
    "acp": acp_clock,
    "forgotten": forgotten_clock,
    "log_bbar": log_bbar_clock,
    "log_time": log_time_clock,
}
