"""What a COLMAP sparse model is made of; the binary and the text reader both give these."""

from __future__ import annotations

from dataclasses import dataclass

MODELS: dict[str, tuple[int, int]] = {
    "SIMPLE_PINHOLE": (0, 3),
    "PINHOLE": (1, 4),
    "SIMPLE_RADIAL": (2, 4),
    "RADIAL": (3, 5),
    "OPENCV": (4, 8),
    "OPENCV_FISHEYE": (5, 8),
    "FULL_OPENCV": (6, 12),
    "FOV": (7, 5),
    "SIMPLE_RADIAL_FISHEYE": (8, 4),
    "RADIAL_FISHEYE": (9, 5),
    "THIN_PRISM_FISHEYE": (10, 12),
    "RAD_TAN_THIN_PRISM_FISHEYE": (11, 16),
    "SIMPLE_DIVISION": (12, 4),
    "DIVISION": (13, 5),
    "SIMPLE_FISHEYE": (14, 3),
    "FISHEYE": (15, 4),
    "EUCM": (16, 6),
    "EQUIRECTANGULAR": (17, 2),
}
"""Camera model -> its number in binary files, and how many parameters it has."""


@dataclass(frozen=True)
class ColmapCamera:
    """Intrinsics.

    Args:
        model: One of :data:`MODELS`.
        width: Pixels.
        height: Pixels.
        params: The model's parameters in COLMAP's order.
    """

    model: str
    width: int
    height: int
    params: tuple[float, ...]


@dataclass(frozen=True)
class ColmapImage:
    """One registered image.

    Args:
        name: Its file, relative to the folder of images.
        quat: World-to-camera rotation, wxyz.
        translation: World-to-camera translation.
        camera: Number of its camera.
    """

    name: str
    quat: tuple[float, float, float, float]
    translation: tuple[float, float, float]
    camera: int


@dataclass(frozen=True)
class ColmapPoint:
    """One triangulated point.

    Args:
        position: In the world.
        color: RGB, 0 to 255.
    """

    position: tuple[float, float, float]
    color: tuple[int, int, int]
