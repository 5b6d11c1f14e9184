"""What a plugin of this plugin can provide (pluggy project and entry-point group: ``diff3r``)."""

from __future__ import annotations

import pluggy
from torch import nn

from diff3r_plugin.plugin.host.adapter import HostAdapter
from diff3r_plugin.plugin.settings.settings import PluginSettings

hookspec = pluggy.HookspecMarker("diff3r")
hookimpl = pluggy.HookimplMarker("diff3r")


@hookspec
def diff3r_adapters() -> list[type[HostAdapter]]:  # type: ignore[empty-body]
    """Adapter classes of one or more hosts.

    Example:
        >>> from diff3r_plugin.plugin import HostAdapter, hookimpl
        >>> class MyHost(HostAdapter):
        ...     name = "my_host"
        >>> @hookimpl
        ... def diff3r_adapters():
        ...     return [MyHost]
    """


@hookspec(firstresult=True)
def diff3r_head(adapter: HostAdapter, settings: PluginSettings, feature_channels: int) -> nn.Module | None:
    """The module that predicts the proximal weights; the first answer that is not None is taken.

    It is called like :class:`diff3r_plugin.UncertaintyHead`. ``feature_channels`` is 0 for a host without a tap.
    """


@hookspec
def diff3r_configure(adapter: HostAdapter, settings: PluginSettings, wrapper: nn.Module) -> None:
    """Called once for a host's model after the plugin has attached itself: the place to add a renderer or a logger."""
