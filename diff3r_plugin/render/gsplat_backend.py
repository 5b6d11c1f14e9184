"""The GPU backend: gsplat sorts, rasterizes and takes image gradients back to splats; our kernels do everything else.

gsplat has no forward mode, so J v, the fused Gauss-Newton product and the Gram matrices are our own CUDA kernels, on
the same headers as the CPU kernels. Projection and color are one kernel of ours, too: the limits near and far may
differ by view, a Gaussian that is not finite must vanish without a trace, and gsplat would copy the harmonics for each
view. Where gsplat cannot be used, PyTorch sorts and our kernels rasterize as well.
"""

from __future__ import annotations

import functools
import warnings

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.kernels.loading import library_cuda
from diff3r_plugin.kernels.loading.cache import BuildError
from diff3r_plugin.kernels.loading.library_cuda import COTANGENTS, MOMENTS
from diff3r_plugin.kernels.loading.structures import Vector
from diff3r_plugin.render import gsplat_rasterizer, self_test
from diff3r_plugin.render.gsplat_rasterizer import Rasterizer
from diff3r_plugin.render.gsplat_scene import GsplatScene
from diff3r_plugin.render.linearization import GaussianGram
from diff3r_plugin.views import Views

SPLAT_NUMBERS, GRAM_NUMBERS = 9, 34
"""As in ``kernels/math/splat_chain.h``."""


NEEDS = "CUDA tensors and NVRTC, which comes with PyTorch"
FOLLOWED_BY_AUTOGRAD = False
RUNS_ON = None


def is_available(device: torch.device | str = "cuda", bases: int | None = None) -> bool:
    """Whether tensors on ``device`` can be rendered here. The first call on a GPU may compile, and warns if that fails.

    Args:
        device: Where they are.
        bases: How many spherical harmonics scenes have, if known: then their kernels pass a self-test first.

    Example:
        >>> from diff3r_plugin.render import gsplat_backend
        >>> gsplat_backend.is_available("cpu")
        False
    """
    device = torch.device(device)
    return device.type == "cuda" and torch.cuda.is_available() and failure(device, bases) is None


def failure(device: torch.device, bases: int | None = None) -> str | None:
    """Why a GPU's tensors cannot be rendered by this backend; None if they can."""
    return _failure(_with_index(device), bases)


def self_tested(device: torch.device, bases: int) -> list[self_test.Outcome]:
    """The outcomes of the self-test on a GPU, which it has passed.

    Raises:
        SelfTestError: if it has not.
        BuildError, DriverError, OSError: if the kernels cannot be compiled or loaded.
    """
    device = _with_index(device)
    rasterizer = gsplat_rasterizer.load(device)
    build = repr((torch.cuda.get_device_name(device), torch.__version__, rasterizer.origin, rasterizer.kernels.build))
    return self_test.require(rasterizer, device, bases, build)


def linearize(gaussians: Gaussians, views: Views) -> GsplatLinearization:
    """Render and keep what the products of the Jacobian need: projected splats and sorted tile lists.

    Args:
        gaussians: B scenes on one CUDA device, float32 (half precision is computed in float32).
        views: V cameras for each.

    Raises:
        ValueError: for float64, or tensors elsewhere.
        BuildError: if our kernels cannot be compiled here.
        torch.cuda.OutOfMemoryError: naming the sizes and what makes them smaller.
    """
    return GsplatLinearization(gaussians, views, rasterizer_for(gaussians.device))


def rasterizer_for(device: torch.device) -> Rasterizer:
    """gsplat and our kernels for a device; errors as for :func:`linearize`."""
    return gsplat_rasterizer.load(_with_index(device))


class GsplatLinearization:
    """An image and the Jacobian of the image at this scene, on a GPU.

    Implements :class:`diff3r_plugin.render.linearization.Linearization`. Sums over pixels are atomic additions, whose
    order changes from call to call: results repeat up to rounding.

    Args:
        gaussians: B scenes.
        views: V cameras for each.
        rasterizer: gsplat and our kernels for their device.

    Attributes:
        image: ``[B, V, 3, H, W]``.
        scene: What the kernels are called with.
        alpha_cap: Largest alpha of one splat at one pixel: the cap of what has rasterized.
    """

    def __init__(self, gaussians: Gaussians, views: Views, rasterizer: Rasterizer) -> None:
        # A validation loop's inference mode would leave the rendering without a graph to go back through.
        with torch.inference_mode(False):
            self.scene = scene = GsplatScene(gaussians, views, rasterizer)
            self._rendered, self._leaves = scene.render(differentiable=True)
        self.image: Float[Tensor, "B V 3 H W"] = self._to_image(self._rendered.detach())
        self.alpha_cap = rasterizer.alpha_cap

    def jvp(
        self, tangent: Gaussians, world_to_camera: Float[Tensor, "B V 4 4"] | None = None
    ) -> Float[Tensor, "B V 3 H W"]:
        """J v; see :meth:`Linearization.jvp`."""
        with self.scene.enough_memory():
            moved = self.room_for_splats()
            self._push(tangent, world_to_camera, moved, None)
            return self.image_tangent(moved)

    def vjp(self, cotangent: Float[Tensor, "B V 3 H W"]) -> Gaussians:
        """Jᵀ u; see :meth:`Linearization.vjp`."""
        return self._vjp(cotangent, with_cameras=False)[0]

    def vjp_cameras(self, cotangent: Float[Tensor, "B V 3 H W"]) -> tuple[Gaussians, Float[Tensor, "B V 4 4"]]:
        """Jᵀ u and the cotangent of the cameras; see :meth:`Linearization.vjp_cameras`."""
        gradient, cameras = self._vjp(cotangent, with_cameras=True)
        assert cameras is not None
        return gradient, cameras

    def gauss_newton_product(self, tangent: Gaussians, pixel_weights: Float[Tensor, "B V H W"]) -> Gaussians:
        """JᵀWJ v; each tile pushes and pulls in one kernel. See :meth:`Linearization.gauss_newton_product`."""
        weights = self.scene.pixel_weights(pixel_weights)
        with self.scene.enough_memory():
            moved, moments = self.rooms_of_products
            self._push(tangent, None, moved, moments)
            self.add_moments(moved, weights, moments)
            return self._pull(moments, MOMENTS, None)

    def gram(self, pixel_weights: Float[Tensor, "B V H W"]) -> GaussianGram:
        """Exact per-Gaussian blocks of JᵀWJ; see :meth:`Linearization.gram`."""
        scene = self.scene
        scene.check_unchanged()
        weights = scene.pixel_weights(pixel_weights)
        with scene.enough_memory():
            sums = scene.zeros((scene.images, scene.gaussians, GRAM_NUMBERS))
            core = scene.empty((scene.batch, scene.gaussians, 13, 13))
            rest = scene.empty((scene.batch, scene.gaussians, 3, scene.bases - 1))
            scene.run("rasterize_gram", weights.data_ptr(), sums.data_ptr())
            scene.run("splat_gram", sums.data_ptr(), core.data_ptr(), rest.data_ptr())
            return GaussianGram(core, rest)

    def room_for_splats(self) -> Float[Tensor, "I N 9"]:
        """Nine numbers of each splat, not initialized."""
        return self.scene.empty((self.scene.images, self.scene.gaussians, SPLAT_NUMBERS))

    def image_tangent(self, moved: Float[Tensor, "I N 9"]) -> Float[Tensor, "B V 3 H W"]:
        """J v from the tangents of splats that a kernel has written."""
        scene = self.scene
        out = scene.empty((scene.images, scene.height, scene.width, 3))
        scene.run("rasterize_jvp", moved.data_ptr(), out.data_ptr())
        return self._to_image(out)

    def splat_cotangents(self, cotangent: Float[Tensor, "B V 3 H W"]) -> tuple[Float[Tensor, "I N 9"], int]:
        """What splats get from an image's cotangent, and as which of the kinds of ``library_cuda`` it comes."""
        scene = self.scene
        scene.check_unchanged()
        cotangent = scene.image_argument(cotangent)
        if self._rendered.requires_grad:
            means2d, conics, colors, opacities = torch.autograd.grad(
                self._rendered, self._leaves, cotangent, retain_graph=True
            )
            return torch.cat([means2d, conics, opacities[..., None], colors], -1), COTANGENTS
        # Our own kernels have rendered this, or nothing touches the images.
        moments = scene.zeros((scene.images, scene.gaussians, SPLAT_NUMBERS))
        scene.run("rasterize_vjp", cotangent.data_ptr(), moments.data_ptr())
        return moments, MOMENTS

    @functools.cached_property
    def rooms_of_products(self) -> tuple[Float[Tensor, "I N 9"], Float[Tensor, "I N 9"]]:
        """What splats move by and what they get, in every product: a solve allocates nothing for each of its own."""
        return self.room_for_splats(), self.room_for_splats()

    def add_moments(
        self, moved: Float[Tensor, "I N 9"], pixel_weights: Float[Tensor, "B V H W"], moments: Float[Tensor, "I N 9"]
    ) -> None:
        """JᵀWJ v on splats: adds moments of their cotangents, from their tangents, to what was zeroed with these."""
        self.scene.run("rasterize_product", moved.data_ptr(), pixel_weights.data_ptr(), moments.data_ptr())

    def camera_sums(self, wanted: bool) -> Float[Tensor, "B V 3 4"] | None:
        """Room in which a kernel adds up what [R|t] gets, in double."""
        scene = self.scene
        return scene.zeros((scene.batch, scene.views, 3, 4), torch.float64) if wanted else None

    def camera_matrices(self, sums: Float[Tensor, "B V 3 4"] | None) -> Float[Tensor, "B V 4 4"] | None:
        """Those sums as cotangents of world_to_camera."""
        return None if sums is None else torch.nn.functional.pad(sums.to(self.scene.dtype), (0, 0, 0, 1))

    def _push(self, tangent: Gaussians, world_to_camera: Tensor | None, moved: Tensor, moments: Tensor | None) -> None:
        given = self.scene.tangent(tangent, world_to_camera)
        vector = Vector(*(value.data_ptr() for value in given))
        self.scene.run("splat_jvp", vector, moved.data_ptr(), None if moments is None else moments.data_ptr())

    def _vjp(self, cotangent: Tensor, with_cameras: bool) -> tuple[Gaussians, Tensor | None]:
        with self.scene.enough_memory():
            sums = self.camera_sums(with_cameras)
            return self._pull(*self.splat_cotangents(cotangent), sums), self.camera_matrices(sums)

    def _pull(self, splats: Float[Tensor, "I N 9"], arriving: int, sums: Tensor | None) -> Gaussians:
        scene = self.scene
        B, N = scene.batch, scene.gaussians
        gradient = Gaussians(
            scene.empty((B, N, 3)), scene.empty((B, N, 3, 3)), scene.empty((B, N)), scene.empty((B, N, 3, scene.bases))
        )
        vector = Vector(*(value.data_ptr() for value in gradient.tensors()))
        buffer = None if sums is None else sums.data_ptr()
        scene.run("splat_vjp", splats.data_ptr(), arriving, vector, buffer)
        return gradient

    def _to_image(self, image: Float[Tensor, "I H W 3"]) -> Float[Tensor, "B V 3 H W"]:
        scene = self.scene
        return image.unflatten(0, (scene.batch, scene.views)).movedim(-1, 2).contiguous()


def _with_index(device: torch.device) -> torch.device:
    return device if device.index is not None else torch.device(device.type, torch.cuda.current_device())


@functools.cache
def _failure(device: torch.device, bases: int | None) -> str | None:
    if bases is not None and _failure(device, None) is not None:
        return _failure(device, None)
    try:
        library_cuda.load(device)
        if bases is None:
            gsplat_rasterizer.load(device)
        else:
            self_tested(device, bases)
        return None
    except (BuildError, OSError, RuntimeError, AttributeError) as error:
        if isinstance(error, self_test.SelfTestError):
            library_cuda.load.remember_failure(error, device)  # vectors must not go through such kernels either
        warnings.warn(
            f"Tensors on {device} are not refined by the GPU's kernels but by those of the CPU, to which everything is "
            f"copied (backend 'native'), or where these do not compile by the slow 'torch' backend: {error}",
            RuntimeWarning,
            stacklevel=5,
        )
        return str(error)
