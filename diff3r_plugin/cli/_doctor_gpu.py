"""What ``diff3r doctor`` says about GPUs: what compiles their kernels, and whether these compute what they should."""

from __future__ import annotations

import torch

BASES = 4
"""Spherical harmonics of the scenes that are tried: degree 1."""


def devices() -> list[torch.device]:
    """All GPUs."""
    return [torch.device("cuda", i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []


def report() -> None:
    """What would compile the kernels; for each GPU whether it has passed the self-test, which runs if it has not."""
    from diff3r_plugin.kernels.loading import modules_cuda

    found = devices()
    compilers, missing = modules_cuda.compilers()
    print(f"GPU kernels: compiled by {', '.join(c.name for c in compilers) or 'nothing that is installed'}")
    if not compilers and found:
        for reason in missing:
            print(f"  {reason}")
    if torch.version.hip:
        print(f"  this PyTorch is built for AMD's GPUs (ROCm {torch.version.hip}); the kernels are for NVIDIA's")
    for device in found:
        print(f"  {device} {torch.cuda.get_device_name(device)}: {_state(device)}")


def tested_again() -> bool:
    """Run the self-test on every GPU and print every check; whether all have passed."""
    from diff3r_plugin.render import gsplat_backend, self_test

    found = devices()
    if not found:
        print("no GPU that PyTorch can use: the self-test has nothing to run on")
    passed = True
    for device in found:
        print(
            f"{device} {torch.cuda.get_device_name(device)}, self-test at SH degree 1 "
            f"(deviations up to {self_test.LIMIT:g}):"
        )
        try:
            outcomes = self_test.run(gsplat_backend.rasterizer_for(device), device, BASES)
        except (OSError, RuntimeError, AttributeError) as error:
            print(f"  PROBLEM: {error}")
            passed = False
            continue
        for outcome in outcomes:
            print(f"  {'ok' if outcome.passed else 'PROBLEM'}: {outcome}")
        passed = passed and all(outcome.passed for outcome in outcomes)
    return passed


def _state(device: torch.device) -> str:
    from diff3r_plugin.render import gsplat_backend

    try:
        outcomes = gsplat_backend.self_tested(device, BASES)
    except (OSError, RuntimeError, AttributeError) as error:
        return f"PROBLEM: {error}"
    worst = max(outcome.deviation for outcome in outcomes)
    return f"passed the self-test, {len(outcomes)} checks of all kernels, deviations up to {worst:.0e}"
