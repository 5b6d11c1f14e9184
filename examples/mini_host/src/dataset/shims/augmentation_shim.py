"""Horizontal flips of whole examples, images and cameras together."""

import torch
from torch import Tensor


def reflect_extrinsics(extrinsics: Tensor) -> Tensor:
    """Camera-to-world matrices of a world mirrored in x, seen by cameras mirrored in x."""
    mirror = torch.diag(torch.tensor([-1.0, 1, 1, 1], dtype=extrinsics.dtype, device=extrinsics.device))
    return mirror @ extrinsics @ mirror


def reflect_views(views: dict) -> dict:
    intrinsics = views["intrinsics"].clone()
    intrinsics[..., 0, 2] = 1 - intrinsics[..., 0, 2]
    return {
        **views,
        **{name: views[name].flip(-1) for name in ("image", "depth", "corrupted") if name in views},
        "extrinsics": reflect_extrinsics(views["extrinsics"]),
        "intrinsics": intrinsics,
    }


def apply_augmentation_shim(example: dict, generator: torch.Generator) -> dict:
    """Mirror the example with probability one half."""
    if torch.rand((), generator=generator) < 0.5:
        return example
    return {**example, "context": reflect_views(example["context"]), "target": reflect_views(example["target"])}
