"""Solvers by name: how a sampler moves from node to node.

What follows the probability flow, or draws noise by a gain, is in ``solvers_flow``; what follows a reverse SDE in
``solvers_sde``; Langevin's steps are in ``langevin``. docs/solvers.md tells when to use which.
"""

from rddm.langevin import PredictorCorrector, by_level
from rddm.move import History as History
from rddm.move import Move as Move
from rddm.move import Solver as Solver
from rddm.move import increment as increment
from rddm.solvers_flow import AB2 as AB2
from rddm.solvers_flow import Ancestral as Ancestral
from rddm.solvers_flow import DPMSolver2M as DPMSolver2M
from rddm.solvers_flow import Euler as Euler
from rddm.solvers_flow import Heun as Heun
from rddm.solvers_sde import HybridHeun, MeanODE, ReverseSDE, StochasticHeun

FLOWS: dict[str, Solver] = {
    "ancestral": Ancestral(),
    "euler": Euler(),
    "heun": Heun(),
    "ab2": AB2(),
    "dpm++": DPMSolver2M(),
}
SOLVERS: dict[str, Solver] = {
    **FLOWS,
    "sde": ReverseSDE(),
    "mean-ode": MeanODE(),
    "pc": PredictorCorrector(size=by_level),  # a step by norms would differ from tile to tile
    "churn": StochasticHeun(),
    "hybrid": HybridHeun(),
}
