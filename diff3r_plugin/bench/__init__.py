"""How fast this machine renders, differentiates and refines scenes of a given size."""

from diff3r_plugin.bench.measurement import BenchResult, BenchSettings, bench

__all__ = ["BenchResult", "BenchSettings", "bench"]
