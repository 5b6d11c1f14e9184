"""Procedural rooms in the RealEstate10K chunk layout: training and test data that needs no download.

`make_data` and `sample_scene` need NumPy and Pillow, which come with the ``demo`` extra; both are imported at
first use.
"""

from typing import Any

from diff3r_plugin.data.options import OUTLIER_KINDS, SPLITS, DataOptions

__all__ = ["OUTLIER_KINDS", "SPLITS", "DataOptions", "make_data", "sample_scene"]


def __getattr__(name: str) -> Any:
    if name in ("make_data", "sample_scene"):
        from diff3r_plugin.data import writer

        return getattr(writer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
