"""PLY files of Gaussians, against gsplat's exporter, plyfile, and files written by hand."""

from __future__ import annotations

import struct

import io_files
import numpy as np
import pytest
import torch

from diff3r_plugin import Gaussians
from diff3r_plugin.io import FileError, MissingPackageError, read_ply, write_ply

INRIA = [
    *("x", "y", "z", "nx", "ny", "nz"),
    *(f"f_dc_{i}" for i in range(3)),
    *(f"f_rest_{i}" for i in range(45)),
    *("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
]
"""The struct of floats that loaders derived from SIBR read as it is, for degree 3."""


def close(a: Gaussians, b: Gaussians) -> bool:
    return all(torch.allclose(x, y, atol=1e-5) for x, y in zip(a.tensors(), b.tensors(), strict=True))


@pytest.mark.parametrize("degree", range(5))
def test_what_is_written_is_read(tmp_path, degree):
    scene = io_files.scene(degree=degree)
    write_ply(tmp_path / "scene.ply", scene)
    assert close(read_ply(tmp_path / "scene.ply"), scene)


def test_covariances_are_written_as_scales_and_rotations(tmp_path):
    scene = io_files.scene().with_covariances()
    write_ply(tmp_path / "scene.ply", scene)
    assert close(read_ply(tmp_path / "scene.ply").with_covariances(), scene)


def test_reads_what_gsplat_exports(tmp_path):
    from gsplat import export_splats

    scene = io_files.scene(degree=3)
    sh = scene.harmonics[0].mT  # [N, K, 3]
    export_splats(
        scene.means[0],
        scene.scales[0].log(),
        scene.quats[0],
        scene.opacities[0].logit(),
        sh[:, :1],
        sh[:, 1:],
        save_to=str(tmp_path / "scene.ply"),
    )
    assert close(read_ply(tmp_path / "scene.ply"), scene)


def test_written_files_are_the_fixed_struct_of_sibr(tmp_path):
    scene = io_files.scene(count=3, degree=3)
    write_ply(tmp_path / "scene.ply", scene)
    header, body = (tmp_path / "scene.ply").read_bytes().split(b"end_header\n")
    assert [line.split()[2].decode() for line in header.splitlines() if line.startswith(b"property")] == INRIA
    second = dict(zip(INRIA, struct.unpack_from("<62f", body, 62 * 4), strict=True))
    assert second["nx"] == second["ny"] == second["nz"] == 0
    assert second["f_rest_16"] == pytest.approx(float(scene.harmonics[0, 1, 1, 2])), "green's second higher coefficient"
    assert second["opacity"] == pytest.approx(float(scene.opacities[0, 1].logit()), abs=1e-5)
    assert second["scale_2"] == pytest.approx(float(scene.scales[0, 1, 2].log()), abs=1e-5)


def test_plyfile_reads_what_is_written(tmp_path):
    plyfile = pytest.importorskip("plyfile")
    scene = io_files.scene()
    write_ply(tmp_path / "scene.ply", scene)
    vertices = plyfile.PlyData.read(tmp_path / "scene.ply")["vertex"]
    assert np.allclose(vertices["z"], scene.means[0, :, 2])


@pytest.mark.parametrize("form", [{"text": True}, {"byte_order": ">"}, {"byte_order": "<"}])
def test_reads_ascii_and_both_byte_orders_and_other_properties(tmp_path, form):
    plyfile = pytest.importorskip("plyfile")
    scene = io_files.scene()
    write_ply(tmp_path / "a.ply", scene)
    table = plyfile.PlyData.read(tmp_path / "a.ply")["vertex"].data
    wider = np.empty(len(table), [("label", "u1"), *((name, "f8") for name in reversed(table.dtype.names))])
    for name in table.dtype.names:
        wider[name] = table[name]
    wider["label"] = 7
    plyfile.PlyData([plyfile.PlyElement.describe(wider, "vertex")], **form).write(tmp_path / "b.ply")
    assert close(read_ply(tmp_path / "b.ply"), scene)


def rewritten(path, names: list[str], change=lambda table: table) -> None:
    """A PLY with these float columns, all of value 0.5 unless changed."""
    table = change(np.full((2, len(names)), 0.5, "<f4"))
    header = ["ply", "format binary_little_endian 1.0", "element vertex 2", *(f"property float {n}" for n in names)]
    path.write_bytes("\n".join([*header, "end_header", ""]).encode() + table.tobytes())


GOOD = [name for name in INRIA if not name.startswith("f_rest")]


def nan_scale(table):
    table[1, GOOD.index("scale_0")] = np.nan
    return table


@pytest.mark.parametrize(
    ("names", "change", "message"),
    [
        (GOOD[1:], None, "no property 'x'"),
        ([n for n in GOOD if n != "scale_2"], None, "flat Gaussians"),
        ([*GOOD, "filter_3D"], None, "create_fused_ply"),
        ([*GOOD, "f_rest_0", "f_rest_1"], None, "2 properties f_rest"),
        (["x", "y", "z"], None, "no PLY of Gaussians"),
        (GOOD, nan_scale, "1 of 2 Gaussians have values that are not finite"),
    ],
)
def test_what_is_no_such_scene_is_an_error_with_a_cure(tmp_path, names, change, message):
    rewritten(tmp_path / "scene.ply", names, change or (lambda table: table))
    with pytest.raises(FileError, match=message):
        read_ply(tmp_path / "scene.ply")


def test_a_huge_count_allocates_nothing(tmp_path):
    write_ply(tmp_path / "scene.ply", io_files.scene())
    whole = (tmp_path / "scene.ply").read_bytes()
    (tmp_path / "scene.ply").write_bytes(whole.replace(b"vertex 6", b"vertex 60000000000"))
    with pytest.raises(FileError, match="promises 60000000000 of 'vertex'"):
        read_ply(tmp_path / "scene.ply")


def test_a_missing_package_names_the_extra(tmp_path, monkeypatch):
    write_ply(tmp_path / "scene.ply", io_files.scene())  # which needs none
    monkeypatch.setitem(__import__("sys").modules, "plyfile", None)
    with pytest.raises(MissingPackageError, match=r"plyfile.*pip install 'diff3r-plugin\[refine\]'"):
        read_ply(tmp_path / "scene.ply")


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(FileError, match="no such file"):
        read_ply(tmp_path / "none.ply")
    with pytest.raises(FileError, match="a folder"):
        read_ply(tmp_path)


def test_a_batch_is_refused(tmp_path):
    two = io_files.scene().map(lambda t: torch.cat([t, t]))
    with pytest.raises(ValueError, match="one scene, got 2"):
        write_ply(tmp_path / "scene.ply", two)


def test_a_large_scene_takes_seconds_at_most(tmp_path):
    """No loop over Gaussians: 300,000 of them."""
    scene = io_files.scene(count=300_000, degree=0)
    write_ply(tmp_path / "scene.ply", scene)
    assert read_ply(tmp_path / "scene.ply").num_gaussians == 300_000
