"""Scenes of the sizes that the figures are about, and the calls that are timed on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from benchmarks.scenes import pixel_aligned_scene
from diff3r_plugin import Gaussians, TTOConfig, TTOLayer, Views
from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.objective import LinearizedObjective, Objective
from diff3r_plugin.render import Linearization, linearize, render

WEIGHT = 0.1
"""Proximal weight of all groups, as in ``benchmarks.layer``."""

PCG_ITERATIONS = 8


@dataclass(frozen=True)
class Size:
    """One cell of the table.

    Args:
        context: Height and width of the two context views that the Gaussians are aligned with, px.
        image: Height and width of the rendered images, px.
        views: Images of each scene.
        batch: Scenes.
        degree: Of the spherical harmonics.
    """

    context: int
    image: tuple[int, int]
    views: int
    batch: int
    degree: int

    @property
    def gaussians(self) -> int:
        """Of one scene: one per pixel of two context views."""
        return 2 * self.context**2

    def __str__(self) -> str:
        height, width = self.image
        scenes = f"batch {self.batch}, SH {self.degree}"
        return f"{self.gaussians:,} Gaussians, {height}x{width} x {self.views}, {scenes}"


TABLE = tuple(
    Size(context, image, views, batch, degree)
    for batch, degree in ((1, 0), (8, 0), (1, 3), (8, 3))
    for context in (256, 512)
    for image, views in (((256, 256), 2), ((512, 960), 4))
)
"""The sizes of the project's targets; the cheap ones first, so that a cut loses the least."""

DRY_RUN = (Size(16, (16, 16), 2, 1, 0), Size(16, (16, 16), 2, 2, 0), Size(16, (24, 40), 4, 1, 1))


class Workload:
    """A batch of scenes on a device, and what the rows need: made when first asked for, dropped with the object.

    Args:
        size: Cell of the table.
        backend: Of the renderer.
        device: Where.
    """

    def __init__(self, size: Size, backend: str, device: torch.device) -> None:
        self.size, self.backend, self.device = size, backend, device
        self.gaussians, cameras = pixel_aligned_batch(size)
        self.gaussians = self.gaussians.to(device)
        self.views = cameras.to(device)
        generator = torch.Generator().manual_seed(1)
        shape = (size.batch, size.views, 3, *size.image)
        self.cotangent = torch.randn(shape, generator=generator).to(device)
        self.weights = torch.rand(shape[:2] + shape[3:], generator=generator).to(device)
        self.tangent = self.gaussians.map(torch.randn_like)

    @cached_property
    def lin(self) -> Linearization:
        """The scene, linearized."""
        return linearize(self.gaussians, self.views, self.backend)

    @cached_property
    def with_images(self) -> Views:
        """The cameras with images of a slightly different scene."""
        g = self.gaussians
        colors = g.harmonics + 0.1 * torch.randn_like(g.harmonics)
        truth = Gaussians(g.means, g.covariances, 0.9 * g.opacities, colors)
        with torch.no_grad():
            return self.views.replace(images=render(truth, self.views, self.backend).clamp(0, 1))

    @cached_property
    def objective(self) -> LinearizedObjective:
        """The energy, linearized at the start."""
        coordinates = Coordinates(self.gaussians, self.with_images, TTOConfig().groups)
        zero = torch.zeros(self.size.batch, coordinates.num_unknowns, device=self.device)
        weights = torch.full_like(zero, WEIGHT)
        return Objective(coordinates, self.with_images, zero, weights, backend=self.backend).linearize(zero)

    @cached_property
    def direction(self) -> Tensor:
        """A change of θ, ``[B, P]``."""
        return torch.randn_like(self.objective.theta)

    @cached_property
    def solved(self) -> tuple[Tensor, object]:
        """A loss behind one refinement, with a graph, and the refinement's statistics."""
        return self.refine(inner_steps=1)

    def refine(self, **settings) -> tuple[Tensor, object]:
        """Refine with a graph; returns a loss and the statistics."""
        config = TTOConfig(
            backend=self.backend,
            stationarity_warning=None,
            pcg_tolerance=0.0,
            pcg_iterations=PCG_ITERATIONS,
            **settings,
        )
        leaf = self.gaussians.map(lambda t: t.clone().requires_grad_())
        refined, info = TTOLayer(config)(leaf, self.with_images, WEIGHT)
        return refined.means.sum(), info

    def forward(self) -> Tensor:
        """An image without a graph."""
        with torch.no_grad():
            return render(self.gaussians, self.views, self.backend)

    def forward_backward(self) -> tuple[Tensor, ...]:
        """An image and its gradient to all tensors of the scene, by autograd."""
        leaf = self.gaussians.map(lambda t: t.detach().requires_grad_())
        return torch.autograd.grad(render(leaf, self.views, self.backend), leaf.tensors(), self.cotangent)

    def implicit_backward(self) -> None:
        """The backward of the layer: one linear solve of ``PCG_ITERATIONS`` iterations."""
        self.solved[0].backward(retain_graph=True)

    def implicit_step(self) -> None:
        """Refine with the default solver, and go back through it: what a training step adds to its host."""
        self.refine()[0].backward()


ROWS: dict[str, Callable[[Workload], object]] = {
    "forward": Workload.forward,
    "forward + backward": Workload.forward_backward,
    "linearize": lambda w: linearize(w.gaussians, w.views, w.backend),
    "backward": lambda w: w.lin.vjp(w.cotangent),
    "jvp": lambda w: w.lin.jvp(w.tangent),
    "product": lambda w: w.lin.gauss_newton_product(w.tangent, w.weights),
    "gram": lambda w: w.lin.gram(w.weights),
    "product in θ": lambda w: w.objective.gauss_newton_product(w.direction),
    "implicit backward": Workload.implicit_backward,
    "implicit step": Workload.implicit_step,
}
"""Timed for every size, in this order."""


def pixel_aligned_batch(size: Size) -> tuple[Gaussians, Views]:
    """Scenes as a feed-forward network predicts them, seen by cameras beside each other; on the CPU.

    The focal lengths equal the width and the height of the image, so that images of every shape show all of the
    Gaussians, as square ones do.
    """
    scenes = [_pixel_aligned(size.context, seed) for seed in range(size.batch)]
    means, covariances, opacities = (torch.cat(t) for t in zip(*(s.tensors()[:3] for s in scenes), strict=True))
    generator = torch.Generator().manual_seed(2)
    harmonics = 0.3 * torch.randn(size.batch, size.gaussians, 3, (size.degree + 1) ** 2, generator=generator)
    height, width = size.image
    world_to_camera = torch.eye(4).repeat(size.batch, size.views, 1, 1)
    world_to_camera[:, :, 0, 3] = torch.linspace(-0.1, 0.1, size.views)
    intrinsics = torch.tensor([[1.0 * width, 0, width / 2], [0, 1.0 * height, height / 2], [0, 0, 1]])
    cameras = intrinsics.expand(size.batch, size.views, 3, 3)
    scene = Gaussians(means, covariances, opacities, harmonics)
    return scene, Views(world_to_camera, cameras, image_size=size.image)


@lru_cache(maxsize=16)
def _pixel_aligned(context: int, seed: int) -> Gaussians:
    return pixel_aligned_scene(context, seed=seed)[0]


def library_calls(work: Workload) -> dict[str, Callable[[], object]]:
    """gsplat's own ``rasterization``, without this package in between: what ``forward`` costs at least.

    Raises:
        ImportError: without gsplat.
    """
    from gsplat import rasterization

    g, v = work.gaussians, work.views
    height, width = work.size.image
    colors = g.harmonics.mT.contiguous()  # [B, N, K, 3]
    unused = g.means.new_zeros((*g.means.shape[:2], 4))  # quaternions, read by no version when covariances are given

    def rasterize(means: Tensor, covariances: Tensor, opacities: Tensor, harmonics: Tensor) -> Tensor:
        return rasterization(
            means, unused, unused[..., :3], opacities, harmonics, v.world_to_camera, v.intrinsics, width, height,
            near_plane=0.01, far_plane=1e10, sh_degree=work.size.degree, packed=False, covars=covariances,
        )[0]  # fmt: skip

    def forward() -> Tensor:
        with torch.no_grad():
            return rasterize(g.means, g.covariances, g.opacities, colors)  # type: ignore[arg-type]

    def forward_backward() -> tuple[Tensor, ...]:
        leaves = tuple(t.detach().requires_grad_() for t in (g.means, g.covariances, g.opacities, colors))  # type: ignore[union-attr]
        return torch.autograd.grad(rasterize(*leaves), leaves, work.cotangent.permute(0, 1, 3, 4, 2))

    return {"gsplat.rasterization forward": forward, "gsplat.rasterization forward + backward": forward_backward}
