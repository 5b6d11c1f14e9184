"""Diff3R for existing feed-forward 3D Gaussian Splatting repositories: a differentiable optimization layer.

>>> from diff3r_plugin import TTOConfig, TTOLayer
>>> TTOLayer(TTOConfig(inner_steps=3)).solver.steps
3
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from diff3r_plugin.backward import FirstOrder, Implicit, Stepwise, Truncated, Unroll
    from diff3r_plugin.config import TTOConfig
    from diff3r_plugin.gaussians import Gaussians
    from diff3r_plugin.heads.uncertainty import UncertaintyHead
    from diff3r_plugin.info import FallbackWarning, Outcome, StationarityWarning, TTOInfo
    from diff3r_plugin.layer import TTOLayer
    from diff3r_plugin.optimize import Adam, GaussNewton
    from diff3r_plugin.proximal import ProximalWeights
    from diff3r_plugin.render import linearize
    from diff3r_plugin.views import Views

__all__ = [
    "FallbackWarning",
    "FirstOrder",
    "Truncated",
    "Unroll",
    "Stepwise",
    "Implicit",
    "GaussNewton",
    "Adam",
    "Gaussians",
    "Outcome",
    "ProximalWeights",
    "StationarityWarning",
    "TTOConfig",
    "TTOInfo",
    "TTOLayer",
    "UncertaintyHead",
    "Views",
    "__version__",
    "linearize",
]

_HOMES = {
    "FallbackWarning": "info",
    "FirstOrder": "backward",
    "Truncated": "backward",
    "Unroll": "backward",
    "Stepwise": "backward",
    "Implicit": "backward",
    "GaussNewton": "optimize",
    "Adam": "optimize",
    "Gaussians": "gaussians",
    "Outcome": "info",
    "ProximalWeights": "proximal",
    "StationarityWarning": "info",
    "TTOConfig": "config",
    "TTOInfo": "info",
    "TTOLayer": "layer",
    "UncertaintyHead": "heads.uncertainty",
    "Views": "views",
    "linearize": "render",
}


def __getattr__(name: str) -> Any:
    # Loaded on demand: the command line and the start-up hook must not wait for torch.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"diff3r_plugin.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
