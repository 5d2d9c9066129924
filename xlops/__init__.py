"""Labeled linear operators on xarray and Dask."""

from xlops import accessor, extend, testing
from xlops import spectral as _spectral  # noqa: F401 (it serves methods of operators)
from xlops.cluster import connect
from xlops.errors import (
    AdjointError,
    ArgumentError,
    ChunkError,
    ClusterError,
    DataError,
    DTypeError,
    FileError,
    LabelError,
    UnitError,
    XlopsError,
    XlopsWarning,
)
from xlops.files import open, save  # noqa: A004
from xlops.interop.pylops import from_pylops
from xlops.operator import LinearOperator
from xlops.operators.arrangement import Flip, Pad, Roll
from xlops.operators.concatenation import Concat
from xlops.operators.convolution import Convolve1D, ConvolveND
from xlops.operators.derivative import (
    FirstDerivative,
    Gradient,
    Laplacian,
    SecondDerivative,
)
from xlops.operators.fourier import FFT, FFT2D, FFTND
from xlops.operators.function import FunctionOperator
from xlops.operators.integration import CausalIntegration
from xlops.operators.layout import Rename, Transpose
from xlops.operators.matrix import Fredholm1, MatrixMult, Sum
from xlops.operators.pointwise import Conj, Diagonal, Identity, Imag, Mask, Real, Zero
from xlops.operators.preconditioning import Chebyshev, Jacobi
from xlops.operators.selection import Restriction
from xlops.operators.smoothing import Smoothing1D, Smoothing2D, SmoothingND
from xlops.operators.spread import Spread
from xlops.options import set_options
from xlops.solvers.admm import admm
from xlops.solvers.bicgstab import bicgstab
from xlops.solvers.cg import cg
from xlops.solvers.cgls import cgls
from xlops.solvers.checkpoint import Checkpoint
from xlops.solvers.fista import fista
from xlops.solvers.gmres import gmres
from xlops.solvers.irls import irls
from xlops.solvers.ista import ista
from xlops.solvers.lsmr import lsmr
from xlops.solvers.lsqr import lsqr
from xlops.solvers.minres import minres
from xlops.solvers.normal import normal_equations_inversion
from xlops.solvers.omp import omp
from xlops.solvers.power import power_iteration
from xlops.solvers.preconditioned import (
    PreconditionedSolution,
    preconditioned_inversion,
)
from xlops.solvers.primal_dual import primal_dual
from xlops.solvers.proximal_gradient import proximal_gradient
from xlops.solvers.regularized import regularized_inversion
from xlops.solvers.solution import Reason, Solution, Status
from xlops.solvers.solve import solve
from xlops.solvers.splitbregman import splitbregman
from xlops.space import Blocks, Space
from xlops.stack import Block, BlockDiag, HStack, VStack
from xlops.testing import dottest
from xlops.units import UnitWarning

__version__ = "0.1.0"

__all__ = [
    "FFT",
    "FFT2D",
    "FFTND",
    "AdjointError",
    "ArgumentError",
    "Block",
    "BlockDiag",
    "Blocks",
    "CausalIntegration",
    "Chebyshev",
    "Checkpoint",
    "ChunkError",
    "ClusterError",
    "Concat",
    "Conj",
    "Convolve1D",
    "ConvolveND",
    "DTypeError",
    "DataError",
    "Diagonal",
    "FileError",
    "FirstDerivative",
    "Flip",
    "Fredholm1",
    "FunctionOperator",
    "Gradient",
    "HStack",
    "Identity",
    "Imag",
    "Jacobi",
    "LabelError",
    "Laplacian",
    "LinearOperator",
    "Mask",
    "MatrixMult",
    "Pad",
    "PreconditionedSolution",
    "Real",
    "Reason",
    "Rename",
    "Restriction",
    "Roll",
    "SecondDerivative",
    "Smoothing1D",
    "Smoothing2D",
    "SmoothingND",
    "Solution",
    "Space",
    "Spread",
    "Status",
    "Sum",
    "Transpose",
    "UnitError",
    "UnitWarning",
    "VStack",
    "XlopsError",
    "XlopsWarning",
    "Zero",
    "accessor",
    "admm",
    "bicgstab",
    "cg",
    "cgls",
    "connect",
    "dottest",
    "extend",
    "fista",
    "from_pylops",
    "gmres",
    "irls",
    "ista",
    "lsmr",
    "lsqr",
    "minres",
    "normal_equations_inversion",
    "omp",
    "open",
    "power_iteration",
    "preconditioned_inversion",
    "primal_dual",
    "proximal_gradient",
    "regularized_inversion",
    "save",
    "set_options",
    "solve",
    "splitbregman",
    "testing",
]
