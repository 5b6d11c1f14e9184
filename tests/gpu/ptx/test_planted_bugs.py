"""Bugs planted in the kernels' sources: the machine that runs PTX names each one's kernel and line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from ptx_on_cpu import backend as ptx
from ptx_on_cpu.machine import PtxFault

from benchmarks.gpu.scenes import float32_scene, float32_tangent
from diff3r_plugin.kernels.loading.build_cpu import SOURCE_DIRECTORY
from diff3r_plugin.linalg import device_pcg
from diff3r_plugin.render import Linearization
from diff3r_plugin.render.gsplat_rasterizer import Rasterizer


@dataclass(frozen=True)
class Bug:
    """What is done to a source, and what has to be said of it.

    Args:
        file: Of ``kernels/cuda``.
        old, new: Its text before and after.
        kernel: In which the bug shows.
        unit: That it stands in.
        call: What runs the kernel.
        fault: What is said, as a regular expression.
        at: The source whose line is named.
    """

    file: str
    old: str
    new: str
    kernel: str
    unit: str
    call: Callable[[Rasterizer], object]
    fault: str
    at: str


def jvp(rasterizer: Rasterizer) -> None:
    lin = linearization(rasterizer)
    lin.jvp(float32_tangent(SCENE).to(torch.float32))


def product(rasterizer: Rasterizer) -> None:
    lin = linearization(rasterizer)
    weights = torch.rand(1, 1, *VIEWS.image_size)
    lin.gauss_newton_product(float32_tangent(SCENE).to(torch.float32), weights)


def sums(rasterizer: Rasterizer) -> None:
    launch = device_pcg.launcher(rasterizer.kernels, rasterizer.stream)
    vector = torch.randn(2, 2000)
    launch("products", vector, vector, vector, None, torch.zeros(2, 2, dtype=torch.float64))


SCENE, VIEWS = float32_scene(gaussians=130, views=1, size=(20, 40), degree=1, seed=3, spread=0.7)
"""Several tiles, of which some are cut, and more than one batch of splats in a tile."""


def linearization(rasterizer: Rasterizer) -> Linearization:
    return ptx.backend(rasterizer).linearize(SCENE.to(torch.float32), VIEWS.to(torch.float32))


BUGS = {
    "no barrier after a batch is loaded": Bug(
        "tile_walk.cuh",
        "        __syncthreads();\n        const int count",
        "        const int count",
        "rasterize_jvp",
        "rasterize_jvp",
        jvp,
        r"shared memory, read .*(a race with a write by thread|never written)",
        "tile_walk.cuh",
    ),
    "no barrier before a batch is loaded": Bug(
        "tile_walk.cuh",
        "if (__syncthreads_count(visitor.live()) == 0) break;",
        "",
        "rasterize_product",
        "rasterize_product",
        product,
        r"shared memory, .* a race with",
        "tile_walk.cuh",
    ),
    "a column too many": Bug(
        "tile_walk.cuh",
        "inside = column < scene.width",
        "inside = column <= scene.width",
        "rasterize_jvp",
        "rasterize_jvp",
        jvp,
        r"global memory, write .*(a race with|out of bounds)",
        "rasterize_jvp.cu",
    ),
    "an addition that is not atomic": Bug(
        "warp_sums.cuh",
        "atomicAdd(out + number, Out(sum))",
        "out[number] += Out(sum)",
        "rasterize_product",
        "rasterize_product",
        product,
        r"global memory, (read|write) .* a race with a (read|write) by",
        "warp_sums.cuh",
    ),
    "a lane that leaves before a shuffle": Bug(
        "passes.cuh",
        "if (!__any_sync(EVERY_LANE, step.taken)) return;",
        "if (!step.taken) return;",
        "rasterize_product",
        "rasterize_product",
        product,
        r"a shuffle of diverged lanes: the mask names lanes 0xffffffff",
        "warp_sums.cuh",
    ),
    "flags that are left as they were": Bug(
        "tile_walk.cuh",
        "        splats.warps[slot] = 0;\n",
        "",
        "rasterize_jvp",
        "rasterize_jvp",
        jvp,
        r"shared memory, read of 1 bytes .* never written",
        "tile_walk.cuh",
    ),
    "two numbers loaded as one": Bug(
        "tile_walk.cuh",
        "place[slot] = {x, y, conic[0], conic[1]};",
        "const float2 both = *reinterpret_cast<const float2*>(conic);\n        place[slot] = {x, y, both.x, both.y};",
        "rasterize_jvp",
        "rasterize_jvp",
        jvp,
        r"global memory, read .* misaligned, no multiple of 8",
        "tile_walk.cuh",
    ),
    "sums that nobody has zeroed": Bug(
        "splat_jvp.cuh",
        "if (moments) zero(moments + SPLAT_NUMBERS * at, SPLAT_NUMBERS);",
        "",
        "rasterize_product",
        "splat_jvp",
        product,
        r"global memory, atomic addition .* never written",
        "warp_sums.cuh",
    ),
    "a thread for each Gaussian, and one more": Bug(
        "project.cu",
        "if (at >= scene.images() * scene.gaussians) return;",
        "if (at > scene.images() * scene.gaussians) return;",
        "project",
        "project",
        jvp,
        r"global memory, (read|write) .* out of bounds, 4 bytes off the array",
        "device.h",
    ),
    "a warp that does not wait for the sums of others": Bug(
        "pcg.cu",
        "    __syncthreads();\n    if (warp > 0) return;",
        "    if (warp > 0) return;",
        "products",
        "pcg",
        sums,
        r"shared memory, (read|write) .*(a race with|never written)",
        "pcg.cu",
    ),
}


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_named(name, tmp_path):
    bug = BUGS[name]
    reason = ptx.missing()
    if reason is not None:
        pytest.skip(reason)
    with ptx.running(images=with_bug(tmp_path, bug)) as (_, rasterizer):
        with pytest.raises(PtxFault, match=bug.fault) as caught:
            bug.call(rasterizer)
    assert caught.value.entry == f"diff3r_{bug.kernel}"
    assert caught.value.at.source.startswith(f"{bug.at}:") and caught.value.at.source in str(caught.value)


def with_bug(folder: Path, bug: Bug) -> Callable[[str, int], bytes]:
    """The modules, with the bug in its own unit alone."""
    for part in ("cuda", "math"):
        shutil.copytree(SOURCE_DIRECTORY / part, folder / part)
    path = folder / "cuda" / bug.file
    text = path.read_text()
    assert bug.old in text, f"{bug.file} has changed"
    path.write_text(text.replace(bug.old, bug.new))
    return lambda unit, bases: ptx.compiled(folder, unit, bases) if unit == bug.unit else ptx.image(unit, bases)
