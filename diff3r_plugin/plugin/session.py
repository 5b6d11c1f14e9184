"""The plugin in one process: begins when the host's configuration is known, ends with the process."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diff3r_plugin.plugin.attaching.attachment import attachment_of
from diff3r_plugin.plugin.attaching.loop_patches import loop_patches
from diff3r_plugin.plugin.attaching.patching import Patches
from diff3r_plugin.plugin.attaching.wrapper_patches import wrapper_patches
from diff3r_plugin.plugin.errors import TRACEBACK, PluginError, full_traceback
from diff3r_plugin.plugin.host import registry
from diff3r_plugin.plugin.host.broken_files import explained
from diff3r_plugin.plugin.host.run_context import RunContext
from diff3r_plugin.plugin.refining.context_poses import described, poses_of_stages
from diff3r_plugin.plugin.scoring.run_record import run_folder, write_record
from diff3r_plugin.plugin.settings.given_settings import from_environment, merged
from diff3r_plugin.plugin.settings.host_config import plain
from diff3r_plugin.plugin.settings.settings import PluginSettings

_current: Session | None = None


class Session:
    """Settings, adapter and patches for one host.

    Args:
        config: The host's composed configuration (an OmegaConf node or a mapping).
        start: The host's main file, from which its checkout is found.

    Raises:
        PluginError: for bad settings, or a host that no adapter knows.
    """

    def __init__(self, config: Any, start: Path | str) -> None:
        self.settings = PluginSettings.parse(merged(from_environment(os.environ), _plugin_node(config)))
        self.adapter, self.checkout = registry.choose(self.settings.adapter, start)
        self.errors: list[PluginError] = []
        call_hook = registry.hook_caller(self.adapter, self.settings)
        self.context = RunContext(self.settings, self.adapter, config, say, call_hook, self._report_error)
        self.patches = Patches()

    def begin(self, wrapper: type | None = None) -> None:
        """Patch the host's LightningModule (by default where its adapter says it is) and say so.

        Raises:
            PluginError: if the checkout lacks what the adapter relies on.
        """
        problems = self.adapter.problems(self.checkout)
        if problems:
            listed = "\n  ".join(problems)
            raise PluginError(
                f"this checkout of {self.adapter.name} ({self.checkout.root}) differs from what its adapter needs:\n"
                f"  {listed}\nCompare with {self.adapter.repository or 'the host'}"
                f"{' at ' + self.adapter.verified_commits[0] if self.adapter.verified_commits else ''}; "
                "diff3r doctor shows the same list."
            )
        if stale := self.adapter.without_call():
            raise PluginError(
                f"adapter {self.adapter.name!r} is written for another version of this plugin: {', '.join(stale)} must "
                "take one more parameter, call=NO_CALL (diff3r_plugin.plugin.NO_CALL); context_of and batch_of_call "
                "take it alone."
            )
        poses = poses_of_stages(self.settings, self.adapter)
        patches_of = wrapper_patches if self.adapter.lightning else loop_patches
        for patch in patches_of(self.context, wrapper or self.adapter.wrapper_class()):
            self.patches.apply(patch)
        self._leave_a_record()
        stages = "/".join(self.settings.refine) or "no stage"
        say(
            f"{self.settings.version or 'source'}: adapter {self.adapter.name}, refining in {stages}, "
            f"{self.settings.tto.inner_steps} {self.settings.tto.inner_solver} steps, "
            f"{self.settings.tto.backward_mode} backward, {self.settings.head} weights, {_rasterizer()}"
            f"{'' if self.adapter.encoder_sees_poses else f', context poses: {described(poses)}'}"
        )

    def end(self) -> None:
        """Take every patch back."""
        global _current
        self.patches.revert()
        if _current is self:
            _current = None

    def _leave_a_record(self) -> None:
        """Of all settings, in the run's folder; a run that writes nothing else is not stopped by that."""
        folder = run_folder() if os.environ.get("LOCAL_RANK", "0") == "0" else None
        if folder is None:
            return
        try:
            write_record(folder, self.settings, self.adapter, self.checkout)
        except OSError as error:
            say(f"the settings could not be written to {folder} ({error.strerror or error}).")

    def _report_error(self, error: PluginError) -> None:
        self.errors.append(error)
        print(f"diff3r: {error}", file=sys.stderr, flush=True)


def say(message: str) -> None:
    """One line for the user, once per run."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"[diff3r] {message}", file=sys.stderr, flush=True)


def begin(config: Any, start: Path | str, wrapper: type | None = None) -> Session:
    """Begin the session of this process, or return the one that has begun.

    Args:
        config: The host's composed configuration.
        start: The host's main file.
        wrapper: The host's LightningModule class; by default the adapter finds it.

    Raises:
        PluginError: for bad settings, an unknown host or a checkout that does not fit.
    """
    global _current
    if _current is None:
        session = Session(config, start)
        session.begin(wrapper)
        _current = session
    return _current


def run(task: Callable[..., Any], config: Any, *rest: Any, **named: Any) -> Any:
    """Begin and run a host's main function; whatever the user can put right ends the process with one message.

    With ``DIFF3R_TRACEBACK=1`` in the environment errors pass as they are.

    Raises:
        SystemExit: with that message, in place of a `PluginError` from the beginning or from within the host, or of an
            error about a file that is missing or damaged; with status 1 if the host swallowed one.
    """
    try:
        begun = begin(config, Path(inspect.getfile(inspect.unwrap(task))))
        result = task(config, *rest, **named)
    except PluginError as error:
        if full_traceback():
            raise
        sys.exit(1 if error.reported else f"diff3r: {error}")
    except Exception as error:
        line = None if full_traceback() else explained(error, plain(config))
        if line is None:
            raise
        sys.exit(f"diff3r: {line} ({TRACEBACK}=1 shows where.)")
    if begun.errors:
        sys.exit(f"diff3r: the host went on after this error: {begun.errors[0]}")
    return result


def current() -> Session | None:
    """The session of this process, if one has begun."""
    return _current


def require_attached(model: Any) -> None:
    """Stop before a run in which the plugin was asked for but has no part.

    Raises:
        SystemExit: with what was found instead.
    """
    if model is None or attachment_of(model) is not None:
        return
    if _current is None:
        reason = (
            "its main function does not run under hydra.main, and no adapter for hosts without Hydra knows the model; "
            "diff3r_plugin.training fine-tunes models of one's own"
        )
    else:
        reason = f"adapter {_current.adapter.name!r} expects {_current.adapter.wrapper}"
    sys.exit(
        f"diff3r: the plugin was asked for, but the model {type(model).__module__}.{type(model).__qualname__} was "
        f"built without it ({reason}). Nothing was run; leave out the flag to run the host plainly."
    )


def _rasterizer() -> str:
    """Which rasterizer the host has imported."""
    module = sys.modules.get("diff_gaussian_rasterization") or sys.modules.get("diff_gauss_pose")
    if module is None:
        return "rasterizer not imported yet"
    where = str(getattr(module, "__file__", ""))
    return "drop-in rasterizer" if os.path.join("drop_in", "site") in where else f"the host's rasterizer ({where})"


def _plugin_node(config: Any) -> dict[str, Any]:
    return plain(config.get("diff3r") if hasattr(config, "get") else None)
