"""Rescale and center-crop whole examples, images and intrinsics together."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

MAPS = ("depth", "corrupted")
"""What has a value for every pixel besides the image."""


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
    """Scale so that the image just covers ``shape``, then cut out the middle."""
    h_in, w_in = images.shape[-2:]
    if (h_in, w_in) == tuple(shape):
        return images, intrinsics
    factor = max(shape[0] / h_in, shape[1] / w_in)
    scaled = (round(h_in * factor), round(w_in * factor))
    if factor != 1:
        images = F.interpolate(images, scaled, mode="bilinear", antialias=True).clamp(0, 1)
    return center_crop(images, intrinsics, shape)


def crop_map(values: Shaped[Tensor, "*batch h w"], shape: tuple[int, int]) -> Shaped[Tensor, "*batch h_out w_out"]:
    """The same for maps (depth, masks), whose values neither a crop nor a change of scale alters.

    They are picked and not averaged: a mean of depths across an edge lies on no surface.
    """
    h, w = values.shape[-2:]
    factor = max(shape[0] / h, shape[1] / w)
    rows, columns = (
        (((torch.arange(out) + 0.5 - out / 2) / factor) + size / 2).long().clamp(0, size - 1)
        for out, size in zip(shape, (h, w), strict=True)
    )
    return values[..., rows[:, None], columns]


def apply_crop_shim(example: dict, shape: tuple[int, int]) -> dict:
    def crop(views: dict) -> dict:
        image, intrinsics = rescale_and_crop(views["image"], views["intrinsics"], shape)
        maps = {name: crop_map(views[name], shape) for name in MAPS if name in views}
        return {**views, "image": image, "intrinsics": intrinsics, **maps}

    return {**example, "context": crop(example["context"]), "target": crop(example["target"])}
