"""What `make gpu-nvrtc` compiles, and that it says what fails."""

from pathlib import Path

import pytest

from benchmarks.gpu import nvrtc
from diff3r_plugin.kernels.loading import build_nvrtc, modules_cuda
from diff3r_plugin.kernels.loading.cache import BuildError
from diff3r_plugin.kernels.loading.kernel_table import BASES, units


@pytest.fixture
def stand_in(monkeypatch):
    """NVRTC 12.4, which compiles anything but ``splat_gram`` for 8.0."""
    made = []

    def ask(self, request):
        if "source" in request:
            unit, target = Path(request["source"]).stem, request["options"][0].partition("=")[2]
            if (unit, target) == ("splat_gram", "sm_80") and "fails" in str(self._library):
                raise BuildError("out of registers")
            made.append((unit, target))
        return {"version": [12, 4], "architectures": [50, 75, 80, 86, 89, 90]}

    monkeypatch.setattr(build_nvrtc.Nvrtc, "_ask", ask)
    return made


def test_all_units_for_every_device_that_a_release_knows_and_at_all_degrees_for_one(stand_in, tmp_path, capsys):
    (tmp_path / "libnvrtc.so.12").touch()
    (tmp_path / "libnvrtc-builtins.so.12.4").touch()
    assert nvrtc.main([str(tmp_path)]) == 0
    assert {target for _, target in stand_in} == {"sm_75", "sm_80", "sm_86", "sm_89", "sm_90"}
    all_units = {source.stem for source in modules_cuda.sources()}
    for target in ("sm_75", "sm_90"):
        assert {unit for unit, of in stand_in if of == target} == all_units
    dependent = len(units(of_bases=True))
    modules = 5 * len(all_units) + dependent * (len(BASES) - 1)
    assert len(stand_in) == modules + len(all_units), "those of a first use are timed by themselves"
    assert f"NVRTC 12.4: {modules} of {modules} modules" in capsys.readouterr().out


def test_what_fails_is_named_and_the_status_says_so(stand_in, tmp_path, capsys):
    library = tmp_path / "libnvrtc_that_fails.so"
    assert nvrtc.main([str(library)]) == 1
    assert "FAILED: splat_gram.cu (4 basis functions) for sm_80: out of registers" in capsys.readouterr().out


def test_a_folder_without_any_is_an_error(tmp_path):
    with pytest.raises(SystemExit, match="no libnvrtc below"):
        nvrtc.main([str(tmp_path)])
