"""A scene as files hold it: Gaussians, and how they were made to be rendered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.io.errors import FileError, tell

USUAL_DILATION = 0.3
"""What 3D Gaussian splatting adds to covariances in the image, px²."""
BRUSH_DILATION = 0.1
"""What Brush adds where it renders in its "mip" mode, px²."""
LONGEST_CFG = 1 << 16
OF_BRUSH, OF_POSTSHOT = "splatrendermode:", "antialiased "
"""Beginnings of the header comments that say how splats are rendered, in small letters."""


@dataclass(frozen=True)
class SplatRendering:
    """The image formation that Gaussians were fitted with.

    Args:
        antialiased: Opacities are dimmed by what the dilation adds to a splat's area.
        dilation: Added to both diagonal entries of covariances in the image, px².
    """

    antialiased: bool = False
    dilation: float = USUAL_DILATION

    def comments(self) -> list[str]:
        """What a PLY header says of it: in Brush's words or, of another dilation than Brush's, in Postshot's."""
        if not self.antialiased:
            return []
        return ["SplatRenderMode: mip" if self.dilation == BRUSH_DILATION else "antialiased 1"]


USUAL_RENDERING = SplatRendering()


@dataclass(frozen=True, eq=False)
class Splats:
    """One scene.

    Args:
        gaussians: The scene.
        rendering: How it was made to be rendered.
    """

    gaussians: Gaussians
    rendering: SplatRendering = USUAL_RENDERING


def tell_of_training(path: Path, background: tuple[float, float, float]) -> None:
    """Warn of what the Inria code's ``cfg_args`` beside a scene says of its images and that is not applied.

    Args:
        path: The scene, in ``point_cloud/iteration_N`` below the file, or next to it.
        background: Color behind all Gaussians that it is going to be rendered with.
    """
    file = next((p / "cfg_args" for p in list(path.absolute().parents)[:3] if (p / "cfg_args").is_file()), None)
    if file is None:
        return
    said = file.read_text(encoding="utf-8", errors="replace")[:LONGEST_CFG]
    if re.search(r"\bwhite_background=True\b", said) and tuple(background) != (1.0, 1.0, 1.0):
        tell(file, "it says white_background=True, and the scene is rendered before another one: --background 1,1,1.")
    if re.search(r"\btrain_test_exp=True\b", said):
        tell(file, "it says train_test_exp=True: each image has an exposure (exposure.json), which is not applied.")


def rendering_of(path: Path, comments: Sequence[str]) -> SplatRendering:
    """What a PLY header says of how its splats are rendered; the last of several such comments holds.

    Brush writes ``SplatRenderMode: mip`` (or ``default``), and so do SuperSplat's tools; Postshot ``antialiased 1`` (or
    0).

    Raises:
        FileError: if they are rendered as something else than Gaussians in three dimensions.

    Example:
        >>> from diff3r_plugin.io.splats import rendering_of
        >>> rendering_of("scene.ply", ["Exported from Brush", "SplatRenderMode: mip"])
        SplatRendering(antialiased=True, dilation=0.1)
    """
    found = SplatRendering()
    for comment in comments:
        lower = comment.lower().strip()
        if lower.startswith(OF_BRUSH):
            mode = lower[len(OF_BRUSH) :].strip()
            if mode == "2dgs":
                raise FileError(path, f"its header says {comment!r}: flat Gaussians.", "Give a scene of 3D Gaussians.")
            if mode not in ("mip", "default", "antialiased"):
                tell(path, f"its header says {comment!r}, which is not known: rendered as usual.")
            found = SplatRendering() if mode not in ("mip", "antialiased") else SplatRendering(True, BRUSH_DILATION)
        elif lower.startswith(OF_POSTSHOT):
            value = lower[len(OF_POSTSHOT) :].strip(" :=")
            if value not in ("0", "1", "true", "false"):
                tell(path, f"its header says {comment!r}, which is not known: rendered as usual.")
            found = SplatRendering(value in ("1", "true"))
    return found
