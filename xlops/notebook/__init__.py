"""Operators and their results in notebooks: as pages, and as pictures."""
