"""Labeled members of a space: with any batch dims, order of dims, chunks and dtype."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xlops.errors import DTypeError
from xlops.space import Blocks, Space

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = [
    "DTYPES",
    "chunked",
    "cuts",
    "dtypes_of",
    "filled",
    "like_for",
    "member",
    "members",
]

# Precisions and values that every operator should keep.
DTYPES = ("float64", "float32", "complex128", "complex64")


def members(
    space: Space | Blocks,
    *,
    like: xr.DataArray | None = None,
    dtypes: Iterable[Any] | None = None,
    lazy: bool | None = None,
) -> SearchStrategy[Any]:
    """Hypothesis strategy: members of a space, and whatever may pass through with them.

    Parameters
    ----------
    space : Space or Blocks
        Such as ``A.domain``.
    like : DataArray, optional
        Any of its dims, with their labels, may pass through; its name and attributes are
        those of the members. Two dims of its own making unless given.
    dtypes : iterable, optional
        The dtypes to choose from: single and double precision, real and complex where
        the space allows that, unless given.
    lazy : bool, optional
        Whether members are Dask arrays, of any chunks; some are unless given.

    Returns
    -------
    hypothesis.strategies.SearchStrategy
        Of a DataArray, or of a dict of them where the space has blocks; all blocks have
        the same dims that pass through.

    Raises
    ------
    DTypeError
        Where it is no space.

    Examples
    --------
    >>> import hypothesis, numpy as np, xarray as xr, xlops as xl
    >>> t = xr.DataArray(0.5 * np.arange(6), dims="time")
    >>> A = xl.FirstDerivative(t)
    >>> @hypothesis.given(xl.testing.members(A.domain))
    ... @hypothesis.settings(max_examples=5, database=None)
    ... def test(x):
    ...     assert (A @ x).dims == x.dims
    >>> test()
    """
    import hypothesis.strategies as st

    if not isinstance(space, (Space, Blocks)):
        raise DTypeError(
            f"members of a space, such as A.domain, got {type(space).__name__}"
        )
    spaces = space if isinstance(space, Blocks) else {"": space}
    names = list(dtypes or dtypes_of(space))
    batch = like_for(space.values() if isinstance(space, Blocks) else [space], like)

    @st.composite
    def drawn(draw: Any) -> Any:
        passing = (
            draw(st.lists(st.sampled_from(batch.dims), unique=True)) if batch.dims else []
        )
        dtype, seed = draw(st.sampled_from(names)), draw(st.integers(0, 2**16))
        on_dask = draw(st.booleans()) if lazy is None else lazy
        made, chunks = {}, {}
        for number, (name, one) in enumerate(spaces.items()):
            x = member(one, batch, passing)
            x = filled(x.transpose(*draw(st.permutations(x.dims))), dtype, seed + number)
            if on_dask:
                for item in x.sizes.items():
                    if item not in chunks:
                        chunks[item] = draw(cuts(item[1]))
                x = chunked(x, {item[0]: chunks[item] for item in x.sizes.items()})
            made[name] = x
        return made if isinstance(space, Blocks) else made[""]

    return drawn()


def cuts(size: int) -> SearchStrategy[tuple[int, ...]]:
    """Hypothesis strategy: chunks of a dim; one, one for each sample, or any."""
    import hypothesis.strategies as st

    some = st.sets(st.integers(1, max(size - 1, 1)), max_size=3).map(
        lambda at: tuple(int(n) for n in np.diff([0, *sorted(at - {size}), size]))
    )
    return st.one_of(some, st.just((1,) * size), st.just((size,)))


def dtypes_of(side: Space | Blocks) -> tuple[str, ...]:
    """Those of `DTYPES` that members may have."""
    spaces = side.values() if isinstance(side, Blocks) else [side]
    real = any(space.kind == "real" for space in spaces)
    return DTYPES[:2] if real else DTYPES


def like_for(spaces: Iterable[Space], like: xr.DataArray | None) -> xr.DataArray:
    """An array over dims that none of these spaces has: those of `like`, or others."""
    own = {str(dim) for space in spaces for dim in space.dims}
    if like is not None:
        return like.isel({dim: 0 for dim in like.dims if str(dim) in own}, drop=True)
    free = (f"batch{i}" for i in range(len(own) + 2))
    one, other = [name for name in free if name not in own][:2]
    coords = {one: (one, 10.0 * np.arange(3), {"units": "m"}), "label": (one, list("abc"))}
    if "label" in own:
        del coords["label"]
    return xr.DataArray(
        np.zeros((3, 2)),
        coords=coords,
        dims=(one, other),
        name="member",
        attrs={"units": "m", "long_name": "member of a space"},
    )


def member(
    space: Space, like: xr.DataArray, passing: Sequence[Hashable] = ()
) -> xr.DataArray:
    """A member of zeros, which has some dims of `like` too."""
    inside = {
        name: coord.variable
        for name, coord in like.coords.items()
        if coord.dims and set(coord.dims) <= set(passing) and name not in space.names
    }
    sizes = {**space.sizes, **{dim: like.sizes[dim] for dim in passing}}
    return xr.DataArray(
        np.zeros(tuple(sizes.values())),
        coords={**space.coords, **inside},
        dims=tuple(sizes),
        name=like.name,
        attrs=like.attrs,
    )


def filled(x: xr.DataArray, dtype: Any, seed: int) -> xr.DataArray:
    """Normally distributed values with the labels of x, in no precision but `dtype`."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    values = 4.0 * rng.standard_normal(x.shape)
    if dtype.kind == "u":
        values = np.abs(values)
    if dtype.kind == "c":
        drawn = values + 4j * rng.standard_normal(x.shape)
        return x.copy(data=drawn.astype(dtype))
    return x.copy(data=values > 0 if dtype.kind == "b" else values.astype(dtype))


def chunked(x: xr.DataArray, chunks: Mapping[Any, tuple[int, ...]]) -> xr.DataArray:
    """The same values on Dask, the coordinates as they are."""
    return x.copy(data=x.variable.chunk({d: chunks[d] for d in x.dims}).data)
