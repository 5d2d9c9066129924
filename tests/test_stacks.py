"""Stacks: matrices of operators between named blocks, and Concat."""

import dask
import numpy as np
import pint
import pylops
import pytest
import xarray as xr
from scipy import sparse

import xlops as xl
from xlops.operators import concatenation

Q = pint.Quantity


@pytest.fixture
def d() -> xr.DataArray:
    return xr.DataArray(
        np.random.default_rng(0).standard_normal((4, 12)),
        dims=("offset", "time"),
        coords={
            "offset": ("offset", 25.0 * np.arange(4), {"units": "m"}),
            "time": ("time", 0.5 * np.arange(12), {"units": "s"}),
            "age": ("time", np.arange(12)),
        },
        attrs={"units": "Pa", "long_name": "pressure"},
        name="p",
    )


def near(x, y, tol=1e-13):
    np.testing.assert_allclose(x, y, rtol=0, atol=tol * np.max(np.abs(y)))


def flat(*arrays):
    return np.concatenate([np.ravel(a.transpose("offset", ...)) for a in arrays])


def parts(d):
    """Two operators in 1/s, and what they are in PyLops."""
    own = xl.FirstDerivative(d.time, edge=True), xl.FirstDerivative(d.time, "forward")
    theirs = [
        pylops.FirstDerivative(d.shape, axis=1, sampling=0.5, edge=True),
        pylops.FirstDerivative(d.shape, axis=1, sampling=0.5, kind="forward"),
    ]
    return own, theirs


@pytest.mark.parametrize("chunks", [None, {"time": 5}, {"offset": 2, "time": 4}])
def test_as_in_pylops(d, chunks):
    (A, B), (P, R) = parts(d)
    if chunks:
        d = d.chunk(chunks)
    e = d.copy(data=d.data[::-1])
    x = {"a": d, "b": e}
    blocks = [
        (xl.HStack({"a": A, "b": B}), pylops.HStack([P, R])),
        (xl.BlockDiag({"a": A, "b": B}), pylops.BlockDiag([P, R])),
        (
            xl.Block({"a": {"a": A, "b": B}, "b": {"a": B, "b": A}}),
            pylops.Block([[P, R], [R, P]]),
        ),
        (xl.Block([[A, None], [B, A]]), pylops.Block([[P, pylops.Zero(48)], [R, P]])),
    ]
    for own, theirs in blocks:
        given = dict(zip(own.domain, x.values(), strict=True))
        y = own @ given
        made = list(y.values()) if isinstance(y, dict) else [y]
        near(flat(*made), np.ravel(theirs @ flat(d, e)))
        back = own.H @ y
        near(flat(*back.values()), np.ravel(theirs.H @ flat(*made)))
    y = xl.VStack({"a": A, "b": B}) @ d
    near(flat(*y.values()), np.ravel(pylops.VStack([P, R]) @ flat(d)))


def test_blocks_of_different_shape(d):
    """Blocks may have dims, labels and sizes of their own."""
    R = xl.Restriction(d.offset, [1, 3])
    S = xl.Sum(d.offset)
    A = xl.BlockDiag({"rows": R, "trace": S})
    y = A @ {"rows": d, "trace": d.isel(time=slice(5))}
    near(y["rows"], d.values[[1, 3]])
    near(y["trace"], d.values[:, :5].sum(0))
    assert y["trace"].sizes == {"time": 5}
    back = A.H @ y
    np.testing.assert_array_equal(back["rows"].offset, d.offset)
    assert back["rows"].offset.attrs == d.offset.attrs


def test_a_row_extends_operators_over_dims_that_others_make(d):
    """Stacked side by side, adjoints are the adjoint of those stacked below each other."""
    R, D = xl.Restriction(d.offset, [1, 3]), xl.FirstDerivative(d.time)
    one = Q(1.0, "1/s") * R
    V, H = xl.VStack({"a": one, "b": D}), xl.HStack({"a": one.H, "b": D.H})
    y = V @ d
    xr.testing.assert_identical(H @ y, V.H @ y)
    with pytest.raises(xl.LabelError, match="'time' is missing"):
        H @ {"a": y["a"].isel(time=0), "b": y["b"]}


def test_lists_are_named_by_position(d):
    I = xl.Identity(d.time)
    for stack in (xl.VStack([I, I]), xl.BlockDiag([I, I]), xl.Block([[I], [I]])):
        assert list(stack.range) == ["0", "1"]
    assert list(xl.HStack([I, 2 * I]).domain) == ["0", "1"]


def test_dataset_in_dataset_out(d):
    B = xl.BlockDiag({"p": xl.FirstDerivative(d.time), "q": xl.Identity(d.time)})
    ds = xr.Dataset({"p": d, "q": 2 * d})
    made = B @ ds
    assert isinstance(made, xr.Dataset)
    near(made.q, 2 * d.values)
    kept = xl.BlockDiag({"p": xl.Restriction(d.time, [1]), "q": xl.Identity(d.time)}) @ ds
    assert isinstance(kept, dict)  # their labels differ
    assert isinstance(ds.lops.apply(B), xr.Dataset)


# --- units ----------------------------------------------------------------------------


def test_units(d):
    D, I = xl.FirstDerivative(d.time), xl.Identity(d.time)
    B = xl.Block({"rate": {"u": D, "v": I}, "speed": {"v": I}})
    unit = {row: {c: str(u) for c, u in by.items()} for row, by in B.units.items()}
    assert unit == {
        "rate": {"u": "1 / second", "v": "dimensionless"},
        "speed": {"v": "dimensionless"},
    }
    u, v = d.assign_attrs(units="m"), d.assign_attrs(units="km/s")
    y = B @ {"u": u, "v": v}
    assert {k: b.units for k, b in y.items()} == {"rate": "m s-1", "speed": "m s-1"}
    near(y["speed"], 1000 * d.values)
    near(y["rate"], (D @ d).values + 1000 * d.values)
    assert {k: str(u) for k, u in xl.HStack({"u": D, "v": I}).units.items()} == {
        "u": "1 / second",
        "v": "dimensionless",
    }
    with pytest.raises(xl.UnitError, match=r"block 'u' comes in .*block 'v' in"):
        B @ {"u": u, "v": u}
    bare = B @ {"u": d.drop_attrs(deep=False), "v": d.drop_attrs(deep=False)}
    assert "units" not in bare["rate"].attrs


def test_blocks_that_have_nothing_in_common_have_units_of_their_own(d):
    I = xl.Identity(d.time)
    B = xl.BlockDiag({"p": I, "T": xl.FirstDerivative(d.time)})
    y = B @ {"p": d, "T": d.isel(offset=0).assign_attrs(units="degC")}
    assert y["p"].units == "Pa"
    assert y["T"].units == "delta_degC s-1"
    assert y["T"].dims == ("time",)


def test_numbers_between_units_are_taken_care_of(d):
    I = xl.Identity(d.time)
    B = xl.Block([[I, Q(1.0, "km") * I], [I, Q(1.0, "m") * I]])
    y = B @ {"0": d.assign_attrs(units="m"), "1": d.assign_attrs(units="1")}
    assert [block.units for block in y.values()] == ["m", "m"]
    near(y["0"], d.values + 1000 * d.values)
    near(y["1"], 2 * d.values)
    xl.dottest(B)


def test_units_that_never_add(d):
    I, D = xl.Identity(d.time), xl.FirstDerivative(d.time)
    with pytest.raises(xl.UnitError, match="no units of the blocks"):
        xl.Block([[I, D], [I, I]])
    with pytest.raises(xl.UnitError, match=r"block 'a' comes in .*, block 'b' in"):
        xl.HStack({"a": D, "b": I}) @ xl.VStack({"a": I, "b": I})


# --- algebra --------------------------------------------------------------------------


def test_products_and_sums_of_stacks(d):
    (A, B), _ = parts(d)
    one = Q(1.0, "s")
    A, B = one * A, one * B
    V, H = xl.VStack({"a": A, "b": B}), xl.HStack({"a": A, "b": B})
    diagonal = xl.BlockDiag({"a": A, "b": 2 * xl.Identity(d.time)})
    near((H @ diagonal @ V) @ d, ((A @ A @ A) @ d + 2 * ((B @ B) @ d)).values)
    made = (V @ H) @ {"a": d, "b": d}
    near(made["b"], ((B @ A) @ d + (B @ B) @ d).values)
    near((V + 3 * V)(d)["b"], 4 * (B @ d).values)
    near((V - V.H.H)(d)["a"] + 1, np.ones(d.shape))
    near((diagonal**2)({"a": d, "b": d})["b"], 4 * d.values)
    near((diagonal**0)({"a": d, "b": d})["b"], d.values)
    assert (H @ V).clinear
    assert "symmetric" in diagonal.gram.traits
    for C in (V @ H, H @ diagonal @ V, diagonal.gram, (V + V).H):
        assert xl.dottest(C)


def test_stacks_of_stacks(d):
    I, D = xl.Identity(d.time), Q(1.0, "s") * xl.FirstDerivative(d.time)
    H = xl.HStack({"a": I, "b": D})
    B = xl.VStack({"data": D @ H, "smooth": H})
    y = B @ {"a": d, "b": d}
    near(y["data"], (D @ d + D @ (D @ d)).values)
    wide = xl.HStack({"a": xl.VStack([I, D]), "b": xl.VStack([D, 2 * I])})
    near(wide({"a": d, "b": d})["1"], (D @ d + 2 * d).values)
    with pytest.raises(xl.LabelError, match="makes blocks itself"):
        xl.VStack({"a": xl.VStack([I])})
    with pytest.raises(xl.LabelError, match="acts on blocks itself"):
        xl.HStack({"a": H})
    with pytest.raises(xl.LabelError, match="maps blocks itself"):
        xl.BlockDiag({"a": H})
    with pytest.raises(xl.LabelError, match="maps blocks itself"):
        xl.Block({"a": {"b": H}})
    with pytest.raises(xl.LabelError, match="'a' and 'b' do not meet"):
        xl.VStack({"a": H, "b": I})


def test_complex_blocks(d):
    B = xl.Block([[xl.Identity(d.time), 1j * xl.Identity(d.time)]])
    y = B @ {"0": d + 0j, "1": d + 0j}
    near(y["0"], d.values * (1 + 1j))
    mixed = xl.HStack({"a": xl.FFT(d.time, real=True).H, "b": xl.Identity(d.time)})
    assert not mixed.clinear
    xl.dottest(mixed)


def test_what_does_not_meet(d):
    I = xl.Identity(d.time)
    with pytest.raises(xl.LabelError, match="cannot be added"):
        xl.HStack({"a": I, "b": xl.Restriction(d.time, [1, 2])})
    with pytest.raises(xl.LabelError, match="at least one"):
        xl.Block([[None]])
    with pytest.raises(xl.DTypeError, match="expected an operator"):
        xl.Block([[3]])
    with pytest.raises(xl.DTypeError, match="mapping by name or a sequence"):
        xl.HStack(I)
    with pytest.raises(xl.LabelError, match="must not be empty"):
        xl.VStack({"": I})
    H = xl.HStack([I, 2 * I])
    with pytest.raises(xl.LabelError, match="expected blocks"):
        H @ {"0": d}
    with pytest.raises(xl.LabelError, match="differ in the dims that pass through"):
        H @ {"0": d, "1": d.isel(offset=0)}


# --- on Dask --------------------------------------------------------------------------


def test_stacks_fuse_and_explain(d):
    """Stencils in a row read one halo each, and run in one task per chunk."""
    x = d.isel(time=np.arange(12).repeat(5), offset=0, drop=True)
    x = x.assign_coords(time=("time", np.arange(60.0), {"units": "s"})).chunk(time=10)
    D, S = xl.FirstDerivative(x.time), xl.SecondDerivative(x.time)
    H = xl.HStack({"a": D @ D, "b": S})
    plan = H.explain({"a": x, "b": x.copy(data=x.data + 1)})
    assert len(plan.rows) == 1
    assert plan.rows[0].windows == {"time": "halo 2 + 2"}
    lazy = H @ {"a": x, "b": x}
    assert lazy.chunks == x.chunks
    near(lazy, (H @ {"a": x.compute(), "b": x.compute()}).values)


def test_building_reads_nothing(d):
    def get(*args, **kwargs):
        raise AssertionError("Dask has computed something")

    with dask.config.set(scheduler=get):
        B = xl.Block([[xl.Identity(d.time), xl.Identity(d.time)]])
        made = B @ {"0": d.chunk(), "1": d}
        made = xl.Concat([xl.Identity(d.time), 2 * xl.Identity(d.time)], "k") @ made["0"]
    near(made.isel(k=1), 4 * d.values)


# --- solvers --------------------------------------------------------------------------


def dense_of(A, x):
    """The matrix of an operator on blocks like x, column by column."""
    columns = []
    for name, block in x.items():
        for i in range(block.size):
            unit = {n: xr.zeros_like(b.drop_attrs(deep=False)) for n, b in x.items()}
            values = np.zeros(block.size)
            values[i] = 1
            unit[name] = unit[name].copy(data=values.reshape(block.shape))
            y = A @ unit
            made = y.values() if isinstance(y, dict) else [y]
            columns.append(np.concatenate([b.values.ravel() for b in made]))
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("chunks", [{}, {"time": 5}])
@pytest.mark.parametrize("damp", [0.0, 0.3])
def test_models_in_blocks(d, chunks, damp):
    x = {"level": d.isel(offset=0, drop=True), "slope": d.isel(offset=1, drop=True)}
    I, D = xl.Identity(d.time), Q(1.0, "s") * xl.FirstDerivative(d.time, edge=True)
    weights = xl.Diagonal(d.time.astype(float).drop_attrs() + 1)
    A = xl.Block({"data": {"level": I, "slope": weights}, "more": {"level": D, "slope": I}})
    y = A @ x
    if chunks:
        y = {name: block.chunk(chunks) for name, block in y.items()}
    solution = xl.cgls(A, y, damp=damp, tol=1e-13)
    M = dense_of(A, x)
    full = np.vstack([M, damp * np.eye(24)])
    data = np.concatenate([y["data"].values, y["more"].values, np.zeros(24)])
    expected = np.linalg.lstsq(full, data, rcond=None)[0]
    assert list(solution.x) == ["level", "slope"]
    near(np.concatenate([b.values for b in solution.x.values()]), expected, 1e-9)
    xr.testing.assert_identical(solution.x["level"].time, d.isel(offset=0, drop=True).time)
    assert solution.x["slope"].units == "Pa"
    misfit = np.concatenate([b.values for b in solution.residual.values()])
    near(misfit + 1, data[:24] - M @ expected + 1, 1e-9)
    start = {name: 2 * block for name, block in solution.x.items()}
    again = xl.cgls(A, y, x0=start, damp=damp, tol=1e-13)
    near(again.x["slope"], solution.x["slope"].values, 1e-9)
    pulled = xl.cgls(A, y, x_ref=solution.x, damp=1e6, tol=1e-13)
    near(pulled.x["slope"], solution.x["slope"].values, 1e-6)
    dataset = solution.to_dataset()
    assert {"x_level", "x_slope", "residual_data", "residual_more"} <= set(dataset)
    assert "level (time: 12); slope (time: 12)" in repr(solution)


def test_units_of_models_in_blocks(d):
    D, I = xl.FirstDerivative(d.time), xl.Identity(d.time)
    y = (D @ d).assign_attrs(units="m/s")
    solution = xl.HStack({"u": D, "v": I}) / y
    assert solution["u"].units == "m"
    assert solution["v"].units == "m/s"
    with pytest.raises(xl.UnitError, match="blocks of the model have different units"):
        xl.cgls(xl.HStack({"u": D, "v": I}), y, damp=Q(1.0, "1/s"))


def test_preconditioned_blocks(d):
    I = xl.Identity(d.time)
    A = xl.BlockDiag({"a": 2 * I, "b": 10 * I})
    M = xl.BlockDiag({"a": 0.25 * I, "b": 0.01 * I})
    y = {"a": d, "b": d}
    solution = xl.cgls(A, y, preconditioner=M, tol=1e-12)
    assert solution.iterations == 1
    near(solution.x["b"], d.values / 10)
    with pytest.raises(xl.LabelError, match="preconditioner"):
        xl.cgls(A, y, preconditioner=I)


def test_normal_equations_of_blocks(d):
    x = {"a": d.isel(offset=0, drop=True), "b": d.isel(offset=1, drop=True)}
    I = xl.Identity(d.time)
    weights = xl.Diagonal(xr.ones_like(d.time).drop_attrs(deep=False) / 2)
    A = xl.Block({"data": {"a": 2 * I, "b": weights}, "more": {"a": I, "b": 3 * I}})
    y = A.H @ (A @ x)
    solution = xl.cg(A.gram, y, tol=1e-14)
    near(solution.x["a"], x["a"].values, 1e-9)
    near(solution.x["b"], x["b"].values, 1e-9)
    near((A.gram / y)["b"], x["b"].values, 1e-4)
    D = xl.FirstDerivative(d.time)
    with pytest.raises(xl.UnitError, match="cg needs blocks in one unit"):
        xl.cg(xl.HStack({"a": D, "b": I}).gram, {"a": x["a"], "b": x["b"]})
    with pytest.raises(xl.LabelError, match="cg needs an operator from a space to itself"):
        xl.cg(A, A @ x)


def test_regularized_blocks(d):
    """Each block of the model can be smoothed by an operator of its own."""
    x = d.isel(offset=0, drop=True)
    I, D2 = xl.Identity(x.time), xl.SecondDerivative(x.time)
    A = xl.HStack({"a": I, "b": xl.Diagonal(x.drop_attrs(deep=False))})
    terms = {
        "a": (xl.HStack({"a": D2}), Q(2.0, "s**2")),
        "b": (xl.HStack({"b": I}), 0.5),
    }
    solution = xl.regularized_inversion(A, x, terms, tol=1e-13)
    model = {"a": x, "b": x}
    M = np.vstack(
        [
            dense_of(A, model),
            2 * dense_of(xl.HStack({"a": D2, "b": 0 * D2}), model),
            0.5 * dense_of(xl.HStack({"a": 0 * I, "b": I}), model),
        ]
    )
    data = np.concatenate([x.values, np.zeros(24)])
    expected = np.linalg.lstsq(M, data, rcond=None)[0]
    near(np.concatenate([b.values for b in solution.x.values()]), expected, 1e-9)
    assert list(solution.residual) == ["data", "a", "b"]


# --- Concat ---------------------------------------------------------------------------


def test_concat_makes_each_sample_once(monkeypatch):
    """What it costs grows with its samples, not with their square."""
    filled, put = [], concatenation._put

    def counted(dim, index, block, out):
        filled.append(out.size)
        put(dim, index, block, out)

    monkeypatch.setattr(concatenation, "_put", counted)
    x = xr.DataArray(np.arange(6.0), dims="time")
    A = xl.Concat([(k + 1) * xl.Identity(x.time) for k in range(5)], "k")
    for given in (x, x.chunk(time=2)):
        filled.clear()
        y = (A @ given).compute(scheduler="sync")
        np.testing.assert_array_equal(y, np.outer(x, np.arange(1.0, 6.0)))
        assert sum(filled) == y.size


def test_concat(d):
    shots = xr.DataArray([7, 9], dims="shot", coords={"shot": ("shot", [7, 9], {"a": 1})})
    kept = [[0, 1], [0, 1]]
    A = xl.Concat([xl.Restriction(d.offset, k) for k in kept], shots.shot)
    y = A @ d
    assert y.dims == ("offset", "time", "shot")
    assert y.shot.attrs == {"a": 1}
    near(y.sel(shot=9), d.values[kept[1]])
    back = A.H @ y
    xr.testing.assert_identical(back.offset, d.offset)
    near(back.values[:2], 2 * d.values[:2])
    assert not back.values[2:].any()
    lazy = d.chunk(time=5)
    assert (A @ lazy).chunksizes["shot"] == (1, 1)
    np.testing.assert_array_equal(A @ lazy, y)
    plan = (xl.FirstDerivative(d.time) @ A).explain(lazy)
    assert len(plan.rows) == 1


def test_concat_by_name(d):
    I = xl.Identity(d.time)
    A = xl.Concat({"a": I, "b": 2 * I}, "component")
    assert list((A @ d).component.values) == ["a", "b"]
    bare = xl.Concat([I, I], "k") @ d
    assert "k" not in bare.coords


def test_concat_converts_units(d):
    I = xl.Identity(d.time)
    y = xl.Concat([Q(1.0, "m") * I, Q(1.0, "km") * I], "k") @ d
    near(y.isel(k=1), 1000 * d.values)
    assert pint.Unit(y.units) == pint.Unit("m Pa")


def test_concat_refuses(d):
    I = xl.Identity(d.time)
    with pytest.raises(xl.LabelError, match="has dim 'time' already"):
        xl.Concat([I], "time")
    with pytest.raises(xl.LabelError, match="12 labels for 1 operators"):
        xl.Concat([xl.Identity(d.offset)], d.time)
    with pytest.raises(xl.LabelError, match="at least one"):
        xl.Concat([], "k")
    with pytest.raises(xl.DTypeError, match="sequence or a mapping"):
        xl.Concat(I, "k")
    with pytest.raises(xl.DTypeError, match="expected an operator"):
        xl.Concat([3], "k")
    with pytest.raises(xl.LabelError, match="maps blocks"):
        xl.Concat([xl.VStack([I])], "k")
    with pytest.raises(xl.UnitError, match="cannot be added"):
        xl.Concat([I, xl.FirstDerivative(d.time)], "k")
    with pytest.raises(xl.LabelError, match="cannot be added"):
        xl.Concat([I, xl.Restriction(d.time, [1])], "k")


# --- dims that only some blocks know --------------------------------------------------


def test_dims_of_one_block_pass_through_another(d):
    """What one block makes may pass through those that have nothing to do with it."""
    T, O = xl.FirstDerivative(d.time), xl.SecondDerivative(d.offset)
    A = xl.BlockDiag({"p": T, "q": O})
    x = {"p": d, "q": 2 * d}
    y = A @ x
    xr.testing.assert_identical(y["p"], T @ d)
    xr.testing.assert_identical(y["q"], O @ (2 * d))
    near((A @ A @ x)["p"], (T @ (T @ d)).values)
    assert xl.dottest(A, like=d.isel(time=0))


def test_dims_pass_through_all_blocks_that_belong_together(d):
    """Factors are extended over what passes through them in any of their blocks."""
    T, O = xl.Flip(d.time), xl.Flip(d.offset)
    one = xl.Identity(d.time)
    V, H = xl.VStack({"p": one, "q": 2 * one}), xl.HStack({"p": one, "q": 2 * one})
    B = xl.BlockDiag({"p": O, "q": T})
    A = B @ V
    assert {str(dim) for dim in A.domain.dims} == {"offset", "time"}
    assert all(set(space.dims) == {"offset", "time"} for space in A.range.values())
    near((A @ d)["p"], d.values[::-1])
    near((A @ d)["q"], 2 * d.values[:, ::-1])
    C = H @ B
    assert all(set(space.dims) == {"offset", "time"} for space in C.domain.values())
    near(C @ {"p": d, "q": d}, d.values[::-1] + 2 * d.values[:, ::-1])
    for operator in (A, A.H, C, C.H, C @ A):
        assert xl.dottest(operator)


def test_a_dim_passes_through_all_blocks_that_belong_together_or_none(d):
    V = xl.VStack({"p": xl.Identity(d.time), "q": xl.Zero(d.time, d.offset)})
    B = xl.BlockDiag({"p": xl.Flip(d.offset), "q": xl.Flip(d.offset)})
    with pytest.raises(xl.LabelError, match="dim 'offset' would pass through VStack"):
        B @ V


# --- values that are real, complex or any ---------------------------------------------


@pytest.mark.parametrize("order", ["pq", "qp"])
def test_a_sum_of_real_and_any_values_may_be_complex(d, order):
    """Whatever the order of the blocks."""
    F = xl.FFT(d.time, real=True)
    parts = {"p": F.H, "q": xl.Identity(d.time)}
    H = xl.HStack({name: parts[name] for name in order})
    y = F @ d
    made = H @ {"p": 1j * y, "q": 1j * d}
    near(made, (F.H @ (1j * y)).values + 1j * d.values)


def test_conjugates_of_stacks_add(d):
    V = xl.VStack({"p": 1j * xl.Identity(d.time), "q": xl.Flip(d.time)})
    y = (V.conj() + V) @ d
    near(y["p"] + 1, np.ones(d.shape))
    near(y["q"], 2 * d.values[:, ::-1])


def test_labels_along_a_concat_are_single_values(d):
    I = xl.Identity(d.time)
    with pytest.raises(xl.LabelError, match="is one value, not several"):
        xl.Concat({(1, 2): I, (1, 3): I}, "shot")


def test_a_block_without_rows_is_refused():
    for rows in ({}, []):
        with pytest.raises(xl.LabelError, match="Block needs at least one operator"):
            xl.Block(rows)


# --- many operators -------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [None, {"time": 5}])
def test_samples_of_a_long_concat(d, chunks):
    """Each is what its own operator makes, forward, and after other operators."""
    labels = np.arange(40)
    rows = xr.DataArray(["a", "b"], dims="row")
    parts = {
        int(i): xl.MatrixMult(
            sparse.csr_array(np.eye(4)[[i % 4, 0]]),
            domain=d.offset,
            range=rows.assign_coords(row=rows).row,
        )
        for i in labels
    }
    A = xl.Concat({i: (i + 1) * parts[i] for i in parts}, "shot")
    x = d if chunks is None else d.chunk(chunks)
    wanted = np.stack([(i + 1) * d.values[[i % 4, 0]] for i in labels])
    made = (A @ x).transpose("shot", "row", "time")
    np.testing.assert_array_equal(made, wanted)
    turned = (xl.Roll(made.shot, 3) @ A) @ x
    np.testing.assert_array_equal(
        turned.transpose("shot", "row", "time"), np.roll(wanted, 3, axis=0)
    )
    back = np.zeros(d.shape)
    for i in labels:
        np.add.at(back, [i % 4, 0], (i + 1) * wanted[i])
    near(A.H @ made, back)


def test_labels_that_differ_along_a_concat_are_told_by_its_name(d):
    parts = [xl.Restriction(d.time, [i]) for i in range(12)]
    with pytest.raises(xl.LabelError, match=r"^side cannot be added: 'time' has other"):
        xl.Concat(parts, "shot", name="side")


def test_blocks_with_coordinates_that_differ_are_no_dataset():
    """Labels of one block must not pass for those of another."""
    x = xr.DataArray(np.arange(4.0), dims="i", coords={"cdp": ("i", [10, 20, 30, 40])})
    A = xl.BlockDiag({"a": xl.Restriction(x.i, [0, 1]), "b": xl.Restriction(x.i, [2, 3])})
    y = A @ xr.Dataset({"a": x, "b": x})
    assert isinstance(y, dict)
    np.testing.assert_array_equal(y["b"].cdp, [30, 40])


@pytest.mark.parametrize("name", ["shot", "age", "half"])
@pytest.mark.parametrize("labels", [None, [5, 6]])
def test_coordinates_give_way_to_new_dims(d, name, labels):
    """A shot taken from a survey still says which it was; in a Dataset, too."""
    x = d.assign_coords(shot=3, half=("offset", np.arange(4) / 2))
    I = xl.Identity(x.time)
    A = xl.Concat(
        [I, 2 * I] if labels is None else dict(zip(labels, [I, 2 * I], strict=True)), name
    )
    for given in (x, x.chunk(offset=2)):
        y = A @ given
        assert y.sizes[name] == 2
        assert (name in y.coords) == (labels is not None)
        ds = xr.Dataset({"p": given, "one": 1.0}).lops.apply(A)
        xr.testing.assert_identical(ds.p.drop_vars(set(ds.p.coords) - set(y.coords)), y)
    M = xl.MatrixMult(xr.DataArray(np.ones((2, 12)), dims=(name, "time")), "time")
    y = M @ x.drop_vars("time")
    assert y.dims == ("offset", name)
    back = M.H @ y.assign_coords(time=4.0)
    assert back.dims == ("offset", "time")
    assert "time" not in back.coords


def test_names_are_words(d):
    I = xl.Identity(d.time)
    for build in (
        xl.VStack,
        xl.HStack,
        xl.BlockDiag,
        lambda b, name: xl.Block([b], name=name),
    ):
        with pytest.raises(xl.DTypeError, match="name must be a string, got int"):
            build([I], name=3)


def test_a_preconditioner_of_another_kind(d):
    H = xl.HStack([xl.Identity(d.time), xl.Identity(d.time)])
    with pytest.raises(xl.LabelError, match=r"the model is blocks '0', '1'"):
        xl.cgls(H, d, preconditioner=xl.Identity(d.time))
