"""``diff3r run`` in a process of its own, with nothing of this one's settings in its environment."""

import os
import subprocess
import sys
from pathlib import Path


def run(folder: Path, *command: str, **environment: str) -> tuple[int, str]:
    """Exit status, and all that was printed, of ``diff3r run COMMAND`` in a folder."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("DIFF3R", "PYTHON", "LOCAL_RANK"))}
    if "DIFF3R_CACHE_DIR" in os.environ:
        clean["DIFF3R_CACHE_DIR"] = os.environ["DIFF3R_CACHE_DIR"]
    done = subprocess.run(
        [sys.executable, "-m", "diff3r_plugin.cli.main", "run", *command],
        cwd=folder, env={**clean, "OMP_NUM_THREADS": "1", **environment}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr
