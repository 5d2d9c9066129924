"""Numeric loops on plain blocks: no labels, no units, no Dask."""
