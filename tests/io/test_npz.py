"""The package's own format of Gaussians."""

import io_files
import numpy as np
import pytest
import torch

from diff3r_plugin.io import FileError, read_npz, write_npz


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("covariances", [False, True])
def test_numbers_come_back_as_they_were(tmp_path, dtype, covariances):
    scene = io_files.scene(dtype=dtype)
    scene = scene.with_covariances() if covariances else scene
    two = scene.map(lambda t: torch.cat([t, 2 * t]))
    write_npz(tmp_path / "scene.npz", two)
    again = read_npz(tmp_path / "scene.npz")
    assert all(torch.equal(a, b) for a, b in zip(two.tensors(), again.tensors(), strict=True))
    assert (again.scales is None) == covariances


def changed(path, **changes):
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{k: v for k, v in (arrays | changes).items() if v is not None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": np.array(2)}, "version 2 of the format, this package reads 1"),
        ({"format": np.array("other")}, "does not hold Gaussians"),
        ({"format": None}, "does not hold Gaussians"),
        ({"means": None}, "no means"),
        ({"means": np.zeros((1, 6, 2), np.float32)}, r"means must have shape \[B, N, 3\]"),
        ({"means": np.zeros((1, 6, 3))}, "one float type"),
        ({"scales": None}, "together with quats"),
        ({"opacities": np.full((1, 6), np.nan, np.float32)}, "opacities has values that are not finite"),
        ({"means": np.array([{}], object)}, "size that it says|Object arrays|pickle"),
    ],
)
def test_what_is_no_such_file_is_an_error(tmp_path, changes, message):
    write_npz(tmp_path / "scene.npz", io_files.scene())
    changed(tmp_path / "scene.npz", **changes)
    with pytest.raises(FileError, match=message):
        read_npz(tmp_path / "scene.npz")


def test_compressed_archives_are_refused(tmp_path):
    """A small one could hold more than memory."""
    np.savez_compressed(tmp_path / "scene.npz", format=np.array("diff3r gaussians"))
    with pytest.raises(FileError, match="is compressed"):
        read_npz(tmp_path / "scene.npz")
