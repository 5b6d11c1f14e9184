"""Tensors that pretend to be on a GPU: what is counted, and what a device would refuse."""

import json
from pathlib import Path

import gsplat_on_cpu
import pytest
import torch

from benchmarks import launches
from benchmarks.pretended import ForbiddenWait, pretended_devices
from benchmarks.scenes import predicted_room
from diff3r_plugin import TTOConfig, TTOLayer
from diff3r_plugin.linalg import Jacobi, pcg
from diff3r_plugin.render import available_backends, resolve_backend

FIGURES = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "launches.json"


@pytest.fixture
def devices():
    """Two pretended devices, and what is noted of them."""
    if gsplat_on_cpu.library() is None:
        pytest.skip("no g++ here to compile the GPU kernels for a CPU")
    with pretended_devices(*launches.emulated(), count=2) as ledger:
        yield ledger


def noted(ledger, call):
    """Operations, allocations and waits of a call."""
    before = ledger.counts()
    call()
    counts = ledger.counts() - before
    return counts.operations, counts.allocations, counts.waits


def test_what_counts_as_what(devices):
    a = torch.ones(3, 4, device="cuda")
    assert a.device == torch.device("cuda", 0) and a.is_cuda and a.mT.is_cuda
    for call, expected in {
        (lambda: a + 1): (1, 1, 0),
        (lambda: a.add_(1)): (1, 0, 0),
        (lambda: torch.add(a, a, out=a)): (1, 0, 0),
        (lambda: a[:, None].expand(3, 2, 4).mT): (0, 0, 0),
        (lambda: torch.empty_like(a)): (0, 1, 0),
        (lambda: torch.zeros(2, device="cuda")): (1, 1, 0),
        (lambda: a.new_zeros(2)): (1, 1, 0),
        (lambda: bool(a.any())): (2, 2, 1),
        (lambda: a.cpu()): (1, 0, 1),
        (lambda: a.tolist()): (0, 0, 1),
        (lambda: torch.tensor([1.0], device="cuda")): (1, 1, 1),
        (lambda: torch.as_tensor(a, device="cuda")): (0, 0, 0),
        (lambda: a[a > 0]): (2, 2, 1),
        (lambda: torch.cuda.synchronize()): (0, 0, 1),
    }.items():
        assert noted(devices, call) == expected, call.__code__.co_firstlineno
    assert not devices.findings


def test_tensors_of_two_devices_in_one_operation_are_found(devices):
    here, there, host = torch.ones(3, device="cuda:0"), torch.ones(3, device="cuda:1"), torch.ones(3)
    _ = here * torch.tensor(2.0)  # a number travels with the kernel
    assert not devices.findings
    _ = here + there
    _ = here * host
    found = "\n".join(devices.findings)
    assert "cuda:0 and cuda:1" in found and "cuda:0 and the CPU" in found and "test_pretended.py" in found
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        torch.ones(3, device="cuda:2")


def test_gradients_go_back_to_the_device_they_came_from(devices):
    leaf = torch.ones(3, requires_grad=True)
    there = leaf.to("cuda:1")
    assert there.device == torch.device("cuda", 1)
    (there * 2).sum().backward()
    assert leaf.grad.tolist() == [2.0] * 3 and not leaf.grad.is_cuda


def test_waits_are_refused_where_they_are_forbidden(devices):
    a = torch.ones(3, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    _ = a + 1
    with pytest.raises(ForbiddenWait, match=r"_local_scalar_dense.*test_pretended.py"):
        bool(a.any())


def test_iterations_of_pcg_leave_the_host_free(devices):
    """The residual is recomputed among these."""
    b = torch.randn(2, 50, device="cuda")
    diagonal = 1 + torch.rand_like(b)
    preconditioner = Jacobi(diagonal)
    torch.cuda.set_sync_debug_mode("error")
    result = pcg(lambda v: diagonal * v, b, preconditioner=preconditioner, max_iterations=12, tolerance=0.0)
    torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(result.solution.cpu(), (b / diagonal).cpu())
    assert not devices.findings


@pytest.mark.parametrize("groups, limit", [(TTOConfig().groups, 1e-4), (launches.WITH_POSES, 0.05)])
def test_the_layer_on_the_second_device_finds_what_the_cpu_finds(devices, groups, limit):
    """Every branch for a GPU, and no tensor left behind on another device.

    Where cameras move, rounding grows 30,000-fold: in float64 the same kernels are off by 4e-12.
    """
    room, views = predicted_room(8)
    exactly = dict(pcg_tolerance=0.0, stationarity_tolerance=0.0)  # no threshold that rounding could cross
    settings = dict(groups=groups, inner_steps=2, stationarity_warning=None, **exactly)

    def refined(device, dtype, backend):
        leaf = room.to(device, dtype).map(lambda t: t.clone().requires_grad_())
        layer = TTOLayer(TTOConfig(**settings, backend=backend))
        result, info = layer(leaf, views.to(device, dtype), 0.1)
        loss = sum((t * (i + 1)).sum() for i, t in enumerate(result.tensors()))
        return info, torch.autograd.grad(loss, leaf.tensors())

    device = torch.device("cuda", 1)
    assert resolve_backend("auto", device) == "gsplat"
    found, gradients = refined(device, torch.float32, "auto")
    assert found.energy.device == device and not devices.findings
    expected, exact = refined("cpu", torch.float64, available_backends("cpu")[0])
    torch.testing.assert_close(found.energy.cpu().double(), expected.energy, rtol=1e-4, atol=0)
    for ours, theirs in zip(gradients, exact, strict=True):
        assert ours.device == device
        assert float((ours.cpu().double() - theirs).norm() / theirs.norm()) < limit


@pytest.mark.parametrize(
    ("weight", "damping", "tolerance", "accepted", "products"),
    [(0.1, 1.0, 0.1, 2, 8), (1e-4, 0.01, 0.3, 3, 24)],
    ids=["ends early", "with steps that are not taken"],
)
def test_a_solver_takes_the_steps_and_ends_where_it_does_on_the_cpu(
    devices, weight, damping, tolerance, accepted, products
):
    """On a GPU it learns in one transfer whether a step is taken and whether anything is left to do after it."""
    room, views = predicted_room(8)
    config = TTOConfig(inner_steps=6, damping=damping, stationarity_tolerance=tolerance, stationarity_warning=None)
    for device in ("cuda:1", "cpu"):
        _, info = TTOLayer(config)(room.to(device), views.to(device), weight)
        assert info.accepted_steps.tolist() == [accepted] and info.pcg_iterations.tolist() == [products], device


@pytest.mark.slow
def test_launches_and_waits_are_those_of_the_committed_table():
    """More or less than these: look at ``python -m benchmarks.launches``, and commit its ``--json``."""
    if gsplat_on_cpu.library() is None:
        pytest.skip("no g++ here to compile the GPU kernels for a CPU")
    committed = json.loads(FIGURES.read_text())
    assert launches.measure().as_json() == committed
