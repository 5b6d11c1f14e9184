"""What the GPU check finds out about a machine before it starts anything."""

import sys
import zipfile

import pytest

from benchmarks.gpu import environment
from benchmarks.gpu.environment import EXTENSION, find_toolkit, prepare


def wheel(folder, name="einopz", version="1.0"):
    """A wheel with one module of one line."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": "answer = 42\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in files) + f"{info}/RECORD,,\n"
    folder.mkdir()
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(path, text)
    return folder


@pytest.fixture
def lacking(monkeypatch):
    monkeypatch.setattr(environment, "NEEDED", {"sys": "everything", "einopz": "training"})


def test_says_what_is_missing_and_what_that_costs(tmp_path, lacking):
    found = prepare(tmp_path, {})
    assert found.missing == {"einopz": "training"}
    assert "lacks einopz: no training" in found.lines() and any("make gpu-wheels" in line for line in found.lines())


def test_takes_what_is_missing_from_a_folder_of_wheels(tmp_path, lacking):
    found = prepare(tmp_path / "work", {"WHEELS": str(wheel(tmp_path / "wheels")), "PYTHONPATH": "/before"})
    assert found.missing == {} and found.installed == ("einopz",)
    before, site = found.variables["PYTHONPATH"].split(":")
    assert before == "/before" and (tmp_path / "work" / "site" / "einopz.py").is_file()
    assert site == str(tmp_path / "work" / "site") and "einopz" not in sys.modules


def test_wheels_that_are_not_there_leave_it_missing(tmp_path, lacking):
    (tmp_path / "wheels").mkdir()
    assert prepare(tmp_path / "work", {"WHEELS": str(tmp_path / "wheels")}).missing == {"einopz": "training"}


@pytest.mark.parametrize(("name", "message"), [("WHEELS", "is no folder; `make gpu"), ("GSPLAT_SO", "is no file")])
def test_what_is_named_must_be_there(tmp_path, lacking, name, message):
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path, {name: str(tmp_path / "nothing")})


def test_a_compiled_gsplat_is_put_where_gsplat_looks(tmp_path, lacking):
    (tmp_path / "old.so").write_bytes(b"compiled")
    found = prepare(tmp_path / "work", {"GSPLAT_SO": str(tmp_path / "old.so")})
    assert found.reused
    assert (tmp_path / "work" / "extensions" / EXTENSION).read_bytes() == b"compiled"
    assert found.variables["TORCH_EXTENSIONS_DIR"] == str(tmp_path / "work" / "extensions")


def test_the_toolkit_is_a_folder_with_headers(tmp_path):
    for name in ("without", "with"):
        (tmp_path / name / "include").mkdir(parents=True)
    (tmp_path / "with" / "include" / "cuda_runtime.h").touch()
    given = {"CUDA_HOME": str(tmp_path / "without"), "CUDA_PATH": str(tmp_path / "with"), "PATH": ""}
    assert find_toolkit(given) == str(tmp_path / "with")
