"""Renderings before and after, beside the images."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.io import write_image
from diff3r_plugin.refine.checkpoint import Checkpoint
from diff3r_plugin.refine.refinement import Refinement
from diff3r_plugin.refine.sources import ViewSource


def write_pictures(
    refinement: Refinement,
    kinds: Mapping[str, ViewSource],
    before: Gaussians,
    after: Checkpoint,
    folder: Path,
    most: int,
) -> None:
    """Write ``KIND_NAME_truth.png``, ``_before.png`` and ``_after.png`` of some views.

    Args:
        refinement: That led from the one to the other.
        kinds: Views by kind; those of the last kind come first.
        before: The scene that it began with.
        after: What it ended with.
        folder: Where to.
        most: How many views.
    """
    places = [(kind, number) for kind in reversed(list(kinds)) for number in range(len(kinds[kind].names))]
    for kind, number in places[:most]:
        views, cameras = kinds[kind], after.result_cameras if kind == "context" else None
        name = re.sub(r"[^\w.-]+", "_", views.names[number].rpartition("/")[2])
        first = refinement.render(before, number, views)
        second = refinement.render(after.result, number, views, cameras)
        shown = {"truth": first.view.given_images, "before": first.rendering, "after": second.rendering}
        for what, image in shown.items():
            write_image(folder / f"{kind}_{name}_{what}.png", image[0, 0])
