"""The plugin: recognizes a host, attaches itself to the host's model, refines what its encoder predicts."""

from diff3r_plugin.plugin.errors import PluginError
from diff3r_plugin.plugin.host.adapter import HostAdapter
from diff3r_plugin.plugin.host.call import NO_CALL, Call
from diff3r_plugin.plugin.host.checkout import Checkout, Expectation
from diff3r_plugin.plugin.host.chosen_views import ViewChoice
from diff3r_plugin.plugin.host.feature_tap import Tap
from diff3r_plugin.plugin.host.hookspecs import hookimpl, hookspec
from diff3r_plugin.plugin.host.refined_method import RefinedMethod

__all__ = [
    "NO_CALL",
    "Call",
    "Checkout",
    "Expectation",
    "HostAdapter",
    "PluginError",
    "RefinedMethod",
    "Tap",
    "ViewChoice",
    "hookimpl",
    "hookspec",
]
