"""Solvers whose vectors lie on disk."""

import os

import numpy as np
import pytest
import xarray as xr

import xlops as xl
from xlops.engine.stored import Shelf, Stored
from xlops.windows.pieces import Array

pytest.importorskip("zarr")


@pytest.fixture
def d():
    rng = np.random.default_rng(0)
    return xr.DataArray(
        rng.standard_normal((7, 20, 30)),
        dims=("shot", "offset", "time"),
        coords={
            "offset": ("offset", 12.5 * np.arange(20), {"units": "m"}),
            "time": ("time", 0.004 * np.arange(30), {"units": "s"}),
        },
        name="pressure",
        attrs={"units": "Pa"},
    )


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "store"


def there(folder):
    return sorted(path.name for path in folder.iterdir())


DONE = [".xlops-store", "residual.zarr", "x.zarr"]


def assert_alike(one, other):
    if isinstance(one, dict):
        assert list(one) == list(other)
        for name in one:
            assert_alike(one[name], other[name])
        return
    xr.testing.assert_identical(one.compute().copy(data=other.values), other)
    scale = float(abs(other).max())
    np.testing.assert_allclose(one.values, other.values, rtol=0, atol=1e-10 * scale)


def smoothing(d):
    return xl.Smoothing1D(d.time, 5) @ xl.Smoothing1D(d.offset, 3)


def weighted(d):
    return xl.Diagonal(1 + abs(d.isel(shot=0, drop=True)).drop_attrs()) @ smoothing(d)


def restricted(d):
    return xl.Restriction(d.offset, [0, 2, 3, 7, 8, 9, 15, 19]) @ smoothing(d)


def transformed(d):
    return xl.FFT(d.time, real=True) @ smoothing(d)


def contracted(d):
    matrix = np.random.default_rng(1).standard_normal((20, 20))
    return xl.MatrixMult(
        xr.DataArray(matrix, dims=("row", "offset"), coords={"offset": d.offset}), "offset"
    )


@pytest.mark.parametrize(
    "make",
    [smoothing, weighted, restricted, transformed, contracted],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("chunks", [(3, 8, 30), ((2, 5), (7, 1, 12), (10, 20))], ids=str)
@pytest.mark.parametrize("damp", [0, 0.3])
def test_what_memory_gives(d, folder, make, chunks, damp):
    A = make(d)
    y = A @ d
    lazy = A @ d.chunk(dict(zip(d.dims, chunks, strict=True)))
    x_ref = None if not damp else d
    expected = xl.cgls(A, y, niter=6, damp=damp, x_ref=x_ref)
    found = xl.cgls(A, lazy, niter=6, damp=damp, x_ref=x_ref, store=folder)
    assert there(folder) == DONE
    assert_alike(found.x, expected.x)
    assert_alike(found.residual, expected.residual)
    np.testing.assert_allclose(
        found.history.residual_norm, expected.history.residual_norm, rtol=1e-10
    )
    opened = xl.open(folder / "x.zarr", chunks={})
    assert opened.chunks == found.x.transpose(*opened.dims).chunks
    xr.testing.assert_equal(opened.compute(), found.x.compute())
    assert opened.units == "Pa"


@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("damp", [0, 0.3])
def test_cg(d, folder, preconditioned, damp):
    A = smoothing(d).gram
    M = (
        xl.Diagonal(1 + abs(d.isel(shot=0, drop=True)).drop_attrs())
        if preconditioned
        else None
    )
    lazy = d.chunk(offset=7, time=11)
    expected = xl.cg(A, d, niter=5, damp=damp, preconditioner=M)
    found = xl.cg(A, lazy, niter=5, damp=damp, preconditioner=M, store=folder)
    assert_alike(found.x, expected.x)
    assert_alike(found.residual, expected.residual)


def test_blocks(d, folder):
    A = xl.VStack({"near": xl.Mask(d.offset < 100) @ smoothing(d), "all": smoothing(d)})
    lazy = d.chunk(offset=7)
    y = {"near": d, "all": d}
    expected = xl.cgls(A, y, niter=4)
    found = xl.solve(A, {"near": lazy, "all": lazy}, niter=4, store=str(folder))
    assert_alike(found.x, expected.x)
    assert_alike(dict(found.residual), dict(expected.residual))
    assert list(xl.open(folder / "residual.zarr")) == ["near", "all"]


def test_regularizations(d, folder):
    A = xl.Mask(d.isel(shot=0, drop=True) > 0)
    y = A @ d
    terms = {"smooth": (xl.SecondDerivative(d.time), 1e-4)}
    expected = xl.regularized_inversion(A, y, terms, niter=5)
    found = xl.regularized_inversion(
        A, y.chunk(offset=6, time=13), terms, niter=5, store=folder
    )
    assert_alike(found.x, expected.x)


@pytest.mark.parametrize("dtype", ["f4", "c8", "c16"])
def test_precision(d, folder, dtype):
    y = d.astype(dtype)
    found = xl.cgls(smoothing(d), y.chunk(offset=7), niter=3, store=folder)
    assert found.x.dtype == np.dtype(dtype)
    assert xl.open(folder / "x.zarr").dtype == np.dtype(dtype)
    expected = xl.cgls(smoothing(d), y, niter=3)
    tolerance = 1e-10 if dtype == "c16" else 1e-5
    np.testing.assert_allclose(found.x.values, expected.x.values, rtol=0, atol=tolerance)


def test_coordinates_in_chunks_are_written(d, folder):
    """As ``chunk`` makes them: all but those that label a dim."""
    rng = np.random.default_rng(1)
    d = d.assign_coords(
        depth=(("offset", "time"), rng.standard_normal((20, 30)), {"units": "m"}),
        good=("shot", rng.random(7) > 0.5),
        day=("shot", np.datetime64("2020-01-01", "ns") + np.arange(7)),
    )
    A = xl.Smoothing1D(d.time, 5)
    lazy = d.chunk(shot=2, offset=7)
    assert lazy.depth.chunks
    solution = xl.cgls(A, lazy, niter=2, store=folder)
    for name in ("x", "residual"):
        kept = xl.open(folder / f"{name}.zarr").load()
        del kept.attrs["history"]
        xr.testing.assert_identical(kept, getattr(solution, name).compute())


def test_a_breakdown_gives_the_last_good_step(d, folder):
    A = -1.0 * smoothing(d).gram
    found = xl.cg(A, d.chunk(offset=7), store=folder)
    expected = xl.cg(A, d)
    assert found.reason is expected.reason
    assert_alike(found.x, expected.x)
    assert_alike(found.residual, expected.residual)


def test_going_on_from_the_same_folder(d, folder):
    A, lazy = weighted(d), d.chunk(offset=7)
    first = xl.cgls(A, lazy, niter=3, store=folder)
    halfway = first.x.compute()
    second = xl.cgls(A, lazy, x0=xl.open(folder / "x.zarr"), niter=3, store=folder)
    assert there(folder) == DONE
    expected = xl.cgls(A, d, x0=halfway, niter=3)
    assert_alike(second.x, expected.x)


def test_callbacks_see_the_model(d, folder):
    A, lazy, seen, expected = weighted(d), d.chunk(offset=7), [], []
    xl.cgls(A, d, niter=4, callback=lambda status: expected.append(status.x))
    xl.cgls(A, lazy, niter=4, store=folder, callback=lambda s: seen.append(s.x.compute()))
    for one, other in zip(seen, expected, strict=True):
        assert_alike(one, other)


def test_late_reading_is_refused(d, folder):
    seen = []
    xl.cgls(
        smoothing(d),
        d.chunk(offset=7),
        niter=4,
        store=folder,
        callback=lambda s: seen.append(s.x),
    )
    with pytest.raises(xl.FileError, match="last iterate only"):
        seen[0].compute()


def test_a_failure_leaves_the_last_iterate(d, folder):
    A, lazy = weighted(d), d.chunk(offset=7)

    def fail(status):
        if status.iteration == 3:
            raise ArithmeticError("too much")

    with pytest.raises(ArithmeticError, match="too much") as caught:
        xl.cgls(A, lazy, store=folder, callback=fail)
    (note,) = caught.value.__notes__
    assert "iteration 3" in note
    assert f"x0=xl.open({str(folder / 'x.zarr')!r})" in note
    assert there(folder) == DONE
    assert_alike(
        xl.open(folder / "x.zarr").drop_attrs(), xl.cgls(A, d, niter=3).x.drop_attrs()
    )


# --- the folder -----------------------------------------------------------------------


def test_folders_of_others_are_left_alone(d, tmp_path):
    A, lazy = smoothing(d), d.chunk(offset=7)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(xl.FileError, match=r"'mine\.txt'.*choose a new folder"):
        xl.cgls(A, lazy, store=tmp_path)
    with pytest.raises(xl.FileError, match="is a file, not a folder"):
        xl.cgls(A, lazy, store=tmp_path / "mine.txt")
    with pytest.raises(xl.FileError, match="make it first"):
        xl.cgls(A, lazy, store=tmp_path / "no" / "such")
    with pytest.raises(xl.DTypeError, match="path"):
        xl.cgls(A, lazy, store=3)
    xl.save(d, tmp_path / "other.zarr")
    with pytest.raises(xl.FileError, match="choose a new folder"):
        xl.cgls(A, lazy, store=tmp_path / "other.zarr")
    assert there(tmp_path) == ["mine.txt", "other.zarr"]


def test_a_file_in_the_folder_of_a_solver(d, folder):
    A, lazy = smoothing(d), d.chunk(offset=7)
    xl.cgls(A, lazy, niter=1, store=folder)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(xl.FileError, match=r"notes\.txt"):
        xl.cgls(A, lazy, niter=1, store=folder)


def test_data_not_in_chunks(d, folder):
    with pytest.raises(xl.ChunkError, match=r"the data are not in chunks.*\.chunk"):
        xl.cgls(smoothing(d), d, store=folder)
    assert not folder.exists()


def test_labels_that_files_do_not_hold(d, folder):
    lazy = d.chunk(offset=7).assign_attrs(thing=object())
    with pytest.raises(xl.FileError, match="thing"):
        xl.cgls(smoothing(d), lazy, store=folder)
    assert there(folder) == [".xlops-store"]


def test_without_zarr(d, folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "zarr", None)
    with pytest.raises(xl.FileError, match=r'pip install "xlops\[zarr\]"'):
        xl.cgls(smoothing(d), d.chunk(offset=7), store=folder)


# --- chunks on disk -------------------------------------------------------------------


def test_chunks_are_those_of_zarr(tmp_path):
    import dask.array as da
    import zarr

    values = np.random.default_rng(0).standard_normal((10, 7))
    (tree,) = Shelf(tmp_path).compute(
        Array(da.from_array(values, chunks=(4, 3)), ("a", "b"))
    )
    (path,) = tmp_path.iterdir()
    np.testing.assert_array_equal(zarr.open_array(path, mode="r")[...], values)
    np.testing.assert_array_equal(tree.data[2:9, 1:5].compute(), values[2:9, 1:5])
    np.testing.assert_array_equal(tree.data.rechunk((5, 7)).T.compute(), values.T)


def test_parts_of_chunks(tmp_path):
    values = np.arange(24.0).reshape(4, 6)
    chunk = Stored(str(tmp_path / "0.0"), (4, 6), values.dtype, ((0, 4), (0, 6)))
    chunk.save(values)
    np.testing.assert_array_equal(chunk, values)
    part = chunk.part(((1, 3), None)).part((None, (2, 5)))
    assert (part.shape, part.ndim) == ((2, 3), 2)
    np.testing.assert_array_equal(part, values[1:3, 2:5])
    np.testing.assert_array_equal(part[0], values[1, 2:5])
    edge = Stored(str(tmp_path / "1.0"), (4, 6), values.dtype, ((0, 2), (0, 6)))
    edge.save(values[:2])
    assert os.path.getsize(edge.path) == values.nbytes
    np.testing.assert_array_equal(edge, values[:2])


def test_a_chunk_is_there_when_it_is_complete(tmp_path):
    chunk = Stored(str(tmp_path / "0"), (4,), np.dtype("f8"), ((0, 4),))
    chunk.save(np.arange(4.0))
    with pytest.raises(ValueError, match="convert"):
        chunk.save(np.array(["a", "b", "c", "d"]))
    assert there(tmp_path) == ["0"]
    np.testing.assert_array_equal(chunk, np.arange(4.0))
    with pytest.raises(xl.FileError, match="workers see"):
        Stored(str(tmp_path / "gone" / "0"), (4,), np.dtype("f8"), ((0, 4),)).save(
            np.ones(4)
        )


@pytest.mark.parametrize("damp", [0, 0.5])
def test_tasks_per_chunk(d, folder, monkeypatch, damp):
    """No iteration knows more of the earlier ones than where their files lie."""
    from xlops.engine import stored

    sizes, run = [], stored._run

    def counted(get, graph, keys):
        sizes.append(len(graph))
        return run(get, graph, keys)

    monkeypatch.setattr(stored, "_run", counted)
    lazy = d.chunk(offset=4)
    xl.cgls(smoothing(d), lazy, niter=12, damp=damp, tol=0, store=folder)
    assert len(set(sizes[1:])) == 1
    # And, at most, the plans and the numbers.
    assert sizes[-1] <= (8 if not damp else 9) * 5 + 20
