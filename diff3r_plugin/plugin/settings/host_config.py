"""A host's configuration as plain mappings, lists and values."""

from __future__ import annotations

from typing import Any


def plain(config: Any, resolve: bool = True) -> dict[str, Any]:
    """An OmegaConf node or a mapping as dictionaries; empty for none.

    Args:
        config: The configuration.
        resolve: Put values in the place of interpolations; those that fail leave all as they stand.
    """
    if config is None:
        return {}
    if isinstance(config, dict):
        return config
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_container(config, resolve=resolve)  # type: ignore[return-value]
    except OmegaConfBaseException:
        if not resolve:
            raise
        return OmegaConf.to_container(config, resolve=False)  # type: ignore[return-value]
