"""Cameras as VicaSplat's drawing of them needs them: points are rows, X_camera = X_world R + T."""

import torch
from torch.nn.functional import normalize


class PerspectiveCameras:
    """Poses of cameras; what else is known of them is not drawn.

    Args:
        R: Rotations ``[N, 3, 3]``.
        T: Translations ``[N, 3]``.
    """

    def __init__(self, R: torch.Tensor, T: torch.Tensor, K: torch.Tensor | None = None) -> None:
        self.R, self.T, self.K = R, T, K

    def to_world(self, points: torch.Tensor) -> torch.Tensor:
        """Points ``[P, 3]`` in the frame of the first camera."""
        return (points - self.T[0]) @ self.R[0].mT

    def to_camera(self, points: torch.Tensor) -> torch.Tensor:
        """World points ``[P, 3]`` in the frame of the first camera."""
        return points @ self.R[0] + self.T[0]


FoVPerspectiveCameras = PerspectiveCameras


def look_at_view_transform(
    dist: float, elev: float, azim: float, up: tuple[tuple[float, float, float]] = ((0, 1, 0),)
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pose ``[1, 3, 3]``, ``[1, 3]`` of a camera that looks at the origin, from spherical coordinates in degrees."""
    elevation, azimuth = torch.deg2rad(torch.tensor([float(elev), float(azim)]))
    position = dist * torch.stack([elevation.cos() * azimuth.sin(), elevation.sin(), elevation.cos() * azimuth.cos()])
    forward = normalize(-position, dim=0)
    right = normalize(torch.linalg.cross(torch.tensor(up[0], dtype=torch.float32), forward), dim=0)
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward], 1)
    return rotation[None], -(position @ rotation)[None]
