"""Calls of the rasterizer, one per image."""

import torch
from diff_gaussian_rasterization import GaussianRasterizationSettings, GaussianRasterizer
from einops import einsum, rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from ...geometry.projection import get_fov, homogenize


def get_projection_matrix(
    near: Float[Tensor, " batch"],
    far: Float[Tensor, " batch"],
    fov_x: Float[Tensor, " batch"],
    fov_y: Float[Tensor, " batch"],
) -> Float[Tensor, "batch 4 4"]:
    """Perspective matrices with x and y in [-1, 1] and z in [0, 1] inside the symmetric frustum, looking along +z."""
    matrix = torch.zeros((len(near), 4, 4), dtype=near.dtype, device=near.device)
    matrix[:, 0, 0] = 1 / (0.5 * fov_x).tan()
    matrix[:, 1, 1] = 1 / (0.5 * fov_y).tan()
    matrix[:, 2, 2] = far / (far - near)
    matrix[:, 2, 3] = -far * near / (far - near)
    matrix[:, 3, 2] = 1
    return matrix


def render_cuda(
    extrinsics: Float[Tensor, "batch 4 4"],
    intrinsics: Float[Tensor, "batch 3 3"],
    near: Float[Tensor, " batch"],
    far: Float[Tensor, " batch"],
    image_shape: tuple[int, int],
    background_color: Float[Tensor, "batch 3"],
    gaussian_means: Float[Tensor, "batch gaussian 3"],
    gaussian_covariances: Float[Tensor, "batch gaussian 3 3"],
    gaussian_sh_coefficients: Float[Tensor, "batch gaussian 3 d_sh"],
    gaussian_opacities: Float[Tensor, "batch gaussian"],
    scale_invariant: bool = True,
    use_sh: bool = True,
) -> Float[Tensor, "batch 3 height width"]:
    """Render each scene of the batch by its own camera.

    With ``scale_invariant`` the scene is rescaled to near = 1, so that the rasterizer's fixed near limit of 0.2
    becomes 0.2 times ``near``. Without ``use_sh`` the first coefficients are taken as plain colors.
    """
    if not use_sh and gaussian_sh_coefficients.shape[-1] != 1:
        raise ValueError(f"Plain colors need one coefficient, got {gaussian_sh_coefficients.shape[-1]}.")
    if scale_invariant:
        scale = 1 / near
        extrinsics = extrinsics.clone()
        extrinsics[:, :3, 3] = extrinsics[:, :3, 3] * scale[:, None]
        gaussian_means = gaussian_means * scale[:, None, None]
        gaussian_covariances = gaussian_covariances * scale.square()[:, None, None, None]
        near, far = near * scale, far * scale

    h, w = image_shape
    shs = rearrange(gaussian_sh_coefficients, "b g c k -> b g k c").contiguous()
    degree = round(shs.shape[-2] ** 0.5) - 1
    tan_fov = (0.5 * get_fov(intrinsics)).tan()
    fov_x, fov_y = get_fov(intrinsics).unbind(-1)
    # The rasterizer multiplies row vectors, hence the transposed matrices.
    view = rearrange(extrinsics.inverse(), "b i j -> b j i").contiguous()
    projection = rearrange(get_projection_matrix(near, far, fov_x, fov_y), "b i j -> b j i")
    full_projection = view @ projection
    row, column = torch.triu_indices(3, 3)

    images = []
    for i in range(len(extrinsics)):
        settings = GaussianRasterizationSettings(
            image_height=h,
            image_width=w,
            tanfovx=tan_fov[i, 0].item(),
            tanfovy=tan_fov[i, 1].item(),
            bg=background_color[i],
            scale_modifier=1.0,
            viewmatrix=view[i],
            projmatrix=full_projection[i],
            sh_degree=degree,
            campos=extrinsics[i, :3, 3],
            prefiltered=False,
            debug=False,
        )
        screen_points = torch.zeros_like(gaussian_means[i], requires_grad=torch.is_grad_enabled())
        image, _ = GaussianRasterizer(settings)(
            means3D=gaussian_means[i],
            means2D=screen_points,
            opacities=gaussian_opacities[i, :, None],
            shs=shs[i] if use_sh else None,
            colors_precomp=None if use_sh else shs[i, :, 0],
            cov3D_precomp=gaussian_covariances[i, :, row, column],
        )
        images.append(image)
    return torch.stack(images)


def render_depth_cuda(
    extrinsics: Float[Tensor, "batch 4 4"],
    intrinsics: Float[Tensor, "batch 3 3"],
    near: Float[Tensor, " batch"],
    far: Float[Tensor, " batch"],
    image_shape: tuple[int, int],
    gaussian_means: Float[Tensor, "batch gaussian 3"],
    gaussian_covariances: Float[Tensor, "batch gaussian 3 3"],
    gaussian_opacities: Float[Tensor, "batch gaussian"],
    scale_invariant: bool = True,
) -> Float[Tensor, "batch height width"]:
    """Alpha-weighted z-depth: the camera-space z of each Gaussian, painted as its color."""
    in_camera = einsum(extrinsics.inverse(), homogenize(gaussian_means), "b i j, b g j -> b g i")
    z = repeat(in_camera[..., 2], "b g -> b g c ()", c=3)
    black = torch.zeros((len(extrinsics), 3), dtype=z.dtype, device=z.device)
    image = render_cuda(
        extrinsics,
        intrinsics,
        near,
        far,
        image_shape,
        black,
        gaussian_means,
        gaussian_covariances,
        z,
        gaussian_opacities,
        scale_invariant,
        use_sh=False,
    )
    return image.mean(1)
