"""What an adapter makes of one call of its host: scene, cameras, and the way back; and whose fault an error is."""

from __future__ import annotations

import math
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diff3r_plugin.containment import ordinary
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.plugin.errors import PluginError
from diff3r_plugin.plugin.host.adapter import HostAdapter
from diff3r_plugin.plugin.host.call import Call
from diff3r_plugin.plugin.refining.pose_sources import DATA, PREDICTED, SOURCES, PoseSource
from diff3r_plugin.plugin.refining.pruned import Pruned
from diff3r_plugin.views import Views


class CallReader:
    """Reads and writes the outputs of one model of a host by its adapter.

    Args:
        wrapper: The host's LightningModule, or its model.
        adapter: Of the host.
        context_poses: The setting of that name.
    """

    def __init__(self, wrapper: nn.Module, adapter: HostAdapter, context_poses: str) -> None:
        self.wrapper, self.adapter, self.context_poses = wrapper, adapter, context_poses

    def read(self, output: Any, call: Call) -> tuple[Gaussians, Views, Pruned | None]:
        """The prediction, the context views with their images, and what is rendered, as the adapter reads them."""
        with self.reading(output):
            views = self.adapter.context_views(self.wrapper, self.adapter.context_of(call), output, call)
            gaussians = self.adapter.gaussians(output, views.batch_size, call).map(ordinary)
            kept = self.adapter.visible(call, gaussians)
        if views.images is None:
            raise ValueError("context_views gave no images.")
        pruned = None if kept is None else Pruned(ordinary(kept), gaussians.opacities)
        gaussians = gaussians if pruned is None else pruned.rendered(gaussians)
        return gaussians, views.replace(images=ordinary(views.images)), pruned

    def given_poses(self, views: Views, output: Any, call: Call) -> Float[Tensor, "B V 4 4"]:
        """``world_to_camera`` of the context views in the data; NaN where it has none."""
        given: Tensor | None = views.world_to_camera
        if self.adapter.predicts_poses:
            with self.reading(output):
                given = self.adapter.given_poses(self.wrapper, self.adapter.context_of(call))
        return torch.full_like(views.world_to_camera, math.nan) if given is None else ordinary(given).detach()

    def poses_source(self, output: Any, call: Call) -> PoseSource | None:
        """Whose poses the adapter says the prediction lies among; None: as the settings say."""
        if self.context_poses == "auto":
            with self.reading(output):
                name = self.adapter.poses_source(call)
            if name not in (None, DATA.name, PREDICTED.name):
                raise ValueError(f"poses_source() must give 'batch', 'predicted' or None, got {name!r}.")
            return None if name is None else SOURCES[name]
        return None

    def written(
        self, output: Any, refined: Gaussians, pruned: Pruned | None, cameras: Tensor | None, call: Call
    ) -> Any:
        """The host's kind of output with the refined scene in it."""
        with self.reading(output):
            return self.adapter.with_gaussians(
                output, refined if pruned is None else pruned.whole(refined), cameras, call
            )

    @contextmanager
    def naming_the_adapter(self) -> Iterator[None]:
        """Turn what the layer refuses into an error that ends the run with one line.

        All of it is the same in every step, so it shows in the first one, before the host's optimizer has moved.
        """
        try:
            yield
        except (TypeError, ValueError) as error:
            raise PluginError(
                f"what adapter {self.adapter.name!r} makes of this host cannot be refined: {error}"
            ) from error

    @contextmanager
    def reading(self, output: Any) -> Iterator[None]:
        """Turn what an adapter stumbles over in another host's output into an error that says so.

        A near relative of a host has its files and signatures, and yet returns something else.
        """
        try:
            yield
        except (AttributeError, TypeError, KeyError, IndexError) as error:
            place = _place_in(self.adapter, error)
            if getattr(error, "obj", None) is self.adapter:
                raise PluginError(
                    f"adapter {self.adapter.name!r} is at fault: {error} ({place.filename}:{place.lineno}, in "
                    f"{place.name})."
                ) from error
            raise PluginError(
                f"adapter {self.adapter.name!r} cannot read what this host's encoder returned, {described(output)}: "
                f"{type(error).__name__}: {error} ({place.filename}:{place.lineno}). Is this "
                f"{self.adapter.repository}, or a relative of it? A host that answers "
                "differently needs its own adapter: diff3r adapters new NAME."
            ) from error


def _place_in(adapter: HostAdapter, error: Exception) -> traceback.FrameSummary:
    """Where in the adapter's own files an error came up; where it was raised, if that is not below any of them."""
    frames = traceback.extract_tb(error.__traceback__)
    modules = {sys.modules.get(cls.__module__) for cls in type(adapter).__mro__ if cls.__module__ != "builtins"}
    files = {getattr(module, "__file__", None) for module in modules}
    return next((frame for frame in reversed(frames) if frame.filename in files), frames[-1])


def described(output: Any) -> str:
    """What an encoder returned, in a few words: its type, and what is in it.

    >>> from diff3r_plugin.plugin.refining.call_reader import described
    >>> described(({"a": 1}, 2))
    'a tuple of dict, int'
    >>> described({"gaussians": 1, "depths": 2})
    'a dict with gaussians, depths'
    """
    if isinstance(output, dict):
        return f"a dict with {', '.join(map(str, output)) or 'nothing'}"
    if isinstance(output, (tuple, list)):
        return f"a {type(output).__name__} of {', '.join(type(item).__name__ for item in output) or 'nothing'}"
    return f"a {type(output).__module__}.{type(output).__qualname__}"
