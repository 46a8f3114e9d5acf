"""Operators: what was done to an image, as a map with an adjoint, a pseudoinverse and, where it has one, an SVD.

    operator = parse_operator("grey + blur(1)")((3, 32, 32))
    y = operator.A(x)

The names are those of ``deepinv.physics``. What an operator is stands in ``base``; each kind has its file.
"""

from rddm.operators.base import DecomposableOperator, Decomposed, LinearOperator, Operator
from rddm.operators.chain import Chain, LinearChain, compose
from rddm.operators.circular import CircularBlur
from rddm.operators.jpeg import Jpeg
from rddm.operators.kronecker import Kronecker, bicubic, block_average, blur, grey
from rddm.operators.mask import Mask
from rddm.operators.noise import GaussianNoise, NoiseModel, PoissonNoise
from rddm.operators.phase import PhaseRetrieval
from rddm.operators.sensing import Dense, Hadamard, random_projection
from rddm.operators.text import KINDS, Plan, parse_operator

__all__ = [
    "KINDS", "Chain", "CircularBlur", "Decomposed", "DecomposableOperator", "Dense", "GaussianNoise", "Hadamard",
    "Jpeg", "Kronecker", "LinearChain", "LinearOperator", "Mask", "NoiseModel", "Operator", "PhaseRetrieval", "Plan",
    "PoissonNoise", "bicubic", "block_average", "blur", "compose", "grey", "parse_operator", "random_projection",
]  # fmt: skip
