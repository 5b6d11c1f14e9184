"""From photographs without cameras to a scene: structure from motion by ``pycolmap``, refinement from its points."""

from diff3r_plugin.reconstruction.pipeline import reconstruct
from diff3r_plugin.reconstruction.settings import ReconstructionError, ReconstructionSettings

__all__ = ["ReconstructionError", "ReconstructionSettings", "reconstruct"]
