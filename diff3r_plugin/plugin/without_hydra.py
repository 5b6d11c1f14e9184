"""Hosts whose main function is not Hydra's: the session begins when their LightningModule, or model, is defined.

That is after everything it imports and before anything is built or a command line is read.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from diff3r_plugin import __version__
from diff3r_plugin.plugin import session
from diff3r_plugin.plugin.errors import PluginError
from diff3r_plugin.plugin.host import registry
from diff3r_plugin.plugin.host.adapter import HostAdapter
from diff3r_plugin.plugin.settings.given_settings import words_of


def class_defined(defined: type) -> None:
    """Begin the session if this is the module of a host that an adapter knows and Hydra does not start.

    Settings come from the environment and from words ``diff3r.KEY=VALUE``, which are taken out of ``sys.argv``.

    Raises:
        SystemExit: with one message, in place of a `PluginError`.
    """
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    if session.current() is not None or main is None or not _awaited(defined):
        return
    try:
        arguments = list(sys.argv)
        settings = words_of(arguments)
        adapter, _ = registry.choose(str(settings.get("adapter", "auto")), Path(main))
        if _hydra_starts(adapter, Path(main)) or adapter.wrapper.rpartition(":")[2] != defined.__qualname__:
            return
        sys.argv[:] = arguments
        session.begin({"diff3r": {"version": __version__, **settings}}, Path(main), defined)
    except PluginError as error:
        sys.exit(f"diff3r: {error}")
    _end_with_one_message()


def _awaited(defined: type) -> bool:
    """Whether the module of any host that starts without Hydra, or has scripts that do, has this name."""
    return any(
        not (adapter.hydra and adapter.lightning) and adapter.wrapper.rpartition(":")[2] == defined.__qualname__
        for adapter in registry.adapters().values()
    )


def _hydra_starts(adapter: HostAdapter, main: Path) -> bool:
    """Whether to wait for Hydra's main function: hosts that train under it, in a loop of their own, test without."""
    if not adapter.hydra or adapter.lightning:
        return adapter.hydra
    return (
        re.search(r"^\s*(import|from)\s+hydra\b", main.read_text(encoding="utf-8", errors="replace"), re.M) is not None
    )


def _end_with_one_message() -> None:
    """Let a `PluginError` that reaches the top end the process with its message alone, which has been printed."""
    show = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: object) -> None:
        if not isinstance(error, PluginError):
            show(kind, error, trace)  # type: ignore[arg-type]
        elif not error.reported:
            print(f"diff3r: {error}", file=sys.stderr)

    sys.excepthook = hook
