"""How much memory a refinement takes, and how much there is."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator
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

PRODUCT_BYTES = 2 * 9 * 4
"""What a linearization on a GPU keeps of each Gaussian and view for its products: nine numbers of a splat's tangent and
nine sums of its cotangent (``render/gsplat_backend.py``)."""

CONTROL_GROUPS, OWN_CONTROL_GROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")

USABLE = 0.8
"""Of the free memory: what a scene may take at its peak where no limit is given."""

UNKNOWN_LIMIT = 2**34
"""Bytes, where the system does not say how many there are."""


def unknowns_per_gaussian(groups: Collection[str], sh_degree: int) -> int:
    """How many numbers of a Gaussian are optimized.

    Example:
        >>> from diff3r_plugin.memory import unknowns_per_gaussian
        >>> unknowns_per_gaussian(("means", "sh_rest"), sh_degree=1)
        12
    """
    coefficients = (sh_degree + 1) ** 2
    return sum(group.numbers(coefficients) for group in GROUPS.values() if group.name in groups and not group.of_views)


def refinement_bytes(
    gaussians: int, unknowns: int, views: int, image_size: tuple[int, int], device: torch.device | str = "cpu"
) -> int:
    """What refining one scene takes at its peak, estimated; refining others of the same size after it takes no more.

    Where sizes change, blocks of earlier ones wait for their like: until 1,024 others were used, and up to 4 GiB and a
    quarter of :func:`limit_bytes`; ``release_memory`` gives them back.

    Args:
        gaussians: N.
        unknowns: Of each Gaussian; see :func:`unknowns_per_gaussian`.
        views: That are seen at once.
        image_size: (H, W) of each.
        device: Where. A GPU's kernels keep rooms for products and no alphas; none of the rest has been measured there.
    """
    height, width = image_size
    each = _bytes_of_each(unknowns, views, device)
    alphas = min(_most_alphas(device), ALPHA_BYTES * views * gaussians)
    return BASE_BYTES + gaussians * each + alphas + PIXEL_VIEW_BYTES * views * height * width


def largest_scene(
    available: float, unknowns: int, views: int, image_size: tuple[int, int], device: torch.device | str = "cpu"
) -> int:
    """The most Gaussians whose refinement fits into so many bytes; 0 where not even the images do.

    Example:
        >>> from diff3r_plugin.memory import largest_scene, refinement_bytes
        >>> count = largest_scene(2e9, 22, 2, (256, 256))
        >>> refinement_bytes(count, 22, 2, (256, 256)) <= 2e9 < refinement_bytes(count + 1000, 22, 2, (256, 256))
        True
    """
    fixed = refinement_bytes(0, unknowns, views, image_size, device)
    each = _bytes_of_each(unknowns, views, device)
    with_all_alphas = (available - fixed) / (each + ALPHA_BYTES * views)
    with_most_alphas = (available - fixed - _most_alphas(device)) / each
    return max(0, math.floor(max(with_all_alphas, with_most_alphas)))


def _bytes_of_each(unknowns: int, views: int, device: torch.device | str) -> int:
    """Of a Gaussian, without alphas."""
    kept = 0 if torch.device(device).type == "cpu" else PRODUCT_BYTES
    return UNKNOWN_BYTES * unknowns + GAUSSIAN_BYTES + (GAUSSIAN_VIEW_BYTES + kept) * views


def _most_alphas(device: torch.device | str) -> int:
    return MOST_ALPHA_BYTES if torch.device(device).type == "cpu" else 0


def available_bytes(device: torch.device | str = "cpu") -> int | None:
    """Memory that can be had now: of the device, or of the machine within the process's own limits; None if unknown.

    On a GPU what PyTorch has reserved and does not use counts, too: the next tensors lie there.
    """
    if torch.device(device).type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    left = [max(0, limit - used) for limit, used in control_groups()]
    found = [value for value in (_system(), *left) if value is not None]
    return min(found) if found else None


def limit_bytes() -> int:
    """Memory that this process can have at most: the machine's, or less where a container's limit is lower.

    Example:
        >>> from diff3r_plugin.memory import available_bytes, limit_bytes
        >>> 0 < limit_bytes() and (available_bytes() or 0) <= limit_bytes()
        True
    """
    try:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        machine = UNKNOWN_LIMIT
    return min([machine, *(limit for limit, _ in control_groups())])


def control_groups(root: Path = CONTROL_GROUPS, own: Path = OWN_CONTROL_GROUP) -> list[tuple[int, int]]:
    """(limit, used) of the control groups that this process is in and that have a limit, versions 1 and 2 alike.

    Args:
        root: Where the file system of control groups is.
        own: Which of them the process is in, as the kernel writes it.
    """
    found = []
    for folder, limit, used in _own_folders(root, own):
        try:
            found.append((int((folder / limit).read_text()), int((folder / used).read_text())))
        except (OSError, ValueError):  # none, or "max"
            continue
    return found


def _own_folders(root: Path, own: Path) -> Iterator[tuple[Path, str, str]]:
    """The process's group and those around it, with the names of the two files; a container sees its own as root."""
    try:
        lines = own.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        lines = []
    paths = {"": "/", "memory": "/"}  # of version 2, and of version 1's memory controller
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for name in {"", "memory"} & {*controllers.split(",")}:
            paths[name] = path
    for name, limit, used in (
        ("", "memory.max", "memory.current"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        inside = Path(paths[name].lstrip("/"))
        for part in dict.fromkeys((inside, *inside.parents)):
            yield root / name / part, limit, used


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
