"""The table of guidances: how each is made from a measurement, and the step that it was published with."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from rddm.errors import UserError
from rddm.guidance.base import Guidance
from rddm.guidance.blend import ILVR, MCG, RePaint
from rddm.guidance.gradient import DPS, PiGDM, published
from rddm.guidance.levels import even, geometric
from rddm.guidance.projection import DDNM, DDRM, DDNMPlus, DiffPIR
from rddm.operators.base import Operator
from rddm.operators.noise import GaussianNoise, NoiseModel
from rddm.path import Node, Path
from rddm.transition import Gain, markov, naive, stochastic

DDIM = stochastic(naive, 0.85**2)  # new noise at every step, 0.85 of it


@dataclass(frozen=True)
class GuidanceRow:
    """One guidance.

    Arguments:
        name: how commands call it.
        make: ``(operator, y, sigma, steps) -> guidance``.
        gain: of the step that it goes with, unless a solver is named.
        needs: of the operator: "A", "A_dagger", "A_adjoint" or "an SVD".
        noise: whether it counts with noise in the measurement.
        reference: where it was published.
        grid: ``(path, steps) -> trajectory``, the nodes to visit.
        weighed: ``(operator, y, noise, steps) -> guidance`` for noise that is not the same everywhere; None if it keeps
            one ``sigma``.
    """

    name: str
    make: Callable[[Operator, Tensor, float, int], Guidance]
    gain: Gain
    needs: str
    noise: bool
    reference: str
    grid: Callable[[Path, int], list[Node]] = even
    weighed: Callable[[Operator, Tensor, NoiseModel, int], Guidance] | None = None

    def against(self, operator: Operator, y: Tensor, noise: NoiseModel, steps: int) -> Guidance:
        """Return the guidance for a measurement with ``noise``.

        Raises:
            UserError: if the noise differs from place to place and the guidance keeps one ``sigma``, or the operator
                has not what it needs.
        """
        if isinstance(noise, GaussianNoise):
            return self.make(operator, y, noise.sigma, steps)
        if self.weighed is None:
            names = ", ".join(row.name for row in ROWS if row.weighed is not None)
            raise UserError(f"{self.name}: counts with the same noise everywhere, found photons; expected {names}")
        return self.weighed(operator, y, noise, steps)


def scale(steps: int) -> float:
    """Return a gradient's scale for few steps: what all of them add up to counts.

    Chosen on cats at 32x32 (docs/guidance.md); published are 300 to 1000, for 1000 steps at 256x256.
    """
    return 250 / steps


ROWS = (
    GuidanceRow(
        "ddnm", lambda o, y, s, n: DDNM(o, y), DDIM, "A_dagger", False, "Wang et al., DDNM, ICLR 2023",
    ),
    GuidanceRow(
        "ddnm+", lambda o, y, s, n: DDNMPlus(o, y, s), DDIM, "an SVD", True, "Wang et al., DDNM, ICLR 2023", geometric,
    ),
    GuidanceRow(
        "ddrm", lambda o, y, s, n: DDRM(o, y, s), DDIM, "an SVD", True,
        "Kawar et al., Denoising Diffusion Restoration Models, NeurIPS 2022", geometric,
    ),
    GuidanceRow(
        "pigdm", lambda o, y, s, n: PiGDM(o, y, s, published), DDIM, "A_adjoint", True,
        "Song et al., Pseudoinverse-Guided Diffusion Models, ICLR 2023",
    ),
    GuidanceRow(
        "diffpir", lambda o, y, s, n: DiffPIR(o, y, s), stochastic(naive, 0.1), "A_adjoint", True,
        "Zhu et al., Denoising Diffusion Models for Plug-and-Play Image Restoration, CVPR workshops 2023",
    ),
    GuidanceRow(
        "dps", lambda o, y, s, n: DPS(o, y, scale(n)), markov, "A", True,
        "Chung et al., Diffusion Posterior Sampling, ICLR 2023", weighed=lambda o, y, m, n: DPS(o, y, scale(n), m),
    ),
    GuidanceRow(
        "mcg", lambda o, y, s, n: MCG(o, y, scale(n)), markov, "A_adjoint", False,
        "Chung et al., Manifold Constrained Gradients, NeurIPS 2022",
    ),
    GuidanceRow(
        "ilvr", lambda o, y, s, n: ILVR(o, y), markov, "A_adjoint", False, "Choi et al., ILVR, ICCV 2021",
    ),
    GuidanceRow(
        "repaint", lambda o, y, s, n: RePaint(o, y), markov, "A_adjoint", False, "Lugmayr et al., RePaint, CVPR 2022",
    ),
)  # fmt: skip

GUIDANCES: dict[str, GuidanceRow] = {row.name: row for row in ROWS}
