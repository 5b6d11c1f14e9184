"""``diff3r inspect`` on the command line."""

import refine_files
from PIL import Image

from diff3r_plugin.cli.main import main


def test_it_tells_what_was_read_and_draws_it_beside_the_images(tmp_path, capsys):
    scene, cameras = refine_files.write_scene(tmp_path / "data", finished=True)
    words = ["inspect", str(scene), "--cameras", str(cameras), "--out", str(tmp_path / "out"), "--views", "2"]
    assert main(words) == 0
    out, said = capsys.readouterr()
    assert said == ""
    for part in (
        "60 Gaussians, degree 1",
        "6 images used",
        "32 x 24",
        "pinholes",
        "world: file",
        "near 0.01",
        "start: ",
    ):
        assert part in out
    assert float(out.split("start: ")[1].split()[0]) > 38
    with Image.open(tmp_path / "out" / "01.png") as picture:
        assert picture.size == (3 * 32 + 2 * 4, 24)


def test_notes_are_lines_and_said_once(tmp_path, capsys):
    scene, cameras = refine_files.write_scene(tmp_path / "data")
    cameras.write_text(cameras.read_text().replace('"fl_x"', '"n_frames": 3, "fl_x"'))
    assert main(["inspect", str(scene), "--cameras", str(cameras), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert said.count("note: ") == 1 and said.startswith("diff3r inspect: note: ") and "n_frames=3" in said


def test_what_is_wrong_is_one_line(tmp_path, capsys):
    scene, cameras = refine_files.write_scene(tmp_path / "data")
    for more, message in (
        (["--points"], "Give a SCENE"),
        (["--views", "0"], "--views"),
        (["--world", "x"], "world='x'"),
    ):
        assert main(["inspect", str(scene), "--cameras", str(cameras), "--out", str(tmp_path / "out"), *more]) == 2
        said = capsys.readouterr().err
        assert said.startswith("diff3r inspect: ") and message in said and said.count("\n") == 1
