"""Checks for operators, those that users write too."""

from xlops.testing.adjoint import assert_linear, dottest
from xlops.testing.members import members
from xlops.testing.properties import assert_operator

__all__ = ["assert_linear", "assert_operator", "dottest", "members"]
