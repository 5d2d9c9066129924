"""Labeled linear operators on xarray and Dask."""

__version__ = "0.1.0"
