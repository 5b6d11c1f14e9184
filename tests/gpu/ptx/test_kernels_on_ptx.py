"""Every kernel's PTX, instruction by instruction on this CPU: within bounds, without races, and right."""

import os

import pytest
import torch
from ptx_on_cpu import backend as ptx

from diff3r_plugin.kernels.loading.kernel_table import BASES, KERNELS
from diff3r_plugin.render import self_test
from diff3r_plugin.render.self_test import LIMIT

EVERYTHING = bool(os.environ.get("DIFF3R_PTX_SEED"))
"""With all numbers of harmonics, as ``make gpu-ptx`` does; each has modules of its own to compile."""


@pytest.mark.parametrize("bases", BASES if EVERYTHING else [4])
def test_all_kernels_agree_with_the_reference_in_any_order_and_without_a_fault(bases):
    reason = ptx.missing()
    if reason is not None:
        pytest.skip(reason)
    seed = int(os.environ.get("DIFF3R_PTX_SEED", "0"))
    with ptx.running(seed=seed) as (driver, rasterizer):
        outcomes = self_test.run(rasterizer, torch.device("cpu"), bases)
    for outcome in outcomes:
        assert outcome.passed and outcome.deviation < 0.2 * LIMIT, str(outcome)
    assert set(driver.launches) == {kernel.entry for kernel in KERNELS.values()}
