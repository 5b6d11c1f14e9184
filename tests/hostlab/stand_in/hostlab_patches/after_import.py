"""Calls a function once a module has been imported."""

from __future__ import annotations

import importlib.util


class AfterImport:
    """A meta path finder that runs a callback after the named modules load."""

    def __init__(self, callbacks: dict) -> None:
        self.callbacks = dict(callbacks)
        self.busy: set[str] = set()

    def find_spec(self, name, path=None, target=None):
        if name not in self.callbacks or name in self.busy:
            return None
        self.busy.add(name)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.busy.discard(name)
        if spec is None or spec.loader is None:
            return None
        spec.loader = _Loader(spec.loader, self.callbacks.pop(name))
        return spec


class _Loader:
    def __init__(self, inner, callback) -> None:
        self.inner, self.callback = inner, callback

    def create_module(self, spec):
        return self.inner.create_module(spec)

    def exec_module(self, module) -> None:
        module.__spec__.loader = self.inner
        module.__loader__ = self.inner
        self.inner.exec_module(module)
        self.callback(module)

    def __getattr__(self, name):
        return getattr(self.inner, name)
