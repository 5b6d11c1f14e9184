"""Crop batches to a size that the encoder can divide."""

from ..types import BatchedExample, BatchedViews
from .crop_shim import MAPS, center_crop


def apply_patch_shim(batch: BatchedExample, patch_size: int) -> BatchedExample:
    def crop(views: BatchedViews) -> BatchedViews:
        h, w = views["image"].shape[-2:]
        shape = (h // patch_size * patch_size, w // patch_size * patch_size)
        if min(shape) == 0:
            raise ValueError(f"Images of {h}x{w} are smaller than the encoder's patches of {patch_size} pixels.")
        image, intrinsics = center_crop(views["image"], views["intrinsics"], shape)
        row, column = (h - shape[0]) // 2, (w - shape[1]) // 2
        rows, columns = slice(row, row + shape[0]), slice(column, column + shape[1])
        maps = {name: views[name][..., rows, columns] for name in MAPS if name in views}
        return {**views, "image": image, "intrinsics": intrinsics, **maps}

    return {**batch, "context": crop(batch["context"]), "target": crop(batch["target"])}
