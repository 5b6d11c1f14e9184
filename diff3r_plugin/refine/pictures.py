"""Renderings before and after, beside the images."""

from __future__ import annotations

import re

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.io import write_image
from diff3r_plugin.refine.cameras import Cameras
from diff3r_plugin.refine.inputs import Inputs
from diff3r_plugin.refine.scoring import seen_by
from diff3r_plugin.refine.settings import RefineSettings


def write_pictures(
    inputs: Inputs, refined: Gaussians, settings: RefineSettings, cameras: Cameras | None = None
) -> None:
    """Write ``images/KIND_NAME_truth.png``, ``_before.png`` and ``_after.png`` of some views, held-out ones first."""
    places = [("held_out", inputs.held_out, i) for i in range(len(inputs.held_out))]
    places += [("context", inputs.context, i) for i in range(len(inputs.context))]
    for kind, images, number in places[: settings.pictures]:
        own = cameras if kind == "context" else None
        name = re.sub(r"[^\w.-]+", "_", images.names[number].rpartition("/")[2])
        stem = settings.out / "images" / f"{kind}_{name}"
        views, before = seen_by(inputs.scene, images, number, inputs, settings)
        _, after = seen_by(refined, images, number, inputs, settings, own)
        shown = {"truth": views.given_images, "before": before, "after": after}
        for what, image in shown.items():
            write_image(stem.with_name(f"{stem.name}_{what}.png"), image[0, 0])
