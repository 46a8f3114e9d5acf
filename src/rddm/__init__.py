"""rddm: diffusion for image restoration.

Every method of the field is a path in the (abar, bbar) plane with one gain: a row of ``rddm.METHODS``. Solvers and
trajectories are free axes over all rows. ``rddm.load("low-light").restore(image)`` is the main job.

The names below are the core and need torch alone; ``load`` and ``Model`` import the rest when first used. Each guidance
is in ``rddm.guidance``, the operators are in ``rddm.operators``.
"""

from typing import TYPE_CHECKING, Any

from rddm.denoiser import Denoiser as Denoiser
from rddm.denoiser import GaussianOracle as GaussianOracle
from rddm.denoiser import NetworkDenoiser as NetworkDenoiser
from rddm.errors import UserError as UserError
from rddm.guidance import GUIDANCES as GUIDANCES
from rddm.guidance import Guidance as Guidance
from rddm.loss import draw_times as draw_times
from rddm.loss import losses as losses
from rddm.methods import METHODS as METHODS
from rddm.methods import Method as Method
from rddm.path import CLEAN as CLEAN
from rddm.path import CurvePath as CurvePath
from rddm.path import LinearPath as LinearPath
from rddm.path import Node as Node
from rddm.path import Path as Path
from rddm.path import gaussian as gaussian
from rddm.prediction import TARGETS as TARGETS
from rddm.prediction import Prediction as Prediction
from rddm.prediction import Target as Target
from rddm.sample import iterate as iterate
from rddm.sample import noise_first as noise_first
from rddm.sample import residual_first as residual_first
from rddm.sample import sample as sample
from rddm.sample import with_jumps as with_jumps
from rddm.schedules import DDPMPath as DDPMPath
from rddm.schedules import PowerPath as PowerPath
from rddm.schedules import ResShiftPath as ResShiftPath
from rddm.schedules import TablePath as TablePath
from rddm.solvers import SOLVERS as SOLVERS
from rddm.solvers import Ancestral as Ancestral
from rddm.transition import GAINS as GAINS
from rddm.transition import stochastic as stochastic
from rddm.transition import transition as transition

if TYPE_CHECKING:
    from rddm.model import Model as Model
    from rddm.model import load as load

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import ``load`` and ``Model`` when first used: they bring the hub's client and the image libraries."""
    if name in ("load", "Model"):
        import rddm.model

        return getattr(rddm.model, name)
    raise AttributeError(f"module 'rddm' has no attribute {name!r}")
