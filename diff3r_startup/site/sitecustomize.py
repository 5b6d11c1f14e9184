"""Arms the plugin in every Python process below `diff3r run`, then lets the environment's own sitecustomize run."""

import importlib.util
import os
import sys
from importlib.machinery import PathFinder

_here = os.path.dirname(os.path.abspath(__file__))

# This package may lie outside of the path of the process (an isolated tool of the environment): then do nothing.
if importlib.util.find_spec("diff3r_startup") is not None:
    import diff3r_startup

    diff3r_startup.start()

_others = [entry for entry in sys.path if os.path.abspath(entry or ".") != _here]
_spec = PathFinder.find_spec("sitecustomize", _others)
if _spec is not None and _spec.loader is not None:
    _module = importlib.util.module_from_spec(_spec)
    sys.modules["sitecustomize"] = _module
    _spec.loader.exec_module(_module)
