"""Chunks of the RealEstate10K layout."""

import json

import io_files
import pytest
import torch

from diff3r_plugin.io import FileError, read_posed_images, read_re10k_chunk


def test_cameras_and_images(tmp_path):
    posed = read_re10k_chunk(io_files.write_chunk(tmp_path / "000000.torch"))
    assert torch.allclose(posed.world_to_camera, io_files.poses(), atol=1e-6)
    assert posed.intrinsics[0].tolist() == [[20.0, 0, 8.0], [0, 21.0, 6.0], [0, 0, 1]], "in pixels"
    assert posed.views().images.shape == (1, 3, 3, 12, 16)


def test_what_this_package_writes(tmp_path):
    from diff3r_plugin.data import DataOptions, make_data, sample_scene

    make_data(tmp_path, DataOptions(train=0, val=0, test=1, frames=5, size=16, seed=3), progress=False)
    key = next(iter(json.loads((tmp_path / "test" / "index.json").read_text())))
    posed = read_posed_images(f"{tmp_path / 'test'}:{key}")
    scene = sample_scene(seed=3, split="test", number=0, frames=5)
    assert torch.allclose(posed.world_to_camera, torch.from_numpy(scene.world_to_camera).double(), atol=1e-5)


def test_the_key_is_asked_for_where_there_are_several(tmp_path):
    path = io_files.write_chunk(tmp_path / "000000.torch", ("a", "b"))
    with pytest.raises(FileError, match=r"2 scenes: 'a', 'b'. Name one: .*000000.torch:KEY"):
        read_re10k_chunk(path)
    with pytest.raises(FileError, match="no scene 'c', but 'a', 'b'"):
        read_re10k_chunk(path, "c")
    assert len(read_re10k_chunk(path, "b")) == 3


def test_an_index_may_not_lead_elsewhere(tmp_path):
    (tmp_path / "index.json").write_text(json.dumps({"a": "../000000.torch"}))
    with pytest.raises(FileError, match="outside of the folder"):
        read_re10k_chunk(tmp_path, "a")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "no list of scenes"),
        ([{"key": "a", "images": []}], r"cameras of shape \[frames, 18\]"),
        ([{"key": "a", "cameras": torch.zeros(2, 18), "images": []}], "2 cameras but not as many images"),
        ([{"key": "a", "cameras": torch.zeros(1, 18), "images": [torch.zeros(3)]}], "uint8 tensors"),
    ],
)
def test_other_contents_are_errors(tmp_path, content, message):
    torch.save(content, tmp_path / "000000.torch")
    with pytest.raises(FileError, match=message):
        read_re10k_chunk(tmp_path / "000000.torch")
