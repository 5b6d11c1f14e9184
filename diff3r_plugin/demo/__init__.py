"""The demonstration: the miniature host trained plainly and with ``--plugin diff3r``, and compared after refinement."""

from diff3r_plugin.demo.settings import DemoError, DemoSettings

__all__ = ["DemoError", "DemoSettings"]
