"""Which adapters there are, and which of them a checkout is for."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import entry_points
from itertools import chain
from pathlib import Path
from typing import Any

import pluggy

from diff3r_plugin.plugin.errors import PluginError, unknown_name
from diff3r_plugin.plugin.host import hookspecs
from diff3r_plugin.plugin.host.adapter import HostAdapter
from diff3r_plugin.plugin.host.checkout import Checkout
from diff3r_plugin.plugin.settings.settings import PluginSettings

LOAD_ONLY = "DIFF3R_LOAD_PLUGINS"
"""Environment variable: comma-separated entry-point names; when set, only these are loaded (none if empty)."""


FEW = 2
"""Of more hosts than this, what a checkout lacks is not listed: they are a family, to which it seems to belong."""

FAILED: dict[str, Exception] = {}
"""Entry points that could not be imported; a broken third-party adapter must not stop the others."""


@lru_cache(maxsize=1)
def manager() -> pluggy.PluginManager:
    """The plugin manager, with everything registered under the entry-point group ``diff3r``.

    Raises:
        PluginError: if ``DIFF3R_LOAD_PLUGINS`` names an entry point that does not exist.
    """
    made = pluggy.PluginManager("diff3r")
    made.add_hookspecs(hookspecs)
    only = os.environ.get(LOAD_ONLY)
    found = {point.name: point for point in entry_points(group="diff3r")}
    wanted = found if only is None else [part.strip() for part in only.split(",") if part.strip()]
    for name in wanted:
        if name not in found:
            raise unknown_name("plugin", name, found, f"{LOAD_ONLY} may name installed entry points only.")
        try:
            made.register(found[name].load(), name=name)
        except Exception as error:
            FAILED[name] = error
            warnings.warn(f"diff3r: the plugin {name!r} could not be loaded: {error!r}", stacklevel=2)
    made.check_pending()
    return made


def hook_caller(adapter: HostAdapter, settings: PluginSettings) -> Callable[..., Any]:
    """A function that calls a hook by name, with this adapter, these settings and further named arguments."""

    def call(name: str, **arguments: Any) -> Any:
        return getattr(manager().hook, name)(adapter=adapter, settings=settings, **arguments)

    return call


def adapters() -> dict[str, type[HostAdapter]]:
    """All registered adapters by name.

    Raises:
        PluginError: if two adapters share a name.
    """
    found: dict[str, type[HostAdapter]] = {}
    for classes in manager().hook.diff3r_adapters():
        for adapter in classes:
            if adapter.name in found and found[adapter.name] is not adapter:
                raise PluginError(
                    f"two adapters are called {adapter.name!r}: {found[adapter.name].__module__} and "
                    f"{adapter.__module__}; uninstall one or load one by {LOAD_ONLY}."
                )
            found[adapter.name] = adapter
    return dict(sorted(found.items()))


def choose(name: str, start: Path | str) -> tuple[HostAdapter, Checkout]:
    """The adapter for a host's folder.

    Args:
        name: "auto" to recognize the host, or an adapter's name to force one.
        start: The host's main file or folder; the checkout is looked for here and in the folders above.

    Raises:
        PluginError: for a folder that does not exist, an unknown name, an unrecognized checkout or an ambiguous one.
    """
    known = adapters()
    folder = Path(start).resolve()
    if not folder.exists():
        raise PluginError(f"{folder} does not exist; give the folder of the host's checkout, with all of it.")
    folders = [folder, *folder.parents][:4]
    if name != "auto":
        if name not in known:
            raise unknown_name("adapter", name, known, "Set diff3r.adapter to one of these, or leave it out.")
        adapter = known[name]
        whole = (f for f in folders if adapter.fingerprints and Checkout(f).has(*adapter.fingerprints))
        with_source = (f for f in folders if (f / "src").is_dir())
        return adapter(), Checkout(next(chain(whole, with_source, (folder if folder.is_dir() else folder.parent,))))
    for candidate in folders:
        checkout = Checkout(candidate)
        matches = _most_derived([adapter for adapter in known.values() if adapter.recognizes(checkout)])
        if len(matches) > 1:
            raise PluginError(
                f"{candidate} looks like several hosts: {', '.join(a.name for a in matches)}. "
                f"Choose one, for instance diff3r.adapter={matches[0].name}."
            )
        if matches:
            return matches[0](), checkout
    raise PluginError(
        f"{folder} is no host that any adapter recognizes. Known: {', '.join(known) or 'none'}. "
        f"{_nearest(known, folders)}If it is a variant of one of them, force that adapter: diff3r.adapter=NAME; "
        "for a new host, write one: diff3r adapters new NAME."
    )


def _most_derived(matches: list[type[HostAdapter]]) -> list[type[HostAdapter]]:
    """Without those that another one derives from: a variant of a host has the host's files, and marks of its own."""
    return [a for a in matches if not any(a is not b and issubclass(b, a) for b in matches)]


def _nearest(known: dict[str, type[HostAdapter]], folders: list[Path]) -> str:
    """What the hosts of which most files are there lack; empty where nothing resembles any."""
    lacking: dict[str, tuple[float, list[str]]] = {}
    for name, adapter in known.items():
        if adapter.marks or not adapter.fingerprints:  # a variant has the files of the host it derives from
            continue
        for checkout in map(Checkout, folders):
            absent = [file for file in adapter.fingerprints if not checkout.has(file)]
            share = 1 - len(absent) / len(adapter.fingerprints)
            if share > lacking.get(name, (0.0, []))[0]:
                lacking[name] = share, absent
    best = max((share for share, _ in lacking.values()), default=0.0)
    if best < 0.5:
        return ""
    near = {name: absent for name, (share, absent) in lacking.items() if share == best}
    if len(near) > FEW:
        return (
            f"It has what hosts of one family share ({', '.join(near)}), and none of the files that tell them apart. "
            "An adapter for it may derive from that family's base. "
        )
    lacks = [f"{name} (but has no {', '.join(absent)})" for name, absent in near.items()]
    return f"It is nearest to {' or '.join(lacks)}. "
