"""Damaged files of every format: a right result or one kind of error, quickly and in little memory."""

from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import io_files
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from diff3r_plugin.io import (
    FileError,
    read_colmap,
    read_colmap_points,
    read_image,
    read_npz,
    read_ply,
    read_re10k_chunk,
    read_transforms_json,
    write_npz,
    write_ply,
)

pytestmark = pytest.mark.filterwarnings("ignore::diff3r_plugin.io.FileWarning")

MOST_MEMORY = 64 << 20
"""Bytes that reading any of these files of some kilobytes may take at its peak."""


def write_ascii_ply(path: Path) -> None:
    import plyfile

    binary = path.with_name("binary.ply")
    write_ply(binary, io_files.scene())
    plyfile.PlyData(plyfile.PlyData.read(binary).elements, text=True).write(path)


@dataclass(frozen=True)
class Format:
    """A format: how to write a valid file or folder, which file in it to damage, and how to read it.

    Args:
        write: Makes it at a path.
        damaged: The file to damage, relative to the path; "" for the path itself.
        read: Reads the path; gives the tensors that came out.
    """

    write: Callable[[Path], object]
    damaged: str
    read: Callable[[Path], tuple[torch.Tensor, ...]]


def cameras(posed) -> tuple[torch.Tensor, ...]:
    return posed.world_to_camera, posed.intrinsics


def cloud(points) -> tuple[torch.Tensor, ...]:
    return points.positions, points.colors


def colmap_cameras(path: Path):
    return cameras(read_colmap(path))


def colmap_points(path: Path):
    return cloud(read_colmap_points(path))


def chunk(path: Path):
    posed = read_re10k_chunk(path)
    return *cameras(posed), posed.views().images


FORMATS = {
    "ply": Format(lambda p: write_ply(p, io_files.scene()), "", lambda p: read_ply(p).tensors()),
    "ascii ply": Format(write_ascii_ply, "", lambda p: read_ply(p).tensors()),
    "npz": Format(lambda p: write_npz(p, io_files.scene()), "", lambda p: read_npz(p).tensors()),
    "transforms": Format(
        io_files.write_transforms, "transforms.json", lambda p: cameras(read_transforms_json(p / "transforms.json"))
    ),
    "chunk": Format(io_files.write_chunk, "", chunk),
    "png": Format(lambda p: p.write_bytes(io_files.image_bytes(1)), "", lambda p: (read_image(p),)),
    "jpeg": Format(lambda p: p.write_bytes(io_files.image_bytes(1, "JPEG")), "", lambda p: (read_image(p),)),
    **{
        f"colmap {file}": Format(write, file, read)
        for write, place, suffix in (
            (io_files.write_colmap_binary, "sparse/0", "bin"),
            (io_files.write_colmap_text, "sparse", "txt"),
        )
        for file, read in (
            (f"{place}/cameras.{suffix}", colmap_cameras),
            (f"{place}/images.{suffix}", colmap_cameras),
            (f"{place}/points3D.{suffix}", colmap_points),
        )
    },
}


@pytest.fixture(scope="module", params=FORMATS)
def valid(request, tmp_path_factory) -> tuple[Format, Path, Path, bytes]:
    """A format, a valid file of it, the file to damage and what it holds."""
    made, place = FORMATS[request.param], tmp_path_factory.mktemp("valid") / "data"
    made.write(place)
    file = place / made.damaged if made.damaged else place
    made.read(place)
    return made, place, file, file.read_bytes()


def read_within_bounds(made: Format, place: Path) -> None:
    """Read it: tensors that are finite, or a FileError that names the path; and no more memory than is reasonable."""
    tracemalloc.start()
    try:
        for tensor in made.read(place):
            assert tensor.isfinite().all()
    except FileError as error:
        assert str(error).startswith(str(error.path)) and error.problem and error.cure
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < MOST_MEMORY, f"{peak} bytes for a small file"


FUZZ = settings(
    max_examples=60, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


@FUZZ
@given(share=st.floats(0, 1))
@example(share=0.0)
@example(share=0.999)
def test_files_that_are_cut_short(valid, share):
    made, place, file, content = valid
    file.write_bytes(content[: int(share * len(content))])
    read_within_bounds(made, place)


@FUZZ
@given(data=st.data())
def test_files_with_other_bytes_in_them(valid, data):
    made, place, file, content = valid
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        # Half of the changes in the first bytes, where sizes and counts are.
        most = min(len(changed), 200) if data.draw(st.booleans()) else len(changed)
        at = data.draw(st.integers(0, most - 1))
        changed[at] = data.draw(st.sampled_from([0, 1, 0x2D, 0x39, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    file.write_bytes(changed)
    read_within_bounds(made, place)


@FUZZ
@given(data=st.data())
def test_files_with_parts_taken_out_put_in_or_repeated(valid, data):
    made, place, file, content = valid
    start, end = sorted(data.draw(st.integers(0, len(content))) for _ in range(2))
    middle = data.draw(st.sampled_from([b"", b"\0" * 8, b"\xff" * 8, b"nan", b"1e999", content[start:end] * 2]))
    file.write_bytes(content[:start] + middle + content[end:])
    read_within_bounds(made, place)


@FUZZ
@given(content=st.binary(max_size=300))
def test_files_of_anything(valid, content):
    made, place, file, _ = valid
    file.write_bytes(content)
    read_within_bounds(made, place)


def test_the_undamaged_file_is_still_read(valid):
    """So the damage above is what the errors are about."""
    made, place, file, content = valid
    file.write_bytes(content)
    assert made.read(place)


def test_images_named_by_a_model_that_are_damaged(tmp_path):
    folder = io_files.write_colmap_binary(tmp_path / "model")
    (folder / "images" / "1.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(FileError, match=r"1\.png"):
        read_colmap(folder).views()
    shutil.rmtree(folder)
