"""What ``diff3r doctor`` says about GPUs, and ``--gpu`` about each kernel."""

import gsplat_on_cpu
import pytest
import torch

from diff3r_plugin.cli import _doctor_gpu, doctor, main
from diff3r_plugin.kernels.loading import modules_cuda
from diff3r_plugin.kernels.loading.cache import BuildError
from diff3r_plugin.render import gsplat_backend, self_test


@pytest.fixture
def gpu(monkeypatch):
    """One GPU, whose kernels run on the CPU; and a single check that they pass."""
    if gsplat_on_cpu.library() is None:
        pytest.skip("no g++ here to compile the GPU kernels for a CPU")
    rasterizer = gsplat_on_cpu.own_rasterizer(torch.float32)
    checks = [check for check in self_test.CHECKS if check.name == "rendering"]
    monkeypatch.setattr(self_test, "CHECKS", checks)
    monkeypatch.setattr(_doctor_gpu, "devices", lambda: [torch.device("cpu")])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A GPU")
    monkeypatch.setattr(gsplat_backend, "rasterizer_for", lambda device: rasterizer)
    monkeypatch.setattr(gsplat_backend, "self_tested", lambda device, bases: self_test.run(rasterizer, device, bases))
    monkeypatch.setattr(doctor, "environment", lambda: True)


def test_a_report_names_the_compilers_and_the_devices_that_have_passed(gpu, monkeypatch, capsys):
    class Compiler:
        name = "NVRTC 12.8"

    monkeypatch.setattr(modules_cuda, "compilers", lambda: ([Compiler()], []))
    _doctor_gpu.report()
    said = capsys.readouterr().out
    assert "GPU kernels: compiled by NVRTC 12.8" in said
    assert "cpu A GPU: passed the self-test, 1 checks of all kernels, deviations up to " in said


def test_a_report_says_why_nothing_compiles(gpu, monkeypatch, capsys):
    monkeypatch.setattr(modules_cuda, "compilers", lambda: ([], ["NVRTC: none beside PyTorch"]))

    def fails(device, bases):
        raise BuildError("the GPU kernels cannot be compiled here")

    monkeypatch.setattr(gsplat_backend, "self_tested", fails)
    _doctor_gpu.report()
    said = capsys.readouterr().out
    assert "nothing that is installed" in said and "NVRTC: none beside PyTorch" in said
    assert "A GPU: PROBLEM: the GPU kernels cannot be compiled here" in said


def test_the_option_runs_every_check_again_with_its_deviation_and_time(gpu, capsys, monkeypatch):
    assert main.main(["doctor", "--gpu"]) == 0
    said = capsys.readouterr().out
    assert "ok: rendering (project, " in said and "rasterize): deviates by " in said and " ms" in said
    monkeypatch.setattr(self_test, "LIMIT", 0.0)
    assert main.main(["doctor", "--gpu"]) == 1
    assert "PROBLEM: rendering" in capsys.readouterr().out


def test_without_a_gpu_there_is_nothing_to_run(capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert _doctor_gpu.tested_again()
    assert "nothing to run on" in capsys.readouterr().out


def test_pytorch_for_other_gpus_is_recognized(monkeypatch, capsys):
    monkeypatch.setattr(torch.version, "hip", "6.2")
    _doctor_gpu.report()
    assert "AMD's GPUs (ROCm 6.2)" in capsys.readouterr().out
