"""Solvers: one method per file, one driver for labels, units, stopping and history."""
