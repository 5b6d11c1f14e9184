"""Refine one's own scene: Gaussians and posed images from files, a refined scene with its scores, no host."""

from diff3r_plugin.refine.pipeline import RefineResult, refine
from diff3r_plugin.refine.settings import RefineError, RefineSettings

__all__ = ["RefineError", "RefineResult", "RefineSettings", "refine"]
