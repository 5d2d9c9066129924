"""The bidiagonalization of Golub and Kahan, as LSQR and LSMR use it.

B is A, or A over damp where damping is not a matter of rotations alone. It becomes a lower
bidiagonal matrix with α on its diagonal and β below it,

    β₁ u₁ = b,   α₁ v₁ = Bᴴ u₁,   β u₊ = B v − α u,   α₊ v₊ = Bᴴ u₊ − β₊ v,

where, with a preconditioner M, v are orthogonal in the product of its inverse: v = M s, and
s is what Bᴴ makes. All products are Re⟨·,·⟩, and all numbers real.

Vectors are kept as long as they come, u of norm β and s, v of norm α: so nothing passes
over them only to divide by a number.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from xlops import engine
from xlops.engine import Tree
from xlops.solvers.problem import Problem
from xlops.solvers.rotations import inverse_root, quotient, root
from xlops.solvers.square import off

__all__ = ["Bidiagonal", "Bidiagonalization"]


class Bidiagonal(NamedTuple):
    """Where a bidiagonalization has got to.

    Parameters
    ----------
    vectors : tuple of vector
        The last u, s and v, which is s without a preconditioner.
    beta, alpha : number
        The squared norms of u and of s, v.
    ss : number
        The squared norm of s in the plain product.
    """

    vectors: tuple[Tree, ...]
    beta: Any
    alpha: Any
    ss: Any

    @property
    def v(self) -> Tree:
        """The last v."""
        return self.vectors[-1]

    def persisted(self, problem: Problem, *others: Any) -> tuple[Any, ...]:
        """Other vectors and numbers, and this, computed in one submission."""
        values = problem.persist(*others, *self[1:], *self.vectors)
        end = len(others)
        return *values[:end], Bidiagonal(values[end + 3 :], *values[end : end + 3])


class Bidiagonalization:
    """Takes the steps for one problem.

    Parameters
    ----------
    problem : Problem
        What is solved.

    Attributes
    ----------
    damp : float
        What is left to be damped by rotations.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        given = problem.x0, problem.x_ref, problem.preconditioner
        # Rotations damp what starts at x_ref, and what has no preconditioner.
        self._is_joined = bool(problem.damp) and any(one is not None for one in given)
        self.damp = 0.0 if self._is_joined else problem.damp

    def start(self) -> tuple[Tree, Bidiagonal]:
        """The first model, and the first vectors."""
        problem, vectors = self.problem, self.problem.vectors
        x, r = problem.start()
        gradient = problem.gradient(x, r)  # it is Bᴴ b
        x, u = engine.copied(x), engine.copied(r)
        if self._is_joined:
            u = joined(u, vectors.times(-problem.damp, off(problem, x)))
        (beta,) = vectors.dots((u, u))
        s = vectors.times(vectors.number(inverse_root, beta), gradient)
        return x, self._with(u, beta, s, (s, s))

    def step(self, last: Bidiagonal) -> Bidiagonal:
        """The next vectors."""
        vectors = self.problem.vectors
        u, s, *_ = last.vectors
        beta, alpha = root(last.beta), root(last.alpha)
        u, uu = vectors.blend(
            quotient(1.0, alpha), self._forward(last.v), -quotient(alpha, beta), u
        )
        (uu,) = vectors.dots(uu)
        stretch, turn = (
            vectors.number(inverse_root, uu),
            vectors.number(_turn, uu, alpha),
        )
        return self._with(u, uu, *vectors.blend(stretch, self._adjoint(u), turn, s))

    def _with(self, u: Tree, beta: Any, s: Tree, ss: Any) -> Bidiagonal:
        v = self.problem.precondition(s)
        if v is s:
            (ss,) = self.problem.vectors.dots(ss)
            return Bidiagonal((u, s), beta, ss, ss)
        ss, alpha = self.problem.vectors.dots(ss, (s, v))
        return Bidiagonal((u, s, v), beta, alpha, ss)

    def off(self, x: Tree) -> Any:
        """The squared distance of a model to what damping pulls it to."""
        if not self.problem.damp:
            return 0.0
        far = off(self.problem, x)
        return self.problem.vectors.dots((far, far))[0]

    def residual_norm(self, cost: Any, off: Any) -> Any:
        """‖y − A x‖ of what is minimized."""
        return root(cost - self.problem.damp**2 * off)

    def _forward(self, v: Tree) -> Tree:
        q = self.problem.forward(v)
        if not self._is_joined:
            return q
        return joined(q, self.problem.vectors.times(self.problem.damp, v))

    def _adjoint(self, u: Tree) -> Tree:
        if not self._is_joined:
            return self.problem.adjoint(u)
        data, model = parted(u, self.problem.y, self.problem.model)
        back = self.problem.adjoint(data)
        return self.problem.vectors.axpy(self.problem.damp, model, back)


def _turn(beta: Any, alpha: Any) -> Any:
    """How much of the last v is taken off the next one; β is squared."""
    return -quotient(root(beta), alpha)


def joined(data: Tree, model: Tree) -> Tree:
    """One vector of two."""
    return {**_named("data", data), **_named("model", model)}


def parted(both: Tree, data: Tree, model: Tree) -> tuple[Tree, Tree]:
    """The two vectors in one; `data` and `model` are like them."""
    assert isinstance(both, dict)

    def one(side: str, like: Tree) -> Tree:
        if isinstance(like, dict):
            return {name: both[f"{side} {name}"] for name in like}
        return both[side]

    return one("data", data), one("model", model)


def _named(side: str, tree: Tree) -> dict[str, Any]:
    if isinstance(tree, dict):
        return {f"{side} {name}": array for name, array in tree.items()}
    return {side: tree}
