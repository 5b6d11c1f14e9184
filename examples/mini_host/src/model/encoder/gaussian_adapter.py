"""From raw network outputs per pixel to Gaussians in the world frame."""

from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ...geometry.projection import unproject
from ..types import Gaussians
from .spherical_harmonics import rotate_harmonics

C0 = 0.28209479177387814  # the constant spherical harmonic


@dataclass
class GaussianAdapterCfg:
    sh_degree: int
    sh_decay: float
    gaussian_scale_min: float
    gaussian_scale_max: float


class GaussianAdapter(nn.Module):
    sh_mask: Float[Tensor, " d_sh"]

    def __init__(self, cfg: GaussianAdapterCfg) -> None:
        super().__init__()
        self.cfg = cfg
        degrees = torch.tensor([degree for degree in range(cfg.sh_degree + 1) for _ in range(2 * degree + 1)])
        self.register_buffer("sh_mask", cfg.sh_decay ** degrees.float(), persistent=False)

    @property
    def d_sh(self) -> int:
        return (self.cfg.sh_degree + 1) ** 2

    @property
    def d_in(self) -> int:
        """Raw numbers per pixel: opacity, offset, scales, rotation, harmonics."""
        return 1 + 2 + 3 + 4 + 3 * self.d_sh

    def forward(
        self,
        raw: Float[Tensor, "batch view ray d_in"],
        xy: Float[Tensor, "ray 2"],
        depth: Float[Tensor, "batch view ray"],
        color: Float[Tensor, "batch view ray 3"],
        extrinsics: Float[Tensor, "batch view 4 4"],
        intrinsics: Float[Tensor, "batch view 3 3"],
        image_shape: tuple[int, int],
    ) -> Gaussians:
        """One Gaussian per pixel: on the pixel's ray at ``depth`` (z), sized in pixels, colored like the pixel."""
        opacity, offset, scales, quaternions, harmonics = raw.split((1, 2, 3, 4, 3 * self.d_sh), -1)
        h, w = image_shape
        pixel = torch.tensor([1 / w, 1 / h], dtype=raw.dtype, device=raw.device)
        rays = unproject(xy + (offset.sigmoid() - 0.5) * pixel, intrinsics[:, :, None])
        in_camera = rays * depth[..., None]
        rotation, origin = extrinsics[..., :3, :3], extrinsics[..., :3, 3]
        means = einsum(rotation, in_camera, "b v i j, b v r j -> b v r i") + origin[:, :, None]

        low, high = self.cfg.gaussian_scale_min, self.cfg.gaussian_scale_max
        pixel_width = pixel.mean() / intrinsics[..., 0, 0]  # at depth 1
        scales = low + (high - low) * (scales - 1.5).sigmoid()  # about 0.85 pixels to begin with
        scales = scales * (depth * pixel_width[..., None])[..., None]
        factor = quaternion_to_matrix(quaternions) * scales[..., None, :]
        factor = einsum(rotation, factor, "b v i j, b v r j k -> b v r i k")
        covariances = factor @ factor.transpose(-1, -2)

        harmonics = rearrange(harmonics, "b v r (c k) -> b v r c k", c=3) * self.sh_mask
        harmonics = rotate_harmonics(harmonics, rotation[:, :, None])
        base = torch.zeros_like(harmonics)
        base[..., 0] = (color - 0.5) / C0
        return Gaussians(
            rearrange(means, "b v r i -> b (v r) i"),
            rearrange(covariances, "b v r i j -> b (v r) i j"),
            rearrange(harmonics + base, "b v r c k -> b (v r) c k"),
            rearrange((opacity[..., 0] + 1.5).sigmoid(), "b v r -> b (v r)"),
        )


def quaternion_to_matrix(raw: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotations from xyzw quaternions; the raw numbers are offsets from the identity and need no unit length."""
    identity = torch.tensor([0.0, 0, 0, 1], dtype=raw.dtype, device=raw.device)
    q = raw + identity
    i, j, k, r = (q / q.norm(dim=-1, keepdim=True).clamp_min(1e-6)).unbind(-1)
    entries = (
        (1 - 2 * (j * j + k * k), 2 * (i * j - k * r), 2 * (i * k + j * r)),
        (2 * (i * j + k * r), 1 - 2 * (i * i + k * k), 2 * (j * k - i * r)),
        (2 * (i * k - j * r), 2 * (j * k + i * r), 1 - 2 * (i * i + j * j)),
    )
    return torch.stack([torch.stack(row, -1) for row in entries], -2)
