"""One rasterizer in all processes of a distributed run.

gsplat cuts alphas off at 0.999 or 0.99, our kernels at 0.99: processes that rasterize by different functions train on
different images without a word. So the first one to choose writes its choice into the run's store, and the others
follow.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch

KEY = "diff3r_plugin/rasterizer"


class Described(Protocol):
    """What is agreed on."""

    @property
    def origin(self) -> str: ...
    @property
    def alpha_cap(self) -> float: ...
    @property
    def kernels(self) -> Any: ...
    @property
    def rasterize_to_pixels(self) -> Any: ...


R = TypeVar("R", bound=Described)


def agreed(mine: R, own: Callable[[Any], R]) -> R:
    """What this process renders by: what it has found, or our kernels, if the first process chose these.

    Nothing waits: a process that never renders on a GPU takes no part.

    Args:
        mine: What it has found.
        own: Makes the rasterizer without gsplat, from kernels.

    Raises:
        RuntimeError: if the first process has a gsplat that this one lacks.
    """
    first = _choice_of_the_first(f"{mine.origin}, alpha cap {mine.alpha_cap:g}")
    alone = own(mine.kernels)
    for candidate in (mine, alone):
        if first is None or first == f"{candidate.origin}, alpha cap {candidate.alpha_cap:g}":
            if candidate is not mine:
                warnings.warn(
                    f"This process rasterizes by {candidate.origin}, as the first of the run does, and not by "
                    f"{mine.origin}.",
                    RuntimeWarning,
                    stacklevel=3,
                )
            return candidate
    raise RuntimeError(
        f"the processes of this run would render different images: the first by {first}, this one by {mine.origin}, "
        f"alpha cap {mine.alpha_cap:g}. Install the same gsplat for all, or set DIFF3R_WITHOUT_GSPLAT=1."
    )


def _choice_of_the_first(mine: str) -> str | None:
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return None
    store = distributed.distributed_c10d._get_default_store()
    return bytes(store.compare_set(KEY, "", mine)).decode()
