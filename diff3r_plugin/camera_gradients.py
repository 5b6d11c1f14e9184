"""How the refined scene depends on the cameras it was refined with: for networks that predict their cameras.

A change of the cameras changes the rendered images r, and to the solution θ* that is the same as the opposite change of
the images I that it is fitted to: the energy knows only r - I. (Exactly so for the Gauss-Newton form of the implicit
gradient, which drops second derivatives of r.) So the dependence is written into the images: minus a rendering of the
solution that carries the graph of the cameras, and whose value is taken off again.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.render import render
from diff3r_plugin.render.spherical_harmonics import SH_C0, spherical_harmonics_basis
from diff3r_plugin.views import Views


def depends_on_cameras(views: Views) -> bool:
    """Whether gradients are wanted for the poses or the intrinsics."""
    return torch.is_grad_enabled() and (views.world_to_camera.requires_grad or views.intrinsics.requires_grad)


def images_with_camera_graph(
    images: Float[Tensor, "B V 3 H W"],
    solution: Gaussians,
    refined: Float[Tensor, "B V 4 4"],
    given: Views,
    backend: str,
    slope: Callable[[Tensor], Tensor | None] = lambda rendering: None,
) -> Float[Tensor, "B V 3 H W"]:
    """The images, unchanged in value, with the graph by which cameras reach the solution.

    Args:
        images: What the scene is fitted to.
        solution: The refined scene, without a graph.
        refined: ``world_to_camera`` at the solution, without a graph (as given where poses do not move).
        given: The cameras that the refinement started from, with their graph.
        backend: Render backend.
        slope: Of a rendering: d image / d rendering, number by number; None where images are the renderings.
    """
    cameras = carried_along(refined, given.world_to_camera)
    if given.intrinsics.requires_grad:
        rendered = _render_with_intrinsics(solution, cameras, given, backend)
    else:
        rendered = render(solution, given.replace(images=None, world_to_camera=cameras), backend)
    own = slope(rendered.detach())
    if own is not None:
        rendered = own * rendered
    return images - (rendered - rendered.detach())


def carried_along(refined: Float[Tensor, "B V 4 4"], given: Float[Tensor, "B V 4 4"]) -> Float[Tensor, "B V 4 4"]:
    """The refined cameras as a function of the given ones: Exp(θ) · given, whatever graph θ has of its own."""
    return refined @ torch.linalg.inv(given.detach()) @ given if given.requires_grad else refined


def _render_with_intrinsics(
    scene: Gaussians, cameras: Float[Tensor, "B V 4 4"], views: Views, backend: str
) -> Float[Tensor, "B V 3 H W"]:
    """A rendering that is differentiable by the intrinsics K, too, though renderers have derivatives by poses only.

    K = K₀ A with A = I in value, and a pinhole K₀ A at a pose P renders what K₀ renders at A P. Colors would follow a
    camera center that A moves; they are taken at the pose itself, one scene for each view.
    """
    fixed = views.intrinsics.detach()
    change = torch.linalg.inv(fixed) @ views.intrinsics
    moved = torch.cat([change @ cameras[..., :3, :], cameras[..., 3:, :]], -2)
    directions = scene.means[:, None] - _centers(cameras)[:, :, None]
    directions = torch.nn.functional.normalize(directions, dim=-1)
    degree = int(scene.harmonics.shape[-1] ** 0.5) - 1
    basis = spherical_harmonics_basis(directions, degree)
    colors = torch.einsum("bvnk,bnck->bvnc", basis, scene.harmonics) / SH_C0
    V = views.num_views
    single = scene.with_covariances().map(lambda t: repeat(t, "b ... -> (b v) ...", v=V))
    single = Gaussians(single.means, single.covariances, single.opacities, rearrange(colors, "b v n c -> (b v) n c 1"))
    each = Views(
        rearrange(moved, "b v i j -> (b v) 1 i j"),
        rearrange(fixed, "b v i j -> (b v) 1 i j"),
        near=rearrange(views.near, "b v -> (b v) 1"),
        far=rearrange(views.far, "b v -> (b v) 1"),
        image_size=views.image_size,
        background=views.background,
        antialiased=views.antialiased,
        dilation=views.dilation,
    )
    return rearrange(render(single, each, backend), "(b v) 1 c h w -> b v c h w", v=V)


def _centers(world_to_camera: Float[Tensor, "B V 4 4"]) -> Float[Tensor, "B V 3"]:
    return -(world_to_camera[..., :3, :3].mT @ world_to_camera[..., :3, 3:])[..., 0]
