"""Rescale and center-crop whole examples, images and intrinsics together."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def center_crop(
    images: Float[Tensor, "*batch c h w"], intrinsics: Float[Tensor, "*batch 3 3"], shape: tuple[int, int]
) -> tuple[Float[Tensor, "*batch c h_out w_out"], Float[Tensor, "*batch 3 3"]]:
    """Cut out the middle; the field of view shrinks, so the normalized focal lengths grow."""
    h_in, w_in = images.shape[-2:]
    h_out, w_out = shape
    row, column = (h_in - h_out) // 2, (w_in - w_out) // 2
    intrinsics = intrinsics.clone()
    intrinsics[..., 0, 0] *= w_in / w_out
    intrinsics[..., 1, 1] *= h_in / h_out
    intrinsics[..., 0, 2] = (intrinsics[..., 0, 2] * w_in - column) / w_out
    intrinsics[..., 1, 2] = (intrinsics[..., 1, 2] * h_in - row) / h_out
    return images[..., row : row + h_out, column : column + w_out], intrinsics


def rescale_and_crop(
    images: Float[Tensor, "v c h w"], intrinsics: Float[Tensor, "v 3 3"], shape: tuple[int, int]
) -> tuple[Float[Tensor, "v c h_out w_out"], Float[Tensor, "v 3 3"]]:
    """Scale so that the picture just covers ``shape``, then cut out the middle."""
    h_in, w_in = images.shape[-2:]
    if (h_in, w_in) == tuple(shape):
        return images, intrinsics
    factor = max(shape[0] / h_in, shape[1] / w_in)
    scaled = (round(h_in * factor), round(w_in * factor))
    if factor != 1:
        images = F.interpolate(images, scaled, mode="bilinear", antialias=True).clamp(0, 1)
    return center_crop(images, intrinsics, shape)


def apply_crop_shim(example: dict, shape: tuple[int, int]) -> dict:
    def crop(views: dict) -> dict:
        image, intrinsics = rescale_and_crop(views["image"], views["intrinsics"], shape)
        return {**views, "image": image, "intrinsics": intrinsics}

    return {**example, "context": crop(example["context"]), "target": crop(example["target"])}
