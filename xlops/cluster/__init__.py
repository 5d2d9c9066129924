"""``connect``: Dask clusters on one machine or many, started, found and stopped again."""

from xlops.cluster.connection import Connection, connect

__all__ = ["Connection", "connect"]
