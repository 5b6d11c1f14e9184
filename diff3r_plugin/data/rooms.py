"""Furnished rooms made of boxes and ellipsoids, drawn at random.

World frame of a room: x right, y down, z ahead, meters; the floor is y = 0, the ceiling y = -height.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from diff3r_plugin.data.textures import Texture, sample_texture


@dataclass(frozen=True)
class Part:
    """A solid: an oriented box or the ellipsoid inscribed in it.

    Args:
        shape: ``"box"`` or ``"ellipsoid"``.
        center: ``[3]``, meters.
        half_size: Half the extent along each own axis, ``[3]``, meters.
        rotation: Own axes as columns, ``[3, 3]``.
        texture: Its surface.
    """

    shape: str
    center: Float[ndarray, " 3"]
    half_size: Float[ndarray, " 3"]
    rotation: Float[ndarray, "3 3"]
    texture: Texture


@dataclass(frozen=True)
class Room:
    """A box seen from inside, and the solids in it.

    Args:
        low, high: Opposite corners, ``[3]`` each, meters.
        walls: Six textures: x low and high, y low (ceiling) and high (floor), z low and high.
        parts: The solids.
        light: Position of the lamp, ``[3]``.
        ambient: Light that reaches every surface, in [0, 1].
    """

    low: Float[ndarray, " 3"]
    high: Float[ndarray, " 3"]
    walls: tuple[Texture, ...]
    parts: tuple[Part, ...]
    light: Float[ndarray, " 3"]
    ambient: float


def yaw_matrix(angle: float) -> Float[ndarray, "3 3"]:
    """Rotation about the vertical (y) axis by ``angle`` radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def sample_extent(rng: np.random.Generator) -> tuple[Float[ndarray, " 3"], Float[ndarray, " 3"]]:
    """Corners of an empty room: 4.5 to 7 m wide, 2.4 to 3.2 m high, 5 to 8 m deep."""
    width, height, depth = rng.uniform(4.5, 7.0), rng.uniform(2.4, 3.2), rng.uniform(5.0, 8.0)
    return np.array([-width / 2, -height, 0.0]), np.array([width / 2, 0.0, depth])


def sample_room(
    rng: np.random.Generator,
    low: Float[ndarray, " 3"],
    high: Float[ndarray, " 3"],
    keep_free: Float[ndarray, "n 3"],
    clearance: float = 0.7,
) -> Room:
    """Furnish a room, keeping its solids away from the camera path.

    Args:
        low, high: Corners of the room.
        keep_free: Points (camera centers) that no solid may come near.
        clearance: Least horizontal distance between such a point and the circle around a piece of furniture, meters.

    Returns:
        A room with 5 to 9 pieces of furniture (tables and shelves have thin legs and boards, lamps thin poles),
        2 to 5 pictures or windows on its walls and 1 to 3 things hanging from the ceiling.
    """
    parts: list[Part] = []
    makers = (_table, _shelf, _lamp, _stack, _chair, _ball, _column, _fence)
    for _ in range(int(rng.integers(5, 10))):
        maker = makers[int(rng.integers(len(makers)))]
        spot = _free_spot(rng, low, high, keep_free, clearance + 0.6)
        if spot is not None:
            parts += maker(rng, spot, -low[1])
    for _ in range(int(rng.integers(2, 6))):
        parts.append(_picture(rng, low, high))
    for _ in range(int(rng.integers(1, 4))):
        spot = _free_spot(rng, low, high, keep_free, clearance)
        if spot is not None:
            parts += _pendant(rng, spot, -low[1])
    walls = tuple(
        sample_texture(rng, scale=1.6, kinds=kinds)
        for kinds in (
            *[("noise", "stripes", "bricks", "gradient", "dots")] * 2,
            ("noise", "gradient", "planks"),
            ("planks", "checker", "noise", "bricks"),
            *[("noise", "stripes", "bricks", "checker")] * 2,
        )
    )
    light = np.array([rng.uniform(-1.5, 1.5), low[1] + 0.3, rng.uniform(0.3, 0.7) * high[2]])
    return Room(low, high, walls, tuple(parts), light, float(rng.uniform(0.4, 0.65)))


def _free_spot(
    rng: np.random.Generator, low: ndarray, high: ndarray, keep_free: ndarray, distance: float
) -> ndarray | None:
    """A point of the floor at least ``distance`` (horizontally) from every point of ``keep_free``, or None."""
    for _ in range(20):
        spot = np.array([rng.uniform(low[0] + 0.6, high[0] - 0.6), 0.0, rng.uniform(low[2] + 0.6, high[2] - 0.6)])
        if np.hypot(*(keep_free - spot)[:, [0, 2]].T).min() > distance:
            return spot
    return None


def _assembly(spot: ndarray, yaw: float) -> tuple[list[Part], Callable[..., None]]:
    """An empty list of parts, and a function that adds one given in the furniture's own frame."""
    parts: list[Part] = []
    rotation = yaw_matrix(yaw)

    def add(
        center: ndarray, half_size: ndarray, texture: Texture, shape: str = "box", turn: ndarray | None = None
    ) -> None:
        axes = rotation if turn is None else rotation @ turn
        parts.append(
            Part(
                shape,
                spot + rotation @ np.asarray(center, float),
                np.asarray(half_size, float),
                axes,
                texture,
            )
        )

    return parts, add


def _object_texture(rng: np.random.Generator) -> Texture:
    return sample_texture(rng, scale=0.6, gloss=float(rng.choice([0.0, 0.0, 0.15, 0.35])))


def _table(rng: np.random.Generator, spot: ndarray, height: float) -> list[Part]:
    parts, add = _assembly(spot, rng.uniform(0, np.pi))
    w, d, h = rng.uniform(0.35, 0.6), rng.uniform(0.25, 0.45), rng.uniform(0.45, 0.8)
    leg = rng.uniform(0.015, 0.035)
    wood = _object_texture(rng)
    add((0, -h, 0), (w, 0.03, d), wood)
    for x in (-1, 1):
        for z in (-1, 1):
            add((x * (w - 0.05), -h / 2, z * (d - 0.05)), (leg, h / 2, leg), wood)
    for _ in range(int(rng.integers(1, 3))):  # things on the table
        r = rng.uniform(0.06, 0.16)
        shape = str(rng.choice(["box", "ellipsoid"]))
        position = (rng.uniform(-w, w) * 0.6, -h - 0.03 - r, rng.uniform(-d, d) * 0.6)
        add(position, (r * rng.uniform(0.5, 1), r, r * rng.uniform(0.5, 1)), _object_texture(rng), shape)
    return parts


def _shelf(rng: np.random.Generator, spot: ndarray, height: float) -> list[Part]:
    parts, add = _assembly(spot, rng.uniform(0, np.pi))
    w, d, h = rng.uniform(0.3, 0.5), 0.15, rng.uniform(1.0, 1.9)
    wood = _object_texture(rng)
    for x in (-w, w):
        add((x, -h / 2, 0), (0.02, h / 2, d), wood)
    boards = int(rng.integers(3, 5))
    for k in range(boards):
        y = -h * (k + 1) / boards
        add((0, y, 0), (w, 0.02, d), wood)
        r = rng.uniform(0.08, 0.14)
        add((rng.uniform(-w, w) * 0.5, y + h / boards - r - 0.02, 0), (r * 1.3, r, 0.1), _object_texture(rng))
    return parts


def _lamp(rng: np.random.Generator, spot: ndarray, height: float) -> list[Part]:
    parts, add = _assembly(spot, 0.0)
    h, r = rng.uniform(1.2, 1.8), rng.uniform(0.12, 0.25)
    add((0, -h / 2, 0), (0.02, h / 2, 0.02), _object_texture(rng))
    add((0, -0.03, 0), (0.16, 0.03, 0.16), _object_texture(rng))
    add((0, -h, 0), (r, r * 0.8, r), _object_texture(rng), "ellipsoid")
    return parts


def _stack(rng: np.random.Generator, spot: ndarray, height: float) -> list[Part]:
    parts, add = _assembly(spot, rng.uniform(0, np.pi))
    top = 0.0
    for _ in range(int(rng.integers(1, 4))):
        half = rng.uniform(0.12, 0.38, 3)
        add((0, -top - half[1], 0), half, _object_texture(rng), turn=yaw_matrix(rng.uniform(-0.5, 0.5)))
        top += 2 * half[1]
    return parts


def _chair(rng: np.random.Generator, spot: ndarray, height: float) -> list[Part]:
    parts, add = _assembly(spot, rng.uniform(0, 2 * np.pi))
    wood, w = _object_texture(rng), rng.uniform(0.18, 0.25)
    add((0, -0.45, 0), (w, 0.025, w), wood)
    add((0, -0.75, w), (w, 0.25, 0.02), _object_texture(rng))
    for x in (-1, 1):
        for z in (-1, 1):
            add((x * (w - 0.02), -0.22, z * (w - 0.02)), (0.018, 0.22, 0.018), wood)
    return parts


def _ball(rng: np.random.Generator, spot: ndarray, height: float) -> list[Part]:
    parts, add = _assembly(spot, rng.uniform(0, np.pi))
    half = rng.uniform(0.2, 0.45, 3)
    add((0, -half[1], 0), half, _object_texture(rng), "ellipsoid")
    return parts


def _column(rng: np.random.Generator, spot: ndarray, height: float) -> list[Part]:
    parts, add = _assembly(spot, rng.uniform(0, np.pi))
    half = rng.uniform(0.06, 0.2)
    add((0, -height / 2, 0), (half, height / 2, half), _object_texture(rng))
    return parts


def _fence(rng: np.random.Generator, spot: ndarray, height: float) -> list[Part]:
    """A row of thin bars: what is behind shows through the gaps."""
    parts, add = _assembly(spot, rng.uniform(0, np.pi))
    h, bars, wood = rng.uniform(0.7, 1.3), int(rng.integers(3, 6)), _object_texture(rng)
    for k in range(bars):
        add(((k / (bars - 1) - 0.5) * 1.0, -h / 2, 0), (0.022, h / 2, 0.022), wood)
    add((0, -h, 0), (0.52, 0.025, 0.025), wood)
    return parts


def _pendant(rng: np.random.Generator, spot: ndarray, height: float) -> list[Part]:
    parts, add = _assembly(spot, rng.uniform(0, np.pi))
    drop, r = rng.uniform(0.4, 1.0), rng.uniform(0.1, 0.22)
    add((0, -height + drop / 2, 0), (0.012, drop / 2, 0.012), _object_texture(rng))
    shape = str(rng.choice(["box", "ellipsoid"]))
    add((0, -height + drop + r * 0.7, 0), (r, r * 0.7, r), _object_texture(rng), shape)
    return parts


def _picture(rng: np.random.Generator, low: ndarray, high: ndarray) -> Part:
    """A flat box on one of the side walls or the far wall."""
    wall = int(rng.integers(3))
    w, h, y = rng.uniform(0.3, 0.8), rng.uniform(0.25, 0.6), low[1] / 2 + rng.uniform(-0.4, 0.2)
    along_z = rng.uniform(low[2] + 1.0, high[2] - 0.5)
    along_x = rng.uniform(low[0] + 0.8, high[0] - 0.8)
    center, half = {
        0: ((low[0], y, along_z), (0.04, h, w)),
        1: ((high[0], y, along_z), (0.04, h, w)),
        2: ((along_x, y, high[2]), (w, h, 0.04)),
    }[wall]
    texture = sample_texture(rng, scale=float(rng.uniform(0.5, 1.0)), kinds=("noise", "stripes", "dots", "checker"))
    return Part("box", np.array(center), np.array(half), np.eye(3), texture)
