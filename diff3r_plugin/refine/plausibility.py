"""Whether a scene and its cameras belong together: a first rendering that is far off has a cause that can be named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import torch

from diff3r_plugin.io.errors import tell
from diff3r_plugin.io.images import read_image
from diff3r_plugin.metrics import psnr
from diff3r_plugin.refine.inputs import Inputs
from diff3r_plugin.refine.settings import RefineSettings

MARGIN = 1.0
"""dB that a rendering must be better than a single color."""
ENOUGH = 8
"""Images that are looked at."""
SMALL = 64
"""Side of the images whose single color is judged, pixels."""


def tell_of_doubt(inputs: Inputs, settings: RefineSettings, scores: Sequence[Mapping[str, float]]) -> str | None:
    """Warn once where the scene shows less of its images than one color a view would; returns what was said.

    Args:
        inputs: What was read.
        settings: Of the refinement.
        scores: Of the context images before anything is refined.
    """
    numbers = range(0, len(scores), max(1, len(scores) // ENOUGH))
    found = fmean(scores[number]["psnr"] for number in numbers)
    flat = fmean(_flat_psnr(inputs, number) for number in numbers)
    if found >= flat + MARGIN:
        return None
    said = (
        f"the scene does not look like the images of {settings.cameras}: {found:.1f} dB before anything is refined, "
        f"and a single color for each image has {flat:.1f} dB. Likely causes: {'; '.join(_causes(inputs, settings))}. "
        "'diff3r inspect' draws both."
    )
    tell(settings.scene or settings.cameras, said)
    return said


def _flat_psnr(inputs: Inputs, number: int) -> float:
    """PSNR of an image's mean color."""
    source, name = inputs.context.sources[number], inputs.context.names[number]
    image = read_image(source, name=name, size=(SMALL, SMALL))
    return float(psnr(image[None], image.mean((1, 2), keepdim=True).expand_as(image)[None]).clamp_max(99))


def _causes(inputs: Inputs, settings: RefineSettings) -> list[str]:
    """What is likely, most likely first."""
    scene, causes = inputs.scene, []
    seen = share_in_view(inputs)
    if seen < 0.5:
        causes.append(f"cameras of another frame than the scene's (--world; {seen:.0%} of the Gaussians are in view)")
    opacities = scene.opacities
    middle = float(((opacities > 0.45) & (opacities < 0.74)).float().mean())
    if middle > 0.95:
        causes.append(f"opacities that are no logits ({middle:.0%} lie between 0.45 and 0.74)")
    if seen >= 0.5:
        causes.append("cameras of another frame than the scene's (--world)")
    causes.append("a focal length in pixels of another image size (w, h of the file), or images that were cropped")
    if middle <= 0.95:
        causes.append("opacities or scales in another convention")
    if inputs.origin is not None:
        causes.append("positions that were rounded far from the origin before they were written")
    causes.append(f"another background than {','.join(f'{c:g}' for c in settings.background)} (--background)")
    return causes


def share_in_view(inputs: Inputs) -> float:
    """Part of the Gaussians whose center at least one context image has in view."""
    means = inputs.scene.means[0].double()
    seen = torch.zeros(len(means), dtype=torch.bool)
    for pose, matrix, (height, width) in zip(
        inputs.context.world_to_camera, inputs.context.intrinsics, inputs.context.sizes, strict=True
    ):
        there = means @ pose[:3, :3].T + pose[:3, 3]
        depth = there[:, 2].clamp_min(1e-9)
        column = matrix[0, 0] * there[:, 0] / depth + matrix[0, 2]
        row = matrix[1, 1] * there[:, 1] / depth + matrix[1, 2]
        seen |= (there[:, 2] > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return float(seen.float().mean())
