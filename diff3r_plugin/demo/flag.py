"""The plugin's arguments on the miniature host's command line."""

from __future__ import annotations

from dataclasses import fields

from diff3r_plugin.config import TTOConfig
from diff3r_plugin.demo.grid import GridPoint
from diff3r_plugin.plugin.settings.settings import PluginSettings

FLAG = ("--plugin", "diff3r")


def tto_config(plugin_settings: tuple[str, ...]) -> TTOConfig:
    """The solver's settings among ``diff3r.KEY=VALUE`` arguments."""
    import yaml

    pairs = [setting.removeprefix("diff3r.").partition("=") for setting in plugin_settings]
    flat = {key: yaml.safe_load(value) for key, _, value in pairs if "." not in key}
    return PluginSettings.parse(flat).tto


def fixed_weights(best: GridPoint, plugin_settings: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The plugin's settings for a test with the best of a grid, and otherwise with the same solver."""
    solver = {f"diff3r.{f.name}" for f in fields(TTOConfig)} - {"diff3r.inner_steps"}
    return (
        *(setting for setting in plugin_settings if setting.partition("=")[0] in solver),
        "diff3r.head=fixed",
        f"diff3r.inner_steps={best.steps}",
        *(f"diff3r.weights.{group}={weight:g}" for group, weight in best.weights.items()),
    )


def learned_weights(best: GridPoint, plugin_settings: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The settings of the training with the number of steps that validation chose."""
    kept = (setting for setting in plugin_settings if setting.partition("=")[0] != "diff3r.inner_steps")
    return (*kept, f"diff3r.inner_steps={best.steps}")
