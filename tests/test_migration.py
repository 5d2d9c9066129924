"""The page for those who come from PyLops: what stands side by side does the same.

The tables of the page are what is tested here, line by line.
"""

import ast
import contextlib
import inspect
import pathlib
import re

import distributed
import numpy as np
import pylops
import pytest

import xlops as xl
from tests import distributed as standins

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "guide" / "migration.md"
TEXT = PAGE.read_text("utf-8")
PYLOPS = {
    name: getattr(module, name)
    for module in (
        pylops,
        pylops.signalprocessing,
        pylops.waveeqprocessing,
        pylops.optimization.basic,
        pylops.optimization.leastsquares,
        pylops.optimization.sparsity,
        pylops.optimization.eigs,
        pylops.utils,
    )
    for name in dir(module)
    if not name.startswith("_")
}
DISTRIBUTED = {
    name: value for name, value in vars(standins).items() if inspect.isfunction(value)
}
PEERS = {"PyLops": PYLOPS, "PyLops-distributed": DISTRIBUTED}


def lines():
    """Rows of tables with a peer on the left: peer, how they compare, both sides."""
    head = None
    for line in TEXT.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not line.startswith("|"):
            head = None
        elif head is None:
            head = cells
        elif head[0] in PEERS and not cells[0].startswith("---"):
            left, right = (cell.strip("` |") for cell in cells)
            yield head[0], head[1], left, right


LINES = list(lines())


def is_name(code):
    return isinstance(ast.parse(code).body[0], ast.Assign)


NAMES = [one for one in LINES if is_name(one[2])]
CLUSTERS = [one[2:] for one in LINES if one[1] == "xlops, in a `with` statement"]
PAIRS = [one for one in LINES if not is_name(one[2]) and one[2:] not in CLUSTERS]


@pytest.fixture(scope="module")
def both():
    """What the cells of the page define, and operators under their names."""
    names = {}
    for code in re.findall(r"```\{code-cell\} ipython3\n(.*?)```", TEXT, re.DOTALL):
        exec(code, names)
    shared = {name: value for name, value in names.items() if name != "__builtins__"}
    for _, _, _, right in NAMES:
        exec(right, names)
    theirs = dict(PYLOPS) | shared
    for _, _, left, _ in NAMES:
        exec(left, theirs)
    own = {name: theirs[name] for name in ("P", "Q", "p", "k", "s")}
    names |= {"P": own["P"]}  # for what is made of operators of PyLops
    return {peer: known | shared | own for peer, known in PEERS.items()}, names


def flat(x):
    if isinstance(x, dict):
        return np.concatenate([flat(block) for block in x.values()])
    return np.asarray(x).ravel()


def agree(ours, theirs):
    ours, theirs = flat(ours), flat(theirs)
    assert ours.shape == theirs.shape
    scale = np.abs(theirs).max(initial=1e-300)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10 * scale)


def given(A, P, d):
    """Data for both, with dims that pass through where the operator of PyLops has more."""
    space = A.domain
    if isinstance(space, xl.Blocks):
        size = sum(block.size for block in space.values())
        return space.random(0) if size == P.shape[1] else dict.fromkeys(space, d)
    return space.random(0) if space.size == P.shape[1] else d


def same_operators(A, P, d, how):
    x = given(A, P, d)
    y, expected = A @ x, P @ flat(x)
    if how == "xlops, inside of the edges":
        inside = {dim: slice(1, -1) for dim in A.range.dims}
        agree(y[inside], y.copy(data=expected.reshape(y.shape))[inside])
        return
    agree(y, expected)
    if how == "xlops":
        seeds = iter(range(1, 9))
        v = (
            {name: noise(block, next(seeds)) for name, block in y.items()}
            if isinstance(y, dict)
            else noise(y, 1)
        )
        agree(A.H @ v, P.H @ flat(v))


def noise(like, seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(like.shape)
    if like.dtype.kind == "c":
        values = values + 1j * rng.standard_normal(like.shape)
    return like.copy(data=values)


@pytest.mark.parametrize(("peer", "how", "left", "right"), PAIRS, ids=lambda word: word)
def test_pair(both, peer, how, left, right):
    theirs, ours = both
    one, other = eval(left, theirs[peer]), eval(right, ours)
    if isinstance(one, pylops.LinearOperator):
        if isinstance(other, pylops.LinearOperator):
            np.testing.assert_allclose(other.todense(), one.todense(), rtol=1e-10)
        else:
            same_operators(other, one, ours["d"], how)
    elif isinstance(one, (bool, tuple, np.dtype)):
        assert one == other
    else:
        agree(other, one)


@pytest.mark.parametrize(("left", "right"), CLUSTERS, ids=lambda word: word)
def test_cluster(both, left, right):
    """The same workers, on which the same comes out."""
    theirs, ours = both
    d = ours["d"]

    def with_client(client):
        client.wait_for_workers(2, timeout=60)
        y = ours["A"] @ d.chunk(shot=1)
        return sorted(client.nthreads().values()), client.compute(y).result()

    with contextlib.ExitStack() as stack:
        address = None
        if "address" in left:
            running = distributed.LocalCluster(
                n_workers=2,
                threads_per_worker=1,
                processes=False,
                protocol="tcp",
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
            )
            address = stack.enter_context(running).scheduler_address
        client, cluster = eval(left, theirs["PyLops-distributed"] | {"address": address})
        there, y = with_client(client)
        client.close()
        if cluster is not None:
            cluster.close()
        with eval(right, ours | {"address": address}) as client:
            here, again = with_client(client)
    assert here == there == [1, 1]
    agree(y, ours["A"] @ d)
    agree(again, y)


# --- nothing is left out --------------------------------------------------------------


def named(side):
    """The names that the tables have on one side."""
    return set(re.findall(r"[A-Za-z_]\w*", " ".join(one[side] for one in LINES)))


def not_here():
    return set(re.findall(r"`(\w+)`", TEXT[TEXT.index("## Not here yet") :]))


def public(*modules):
    """What modules of PyLops offer: operators, and functions that solve."""
    return {
        name
        for module in modules
        for name in module.__all__
        if not inspect.ismodule(getattr(module, name))
    }


SOLVERS = {
    name
    for module in ("basic", "leastsquares", "sparsity", "eigs")
    for name, value in vars(getattr(pylops.optimization, module)).items()
    if inspect.isfunction(value) and value.__module__.endswith(f".{module}")
}


@pytest.mark.parametrize(
    "names",
    [
        public(pylops.basicoperators),
        public(pylops.signalprocessing),
        SOLVERS,
        set(DISTRIBUTED),
    ],
    ids=["operators", "signals", "solvers", "PyLops-distributed"],
)
def test_all_of_theirs_is_on_the_page(names):
    assert names
    assert names <= named(2) | not_here()


def test_all_operators_of_ours_are_on_the_page():
    ours = {
        name
        for name in xl.__all__
        if inspect.isclass(value := getattr(xl, name))
        and issubclass(value, xl.LinearOperator)
    }
    assert ours - {"LinearOperator"} <= named(3)


def test_what_is_not_here_is_not_here():
    missing = not_here() - {"interop"}
    assert not missing & set(xl.__all__)
    assert not missing & named(2)


def test_arguments_that_have_no_place_are_nowhere():
    start = TEXT.index("## Arguments that have no place")
    rows = re.findall(r"^\| (`.*?) \|", TEXT[start : TEXT.index("## From")], re.MULTILINE)
    gone = set(re.findall(r"`(\w+)`", " ".join(rows)))
    assert {"dims", "axis", "sampling", "dtype", "chunks", "compute", "todask"} <= gone
    for name in xl.__all__:
        value = getattr(xl, name)
        if inspect.isclass(value) and issubclass(value, xl.LinearOperator):
            taken = set(inspect.signature(value).parameters)
            # Orders and names of dims are what these two are for.
            assert not taken & gone - ({"dims"} if name == "Transpose" else set()), name
    for solver in (xl.cg, xl.cgls, xl.solve, xl.regularized_inversion):
        assert not set(inspect.signature(solver).parameters) & gone
