"""The CPU backend: C++ kernels that project, sort and render all scenes and views of a batch in one call."""

from __future__ import annotations

import ctypes

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.kernels.loading import library_cpu
from diff3r_plugin.kernels.loading.structures import Vector
from diff3r_plugin.render.copied import CopiedLinearization
from diff3r_plugin.render.linearization import GaussianGram, Linearization
from diff3r_plugin.render.native_scene import NativeScene
from diff3r_plugin.views import Views

NEEDS = "a C++ compiler"
FOLLOWED_BY_AUTOGRAD = False
RUNS_ON = ("cpu",)


def is_available(device: torch.device | str = "cpu", bases: int | None = None) -> bool:
    """Whether the kernels are, or can be, compiled here. The first call may take some seconds and warns if not.

    Args:
        device: Where the tensors are; from elsewhere they are copied to the CPU and back.
        bases: How many spherical harmonics the scenes have; kernels of all numbers are compiled together.

    Example:
        >>> from diff3r_plugin.render import native_backend
        >>> isinstance(native_backend.is_available(), bool)
        True
    """
    return library_cpu.load() is not None


def linearize(gaussians: Gaussians, views: Views) -> Linearization:
    """Render and keep what the products of the Jacobian need: projected splats and sorted tile lists.

    Args:
        gaussians: B scenes, float32 or float64 (others are computed in float32), any strides. Those of a GPU are copied
            to the CPU, and results back: slower than its own kernels, and far less memory than the ``torch`` renderer.
        views: V cameras for each; converted to the Gaussians' dtype.

    Raises:
        RuntimeError: if the kernels cannot be compiled here.
        ValueError: if batch sizes differ or a tensor is not where the means are.
        MemoryError: if the splats cover more tiles than fit into memory.

    Example:
        >>> import torch
        >>> from diff3r_plugin import Gaussians, Views
        >>> from diff3r_plugin.render import native_backend
        >>> means, covariances = torch.tensor([[[0.0, 0, 4]]]), 0.1 * torch.eye(3).expand(1, 1, 3, 3)
        >>> g = Gaussians(means, covariances, torch.ones(1, 1), torch.ones(1, 1, 3, 1))
        >>> K = torch.tensor([[32.0, 0, 16], [0, 32, 16], [0, 0, 1]]).expand(1, 1, 3, 3)
        >>> views = Views(torch.eye(4).expand(1, 1, 4, 4), K, image_size=(32, 32))
        >>> lin = native_backend.linearize(g, views) if native_backend.is_available() else None
        >>> lin is None or lin.image.shape == (1, 1, 3, 32, 32)
        True
    """
    if gaussians.device.type != "cpu":
        return CopiedLinearization(gaussians, views, NativeLinearization)
    return NativeLinearization(gaussians, views)


def render_image(gaussians: Gaussians, views: Views) -> Float[Tensor, "B V 3 H W"]:
    """Render and keep nothing; arguments and errors as for :func:`linearize`."""
    scene = NativeScene(gaussians, views)
    return scene.render(keep=False)[0]


class NativeLinearization:
    """An image and the Jacobian of the image at this scene, applied by the CPU kernels.

    Implements :class:`diff3r_plugin.render.linearization.Linearization`. Results do not depend on the number of
    threads, which is ``torch.get_num_threads()`` at each call.

    Attributes:
        image: ``[B, V, 3, H, W]``.
        visible: (Gaussian, view) pairs that touch the image.
        degenerate: pairs that were left out because their projection is not finite or not an ellipse.
        intersections: (splat, 16 x 16 tile) pairs.
        bytes: memory that this object holds besides the inputs and the image.
        registers: (splat, block of pixels) pairs in which a pixel takes the splat; a block fills a vector register.
        scene, handle: what the kernels are called with.
    """

    def __init__(self, gaussians: Gaussians, views: Views) -> None:
        self.handle: ctypes.c_void_p | None = None
        self.scene = NativeScene(gaussians, views)
        self.image, counts, self.handle = self.scene.render(keep=True)
        self._free = self.scene.kernels.free
        self.visible, self.degenerate = counts.visible, counts.degenerate
        self.intersections, self.bytes, self.registers = counts.intersections, counts.bytes, counts.registers

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self._free(self.handle)
            self.handle = None

    def jvp(
        self, tangent: Gaussians, world_to_camera: Float[Tensor, "B V 4 4"] | None = None
    ) -> Float[Tensor, "B V 3 H W"]:
        """J v; see :meth:`Linearization.jvp`."""
        scene = self.scene
        vector, _alive = self._tangent(tangent, world_to_camera)
        out = torch.empty(scene.image_shape, dtype=scene.dtype)
        scene.check(scene.kernels.jvp(self.handle, torch.get_num_threads(), vector, out.data_ptr()))
        return out

    def vjp(self, cotangent: Float[Tensor, "B V 3 H W"]) -> Gaussians:
        """Jᵀ u; see :meth:`Linearization.vjp`."""
        return self._vjp(cotangent, with_cameras=False)[0]

    def vjp_cameras(self, cotangent: Float[Tensor, "B V 3 H W"]) -> tuple[Gaussians, Float[Tensor, "B V 4 4"]]:
        """Jᵀ u and the cotangent of the cameras; see :meth:`Linearization.vjp_cameras`."""
        gradient, cameras = self._vjp(cotangent, with_cameras=True)
        assert cameras is not None
        return gradient, cameras

    def gauss_newton_product(self, tangent: Gaussians, pixel_weights: Float[Tensor, "B V H W"]) -> Gaussians:
        """JᵀWJ v in one pass over the tiles; see :meth:`Linearization.gauss_newton_product`."""
        scene = self.scene
        vector, _alive = self._tangent(tangent, None)
        weights = scene.pixel_weights(pixel_weights)
        gradient, out, _ = self._cotangent(with_cameras=False)
        threads = torch.get_num_threads()
        scene.check(scene.kernels.gauss_newton(self.handle, threads, vector, weights.data_ptr(), out))
        return gradient

    def gram(self, pixel_weights: Float[Tensor, "B V H W"]) -> GaussianGram:
        """Exact per-Gaussian blocks of JᵀWJ; see :meth:`Linearization.gram`."""
        scene = self.scene
        scene.check_unchanged()
        weights = scene.pixel_weights(pixel_weights)
        core = scene.empty((scene.batch, scene.gaussians, 13, 13), scene.dtype)
        rest = scene.empty((scene.batch, scene.gaussians, 3, scene.bases - 1), scene.dtype)
        threads = torch.get_num_threads()
        scene.check(scene.kernels.gram(self.handle, threads, weights.data_ptr(), core.data_ptr(), rest.data_ptr()))
        return GaussianGram(core, rest)

    def _vjp(self, cotangent: Tensor, with_cameras: bool) -> tuple[Gaussians, Tensor | None]:
        scene = self.scene
        scene.check_unchanged()
        cotangent = scene.image_like(cotangent, scene.image_shape, "the image's cotangent")
        gradient, out, cameras = self._cotangent(with_cameras)
        scene.check(scene.kernels.vjp(self.handle, torch.get_num_threads(), cotangent.data_ptr(), out))
        return gradient, cameras

    def _tangent(self, tangent: Gaussians, world_to_camera: Tensor | None) -> tuple[Vector, list[Tensor]]:
        """The C structure and the tensors that must outlive its use."""
        given = self.scene.tangent(tangent, world_to_camera)
        return Vector(*(value.data_ptr() for value in given)), given

    def _cotangent(self, with_cameras: bool) -> tuple[Gaussians, Vector, Tensor | None]:
        scene = self.scene
        B, N, dtype = scene.batch, scene.gaussians, scene.dtype
        gradient = Gaussians(
            torch.empty((B, N, 3), dtype=dtype),
            torch.empty((B, N, 3, 3), dtype=dtype),
            torch.empty((B, N), dtype=dtype),
            scene.empty((B, N, 3, scene.bases), dtype),
        )
        cameras = torch.empty((B, scene.views, 4, 4), dtype=dtype) if with_cameras else None
        pointers = [value.data_ptr() for value in gradient.tensors()]
        return gradient, Vector(*pointers, None if cameras is None else cameras.data_ptr()), cameras
