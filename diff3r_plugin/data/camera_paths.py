"""Smooth hand-held camera paths through a room, like those of house-tour videos."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

KINDS = ("truck", "dolly", "arc", "walk")
_SHARES = (0.35, 0.15, 0.3, 0.2)
_MARGIN = 0.45  # least distance of a camera from the walls, meters


def sample_path(
    rng: np.random.Generator,
    low: Float[ndarray, " 3"],
    high: Float[ndarray, " 3"],
    frames: int,
    length: float | None = None,
) -> Float[ndarray, "frames 4 4"]:
    """Draw a camera path inside a room.

    The camera moves sideways (truck), forward with some drift (dolly), around the point it looks at (arc) or along a
    bend (walk), with the low-frequency sway of a hand.

    Args:
        low, high: Corners of the room (x right, y down, z ahead), meters.
        frames: Number of cameras, at least 2.
        length: Length of the path, meters; drawn from 0.8 to 1.8 when not given.

    Returns:
        Camera-to-world matrices, OpenCV axes.

    Raises:
        ValueError: if there are fewer than 2 frames or no path of that length fits into the room.

    Example:
        >>> import numpy as np
        >>> from diff3r_plugin.data.camera_paths import sample_path
        >>> sample_path(np.random.default_rng(0), np.array([-3.0, -2.5, 0]), np.array([3.0, 0, 6]), frames=8).shape
        (8, 4, 4)
    """
    if frames < 2:
        raise ValueError(f"A camera path needs at least 2 frames, got {frames}.")
    for _ in range(200):
        total = rng.uniform(0.8, 1.8) if length is None else length
        centers, looks = _sample_curve(rng, low, high, frames, total)
        inside = (centers > low + _MARGIN) & (centers < high - np.array([_MARGIN, 0.8, 2.0]))
        if inside.all():
            return np.stack(
                [look_at(c, p, roll) for c, p, roll in zip(centers, looks, _sway(rng, frames, 0.012), strict=True)]
            )
    raise ValueError(f"No camera path of {total:.2f} m fits into the room from {low} to {high}; give a smaller length.")


def look_at(center: Float[ndarray, " 3"], target: Float[ndarray, " 3"], roll: float = 0.0) -> Float[ndarray, "4 4"]:
    """Camera-to-world matrix (OpenCV axes) of a camera at ``center`` that looks at ``target``; world y is down."""
    forward = (target - center) / np.linalg.norm(target - center)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    c, s = np.cos(roll), np.sin(roll)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([c * right + s * down, c * down - s * right, forward], 1)
    pose[:3, 3] = center
    return pose


def _sample_curve(
    rng: np.random.Generator, low: ndarray, high: ndarray, frames: int, total: float
) -> tuple[ndarray, ndarray]:
    """Camera centers and the points looked at, both [frames, 3]."""
    t = np.linspace(0, 1, frames)
    start = np.array(
        [
            rng.uniform(low[0], high[0]) * 0.6,
            -rng.uniform(1.0, 1.7),
            low[2] + rng.uniform(0.5, 0.45 * high[2]),
        ]
    )
    target = np.array(
        [
            rng.uniform(low[0], high[0]) * 0.55,
            -rng.uniform(0.5, 1.4),
            high[2] - rng.uniform(0.0, 0.35) * high[2],
        ]
    )
    view = target - start
    distance = np.hypot(view[0], view[2])
    ahead = np.array([view[0], 0, view[2]]) / max(distance, 1e-6)
    side = np.array([ahead[2], 0, -ahead[0]]) * rng.choice([-1.0, 1.0])
    kind = str(rng.choice(KINDS, p=_SHARES))
    drift = rng.normal(0, 0.25)
    if kind == "truck":
        centers = start + np.outer(t * total, side + 0.5 * drift * ahead)
    elif kind == "dolly":
        centers = start + np.outer(t * total, 0.93 * ahead + 0.37 * side)
    elif kind == "arc":
        angle = t * total / max(distance, 1.0) * rng.choice([-1.0, 1.0])
        spoke = -ahead * distance
        centers = target + np.cos(angle)[:, None] * spoke + np.sin(angle)[:, None] * np.cross(spoke, [0.0, 1.0, 0.0])
        centers[:, 1] = start[1]
    else:
        heading = rng.uniform(-0.4, 1.2) + t * rng.uniform(-1.2, 1.2)
        steps = np.cos(heading)[:, None] * side + np.sin(heading)[:, None] * ahead
        centers = start + np.cumsum(steps, 0) * (total / frames)
    centers = centers + np.stack([_sway(rng, frames, 0.02) for _ in range(3)], 1)
    centers[:, 1] += t * rng.normal(0, 0.08)
    looks = (
        target
        + np.outer(t, rng.normal(0, (0.35, 0.12, 0.2)))
        + np.stack([_sway(rng, frames, 0.03) for _ in range(3)], 1)
    )
    return centers, looks


def _sway(rng: np.random.Generator, frames: int, amplitude: float) -> ndarray:
    """Two slow sines, about ``amplitude`` high."""
    t = np.linspace(0, 2 * np.pi, frames)
    a, b = rng.normal(0, amplitude, 2)
    p, q = rng.uniform(0, 2 * np.pi, 2)
    return a * np.sin(t + p) + 0.5 * b * np.sin(2 * t + q)
