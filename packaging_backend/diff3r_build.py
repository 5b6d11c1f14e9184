"""Build backend: setuptools, plus the files that must lie directly in ``site-packages``.

An ordinary wheel can hold a ``.pth`` file only by tricks that editable installs do not follow. Here setuptools builds
the wheel; the start-up files and the miniature host, which ``diff3r demo`` trains, are added to it. An editable wheel
is written directly: a path file for the checkout, the start-up files, and a small ``diff3r_adapters`` package that
points to the checkout's ``adapters`` folder.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  (the hooks of PEP 517 that need no change)

ROOT = Path(__file__).resolve().parent.parent
#: Path files of Python, and PEP 829's: where the latter exists, Python >= 3.15 ignores the import line of the former.
START_UP = {
    name: (ROOT / "diff3r_startup" / name).read_bytes() for name in ("diff3r_startup.pth", "diff3r_startup.start")
}

MINI_HOST = ROOT / "examples" / "mini_host"

REDIRECT = '''"""Editable install: the package lives in the checkout, in the folder `adapters`."""
__path__ = [{folder!r}]
__file__ = {init!r}
__spec__.submodule_search_locations = __path__
with open(__file__, encoding="utf-8") as _source:
    exec(compile(_source.read(), __file__, "exec"))
'''

Options = dict[str, Any] | None


def build_wheel(wheel_directory: str, config_settings: Options = None, metadata_directory: str | None = None) -> str:
    """The wheel that setuptools builds, with the start-up files and the miniature host added."""
    _sweep()
    name = build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    _sweep()
    wheel = Path(wheel_directory) / name
    files = _contents(wheel)
    files.update(START_UP)
    for path in sorted(MINI_HOST.rglob("*")):
        part = path.relative_to(MINI_HOST)
        if path.suffix in (".py", ".yaml", ".md", ".ckpt", ".json") and part.parts[0] != "outputs":
            files[f"diff3r_plugin/demo/mini_host/{part.as_posix()}"] = path.read_bytes()
    _write(wheel, files)
    return name


def build_sdist(sdist_directory: str, config_settings: Options = None) -> str:
    """The source distribution that setuptools builds."""
    name = build_meta.build_sdist(sdist_directory, config_settings)
    _sweep()
    return name


def build_editable(wheel_directory: str, config_settings: Options = None, metadata_directory: str | None = None) -> str:
    """A wheel of pointers into this checkout."""
    with tempfile.TemporaryDirectory() as folder:
        # an absolute path, for the hook changes into the checkout
        info = Path(folder) / build_meta.prepare_metadata_for_build_wheel(folder, config_settings)
        files = {
            f"{info.name}/{path.relative_to(info).as_posix()}": path.read_bytes()
            for path in sorted(info.rglob("*"))
            if path.is_file()
        }
    _sweep()
    files[f"{info.name}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: diff3r_build\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    adapters = ROOT / "adapters"
    files["diff3r_adapters/__init__.py"] = REDIRECT.format(
        folder=str(adapters), init=str(adapters / "__init__.py")
    ).encode()
    # read before diff3r_startup.pth, for path files are read in the order of their names
    files["__editable__.diff3r_plugin.pth"] = f"{ROOT}\n".encode()
    files.update(START_UP)
    name = f"{info.name.removesuffix('.dist-info')}-0.editable-py3-none-any.whl"
    _write(Path(wheel_directory) / name, files)
    return name


def prepare_metadata_for_build_editable(metadata_directory: str, config_settings: Options = None) -> str:
    """The metadata of the ordinary wheel."""
    return build_meta.prepare_metadata_for_build_wheel(metadata_directory, config_settings)


def get_requires_for_build_editable(config_settings: Options = None) -> list[str]:
    """Nothing beyond what an ordinary wheel needs."""
    return build_meta.get_requires_for_build_wheel(config_settings)


def _sweep() -> None:
    """Remove what setuptools leaves in the checkout: a stale copy would end up in the next wheel."""
    for folder in ("build", "diff3r_plugin.egg-info"):
        shutil.rmtree(ROOT / folder, ignore_errors=True)


def _contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def _write(wheel: Path, files: dict[str, bytes]) -> None:
    """Write a wheel with a fresh RECORD; the same files give the same bytes."""
    record = next(name.rsplit("/", 1)[0] for name in files if name.endswith(".dist-info/WHEEL")) + "/RECORD"
    files.pop(record, None)
    lines = []
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(data)}")
    files[record] = "\n".join([*lines, f"{record},,"]).encode() + b"\n"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, date_time=(2020, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
