"""What may be typed by mistake, and the line it gets: the value, what was expected, and the cure; no traceback."""

# ruff: noqa: E501 -- a row of the table is a line

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from diff3r_plugin.cli import doctor
from diff3r_plugin.cli.main import main


def folder_with(path: Path, **files: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (path / name.replace("__", ".")).write_text(content)
    return path


def checkout(path: Path, main_text: str = "") -> Path:
    folder_with(path / "src", main__py=main_text)
    return path


TABLE = {
    # the command line as a whole
    "nothing": (lambda t: [], r"required: COMMAND"),
    "an unknown command": (lambda t: ["refien"], r"invalid choice: 'refien'"),
    "an unknown option": (lambda t: ["doctor", "--fix"], r"unrecognized arguments: --fix"),
    # doctor
    "doctor: no such folder": (lambda t: ["doctor", t / "mvsplt"], r"mvsplt does not exist; give the folder of the host's checkout"),
    "doctor: an empty folder": (lambda t: ["doctor", folder_with(t / "empty")], r"empty is no host that any adapter recognizes\. Known: .*mini_host.*diff3r adapters new"),
    "doctor: another repository": (lambda t: ["doctor", checkout(t / "other")], r"other is no host that any adapter recognizes"),
    "doctor: an unknown adapter": (lambda t: ["doctor", checkout(t / "x"), "--adapter", "mvsplatt"], r"unknown adapter 'mvsplatt'\. Did you mean 'mvsplat'"),
    # adapters new
    "adapters: a name with a dash": (lambda t: ["adapters", "new", "my-host", "--into", t], r"'my-host' cannot be a module name; use lower-case"),
    "adapters: a keyword": (lambda t: ["adapters", "new", "class", "--into", t], r"'class' cannot be a module name"),
    "adapters: capitals": (lambda t: ["adapters", "new", "MyHost", "--into", t], r"'MyHost' cannot be a module name"),
    "adapters: no name": (lambda t: ["adapters", "new"], r"required: name"),
    "adapters: there already": (lambda t: ["adapters", "new", "x", "--into", folder_with(t / "diff3r-x").parent], r"diff3r-x is there already; remove it or choose another name"),
    "adapters: into a file": (lambda t: ["adapters", "new", "x", "--into", folder_with(t, file="") / "file"], r"file/diff3r-x: Not a directory"),
    # run
    "run: no command": (lambda t: ["run"], r"give the host's command after --, for instance"),
    "run: no command after the dashes": (lambda t: ["run", "--"], r"give the host's command after --"),
    "run: a command that is not there": (lambda t: ["run", "--", "pyhton"], r"there is no command 'pyhton' on the PATH"),
    "run: another plugin": (lambda t: ["run", "--plugin", "difr3", "--", "python"], r"unknown plugin 'difr3' given by --plugin.*Did you mean 'diff3r'"),
    "run: a plugin without a name": (lambda t: ["run", "--plugin"], r"--plugin: expected one argument"),
    # hook
    "hook: both at once": (lambda t: ["hook", "--remove", "--install"], r"not allowed with argument"),
    # make-data
    "make-data: no folder": (lambda t: ["make-data"], r"required: out"),
    "make-data: a file": (lambda t: ["make-data", folder_with(t, file="") / "file"], r"file: File exists"),
    "make-data: below a file": (lambda t: ["make-data", folder_with(t, file="") / "file" / "deep"], r"file/deep: Not a directory"),
    "make-data: negative scenes": (lambda t: ["make-data", t / "x", "--train", "-1"], r"train must be at least 0, got -1"),
    "make-data: no scenes": (lambda t: ["make-data", t / "x", "--train", "0", "--val", "0", "--test", "0"], r"all 0: there is nothing to write"),
    "make-data: two frames": (lambda t: ["make-data", t / "x", "--frames", "2"], r"frames must be at least 4, got 2"),
    "make-data: tiny images": (lambda t: ["make-data", t / "x", "--size", "4"], r"size must be at least 8, got 4"),
    "make-data: half a scene": (lambda t: ["make-data", t / "x", "--test", "1.5"], r"--test: invalid int value: '1.5'"),
    "make-data: more targets than frames": (lambda t: ["make-data", t / "x", "--frames", "6", "--target-views", "5"], r"give at most 4, or more frames"),
    "make-data: a share of two": (lambda t: ["make-data", t / "x", "--outlier-share", "2"], r"outlier_share must be in \[0, 1\], got 2"),
    "make-data: an unknown outlier": (lambda t: ["make-data", t / "x", "--outlier-kinds", "fog"], r"outlier_kinds must be among exposure, blur, occluder, pose; got fog"),
    "make-data: an unknown split": (lambda t: ["make-data", t / "x", "--outlier-splits", "trian"], r"outlier_splits must be among train, val, test; got trian"),
    "make-data: no process": (lambda t: ["make-data", t / "x", "--workers", "0"], r"--workers must be at least 1, got 0"),
    # demo
    "demo: no steps": (lambda t: ["demo", "--steps", "0", "--out", t], r"steps must be at least 1, got 0"),
    "demo: data without a name": (lambda t: ["demo", "--also-test", "/data"], r"'/data' is not NAME=DATA_ROOT"),
    "demo: data that is not there": (lambda t: ["demo", "--also-test", f"fox={t / 'fox'}"], r"--also-test fox=.*there is no .*test/index\.json"),
    "demo: steps as a word": (lambda t: ["demo", "--steps", "many"], r"--steps: invalid int value: 'many'"),
    # report
    "report: no such folder": (lambda t: ["report", t / "run"], r"there is no folder .*run"),
    "report: nothing in it": (lambda t: ["report", folder_with(t / "run")], r"no scores in .*run, expected diff3r_scores\.json"),
    "report: no JSON": (lambda t: ["report", folder_with(t / "run", diff3r_scores__json="{")], r"diff3r_scores\.json cannot be read"),
    "report: another JSON": (lambda t: ["report", folder_with(t / "run", diff3r_scores__json="[1]")], r"expected a JSON object, got list"),
    "report: no scene": (lambda t: ["report", folder_with(t / "run", diff3r_scores__json=json.dumps({"scenes": []}))], r"holds no scene"),
    # refine
    "refine: no cameras": (lambda t: ["refine", t / "a.ply", "--out", t], r"required: --cameras"),
    "refine: neither scene nor points": (lambda t: ["refine", "--cameras", t, "--out", t / "o"], r"Give a SCENE \(\.ply or \.npz\), or --points"),
    "refine: a folder without cameras": (lambda t: ["refine", t / "a.ply", "--cameras", t, "--out", t / "o"], r"there is no COLMAP model \(cameras\.bin or cameras\.txt\) in it"),
    "refine: no cameras there": (lambda t: ["refine", "--points", "--cameras", t / "garden", "--out", t / "o"], r"garden: there is no such file or folder\. Give a COLMAP folder"),
    "refine: a background of words": (lambda t: ["refine", t / "a.ply", "--cameras", t, "--out", t / "o", "--background", "white"], r"--background is R,G,B"),
    "refine: an unknown group": (lambda t: ["refine", t / "a.ply", "--cameras", t, "--out", t / "o", "--groups", "scales"], r"unknown group 'scales'; known are means"),
    "refine: infinite damping": (lambda t: ["refine", t / "a.ply", "--cameras", t, "--out", t / "o", "--damping", "inf"], r"damping=inf must be positive and finite"),
    "refine: an unknown renderer": (lambda t: ["refine", t / "a.ply", "--cameras", t, "--out", t / "o", "--backend", "cuda"], r"backend='cuda' is not one of"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", TABLE)
def test_the_last_line_says_what_is_wrong(mistake, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("DIFF3R_PLUGIN", raising=False)
    monkeypatch.delenv("DIFF3R_TRACEBACK", raising=False)
    arguments, message = TABLE[mistake]
    try:
        status = main([str(argument) for argument in arguments(tmp_path)])
    except SystemExit as exit:
        if isinstance(exit.code, str):  # the interpreter prints it
            lines = [exit.code]
        status = 1 if isinstance(exit.code, str) else exit.code
    else:
        lines = []
    lines = [*capsys.readouterr().err.strip().splitlines(), *(lines if status == 1 else [])]
    assert status not in (0, None)
    assert lines[-1].startswith("diff3r") and re.search(message, lines[-1]), lines
    assert "Traceback" not in "\n".join(lines)


def test_a_mistake_makes_no_folder(tmp_path, capsys):
    assert main(["make-data", str(tmp_path / "x"), "--frames", "2"]) == 2
    assert list(tmp_path.iterdir()) == []


class TestErrorsOfOurOwn:
    """What no user can put right keeps its traceback."""

    @pytest.fixture
    def failing(self, monkeypatch):
        monkeypatch.delenv("DIFF3R_TRACEBACK", raising=False)

        def fail_with(error, elsewhere=False):
            def run(arguments):
                if elsewhere:
                    json.loads("{")
                raise error

            monkeypatch.setattr(doctor, "environment", run)
            monkeypatch.setattr(doctor, "run", lambda arguments: doctor.environment(arguments))

        return fail_with

    def test_a_bug(self, failing):
        failing(ZeroDivisionError("division by zero"))
        with pytest.raises(ZeroDivisionError):
            main(["doctor"])

    def test_a_library_that_refuses_a_value(self, failing):
        failing(ValueError(), elsewhere=True)
        with pytest.raises(json.JSONDecodeError):
            main(["doctor"])

    def test_a_stop_by_the_user(self, failing, capsys):
        failing(KeyboardInterrupt())
        assert main(["doctor"]) == 130 and capsys.readouterr().err == "diff3r doctor: stopped\n"

    def test_a_package_that_is_missing(self, failing, capsys):
        failing(ModuleNotFoundError("No module named 'tqdm'", name="tqdm"))
        assert main(["doctor"]) == 1
        assert "needs the package 'tqdm', which is not installed: pip install tqdm" in capsys.readouterr().err

    def test_a_disk_that_is_full(self, failing, capsys):
        failing(OSError(28, "No space left on device", "/data/out"))
        assert (
            main(["doctor"]) == 1 and capsys.readouterr().err == "diff3r doctor: /data/out: No space left on device\n"
        )


@pytest.mark.parametrize("way", ["option", "variable"])
def test_the_whole_traceback_is_there_for_the_asking(way, tmp_path, monkeypatch):
    arguments = ["make-data", str(tmp_path), "--frames", "2"]
    if way == "option":
        arguments.insert(0, "--traceback")
    else:
        monkeypatch.setenv("DIFF3R_TRACEBACK", "1")
    with pytest.raises(ValueError, match="frames must be"):
        main(arguments)


def test_make_data_says_how_far_it_is(tmp_path, capsys):
    sizes = "--train 1 --val 1 --test 1 --frames 4 --size 8 --target-views 1 --supersample 1 --workers 1".split()
    assert main(["make-data", str(tmp_path), *sizes]) == 0
    captured = capsys.readouterr()
    assert "Rendering rooms" in captured.err and "3/3" in captured.err and "Wrote 3 scenes" in captured.out
