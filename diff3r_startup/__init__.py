"""Start-up hook: lets `--plugin diff3r` stand on the unchanged command line of a host program.

A line in ``diff3r_startup.pth`` (Python < 3.15) or an entry in ``diff3r_startup.start`` (Python >= 3.15, PEP 829) calls
`start` when the interpreter starts. Without the flag, a ``diff3r.*=`` setting and ``DIFF3R_PLUGIN`` in the environment
it does nothing.
With either it takes the flag out of ``sys.argv`` (argument parsers such as Hydra's refuse flags they do not know),
notes the choice in the environment for child processes, and waits for the host's framework to be imported.

This package imports nothing but ``sys`` and ``os`` at its top: it runs before every program of the environment.
"""

import os
import sys

FLAG = "--plugin"
NAME = "diff3r"
ENVIRONMENT = "DIFF3R_PLUGIN"
OFF = ("", "0", "off", "no", "false", "none")


def wanted() -> bool:
    """Whether this process was started with the flag and our name, a setting of ours, or the variable."""
    if ENVIRONMENT in os.environ:
        return True
    words = list(getattr(sys, "orig_argv", sys.argv))
    names = [a[len(FLAG) + 1 :] for a in words if a.startswith(FLAG + "=")]
    names += [following for a, following in zip(words, [*words[1:], ""], strict=True) if a == FLAG]
    settings = (a for a in words if a.lstrip("+").startswith(NAME + ".") and "=" in a)
    return any(map(_means_ours, names)) or any(True for _ in settings)


def _means_ours(name: str) -> bool:
    """Whether what stands behind the flag is our name, a slip of it, or no name at all.

    Other names belong to other programs. Slips and missing names are refused with one line where it is certain that the
    program is a host.
    """
    if name == NAME or not name or name.startswith("-") or "=" in name:
        return True
    import difflib

    return bool(difflib.get_close_matches(name, [NAME], cutoff=0.6))


def start() -> None:
    """Take the flag from the command line and arm the plugin; never raises, and may run any number of times."""
    try:
        if wanted() and not _is_own_command():
            from diff3r_startup.activation import arm

            arm()
    except Exception as error:  # a start-up hook must not be able to stop an interpreter
        try:
            sys.stderr.write(f"diff3r: start-up hook failed and was skipped: {error!r}\n")
        except Exception:
            pass


def _is_own_command() -> bool:
    """Whether the program is this package's own command line, which reads its arguments itself."""
    original = list(getattr(sys, "orig_argv", sys.argv))
    if "-m" in original[:-1] and original[original.index("-m") + 1].startswith("diff3r_plugin"):
        return True
    return os.path.basename(sys.argv[0] if sys.argv else "").removesuffix(".exe").removesuffix("-script.py") == NAME
