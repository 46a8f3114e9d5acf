"""The table: every method is one row, a path in the (abar, bbar) plane with a target, a clock and a gain.

A row is data. The README's table, the test matrix and the configuration files of models are made from it. Solvers and
trajectories are not columns: they are free axes over all rows.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from rddm.bridges import BBDMPath, BrownianPath, DDBMVEPath, DDBMVPPath, GOUBPath, I2SBPath
from rddm.clipping import Clip, clip_none, clip_x_0
from rddm.clocks import (
    Clock,
    acp_clock,
    forgotten_clock,
    index_clock,
    log_bbar_clock,
    log_time_clock,
    root_acp_clock,
    score_clock,
    state_clock,
    unit_clock,
)
from rddm.path import LinearPath, Node, Path
from rddm.prediction import (
    DISPLACEMENT,
    DISPLACEMENT_ROOT,
    DISPLACEMENT_STD,
    EPS,
    EPS_FLOORED,
    PRECONDITIONED,
    RES,
    RES_EPS,
    RESNOISE,
    VELOCITY,
    X0,
    Target,
)
from rddm.schedules import DDPMPath, DiffUIRPath, NoiseLevelPath, PowerPath, ResfusionPath, ResShiftPath
from rddm.sdes import EDMPath, IRSDEPath, ScoreSubVPPath, ScoreVEPath, ScoreVPPath
from rddm.transition import Anchor, Gain, anchor_x_0, anchor_x_t, bridge, deterministic, markov, mean, naive, residual


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Arguments:
        name: the row's name.
        path: the curve ``t -> (abar, bbar)``.
        target: what the network outputs.
        origin: what stands for ``x_in`` in the equations: the degraded "input", or "zero" (pure generation).
        inputs: what the network sees beside ``x_t``, in order: "x_in" or the names of further conditions. What stands
            for ``x_in`` is seen as "x_in"; a row that starts from noise alone sees the degraded image as "degraded".
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

    @property
    def generates(self) -> bool:
        """Whether images come from noise alone; a row that starts from noise may yet be shown the degraded image."""
        return self.origin == "zero" and "degraded" not in self.inputs

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
RESSHIFT = Method(
    "resshift", ResShiftPath(), X0, "input", ("x_in",), index_clock, residual, anchor_x_0, clip_none, 15,
    "Yue et al., ResShift, NeurIPS 2023",
)  # fmt: skip
SR3 = Method(
    "sr3", NoiseLevelPath(), EPS, "zero", ("degraded",), root_acp_clock, markov, anchor_x_0, clip_x_0, 2000,
    "Saharia et al., Super-Resolution via Iterative Refinement, TPAMI 2022",
)  # fmt: skip
IR_SDE = Method(
    "ir-sde", IRSDEPath(), EPS, "input", ("x_in",), state_clock, markov, anchor_x_0, clip_none, 100,
    "Luo et al., Image Restoration with Mean-Reverting SDEs, ICML 2023",
)  # fmt: skip
I2SB = Method(
    "i2sb", I2SBPath(), DISPLACEMENT_STD, "input", (), index_clock, bridge, anchor_x_0, clip_none, 100,
    "Liu et al., I2SB: Image-to-Image Schroedinger Bridge, ICML 2023",
)  # fmt: skip
DDBM_VP = Method(
    "ddbm-vp", DDBMVPPath(), PRECONDITIONED, "input", ("x_in",), log_time_clock, markov, anchor_x_0, clip_none, 40,
    "Zhou et al., Denoising Diffusion Bridge Models, ICLR 2024",
)  # fmt: skip
GOUB = replace(
    IR_SDE, name="goub", path=GOUBPath(), steps=99,
    reference="Yue et al., Generalized Ornstein-Uhlenbeck Bridge, ICML 2024",
)  # fmt: skip
SCORE_VP = Method(
    "score-vp", ScoreVPPath(), EPS, "zero", (), score_clock, markov, anchor_x_0, clip_none, 1000,
    "Song et al., Score-Based Generative Modeling through SDEs, ICLR 2021",
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
    replace(
        FLOW, name="pmrf", path=LinearPath(noise=0.2), origin="input", steps=25,
        reference="Ohayon et al., Posterior-Mean Rectified Flow (PMRF), ICLR 2025 (x_in: a restored photo)",
    ),
    INDI,
    Method(
        "cold", LinearPath(), X0, "input", (), unit_clock, deterministic, anchor_x_0, clip_none, 10,
        "Bansal et al., Cold Diffusion, NeurIPS 2023 (linear degradations, Algorithm 2: TACoS)",
    ),
    replace(
        INDI, name="cold-naive", path=LinearPath(), gain=naive,
        reference="Bansal et al., Cold Diffusion, NeurIPS 2023 (linear degradations, Algorithm 1)",
    ),
    RESSHIFT,
    replace(RESSHIFT, name="resshift-4", path=ResShiftPath(steps=4, min_noise=0.2), steps=4),
    SR3,
    replace(
        SR3, name="palette", clock=acp_clock, steps=1000,
        path=NoiseLevelPath(level="acp", sampler_steps=1000, sampler_first=1e-4, sampler_last=0.09),
        reference="Saharia et al., Palette: Image-to-Image Diffusion Models, SIGGRAPH 2022",
    ),
    IR_SDE,
    replace(
        IR_SDE, name="refusion", path=IRSDEPath(max_sigma=50.0),
        reference="Luo et al., Refusion, CVPR workshops 2023 (in its autoencoder's latent)",
    ),
    I2SB,
    replace(I2SB, name="i2sb-ode", path=I2SBPath(beta_max=1.0, noise=0.0), target=DISPLACEMENT_ROOT),
    Method(
        "bbdm", BBDMPath(), DISPLACEMENT, "input", ("x_in",), index_clock, markov, anchor_x_0, clip_x_0, 200,
        "Li et al., BBDM: Translation with Brownian Bridge Diffusion Models, CVPR 2023",
    ),
    DDBM_VP,
    replace(DDBM_VP, name="ddbm-ve", path=DDBMVEPath()),
    GOUB,
    replace(GOUB, name="goub-mean-ode", gain=mean),
    replace(INDI, name="indi-brownian", path=BrownianPath(), gain=residual),
    Method(
        "resfusion", ResfusionPath(), RESNOISE, "input", ("x_in",), index_clock, residual, anchor_x_0, clip_none, 5,
        "Shi et al., Resfusion, NeurIPS 2024",
    ),
    Method(
        "diffuir", DiffUIRPath(), RES, "input", ("x_in",), forgotten_clock, deterministic, anchor_x_t, clip_x_0, 3,
        "Zheng et al., Selective Hourglass Mapping (DiffUIR), CVPR 2024",
    ),
    SCORE_VP,
    replace(SCORE_VP, name="score-subvp", path=ScoreSubVPPath()),
    replace(SCORE_VP, name="score-ve", path=ScoreVEPath(), clock=log_bbar_clock),
    Method(
        "edm", EDMPath(), PRECONDITIONED, "zero", (), log_bbar_clock, deterministic, anchor_x_0, clip_none, 18,
        "Karras et al., Elucidating the Design Space of Diffusion Models, NeurIPS 2022",
    ),
)  # fmt: skip

METHODS: dict[str, Method] = {row.name: row for row in ROWS}
