"""The table: every method is one row, a path in the (abar, bbar) plane with a target, a clock and a gain.

A row is data. The README's table, the test matrix and the configuration files of models are made from it. Solvers and
trajectories are not columns: they are free axes over all rows.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from rddm.clipping import Clip, clip_none, clip_x_0
from rddm.path import LinearPath, Node, Path, TabulatedPath
from rddm.prediction import EPS, EPS_FLOORED, RES, RES_EPS, VELOCITY, X0, Target
from rddm.schedules import DDPMPath, PowerPath, ResShiftPath
from rddm.transition import Anchor, Gain, anchor_x_0, anchor_x_t, deterministic, markov, naive, residual

Clock: TypeAlias = Callable[[Path, Node], "list[float | Tensor]"]


def index_clock(path: Path, node: Node) -> list[float | Tensor]:
    """Show the index of the path's table, ``t T - 1``: 0 to T - 1 (T is 1000 on a path without a table)."""
    index = node.t * (path.length if isinstance(path, TabulatedPath) else 1000) - 1
    return [index.round() if isinstance(index, Tensor) else float(round(index))]


def unit_clock(path: Path, node: Node) -> list[float | Tensor]:
    """Show ``1000 t``: time in [0, 1], in the units that sinusoidal embeddings resolve."""
    return [node.t * 1000]


def plane_clock(path: Path, node: Node) -> list[float | Tensor]:
    """Show the place in the plane: ``1000 abar`` to the first network, ``1000 bbar`` to the second (paper, 3.3)."""
    return [1000 * value.flatten() if isinstance(value, Tensor) else 1000 * value for value in (node.abar, node.bbar)]


def abar_clock(path: Path, node: Node) -> list[float | Tensor]:
    """Show ``1000 abar``."""
    return plane_clock(path, node)[:1]


def bbar_clock(path: Path, node: Node) -> list[float | Tensor]:
    """Show ``1000 bbar``."""
    return plane_clock(path, node)[1:]


CLOCKS: dict[str, Clock] = {
    "index": index_clock,
    "unit": unit_clock,
    "plane": plane_clock,
    "abar": abar_clock,
    "bbar": bbar_clock,
}


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Arguments:
        name: the row's name.
        path: the curve ``t -> (abar, bbar)``.
        target: what the network outputs.
        origin: what stands for ``x_in`` in the equations: the degraded "input", or "zero" (pure generation).
        inputs: what the network sees beside ``x_t``, in order: "x_in" or the names of further conditions.
        clock: how the network is told the time.
        gain: the default step's gain.
        anchor: how the default step forms its mean.
        clip: how estimates are kept in range.
        steps: the default number of network calls.
        reference: where the method was published.
        context: conditions that are numbers, not images, shown after the clock, in order.
    """

    name: str
    path: Path
    target: Target
    origin: Literal["input", "zero"]
    inputs: tuple[str, ...]
    clock: Clock
    gain: Gain
    anchor: Anchor
    clip: Clip
    steps: int
    reference: str
    context: tuple[str, ...] = ()

    def show(self, node: Node, like: Tensor) -> Tensor:
        """Return the clock's reading at ``node`` for a batch shaped as ``like``: (B, readings), at least float32."""
        dtype = torch.promote_types(like.dtype, torch.float32)
        readings = [torch.as_tensor(r, dtype=dtype, device=like.device) for r in self.clock(self.path, node)]
        return torch.stack([r.expand(like.shape[0]) for r in readings], dim=1)


RDDM = Method(
    "rddm", PowerPath(), RES_EPS, "input", ("x_in",), index_clock, deterministic, anchor_x_t, clip_x_0, 5,
    "Liu et al., Residual Denoising Diffusion Models, CVPR 2024",
)  # fmt: skip
RDDM_GENERATION = replace(RDDM, name="rddm-generation", origin="zero", inputs=(), steps=10)
DDPM = Method(
    "ddpm", DDPMPath(), EPS, "zero", (), index_clock, markov, anchor_x_0, clip_x_0, 1000,
    "Ho et al., Denoising Diffusion Probabilistic Models, NeurIPS 2020",
)  # fmt: skip
FLOW = Method(
    "flow", LinearPath(noise=1.0), VELOCITY, "zero", (), unit_clock, deterministic, anchor_x_t, clip_none, 50,
    "Liu et al., Flow Straight and Fast: Rectified Flow, ICLR 2023",
)  # fmt: skip
INDI = Method(
    "indi", LinearPath(noise=0.01), X0, "input", (), unit_clock, deterministic, anchor_x_0, clip_none, 10,
    "Delbracio and Milanfar, Inversion by Direct Iteration, TMLR 2023",
)  # fmt: skip

ROWS = (
    RDDM,
    replace(RDDM, name="rddm-res", target=RES, steps=2),
    replace(RDDM, name="rddm-eps", target=EPS_FLOORED),
    RDDM_GENERATION,
    DDPM,
    replace(
        DDPM, name="ddim", gain=deterministic, steps=50,
        reference="Song et al., Denoising Diffusion Implicit Models, ICLR 2021",
    ),
    FLOW,
    replace(FLOW, name="flow-paired", path=LinearPath(), origin="input", steps=10),
    INDI,
    Method(
        "cold", LinearPath(), X0, "input", (), unit_clock, deterministic, anchor_x_0, clip_none, 10,
        "Bansal et al., Cold Diffusion, NeurIPS 2023 (linear degradations, Algorithm 2: TACoS)",
    ),
    replace(
        INDI, name="cold-naive", path=LinearPath(), gain=naive,
        reference="Bansal et al., Cold Diffusion, NeurIPS 2023 (linear degradations, Algorithm 1)",
    ),
    Method(
        "resshift", ResShiftPath(), X0, "input", ("x_in",), index_clock, residual, anchor_x_0, clip_none, 15,
        "Yue et al., ResShift, NeurIPS 2023",
    ),
)  # fmt: skip

METHODS: dict[str, Method] = {row.name: row for row in ROWS}
