"""A small vectorized ray caster for rooms of boxes and ellipsoids: color and depth, antialiased."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from diff3r_plugin.data.rooms import Part, Room
from diff3r_plugin.data.textures import Texture, evaluate_texture

_ROOM = -1  # index of the room's own walls in the map of what each ray hits


def render_room(
    room: Room,
    camera_to_world: Float[ndarray, "4 4"],
    intrinsics: tuple[float, float, float, float],
    size: tuple[int, int],
    supersample: int = 3,
) -> tuple[UInt8[ndarray, "h w 3"], Float[ndarray, "h w"]]:
    """Image and depth of a room.

    Args:
        camera_to_world: OpenCV axes.
        intrinsics: fx, fy, cx, cy in units of image width and height.
        size: (height, width) in pixels.
        supersample: Rays per pixel along each axis; colors are their mean, depth is the center ray's
            (the nearest to it when even).

    Returns:
        The image, and z-depth in meters at pixel centers.

    Example:
        >>> import numpy as np
        >>> from diff3r_plugin.data.camera_paths import look_at
        >>> from diff3r_plugin.data.rooms import sample_extent, sample_room
        >>> from diff3r_plugin.data.ray_caster import render_room
        >>> rng = np.random.default_rng(0)
        >>> low, high = sample_extent(rng)
        >>> pose = look_at(np.array([0.0, -1.4, 1.0]), np.array([0.0, -1.2, 5.0]))
        >>> image, depth = render_room(sample_room(rng, low, high, pose[None, :3, 3]), pose, (1, 1, 0.5, 0.5), (32, 32))
        >>> image.shape, bool(depth.min() > 0)
        ((32, 32, 3), True)
    """
    rows, columns = size[0] * supersample, size[1] * supersample
    fx, fy, cx, cy = intrinsics
    x = ((np.arange(columns) + 0.5) / columns - cx) / fx
    y = ((np.arange(rows) + 0.5) / rows - cy) / fy
    rotation, origin = camera_to_world[:3, :3], camera_to_world[:3, 3]
    local = np.stack([*np.broadcast_arrays(x[None, :], y[:, None]), np.ones((rows, columns))], -1)
    # The camera's z component of every direction is 1, so the ray parameter is the z-depth.
    directions = (local @ rotation.T).astype(np.float32)

    depth = _room_exit(room, origin, directions)
    hit = np.full((rows, columns), _ROOM, np.int32)
    for index, part in enumerate(room.parts):
        window = _screen_window(part, camera_to_world, intrinsics, (rows, columns))
        if window is None:
            continue
        t = _intersect(part, origin, directions[window])
        nearer = t < depth[window]
        depth[window][nearer] = t[nearer]
        hit[window][nearer] = index

    colors = _shade(room, origin, directions, depth, hit, 1 / (fx * size[1]))
    samples = colors.reshape(size[0], supersample, size[1], supersample, 3)
    image = sum(samples[:, i, :, j] for i in range(supersample) for j in range(supersample)) / supersample**2
    middle = supersample // 2
    quantized = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    return quantized, depth[middle::supersample, middle::supersample].astype(np.float64)


def _screen_window(
    part: Part, pose: ndarray, intrinsics: tuple[float, float, float, float], shape: tuple[int, int]
) -> tuple[slice, slice] | None:
    """The part of the ray grid that may see a solid; None when it is out of sight."""
    corners = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)]) * part.half_size
    points = (corners @ part.rotation.T + part.center - pose[:3, 3]) @ pose[:3, :3]
    z = points[:, 2]
    if z.max() <= 0.02:
        return None
    if z.min() <= 0.02:
        return slice(0, shape[0]), slice(0, shape[1])
    fx, fy, cx, cy = intrinsics
    u = (points[:, 0] / z * fx + cx) * shape[1]
    v = (points[:, 1] / z * fy + cy) * shape[0]
    left, right = max(int(u.min()) - 1, 0), min(int(u.max()) + 2, shape[1])
    top, bottom = max(int(v.min()) - 1, 0), min(int(v.max()) + 2, shape[0])
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


def _room_exit(room: Room, origin: ndarray, directions: ndarray) -> ndarray:
    """Depth at which each ray leaves the room."""
    inverse = _reciprocal(directions)
    ahead = np.where(inverse > 0, (room.high - origin).astype(np.float32), (room.low - origin).astype(np.float32))
    return _smallest(ahead * inverse)


def _intersect(part: Part, origin: ndarray, directions: ndarray) -> ndarray:
    """Depth at which each ray enters a solid; infinite where it misses it."""
    d = directions @ part.rotation.astype(np.float32)
    o = ((origin - part.center) @ part.rotation).astype(np.float32)
    half = part.half_size.astype(np.float32)
    if part.shape == "box":
        inverse = _reciprocal(d)
        a, b = (-half - o) * inverse, (half - o) * inverse
        enter, leave = _largest(np.minimum(a, b)), _smallest(np.maximum(a, b))
        return np.where((enter < leave) & (enter > 1e-3), enter, np.inf)
    d, o = d / half, o / half
    a, b, c = _dot(d, d), d @ o, float(o @ o) - 1
    root = b * b - a * c
    enter = (-b - np.sqrt(np.maximum(root, 0))) / a
    return np.where((root > 0) & (enter > 1e-3), enter, np.inf)


def _dot(a: ndarray, b: ndarray) -> ndarray:
    # Written out, like the two below: NumPy's reductions over an axis of three are an order of magnitude slower.
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]


def _largest(a: ndarray) -> ndarray:
    return np.maximum(np.maximum(a[..., 0], a[..., 1]), a[..., 2])


def _smallest(a: ndarray) -> ndarray:
    return np.minimum(np.minimum(a[..., 0], a[..., 1]), a[..., 2])


def _unit(a: ndarray) -> ndarray:
    return a / np.sqrt(_dot(a, a))[..., None]


def _reciprocal(directions: ndarray) -> ndarray:
    """1 / x, with the sign kept and the size bounded where x is almost zero."""
    return 1 / np.where(np.abs(directions) < 1e-8, np.copysign(np.float32(1e-8), directions), directions)


def _shade(
    room: Room, origin: ndarray, directions: ndarray, depth: ndarray, hit: ndarray, pixel_width: float
) -> ndarray:
    """Colors of all rays, [rows, columns, 3]."""
    flat_directions, flat_depth, flat_hit = directions.reshape(-1, 3), depth.reshape(-1), hit.reshape(-1)
    colors = np.zeros((flat_hit.size, 3), np.float32)
    for index in np.unique(flat_hit):
        chosen = np.flatnonzero(flat_hit == index)
        d, t = flat_directions[chosen], flat_depth[chosen]
        points = origin.astype(np.float32) + t[:, None] * d
        if index == _ROOM:
            colors[chosen] = _shade_walls(room, points, d, t * np.float32(pixel_width))
        else:
            part = room.parts[index]
            normals, u, v = _surface(part, points)
            colors[chosen] = _lit(room, part.texture, points, normals, d, u, v, t * np.float32(pixel_width))
    return colors.reshape(*hit.shape, 3)


def _shade_walls(room: Room, points: ndarray, directions: ndarray, width: ndarray) -> ndarray:
    low, high = room.low.astype(np.float32), room.high.astype(np.float32)
    from_low, from_high = points - low, high - points
    x, y, z = np.minimum(np.abs(from_low), np.abs(from_high)).T
    nearest = np.where(x < y, np.where(x < z, 0, 2), np.where(y < z, 1, 2))
    rows = np.arange(len(nearest))
    wall = 2 * nearest + (from_high[rows, nearest] < from_low[rows, nearest])
    # Corners and edges get less light (cheap ambient occlusion): the second least distance to a wall decides.
    second = np.maximum(np.minimum(x, y), np.minimum(np.maximum(x, y), z))
    occlusion = 1 - 0.3 * np.exp(second * -4)
    colors = np.zeros_like(points)
    for index in range(6):
        chosen = np.flatnonzero(wall == index)
        if chosen.size == 0:
            continue
        axis = index // 2
        others = [k for k in range(3) if k != axis]
        normals = np.zeros((chosen.size, 3), np.float32)
        normals[:, axis] = 1 if index % 2 == 0 else -1
        p = points[chosen]
        u, v = p[:, others[0]], p[:, others[1]]
        colors[chosen] = _lit(room, room.walls[index], p, normals, directions[chosen], u, v, width[chosen])
    return colors * occlusion[:, None]


def _surface(part: Part, points: ndarray) -> tuple[ndarray, ndarray, ndarray]:
    """Normals in the world and surface coordinates (meters) of points on a solid."""
    rotation, half = part.rotation.astype(np.float32), part.half_size.astype(np.float32)
    local = (points - part.center.astype(np.float32)) @ rotation
    if part.shape == "ellipsoid":
        normals = local / (half * half)
        normals = _unit(normals)
        radius = np.float32(0.5 * (half[0] + half[2]))
        return normals @ rotation.T, np.arctan2(local[:, 0], local[:, 2]) * radius, local[:, 1]
    x, y, z = np.abs(local / half).T
    axis = np.where(x > y, np.where(x > z, 0, 2), np.where(y > z, 1, 2))
    rows = np.arange(len(axis))
    normals = np.zeros_like(local)
    normals[rows, axis] = np.sign(local[rows, axis])
    # Neighboring faces show different stretches of the texture.
    u = np.where(axis == 0, local[:, 2], local[:, 0]) + np.float32(1.7) * axis
    v = np.where(axis == 1, local[:, 2], local[:, 1])
    return normals @ rotation.T, u, v


def _lit(
    room: Room,
    texture: Texture,
    points: ndarray,
    normals: ndarray,
    directions: ndarray,
    u: ndarray,
    v: ndarray,
    width: ndarray,
) -> ndarray:
    """Textured color under the room's lamp: ambient, diffuse and, on glossy surfaces, a highlight."""
    to_light = room.light.astype(np.float32) - points
    distance = np.sqrt(_dot(to_light, to_light))
    to_light = to_light / distance[:, None]
    to_eye = -_unit(directions)
    facing = np.abs(_dot(normals, to_eye))
    color = evaluate_texture(texture, u, v, width / np.sqrt(np.maximum(facing, 0.05)))
    diffuse = np.maximum(_dot(normals, to_light), 0) / (1 + 0.06 * distance**2)
    color = color * (np.float32(room.ambient) + np.float32(1.15 - room.ambient) * diffuse)[:, None]
    if texture.gloss > 0:
        halfway = _unit(to_light + to_eye)
        color += np.float32(texture.gloss) * (np.maximum(_dot(normals, halfway), 0) ** 24)[:, None]
    return color
