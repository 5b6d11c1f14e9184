"""What every part of the plugin may know of the run: settings, adapter, the host's configuration, two ways to speak."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diff3r_plugin.plugin.errors import PluginError
from diff3r_plugin.plugin.host.adapter import HostAdapter
from diff3r_plugin.plugin.settings.settings import PluginSettings


@dataclass(frozen=True, eq=False)
class RunContext:
    """The values that hold for the whole process.

    Args:
        settings: The plugin's settings.
        adapter: The host's adapter.
        host_config: The host's composed configuration (an OmegaConf node or a mapping).
        say: Prints one line for the user.
        call_hook: Calls a hook of other plugins by name, with its further arguments; adapter and settings are given
            to each. Returns what pluggy returns.
        report_error: Prints an error as soon as it is raised, and remembers it.
    """

    settings: PluginSettings
    adapter: HostAdapter
    host_config: Any
    say: Callable[[str], None]
    call_hook: Callable[..., Any]
    report_error: Callable[[PluginError], None]
