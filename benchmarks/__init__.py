"""xlops beside PyLops, plain Dask and copies: ``python -m benchmarks``."""
