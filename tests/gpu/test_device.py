"""What the backend has to cope with on a device: streams, neighbors, the end of memory, a host that must not wait."""

import pytest
import torch
from on_device import ROUGH

from benchmarks.gpu.scenes import clear_scene, float32_tangent
from benchmarks.gpu.workloads import Size, Workload
from diff3r_plugin import Gaussians, TTOConfig, TTOLayer
from diff3r_plugin.linalg import pcg
from diff3r_plugin.render import render, resolve_backend, torch_backend

SAME = 1e-5
"""The same call twice: only the order in which a device adds numbers up may differ."""


def relative(found, expected) -> float:
    if isinstance(found, Gaussians):
        return max(relative(a, b) for a, b in zip(found.tensors(), expected.tensors(), strict=True))
    found, expected = found.detach().double().cpu(), expected.detach().double().cpu()
    return float((found - expected).norm() / expected.norm().clamp_min(1e-12))


def test_auto_means_this_backend(gpu):
    assert resolve_backend("auto", gpu.device) == gpu.backend


def test_float64_is_refused_with_a_cure(gpu):
    scene, views = clear_scene(gaussians=4)
    with pytest.raises(ValueError, match=r"float64.*\.to\(torch\.float32\)"):
        render(scene.to(gpu.device), views.to(gpu.device), gpu.backend)


def test_work_goes_to_the_current_stream(gpu):
    """Inputs that are written there late, after a long computation, must be seen."""
    scene, views = clear_scene(gaussians=10, size=(35, 50))
    tangent, put = float32_tangent(scene), gpu.put
    lin = gpu.linearize(scene, views)
    ones = torch.ones_like(lin.image)
    layer = TTOLayer(TTOConfig(inner_steps=2, backend=gpu.backend, stationarity_warning=None))
    expected = lin.image, lin.jvp(put(tangent)), lin.vjp(ones), lin.gram(ones[:, :, 0]).core
    expected_energy = layer(put(scene), put(views), 0.1)[1].energy
    real, late, late_tangent = put(scene), put(scene.map(torch.zeros_like)), put(tangent.map(torch.zeros_like))
    cameras, real_tangent = put(views), put(tangent)
    torch.cuda.synchronize(gpu.device)
    with torch.cuda.stream(torch.cuda.Stream(gpu.device)):
        busy = torch.randn(4096, 4096, device=gpu.device)
        for _ in range(20):
            busy = busy @ busy / busy.norm()
        targets, sources = (*late.tensors(), *late_tangent.tensors()), (*real.tensors(), *real_tangent.tensors())
        for target, source in zip(targets, sources, strict=True):
            target.copy_(source + 0 * busy[0, 0].nan_to_num())
        lin = gpu.linearize(late, cameras)
        found = lin.image, lin.jvp(late_tangent), lin.vjp(ones), lin.gram(ones[:, :, 0]).core
        energy = layer(late, cameras, 0.1)[1].energy
    torch.cuda.synchronize(gpu.device)
    assert relative(energy, expected_energy) < ROUGH
    for a, b in zip(found, expected, strict=True):
        assert relative(a, b) < SAME


def test_iterations_of_pcg_leave_the_host_free(gpu):
    """PyTorch raises if one of its operations waits for the device; the residual is recomputed once among these."""
    here = Workload(Size(16, (16, 16), 2, 1, 0), gpu.backend, gpu.device).objective
    right, preconditioner = -here.gradient, here.preconditioner("jacobi")

    def solve() -> None:
        pcg(here.gauss_newton_product, right, preconditioner=preconditioner, max_iterations=12, tolerance=0.0)

    solve()  # what is compiled or allocated at first use may wait
    torch.cuda.synchronize(gpu.device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        solve()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_end_of_memory_names_the_sizes_and_passes(gpu):
    work = Workload(Size(256, (256, 256), 2, 1, 0), gpu.backend, gpu.device)
    lin = work.lin
    torch.cuda.synchronize(gpu.device)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(gpu.device).total_memory
    room = torch.cuda.memory_reserved(gpu.device) + 2**23
    torch.cuda.set_per_process_memory_fraction(room / total, gpu.device)
    try:
        with pytest.raises(torch.cuda.OutOfMemoryError, match=r"131072 Gaussians.*batch size.*diff3r\.groups"):
            lin.gram(work.weights)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, gpu.device)
    found = lin.gram(work.weights).core
    assert found.isfinite().all() and found.any()


def test_a_device_that_is_not_the_current_one(gpu):
    if torch.cuda.device_count() < 2:
        pytest.skip("there is no second device")
    other = type(gpu)(torch.device("cuda", 1), gpu.backend)
    scene, views = clear_scene(gaussians=10, size=(35, 50))
    lin, oracle = other.linearize(scene, views), torch_backend.linearize(scene, views)
    tangent, ones = float32_tangent(scene), torch.ones_like(oracle.image)
    assert relative(lin.image, oracle.image) < ROUGH
    assert relative(lin.jvp(other.put(tangent)), oracle.jvp(tangent)) < ROUGH
    assert relative(lin.vjp(other.put(ones)), oracle.vjp(ones)) < ROUGH
    assert relative(lin.gram(other.put(ones[:, :, 0])).core, oracle.gram(ones[:, :, 0]).core) < ROUGH


def test_bfloat16_under_autocast_is_computed_in_float32(gpu_or_emulation):
    gpu = gpu_or_emulation
    scene, views = clear_scene(gaussians=10, size=(24, 30))
    half, cameras = scene.to(gpu.device, torch.bfloat16), gpu.put(views)
    full = half.to(torch.float32)
    expected = render(full, cameras, gpu.backend)
    layer = TTOLayer(TTOConfig(inner_steps=1, backend=gpu.backend, stationarity_warning=None))
    with_images = cameras.replace(images=(expected + 0.1).clamp(0, 1).detach())
    _, expected_info = layer(full, with_images, 0.1)
    with torch.autocast(gpu.device.type, dtype=torch.bfloat16):
        found = render(half, cameras, gpu.backend)
        refined, info = layer(half, with_images, 0.1)
    assert found.dtype == torch.float32 and relative(found, expected) < SAME
    assert relative(info.energy, expected_info.energy) < 10 * SAME
    assert refined.dtype == torch.bfloat16 and all(t.isfinite().all() for t in refined.tensors())
