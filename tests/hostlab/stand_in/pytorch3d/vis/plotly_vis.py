"""``plot_scene`` as far as VicaSplat goes: a frustum for every camera, seen from one more; drawn by matplotlib.

The figure answers to what that host does with plotly's: it sets colors, widths and dashes, and asks for a PNG.
"""

import io
from types import SimpleNamespace
from typing import Any

import torch

FRUSTUM = [(0, 0, 0), (-1, -1, 2), (1, -1, 2), (1, 1, 2), (-1, 1, 2)]
PATH = [0, 1, 2, 0, 3, 4, 0, 2, 3, 0, 4, 1]
"""Along which a pen draws the frustum."""


class Figure:
    """Lines in the plane of an image.

    Attributes:
        data: A line for each camera; its looks are in ``line``.
    """

    def __init__(self, paths: list[torch.Tensor], names: list[str]) -> None:
        self.data = [
            SimpleNamespace(points=path, name=name, line=SimpleNamespace(color="black", width=2, dash="solid"))
            for path, name in zip(paths, names, strict=True)
        ]
        self.height = self.width = 600

    def update_layout(self, height: int, width: int) -> None:
        """Set the size in pixels."""
        self.height, self.width = height, width

    def to_image(self, format: str = "png", engine: str = "kaleido") -> bytes:
        """The figure as a file."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as Drawn

        drawn = Drawn((self.width / 100, self.height / 100), dpi=100)
        FigureCanvasAgg(drawn)
        axes = drawn.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        for one in self.data:
            style = "--" if one.line.dash == "dash" else "-"
            axes.plot(*one.points.T.tolist(), style, color=one.line.color, lw=one.line.width / 2)
        axes.set_xlim(-0.75, 0.75)
        axes.set_ylim(-0.75, 0.75)
        file = io.BytesIO()
        drawn.savefig(file, format=format)
        return file.getvalue()


def plot_scene(
    plots: dict[str, dict[str, Any]], viewpoint_cameras: Any, camera_scale: float = 0.3, **axes: Any
) -> Figure:
    """A figure of the cameras of the first plot."""
    paths, names = [], []
    for name, camera in next(iter(plots.values())).items():
        corners = camera_scale * torch.tensor(FRUSTUM, dtype=camera.R.dtype)
        seen = viewpoint_cameras.to_camera(camera.to_world(corners.to(camera.R.device)).cpu().float())
        paths.append((seen[:, :2] / seen[:, 2:].clamp(min=0.1))[PATH])
        names.append(name)
    return Figure(paths, names)
