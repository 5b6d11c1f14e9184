"""What the check needs of the machine, found out in the first seconds; wheels and a compiled gsplat from elsewhere.

A bare machine may have PyTorch and nvcc, and neither gsplat nor a network. ``WHEELS`` names a folder of wheels
(``make gpu-wheels`` fills one where there is a network); what the interpreter lacks of them is installed beside the
check's other work, not into the interpreter. ``GSPLAT_SO`` is gsplat's compiled part, which an earlier run on such a
machine has left in its output folder, and which spares minutes of compiling.

Imports the standard library alone.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

NEEDED = {
    "torch": "everything",
    "einops": "everything",
    "jaxtyping": "everything",
    "numpy": "everything",
    "PIL": "everything",
    "pytest": "checks",
    "gsplat": "comparison with gsplat; our kernels sort and rasterize without it",
    "lightning": "training",
    "hydra": "training",
    "omegaconf": "training",
    "dacite": "training",
    "beartype": "training",
    "yaml": "training",
}
"""Modules, and what cannot be done without them."""

DISTRIBUTIONS = {"PIL": "pillow", "hydra": "hydra-core", "yaml": "pyyaml"}
"""Names on an index, where they are not the module's."""

ALONG = {
    "hydra": ("antlr4-python3-runtime",),
    "pytest": ("iniconfig", "packaging", "pygments"),
    "gsplat": ("ninja", "rich", "markdown-it-py", "mdurl", "pygments"),
}
"""What a module needs besides what PyTorch brings."""

EXTENSION = Path("gsplat_cuda") / "gsplat_cuda.so"
"""gsplat's compiled part within ``TORCH_EXTENSIONS_DIR``."""

HEADER = Path("include") / "cuda_runtime.h"


@dataclass(frozen=True)
class Prepared:
    """What was found and done.

    Args:
        variables: For the environment of every part.
        missing: Modules that are still not there, and what cannot be done without them.
        installed: Distributions that came from the folder of wheels.
        toolkit: The CUDA toolkit, if there is one with its headers.
        reused: Whether gsplat's compiled part was handed in.
    """

    variables: dict[str, str]
    missing: dict[str, str]
    installed: tuple[str, ...]
    toolkit: str | None
    reused: bool

    def lines(self) -> list[str]:
        """For a terminal, in the first seconds."""
        found = [f"lacks {name}: no {what}" for name, what in self.missing.items()]
        if self.missing:
            found.append("WHEELS=DIR names a folder of wheels for them; `make gpu-wheels` fills one with a network.")
        if self.installed:
            found.append(f"installed from WHEELS for this run: {', '.join(self.installed)}")
        found.append(f"CUDA toolkit: {self.toolkit or 'none with its headers; set CUDA_HOME'}")
        if self.reused:
            found.append("gsplat's compiled part was handed in by GSPLAT_SO")
        return found


def prepare(work: Path, environment: Mapping[str, str] = os.environ) -> Prepared:
    """Make the environment of the parts.

    Args:
        work: Folder for packages and compiled parts.
        environment: ``WHEELS``, ``GSPLAT_SO``, ``CUDA_HOME``, ``PATH``, ``PYTHONPATH``.

    Raises:
        ValueError: if ``WHEELS`` or ``GSPLAT_SO`` names nothing, or the wheels do not install.
    """
    variables = {"TORCH_EXTENSIONS_DIR": str(work / "extensions"), "VERBOSE": "1"}
    missing = {name: what for name, what in NEEDED.items() if importlib.util.find_spec(name) is None}
    installed: tuple[str, ...] = ()
    if missing and environment.get("WHEELS"):
        site = work / "site"
        installed = install(Path(environment["WHEELS"]), site, missing)
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, [environment.get("PYTHONPATH"), str(site)]))
        missing = {name: what for name, what in missing.items() if not _in_folder(site, name)}
    library = environment.get("GSPLAT_SO")
    if library:
        if not Path(library).is_file():
            raise ValueError(f"GSPLAT_SO={library} is no file; leave it out to compile gsplat here.")
        target = work / "extensions" / EXTENSION
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)
    toolkit = find_toolkit(environment)
    if toolkit is not None:
        variables["CUDA_HOME"] = toolkit
    return Prepared(variables, missing, installed, toolkit, bool(library))


def install(wheels: Path, site: Path, missing: Mapping[str, str]) -> tuple[str, ...]:
    """Install what is missing, and what that needs, from a folder of wheels into a folder of its own.

    Raises:
        ValueError: if the folder is not there, or pip fails.
    """
    if not wheels.is_dir():
        raise ValueError(f"WHEELS={wheels} is no folder; `make gpu-wheels` fills one on a machine with a network.")
    names = [DISTRIBUTIONS.get(name, name) for name in missing]
    names += [extra for name in missing for extra in ALONG.get(name, ())]
    there = [name for name in dict.fromkeys(names) if _has_wheel(wheels, name)]
    if not there:
        return ()
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-warn-script-location",
    ]
    done = subprocess.run(
        [*command, "--find-links", str(wheels), "--target", str(site), *there], capture_output=True, text=True
    )
    if done.returncode != 0:
        raise ValueError(f"the wheels in {wheels} do not install: {done.stderr.strip().splitlines()[-1]}")
    return tuple(there)


def find_toolkit(environment: Mapping[str, str], is_file: Callable[[Path], bool] = Path.is_file) -> str | None:
    """The first of ``CUDA_HOME``, ``CUDA_PATH``, nvcc's folder and the usual place that has CUDA's headers."""
    nvcc = shutil.which("nvcc", path=environment.get("PATH"))
    candidates = [environment.get("CUDA_HOME"), environment.get("CUDA_PATH")]
    candidates += [str(Path(nvcc).resolve().parents[1])] if nvcc else []
    for home in (*candidates, "/usr/local/cuda"):
        if home and is_file(Path(home) / HEADER):
            return home
    return None


def _has_wheel(wheels: Path, name: str) -> bool:
    return any(wheels.glob(f"{name.replace('-', '_')}-*.whl")) or any(wheels.glob(f"{name}-*.whl"))


def _in_folder(site: Path, module: str) -> bool:
    return (site / module).is_dir() or (site / f"{module}.py").is_file()
