"""The code of the guides runs, and does what they say."""

import importlib
import pathlib
import pickle
import re
import sys

import numpy as np
import pytest
import xarray as xr

import xlops as xl

GUIDE = pathlib.Path(__file__).parents[1] / "docs" / "guide" / "own_operator.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The operator of the guide, as a module of its own."""
    (tmp_path / "echo.py").write_text(blocks("python")[0], "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("echo")
    sys.modules.pop("echo")


@pytest.fixture
def d():
    return xr.DataArray(
        np.random.default_rng(0).standard_normal((4, 60)),
        coords={"time": ("time", 0.004 * np.arange(60), {"units": "s"})},
        dims=("offset", "time"),
        attrs={"units": "Pa"},
    )


def test_a_complete_operator_is_short():
    code = blocks("python")[0]
    assert len(code.splitlines()) < 40
    imports = re.findall(r"from (xlops\S*) import", code)
    assert imports == ["xlops.extend"]


@pytest.mark.parametrize(
    "delay", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 1, 60, 99))]
)
def test_the_operator_holds(module, d, delay):
    xl.testing.assert_operator(module.Echo(d.time, delay, -0.9), d, tasks=3)


def test_it_is_the_formula(module, d):
    for delay in (0, 1, 7, 59, 60, 99):
        n = d.sizes["time"]
        matrix = np.eye(n) - 0.9 * np.eye(n, k=-delay)
        A = module.Echo(d.time, delay, -0.9)
        for x in (d, d.chunk(time=7), d.chunk(time=1)):
            np.testing.assert_allclose((A @ x).values, d.values @ matrix.T, atol=1e-14)
            np.testing.assert_allclose((A.H @ x).values, d.values @ matrix, atol=1e-14)


def test_it_joins_in(module, d):
    """One task per chunk with another stencil, as the product of two of the library."""
    x, D, E = d.chunk(time=20), xl.FirstDerivative(d.time), module.Echo(d.time, 3)
    product = D @ E
    plan = product.explain(x)
    assert [row.windows for row in plan.rows] == [{"time": "halo 4 + 1"}]
    assert plan.rows[0].name == "FirstDerivative(time) @ Echo(time)"
    assert plan.tasks == (D @ D).explain(x).tasks
    made = (product @ x).__dask_graph__().keys() - x.__dask_graph__().keys()
    assert len(made) == plan.tasks + 1  # the plan itself is one more node
    np.testing.assert_allclose((product @ x).values, (D @ (E @ d)).values, atol=1e-12)
    assert (product @ d).attrs["units"] == "Pa s-1"
    again = pickle.loads(pickle.dumps(product))
    assert again == product
    assert (again @ d).identical(product @ d)
    assert module.Echo(d.time, 3) == E != module.Echo(d.time, 4)
    assert isinstance(E, xl.LinearOperator)


def test_the_guide_runs(module, d, capsys):
    code = "\n".join(blocks("python")[1:])
    names = {"__name__": "guide"}
    exec(compile(code, str(GUIDE), "exec"), names)
    names["test_echo"]()
    names["test_one_sample_comes_twice"]()
    said, told = capsys.readouterr().out, blocks("text")[0]
    for one, other in zip(said.splitlines(), told.splitlines(), strict=True):
        # What a task holds depends on how its chunk is cut.
        assert one.split("  ")[:-1] == other.split("  ")[:-1] or "task" not in one
    assert "halo 4 + 1" in said
    assert "halo 4 + 1" in told
    E, B, y = module.Echo(names["d"].time, 3), names["B"], names["d"]
    for one, other in ((E, B), (E.H, B.H)):
        np.testing.assert_allclose((one @ y).values, (other @ y).values, atol=1e-15)
    assert B.explain(y).tasks == E.explain(y).tasks


def test_what_extends_is_in_one_place():
    import xlops.extend

    for name in xlops.extend.__all__:
        assert name in xlops.extend.__doc__ or name in {"Array", "WindowRule"}
        assert getattr(xlops.extend, name).__doc__
