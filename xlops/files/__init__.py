"""NetCDF and Zarr in and out.

What is saved comes back as it was: values, types, labels and attributes count, the packing
of the files that they were read from does not.
"""

from xlops.files.reading import open  # noqa: A004
from xlops.files.writing import save

__all__ = ["open", "save"]
