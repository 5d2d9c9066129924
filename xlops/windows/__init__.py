"""Windows: to make this piece of the output I need that piece of the input.

Pure planning: no Dask, no labels. `pieces` are what work is cut into, `rules` say what a
piece needs, `plan` puts steps together.
"""
