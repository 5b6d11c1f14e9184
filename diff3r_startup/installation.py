"""The start-up hook's files in ``site-packages``: where they are, putting them there and taking them away."""

from __future__ import annotations

import site
import sysconfig
from importlib import resources
from pathlib import Path

FILES = ("diff3r_startup.pth", "diff3r_startup.start")
"""Kept in this package; Python reads their copies in ``site-packages``."""


def installed() -> list[Path]:
    """The hook's files in this environment."""
    folders = dict.fromkeys([sysconfig.get_path("purelib"), *site.getsitepackages(), site.getusersitepackages()])
    return [path for folder in folders for name in FILES if (path := Path(folder) / name).is_file()]


def install() -> list[Path]:
    """Write the hook's files into this environment; returns where."""
    folder = Path(sysconfig.get_path("purelib"))
    for name in FILES:
        text = (resources.files("diff3r_startup") / name).read_text(encoding="utf-8")
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in FILES]


def remove() -> list[Path]:
    """Delete the hook's files from this environment, the package itself stays; returns what was deleted."""
    found = installed()
    for path in found:
        path.unlink()
    return found
