"""What a backend on a device has to cope with: streams, several devices, mixed precision, wrong dtypes, the layer."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import torch
from torch import Tensor

from benchmarks.gpu.products import EXACT, Check, Subject, relative, relative_scenes
from benchmarks.gpu.scenes import clear_scene, float32_scene, float32_tangent
from benchmarks.gpu.timing import out_of_memory
from benchmarks.gpu.workloads import Size, Workload
from benchmarks.scenes import predicted_room
from diff3r_plugin import Gaussians, TTOConfig, TTOLayer, Views
from diff3r_plugin.info import TTOInfo
from diff3r_plugin.linalg import pcg
from diff3r_plugin.render import native_backend, render, resolve_backend, torch_backend
from diff3r_plugin.render.semantics import ALPHA_CAP

SAME = 1e-5
"""The same call twice: only the order in which a device adds numbers up may differ."""

ENERGY = 1e-4
"""Refined energies against the CPU in float64, after three Gauss-Newton steps (native in float32: 2e-7)."""

GRADIENT = 2e-3
"""Implicit gradients against the CPU in float64: a pixel that falls on the other side of a threshold changes the matrix
of all iterations that follow (native in float32, where none does: 5e-6; a product that is wrong by 5 %: 8e-3)."""


def check_choice(tested: Subject) -> Iterator[Check]:
    """``auto`` means the tested backend on its device."""
    chosen = resolve_backend("auto", tested.device)
    yield Check.that("auto", str(tested.device), chosen == tested.backend, f"resolves to {chosen!r}")


def check_streams(tested: Subject) -> Iterator[Check]:
    """All work goes to the current stream: inputs written there late, after a long computation, must be seen."""
    if tested.device.type != "cuda":
        yield Check.skipped("non-default stream", "late inputs", "no streams on a CPU")
        return
    scene, views = clear_scene(gaussians=10, size=(35, 50))
    tangent, put = float32_tangent(scene), tested.put
    lin = tested.linearize(scene, views)
    ones = torch.ones_like(lin.image)
    layer = TTOLayer(TTOConfig(inner_steps=2, backend=tested.backend))
    expected = lin.image, lin.jvp(put(tangent)), lin.vjp(ones), lin.gram(ones[:, :, 0]).core
    expected_energy = layer(put(scene), put(views), 0.1)[1].energy
    real, late, late_tangent = put(scene), put(scene.map(torch.zeros_like)), put(tangent.map(torch.zeros_like))
    cameras, real_tangent = put(views), put(tangent)
    torch.cuda.synchronize(tested.device)
    with torch.cuda.stream(torch.cuda.Stream(tested.device)):
        busy = torch.randn(4096, 4096, device=tested.device)
        for _ in range(20):
            busy = busy @ busy / busy.norm()
        for target, source in zip((*late.tensors(), *late_tangent.tensors()),
                                  (*real.tensors(), *real_tangent.tensors()), strict=True):  # fmt: skip
            target.copy_(source + 0 * busy[0, 0].nan_to_num())
        lin = tested.function(late, cameras, tested.backend)
        found = lin.image, lin.jvp(late_tangent), lin.vjp(ones), lin.gram(ones[:, :, 0]).core
        energy = layer(late, cameras, 0.1)[1].energy
    torch.cuda.synchronize(tested.device)
    yield Check.of("non-default stream, layer's energies", "late inputs", relative(energy, expected_energy), ENERGY)
    for name, a, b in zip(("image", "jvp", "vjp", "gram"), found, expected, strict=True):
        error = relative_scenes(a, b) if isinstance(a, Gaussians) else relative(a, b)  # type: ignore[arg-type]
        yield Check.of(f"non-default stream, {name}", "late inputs", error, SAME)


def check_no_waiting(tested: Subject) -> Iterator[Check]:
    """Iterations of PCG leave the host free: PyTorch raises if one of its operations waits for the device."""
    name, case = "no synchronisation in PCG", "12 iterations, residual recomputed once"
    if tested.device.type != "cuda":
        yield Check.skipped(name, case, "a CPU does not wait for itself")
        return
    here = Workload(Size(16, (16, 16), 2, 1, 0), tested.backend, tested.device).objective
    right, preconditioner = -here.gradient, here.preconditioner("jacobi")

    def solve() -> None:
        pcg(here.gauss_newton_product, right, preconditioner=preconditioner, max_iterations=12, tolerance=0.0)

    solve()  # what is compiled or allocated at first use may wait
    torch.cuda.synchronize(tested.device)
    torch.cuda.set_sync_debug_mode("error")
    complaint = ""
    try:
        solve()
    except RuntimeError as error:
        complaint = f"{type(error).__name__}: {error}"
    finally:
        torch.cuda.set_sync_debug_mode("default")
    yield Check.that(name, case, not complaint, complaint)


def check_out_of_memory(tested: Subject) -> Iterator[Check]:
    """Memory that ends: the error names the sizes, and the same call works once there is memory again."""
    name, case = "out of memory", "Gram matrices of 131,072 Gaussians"
    if tested.device.type != "cuda":
        yield Check.skipped(name, case, "the memory of a CPU is not limited here")
        return
    work = Workload(Size(256, (256, 256), 2, 1, 0), tested.backend, tested.device)
    lin = work.lin
    torch.cuda.synchronize(tested.device)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(tested.device).total_memory
    room = torch.cuda.memory_reserved(tested.device) + 2**23
    torch.cuda.set_per_process_memory_fraction(room / total, tested.device)
    told, note = False, f"there was none with room for {room} bytes"
    try:
        lin.gram(work.weights)
    except Exception as error:
        told = out_of_memory(error) and "131072" in str(error).replace(",", "")
        note = f"{type(error).__name__}: {error}"
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, tested.device)
    yield Check.that(f"{name}, message", case, told, note)
    found = lin.gram(work.weights).core
    yield Check.that(f"{name}, afterwards", case, bool(found.isfinite().all() and found.any()))


def check_second_device(tested: Subject) -> Iterator[Check]:
    """Tensors on a device that is not the current one."""
    name, case = "second device", "cuda:1 while cuda:0 is current"
    if tested.device.type != "cuda" or torch.cuda.device_count() < 2:
        yield Check.skipped(name, case, "there is none")
        return
    other = Subject(tested.backend, torch.device("cuda", 1), tested.function)
    scene, views = clear_scene(gaussians=10, size=(35, 50))
    lin, oracle = other.linearize(scene, views), torch_backend.linearize(scene, views)
    yield Check.of(f"{name}, image", case, relative(lin.image, oracle.image), EXACT)
    tangent = float32_tangent(scene)
    yield Check.of(f"{name}, jvp", case, relative(lin.jvp(other.put(tangent)), oracle.jvp(tangent)), EXACT)
    ones = torch.ones_like(oracle.image)
    yield Check.of(f"{name}, vjp", case, relative_scenes(lin.vjp(other.put(ones)), oracle.vjp(ones)), EXACT)
    gram, expected = lin.gram(other.put(ones[:, :, 0])), oracle.gram(ones[:, :, 0])
    yield Check.of(f"{name}, gram", case, relative(gram.core, expected.core), EXACT)


def check_mixed_precision(tested: Subject) -> Iterator[Check]:
    """bfloat16 tensors of a host under autocast are computed in float32, in ``render`` and in the layer."""
    scene, views = float32_scene(gaussians=10, size=(35, 50))
    half, cameras = scene.to(tested.device, torch.bfloat16), tested.put(views)
    full = half.to(torch.float32)
    expected = render(full, cameras, tested.backend)
    with torch.autocast(tested.device.type, dtype=torch.bfloat16):
        found = render(half, cameras, tested.backend)
    yield Check.that("render computes in float32", "bfloat16, autocast", found.dtype == torch.float32, str(found.dtype))
    yield Check.of("render", "bfloat16, autocast", relative(found, expected), SAME)
    layer = TTOLayer(TTOConfig(inner_steps=1, backend=tested.backend, stationarity_warning=None))
    _, expected_info = layer(full, cameras, 0.1)
    with torch.autocast(tested.device.type, dtype=torch.bfloat16):
        refined, info = layer(half, cameras, 0.1)
    yield Check.of("layer, energies", "bfloat16, autocast", relative(info.energy, expected_info.energy), 10 * SAME)
    finite = all(bool(t.isfinite().all()) for t in refined.tensors())
    own_dtype = finite and refined.dtype == torch.bfloat16
    yield Check.that("layer, returns what it was given", "bfloat16, autocast", own_dtype, str(refined.dtype))


def check_float64_is_refused(tested: Subject) -> Iterator[Check]:
    """A float32 backend says so instead of computing something else."""
    name, case = "float64 is refused", "backend by name"
    if tested.device.type != "cuda":
        yield Check.skipped(name, case, "the CPU backends compute in float64")
        return
    scene, views = float32_scene()
    try:
        render(scene.to(tested.device), views.to(tested.device), tested.backend)
    except (ValueError, TypeError, NotImplementedError) as error:
        yield Check.that(name, case, "float64" in str(error) or "float32" in str(error), str(error))
    else:
        yield Check.that(name, case, False, "it was rendered")


def check_opaque(tested: Subject) -> Iterator[Check]:
    """Opacity 1, recorded only: the alpha cap belongs to the rasterizer (0.99 here, 0.999 in gsplat 1.5.x)."""
    cap = alpha_cap(tested)
    scene, views = float32_scene(gaussians=10, size=(35, 50), opacities=(1.0, 1.0))
    lin, tangent = tested.linearize(scene, views), float32_tangent(scene)
    for value in dict.fromkeys((ALPHA_CAP, cap)):
        with mock.patch.object(torch_backend, "ALPHA_CAP", value):
            oracle = torch_backend.linearize(scene, views)
            errors = relative(lin.image, oracle.image), relative(lin.jvp(tested.put(tangent)), oracle.jvp(tangent))
        note = f"measured cap {cap:.4f}; the oracle's {value:.4f}"
        for name, error in zip(("image", "jvp"), errors, strict=True):
            yield Check(name, "opacity 1", error, None, None, note)


def alpha_cap(tested: Subject) -> float:
    """The largest alpha of the backend, as seen: a huge white splat of opacity 1 on black, to four digits."""
    means, covariances = torch.tensor([[[0.0, 0, 2]]]), 100.0 * torch.eye(3)[None, None]
    white = torch.full((1, 1, 3, 1), 0.5 / 0.28209479177387814)
    intrinsics = torch.tensor([[[[16.0, 0, 8], [0, 16, 8], [0, 0, 1]]]])
    views = Views(torch.eye(4)[None, None], intrinsics, image_size=(16, 16))
    image = tested.linearize(Gaussians(means, covariances, torch.ones(1, 1), white), views).image
    return round(float(image.max()), 4)


def check_layer(tested: Subject) -> Iterator[Check]:
    """The whole layer, forward and backward: energies and gradients as on the CPU in float64."""
    case = "predicted room, 24x24, SH degree 1"
    reference = "native" if native_backend.is_available() else "torch"
    expected, expected_gradients = _layer_run("cpu", torch.float64, reference)
    found, gradients = _layer_run(tested.device, torch.float32, tested.backend)
    yield Check.of("layer, energies", case, relative(found.energy, expected.energy), ENERGY)
    yield Check.of("layer, stationarity", case, relative(found.stationarity, expected.stationarity), GRADIENT)
    for name, gradient in gradients.items():
        yield Check.of(f"layer, gradient to {name}", case, relative(gradient, expected_gradients[name]), GRADIENT)


def _layer_run(device: torch.device | str, dtype: torch.dtype, backend: str) -> tuple[TTOInfo, dict[str, Tensor]]:
    """Statistics of one refinement, and the gradients of a fixed linear loss behind it."""
    gaussians, views = predicted_room(24)
    leaf = gaussians.to(device, dtype).map(lambda t: t.clone().requires_grad_())
    weights = torch.full((1, 1, 1), 0.1, device=device, dtype=dtype, requires_grad=True)
    config = TTOConfig(
        inner_steps=3, pcg_tolerance=0.0, stationarity_tolerance=0.0, stationarity_warning=None, backend=backend
    )
    refined, info = TTOLayer(config)(leaf, views.to(device, dtype), weights)
    generator = torch.Generator().manual_seed(7)
    loss = sum((t * torch.randn(t.shape, generator=generator).to(t)).sum() for t in refined.tensors())
    names = ("means", "covariances", "opacities", "harmonics", "proximal weights")
    found = torch.autograd.grad(loss, (*leaf.tensors(), weights))
    return info, dict(zip(names, found, strict=True))


BEHAVIOR_CHECKS = (
    check_choice,
    check_layer,
    check_streams,
    check_no_waiting,
    check_out_of_memory,
    check_second_device,
    check_mixed_precision,
    check_float64_is_refused,
    check_opaque,
)
