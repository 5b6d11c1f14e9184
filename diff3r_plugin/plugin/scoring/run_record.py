"""Every effective setting of a run in its folder: what was set, and what nobody set."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from diff3r_plugin.plugin.host.adapter import HostAdapter
from diff3r_plugin.plugin.host.checkout import Checkout
from diff3r_plugin.plugin.settings.settings import PluginSettings
from diff3r_plugin.strict_json import write_json

NAME = "diff3r_settings.json"


def run_folder() -> Path | None:
    """The folder that Hydra made for this run; None where it made none."""
    try:
        from hydra.core.hydra_config import HydraConfig
    except ImportError:
        return None
    if not HydraConfig.initialized():
        return None
    folder = Path(HydraConfig.get().runtime.output_dir)
    return folder if folder.is_dir() else None


def write_record(folder: Path, settings: PluginSettings, adapter: HostAdapter, checkout: Checkout) -> Path:
    """Write ``diff3r_settings.json``: version, adapter, the host's commit and all settings; returns its path.

    Raises:
        OSError: if it cannot be written.
    """
    content: dict[str, Any] = {
        "version": settings.version,
        "adapter": adapter.name,
        "host": {"folder": str(checkout.root), "commit": checkout.commit},
        "settings": asdict(settings),
    }
    write_json(folder / NAME, content)
    return folder / NAME
