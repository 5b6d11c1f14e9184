"""The host with a loop of its own (`plain_host`), and its adapter: the one that docs/adapters.md shows."""

from __future__ import annotations

import re
from pathlib import Path

from plugin import stub_host

from diff3r_plugin.plugin.attaching.loop_patches import loop_patches
from diff3r_plugin.plugin.attaching.patching import Patches

HOST = Path(__file__).parent / "plain_host"
PAGE = (Path(__file__).parents[2] / "docs" / "adapters.md").read_text(encoding="utf-8")
(ADAPTER,) = (block for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S) if "class PlainLoop" in block)


def adapter_class() -> type:
    """The page's adapter, as a class of its own each time."""
    names: dict = {"__name__": "example"}
    exec(compile(ADAPTER, "docs/adapters.md", "exec"), names)
    return names["PlainLoop"]


class PluggedIn:
    """The plugin in force on a model's class, anew with every call; what it said is in ``said``."""

    def __init__(self, network: type) -> None:
        self.network, self.patches, self.said = network, Patches(), []

    def __call__(self, adapter=None, **settings):
        self.patches.revert()
        self.said.clear()
        context = stub_host.run_context(adapter or adapter_class()(), self.said.append, **{"log_every": 1, **settings})
        for patch in loop_patches(context, self.network):
            self.patches.apply(patch)
        return self.said
