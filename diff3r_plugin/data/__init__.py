"""Procedural rooms in the RealEstate10K chunk layout: training and test data that needs no download."""

from diff3r_plugin.data.make_data import DataOptions, make_data, sample_scene

__all__ = ["DataOptions", "make_data", "sample_scene"]
