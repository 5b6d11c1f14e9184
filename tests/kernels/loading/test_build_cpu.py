"""Compiling at first use: once, side by side with other processes, into whatever directory there is, or not at all."""

import multiprocessing
import os
import shutil
import stat
import subprocess
import sys
import textwrap

import pytest

from diff3r_plugin.kernels.loading import build_cpu, cache

pytestmark = pytest.mark.skipif(os.name != "posix", reason="stands in for the compiler with a shell script")


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A compiler that writes down how often it links, takes its time and makes empty libraries."""
    log = tmp_path / "links"
    log.write_text("")
    script = tmp_path / "compiler"
    script.write_text(
        textwrap.dedent(f"""\
            #!/bin/sh
            [ "$1" = --version ] && echo stand-in 1.0 && exit 0
            while [ $# -gt 0 ]; do
                [ "$1" = -shared ] && echo link >> {log} && sleep 0.3
                [ "$1" = -o ] && echo made > "$2"
                shift
            done
        """)
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("DIFF3R_CXX", str(script))
    monkeypatch.setenv("DIFF3R_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)  # tempfile remembers; it shall look at TMPDIR again
    return log


def _path_of_library(_: int) -> str:
    return str(build_cpu.library_path())


def test_compiles_once_and_then_uses_the_cache(stand_in, tmp_path):
    first, second = build_cpu.library_path(), build_cpu.library_path()
    assert first == second and first.read_text() == "made\n"
    assert first.parent == tmp_path / "cache"
    assert stand_in.read_text().count("link") == 1
    assert not list((tmp_path / "cache").glob("building-*")), "temporary directories are left behind"


def test_processes_that_start_together_compile_once(stand_in):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        paths = set(pool.map(_path_of_library, range(4), chunksize=1))
    assert len(paths) == 1
    assert stand_in.read_text().count("link") == 1


@pytest.mark.parametrize("variable, value", [("DIFF3R_CXXFLAGS", "-DX"), ("DIFF3R_CXX", None)])
def test_other_flags_or_compilers_get_their_own_library(stand_in, tmp_path, monkeypatch, variable, value):
    first = build_cpu.library_path()
    if value is None:
        value = str(tmp_path / "other")
        shutil.copy(tmp_path / "compiler", value)
    monkeypatch.setenv(variable, value)
    assert build_cpu.library_path() != first


def test_other_sources_get_their_own_library(stand_in, tmp_path, monkeypatch):
    first = build_cpu.library_path()
    sources = tmp_path / "sources"
    shutil.copytree(build_cpu.SOURCE_DIRECTORY, sources)
    (sources / "math" / "constants.h").write_text("// changed\n")
    monkeypatch.setattr(build_cpu, "SOURCE_DIRECTORY", sources)
    assert build_cpu.library_path() != first


def test_a_cache_that_cannot_be_written_is_replaced_by_the_temporary_directory(stand_in, tmp_path, monkeypatch):
    # A file where the directory should be: even root cannot write into that.
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DIFF3R_CACHE_DIR", str(tmp_path / "file"))
    path = build_cpu.library_path()
    assert path.exists() and path.is_relative_to(tmp_path / "temporary")


def test_a_directory_that_others_can_write_to_is_neither_loaded_from_nor_written_to(stand_in, tmp_path):
    planted = build_cpu.library_path()
    (tmp_path / "cache").chmod(0o777)
    path = build_cpu.library_path()
    assert path != planted and path.is_relative_to(tmp_path / "temporary")


def test_a_library_that_others_can_write_to_is_made_again(stand_in):
    path = build_cpu.library_path()
    path.chmod(0o666)
    assert build_cpu.library_path() == path
    assert stand_in.read_text().count("link") == 2
    assert not path.stat().st_mode & 0o022


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can give a file away")
def test_what_another_user_owns_is_not_loaded(stand_in, tmp_path, monkeypatch):
    """Even with a digest beside it: whoever plants a library can plant that as well."""
    monkeypatch.setenv("DIFF3R_CACHE_DIR", str(tmp_path / "temporary" / "diff3r-plugin-0"))
    planted = build_cpu.library_path()
    os.chown(planted.parent, 12345, -1)
    with pytest.raises(build_cpu.BuildError, match=r"(?s)DIFF3R_CACHE_DIR.*another user \(12345\)"):
        build_cpu.library_path()
    os.chown(planted.parent, 0, -1)
    os.chown(planted, 12345, -1)
    build_cpu.library_path()
    assert planted.stat().st_uid == 0 and stand_in.read_text().count("link") == 2


def test_a_link_in_the_temporary_directory_is_not_followed(stand_in, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DIFF3R_CACHE_DIR", str(tmp_path / "file"))
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "temporary" / f"diff3r-plugin-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(build_cpu.BuildError, match="is a link"):
        build_cpu.library_path()


@pytest.mark.parametrize("corrupt", [lambda text: text[:-2], lambda text: "", lambda text: text + "x"])
def test_a_library_that_was_cut_short_is_made_again(stand_in, corrupt):
    """Loading it would end the process with a bus error, at every start."""
    path = build_cpu.library_path()
    path.write_text(corrupt(path.read_text()))
    assert build_cpu.library_path().read_text() == "made\n"
    assert stand_in.read_text().count("link") == 2


def test_a_library_that_was_cut_short_does_not_serve_where_there_is_no_compiler(stand_in, monkeypatch):
    build_cpu.library_path().write_text("ma")
    monkeypatch.delenv("DIFF3R_CXX")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(build_cpu.BuildError, match="no C\\+\\+ compiler"):
        build_cpu.library_path()


def test_folders_of_compilers_that_were_killed_are_removed_and_those_at_work_are_not(stand_in, tmp_path):
    (tmp_path / "cache" / "building-old").mkdir(parents=True, mode=0o700)
    (tmp_path / "cache").chmod(0o700)
    (tmp_path / "cache" / "building-new").mkdir()
    long_ago = os.stat(tmp_path).st_mtime - 2 * cache.STALE_AFTER
    os.utime(tmp_path / "cache" / "building-old", (long_ago, long_ago))
    build_cpu.library_path()
    assert [path.name for path in (tmp_path / "cache").glob("building-*")] == ["building-new"]


def test_a_held_lock_delays_and_never_blocks(stand_in, tmp_path, monkeypatch):
    import fcntl

    path = build_cpu.library_path()
    monkeypatch.setattr(cache, "LOCK_TIMEOUT", 0.1)
    path.unlink()
    with open(f"{path}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert build_cpu.library_path().exists()


def test_a_cached_library_serves_where_there_is_no_compiler(stand_in, monkeypatch):
    path = build_cpu.library_path()
    monkeypatch.delenv("DIFF3R_CXX")
    monkeypatch.setenv("PATH", "")
    assert build_cpu.library_path() == path


def test_a_compiler_that_fails_is_quoted(stand_in, tmp_path):
    (tmp_path / "compiler").write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho this is wrong >&2; exit 1\n')
    with pytest.raises(build_cpu.BuildError, match="this is wrong"):
        build_cpu.library_path()


def test_a_compiler_that_does_not_exist_is_named(monkeypatch):
    monkeypatch.setenv("DIFF3R_CXX", "/nowhere/c++")
    with pytest.raises(build_cpu.BuildError, match=r"\$DIFF3R_CXX.*/nowhere/c\+\+"):
        build_cpu.compiler()


def test_without_a_compiler_one_warning_and_the_torch_backend(tmp_path):
    """In a fresh process, since this one has the kernels loaded."""
    program = """
        import torch, warnings
        from diff3r_plugin import Gaussians, Views
        from diff3r_plugin.render import available_backends, linearize, render
        g = Gaussians(torch.tensor([[[0.0, 0, 4]]]), torch.eye(3)[None, None], torch.ones(1, 1), torch.ones(1, 1, 3, 1))
        K = torch.tensor([[8.0, 0, 4], [0, 8, 4], [0, 0, 1]])[None, None]
        views = Views(torch.eye(4)[None, None], K, image_size=(8, 8))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            image = render(g, views)
            assert torch.equal(linearize(g, views).image, render(g, views, "torch"))
            assert image.max() > 0.5 and available_backends() == ("torch",)
        ours = [str(w.message) for w in caught if "CPU kernels" in str(w.message)]
        assert len(ours) == 1, ours
        assert "g++" in ours[0] and "DIFF3R_CXX" in ours[0], ours[0]
    """
    environment = os.environ | {"PATH": "", "DIFF3R_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    environment |= {"TMPDIR": str(tmp_path)}
    for variable in ("DIFF3R_CXX", "CXX"):
        environment.pop(variable, None)
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_on_windows_the_compilers_that_will_do_are_named(monkeypatch):
    for variable in ("DIFF3R_CXX", "CXX"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(build_cpu.shutil, "which", lambda name: None)
    monkeypatch.setattr(build_cpu.sys, "platform", "win32")
    with pytest.raises(cache.BuildError, match=r"Visual C\+\+.*MinGW's g\+\+, or Linux under WSL"):
        build_cpu.compiler()
    monkeypatch.setattr(build_cpu.sys, "platform", "linux")
    with pytest.raises(cache.BuildError) as caught:
        build_cpu.compiler()
    assert "WSL" not in str(caught.value)
