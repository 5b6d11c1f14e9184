"""Undistortion, against OpenCV's."""

from __future__ import annotations

import io_files
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diff3r_plugin.io import Lens, read_transforms_json
from diff3r_plugin.io.lenses import Undistortion, undistortion

MATRIX = torch.tensor([[70.0, 0, 41], [0, 72, 29], [0, 0, 1]], dtype=torch.float64)
SIZE = (60, 80)
small = st.floats(-0.05, 0.05)


@settings(max_examples=60, deadline=None)
@given(small, small, st.floats(-0.005, 0.005), st.floats(-0.005, 0.005))
def test_rays_are_distorted_as_opencv_projects_them(k1, k2, p1, p2):
    cv2 = pytest.importorskip("cv2")
    rays = torch.rand(20, 2, dtype=torch.float64) - 0.5
    points = np.concatenate([rays.numpy(), np.ones((20, 1))], -1)
    theirs, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), np.eye(3), np.array([k1, k2, p1, p2]))
    assert np.allclose(Lens(k1, k2, p1, p2).distort(rays).numpy(), theirs[:, 0], atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(small, small, st.floats(-0.005, 0.005), st.floats(-0.005, 0.005))
def test_the_pinhole_sees_nothing_that_the_lens_did_not(k1, k2, p1, p2):
    undo = undistortion(Lens(k1, k2, p1, p2), MATRIX, SIZE)
    rows, columns = torch.meshgrid(torch.linspace(0, 60, 31), torch.linspace(0, 80, 41), indexing="ij")
    seen = undo.seen_at(torch.stack([columns, rows], -1).double())
    assert (seen > -0.05).all() and (seen < torch.tensor([80.05, 60.05])).all()
    zoom = float(undo.intrinsics[0, 0] / MATRIX[0, 0])
    assert 1 <= zoom < 1.3 and torch.equal(undo.intrinsics[:2, 2], MATRIX[:2, 2])


def test_an_image_is_undone_as_opencv_does_it():
    cv2 = pytest.importorskip("cv2")
    rows, columns = torch.meshgrid(torch.arange(60.0), torch.arange(80.0), indexing="ij")
    image = torch.stack([(columns / 9).sin(), (rows / 7).cos(), (columns / 11 + rows / 13).sin()]) * 0.5 + 0.5
    lens = Lens(0.05, -0.08, -0.001, 0.002)
    undo = undistortion(lens, MATRIX, SIZE)
    # OpenCV counts pixels from the center of the first one.
    ours, theirs = (m.numpy().copy() for m in (MATRIX, undo.intrinsics))
    ours[:2, 2] -= 0.5
    theirs[:2, 2] -= 0.5
    coefficients = np.array([lens.k1, lens.k2, lens.p1, lens.p2])
    expected = cv2.undistort(image.permute(1, 2, 0).numpy(), ours, coefficients, None, theirs)
    assert np.allclose(undo.apply(image).permute(1, 2, 0).numpy()[1:-1, 1:-1], expected[1:-1, 1:-1], atol=2e-3)


def test_it_works_at_any_resolution():
    image = torch.rand(3, 120, 160)
    undo = Undistortion(Lens(k1=0.03), MATRIX, MATRIX, SIZE)
    twice = torch.diag(torch.tensor([2.0, 2, 1], dtype=torch.float64)) @ MATRIX
    assert torch.allclose(
        undo.apply(image), Undistortion(Lens(k1=0.03), twice, twice, (120, 160)).apply(image), atol=1e-5
    )


def test_a_lens_without_distortion_changes_nothing():
    undo = undistortion(Lens(), MATRIX, SIZE)
    image = torch.rand(3, *SIZE)
    assert torch.equal(undo.intrinsics, MATRIX) and torch.allclose(undo.apply(image), image, atol=1e-5)


def test_views_come_undistorted_with_their_intrinsics(tmp_path):
    path = io_files.write_transforms(tmp_path, k1=0.1)
    posed = read_transforms_json(path).undistorted()
    views = posed.views()
    undo = undistortion(Lens(k1=0.1), read_transforms_json(path).intrinsics[0], io_files.SIZE)
    assert (
        float(views.intrinsics[0, 0, 0, 0]) == pytest.approx(float(undo.intrinsics[0, 0]))
        and undo.intrinsics[0, 0] > 20
    )
    assert not torch.equal(views.images, read_transforms_json(io_files.write_transforms(tmp_path)).views().images)


def test_too_much_is_refused():
    with pytest.raises(ValueError, match="k1=9 distorts too much"):
        undistortion(Lens(k1=9.0), MATRIX, SIZE)
