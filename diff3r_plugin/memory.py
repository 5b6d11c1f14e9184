"""How much memory a refinement takes, and how much there is."""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from pathlib import Path

import torch

from diff3r_plugin.groups import GROUPS

UNKNOWN_BYTES, GAUSSIAN_BYTES, GAUSSIAN_VIEW_BYTES, PIXEL_VIEW_BYTES, BASE_BYTES = 92, 700, 300, 210, 50 << 20
"""Of a Gauss-Newton step in float32 by the CPU kernels, fitted to the peak of resident memory at nine sizes: 10,000 to
1,000,000 Gaussians of about a pixel, 1 to 8 views of 256² to 1024² pixels, degrees 0 to 3. Splats of many pixels take
more, for they are listed once for each tile."""

ALPHA_BYTES, MOST_ALPHA_BYTES = 900, 3 * (256 << 20)
"""The alphas that linearizations keep, of each Gaussian and view, and at most (``kernels/cpu/alpha_store.h``): those of
two linearizations and what waits to be used again."""


def unknowns_per_gaussian(groups: Collection[str], sh_degree: int) -> int:
    """How many numbers of a Gaussian are optimized.

    Example:
        >>> from diff3r_plugin.memory import unknowns_per_gaussian
        >>> unknowns_per_gaussian(("means", "sh_rest"), sh_degree=1)
        12
    """
    coefficients = (sh_degree + 1) ** 2
    return sum(group.numbers(coefficients) for group in GROUPS.values() if group.name in groups and not group.of_views)


def refinement_bytes(gaussians: int, unknowns: int, views: int, image_size: tuple[int, int]) -> int:
    """What refining one scene takes at its peak, estimated; refining others of the same size after it takes no more.

    Where sizes change, blocks of earlier ones wait for their like: up to 4 GiB, and no more than a quarter of the
    machine's memory (``kernels/cpu/buffer.cpp``).

    Args:
        gaussians: N.
        unknowns: Of each Gaussian; see :func:`unknowns_per_gaussian`.
        views: That are seen at once.
        image_size: (H, W) of each.
    """
    height, width = image_size
    each = UNKNOWN_BYTES * unknowns + GAUSSIAN_BYTES + GAUSSIAN_VIEW_BYTES * views
    alphas = min(MOST_ALPHA_BYTES, ALPHA_BYTES * views * gaussians)
    return BASE_BYTES + gaussians * each + alphas + PIXEL_VIEW_BYTES * views * height * width


def largest_scene(available: float, unknowns: int, views: int, image_size: tuple[int, int]) -> int:
    """The most Gaussians whose refinement fits into so many bytes; 0 where not even the images do.

    Example:
        >>> from diff3r_plugin.memory import largest_scene, refinement_bytes
        >>> count = largest_scene(2e9, 22, 2, (256, 256))
        >>> refinement_bytes(count, 22, 2, (256, 256)) <= 2e9 < refinement_bytes(count + 1000, 22, 2, (256, 256))
        True
    """
    fixed = refinement_bytes(0, unknowns, views, image_size)
    each = UNKNOWN_BYTES * unknowns + GAUSSIAN_BYTES + GAUSSIAN_VIEW_BYTES * views
    with_all_alphas = (available - fixed) / (each + ALPHA_BYTES * views)
    with_most_alphas = (available - fixed - MOST_ALPHA_BYTES) / each
    return max(0, math.floor(max(with_all_alphas, with_most_alphas)))


def available_bytes(device: torch.device | str = "cpu") -> int | None:
    """Memory that can be had now: of the device, or of the machine within the process's own limits; None if unknown."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = [value for value in (_system(), _control_group()) if value is not None]
    return min(found) if found else None


def _system() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _control_group() -> int | None:
    """What a container's limit leaves."""
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            return max(0, int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # none, or "max"
            continue
    return None
