"""Which file is the image that a frame names."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import io_files
import pytest

from diff3r_plugin.io import FileError
from diff3r_plugin.io.image_files import find_images, printable


def put(folder: Path, *names: str | bytes) -> None:
    for name in names:
        file = os.path.join(os.fsencode(folder), name if isinstance(name, bytes) else os.fsencode(name))
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file, "wb") as opened:
            opened.write(io_files.image_bytes(0))


def found(tmp_path: Path, names: list[str], images: Path | None = None) -> list[str | None]:
    """The files relative to the folder, None where there is none."""
    files, problems = find_images(tmp_path / "transforms.json", names, tmp_path, images)
    return [None if problem else os.path.relpath(file, tmp_path) for file, problem in zip(files, problems, strict=True)]


@pytest.mark.parametrize(
    ("there", "name", "file"),
    [
        ("images/0.png", "images/0.png", "images/0.png"),
        ("images/0.png", "./images/0.png", "images/0.png"),
        ("images/0.png", "images\\0.png", "images/0.png"),
        ("images/0.png", ".\\images\\0.png", "images/0.png"),
        ("images/0.png", "images/0", "images/0.png"),
        ("images/0.JPG", "images/0", "images/0.JPG"),
        ("images/a.b.png", "images/a.b", "images/a.b.png"),
        (unicodedata.normalize("NFD", "images/Küche.png"), unicodedata.normalize("NFC", "images/Küche.png"), None),
    ],
)
def test_names_are_found_as_they_are_written(tmp_path, there, name, file):
    put(tmp_path, there)
    assert found(tmp_path, [name]) == [file or there]


@pytest.mark.parametrize("on_disk", [b"K\xfcche.jpg", "Küche.jpg".encode()])
def test_names_that_are_not_utf8_are_found(tmp_path, on_disk):
    put(tmp_path, on_disk)
    for name in (os.fsdecode(b"K\xfcche.jpg"), "Küche.jpg"):
        files, problems = find_images(tmp_path / "t", [name], tmp_path)
        assert problems == [None] and os.fsencode(files[0]).endswith(on_disk)
    assert printable(os.fsdecode(b"K\xfcche.jpg")) == "K\\xfcche.jpg"


def test_a_name_with_a_suffix_is_never_another_file(tmp_path):
    put(tmp_path, "0.jpg.png", "0.png", "1.JPG")
    _, (first, second) = find_images(tmp_path / "t", ["0.jpg", "1.jpg"], tmp_path)
    assert "There is '0.png', which is another name" in str(first) and "--images" in str(first)
    assert "There is '1.JPG'" in str(second)


def test_png_comes_first_and_two_other_suffixes_are_one_too_many(tmp_path):
    put(tmp_path, "0.png", "0.jpg", "1.jpg", "1.webp")
    files, problems = find_images(tmp_path / "t", ["0", "1"], tmp_path)
    assert files[0].name == "0.png" and problems[0] is None
    assert "'1' has no suffix, and 2 files fit: 1.jpg, 1.webp" in str(problems[1])


def test_sub_folders_are_kept_below_another_folder(tmp_path):
    put(tmp_path, "small/left/0.png", "small/right/0.png", "small/0.png")
    names = ["images/left/0.png", "images/right/0.png"]
    assert found(tmp_path, names, tmp_path / "small") == ["small/left/0.png", "small/right/0.png"]
    assert found(tmp_path, [name.replace("/", "\\") for name in names], tmp_path / "small") == [
        "small/left/0.png",
        "small/right/0.png",
    ]
    assert found(tmp_path, ["C:\\data\\images\\left\\0.png"], tmp_path / "small") == ["small/left/0.png"]
    assert found(tmp_path, ["../images/left/0"], tmp_path / "small") == ["small/left/0.png"]


def test_two_frames_never_share_a_file(tmp_path):
    put(tmp_path, "flat/0.png")
    _, problems = find_images(tmp_path / "t", ["left/0.png", "right/0.png"], tmp_path, tmp_path / "flat")
    assert all("would both be" in str(problem) and "--images" in str(problem) for problem in problems)


def test_the_same_number_of_folders_is_left_off_everywhere(tmp_path):
    """'b/0.png' would be found without any folder; the file of 'a/0.png' is not taken for it."""
    put(tmp_path, "new/a/0.png", "new/a/1.png", "new/0.png")
    assert found(tmp_path, ["x/a/0.png", "x/a/1.png", "x/b/0.png"], tmp_path / "new") == [
        "new/a/0.png",
        "new/a/1.png",
        None,
    ]


def test_the_cure_in_the_message_works(tmp_path):
    put(tmp_path, "elsewhere/0.png")
    _, (problem,) = find_images(tmp_path / "t", ["images/0.png"], tmp_path)
    assert isinstance(problem, FileError) and "(--images)" in problem.cure
    assert found(tmp_path, ["images/0.png"], tmp_path / "elsewhere") == ["elsewhere/0.png"]
    _, (problem,) = find_images(tmp_path / "t", ["images/1.png"], tmp_path, tmp_path / "elsewhere")
    assert f"Names are relative to {tmp_path / 'elsewhere'}" in str(problem)
