"""Arms the plugin in a process that was started with the flag: argv, environment, import triggers."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Any

from diff3r_startup import ENVIRONMENT, NAME, arguments

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    Change = Callable[[ModuleType], None]

#: module -> function that changes it once it has been imported
_TRIGGERS: dict[str, Change] = {}


def arm() -> None:
    """Take the flag from ``sys.argv`` and wait for Hydra and Lightning; idempotent."""
    found = arguments.strip_flag(sys.argv)
    if found is not None:
        os.environ[ENVIRONMENT] = found
        atexit.register(_say_if_unused)
    if arguments.active():
        serve_drop_in(arguments.override_value(sys.argv, "rasterizer") or "auto")
    if not any(isinstance(finder, _PostImportFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PostImportFinder())
    if not hasattr(sys.excepthook, "_diff3r_original"):
        sys.excepthook = _explaining(sys.excepthook)
    for name, change in _TRIGGERS.items():
        if name in sys.modules:
            change(sys.modules[name])


def _say_if_unused() -> None:
    """At the end of a program that was given the flag: was there anything that the plugin could attach itself to?"""
    session = sys.modules.get("diff3r_plugin.plugin.session")
    if arguments.active() and "hydra" not in sys.modules and (session is None or session.current() is None):
        sys.stderr.write(
            "diff3r: the plugin was asked for and had no part in this program, which neither runs under hydra.main nor "
            "defines the LightningModule (or the model) of a host that an adapter knows. Nothing was refined.\n"
        )


def serve_drop_in(choice: str) -> None:
    """Put the folder of the drop-in ``diff_gaussian_rasterization`` on ``sys.path``.

    ``auto`` appends it, so that an installed rasterizer wins; ``drop_in`` puts it first; ``host`` does nothing.
    """
    spec = importlib.util.find_spec("diff3r_plugin")
    if choice == "host" or spec is None or not spec.submodule_search_locations:
        return
    folder = os.path.join(next(iter(spec.submodule_search_locations)), "drop_in", "site")
    if folder not in sys.path and os.path.isdir(folder):
        sys.path.insert(0 if choice == "drop_in" else len(sys.path), folder)


class _PostImportFinder:
    """Lets other finders find the watched modules, and changes each once it has been executed."""

    def __init__(self) -> None:
        self._searching: set = set()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in _TRIGGERS or name in self._searching:
            return None
        self._searching.add(name)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._searching.discard(name)
        if spec is None or spec.loader is None or not hasattr(spec.loader, "exec_module"):
            return spec
        execute, change = spec.loader.exec_module, _TRIGGERS[name]

        def exec_module(module: ModuleType) -> None:
            execute(module)
            change(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


RASTERIZERS = ("diff_gaussian_rasterization", "diff_gauss_pose")


def _explaining(original: Callable[..., Any]) -> Callable[..., Any]:
    """Let a program that ends without its rasterizer say what is wrong with its command line, if something is.

    Hosts import their rasterizer before their main function begins. Without one installed, a misspelled flag would end
    in a long ModuleNotFoundError about something else. A host that only looks for one, or falls back, goes its own way.
    """

    @functools.wraps(original)
    def excepthook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if isinstance(error, ModuleNotFoundError) and error.name in RASTERIZERS:
            try:
                arguments.refuse_unknown(sys.argv[1:])
            except SystemExit as refused:
                sys.stderr.write(f"{refused.code}\n")
                return
            if arguments.active() and arguments.override_value(sys.argv, "rasterizer") == "host":
                sys.stderr.write(
                    f"diff3r: diff3r.rasterizer=host asks for the host's own rasterizer, but {error.name} is not "
                    "installed: install it, or leave the setting out to use the drop-in. Nothing was run.\n"
                )
                return
        original(kind, error, trace)

    excepthook._diff3r_original = original  # type: ignore[attr-defined]
    return excepthook


def _trigger(name: str) -> Callable[[Change], Change]:
    def register(change: Change) -> Change:
        _TRIGGERS[name] = change
        return change

    return register


@_trigger("torch")
def _change_torch(torch: ModuleType) -> None:
    """Watch for hosts with neither Hydra nor Lightning, whose model is a plain module."""
    _watch_definitions(torch.nn.Module, _of_a_host)


def _of_a_host(defined: type) -> bool:
    """Whether a class may be the model of a host that Hydra does not start: of no installed package, and not ours."""
    file = getattr(sys.modules.get(defined.__module__), "__file__", None) or ""
    installed = any(part in ("site-packages", "dist-packages") for part in os.path.normpath(file).split(os.sep))
    return bool(file) and not installed and "hydra" not in sys.modules and not defined.__module__.startswith(NAME)


@_trigger("hydra")
def _change_hydra(hydra: Any) -> None:
    """Wrap ``hydra.main``: the command line is put in order and the plugin begins when the decorated function runs."""
    original = hydra.main
    if getattr(original, "_diff3r_original", None) is not None:
        return

    @functools.wraps(original)
    def main(*args: Any, **kwargs: Any) -> Any:
        decorate = original(*args, **kwargs)

        def decorator(task: Any) -> Any:
            @functools.wraps(task)  # Hydra follows __wrapped__ to find the host's config folder
            def task_with_plugin(config: Any, *rest: Any, **named: Any) -> Any:
                if arguments.active():
                    from diff3r_plugin.plugin import session

                    return session.run(task, config, *rest, **named)
                return task(config, *rest, **named)

            run = decorate(task_with_plugin)

            @functools.wraps(run)
            def run_with_plugin(*rest: Any, **named: Any) -> Any:
                found = arguments.strip_flag(sys.argv)
                if found is not None:
                    os.environ[ENVIRONMENT] = found
                arguments.refuse_unknown(sys.argv[1:])
                if arguments.active():
                    arguments.force_overrides(sys.argv)
                    _record_version(sys.argv)
                return run(*rest, **named)

            return run_with_plugin

        return decorator

    main._diff3r_original = original  # type: ignore[attr-defined]
    hydra.main = main


def _record_version(argv: list) -> None:
    """Let the version of the plugin land in the host's saved configuration."""
    if arguments.override_value(argv, "version") is None:
        import diff3r_plugin

        argv.append(f"++{NAME}.version={diff3r_plugin.__version__}")


def _change_lightning(lightning: ModuleType) -> None:
    """Watch for hosts without Hydra; wrap ``Trainer``'s entries: no host is run without the plugin it asked for."""
    _watch_definitions(lightning.LightningModule)
    trainer = lightning.Trainer
    for name in ("fit", "validate", "test", "predict"):
        original = getattr(trainer, name)
        if getattr(original, "_diff3r_original", None) is not None:
            continue
        setattr(trainer, name, _checked(original))


def _watch_definitions(module: Any, concerns: Callable[[type], bool] = lambda defined: True) -> None:
    """Let a host without Hydra begin once its LightningModule, or its model, has been defined."""
    if "_diff3r_watched" in vars(module):
        return
    own = vars(module).get("__init_subclass__")

    def __init_subclass__(cls: Any, **kwargs: Any) -> None:
        if own is None:
            super(module, cls).__init_subclass__(**kwargs)
        else:
            own.__get__(None, cls)(**kwargs)
        if arguments.active() and concerns(cls):
            from diff3r_plugin.plugin import without_hydra

            without_hydra.class_defined(cls)

    module.__init_subclass__ = classmethod(__init_subclass__)
    module._diff3r_watched = True


def _checked(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def entry(self: Any, model: Any = None, *args: Any, **kwargs: Any) -> Any:
        if arguments.active():
            from diff3r_plugin.plugin import session

            session.require_attached(model)
        return original(self, model, *args, **kwargs)

    entry._diff3r_original = original  # type: ignore[attr-defined]
    return entry


_trigger("lightning.pytorch")(_change_lightning)
_trigger("pytorch_lightning")(_change_lightning)
