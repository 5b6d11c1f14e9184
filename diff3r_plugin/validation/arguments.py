"""What the arguments of a call must be before their values are looked at: kinds, shapes, devices. Costs no transfer."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from diff3r_plugin.argument_types import kind, require_device, require_instance
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.views import Views


def require_scenes_and_cameras(gaussians: Any, views: Any) -> None:
    """Raise unless these are Gaussians and Views that belong together.

    Raises:
        TypeError: if one is something else.
        ValueError: if batch sizes or devices differ.
    """
    require_instance("gaussians", gaussians, Gaussians)
    require_instance("views", views, Views)
    if gaussians.batch_size != views.batch_size:
        raise ValueError(
            f"Gaussians hold {gaussians.batch_size} scenes but Views {views.batch_size}; give each scene its views."
        )
    if gaussians.device != views.device:
        raise ValueError(f"Gaussians are on {gaussians.device} but Views on {views.device}; move one with .to(...).")


def require_something_to_refine(gaussians: Any, views: Any, pixel_weights: Any = None) -> None:
    """Raise unless there are scenes, Gaussians, cameras and images to refine them on.

    Raises:
        TypeError: if an argument is something else.
        ValueError: if something is missing or shapes disagree.
    """
    require_scenes_and_cameras(gaussians, views)
    if views.images is None:
        raise ValueError("TTOLayer needs images: these Views have images=None.")
    B, V, _, H, W = views.images.shape
    empty = {
        "an empty batch: no scene": B,
        "scenes without Gaussians": gaussians.num_gaussians,
        "no views": V,
        f"images without pixels ({W} x {H})": H * W,
    }
    for what, count in empty.items():
        if count == 0:
            raise ValueError(
                f"There is nothing to refine: {what}. Expected at least one of each of scenes, Gaussians, views and "
                "pixels; leave the call out for such a batch."
            )
    if pixel_weights is None:
        return
    if not isinstance(pixel_weights, Tensor):
        raise TypeError(
            f"pixel_weights must be a torch.Tensor {[B, V, H, W]}, got {kind(pixel_weights)}; make one with "
            "torch.tensor."
        )
    if tuple(pixel_weights.shape) != (B, V, H, W):
        raise ValueError(f"pixel_weights must have shape {[B, V, H, W]}, got {list(pixel_weights.shape)}.")
    require_device("pixel_weights", pixel_weights, views.device, "Views")
