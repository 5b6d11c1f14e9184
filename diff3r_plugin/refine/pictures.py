"""Renderings before and after, beside the images."""

from __future__ import annotations

import re

import torch

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.io import write_image
from diff3r_plugin.refine.inputs import Inputs, loaded
from diff3r_plugin.refine.settings import RefineSettings
from diff3r_plugin.render import render


def write_pictures(inputs: Inputs, refined: Gaussians, settings: RefineSettings) -> None:
    """Write ``images/KIND_NAME_truth.png``, ``_before.png`` and ``_after.png`` of some views, held-out ones first."""
    places = [("held_out", inputs.held_out, i) for i in range(len(inputs.held_out))]
    places += [("context", inputs.context, i) for i in range(len(inputs.context))]
    for kind, images, number in places[: settings.pictures]:
        views = loaded(images, [number], inputs, settings)
        assert views.images is not None
        cameras = views.replace(images=None, image_size=inputs.size)
        name = re.sub(r"[^\w.-]+", "_", images.names[number].rpartition("/")[2])
        stem = settings.out / "images" / f"{kind}_{name}"
        with torch.no_grad():
            shown = {
                "truth": views.images,
                "before": render(inputs.scene.to(views.device), cameras, settings.tto.backend),
                "after": render(refined.to(views.device), cameras, settings.tto.backend),
            }
        for what, image in shown.items():
            write_image(stem.with_name(f"{stem.name}_{what}.png"), image[0, 0])
