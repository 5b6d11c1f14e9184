"""Data in the RealEstate10K chunk layout: procedural rooms, which need no download, and one's own captures.

`make_data` and `sample_scene` need NumPy and Pillow, which come with the ``demo`` extra, `make_capture_data` what the
``refine`` extra brings; all are imported at first use.
"""

from typing import Any

from diff3r_plugin.data.options import OUTLIER_KINDS, SPLITS, DataOptions

__all__ = [
    "OUTLIER_KINDS",
    "SPLITS",
    "CaptureOptions",
    "DataOptions",
    "make_capture_data",
    "make_data",
    "sample_scene",
]


def __getattr__(name: str) -> Any:
    if name in ("make_data", "sample_scene"):
        from diff3r_plugin.data import writer

        return getattr(writer, name)
    if name in ("CaptureOptions", "make_capture_data"):
        from diff3r_plugin.data import captures

        return getattr(captures, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
