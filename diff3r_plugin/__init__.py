"""Diff3R for existing feed-forward 3D Gaussian Splatting repositories: a differentiable optimization layer.

>>> from diff3r_plugin import TTOConfig, TTOLayer
>>> TTOLayer(TTOConfig(inner_steps=3)).solver.steps
3
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from diff3r_plugin.backward import FirstOrder as FirstOrder
    from diff3r_plugin.backward import Implicit as Implicit
    from diff3r_plugin.backward import Stepwise as Stepwise
    from diff3r_plugin.backward import Truncated as Truncated
    from diff3r_plugin.backward import Unroll as Unroll
    from diff3r_plugin.config import TTOConfig as TTOConfig
    from diff3r_plugin.gaussians import Gaussians as Gaussians
    from diff3r_plugin.heads.uncertainty import UncertaintyHead as UncertaintyHead
    from diff3r_plugin.info import FallbackWarning as FallbackWarning
    from diff3r_plugin.info import Outcome as Outcome
    from diff3r_plugin.info import StationarityWarning as StationarityWarning
    from diff3r_plugin.info import TTOInfo as TTOInfo
    from diff3r_plugin.kernels.loading.library_cpu import release_memory as release_memory
    from diff3r_plugin.layer import TTOLayer as TTOLayer
    from diff3r_plugin.optimize import Adam as Adam
    from diff3r_plugin.optimize import GaussNewton as GaussNewton
    from diff3r_plugin.proximal import ProximalWeights as ProximalWeights
    from diff3r_plugin.render import linearize as linearize
    from diff3r_plugin.render import render as render
    from diff3r_plugin.views import Views as Views

_PUBLIC = {
    "backward": ("FirstOrder", "Implicit", "Stepwise", "Truncated", "Unroll"),
    "config": ("TTOConfig",),
    "gaussians": ("Gaussians",),
    "heads.uncertainty": ("UncertaintyHead",),
    "info": ("FallbackWarning", "Outcome", "StationarityWarning", "TTOInfo"),
    "layer": ("TTOLayer",),
    "kernels.loading.library_cpu": ("release_memory",),
    "optimize": ("Adam", "GaussNewton"),
    "proximal": ("ProximalWeights",),
    "render": ("linearize", "render"),
    "views": ("Views",),
}
"""Module -> what it adds to the package's own face."""

_HOMES = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    # Loaded on demand: the command line and the start-up hook must not wait for torch.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"diff3r_plugin.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
