"""A cluster of threads that says where its dashboard is."""

from __future__ import annotations

import distributed
from distributed.utils import format_dashboard_link

from xlops.cluster import machine

__all__ = ["Threads"]

EVERYWHERE = {"0.0.0.0", "::"}


class Threads(distributed.LocalCluster):
    """Workers in this process, as distributed's are.

    That one looks for the dashboard where the scheduler listens. The one of threads
    listens nowhere, and the machine's address stands in its place.
    """

    @property
    def dashboard_link(self) -> str:
        """Where a browser finds the dashboard; empty if there is none."""
        port = self.scheduler_info["services"].get("dashboard")
        if port is None:
            return ""
        asked: str = self.scheduler_spec["options"]["dashboard_address"]
        host = asked.rpartition(":")[0].strip("[]")
        return str(
            format_dashboard_link(machine.LOOPBACK if host in EVERYWHERE else host, port)
        )
