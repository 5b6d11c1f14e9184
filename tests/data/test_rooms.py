"""Geometry of the rooms: depth against known surfaces, two views of one scene, parallax, occlusion, thin parts."""

import numpy as np
import pytest

from diff3r_plugin.data import sample_scene
from diff3r_plugin.data.camera_paths import look_at, sample_path
from diff3r_plugin.data.ray_caster import render_room
from diff3r_plugin.data.rooms import Part, Room, sample_extent, sample_room, yaw_matrix
from diff3r_plugin.data.textures import KINDS, evaluate_texture, sample_texture

INTRINSICS = (1.0, 1.0, 0.5, 0.5)


def plain_room(parts=()) -> Room:
    rng = np.random.default_rng(0)
    walls = tuple(sample_texture(rng) for _ in range(6))
    low, high = np.array([-3.0, -3.0, 0.0]), np.array([3.0, 0.0, 6.0])
    return Room(low, high, walls, tuple(parts), np.array([0.0, -2.5, 3.0]), 0.5)


def test_depth_of_the_far_wall_is_z_depth():
    pose = look_at(np.array([0.0, -1.5, 1.0]), np.array([0.0, -1.5, 5.0]))
    _, depth = render_room(plain_room(), pose, (2.0, 2.0, 0.5, 0.5), (9, 9))
    # At focal length 2 the image reaches 1.25 from the axis at the wall: nothing but the wall at z = 6 is seen.
    np.testing.assert_allclose(depth, 5.0, rtol=1e-5)


@pytest.mark.parametrize(("shape", "nearest"), [("box", 1.5), ("ellipsoid", 1.5)])
def test_depth_of_solids_and_their_outline(shape, nearest):
    texture = sample_texture(np.random.default_rng(1))
    part = Part(shape, np.array([0.0, -1.5, 3.0]), np.array([0.5, 0.5, 0.5]), np.eye(3), texture)
    pose = look_at(np.array([0.0, -1.5, 1.0]), np.array([0.0, -1.5, 5.0]))
    _, depth = render_room(plain_room([part]), pose, INTRINSICS, (101, 101))
    assert depth[50, 50] == pytest.approx(nearest, rel=1e-4)
    front = depth < 3
    # The silhouette's half-width in units of the image: 0.5 / 1.5 for the box's front face, tan(asin(0.5 / 2)) else.
    expected = 2 * (0.5 / 1.5 if shape == "box" else np.tan(np.arcsin(0.25))) * 101
    assert front[50].sum() == pytest.approx(expected, abs=1.5)
    corner = front[50 - int(0.45 * expected), 50 - int(0.45 * expected)]
    assert corner == (shape == "box")  # an ellipsoid has no corners


def test_rotated_box_is_entered_at_its_edge():
    texture = sample_texture(np.random.default_rng(1))
    part = Part("box", np.array([0.0, -1.5, 3.0]), np.array([0.5, 0.5, 0.5]), yaw_matrix(np.pi / 4), texture)
    pose = look_at(np.array([0.0, -1.5, 1.0]), np.array([0.0, -1.5, 5.0]))
    _, depth = render_room(plain_room([part]), pose, INTRINSICS, (101, 101))
    assert depth[50, 50] == pytest.approx(2 - 0.5 * np.sqrt(2), rel=1e-3)


def test_two_frames_agree_where_neither_is_occluded():
    """Points of one image, carried over by its depth, have the same depth and color in the other."""
    size, frames = 96, 16
    for number in range(3):
        scene = sample_scene(seed=11, split="test", number=number, frames=frames)
        fx, fy, cx, cy = scene.intrinsics
        renders = [render_room(scene.room, scene.camera_to_room[i], scene.intrinsics, (size, size)) for i in (4, 8)]
        (image_a, depth_a), (image_b, depth_b) = renders
        v, u = np.mgrid[:size, :size]
        rays = np.stack([((u + 0.5) / size - cx) / fx, ((v + 0.5) / size - cy) / fy, np.ones_like(u, float)], -1)
        relative = scene.world_to_camera[8] @ np.linalg.inv(scene.world_to_camera[4])
        points = (rays * depth_a[..., None]) @ relative[:3, :3].T + relative[:3, 3]
        x = np.round((points[..., 0] / points[..., 2] * fx + cx) * size - 0.5).astype(int)
        y = np.round((points[..., 1] / points[..., 2] * fy + cy) * size - 0.5).astype(int)
        inside = (x >= 0) & (x < size) & (y >= 0) & (y < size)
        x, y, z = x[inside], y[inside], points[..., 2][inside]
        visible = np.abs(depth_b[y, x] / z - 1) < 0.03
        assert inside.mean() > 0.5
        assert visible.mean() > 0.85  # the rest is occluded, or at an edge
        error = np.abs(image_b[y, x].astype(float) - image_a[inside])[visible]
        assert np.median(error) < 6  # of 255; half a pixel of texture
        scrambled = np.abs(image_b[y[::-1], x].astype(float) - image_a[inside])[visible]
        assert np.median(scrambled) > 2 * np.median(error)


def test_paths_are_smooth_stay_inside_and_have_parallax():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        low, high = sample_extent(rng)
        path = sample_path(rng, low, high, 24)
        centers = path[:, :3, 3]
        assert ((centers > low) & (centers < high)).all()
        steps = np.linalg.norm(np.diff(centers, axis=0), axis=1)
        assert 0.5 < steps.sum() < 2.5
        assert steps.max() < 0.15  # no jumps: 24 frames share the path
        turns = np.einsum("fij,fij->f", path[1:, :3, :3], path[:-1, :3, :3])  # trace of the relative rotation
        assert np.rad2deg(np.arccos(np.clip((turns - 1) / 2, -1, 1))).max() < 6
        assert np.linalg.norm(centers[-1] - centers[0]) > 0.3


def test_solids_keep_clear_of_the_cameras():
    for number in range(5):
        scene = sample_scene(seed=2, split="train", number=number, frames=8)
        for pose in scene.camera_to_room:
            _, depth = render_room(scene.room, pose, scene.intrinsics, (24, 24), supersample=1)
            assert depth.min() > 0.4


def test_rooms_have_thin_parts_and_occlusion():
    thin, occluded = 0, 0
    for number in range(6):
        scene = sample_scene(seed=5, split="train", number=number, frames=8)
        thin += sum(np.sort(part.half_size)[1] < 0.04 for part in scene.room.parts)
        _, depth = render_room(scene.room, scene.camera_to_room[4], scene.intrinsics, (64, 64), supersample=1)
        occluded += int((np.abs(np.diff(1 / depth, axis=1)) > 0.05).sum())  # jumps of depth along rows
    assert thin > 20
    assert occluded > 300


def test_path_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"No camera path of 50\.00 m fits"):
        sample_path(np.random.default_rng(0), np.array([-2, -2.5, 0]), np.array([2.0, 0, 5]), 8, length=50.0)
    with pytest.raises(ValueError, match="at least 2 frames, got 1"):
        sample_path(np.random.default_rng(0), np.array([-2, -2.5, 0]), np.array([2.0, 0, 5]), 1)


@pytest.mark.parametrize("kind", KINDS)
def test_textures_vary_near_by_and_fade_far_off(kind):
    texture = sample_texture(np.random.default_rng(3), kinds=(kind,))
    u, v = (a.reshape(-1).astype(np.float32) for a in np.meshgrid(np.linspace(0, 3, 80), np.linspace(0, 3, 80)))
    near = evaluate_texture(texture, u, v, np.full_like(u, 0.01))
    far = evaluate_texture(texture, u, v, np.full_like(u, 50.0))
    assert near.shape == (6400, 3)
    assert near.std(0).max() > 0.02
    assert far.std(0).max() < 1e-4


def test_unknown_texture_is_refused():
    texture = sample_texture(np.random.default_rng(3))
    with pytest.raises(ValueError, match=r"must be one of noise.*got 'marble'"):
        type(texture)(**{**vars(texture), "kind": "marble"})


def test_furnishing_is_random():
    rng = np.random.default_rng(0)
    low, high = sample_extent(rng)
    rooms = [sample_room(rng, low, high, np.array([[0.0, -1.4, 1.0]])) for _ in range(2)]
    assert len(rooms[0].parts) != len(rooms[1].parts) or any(
        not np.array_equal(a.center, b.center) for a, b in zip(rooms[0].parts, rooms[1].parts, strict=True)
    )
