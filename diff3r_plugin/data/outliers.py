"""Corrupted context images: wrong exposure, blur, an occluder in front of the lens, or a wrong pose."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray
from PIL import Image, ImageFilter

from diff3r_plugin.data.options import OUTLIER_KINDS


def choose_outliers(
    rng: np.random.Generator, images: list[tuple[str, int]], share: float, kinds: tuple[str, ...] = OUTLIER_KINDS
) -> dict[str, dict[int, str]]:
    """Pick exactly ``round(share * len(images))`` of the images and say how each is to be corrupted.

    They are spread evenly: no scene has two of them more than another, so that half of all context images are one of
    each pair, and every scene keeps something to be judged by.

    Args:
        images: (scene key, frame) of every candidate.
        share: In [0, 1].
        kinds: Ways to choose from; each is used equally often, up to one.

    Returns:
        Scene key -> frame -> kind.

    Example:
        >>> import numpy as np
        >>> from diff3r_plugin.data.outliers import choose_outliers
        >>> choose_outliers(np.random.default_rng(0), [("a", 0), ("a", 5)], share=1.0, kinds=("blur",)) == {
        ...     "a": {0: "blur", 5: "blur"}
        ... }
        True
    """
    chosen: dict[str, dict[int, str]] = {}
    shuffled = rng.permutation(len(images))
    rank: dict[str, int] = {}
    order = []
    for index in shuffled:
        scene = images[index][0]
        rank[scene] = rank.get(scene, -1) + 1
        order.append((rank[scene], int(index)))
    order.sort(key=lambda entry: entry[0])  # stable: within a round the order stays that of the shuffle
    picked = [index for _, index in order[: round(share * len(images))]]
    for count, index in enumerate(picked):
        scene, frame = images[index]
        chosen.setdefault(scene, {})[frame] = kinds[count % len(kinds)]
    return chosen


def corrupt(
    rng: np.random.Generator,
    kind: str,
    image: UInt8[ndarray, "h w 3"],
    world_to_camera: Float[ndarray, "4 4"],
) -> tuple[UInt8[ndarray, "h w 3"], Float[ndarray, "4 4"], dict]:
    """Apply one kind of defect.

    Returns:
        The image and the pose to be written, and what was done, with numbers, for the record. Translations there
        are in meters, angles in degrees, lengths in pixels; a wrong pose comes with the true one.
    """
    if kind == "exposure":
        gain = float(np.exp(rng.choice([-1, 1]) * rng.uniform(0.35, 0.7)))
        tint = rng.uniform(0.9, 1.1, 3)
        corrupted = np.clip(image * (gain * tint), 0, 255).astype(np.uint8)
        return corrupted, world_to_camera, {"kind": kind, "gain": gain, "tint": tint.tolist()}
    if kind == "blur":
        radius = float(rng.uniform(0.02, 0.04) * max(image.shape[:2]))
        corrupted = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))
        return corrupted, world_to_camera, {"kind": kind, "radius": radius}
    if kind == "occluder":
        return _occlude(rng, image, world_to_camera)
    if kind == "pose":
        axis = rng.normal(size=3)
        angle = np.deg2rad(rng.uniform(1.5, 4.0))
        shift = rng.normal(size=3)
        shift *= rng.uniform(0.05, 0.15) / np.linalg.norm(shift)
        error = np.eye(4)
        error[:3, :3] = _rotation(axis / np.linalg.norm(axis), angle)
        error[:3, 3] = shift
        note = {
            "kind": kind,
            "degrees": float(np.rad2deg(angle)),
            "shift": shift.tolist(),
            "true_world_to_camera": world_to_camera.tolist(),
        }
        return image, error @ world_to_camera, note
    raise ValueError(f"Kind of outlier must be one of {', '.join(OUTLIER_KINDS)}; got {kind!r}.")


def corrupted_pixels(note: dict, size: tuple[int, int]) -> Bool[ndarray, "h w"]:
    """Which pixels a defect touched, from its record: those under an occluder, or the whole image.

    Example:
        >>> from diff3r_plugin.data.outliers import corrupted_pixels
        >>> corrupted_pixels({"kind": "blur", "radius": 1.0}, (4, 4)).all()
        np.True_
    """
    if note["kind"] != "occluder":
        return np.ones(size, bool)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    (row, column), (a, b) = note["center"], note["radii"]
    return ((y - row) / a) ** 2 + ((x - column) / b) ** 2 < 1


def _occlude(
    rng: np.random.Generator, image: ndarray, world_to_camera: ndarray
) -> tuple[ndarray, ndarray, dict[str, Any]]:
    """A flat-colored ellipse, as a finger or a passer-by, over a tenth to a quarter of the image."""
    h, w = image.shape[:2]
    radii = np.sqrt(rng.uniform(0.1, 0.25) / np.pi * np.array([h * h, w * w])) * np.array([1.2, 1 / 1.2])
    center = rng.uniform(0.15, 0.85, 2) * (h, w)
    color = rng.integers(10, 245, 3)
    note = {"kind": "occluder", "center": center.tolist(), "radii": radii.tolist(), "color": color.tolist()}
    corrupted = image.copy()
    corrupted[corrupted_pixels(note, (h, w))] = color
    return corrupted, world_to_camera, note


def _rotation(axis: ndarray, angle: float) -> ndarray:
    """Rotation matrix about a unit axis (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
