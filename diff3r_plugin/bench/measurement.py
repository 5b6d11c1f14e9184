"""What ``diff3r bench`` measures."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from diff3r_plugin import __version__
from diff3r_plugin.bench.scene import predicted_scene
from diff3r_plugin.bench.timing import in_turns, median_of_ratios
from diff3r_plugin.config import TTOConfig
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.layer import TTOLayer
from diff3r_plugin.memory import USABLE, available_bytes, largest_scene, refinement_bytes, unknowns_per_gaussian
from diff3r_plugin.ranges import require_positive, require_whole
from diff3r_plugin.render import linearize, render, resolve_backend
from diff3r_plugin.views import Views

WEIGHT = 0.1


@dataclass(frozen=True)
class BenchSettings:
    """Sizes of the scene, and how long to measure.

    Args:
        gaussians: N; None for one a pixel of every view.
        size: (H, W) of the images, px.
        views: Context views.
        degree: Of the spherical harmonics, 0 to 4.
        steps: Gauss-Newton steps of a refinement.
        seconds: No turn of measurements begins after so many.
        backend: "auto", "gsplat", "native" or "torch".
        device: "cpu" or a CUDA device.

    Raises:
        ValueError: with the value, what was expected, and the setting's name; or if the scene does not fit into memory.
    """

    gaussians: int | None = None
    size: tuple[int, int] = (256, 256)
    views: int = 2
    degree: int = 1
    steps: int = TTOConfig().inner_steps
    seconds: float = 40.0
    backend: str = "auto"
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, value, least in (
            ("size", min(self.size), 1),
            ("views", self.views, 1),
            ("gaussians", self.count, 1),
            ("degree", self.degree, 0),
            ("steps", self.steps, 1),
        ):
            require_whole(name, value, least)
        if self.degree > 4:
            raise ValueError(f"degree={self.degree} must be 0 to 4.")
        require_positive("seconds", self.seconds)

    @property
    def count(self) -> int:
        """Gaussians, as asked for or one a pixel."""
        return self.views * self.size[0] * self.size[1] if self.gaussians is None else self.gaussians


@dataclass(frozen=True)
class BenchResult:
    """Medians over turns.

    Args:
        settings: What was measured.
        machine: What the figures depend on.
        seconds: Of each row.
        renderings: The same in units of one rendering, a figure that other work on the machine moves less.
        turns: How often each was measured.
        pcg_products: Products with the Gauss-Newton matrix in one refinement.
        memory_bytes: What refining the scene takes at its peak, estimated.
        free_bytes: Memory that is free; None if unknown.
        largest: Gaussians of the largest scene on such views whose refinement fits into most of that; None if unknown.
    """

    settings: BenchSettings
    machine: dict[str, Any]
    seconds: dict[str, float]
    renderings: dict[str, float]
    turns: int
    pcg_products: int
    memory_bytes: int
    free_bytes: int | None
    largest: int | None

    def record(self) -> dict[str, Any]:
        """All of it, as files of results have it."""
        return asdict(self)


RENDER, LINEARIZE, JVP, VJP = "render all views", "linearize", "J v", "Jᵀ u"
PRODUCT, REFINE, TRAIN = "Gauss-Newton product", "refine a scene", "refine and differentiate"


def bench(settings: BenchSettings, after_turn: Callable[[int], None] | None = None) -> BenchResult:
    """Measure one synthetic scene of the given size, for about as many seconds as the settings say.

    Args:
        settings: Sizes.
        after_turn: Is told how many turns of measurements are done.

    Raises:
        ValueError: if the scene would not fit into memory, or the backend cannot work here.

    Example:
        >>> from diff3r_plugin.bench import BenchSettings, bench
        >>> result = bench(BenchSettings(gaussians=50, size=(16, 16), seconds=0.01, backend="torch"))
        >>> result.renderings["render all views"]
        1.0
    """
    device = torch.device(settings.device)
    backend = resolve_backend(settings.backend, device)
    unknowns = unknowns_per_gaussian(TTOConfig().groups, settings.degree)
    needed = refinement_bytes(settings.count, unknowns, settings.views, settings.size, device)
    free = available_bytes(device)
    largest = None if free is None else largest_scene(USABLE * free, unknowns, settings.views, settings.size, device)
    if free is not None and needed > free:
        raise ValueError(
            f"{settings.count} Gaussians on {settings.views} views of {settings.size[1]} x {settings.size[0]} take "
            f"about {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free; on such views {largest} Gaussians fit."
        )
    scene, views = predicted_scene(settings.count, settings.views, settings.size, settings.degree, backend, device)
    products: list[int] = []
    rows = _rows(scene, views, settings, backend, products)
    times = in_turns(rows, settings.seconds, device, after_turn)
    return BenchResult(
        settings=settings,
        machine=machine(device, backend),
        seconds={name: statistics.median(taken) for name, taken in times.items()},
        renderings={name: median_of_ratios(times, name, RENDER) for name in times},
        turns=len(times[RENDER]),
        pcg_products=products[0],
        memory_bytes=needed,
        free_bytes=free,
        largest=largest,
    )


def machine(device: torch.device, backend: str) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "version": __version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
        "backend": backend,
    }


def _layer(settings: BenchSettings, backend: str) -> TTOLayer:
    # No scene ends early, so that the time is that of all steps.
    config = TTOConfig(
        inner_steps=settings.steps, backend=backend, stationarity_warning=None, stationarity_tolerance=0.0
    )
    return TTOLayer(config, warn_of_fallbacks=False)


def _rows(
    scene: Gaussians, views: Views, settings: BenchSettings, backend: str, products: list[int]
) -> dict[str, Callable[[], object]]:
    """What takes turns; each refinement notes its products."""
    images = views.images
    assert images is not None
    layer, cameras = _layer(settings, backend), views.replace(images=None, image_size=settings.size)
    here = linearize(scene, cameras, backend)
    tangent, cotangent = scene.map(torch.randn_like), torch.randn_like(here.image)
    weights = torch.ones_like(here.image[:, :, 0])

    def without_gradients(step: Callable[[], object]) -> Callable[[], object]:
        def run() -> object:
            with torch.no_grad():
                return step()

        return run

    def refine() -> None:
        _, info = layer(scene, views, WEIGHT)
        products.append(int(info.pcg_iterations[0]))

    def train() -> None:
        leaf = scene.map(lambda tensor: tensor.clone().requires_grad_())
        refined, _ = layer(leaf, views, WEIGHT)
        (render(refined, cameras, backend) - images).square().mean().backward()

    bare: dict[str, Callable[[], object]] = {
        RENDER: lambda: render(scene, cameras, backend),
        LINEARIZE: lambda: linearize(scene, cameras, backend),
        JVP: lambda: here.jvp(tangent),
        VJP: lambda: here.vjp(cotangent),
        PRODUCT: lambda: here.gauss_newton_product(tangent, weights),
        REFINE: refine,
    }
    return {**{name: without_gradients(step) for name, step in bare.items()}, TRAIN: train}
