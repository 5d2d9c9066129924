"""Bridges to SciPy and PyLops: their operators here, and ours there."""

from __future__ import annotations

from xlops.interop import pylops, scipy

__all__ = ["pylops", "scipy"]
