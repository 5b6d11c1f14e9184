"""Refine one's own scene: Gaussians and posed images, from files or in memory, without a host."""

from diff3r_plugin.refine.pipeline import RefineResult, refine
from diff3r_plugin.refine.refinement import Refinement
from diff3r_plugin.refine.scene import SceneResult, refine_scene
from diff3r_plugin.refine.settings import RefineError, RefineSettings, RoundSettings

__all__ = [
    "RefineError",
    "RefineResult",
    "RefineSettings",
    "Refinement",
    "RoundSettings",
    "SceneResult",
    "refine",
    "refine_scene",
]
