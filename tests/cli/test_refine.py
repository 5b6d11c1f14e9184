"""``diff3r refine`` on the command line."""

import pytest
import refine_files

from diff3r_plugin.cli.main import main


@pytest.fixture
def words(tmp_path) -> list[str]:
    scene, cameras = refine_files.write_scene(tmp_path / "data")
    return ["refine", str(scene), "--cameras", str(cameras), "--out", str(tmp_path / "out")]


def test_it_says_what_it_does_and_what_came_out(words, capsys):
    assert (
        main([*words, "--hold-out", "every:3", "--weights", "means=0.2,opacity=0.05", "--background", "0.1,0.2,0.3"])
        == 0
    )
    out, said = capsys.readouterr()
    assert "60 Gaussians (degree 1), 4 context and 2 held-out images of 32 x 24" in said
    assert "round 1/1  energy" in said and "held-out  PSNR" in said
    assert "refined.ply" in out


FOUND_LATER = ("no such file or folder", "names '77'", "GiB may be used")
"""Not of the command line alone: files and the machine decide."""


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--points"], "Give a SCENE"),
        (["--groups", "means,colors"], "unknown group 'colors'"),
        (["--weights", "means"], "--weights is W or GROUP=W"),
        (["--background", "1,2"], "background=(1.0, 2.0) must be three numbers"),
        (["--cameras", "nowhere"], "no such file or folder"),
        (["--frames", "77"], "names '77'"),
        (["--memory", "0.001"], "GiB may be used"),
        (["--steps", "-1"], "steps=-1"),
        (["--backend", "opengl"], "backend='opengl' is not one of"),
    ],
)
def test_what_is_wrong_is_one_line(words, capsys, more, message):
    assert main([*words, *more]) == (1 if message in FOUND_LATER else 2)
    said = capsys.readouterr().err
    assert said.startswith("diff3r refine: ") and message in said and said.count("\n") == 1


def test_a_missing_package_is_one_line(words, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "plyfile", None)
    assert main(words) == 1
    assert "pip install 'diff3r-plugin[refine]'" in capsys.readouterr().err


def test_points_may_be_a_file_of_their_own(tmp_path, capsys):
    for name in ("model", "cameras"):
        (tmp_path / name).mkdir()
    points = refine_files.write_colmap(tmp_path / "model")
    _, cameras = refine_files.write_scene(tmp_path / "cameras")
    words = ["refine", "--points", str(points), "--cameras", str(cameras), "--out", str(tmp_path / "out")]
    assert main([*words, "--rounds", "1"]) == 0
    assert "60 Gaussians (degree 1)" in capsys.readouterr().err
